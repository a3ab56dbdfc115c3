"""The report of `medkd implant`, with a picture of each nodule before and after its insertion.

The pictures have a lung window (-600 HU, 1500 wide).
"""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from medkd.files import write_bytes
from medkd.provenance import start_record
from medkd.report.render import write_html
from medkd.report.words import number
from medkd.synthetic.implant.kept import ScanRow, Views
from medkd.synthetic.implant.settings import ImplantSettings
from medkd.synthetic.implant.write import NOTE
from medkd.types import Figure, Report, Section, Table

log = logging.getLogger(__name__)

WINDOW_HU = (-1350.0, 150.0)
MOST_SHOWN = 20
"""Number of pictures on the page; the folder contains all of them."""

_PIXELS_PER_INCH = 110


def write_implant_pages(
    folder: Path,
    rows: Sequence[ScanRow],
    views: Sequence[Views],
    settings: ImplantSettings,
) -> None:
    """Write `pictures/` and `report.html`.

    Args:
        folder: folder of the set.
        rows: scans of the set.
        views: views of all nodules, in the order of the scans.
        settings: settings of the set.
    """
    pictures = [draw_views(view) for view in views]
    (folder / "pictures").mkdir()
    for n, picture in enumerate(pictures, start=1):
        write_bytes(folder / "pictures" / f"nodule-{n:03d}.png", picture)
    write_html(build_page(rows, views, settings, pictures=pictures), folder / "report.html")


def build_page(
    rows: Sequence[ScanRow],
    views: Sequence[Views],
    settings: ImplantSettings,
    *,
    pictures: Sequence[bytes],
) -> Report:
    """Build the page: description, limits, literature, tables and pictures."""
    record = start_record(
        settings.model_dump_json(), seed=settings.seed, device="cpu", deterministic=True,
        command="medkd implant",
    )  # fmt: skip
    figures = tuple(
        Figure(
            f"Nodule {n}: {number(view.row.diameter_mm, 1)} mm, {view.row.texture}, "
            f"{view.row.outline}, {AT[view.row.attachment]}",
            "image/png",
            picture,
            f"Slice and coronal plane through synthetic nodule {n}, before and after",
        )
        for n, (view, picture) in enumerate(
            zip(views[:MOST_SHOWN], pictures[:MOST_SHOWN], strict=True), start=1
        )
    )
    nodules = sum(len(row.nodules) for row in rows)
    scans = "1 scan" if len(rows) == 1 else f"{len(rows)} scans"
    summary = f"{nodules} synthetic nodules in {scans}."
    shown = f"{len(figures)} of {len(views)} nodules, lung window; all are in the folder pictures."
    sections = (
        Section("summary", "What this is", (summary, *WHAT_IT_IS)),
        Section("limits", "What this is not", WHAT_IT_IS_NOT),
        Section("literature", "What is known about such nodules", LITERATURE),
        Section("measured", "What was measured in each scan", tables=(_scan_table(rows),)),
        Section("nodules", "The nodules", tables=(_nodule_table(rows),)),
        Section("pictures", "Before and after", (shown,), figures=figures),
    )
    return Report(
        "Synthetic nodules in real scans", sections, record, banner=NOTE[0].upper() + NOTE[1:] + "."
    )


def draw_views(view: Views) -> bytes:
    """Draw one nodule before and after as PNG: its slice, and the plane across the slices."""
    canvas = Canvas(figsize=(8.0, 2.2), dpi=_PIXELS_PER_INCH, layout="constrained")
    axes = canvas.subplots(1, 4)
    for axis, (title, image, aspect) in zip(
        axes,
        (
            ("slice, before", view.slice_before, 1.0),
            ("slice, after", view.slice_after, 1.0),
            ("across slices, before", view.across_before, view.aspect),
            ("across slices, after", view.across_after, view.aspect),
        ),
        strict=True,
    ):
        low, high = WINDOW_HU
        axis.imshow(image, cmap="gray", vmin=low, vmax=high, aspect=aspect, interpolation="nearest")
        axis.set_title(title, fontsize=8)
        axis.set_axis_off()
    stream = io.BytesIO()
    with mpl.rc_context({"text.parse_math": False}):
        canvas.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


