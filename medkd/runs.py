"""The output folders of `medkd train` (RUN) and `medkd detect` (RESULTS), and their files.

A folder is a RUN if it contains run.json, and RESULTS if it contains detect.record; both state the
version of their format.

RUN/config.yaml                  the resolved settings
RUN/run.json                     the run record (`RunRecord`)
RUN/teacher, control, student    model directories
RUN/training/<arm>/log.csv       one row per epoch; `events/` for TensorBoard; `state/` to resume
RUN/predictions/<arm>_<split>.csv
RUN/evaluations/<arm>.json       the scores of one arm (`ArmResult`)
RUN/reference/                   annotations.csv, annotations_excluded.csv, seriesuids.csv (CT)
RUN/marks/<arm>.csv              whole-scan marks, LUNA16 submission columns (CT)
RUN/results/<arm>/<case>.json    one `CaseResult` per scan (CT)
RUN/cases.csv                    the cases that the viewer shows (`RunCase`)
RUN/evaluation.json              `Evaluation`
RUN/report.html, report.json, report.csv
RUN/explain/                     heat maps and disagreements (`ExplainedFolder`)
RUN/label_next.csv               training cases without labels, by disagreement (`Disagreement`)
RUN/review.sqlite                decisions of readers

RESULTS/detect.record            JSON: model, settings, version, inputs (`SearchRecord`)
RESULTS/<case>.json              one `CaseResult` per scan or radiograph, including refused ones
RESULTS/results.csv              one row per mark of a scan, or per radiograph
RESULTS/results.html             the scans with pictures of their first marks (CT)
RESULTS/thumbnails/<key>.json    these pictures, by the key of the input
RESULTS/explain/                 heat maps (`ExplainedFolder`)
RESULTS/review.sqlite            decisions of readers

explain/<sha256 of case id>/<map>.npz   heat maps of a case (`io.heat_maps`)
explain/disagreement.csv         where teacher and student of a RUN disagree most (`Disagreement`)
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from medkd import __version__
from medkd.errors import CheckpointError, SeriesError
from medkd.files import write_text
from medkd.formats import RESULTS
from medkd.jsonio import read_json
from medkd.provenance import sha256_of_text
from medkd.types import CaseResult, RunCase

ARMS = ("teacher", "control", "student")
Split = Literal["train", "val", "test"]


@dataclass(frozen=True, slots=True)
class Prediction:
    """The output of an arm for one sample: for each of K labels a logit and a probability.

    `labels` are 0 or 1, or None if not known. `logits` are not calibrated, `probabilities` are.
    `center_mm` (LPS) is the position of a candidate, None for a whole image. `seriesuid` names the
    scan or image that contains the sample.
    """

    sample_id: str
    patient_id: str
    seriesuid: str
    labels: tuple[int | None, ...]
    logits: tuple[float, ...]
    probabilities: tuple[float, ...]
    center_mm: tuple[float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class Disagreement:
    """The calibrated probabilities of teacher and student for one place or image.

    `center_mm` (LPS) is the place in a scan, None for a whole image. `label` is the output.
    """

    case_id: str
    label: str
    teacher: float
    student: float
    center_mm: tuple[float, float, float] | None = None

    @property
    def difference(self) -> float:
        """How much higher the student's probability is; negative if it is lower."""
        return self.student - self.teacher


