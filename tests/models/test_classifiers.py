"""Compact, shallow and linear classifiers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from medkd.models.classifiers import (
    Compact2dSettings,
    Compact3dSettings,
    Linear2dSettings,
    PooledConvNet,
    Shallow2dSettings,
    WeightedMean,
    build_compact,
)
from medkd.models.network import parameter_count
from medkd.models.table import build_model, check_model_input, check_student_size


def test_default_students_have_the_parameters_that_the_prototype_had() -> None:
    assert parameter_count(build_model(Compact2dSettings(), seed=0)) == 322_353
    assert parameter_count(build_model(Compact3dSettings(), seed=0)) == 359_089


def test_a_wide_network_is_no_student_and_the_reason_says_why() -> None:
    wide = Compact2dSettings(stem_channels=32, channels=(64, 64, 128, 256))

    (reason,) = check_student_size(wide)

    assert "1,285,729" in reason
    assert "500,000" in reason
    assert check_student_size(Compact2dSettings()) == ()


def test_channels_and_strides_of_different_length_are_refused() -> None:
    with pytest.raises(ValidationError, match="one number per block each, got 2 and 4"):
        Compact2dSettings(channels=(8, 8))


def test_a_model_that_cannot_take_the_views_says_all_reasons() -> None:
    reasons = check_model_input(
        Linear2dSettings(), view_shape=(3, 64, 64), hu_window=None, label_count=14
    )

    assert len(reasons) == 3
    assert "(28, 28)" in reasons[0]
    assert "in_channels is 1, the data has 3" in reasons[1]
    assert "label_count is 1, the data has 14" in reasons[2]


def test_a_model_that_can_take_the_views_gives_no_reason() -> None:
    assert (
        check_model_input(Shallow2dSettings(), view_shape=(1, 9, 9), hu_window=None, label_count=1)
        == ()
    )


def test_a_view_of_the_wrong_form_is_refused_with_its_shape() -> None:
    with pytest.raises(ValueError, match=r"\[B, 1, I, J\], got \(2, 1, 8, 8, 8\)"):
        build_compact(Compact2dSettings())(torch.rand(2, 1, 8, 8, 8))


def test_a_2d_network_equals_the_3d_one_at_depth_1() -> None:
    # A 3-wide kernel that meets depth 1 with zero padding uses its middle slice alone.
    shared = {"stem_stride": 1, "channels": (6, 8), "strides": (2, 2)}
    shared |= {"padding": "zeros", "pooling": "mean"}
    flat = build_compact(Compact2dSettings(**shared)).eval()
    deep = build_compact(Compact3dSettings(**shared)).eval()
    state = {}
    for key, value in deep.state_dict().items():
        own = flat.state_dict()[key]
        if value.ndim == 5:
            state[key] = torch.randn_like(value)
            state[key][..., value.shape[-1] // 2] = own
        else:
            state[key] = own
    deep.load_state_dict(state)
    view = torch.rand(2, 1, 12, 10)

    torch.testing.assert_close(deep(view[..., None]), flat(view))


def dense_case(patch: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Dense logits and those of every patch by itself, stride 4."""
    torch.manual_seed(0)
    network = build_compact(Compact3dSettings(channels=(6, 8), strides=(2, 1))).eval()
    view = torch.rand(1, 1, size, patch, patch)
    with torch.no_grad():
        dense = network.forward_dense(view, patch_shape=(patch,) * 3)
        starts = range(0, size - patch + 1, 4)
        alone = torch.cat([network(view[:, :, s : s + patch]) for s in starts])
    return dense.flatten(), alone.flatten()


def test_the_dense_run_of_one_patch_is_the_patch_logit() -> None:
    dense, alone = dense_case(patch=16, size=16)

    torch.testing.assert_close(dense, alone)


def test_the_dense_run_has_a_cell_for_each_patch_a_stride_apart() -> None:
    dense, alone = dense_case(patch=16, size=32)

    assert dense.shape == alone.shape == (5,)
    assert torch.corrcoef(torch.stack([dense, alone]))[0, 1] > 0.5


def unpadded(pooling: str) -> PooledConvNet:
    """Means of 4 x 4 x 4 voxels as the only feature: no padding plays a role anywhere."""
    settings = Compact3dSettings(pooling=pooling)
    network = PooledConvNet(nn.Sequential(nn.AvgPool3d(4)), 1, settings=settings, stride=4)
    network.head.load_state_dict({"weight": torch.tensor([[10.0]]), "bias": torch.tensor([-3.0])})
    return network.eval()


