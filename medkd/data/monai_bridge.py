"""Conversion between our types and MONAI's: an `ImageReader`, and `Scan` to `MetaTensor`.

Our world coordinates are LPS mm; MONAI's transforms expect the affine of a `MetaTensor` in RAS
mm. Only this module converts between them. Both sides use the index order (i, j, k), so axes are
never permuted. Importing MONAI takes seconds, so functions and constructors import it when they
need it. The classes here and in `resample.py` and `crop.py` are registered as subclasses of
MONAI's classes when they are first instantiated.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medkd.errors import SeriesError
from medkd.geometry import VoxelGrid, lps_to_ras
from medkd.io.radiograph.read import read_radiograph
from medkd.io.scans import read_scan
from medkd.types import Radiograph, Scan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def declare_subclass(own: type, module: str, name: str) -> None:
    """Register `own` as a virtual subclass of MONAI's abstract class `module.name`.

    MONAI checks `isinstance(x, ImageReader)` or `isinstance(x, MapTransform)`. Ordinary
    inheritance would import MONAI together with this module.
    """
    getattr(import_module(module), name).register(own)


class MedkdReader:
    """MONAI `ImageReader` that calls `read_scan` or, for `.png` files, `read_radiograph`.

    MONAI's `LoadImaged` turns the result into a `MetaTensor` with a RAS affine, whose `meta`
    holds the `seriesuid`, `patient_id` and, for scans, `notes`.

    A refusal is raised by `get_data`, not by `read`: after an error in `read` MONAI would try its
    other readers, which might read a file that ours has refused.

    Example:
        >>> import tempfile
        >>> from medkd.io.volume import write_mhd
        >>> grid = VoxelGrid.from_parts((4, 3, 2), spacing_mm=[1, 1, 2], origin_mm=[5, 6, 7])
        >>> scan = Scan("1.2.3", np.zeros((4, 3, 2), np.int16), grid, patient_id="p1")
        >>> path = Path(tempfile.mkdtemp()) / "1.2.3.mhd"
        >>> write_mhd(scan, path)
        >>> from monai.transforms import LoadImaged
        >>> load = LoadImaged("image", reader=MedkdReader(), ensure_channel_first=True)
        >>> image = load({"image": path})["image"]
        >>> tuple(image.shape), image.affine[:3, 3].tolist()
        ((1, 4, 3, 2), [-5.0, -6.0, 7.0])
    """

    def __init__(self) -> None:
        declare_subclass(type(self), "monai.data.image_reader", "ImageReader")

    def verify_suffix(self, filename: Sequence[Path | str] | Path | str) -> bool:
        """Return True for every file; `get_data` refuses unreadable files with reasons."""
        return True

    def read(self, data: Sequence[Path | str] | Path | str) -> Scan | Radiograph | SeriesError:
        """Read the image at one path; a refusal is returned instead of raised (see the class)."""
        paths = [data] if isinstance(data, str | Path) else list(data)
        if len(paths) != 1:
            return SeriesError(f"{len(paths)} paths at once", ["expected one path per image"])
        path = Path(paths[0])
        try:
            return read_radiograph(path) if path.suffix.lower() == ".png" else read_scan(path)
        except SeriesError as refusal:
            return refusal

    def get_data(
        self, img: Scan | Radiograph | SeriesError
    ) -> tuple[NDArray[np.int16] | NDArray[np.float32], dict[str, Any]]:
        """Return the pixel array ([i, j, k] or [row, col]) and its metadata for MONAI.

        Raises:
            SeriesError: the refusal, with all its reasons.
        """
        if isinstance(img, SeriesError):
            raise img
        if isinstance(img, Radiograph):
            return img.pixels, _meta(np.eye(3), img.pixels.shape, img.imageuid, img.patient_id)
        return img.voxels_hu, _scan_meta(img)


def to_meta_tensor(scan: Scan) -> Any:  # noqa: ANN401  # MONAI has no types
    """Convert a scan to a `MetaTensor` [1, I, J, K], int16 HU, with a RAS affine.

    The voxels are copied; transforms cannot change the scan.
    """
    from monai.data import MetaTensor

    meta = _scan_meta(scan)
    meta.update(affine=torch.from_numpy(meta["affine"]), original_channel_dim=0)
    voxels = torch.from_numpy(scan.voxels_hu.copy(order="K"))[None]
    return MetaTensor(voxels, meta=meta)


def scan_grid(image: Any) -> VoxelGrid:  # noqa: ANN401  # MONAI has no types
    """Return the voxel grid, in LPS mm, of a `MetaTensor` [C, I, J, K].

    Raises:
        ValueError: if the image is not 3-D, or its affine is in a space other than RAS or LPS.
    """
    if image.ndim != 4:
        raise ValueError(f"expected an image [C, I, J, K], got shape {tuple(image.shape)}")
    space = str(getattr(image.meta.get("space"), "value", image.meta.get("space") or "RAS"))
    affine = np.asarray(image.affine.cpu().numpy(), dtype=np.float64)
    if space not in ("RAS", "LPS"):
        raise ValueError(f"expected an affine in RAS or LPS, got {space!r}")
    i, j, k = (int(size) for size in image.shape[1:])
    return VoxelGrid((i, j, k), lps_to_ras(affine) if space == "RAS" else affine)


def on_grid(voxels: torch.Tensor, grid: VoxelGrid, like: Any) -> Any:  # noqa: ANN401  # MONAI has no types
    """Return a `MetaTensor` of new voxels on a new grid, with the other metadata of `like`.

    Args:
        voxels: [C, I, J, K], any dtype.
        grid: the grid of the voxels; its shape is [I, J, K].
        like: `MetaTensor` whose metadata are copied.
    """
    from monai.data import MetaTensor

    affine = torch.from_numpy(lps_to_ras(grid.affine_lps_mm))
    changed = {"affine": affine, "spatial_shape": np.asarray(grid.shape), "space": "RAS"}
    return MetaTensor(voxels, meta={**like.meta, **changed})


def _scan_meta(scan: Scan) -> dict[str, Any]:
    affine = lps_to_ras(scan.grid.affine_lps_mm)
    meta = _meta(affine, scan.grid.shape, scan.seriesuid, scan.patient_id)
    return {**meta, "notes": list(scan.notes)}


def _meta(
    affine: NDArray[np.float64], shape: tuple[int, ...], uid: str, patient_id: str
) -> dict[str, Any]:
    return {
        "affine": affine,
        "original_affine": affine.copy(),
        "space": "RAS",
        "spatial_shape": np.asarray(shape),
        "original_channel_dim": float("nan"),  # MONAI's value for "no channel axis"
        "seriesuid": uid,
        "patient_id": patient_id,
    }