@dataclass(frozen=True, slots=True)
class ExplainedFolder:
    """The paths of what `medkd explain` writes into a RUN or RESULTS."""

    path: Path

    def heat_maps(self, case_id: str) -> Path:
        """Folder of the heat maps of a case; its name is valid whatever the case id is."""
        return self.path / sha256_of_text(case_id)[:32]

    @property
    def disagreements(self) -> Path:
        """The table of the greatest disagreements, written when all cases are done."""
        return self.path / "disagreement.csv"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The paths of the files in one RUN."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved settings."""
        return self.path / "config.yaml"

    @property
    def record(self) -> Path:
        """The run record."""
        return self.path / "run.json"

    @property
    def evaluation(self) -> Path:
        """The evaluation that report and app read."""
        return self.path / "evaluation.json"

    @property
    def report(self) -> Path:
        """The self-contained HTML; `.json` and `.csv` of the same name contain its numbers."""
        return self.path / "report.html"

    @property
    def cases(self) -> Path:
        """The worklist."""
        return self.path / "cases.csv"

    @property
    def label_next(self) -> Path:
        """The training cases without labels, those to label first at the top."""
        return self.path / "label_next.csv"

    @property
    def review(self) -> Path:
        """The decisions of readers."""
        return self.path / "review.sqlite"

    @property
    def reference(self) -> Path:
        """Folder of the reference standard in LUNA16's CSV layout."""
        return self.path / "reference"

    @property
    def reference_tables(self) -> tuple[Path, ...]:
        """The tables of the reference standard; a run of images has none."""
        names = ("seriesuids.csv", "annotations.csv", "annotations_excluded.csv")
        return tuple(self.reference / name for name in names)

    @property
    def explained(self) -> ExplainedFolder:
        """Heat maps and disagreements."""
        return ExplainedFolder(self.path / "explain")

    def model(self, arm: str) -> Path:
        """The model directory of an arm."""
        return self.path / arm

    def training(self, arm: str) -> Path:
        """Logs and resume state of an arm."""
        return self.path / "training" / arm

    def log(self, arm: str) -> Path:
        """The training log, one row per epoch."""
        return self.training(arm) / "log.csv"

    def predictions(self, arm: str, split: str) -> Path:
        """The predictions for one split, one row per sample."""
        return self.path / "predictions" / f"{arm}_{split}.csv"

    def marks(self, arm: str) -> Path:
        """The whole-scan marks of an arm."""
        return self.path / "marks" / f"{arm}.csv"

    def arm_result(self, arm: str) -> Path:
        """The evaluation of one arm without its costs, which are measured for all arms at once."""
        return self.path / "evaluations" / f"{arm}.json"

    def result(self, arm: str, case_id: str) -> Path:
        """The whole-scan output of an arm for one scan."""
        return self.path / "results" / arm / f"{case_id}.json"


@dataclass(frozen=True, slots=True)
class SearchRecord:
    """The model, settings and inputs of a search; a stopped search resumes only if they are equal.

    `model` is the sha256 of the model's description, which includes the sha256 of its weights.
    `inputs` is the sha256 of the list of inputs, `cases` their number. `threshold` is the model's
    frozen threshold (None: it has none), `labels` are the names of its outputs, and `notes` are the
    statements about the model that every page must repeat (None: not recorded).
    """

    kind: Literal["scan", "image"]
    model: str
    inputs: str
    cases: int
    settings: dict[str, Any] = field(default_factory=dict)
    medkd_version: str = __version__
    threshold: float | None = None
    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] | None = None
    format_version: int = RESULTS.version


@dataclass(frozen=True, slots=True)
class ResultsFolder:
    """The paths of the files in one folder of RESULTS."""

    path: Path

    @property
    def record(self) -> Path:
        """The record of the search; a folder with this file is RESULTS."""
        return self.path / "detect.record"

    @property
    def table(self) -> Path:
        """The table of results: one row per mark of a scan, or per radiograph."""
        return self.path / "results.csv"

    @property
    def page(self) -> Path:
        """The page of scan results; one self-contained HTML file."""
        return self.path / "results.html"

    @property
    def thumbnails(self) -> Path:
        """Folder of the pictures on the page."""
        return self.path / "thumbnails"

    @property
    def explained(self) -> ExplainedFolder:
        """Heat maps."""
        return ExplainedFolder(self.path / "explain")

    @property
    def review(self) -> Path:
        """The decisions of readers."""
        return self.path / "review.sqlite"

    def read_record(self) -> SearchRecord:
        """Read the record of the search.

        Raises:
            CheckpointError: if it is missing, is not a record, or has an unsupported version.
        """
        return read_json(self.record, SearchRecord, form=RESULTS)

    def read(self) -> list[CaseResult]:
        """Read every finished result; files of another kind are skipped."""
        found = []
        for path in sorted(self.path.glob("*.json")):
            try:
                found.append(read_json(path, CaseResult))
            except CheckpointError:  # a scan-level score, or a file that a full disk cut off
                continue
        return found


def write_predictions(
    path: Path, predictions: Sequence[Prediction], label_names: Sequence[str] = ("",)
) -> None:
    """Write predictions as CSV, atomically.

    Args:
        path: the file.
        predictions: predictions for K labels.
        label_names: K names. With one label the columns are `label, logit, probability`; with
            several they are `label:NAME` and so on. A label that is not known is an empty cell.
    """
    named = [f":{name}" if len(label_names) > 1 else "" for name in label_names]
    columns = [f"{what}{name}" for name in named for what in _VALUES]
    rows = [
        [
            row.sample_id,
            row.patient_id,
            row.seriesuid,
            *chain.from_iterable(zip(row.labels, row.logits, row.probabilities, strict=True)),
            *(row.center_mm or ("", "", "")),
        ]
        for row in predictions
    ]
    _write_csv(path, [*_NAMES, *columns, *_PLACE], rows)


_NAMES = ("sample_id", "patient_id", "seriesuid")
_VALUES = ("label", "logit", "probability")
_PLACE = ("coordX", "coordY", "coordZ")


