"""Pairs of files in NODE21's layout: a cut-out of a CT around a nodule, and its segmentation.

`UID_dcm_N.mha` is the image in HU and `UID_seg_N.mha` its binary segmentation on the same grid. UID
is the SeriesInstanceUID of the scan that the patch was cut from, and N numbers its nodules. The
position in the scan (LPS mm) is in the MetaImage headers. Patches may be filled with -1024 HU where
they reach beyond the scan; the filling is not removed here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np

from medkd.errors import SeriesError
from medkd.geometry import VoxelGrid
from medkd.io.file_ref import FileRef
from medkd.io.reference.regions import Region, regions_of
from medkd.types import Scan

_NAME = re.compile(
    r"(?P<seriesuid>\d+(?:\.\d+)+)_(?P<role>dcm|seg)_(?P<number>\d+)\.mha", re.IGNORECASE
)
_NAMED = {"dcm": "image (UID_dcm_N.mha)", "seg": "segmentation (UID_seg_N.mha)"}
_SAME_MM = 0.01
"""Largest difference between the affine matrices of an image and its segmentation."""


class PatchName(NamedTuple):
    """What a file's name states: the series, "dcm" or "seg", and the number of the nodule."""

    seriesuid: str
    role: str
    number: str


class PatchFiles(NamedTuple):
    """The two files of a patch."""

    image: FileRef
    mask: FileRef


def read_patch_name(name: str) -> PatchName | None:
    """Return what the name of a file in NODE21's layout states; None for another name.

    Example:
        >>> read_patch_name("1.2.3_seg_0.mha")
        PatchName(seriesuid='1.2.3', role='seg', number='0')
        >>> read_patch_name("chest_dcm_0.mha") is None
        True
    """
    found = _NAME.fullmatch(name)
    return PatchName(found["seriesuid"], found["role"].lower(), found["number"]) if found else None


def pair_files(refs: Iterable[FileRef]) -> PatchFiles:
    """Return the image and the segmentation of a patch.

    Args:
        refs: the files of one patch, in any order.

    Raises:
        SeriesError: if one of the two is missing, or there are several.
    """
    files: dict[str, list[FileRef]] = {role: [] for role in _NAMED}
    for ref in refs:
        name = read_patch_name(PurePosixPath(ref.member or ref.path.name).name)
        if name is not None:
            files[name.role].append(ref)
    reasons = [
        f"incomplete_patch: expected one {_NAMED[role]}, got {len(found) or 'none'} that is a "
        "readable volume: restore both files of the patch"
        for role, found in files.items()
        if len(found) != 1
    ]
    if reasons:
        raise SeriesError("a patch that is not complete", reasons)
    return PatchFiles(files["dcm"][0], files["seg"][0])


def measure_mask(mask: Scan, grid: VoxelGrid) -> Region:
    """Measure the nodule that the segmentation of a patch shows.

    Args:
        mask: the segmentation as read; every voxel other than 0 is nodule.
        grid: the stored grid of the image, LPS mm.

    Returns:
        The centroid in LPS mm, and the diameter of a sphere of the same volume. On the patches of
        LUNA16 this diameter is about .9 mm larger than LUNA16's `diameter_mm`.

    Raises:
        SeriesError: if the mask is on another grid, not binary, or empty.
    """
    own = mask.stored_grid or mask.grid
    values = np.unique(mask.voxels_hu[mask.voxels_hu != 0]).tolist()
    reasons = []
    if own.shape != grid.shape:
        reasons.append(f"expected the image's shape {grid.shape}, got {own.shape}")
    elif np.abs(own.affine_lps_mm - grid.affine_lps_mm).max() > _SAME_MM:
        reasons.append("spacing, origin or directions differ from those of the image")
    if len(values) > 1:
        reasons.append(f"expected one value besides 0, got {len(values)}, among them {values[:3]}")
    if not values:
        reasons.append("no voxel is marked")
    if reasons:
        faults = [f"bad_mask: segmentation: {reason}" for reason in reasons]
        raise SeriesError(f"{mask.seriesuid}: not the segmentation of a patch", faults)
    (region,) = regions_of(mask.voxels_hu != 0, mask.grid, split=False)
    return region