@pytest.mark.parametrize("pooling", ["mean", "centre"])
def test_without_padding_the_dense_run_equals_every_patch_logit(pooling: str) -> None:
    network, view = unpadded(pooling), torch.rand(1, 1, 24, 28, 36)

    dense = network.forward_dense(view, patch_shape=(16, 16, 20))

    assert dense.shape == (1, 1, 3, 4, 5)
    for i, j, k in np.ndindex(3, 4, 5):
        patch = view[:, :, 4 * i : 4 * i + 16, 4 * j : 4 * j + 16, 4 * k : 4 * k + 20]
        torch.testing.assert_close(dense[:, :, i, j, k], network(patch))


def test_centre_pooling_makes_the_dense_map_peak_at_the_nodule() -> None:
    view = torch.zeros(1, 1, 48, 48, 48)
    view[0, 0, 20:24, 28:32, 16:20] = 1.0

    dense = unpadded("centre").forward_dense(view, patch_shape=(16, 16, 16))[0, 0]

    peak = torch.tensor(np.unravel_index(int(dense.argmax()), dense.shape))
    centre_vox = peak * 4 + 7.5  # the cell's first voxel and (16 - 1) / 2
    assert (centre_vox - torch.tensor([21.5, 29.5, 17.5])).abs().max() <= 2
    assert (dense == dense.max()).sum() == 1


def test_centre_weights_are_a_bell_about_the_patchs_middle_voxel() -> None:
    # 16 voxels, cells at 0, 4, 8, 12, middle 7.5, deviation .2 * 16 = 3.2:
    # exp(-(7.5, 3.5, .5, 4.5)^2 / 20.48) = .0641, .5498, .9879, .3720; sum 1.9738
    pool = WeightedMean(4, pooling="centre", centre_share=0.2)

    weights = pool.weights(16, torch.zeros(1))

    assert weights.tolist() == pytest.approx([0.0325, 0.2785, 0.5005, 0.1885], abs=2e-4)


@pytest.mark.parametrize("pooling", ["mean", "centre"])
def test_weights_add_up_to_1_for_sizes_that_the_stride_does_not_divide(pooling: str) -> None:
    pool = WeightedMean(4, pooling=pooling, centre_share=0.2)

    assert [len(pool.weights(size, torch.zeros(1))) for size in (28, 29, 30, 33)] == [7, 8, 8, 9]
    assert pool.weights(29, torch.zeros(1)).sum().item() == pytest.approx(1.0)


def test_beyond_the_edge_stands_the_outermost_voxel_where_asked() -> None:
    # A constant view gives constant features only if the edge goes on beyond itself.
    same = build_compact(Compact3dSettings(padding="replicate")).eval()
    cut = build_compact(Compact3dSettings(padding="zeros")).eval()
    view = torch.full((1, 1, 16, 16, 16), 0.6)

    with torch.no_grad():
        assert same.features(view).flatten(2).std(dim=2).max() < 1e-5
        assert cut.features(view).flatten(2).std(dim=2).max() > 1e-2


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_features_inside_a_patch_equal_those_of_the_large_view(axis: int) -> None:
    # Receptive field: stem 3, block 1 adds 2 * 2 and 2 * 4, block 2 adds 2 * 4 twice: 31 voxels.
    # The middle cell of a 64-voxel patch, at voxel 32, sees 17 to 47: nothing of the edges.
    network = build_compact(Compact3dSettings(channels=(4, 4), strides=(2, 1))).eval()
    shape = [8, 8, 8]
    shape[axis] = 96
    view = torch.rand(1, 1, *shape)
    patch = view.narrow(axis + 2, 16, 64)
    with torch.no_grad():
        large, small = network.features(view), network.features(patch)

    middle = small.narrow(axis + 2, 8, 1)

    torch.testing.assert_close(large.narrow(axis + 2, 16 // 4 + 8, 1), middle)


def test_a_dense_run_smaller_than_the_patch_is_refused() -> None:
    network = build_compact(Compact3dSettings()).eval()

    with pytest.raises(ValueError, match="at least as large as the patch"):
        network.forward_dense(torch.rand(1, 1, 16, 16, 8), patch_shape=(16, 16, 16))


def test_a_linear_classifier_has_no_dense_run() -> None:
    with pytest.raises(NotImplementedError, match="no dense run"):
        build_model(Linear2dSettings(), seed=0).forward_dense(
            torch.rand(1, 1, 28, 28), patch_shape=(28, 28)
        )
