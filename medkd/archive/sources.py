"""Recognise the form of a file of annotations by its content, for options of `medkd index`.

Tables with the columns of a public set are recognised. Any other table must be described in a
configuration (kind: points, or kind: table), because voxel indices look like millimetres.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medkd.archive.settings import paths_of
from medkd.errors import SettingsError
from medkd.io.file_kind import kind_of_file
from medkd.io.file_ref import FileRef
from medkd.io.luna16_tables import EXCLUDED_NAME, SAME_TABLE, is_named_excluded, is_same_table
from medkd.io.reference import OBJECT_KINDS, AnnotationSettings
from medkd.io.reference.settings import (
    ChexpertAnnotations,
    LabelMapAnnotations,
    LidcAnnotations,
    Luna16Annotations,
    NihAnnotations,
    RtstructAnnotations,
    SegAnnotations,
    SrAnnotations,
    VindrAnnotations,
)
from medkd.io.tables import header_of

_OBJECTS: dict[str, type[SrAnnotations | SegAnnotations | RtstructAnnotations]] = {
    "sr": SrAnnotations, "seg": SegAnnotations, "rtstruct": RtstructAnnotations,
}  # fmt: skip
_LUNA16 = {"seriesuid", "coordX", "coordY", "coordZ", "diameter_mm"}
_NIH = {"Image Index", "Finding Labels"}
_CHEXPERT = {"Path", "Frontal/Lateral"}
_VINDR_BOXES = {"image_id", "class_name", "x_min"}
_VINDR_LABELS = {"image_id", "No finding"}


def source_of(text: str) -> AnnotationSettings:
    """Find out how to read a source of annotations.

    Args:
        text: a file, a folder, or "sr", "seg", "rtstruct" for the objects in the archive itself.

    Raises:
        SettingsError: if it does not exist, or its form is not recognised.
    """
    path = Path(text)
    if not path.exists():
        if text in _OBJECTS:
            return _objects(text, None)
        known = ", ".join(sorted(_OBJECTS))
        raise _refusal(text, f"no such file; {known} name the objects in the archive itself")
    if path.is_dir():
        return _folder(path)
    kind = kind_of_file(FileRef(path), path.stat().st_size)
    if kind.form == "annotation" and kind.head is not None:
        return _objects(OBJECT_KINDS[kind.head.sop_class], path)
    if kind.form == "volume":
        return LabelMapAnnotations(kind="label_map", path=path)
    if kind.form == "table":
        return _table(path)
    raise _refusal(text, f"it is no annotation: {kind.reason or 'a picture or scan'}")


def with_excluded(
    sources: Sequence[AnnotationSettings], excluded: Path
) -> tuple[AnnotationSettings, ...]:
    """Add a table of irrelevant findings, to LUNA16's nodules if they are a source.

    Args:
        sources: the sources so far.
        excluded: a table with LUNA16's columns; it replaces the one beside the nodules.

    Raises:
        SettingsError: if it does not exist, has other columns, or is also given as nodules.
    """
    if not excluded.is_file():
        raise _refusal(str(excluded), "--excluded: no such file")
    if not _has({name.strip() for name in header_of(excluded)}, _LUNA16):
        reason = f"--excluded: expected the columns {', '.join(sorted(_LUNA16))}; say what other "
        raise _refusal(str(excluded), reason + "columns mean in --config, counts_as: excluded")
    if any(is_same_table(path, excluded) for source in sources for path in _nodules_of(source)):
        raise _refusal(str(excluded), f"--excluded: {SAME_TABLE}")
    for place, source in enumerate(sources):
        if isinstance(source, Luna16Annotations):
            joined = source.model_copy(update={"excluded": excluded})
            return (*sources[:place], joined, *sources[place + 1 :])
    return (*sources, Luna16Annotations(kind="luna16", excluded=excluded))


def _nodules_of(source: AnnotationSettings) -> list[Path]:
    """Return the files of a source; of LUNA16's two tables only the one with the nodules."""
    if isinstance(source, Luna16Annotations):
        return [source.annotations] if source.annotations else []
    return [path for path in paths_of(source) if path.is_file()]


def _folder(path: Path) -> AnnotationSettings:
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        kind = kind_of_file(FileRef(file), file.stat().st_size)
        if kind.form == "annotation" and kind.head is not None:
            return _objects(OBJECT_KINDS[kind.head.sop_class], path)
        if kind.form == "volume":
            return LabelMapAnnotations(kind="label_map", path=path)
    raise _refusal(str(path), "a folder without DICOM objects and without volumes")


def _objects(kind: str, path: Path | None) -> AnnotationSettings:
    return _OBJECTS[kind].model_validate({"kind": kind, "path": path})


def _table(path: Path) -> AnnotationSettings:
    with path.open("rb") as stream:
        if stream.read(15) == b"SQLite format 3":
            return LidcAnnotations(kind="lidc", path=path)
    columns = {name.strip() for name in header_of(path)}
    if _has(columns, _LUNA16):
        if is_named_excluded(path):
            raise _refusal(str(path), "it holds irrelevant findings: give it with --excluded")
        return Luna16Annotations(kind="luna16", annotations=path, excluded=_excluded_beside(path))
    if _has(columns, _NIH):
        return NihAnnotations(kind="nih", data_entry=path)
    if _has(columns, _CHEXPERT):
        return ChexpertAnnotations(kind="chexpert", path=path)
    if _has(columns, _VINDR_BOXES):
        return VindrAnnotations(kind="vindr", boxes=path)
    if _has(columns, _VINDR_LABELS):
        return VindrAnnotations(kind="vindr", labels=path)
    raise _refusal(
        str(path),
        f"its columns {sorted(columns)} are of no known set: say what they mean in --config, "
        "under annotations, kind: points (places) or kind: table (labels)",
    )


def _excluded_beside(nodules: Path) -> Path | None:
    """Return the table of irrelevant findings beside a table: by LUNA16's name or a similar one."""
    official = nodules.with_name(f"{EXCLUDED_NAME}.csv")
    if official.is_file():
        return official
    alike = [file for file in nodules.parent.glob("*.csv") if is_named_excluded(file)]
    return alike[0] if len(alike) == 1 and alike[0].is_file() else None


def _has(columns: set[str], wanted: set[str]) -> bool:
    """Say whether a table has the given columns; upper and lower case are the same."""
    return {name.casefold() for name in columns} >= {name.casefold() for name in wanted}


def _refusal(text: str, reason: str) -> SettingsError:
    return SettingsError(f"{text}: cannot be used as annotations", [reason])