def read_predictions(path: Path) -> list[Prediction]:
    """Read the predictions in a file of `write_predictions`.

    Raises:
        SeriesError: if the file is missing or a row is not valid; the error names the row.
    """
    return [_prediction(path, number, row) for number, row in enumerate(_read_csv(path), start=2)]


def write_cases(path: Path, cases: Sequence[RunCase]) -> None:
    """Write the worklist as CSV, atomically."""
    rows = [asdict(case) | {"reasons": json.dumps(case.reasons)} for case in cases]
    _write_csv(path, list(RunCase.__dataclass_fields__), [list(row.values()) for row in rows])


def read_cases(path: Path) -> list[RunCase]:
    """Read the cases in a file of `write_cases`.

    Raises:
        SeriesError: if the file is missing or a row is not valid; the error names the row.
    """
    return [_case(path, number, row) for number, row in enumerate(_read_csv(path), start=2)]


def write_disagreements(path: Path, rows: Sequence[Disagreement]) -> None:
    """Write disagreements as CSV, atomically, in the given order."""
    cells = [
        (row.case_id, row.label, row.teacher, row.student, *(row.center_mm or ("", "", "")))
        for row in rows
    ]
    _write_csv(path, ["case_id", "label", "teacher", "student", *_PLACE], cells)


def read_disagreements(path: Path) -> list[Disagreement]:
    """Read the disagreements in a file of `write_disagreements`.

    Raises:
        SeriesError: if the file is missing or a row is not valid; the error names the row.
    """
    return [_disagreement(path, number, row) for number, row in enumerate(_read_csv(path), start=2)]


def write_label_next(path: Path, rows: Sequence[Disagreement]) -> None:
    """Write the ranking of cases without labels as CSV, atomically, in the given order.

    `read_disagreements` reads it too.

    Args:
        path: the file.
        rows: one for each case; `label` and place are those of the greatest disagreement.
    """
    cells = [
        (
            rank,
            row.case_id,
            row.label,
            row.teacher,
            row.student,
            abs(row.difference),
            *(row.center_mm or ("", "", "")),
        )
        for rank, row in enumerate(rows, start=1)
    ]
    columns = ["rank", "case_id", "label", "teacher", "student", "disagreement", *_PLACE]
    _write_csv(path, columns, cells)


def _write_csv(path: Path, columns: list[str], rows: Iterable[Sequence[object]]) -> None:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_text(path, stream.getvalue())


def _read_csv(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise SeriesError(f"{path}: no such file", ["run `medkd train` to its end first"])
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _prediction(path: Path, number: int, row: dict[str, str]) -> Prediction:
    try:
        labels, logits, probabilities = (
            [cell for column, cell in row.items() if column.partition(":")[0] == what]
            for what in _VALUES
        )
        return Prediction(
            sample_id=row["sample_id"],
            patient_id=row["patient_id"],
            seriesuid=row["seriesuid"],
            labels=tuple(int(cell) if cell else None for cell in _required(labels)),
            logits=tuple(map(float, logits)),
            probabilities=tuple(map(float, probabilities)),
            center_mm=_place([row[name] for name in _PLACE]),
        )
    except (KeyError, ValueError, AttributeError) as error:
        raise SeriesError(f"{path}: row {number} is not a prediction", [repr(error)]) from error


def _disagreement(path: Path, number: int, row: dict[str, str]) -> Disagreement:
    try:
        return Disagreement(
            row["case_id"],
            row["label"],
            float(row["teacher"]),
            float(row["student"]),
            _place([row[name] for name in _PLACE]),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise SeriesError(f"{path}: row {number} is not a disagreement", [repr(error)]) from error


def _place(cells: Sequence[str]) -> tuple[float, float, float] | None:
    return (float(cells[0]), float(cells[1]), float(cells[2])) if cells[0] else None


def _required(cells: list[str]) -> list[str]:
    if not cells:
        raise KeyError("label")
    return cells


def _case(path: Path, number: int, row: dict[str, str]) -> RunCase:
    try:
        return RunCase(
            case_id=row["case_id"],
            patient_id=row["patient_id"],
            kind="scan" if row["kind"] == "scan" else "image",
            path=row["path"],
            split=row["split"],
            row=int(row["row"]) if row["row"] else None,
            label=int(row["label"]) if row["label"] else None,
            score=float(row["score"]) if row["score"] else None,
            status="analysed" if row["status"] == "analysed" else "not_analysed",
            reasons=tuple(json.loads(row["reasons"] or "[]")),
        )
    except (KeyError, ValueError) as error:
        raise SeriesError(f"{path}: row {number} is not a case", [repr(error)]) from error
