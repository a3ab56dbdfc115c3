"""Recognition of annotation sources by their content, for options of `medkd index`.

Tables with the columns of a public set are recognised. Any other table must be described in a
configuration (kind: points, or kind: table), because voxel indices look like millimetres.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from medkd.archive.settings import paths_of
from medkd.errors import SettingsError
from medkd.io.file_kind import FileKind, is_sqlite, kind_of_file
from medkd.io.file_ref import FileRef
from medkd.io.luna16_tables import (
    EXCLUDED_NAME,
    NODULE_COLUMNS,
    SAME_TABLE,
    is_named_excluded,
    is_same_table,
)
from medkd.io.reference import OBJECT_KINDS, AnnotationSettings
from medkd.io.reference.luna16 import Luna16Annotations
from medkd.io.reference.patients import PatientsTable
from medkd.io.reference.reviews import is_reviews
from medkd.io.reference.table import SOURCES
from medkd.io.tables import header_of


def recognise_source(text: str) -> AnnotationSettings:
    """Return the settings of a source of annotations.

    Args:
        text: a file, a folder, or "sr", "seg", "rtstruct" for the objects in the archive itself.

    Raises:
        SettingsError: if it does not exist, or its form is not recognised.
    """
    path = Path(text)
    if not path.exists():
        objects = sorted(set(OBJECT_KINDS.values()))
        if text in objects:
            return _settings(text)
        known = ", ".join(objects)
        raise _refusal(text, f"no such file; {known} name the objects in the archive itself")
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            if kind := _kind_of(kind_of_file(FileRef(file), file.stat().st_size)):
                return _settings(kind, path=path)
        raise _refusal(text, "a folder without DICOM objects and without volumes")
    if is_reviews(path):
        return _settings("reviews", path=path)
    file_kind = kind_of_file(FileRef(path), path.stat().st_size)
    if file_kind.form == "table":
        return _table(path)
    if kind := _kind_of(file_kind):
        return _settings(kind, path=path)
    raise _refusal(text, f"it is no annotation: {file_kind.reason or 'a picture or scan'}")


def add_excluded(
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
    if not _has({name.strip() for name in header_of(excluded)}, NODULE_COLUMNS):
        reason = f"--excluded: expected the columns {', '.join(sorted(NODULE_COLUMNS))}; "
        reason += "describe a table with other columns in --config, counts_as: excluded"
        raise _refusal(str(excluded), reason)
    if any(is_same_table(path, excluded) for source in sources for path in _nodules_of(source)):
        raise _refusal(str(excluded), f"--excluded: {SAME_TABLE}")
    for place, source in enumerate(sources):
        if isinstance(source, Luna16Annotations):
            joined = source.model_copy(update={"excluded": excluded})
            return (*sources[:place], joined, *sources[place + 1 :])
    return (*sources, Luna16Annotations(kind="luna16", excluded=excluded))


def add_patients(
    sources: Sequence[AnnotationSettings], patients: Path
) -> tuple[AnnotationSettings, ...]:
    """Add a table of patients with the columns `seriesuid` and `patient_id`.

    Raises:
        SettingsError: if it does not exist, or lacks a column.
    """
    if not patients.is_file():
        raise _refusal(str(patients), "--patients: no such file")
    source = PatientsTable(kind="patients", path=patients)
    columns = [name.strip() for name in header_of(patients)]
    if not _has(columns, (source.key, source.patient)):
        reason = f"--patients: expected the columns {source.key} and {source.patient}, got "
        reason += f"{columns}; describe a table with other columns in --config, kind: patients"
        raise _refusal(str(patients), reason)
    return (*sources, source)


def _nodules_of(source: AnnotationSettings) -> list[Path]:
    """Return the files of a source, but not LUNA16's table of irrelevant findings."""
    if isinstance(source, Luna16Annotations):
        return [source.annotations] if source.annotations else []
    return [path for path in paths_of(source) if path.is_file()]


def _kind_of(file: FileKind) -> str | None:
    """Return the kind of source of a DICOM object or volume; None for another file."""
    if file.form == "annotation" and file.head is not None:
        return OBJECT_KINDS[file.head.sop_class]
    return "label_map" if file.form == "volume" else None


def _settings(kind: str, **paths: Path) -> AnnotationSettings:
    return SOURCES[kind].settings.model_validate({"kind": kind, **paths})


def _table(path: Path) -> AnnotationSettings:
    if is_sqlite(path):
        return _settings("lidc", path=path)
    columns = {name.strip() for name in header_of(path)}
    for kind, source in SOURCES.items():
        for name, wanted in source.columns.items():
            if _has(columns, wanted):
                return _with_excluded_beside(_settings(kind, **{name: path}))
    raise _refusal(
        str(path),
        f"its columns {sorted(columns)} are of no known set: describe them in --config, "
        "under annotations, kind: points (places) or kind: table (labels)",
    )


def _with_excluded_beside(source: AnnotationSettings) -> AnnotationSettings:
    """Add LUNA16's irrelevant findings from the folder of its nodules; keep other sources."""
    if not isinstance(source, Luna16Annotations) or source.annotations is None:
        return source
    if is_named_excluded(source.annotations):
        reason = "it contains irrelevant findings: give it with --excluded"
        raise _refusal(str(source.annotations), reason)
    return source.model_copy(update={"excluded": _excluded_beside(source.annotations)})


def _excluded_beside(nodules: Path) -> Path | None:
    """Return the table of irrelevant findings beside a table: by LUNA16's name or a similar one."""
    official = nodules.with_name(f"{EXCLUDED_NAME}.csv")
    if official.is_file():
        return official
    alike = [file for file in nodules.parent.glob("*.csv") if is_named_excluded(file)]
    return alike[0] if len(alike) == 1 and alike[0].is_file() else None


def _has(columns: Collection[str], wanted: Iterable[str]) -> bool:
    """Return whether a table has all wanted columns, ignoring case."""
    return {name.casefold() for name in columns} >= {name.casefold() for name in wanted}


def _refusal(text: str, reason: str) -> SettingsError:
    return SettingsError(f"{text}: cannot be used as annotations", [reason])
