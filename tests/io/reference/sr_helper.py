"""Write TID 1500 reports with highdicom on the images of a written series."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
from highdicom import sr
from pydicom.sr.codedict import codes

from medkd.io.file_ref import FileRef
from tests.io.reference.oblique import CENTER_VOX, DIAMETER_MM, oblique_grid

NODULE = codes.SCT.Nodule
LONG, SHORT = codes.SCT.MajorAxis, codes.SCT.MinorAxis


def images_by_k(folder: Path) -> list[pydicom.Dataset]:
    """The images of a written series, in order of k."""
    images = [pydicom.dcmread(path) for path in folder.iterdir()]
    return sorted(images, key=lambda image: -image.InstanceNumber)


def on_image(kind: str, pixels: np.ndarray, image: pydicom.Dataset) -> sr.ImageRegion:
    """A graphic on one image; `pixels` [N, 2] are indices (column, row), pixel centres whole."""
    source = sr.SourceImageForRegion(image.SOPClassUID, image.SOPInstanceUID)
    return sr.ImageRegion(kind, np.asarray(pixels, dtype=float) + 0.5, source)


def in_world(kind: str, points_mm: np.ndarray, frame: str) -> sr.ImageRegion3D:
    return sr.ImageRegion3D(kind, np.asarray(points_mm, dtype=float), frame)


def num(name: Any, value: float, unit: Any = codes.UCUM.Millimeter, **more: Any) -> sr.Measurement:
    return sr.Measurement(name, value, unit, **more)


def planar(region: Any, uid: str | None = None, **more: Any) -> Any:
    """A measurement group of one planar region, a nodule unless another finding is given."""
    return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        sr.TrackingIdentifier(uid or hd.UID(), "marked by Doe^Jane"),
        region,
        **{"finding_type": NODULE, **more},
    )


def volumetric(regions: Sequence[Any], **more: Any) -> Any:
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        sr.TrackingIdentifier(hd.UID(), "1"), list(regions), **{"finding_type": NODULE, **more}
    )


def bare(measurements: Sequence[sr.Measurement]) -> Any:
    """A group whose coordinates hang below its measurements, as viewers write two axes."""
    return sr.MeasurementsAndQualitativeEvaluations(
        sr.TrackingIdentifier(hd.UID(), "1"), finding_type=NODULE, measurements=list(measurements)
    )


def write_report(
    path: Path, groups: Sequence[Any], images: Sequence[pydicom.Dataset], **values: str
) -> FileRef:
    device = sr.DeviceObserverIdentifyingAttributes(hd.UID())
    context = sr.ObservationContext(None, sr.ObserverContext(codes.DCM.Device, device))
    report = sr.MeasurementReport(context, codes.LN.CTUnspecifiedBodyRegion, list(groups))
    document = sr.Comprehensive3DSR(images, report, hd.UID(), 1, hd.UID(), 1, "maker")
    for name, value in values.items():
        setattr(document, name, value)
    document.save_as(path, enforce_file_format=True)
    return FileRef(path, label=f"f{path.name}")


def circle_pixels(points: int = 120) -> np.ndarray:
    """The sphere's outline on its middle slice, as pixel indices [N, 2], closed."""
    angles = np.linspace(0, 2 * np.pi, points + 1)
    steps = DIAMETER_MM / 2 / oblique_grid().spacing_mm[:2]
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1) * steps + CENTER_VOX[:2]
    ring[-1] = ring[0]
    return ring


def volumetric_surface(
    points_mm: np.ndarray, frame: str, images: Sequence[pydicom.Dataset], **more: Any
) -> Any:
    """A group of one ellipsoid, by the ends of its three axes [6, 3]."""
    source = sr.SourceSeriesForSegmentation(images[0].SeriesInstanceUID)
    surface = sr.VolumeSurface("ELLIPSOID", points_mm, frame, source_series=source)
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        sr.TrackingIdentifier(hd.UID(), "1"),
        referenced_volume_surface=surface,
        **{"finding_type": NODULE, **more},
    )
