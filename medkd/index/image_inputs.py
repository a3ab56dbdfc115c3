"""The radiographs among the inputs of a command: files, folders of them, or an INDEX.

Files are classified by their content, not by their name. A CT series in a folder is listed once,
with the reason why it is not a radiograph: nothing is omitted silently. Other files in a folder
(tables, texts) and the scans of an INDEX are only counted.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from medkd.errors import SettingsError
from medkd.index.case import Case
from medkd.index.table import is_index, read_index
from medkd.io.file_kind import FileKind
from medkd.io.file_ref import shown_name
from medkd.io.find_scans import classified_files

NOT_RADIOGRAPH = "not_radiograph"
"""Code of the reason for anything that is not a radiograph."""

_SKIPPED = ("annotation", "table", "container", "other")


@dataclass(frozen=True, slots=True)
class ImageInput:
    """A radiograph: a file, or with `case` that image of the INDEX at `path`.

    `reason` ("code: text") is why the file is not a radiograph; it is empty if it may be one.
    """

    path: Path
    case: Case | None = None
    reason: str = ""

    @property
    def name(self) -> str:
        """The name of the image: its case id in the INDEX, or the name of its file."""
        if self.case is not None:
            return self.case.case_id
        # The name of a series folder may be a UID, which has no suffix.
        return shown_name(self.path.name if self.path.is_dir() else self.path.stem)

    @property
    def files(self) -> tuple[Path, ...]:
        """The file on disk that it is read from."""
        return (self.path,)


@dataclass(frozen=True, slots=True)
class ImageInputs:
    """The images found; `left_out` counts files that are not pictures, and scans of an INDEX."""

    images: tuple[ImageInput, ...]
    left_out: int = 0


def list_images(
    inputs: Sequence[Path], *, progress: Callable[[int], None] | None = None
) -> ImageInputs:
    """List the radiographs at or below the inputs, each once.

    Args:
        inputs: PNG, JPEG or DICOM files, folders of them, or an INDEX.
        progress: called with the number of files examined so far.

    Raises:
        SettingsError: naming every input that does not exist or contains no picture.
        SeriesError: if an INDEX cannot be read.
    """
    found: dict[tuple[Path, str], ImageInput] = {}
    reasons, left_out = [], 0
    numbers = itertools.count(1)

    def count_file() -> None:
        number = next(numbers)
        if progress is not None:
            progress(number)

    for place in inputs:
        listed = _listed_at(place, count_file) if place.exists() else ImageInputs(())
        if not listed.images:
            why = "no radiograph in it" if place.exists() else "it does not exist"
            reasons.append(f"{place}: {why}")
        found |= {(i.path, i.case.case_id if i.case else ""): i for i in listed.images}
        left_out += listed.left_out
    if reasons:
        reasons.append("this model scores radiographs; CT needs a model that was trained on CT")
        reasons.append("expected PNG, JPEG or DICOM radiographs, folders of them, or an index.csv")
        raise SettingsError("no radiographs to score", reasons)
    return ImageInputs(tuple(found.values()), left_out)


def is_radiograph(path: Path) -> bool:
    """Return whether the content of a file is a radiograph or another picture."""
    return next(kind for _, kind, _ in classified_files([path])).form == "image"


def _listed_at(place: Path, count_file: Callable[[], None]) -> ImageInputs:
    if is_index(place):
        cases = read_index(place).cases
        images = tuple(ImageInput(place, case) for case in cases if case.kind == "image")
        return ImageInputs(images, len(cases) - len(images))
    found: dict[tuple[Path, str], ImageInput] = {}
    left_out = 0
    for path, kind, is_named in classified_files([place]):
        count_file()
        skipped = kind.form in _SKIPPED
        if skipped and not is_named:
            left_out += 1
        elif skipped:
            found[path, ""] = ImageInput(path, reason=f"{NOT_RADIOGRAPH}: {kind.reason}")
        elif kind.form == "series" and kind.head is not None and not is_named:
            key = (path.parent, kind.head.seriesuid)  # one refusal per series, not per slice
            found.setdefault(key, ImageInput(path.parent, reason=_reason_of(kind)))
        else:
            found[path, ""] = ImageInput(path, reason=_reason_of(kind))
    return ImageInputs(tuple(found.values()), left_out)


def _reason_of(kind: FileKind) -> str:
    reasons = {
        "image": "",
        "series": f"{NOT_RADIOGRAPH}: slices of a scan; this model scores chest radiographs",
        "volume": f"{NOT_RADIOGRAPH}: a volume; this model scores chest radiographs",
    }
    return reasons.get(kind.form, kind.reason)
