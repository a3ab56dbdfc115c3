"""What readers decided in `medkd review`, matched with the series of an archive.

The file is the JSON that `medkd review --export` and `medkd index --reviews` write. Its cases are
those of the worklist: pseudonyms of the INDEX, or real UIDs. Notes of readers are not read, because
free text can name a patient.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from medkd.formats import REVIEWS_KIND
from medkd.io.reference.places import ArchiveLookup
from medkd.io.reference.rows import ReferenceRows, RowCollector
from medkd.io.reference.source import AnnotationSource
from medkd.jsonio import read_json
from medkd.types import ReviewedImage, ReviewedMark

LABEL = "nodule"
"""The label of a whole scan that was read completely."""


def is_reviews(path: Path) -> bool:
    """Return whether a file is of this kind; only its beginning is examined."""
    with path.open("rb") as stream:
        return f'"kind": "{REVIEWS_KIND}"'.encode() in stream.read(100)


class ReviewAnnotations(AnnotationSource):
    """Marks (LPS mm) and whole X-rays that readers accepted or rejected in `medkd review`."""

    kind: Literal["reviews"]
    path: Path = Field(description="JSON file of medkd review --export.")


@dataclass(frozen=True, slots=True)
class ReviewsFile:
    """The parts of the file that an INDEX needs; `kind` distinguishes it from other JSON files."""

    kind: Literal["medkd reviews"]
    marks: tuple[ReviewedMark, ...]
    reviewed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    disputed: dict[str, int] = field(default_factory=dict)
    images: tuple[ReviewedImage, ...] = ()
    unnamed: int = 0


def read_reviews(settings: ReviewAnnotations, archive: ArchiveLookup) -> ReferenceRows:
    """Read the marks of readers, their decisions on X-rays, and which scans they read completely.

    Returns:
        Accepted and added marks as nodules, all marks with their readers, and the label "nodule" 0
        of each scan that was marked as reviewed and has no nodule and no disputed mark. Decisions
        on X-rays, and the labels that follow. A mark or X-ray is unmatched if its case is not in
        the archive, and a mark if it lies outside the volume.

    Raises:
        SeriesError: if the file cannot be read or is not of this kind.
    """
    file = read_json(settings.path, ReviewsFile)
    rows = RowCollector("reviews", archive)
    for number, mark in enumerate(file.marks, start=1):
        rows.add_mark(replace(mark, seriesuid=archive.real_name(mark.seriesuid)), f"mark {number}")
    positive = {mark.seriesuid for mark in file.marks if mark.verdict != "rejected"}
    for number, case in enumerate(file.reviewed, start=1):
        name = archive.real_name(case)
        if archive.series(name) is None:
            rows.refuse(f"reviewed case {number}", "no series of the archive has this name", name)
        elif case not in positive and case not in file.disputed:
            rows.add_labels(name, {LABEL: 0}, key_is="seriesuid")
    for number, image in enumerate(file.images, start=1):
        real = replace(image, case_id=archive.real_name(image.case_id))
        rows.add_reading(real, f"image {number}")
    _add_notes(rows, file, positive)
    return rows.collected()


def _add_notes(rows: RowCollector, file: ReviewsFile, positive: set[str]) -> None:
    if disputed := sum(file.disputed.values()):
        rows.note(
            f"{disputed} decisions on which equally many readers differ are left out; "
            "--adjudicator NAME decides them"
        )
    if unfinished := len(positive - set(file.reviewed)):
        rows.note(
            f"{unfinished} scans with accepted or added marks were not marked as reviewed: they "
            "may have nodules that nobody marked"
        )
    if file.unnamed:
        rows.note(
            f"{file.unnamed} whole images with decisions are left out: only the review of a RUN or "
            "RESULTS asks for a finding; give its folder"
        )
    sizeless = sum(m.diameter_mm <= 0 for m in file.marks if m.verdict != "rejected")
    if sizeless:
        rows.note(f"{sizeless} accepted or added marks have no diameter")
