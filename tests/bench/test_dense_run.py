"""How far a dense run over a volume is from the patches' own logits, by padding and pooling.

A compact 3-D network learns balls against tubes in noisy 32-voxel patches for 120 steps; then a
96-voxel volume with three balls is scored densely and patch by patch (a minute a case).
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own name for it
from torch import Tensor

from medkd.models.classifiers import Compact3dSettings
from medkd.models.network import Network
from medkd.models.table import build_model

SIZE = 32
BALLS = ((30, 40, 50), (60, 30, 62), (48, 66, 36))


def noise(size: int, generator: torch.Generator, *, count: int = 1) -> Tensor:
    return 0.25 + 0.05 * torch.randn(count, 1, size, size, size, generator=generator)


def squared_distance(size: int, place: Tensor, *, axes: tuple[int, ...] = (0, 1, 2)) -> Tensor:
    grid = torch.stack(torch.meshgrid(*[torch.arange(float(size))] * 3, indexing="ij"))
    return sum((grid[axis] - place[axis]) ** 2 for axis in axes)


def patches(generator: torch.Generator, count: int = 12) -> tuple[Tensor, Tensor]:
    image = noise(SIZE, generator, count=count)
    label = (torch.rand(count, generator=generator) < 0.5).float()
    for n in range(count):
        draw = torch.rand(5, generator=generator)
        axes = ((0, 1), (0, 2), (1, 2))[int(draw[0] * 3)]
        image[n, 0][squared_distance(SIZE, SIZE * draw[1:4], axes=axes) < 6] += 0.35
        if label[n]:
            near = squared_distance(SIZE, 15.5 + 4 * (draw[1:4] - 0.5))
            image[n, 0][near < (2 + 4 * draw[4]) ** 2] += 0.35
    return image, label


def trained(settings: Compact3dSettings) -> Network:
    network, generator = build_model(settings, seed=0), torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3)
    for _ in range(120):
        image, label = patches(generator)
        optimiser.zero_grad()
        F.binary_cross_entropy_with_logits(network(image)[:, 0], label).backward()
        optimiser.step()
    return network.eval()


def gap(network: Network) -> tuple[float, float]:
    """Mean of dense minus patch logits, and their correlation, over every second cell."""
    volume = noise(96, torch.Generator().manual_seed(5))
    for ball in BALLS:
        volume[0, 0][squared_distance(96, torch.tensor(ball)) < 16] += 0.35
    with torch.no_grad():
        dense = network.forward_dense(volume, patch_shape=(SIZE,) * 3)[0, 0, ::2, ::2, ::2]
        cut = volume.unfold(2, SIZE, 8).unfold(3, SIZE, 8).unfold(4, SIZE, 8)
        alone = torch.cat([network(part) for part in cut.reshape(-1, 1, *(SIZE,) * 3).split(64)])
    both = torch.stack([dense.flatten(), alone.flatten()])
    return (both[0] - both[1]).mean().item(), torch.corrcoef(both)[0, 1].item()


@pytest.mark.bench
def test_replicated_edges_and_centred_pooling_keep_the_dense_run_near_the_patches() -> None:
    ours = gap(trained(Compact3dSettings()))
    plain = gap(trained(Compact3dSettings(padding="zeros", pooling="mean")))

    print(f"dense - patch, correlation: ours {ours}, zeros and mean {plain}")  # noqa: T201
    assert abs(ours[0]) < abs(plain[0]) / 2
    assert ours[1] > max(0.9, plain[1])
