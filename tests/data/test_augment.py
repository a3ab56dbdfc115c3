"""Views: drawn apart from applying, whole batch at once, equal to MONAI."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from medkd.data.augment import AugmentationSettings, check_augmentation, draw_parameters
from medkd.data.views import ViewParameters, apply_view

EVERYTHING = AugmentationSettings(
    flip=(0.5, 0.5),
    rotate_degrees=20.0,
    shift_vox=2.0,
    scale_fraction=0.2,
    gamma=1.5,
    intensity_scale=0.2,
    intensity_shift=0.1,
    noise_sd=0.05,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(*shape, generator=generator(seed))


def drawn(batch: int, dims: int, how: AugmentationSettings = EVERYTHING) -> ViewParameters:
    names = [f"s{n}" for n in range(batch)]
    return draw_parameters(how, names, range(batch), spatial_dims=dims, seed=7)


def changed(batch: int, dims: int, **values: torch.Tensor) -> ViewParameters:
    """Parameters of the views that are their samples, but for `values`."""
    zeros, ones = torch.zeros(batch), torch.ones(batch)
    same = {
        "flip": torch.zeros(batch, dims, dtype=torch.bool),
        "angle_radians": torch.zeros(batch, 1 if dims == 2 else 3),
        "shift_vox": torch.zeros(batch, dims),
        "noise_start": torch.zeros(batch, dtype=torch.int64),
        **dict.fromkeys(("scale", "gamma", "gain"), ones),
        **dict.fromkeys(("offset", "noise_sd"), zeros),
    }
    return ViewParameters(**{**same, **values})


@pytest.mark.parametrize("shape", [(3, 2, 9, 7), (3, 1, 9, 7, 5)])
def test_the_view_without_parameters_is_the_sample_bit_for_bit(shape: tuple[int, ...]) -> None:
    image = picture(*shape)
    assert torch.equal(apply_view(image, changed(3, len(shape) - 2)), image)


def test_settings_that_are_all_off_draw_the_identity() -> None:
    image = picture(4, 1, 8, 8)
    assert torch.equal(apply_view(image, drawn(4, 2, AugmentationSettings())), image)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_flip_is_exact_and_its_own_inverse(axis: int) -> None:
    image = picture(2, 1, 6, 7, 5)
    flip = torch.zeros(2, 3, dtype=torch.bool)
    flip[1, axis] = True
    once = apply_view(image, changed(2, 3, flip=flip))
    assert torch.equal(once[0], image[0])
    assert torch.equal(once[1], image[1].flip(axis + 1))
    assert torch.equal(apply_view(once, changed(2, 3, flip=flip)), image)


@settings(max_examples=20, deadline=None)
@given(shift=st.lists(st.integers(-2, 2), min_size=2, max_size=2))
def test_a_shift_of_whole_pixels_then_its_inverse_is_the_identity_inside(shift: list[int]) -> None:
    image = picture(1, 1, 9, 9)
    there = torch.tensor([shift], dtype=torch.float32)
    view = apply_view(image, changed(1, 2, shift_vox=there))
    back = apply_view(view, changed(1, 2, shift_vox=-there))
    inside = (..., slice(2, -2), slice(2, -2))
    torch.testing.assert_close(back[inside], image[inside])


def test_a_shift_reads_from_further_along_its_axis() -> None:
    image = torch.arange(5.0).view(1, 1, 5, 1).expand(1, 1, 5, 4) / 10
    view = apply_view(image, changed(1, 2, shift_vox=torch.tensor([[1.0, 0.0]])))
    torch.testing.assert_close(view[0, 0, :, 0], torch.tensor([0.1, 0.2, 0.3, 0.4, 0.4]))


def test_a_quarter_turn_is_torch_rot90() -> None:
    image = picture(1, 1, 6, 6)
    view = apply_view(image, changed(1, 2, angle_radians=torch.tensor([[math.pi / 2]])))
    # The view at (row, column) is read at (-column, row) from the centre.
    torch.testing.assert_close(view, torch.rot90(image, -1, (2, 3)), atol=1e-5, rtol=0)


def test_a_sample_that_stays_is_untouched_beside_one_that_moves() -> None:
    image = picture(2, 1, 8, 8)
    view = apply_view(image, changed(2, 2, scale=torch.tensor([1.0, 1.1])))
    assert torch.equal(view[0], image[0])
    assert not torch.equal(view[1], image[1])


def test_a_2d_view_equals_the_3d_view_of_depth_one() -> None:
    image = picture(5, 2, 11, 9)
    flat = apply_view(image, drawn(5, 2))
    solid_settings = EVERYTHING.model_copy(update={"rotate_degrees": (0.0, 0.0, 20.0)})
    solid = apply_view(image[..., None], drawn(5, 3, solid_settings))
    torch.testing.assert_close(flat, solid[..., 0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(4, 1, 8, 8), (4, 1, 6, 6, 6)])
def test_the_input_is_left_as_it_is(shape: tuple[int, ...]) -> None:
    image = picture(*shape)
    before = image.clone()
    view = apply_view(image, drawn(4, len(shape) - 2))
    assert torch.equal(image, before)
    assert view.data_ptr() != image.data_ptr()


def test_applying_uses_no_randomness() -> None:
    views, state = drawn(4, 2), torch.get_rng_state()
    apply_view(picture(4, 1, 8, 8), views)
    assert torch.equal(torch.get_rng_state(), state)


def test_switching_the_noise_off_leaves_the_other_draws() -> None:
    quiet = drawn(4, 2, EVERYTHING.model_copy(update={"noise_sd": 0.0}))
    assert torch.equal(quiet.angle_radians, drawn(4, 2).angle_radians)
    assert torch.equal(quiet.gain, drawn(4, 2).gain)


def test_draws_stay_within_their_settings_and_reach_most_of_them() -> None:
    many = drawn(4000, 3)
    limits = {
        "angle_radians": (-math.radians(20), math.radians(20)),
        "shift_vox": (-2.0, 2.0),
        "scale": (0.8, 1.2),
        "gamma": (1 / 1.5, 1.5),
        "gain": (0.8, 1.2),
        "offset": (-0.1, 0.1),
        "noise_sd": (0.0, 0.05),
    }
    for name, (low, high) in limits.items():
        values, slack = getattr(many, name), 0.01 * (high - low)
        assert low - 1e-6 <= float(values.min()) < low + slack, name
        assert high - slack < float(values.max()) <= high + 1e-6, name
    assert many.flip.float().mean(0).tolist() == pytest.approx([0.5, 0.5, 0.0], abs=0.04)


def test_the_noise_has_the_drawn_deviation_and_differs_between_samples() -> None:
    image = torch.full((2, 1, 40, 40, 40), 0.5)
    start = torch.tensor([5, 900_000])
    noise = torch.tensor([0.02, 0.05])
    view = apply_view(image, changed(2, 3, noise_sd=noise, noise_start=start)) - 0.5
    torch.testing.assert_close(view.flatten(1).std(1), noise, rtol=0.02, atol=0)
    both = torch.corrcoef(view.flatten(1))
    assert abs(float(both[0, 1])) < 0.02


def test_a_view_stays_between_0_and_1() -> None:
    view = apply_view(picture(64, 1, 8, 8), drawn(64, 2))
    assert float(view.min()) >= 0
    assert float(view.max()) <= 1


def test_parameters_of_another_batch_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected an image \[3"):
        apply_view(picture(4, 1, 8, 8), drawn(3, 2))
    with pytest.raises(ValueError, match="2 axes"):
        apply_view(picture(3, 1, 8, 8, 8), drawn(3, 2))


def test_settings_that_do_not_fit_the_axes_are_named() -> None:
    wrong = AugmentationSettings(flip=(0.0, 0.0, 0.5), rotate_degrees=(5.0, 0.0, 10.0))
    assert len(check_augmentation(wrong, 2)) == 2
    assert check_augmentation(wrong, 3) == []
    with pytest.raises(ValueError, match="2 axes"):
        drawn(2, 2, wrong)


@pytest.mark.parametrize("wrong", [{"flip": (1.5,)}, {"rotate_degrees": -1.0}, {"gamma": 0.5}])
def test_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        AugmentationSettings.model_validate(wrong)


@pytest.mark.parametrize("padding", ["border", "zeros", "reflection"])
@pytest.mark.parametrize("dims", [2, 3])
def test_geometry_equals_monai_given_the_same_parameters(dims: int, padding: str) -> None:
    from monai.transforms import Affine, Flip

    how = EVERYTHING.model_copy(
        update={"padding": padding, "gamma": 1.0, "noise_sd": 0.0, "intensity_scale": 0.0}
    ).model_copy(update={"intensity_shift": 0.0})
    views, image = drawn(3, dims, how), picture(3, 1, *(12, 9, 10)[:dims])
    ours = apply_view(image, views)
    for i in range(3):
        axes = [a for a in range(dims) if views.flip[i, a]]
        flipped = Flip(axes)(image[i]) if axes else image[i]
        move = Affine(
            rotate_params=views.angle_radians[i].tolist(),
            translate_params=views.shift_vox[i].tolist(),
            scale_params=[float(views.scale[i])] * dims,
            padding_mode=padding,
            image_only=True,
        )
        torch.testing.assert_close(ours[i], move(flipped).as_tensor(), atol=2e-5, rtol=0)


def test_intensities_equal_monai_given_the_same_parameters() -> None:
    from monai.transforms import ScaleIntensity, ShiftIntensity

    image = picture(2, 1, 8, 8) * 0.5 + 0.2
    gain, offset = torch.tensor([1.1, 0.9]), torch.tensor([0.05, -0.05])
    ours = apply_view(image, changed(2, 2, gain=gain, offset=offset))
    for i in range(2):
        scale = ScaleIntensity(minv=None, maxv=None, factor=float(gain[i]) - 1)
        theirs = ShiftIntensity(offset=float(offset[i]))(scale(image[i]))
        torch.testing.assert_close(ours[i], theirs.as_tensor(), atol=1e-6, rtol=0)


def test_gamma_equals_monai_on_an_image_that_spans_0_to_1() -> None:
    from monai.transforms import AdjustContrast

    image = picture(1, 1, 8, 8)
    image[0, 0, 0, :2] = torch.tensor([0.0, 1.0])  # MONAI's gamma acts on the image's own range
    ours = apply_view(image, changed(1, 2, gamma=torch.tensor([1.4])))
    torch.testing.assert_close(ours[0], AdjustContrast(1.4)(image[0]), atol=1e-5, rtol=0)


@pytest.mark.gpu
def test_the_same_parameters_give_the_same_view_on_a_gpu() -> None:
    image, views = picture(8, 1, 12, 12, 12), drawn(8, 3)
    there = apply_view(image.cuda(), views)
    assert there.device.type == "cuda"
    torch.testing.assert_close(there.cpu(), apply_view(image, views), atol=1e-4, rtol=0)
