"""Crops of scans: the findings stay on the voxels that show them, whatever is done to a crop."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np
import pytest
import torch
from torch import Tensor

from medkd.data.augment import AugmentationSettings, view_batch
from medkd.data.crops import (
    CropLoader,
    CropSet,
    CropSettings,
    Findings,
    Volume,
    crop_mirrored,
    mirrored_findings,
)
from medkd.types import EXCLUDED, NODULE, PatchBatch

SHAPE = (24, 24, 24)
WINDOW = (-1000.0, 400.0)


class Held:
    """Volumes in memory."""

    def __init__(self, volumes: Sequence[Volume]) -> None:
        self.volumes = volumes
        self.seen: list[tuple[int, float]] = []

    def __len__(self) -> int:
        return len(self.volumes)

    def nodules(self) -> list[tuple[int, int]]:
        return [
            (number, row)
            for number, volume in enumerate(self.volumes)
            for row in range(int((volume.findings.kind == NODULE).sum()))
        ]

    def volume(self, number: int) -> Volume:
        return self.volumes[number]

    def advance(self, epoch: int, share: float) -> None:
        self.seen.append((epoch, share))


def bright_spots(name: str, *places: tuple[int, int, int], labelled: bool = True) -> Volume:
    """An empty volume of 40 x 36 x 30 voxels with a spot of 1,400 HU more at each nodule."""
    voxels = torch.full((40, 36, 30), -1000, dtype=torch.int16)
    for i, j, k in places:
        voxels[i - 1 : i + 2, j - 1 : j + 2, k - 1 : k + 2] = 400
    centers = np.array(places, dtype=np.float64).reshape(-1, 3)
    found = Findings(centers, np.full(len(places), 6.0), np.full(len(places), NODULE))
    return Volume(name, voxels, found, np.zeros((0, 3)), labelled)


def loader_of(*sets: CropSet, batch_size: int = 6, **settings: object) -> CropLoader:
    chosen = {"per_epoch": 60, "margin_vox": 2, "blur_vox": 0.0, **settings}
    return CropLoader(
        sets,
        shape=SHAPE,
        window=WINDOW,
        batch_size=batch_size,
        seed=3,
        settings=CropSettings.model_validate(chosen),
    )


def value_at(image: Tensor, place: Tensor) -> float:
    i, j, k = (int(n) for n in place.round())
    return float(image[0, i, j, k])


def nodules_inside(batch: PatchBatch) -> list[tuple[int, Tensor]]:
    assert batch.points is not None
    shape = torch.tensor(batch.image.shape[2:])
    return [
        (row, place)
        for row, (places, kinds) in enumerate(
            zip(batch.points.center_vox, batch.points.kind, strict=True)
        )
        for place, kind in zip(places, kinds, strict=True)
        if kind == NODULE and bool(((place >= 1) & (place < shape - 2)).all())
    ]


def test_a_crop_is_the_mirrored_volume() -> None:
    volume = torch.arange(5 * 4 * 3).view(5, 4, 3)
    expected = np.pad(volume.numpy(), ((6, 6), (3, 3), (2, 4)), mode="reflect")
    for start in [(-6, -3, -2), (-1, 0, 1), (3, 2, 1), (0, 0, 0)]:
        crop = crop_mirrored(volume, np.array(start), (5, 4, 3))
        i, j, k = (first + pad for first, pad in zip(start, (6, 3, 2), strict=True))
        assert np.array_equal(crop.numpy(), expected[i : i + 5, j : j + 4, k : k + 3])


def test_mirror_images_of_findings_are_findings() -> None:
    found = Findings(np.array([[2.0, 10.0, 10.0]]), np.array([4.0]), np.array([EXCLUDED]))
    near = mirrored_findings(found, (30, 30, 30), np.array([-5, 0, 0]), SHAPE)
    assert sorted(near.center_vox[:, 0].tolist()) == [3.0, 7.0]
    assert set(near.kind.tolist()) == {EXCLUDED}


@pytest.mark.parametrize("augment", [False, True])
def test_every_nodule_lies_on_its_voxels(augment: bool) -> None:
    volumes = Held([bright_spots("a", (5, 6, 7), (30, 20, 20)), bright_spots("b", (20, 34, 2))])
    settings = AugmentationSettings(
        flip=(0.5, 0.5, 0.5), rotate_degrees=20, shift_vox=2, scale_fraction=0.1
    )
    seen = 0
    for batch in loader_of(CropSet(volumes, 1.0, 1.0)).epoch(0):
        shown = view_batch(batch, settings, seed=1) if augment else batch
        for row, place in nodules_inside(shown):
            assert value_at(shown.image[row], place) > 0.7
            seen += 1
    assert seen > 50


def test_nodules_are_anywhere_in_their_crops() -> None:
    volumes = Held([bright_spots("a", (20, 18, 15))])
    loader = loader_of(CropSet(volumes, 1.0, 1.0), per_epoch=300)
    places = torch.stack([p for batch in loader.epoch(0) for _, p in nodules_inside(batch)])
    assert (places.amin(dim=0) < 4).all()
    assert (places.amax(dim=0) > 19).all()


def test_sets_and_kinds_of_crops_have_their_shares() -> None:
    first, second = Held([bright_spots("a", (20, 18, 15))]), Held([bright_spots("b")])
    loader = loader_of(CropSet(first, 3.0, 0.5), CropSet(second, 1.0, 0.9), batch_size=20)
    for batch in loader.epoch(0):
        names = [name.split(":")[0] for name in batch.sample_id]
        assert names.count("b") == 5
        assert 7 <= float(batch.label.sum()) <= 15  # a random crop of "a" may show its nodule


def test_an_epoch_is_the_same_again_and_another_one_differs() -> None:
    volumes = Held([bright_spots("a", (20, 18, 15), (8, 8, 8))])
    again, other = (loader_of(CropSet(volumes, 1.0, 0.7), blur_vox=0.9) for _ in range(2))
    for one, same in zip(again.epoch(4), other.epoch(4), strict=True):
        assert torch.equal(one.image, same.image)
        assert one.sample_id == same.sample_id
    one, different = next(again.epoch(4)), next(again.epoch(5))
    assert not torch.equal(one.image, different.image)


def test_unlabelled_scans_are_marked() -> None:
    volumes = Held([bright_spots("a", (20, 18, 15), labelled=False)])
    batch = next(loader_of(CropSet(volumes, 1.0, 0.0)).epoch(0))
    assert not batch.label_known.any()


def test_sets_are_told_how_far_an_epoch_is() -> None:
    volumes = Held([bright_spots("a", (20, 18, 15))])
    list(islice(loader_of(CropSet(volumes, 1.0, 1.0)).epoch(2), 3))
    assert volumes.seen == [(2, 0.0), (2, 0.1), (2, 0.2)]
