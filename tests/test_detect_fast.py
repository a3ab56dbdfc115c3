"""The fast copy of a point detector gives the map of the network itself."""

from __future__ import annotations

import pytest
import torch

from medkd.detect.fast import fast_copy
from medkd.models.detector import DetectorSettings, PointDetector
from medkd.models.network import seeded


def trained_detector() -> PointDetector:
    """A detector whose batch norms have statistics of their own."""
    with seeded(5):
        network = PointDetector(DetectorSettings())
        with torch.no_grad():
            for _ in range(3):
                network(torch.rand(1, 1, 32, 32, 32))
    return network.eval()


@pytest.mark.parametrize(("precision", "close"), [("float32", 1e-4), ("bfloat16", 0.1)])
def test_a_fast_copy_gives_the_same_map_and_leaves_the_network_as_it_is(
    precision: str, close: float
) -> None:
    network = trained_detector()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    copy = fast_copy(network, precision)  # type: ignore[arg-type]
    dtype = next(copy.parameters()).dtype
    image = torch.rand(1, 1, 40, 32, 24, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected, found = network(image), copy(image.to(dtype))
    assert dtype == getattr(torch, precision)
    assert found.dtype == torch.float32  # logits, offsets and diameters are not rounded
    torch.testing.assert_close(found, expected, rtol=0, atol=close)
    assert all(torch.equal(network.state_dict()[name], before[name]) for name in before)


def test_batch_norms_are_folded_into_the_convolutions() -> None:
    copy = fast_copy(trained_detector(), "float32")
    assert not any(isinstance(module, torch.nn.BatchNorm3d) for module in copy.modules())
