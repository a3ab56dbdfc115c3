"""The point detector: size, alignment of its map, refusals."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from medkd.models.detector import (
    ALIGNMENT,
    STRIDE,
    CentreScore,
    DetectorSettings,
    PointDetector,
    space_to_depth,
)
from medkd.models.network import parameter_count
from medkd.models.table import STUDENT_PARAMETERS, build_model, check_model_input

TINY = DetectorSettings(channels=(4, 6, 8), blocks=(1, 1))


@pytest.mark.parametrize(
    ("channels", "least", "most"),
    [((24, 36, 56), 400_000, STUDENT_PARAMETERS), ((48, 88, 144), 2_500_000, 3_300_000)],
)
def test_one_code_gives_a_student_and_a_teacher(channels, least: int, most: int) -> None:
    network = build_model(DetectorSettings(channels=channels), seed=0)
    assert least <= parameter_count(network) <= most


def test_a_shift_by_whole_cells_shifts_the_map() -> None:
    network = build_model(TINY, seed=1).eval()
    view = torch.rand(1, 1, 96, 16, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        whole, later = network(view), network(view[:, :, ALIGNMENT:])
    inner = slice(20, -20)  # away from the border of either view
    torch.testing.assert_close(
        whole[:, :, ALIGNMENT // STRIDE :][:, :, inner], later[:, :, inner], rtol=1e-4, atol=1e-5
    )


def test_blocks_of_voxels_become_channels_of_their_cell() -> None:
    view = torch.arange(4 * 2 * 2).float().view(1, 1, 4, 2, 2)
    assert space_to_depth(view)[0, :, 1, 0, 0].tolist() == [8, 9, 10, 11, 12, 13, 14, 15]


def test_a_view_that_does_not_divide_into_cells_is_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 8, got"):
        PointDetector(TINY)(torch.zeros(1, 1, 16, 20, 16))


def test_a_crop_that_does_not_divide_into_cells_is_refused_before_training() -> None:
    (reason,) = check_model_input(
        TINY, view_shape=(1, 24, 20, 24), hu_window=(-1000.0, 400.0), label_count=1
    )
    assert "multiples of 8 voxels" in reason


def test_a_candidate_is_scored_by_the_highest_logit_near_its_centre() -> None:
    found = torch.full((1, 5, 12, 12, 12), -9.0)
    found[0, 0, 6, 5, 7] = 1.5  # voxels 12.5, 10.5, 14.5: 3.3 from the centre at 11.5
    found[0, 0, 9, 5, 5] = 4.0  # 7 voxels from the centre

    class Given(nn.Module):
        def forward(self, _view: Tensor) -> Tensor:
            return found

    assert CentreScore(Given())(torch.zeros(1, 1, 24, 24, 24)).tolist() == [[1.5]]
