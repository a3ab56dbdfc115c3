"""The radiographs among the inputs of a command: files, folders of them, or an INDEX.

The content of a file decides what it is, never its name. A CT is listed too, each series once,
with the reason why it is not a radiograph: nothing is left out silently. Other files in a folder
(tables, texts) are only counted.
"""

from __future__ import annotations

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
"""Code of the reason given for anything that is not a radiograph."""

_SKIPPED = ("annotation", "table", "container", "other")


@dataclass(frozen=True, slots=True)
class ImageInput:
    """A radiograph: a file, or with `case` that image of the INDEX at `path`.

    `reason` ("code: text") says why the file is not a radiograph; it is empty if it may be one.
    """

    path: Path
    case: Case | None = None
    reason: str = ""

    @property
    def name(self) -> str:
        """What the image is called: the INDEX's case, or its file."""
        if self.case is not None:
            return self.case.case_id
        # The folder of a series may be called by a UID, which has no suffix.
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
        progress: called with the number of files looked at so far.

    Raises:
        SettingsError: naming every input that does not exist or contains no picture.
        SeriesError: if an INDEX cannot be read.
    """
    found: dict[tuple[Path, str], ImageInput] = {}
    reasons, left_out, looked_at = [], 0, 0

    def one_more() -> None:
        nonlocal looked_at
        looked_at += 1
        if progress is not None:
            progress(looked_at)

    for place in inputs:
        listed = _listed_at(place, one_more) if place.exists() else ImageInputs(())
        if not listed.images:
            reasons.append(f"{place}: {'no radiograph in it' if place.exists() else 'not there'}")
        found |= {(i.path, i.case.case_id if i.case else ""): i for i in listed.images}
        left_out += listed.left_out
    if reasons:
        reasons.append("this model scores radiographs; CT needs a model that was trained on CT")
        reasons.append("expected PNG, JPEG or DICOM radiographs, folders of them, or an index.csv")
        raise SettingsError("no radiographs to score", reasons)
    return ImageInputs(tuple(found.values()), left_out)


def is_radiograph(path: Path) -> bool:
    """Say whether the content of a file is a radiograph or another picture."""
    return next(kind for _, kind, _ in classified_files([path])).form == "image"


def _listed_at(place: Path, one_more: Callable[[], None]) -> ImageInputs:
    if is_index(place):
        cases = read_index(place).cases
        images = tuple(ImageInput(place, case) for case in cases if case.kind == "image")
        return ImageInputs(images, len(cases) - len(images))
    found: dict[tuple[Path, str], ImageInput] = {}
    left_out = 0
    for path, kind, is_named in classified_files([place]):
        one_more()
        skipped = kind.form in _SKIPPED
        if skipped and not is_named:
            left_out += 1
        elif skipped:
            found[path, ""] = ImageInput(path, reason=f"{NOT_RADIOGRAPH}: {kind.reason}")
        elif kind.form == "series" and kind.head is not None and not is_named:
            key = (path.parent, kind.head.seriesuid)  # one refusal a series, not one a slice
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
