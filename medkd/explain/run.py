"""Write the heat maps of many cases, one file per map, and the table of disagreements."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from medkd.detect.radiographs import check_image_model
from medkd.detect.view import check_model
from medkd.errors import CheckpointError, SeriesError
from medkd.explain.disagreement import (
    compare_maps,
    compare_predictions,
    order_disagreements,
    probability_maps,
)
from medkd.explain.maps import Explainer
from medkd.io.heat_maps import SUFFIX, read_heat_map, write_heat_map
from medkd.models.package import LoadedModel
from medkd.runs import Disagreement, ExplainedFolder, RunFolder, read_predictions
from medkd.types import Radiograph, RunCase, Scan

SPLITS = ("val", "test")
OpenImage = Callable[[RunCase], Scan | Radiograph]


@dataclass(slots=True)
class Written:
    """What `explain_cases` wrote: cases, files and bytes; and the reasons of cases without maps."""

    cases: int = 0
    maps: int = 0
    size_bytes: int = 0
    refused: dict[str, tuple[str, ...]] = field(default_factory=dict)


def build_explainers(
    models: Mapping[str, LoadedModel], kind: Literal["scan", "image"]
) -> tuple[list[Explainer], dict[str, str]]:
    """Return the explainers of the models that can be explained, and why the others cannot.

    Args:
        models: by arm.
        kind: the kind of the cases.

    Raises:
        CheckpointError: if no model can be explained; lists all reasons.
    """
    fit, unfit = [], {}
    for arm, model in models.items():
        explainer = Explainer(model, arm)
        try:
            if kind == "scan":
                check_model(model)
            else:
                check_image_model(model)
        except CheckpointError as error:
            unfit[arm] = str(error)
            continue
        if kind == "image" and explainer.no_grad_cam:
            unfit[arm] = explainer.no_grad_cam
        else:
            fit.append(explainer)
    if not fit:
        reasons = [f"{arm or 'model'}: {reason}" for arm, reason in unfit.items()]
        raise CheckpointError(f"no heat maps of {kind}s", reasons)
    return fit, unfit


def explain_cases(
    cases: Sequence[RunCase],
    explainers: Sequence[Explainer],
    *,
    open_image: OpenImage,
    folder: ExplainedFolder,
    resume: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Written:
    """Write the heat maps of cases.

    Args:
        cases: analysed cases.
        explainers: of the models.
        open_image: opens the image of a case.
        folder: receives a folder per case.
        resume: skip cases that have a map of every model.
        progress: called with (cases done, total).

    Returns:
        What was written; a case that cannot be read or has no lungs is refused with reasons.
    """
    written = Written()
    for done, case in enumerate(cases, start=1):
        home = folder.heat_maps(case.case_id)
        if not (resume and _is_done(home, explainers)):
            try:
                _explain(open_image(case), explainers, home, written)
            except SeriesError as error:
                written.refused[case.case_id] = error.reasons or (error.headline,)
        if progress is not None:
            progress(done, len(cases))
    return written


def _explain(
    image: Scan | Radiograph, explainers: Sequence[Explainer], home: Path, written: Written
) -> None:
    for explainer in explainers:
        if isinstance(image, Scan):
            maps = explainer.explain_scan(image)
        else:
            maps = explainer.explain_radiograph(image)
        for one in maps:
            written.size_bytes += write_heat_map(home, one).stat().st_size
        written.maps += len(maps)
    written.cases += 1


def _is_done(home: Path, explainers: Sequence[Explainer]) -> bool:
    arms = {read_heat_map(path).arm for path in home.glob(f"*{SUFFIX}")}
    return {explainer.arm for explainer in explainers} <= arms


def find_disagreements(
    run: RunFolder, cases: Iterable[RunCase], labels: Sequence[str]
) -> list[Disagreement]:
    """Return the greatest disagreements of teacher and student in a RUN, greatest first.

    Args:
        run: with the heat maps of its scans, or the predictions of both arms.
        cases: the cases to compare.
        labels: names of the labels of both models.
    """
    rows: list[Disagreement] = []
    compared = set()
    chosen = {case.case_id for case in cases}
    for case_id in chosen:
        files = run.explained.heat_maps(case_id).glob(f"*{SUFFIX}")
        maps = probability_maps(map(read_heat_map, files))
        if {"teacher", "student"} <= set(maps):
            compared.add(case_id)
            rows += compare_maps(case_id, maps["teacher"], maps["student"])
    for split in SPLITS:
        paths = [run.predictions(arm, split) for arm in ("teacher", "student")]
        if all(path.is_file() for path in paths):
            teacher, student = map(read_predictions, paths)
            listed = compare_predictions(teacher, student, labels)
            rows += [row for row in listed if row.case_id in chosen - compared]
    return order_disagreements(rows)