WHAT_IT_IS = (
    "Each scan here is a copy of a real scan with added nodules of known position and size. The "
    "nodules have the sharpness of the scan, and its noise is kept. They are in aerated lung, at "
    "vessels and at the pleura. The original scans are unchanged. The copies have new UIDs, and "
    "their headers state that they are derived and contain synthetic nodules.",
    "The copies identify the patient like the originals: name, number and dates stay in their "
    "headers. Protect them like the originals, and give them only to people who may see those.",
    "They are an acceptance test before a reference standard exists: which fraction of such "
    "nodules does a detector find in the scans of this hospital, with its scanners and protocols?",
)
WHAT_IT_IS_NOT = (
    "No evidence of clinical performance. A nodule drawn by a program lacks the variety, the "
    "growth, the surroundings and the prevalence of disease; a sensitivity measured here may be "
    "higher or lower than that on patients.",
    "No reference standard of the whole scan. Real findings of the patient are not in the "
    "tables: a mark on a real finding counts as a false positive, although it may be correct.",
    "Not for diagnosis, and not to be stored with the patient's studies. A model trained on such "
    "nodules must be described as trained on synthetic data.",
)
LITERATURE = (
    "Readers could hardly distinguish inserted nodules from real ones where blur and noise were "
    "those of the scanner: AUC 0.57 for residents, 0.69 for radiologists (32 nodules, inserted "
    "into projections; J Med Imaging 4(1), 013510, 2017); no difference for three readers of 40 "
    "real and 40 drawn nodules (Eur Radiol 2006, doi 10.1007/s00330-006-0254-x); liver lesions AUC "
    "0.58 (Chen et al., Acad Radiol 23, 1221, 2016).",
    "Not always: in chest tomosynthesis detection rates were alike, but experienced radiologists "
    "distinguished simulated from real nodules with AUC 0.70 to 0.74 (Acta Radiol 2012, doi "
    "10.1258/ar.2012.120230).",
    "Nodules blended into other scans helped to train detectors where few samples were available "
    "(Pezeshk, Petrick, Chen, Sahiner, IEEE Trans Med Imaging 36, 1005, 2017). Anatomy around a "
    "nodule, above all vessels, determines how easily it is found (J Med Imaging 2018, "
    "PMC6250496). Therefore most nodules here touch a vessel or the pleura.",
)


AT = {"free": "free", "vessel": "at a vessel", "pleura": "at the pleura"}
"""What a nodule touches, in words."""


def _scan_table(rows: Sequence[ScanRow]) -> Table:
    return Table(
        ("Scan", "Nodules", "Edge sigma (mm)", "Overshoot", "Edges used", "Slice sigma (mm)",
         "Noise (HU)"),
        tuple(
            (
                row.seriesuid, str(len(row.nodules)), number(row.edge_sigma_mm, 2),
                number(row.edge_overshoot, 2), str(row.edges), number(row.slice_sigma_mm, 2),
                number(row.noise_hu, 1),
            )
            for row in rows
        ),
        "In-plane response (difference of two Gaussians): measured at the pleura, then narrowed",
    )  # fmt: skip


def _nodule_table(rows: Sequence[ScanRow]) -> Table:
    numbered = [(row, nodule) for row in rows for nodule in row.nodules]
    return Table(
        ("Nodule", "Centre, LPS mm", "Diameter (mm)", "Texture", "Outline", "Where",
         "Contrast (HU)", "Changed within (mm)"),
        tuple(
            (
                str(n), ", ".join(number(mm, 1) for mm in nodule.center_mm),
                number(nodule.diameter_mm, 1), nodule.texture, nodule.outline,
                AT[nodule.attachment], str(nodule.contrast_hu), number(nodule.changed_mm, 1),
            )
            for n, (_, nodule) in enumerate(numbered, start=1)
        ),
        "In the order of the pictures; no voxel farther from the centre was changed",
    )  # fmt: skip
