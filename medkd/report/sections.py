"""The sections of a report. Each is built by a function of the run's contents.

A function returns None if its section does not apply to the run. To add a section, write its
function and insert it into `SECTIONS`, which fixes the order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce

from medkd.provenance import joint_origins, origin_words
from medkd.report import figures, readers, tables, words
from medkd.report.contents import RunContents
from medkd.report.shift import build_shift
from medkd.report.summary import (
    NO_TRANSFER,
    difference_words,
    main_froc,
    scored_patients,
    scored_words,
    summary_paragraphs,
)
from medkd.report.transfer import build_transfer
from medkd.types import Evaluation, Figure, Section

SectionBuilder = Callable[[RunContents], Section | None]

CLASSES = (
    "Each sample has exactly one of the classes, and its probabilities add up to 1. Each class is "
    "scored against all others together: positive are the samples of the class. Each class has its "
    "own threshold, so a sample can be called positive for several classes, or for none."
)
MEANS = "Each value is the difference of the arms' means over all labels or classes."
CANDIDATES = "candidates"
WHOLE_SCAN = "whole-scan"


def build_summary(contents: RunContents) -> Section:
    """Summarise the results in sentences."""
    return Section("summary", "What was found", summary_paragraphs(contents))


def build_warnings(contents: RunContents) -> Section:
    """List everything that a reader must know before trusting a number."""
    evaluation = contents.evaluation
    found = [*evaluation.warnings, *_froc_warnings(evaluation), *_gaps(contents)]
    given = " ".join(evaluation.warnings).casefold()
    if evaluation.transfer_took_place is False and "no transfer took place" not in given:
        found.insert(0, NO_TRANSFER)
    paragraphs = tuple(dict.fromkeys(found)) or ("None were recorded.",)
    return Section("warnings" if found else "no-warnings", "Warnings", paragraphs)


def _froc_warnings(evaluation: Evaluation) -> Iterable[str]:
    for arm in evaluation.arms:
        for result in arm.froc:
            for warning in result.warnings:
                if warning not in evaluation.warnings:
                    yield f"FROC, {result.track}, {arm.name}: {warning}"


def _gaps(contents: RunContents) -> Iterable[str]:
    if contents.cases is None:
        yield "The run has no cases.csv, so it is not known which cases were not analysed."
    if "student" not in contents.logs and any(
        a.name == "student" for a in contents.evaluation.arms
    ):
        yield "The run has no training log of the student, so its loss terms cannot be shown."
    if contents.evaluation.record.git_dirty:
        yield (
            "The code had uncommitted changes, so the recorded commit is not enough to reproduce "
            "this run."
        )


def build_data(contents: RunContents) -> Section:
    """Describe the training data, the splits, and the difference in prevalence."""
    evaluation = contents.evaluation
    paragraphs = [
        f"Data set: {evaluation.dataset}.",
        f"Source domain (the teacher's data): {evaluation.source_data}.",
        f"Target domain (the student's and the control's data): {evaluation.target_data}.",
        *_origins(evaluation),
        *_prevalence_shift(evaluation),
    ]
    made = [tables.arms_table(evaluation.arms)]
    if evaluation.splits:
        made.append(tables.splits_table(evaluation.splits))
    if tables.ordered_splits(evaluation):
        made.append(tables.prevalence_table(evaluation))
    return Section("data", "Training and test data", tuple(paragraphs), tuple(made))


def _origins(evaluation: Evaluation) -> Iterable[str]:
    """Yield the numbers of synthetic and real cases in each split, if any is synthetic."""
    if any(found.synthetic for found in evaluation.origins.values()):
        whole = reduce(joint_origins, evaluation.origins.values())
        parts = "; ".join(f"{name}: {origin_words(o)}" for name, o in evaluation.origins.items())
        yield f"Origin of the cases in this run: {origin_words(whole)} ({parts})."


def _prevalence_shift(evaluation: Evaluation) -> Iterable[str]:
    val, test = (tables.results_on(evaluation, split) for split in ("val", "test"))
    if len(val) != 1 or len(test) != 1:  # with several labels only the table shows prevalences
        return
    before = next(iter(val[0].values())).prevalence
    after = next(iter(test[0].values())).prevalence
    points = 100 * (after - before)
    yield (
        f"Prevalence shift: {words.percent(before)} of the validation samples and "
        f"{words.percent(after)} of the test samples are positive ({words.signed(points, 1)} "
        "percentage points). Temperature and threshold were fixed on validation. A change of "
        "prevalence alone changes precision, F1, accuracy and calibration, but not ROC AUC, "
        "sensitivity and specificity."
    )


def build_arms(contents: RunContents) -> Section | None:
    """Compare teacher, control and student side by side."""
    evaluation = contents.evaluation
    scored = tables.every_result(evaluation)
    if not scored:
        return None
    intervals = [i for _, results in scored for i in tables.intervals_of(results)]
    of_classes = tables.class_accuracy_table(evaluation, tables.ordered_splits(evaluation))
    paragraphs = (
        "Probabilities are calibrated on validation: by a temperature, and by a shift of the logit "
        "if the training samples had a different prevalence. The operating point is a threshold "
        "chosen on validation. A sample is called positive if its probability is at least this "
        "threshold.",
        *([CLASSES] if of_classes else []),
        words.interval_words(intervals),
    )
    made = [] if of_classes is None else [of_classes]
    made += [tables.scores_table(results, split) for split, results in scored]
    return Section("arms", "Arms side by side", paragraphs, tuple(made))


def build_differences(contents: RunContents) -> Section | None:
    """Show the paired differences between arms and how they were computed."""
    differences = contents.evaluation.differences
    if not differences:
        return None
    patients = scored_patients(contents.evaluation)
    method = words.interval_words(found.difference.interval for found in differences)
    paragraphs = (
        "Both arms are scored on the same patients. Each resample draws patients for both arms "
        "together and computes the difference of the arms; the interval is the percentile range "
        f"of these differences. {method}",
        *([MEANS] if len(tables.results_on(contents.evaluation, "test")) > 1 else []),
        "One primary comparison was named in the settings before the run. The p values of the "
        "others are adjusted for multiple testing (Holm).",
        f"Each arm was trained once here (seed {contents.evaluation.record.seed}). The intervals "
        "therefore cover the choice of patients, but not the variation between trainings. The "
        "command medkd bench repeats the run with several seeds and resamples these too.",
        *(difference_words(found, patients=patients) for found in differences if found.primary),
    )
    ordered = sorted(differences, key=lambda found: not found.primary)
    return Section(
        "differences",
        "Paired differences",
        paragraphs,
        (tables.differences_table(differences),),
        (figures.differences_figure(ordered),),
    )


def build_curves(contents: RunContents) -> Section | None:
    """Draw ROC, precision-recall and reliability curves."""
    for split in tables.ordered_splits(contents.evaluation)[:1]:
        drawn: list[Figure] = []
        for results in tables.results_on(contents.evaluation, split):
            where = tables.where_scored(split, results)
            drawn += (
                figures.roc_figure(results, where),
                figures.pr_figure(results, where),
                figures.reliability_figure(results, where),
            )
        return Section("curves", f"Curves on the {split} split", (), (), tuple(drawn))
    return None


def build_candidates_froc(contents: RunContents) -> Section | None:
    """Show the FROC of the given candidates, scored by each arm."""
    about = (
        "False-positive reduction: each arm scores a given list of candidates; nothing is "
        "searched. Every arm misses a nodule that has no candidate in this list."
    )
    return _froc(contents, CANDIDATES, "FROC, candidates track", about)


def build_whole_scan_froc(contents: RunContents) -> Section | None:
    """Show the FROC of the marks that each arm places on whole scans."""
    about = "Detection: each arm searches whole scans and places its own marks."
    return _froc(contents, WHOLE_SCAN, "FROC, whole-scan marks", about)


def build_other_froc(contents: RunContents) -> Section | None:
    """Show the FROC of the first track with another name, under that name."""
    known = (CANDIDATES, WHOLE_SCAN)
    for arm in contents.evaluation.arms:
        for result in arm.froc:
            if result.track not in known:
                about = f"The run calls this track {result.track}."
                return _froc(contents, result.track, f"FROC, {result.track}", about)
    return None


def _froc(contents: RunContents, track: str, title: str, about: str) -> Section | None:
    results = tables.froc_on(contents.evaluation, track)
    if not results:
        return None
    point = tables.froc_point_table(results)
    made = [tables.froc_scores_table(results), tables.froc_counts_table(results)]
    scored = filter(None, [scored_words(contents.evaluation)])
    intervals = words.interval_words(result.interval for result in results.values())
    paragraphs = (about, *scored, *contents.evaluation.record.phantoms, intervals)
    return Section(
        f"froc-{track}" if track in (CANDIDATES, WHOLE_SCAN) else "froc-other",
        title,
        paragraphs,
        (*made, *([] if point is None else [point]), tables.froc_rules_table(results)),
        (figures.froc_figure(results, title),),
    )


def build_readers(contents: RunContents) -> Section | None:
    """Show the point of each reader in the FROC plot, and how far the readers agree."""
    study = contents.readers
    if study is None:
        return None
    made, drawn, paragraphs = [], [], []
    if study.points:
        paragraphs += [readers.POINTS, *readers.points_words(study)]
        made.append(readers.points_table(study))
        results = main_froc(contents.evaluation)
        title = "FROC of the models, with the readers as crosses"
        drawn += [figures.froc_figure(results, title, study.points)] if results else []
    if study.pairs:
        kappas = (pair.kappa.interval for pair in study.pairs if pair.kappa is not None)
        paragraphs += [readers.KAPPA, words.interval_words(kappas)]
        made.append(readers.agreement_table(study))
    return Section("readers", "Readers", tuple(paragraphs), tuple(made), tuple(drawn))


def build_operating_point(contents: RunContents) -> Section | None:
    """Show how the thresholds were chosen, and the decisions at them."""
    evaluation = contents.evaluation
    scored = tables.every_result(evaluation)
    if not scored:
        return None
    paragraph = (
        "Thresholds were chosen on validation and stored in the model directories before the "
        "test split was scored."
    )
    made = [tables.operating_points_table(evaluation)]
    made += [tables.confusion_table(results, split) for split, results in scored]
    return Section("operating-point", "Operating point", (paragraph,), tuple(made))


def build_efficiency(contents: RunContents) -> Section | None:
    """Show the cost of each arm."""
    arms = contents.evaluation.arms
    if all(arm.efficiency is None for arm in arms):
        return None
    paragraph = (
        "MACs (multiply-accumulate operations) and latency are for one input. Latency is the "
        "median of repeated runs on the machine of the run record. The runs of all arms alternate. "
        "Networks of the same architecture are timed once and share the latency."
    )
    return Section("efficiency", "Cost", (paragraph,), (tables.efficiency_table(arms),))


def build_not_analysed(contents: RunContents) -> Section:
    """List the cases that were not analysed, with their reasons."""
    title = "Cases that were not analysed"
    if contents.cases is None:
        return Section("not-analysed", title, ("Not known: the run has no cases.csv.",))
    refused = contents.not_analysed
    if not refused:
        return Section("not-analysed", title, ("None: every case was analysed.",))
    paragraph = (
        "Not analysed does not mean no findings: these cases must be read without the model."
    )
    table = tables.not_analysed_table(refused)
    return Section("not-analysed", title, (paragraph,), (table,))


def build_record(contents: RunContents) -> Section:
    """Show the run record."""
    return Section("record", "Run record", (), (tables.record_table(contents.evaluation.record),))


def build_config(contents: RunContents) -> Section:
    """Show the resolved settings of the run."""
    return Section("config", "Resolved settings", listing=contents.config_text)


SECTIONS: tuple[SectionBuilder, ...] = (
    build_summary,
    build_warnings,
    build_data,
    build_shift,
    build_arms,
    build_differences,
    build_transfer,
    build_curves,
    build_candidates_froc,
    build_whole_scan_froc,
    build_other_froc,
    build_readers,
    build_operating_point,
    build_efficiency,
    build_not_analysed,
    build_record,
    build_config,
)
