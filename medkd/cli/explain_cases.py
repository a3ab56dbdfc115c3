"""`medkd explain`: write heat maps of the cases of a RUN or RESULTS, and the disagreements."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medkd.cli.options import ResumeOption, split_commas

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medkd.explain.run import Written
    from medkd.models.package import LoadedModel
    from medkd.review.opened import Review
    from medkd.runs import Disagreement
    from medkd.types import RunCase

_SHOWN = 5

ModelOption = Annotated[
    str | None,
    typer.Option(help="For RESULTS: the model that was searched with; default: ct-nodule-small."),
]
CasesOption = Annotated[
    str, typer.Option(help="Only these cases, separated by commas; default: all analysed cases.")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("explain")(explain)


def explain(
    place: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|RESULTS",
            help="The output folder of `medkd train`, `medkd demo` or `medkd detect`.",
        ),
    ],
    *,
    model: ModelOption = None,
    index: Annotated[
        Path | None, typer.Option(help="For RESULTS of a pseudonymised INDEX: that index.csv.")
    ] = None,
    cases: CasesOption = "",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")] = "cpu",
    resume: ResumeOption = False,
) -> None:
    """Write the heat maps that `medkd review` lays over the images.

    CT: the calibrated nodule probability at every place that the model scores around the lungs,
    and for patch classifiers also Grad-CAM of the ten highest marks. X-ray: Grad-CAM of each label.
    Grad-CAM shows which parts of the image raised the output, as coarsely as the last layer of the
    network; it does not prove that the model saw the finding.

    A RUN gets the maps of teacher and student, and explain/disagreement.csv: the places or images
    where their calibrated probabilities differ most. The maps are in the folder explain/ of the RUN
    or RESULTS; a CT takes about 0.2 MB and the time of a search per model. --resume skips cases
    that already have their maps.

    Example: `medkd explain runs/ct`

    Example: `medkd explain found --cases 1.2.840.1`
    """
    from medkd.cli.progress import progress_bars
    from medkd.explain.run import build_explainers, explain_cases
    from medkd.review.explained import explained_folder
    from medkd.review.opened import image_opener, open_review

    review = open_review(place, index=index)
    chosen = _choose_cases(review, split_commas(cases))
    models = _load_models(review, model, device)
    explainers, unfit = build_explainers(models, chosen[0].kind)
    for arm, reason in unfit.items():
        typer.secho(f"{arm}: no heat map: {reason}", fg=typer.colors.YELLOW, err=True)
    folder = explained_folder(review)
    with progress_bars() as report:
        written = explain_cases(
            chosen,
            explainers,
            open_image=image_opener(review),
            folder=folder,
            resume=resume,
            progress=lambda done, total: report("explaining cases", done, total, ""),
        )
    _print_written(written, folder.path)
    if review.kind == "RUN" and {"teacher", "student"} <= set(models):
        labels = models["student"].info.label_names
        _write_disagreements(review, chosen, labels)
    if written.refused and not written.cases:
        raise typer.Exit(1)


def _choose_cases(review: Review, names: Sequence[str]) -> list[RunCase]:
    from medkd.errors import SettingsError
    from medkd.review.cases import find_case
    from medkd.review.opened import read_worklist

    if review.kind == "INDEX":
        reason = "search it first: medkd detect INDEX --out RESULTS"
        raise SettingsError(f"{review.path}: an INDEX has no model to explain", [reason])
    every = read_worklist(review)
    chosen = [find_case(every, [name]) for name in names] or every
    analysed = [case for case in chosen if case.status == "analysed"]
    if not analysed:
        raise SettingsError(f"{review.path}: nothing to explain", ["no case was analysed"])
    return analysed


def _load_models(review: Review, name: str | None, device: str) -> dict[str, LoadedModel]:
    """Return the models by arm; the model of RESULTS must be the one that was searched with."""
    from medkd.detect.jobs import hash_of_model
    from medkd.errors import SettingsError
    from medkd.models.package import load_model
    from medkd.models.shipped import DEFAULT_DETECTOR

    if review.kind == "RUN":
        if name is not None:
            reason = "a RUN contains its models: leave --model out"
            raise SettingsError(f"--model {name}: not used", [reason])
        arms = [arm for arm in ("teacher", "student") if review.run.model(arm).is_dir()]
        return {arm: load_model(review.run.model(arm), device=device) for arm in arms}
    loaded = load_model(name or DEFAULT_DETECTOR, device=device)
    if hash_of_model(loaded.info) != review.results.read_record().model:
        reason = "give the model that was searched with: --model MODEL"
        raise SettingsError(f"{name or DEFAULT_DETECTOR}: not the model of {review.path}", [reason])
    return {"": loaded}


def _print_written(written: Written, folder: Path) -> None:
    for case_id, reasons in written.refused.items():
        lines = "".join(f"\n  - {reason}" for reason in reasons)
        typer.secho(f"no heat map: {case_id}{lines}", fg=typer.colors.RED, err=True)
    size_mb = written.size_bytes / 1e6
    typer.echo(f"{written.cases} cases, {written.maps} heat maps, {size_mb:.2f} MB: {folder}")


def _write_disagreements(review: Review, cases: Sequence[RunCase], labels: Sequence[str]) -> None:
    from medkd.explain.run import find_disagreements
    from medkd.runs import write_disagreements

    rows = find_disagreements(review.run, cases, labels)
    path = review.run.explained.disagreements
    write_disagreements(path, rows)
    typer.echo(f"{len(rows)} disagreements of teacher and student: {path}")
    for row in rows[:_SHOWN]:
        typer.echo(f"  {_words(row)}")


def _words(row: Disagreement) -> str:
    from medkd.review.history import point_words

    place = f" at {point_words(row.center_mm)}" if row.center_mm else ""
    return f"{row.case_id}{place}: teacher {row.teacher:.3f}, student {row.student:.3f}"
