"""The tables of a report, which arrange the numbers that the run computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from medkd.evaluate.caution import classification_caution, froc_caution, sentence
from medkd.report import words
from medkd.types import (
    CPM_RATES,
    ArmResult,
    ClassificationResult,
    Estimate,
    Evaluation,
    Fidelity,
    FrocResult,
    Interval,
    PairedDifference,
    PointScores,
    RunCase,
    RunRecord,
    Table,
    TermRecord,
)

SPLIT_ORDER = ("test", "val")
FALSE_POSITIVES = "False positives per scan"
FP_PER_SCAN = "FP per scan"

FROC_RULES = (
    (
        "Localisation criterion",
        "A mark hits a nodule if its distance from the nodule's centre is strictly less than the "
        "nodule's radius (LPS mm).",
    ),
    (
        "Assignment",
        "Marks inside a nodule are not false positives. The mark with the highest score is the "
        "nodule's hit, the others are ignored. A mark inside two nodules counts for both.",
    ),
    (
        "Ignore list",
        "A mark on an excluded finding (annotations_excluded.csv) is neither a hit nor a false "
        "positive. A diameter below zero in this table is read as 10 mm.",
    ),
    (
        "Cap",
        "At most 100 marks per scan. If a scan has more, only the marks with a score strictly "
        "above the 101st are kept.",
    ),
    (
        "CPM, interpolated",
        "Mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives per scan, by linear "
        "interpolation of the curve. Beyond its last mark the curve is extended flat (dotted).",
    ),
    (
        "CPM, nearest curve point",
        "As on the LUNA16 leaderboard: mean sensitivity of the curve points that are nearest to "
        "the seven rates.",
    ),
)
"""LUNA16's rules, which `medkd/evaluate/froc.py` implements. Other rules give other numbers."""

Results = dict[str, ClassificationResult]
"""Maps each arm to its scores on one split."""


def ordered_splits(evaluation: Evaluation) -> tuple[str, ...]:
    """Return every split that an arm was scored on, test first."""
    found = {split for arm in evaluation.arms for split in arm.classification}
    first = [split for split in SPLIT_ORDER if split in found]
    return (*first, *sorted(found.difference(SPLIT_ORDER)))


def results_on(evaluation: Evaluation, split: str) -> list[Results]:
    """Return one entry per label: each arm's scores on a split, if the arm has them."""
    scored = {a.name: a.classification[split] for a in evaluation.arms if split in a.classification}
    labels = range(min(map(len, scored.values()), default=0))
    return [{name: results[label] for name, results in scored.items()} for label in labels]


def every_result(evaluation: Evaluation) -> list[tuple[str, Results]]:
    """Return (split, scores) for every split and label, test split first."""
    splits = ordered_splits(evaluation)
    return [(split, results) for split in splits for results in results_on(evaluation, split)]


def where_scored(split: str, results: Results) -> str:
    """Return the name of a split, with the label if there are several."""
    label = next(iter(results.values())).label
    return f"{split} split, {label}" if label else f"{split} split"


def froc_on(evaluation: Evaluation, track: str) -> dict[str, FrocResult]:
    """Return each arm's FROC on a track; arms without one are omitted."""
    return {
        arm.name: result for arm in evaluation.arms for result in arm.froc if result.track == track
    }


def arms_table(arms: Sequence[ArmResult]) -> Table:
    """List the arms with model, initialisation and training data."""
    rows = [(arm.name, arm.model, arm.initialisation, arm.trained_on) for arm in arms]
    columns = ("Arm", "Model", "Initialised from", "Trained on")
    return Table(columns, tuple(rows), "The arms")


def scores_table(results: Results, split: str) -> Table:
    """Compare the arms on one split, one metric per row."""
    first = next(iter(results.values()))
    rows = [
        (name, *(read(result) for result in results.values()))
        for name, read in _score_rows(results)
    ]
    caption = (
        f"Scores on the {where_scored(split, results)}: {words.count(first.samples)} samples of "
        f"{words.count(first.patients)} patients, {words.count(first.positives)} positive"
    )
    return Table(("Metric", *results), tuple(rows), _warned(caption, classification_caution(first)))


def _warned(caption: str, caution: str) -> str:
    """Append a caution about few cases to a caption."""
    return f"{caption}. {sentence(caution)}" if caution else caption


def _of_froc(caption: str, results: dict[str, FrocResult]) -> str:
    return _warned(caption, froc_caution(next(iter(results.values()))))


def _score_rows(results: Results) -> list[tuple[str, Callable[[ClassificationResult], str]]]:
    at_point = ["sensitivity", "specificity", "precision", "f1", "accuracy"]
    if any(r.at_operating_point.balanced_accuracy is not None for r in results.values()):
        at_point.append("balanced_accuracy")  # earlier runs have none
    return [
        (words.metric_words("roc_auc"), lambda r: words.estimate(r.roc_auc)),
        (words.metric_words("pr_auc"), lambda r: words.estimate(r.pr_auc)),
        *(
            (
                f"{words.metric_words(metric)} at the operating point",
                lambda r, metric=metric: words.estimate(getattr(r.at_operating_point, metric)),
            )
            for metric in at_point
        ),
        ("Accuracy at threshold 0.5", lambda r: words.estimate(r.at_half.accuracy)),
        (words.metric_words("brier"), lambda r: words.estimate(r.brier)),
        (words.metric_words("calibration_error"), lambda r: words.number(r.calibration_error)),
    ]


def class_accuracy_table(evaluation: Evaluation, splits: Sequence[str]) -> Table | None:
    """Show how often the most probable class is right; None if there are no exclusive classes."""
    shown = [arm for arm in evaluation.arms if arm.class_accuracy]
    rows = [
        (split, *(words.estimate(a.class_accuracy.get(split)) for a in shown)) for split in splits
    ]
    if not shown:
        return None
    head = ("Split", *(arm.name for arm in shown))
    return Table(head, tuple(rows), "Accuracy: share of samples whose most probable class is right")


def splits_table(splits: dict[str, dict[str, int]]) -> Table:
    """Show the counts that the run recorded for each split."""
    counted = tuple(dict.fromkeys(key for counts in splits.values() for key in counts))
    rows = [
        (name, *(words.count(counts[key]) if key in counts else "not given" for key in counted))
        for name, counts in splits.items()
    ]
    head = ("Split", *(key.replace("_", " ").capitalize() for key in counted))
    return Table(head, tuple(rows), "Splits, by patient")


def prevalence_table(evaluation: Evaluation) -> Table:
    """Show the prevalence of positive samples in each scored split."""
    rows = []
    for split, results in every_result(evaluation):
        result = next(iter(results.values()))
        counts = (words.count(n) for n in (result.samples, result.patients, result.positives))
        where = f"{split}, {result.label}" if result.label else split
        rows.append((where, *counts, words.percent(result.prevalence)))
    columns = ("Split", "Samples", "Patients", "Positive samples", "Prevalence")
    return Table(columns, tuple(rows), "Prevalence in the scored splits")


def differences_table(differences: Sequence[PairedDifference]) -> Table:
    """List paired differences, the primary one first."""
    rows = [
        (
            f"{found.first} \u2212 {found.second}",
            words.metric_words(found.metric),
            words.difference(found.difference),
            words.p_value(found.p_value),
            "primary" if found.primary else "secondary",
        )
        for found in sorted(differences, key=lambda found: not found.primary)
    ]
    columns = ("Difference", "Metric", "Value (interval)", "p", "Comparison")
    return Table(columns, tuple(rows), "Paired differences on the test split")


def terms_table(terms: Sequence[TermRecord]) -> Table:
    """List the loss terms with their weights."""
    rows = [(words.term_words(t.kind), f"{t.weight:g}", t.detail) for t in terms]
    return Table(("Term", "Weight", "Settings"), tuple(rows), "Loss terms of the student")


def fidelity_table(fidelity: Sequence[Fidelity]) -> Table:
    """Show how close each arm is to the teacher."""
    rows = [(f.arm, f.split, words.number(f.kl, 4), words.percent(f.agreement)) for f in fidelity]
    columns = ("Arm", "Split", "KL divergence from the calibrated teacher (nats)", "Same decision")
    caption = (
        "Fidelity to the teacher on held-out data. A decision is that at threshold 0.5; of "
        "exclusive classes, the most probable one."
    )
    return Table(columns, tuple(rows), caption)


def froc_scores_table(results: dict[str, FrocResult]) -> Table:
    """Compare the arms' CPM and sensitivities."""
    rows = [
        (
            words.metric_words("cpm_interpolated"),
            *(words.with_interval(r.cpm_interpolated, r.interval) for r in results.values()),
        ),
        (
            words.metric_words("cpm_nearest"),
            *(words.number(r.cpm_nearest) for r in results.values()),
        ),
        *_script_band(results),
        *(
            (f"Sensitivity at {rate:g} false positives per scan",
             *(_sensitivity_at(r, f"{rate:g}") for r in results.values()))
            for rate in CPM_RATES
        ),
    ]  # fmt: skip
    caption = _of_froc("CPM and the seven sensitivities that it averages", results)
    return Table(("Metric", *results), tuple(rows), caption)


def _script_band(results: dict[str, FrocResult]) -> list[tuple[str, ...]]:
    """Return the row with the bootstrap mean of LUNA16's script, if the run has it."""
    means = {arm: result.cpm_bootstrap_mean for arm, result in results.items()}
    if None in means.values():
        return []
    cells = [
        words.estimate(Estimate(mean, results[arm].interval_of_curve))
        for arm, mean in means.items()
        if mean is not None
    ]
    return [(words.metric_words("cpm_bootstrap_mean"), *cells)]


def _sensitivity_at(result: FrocResult, rate: str) -> str:
    if rate not in result.sensitivity_at:
        return words.number(None)
    return words.with_interval(result.sensitivity_at[rate], result.sensitivity_intervals.get(rate))


def froc_counts_table(results: dict[str, FrocResult]) -> Table:
    """Compare the arms' counts over all scored marks."""
    counted = {
        "Scans": "scans",
        "Nodules that must be found": "nodules",
        "Marks that were scored": "candidates",
        "Nodules found (TP)": "true_positives",
        "Nodules missed (FN)": "false_negatives",
        "False positives (FP)": "false_positives",
        "Marks ignored: on an excluded finding": "ignored_excluded",
        "Marks ignored: further marks in a found nodule": "ignored_double",
    }
    rows = [
        (name, *(words.count(getattr(result, key)) for result in results.values()))
        for name, key in counted.items()
    ]
    caption = _of_froc("Counts over all marks, at any score", results)
    return Table(("Count", *results), tuple(rows), caption)


def froc_rules_table(results: dict[str, FrocResult]) -> Table:
    """Return the rules by which marks were scored, one per row."""
    scans = " or ".join(words.count(n) for n in sorted({r.scans for r in results.values()}))
    denominator = (
        FALSE_POSITIVES,
        f"Divided by all {scans} scans of seriesuids.csv, including scans without a nodule.",
    )
    return Table(
        ("Topic", "Rule"), (denominator, *FROC_RULES), "How marks were scored (LUNA16's rules)"
    )


def froc_point_table(results: dict[str, FrocResult]) -> Table | None:
    """Compare the arms at their operating points; None if no arm has one."""
    points = {
        arm: result.at_operating_point
        for arm, result in results.items()
        if result.at_operating_point is not None
    }
    if not points:
        return None
    rows = [
        ("Threshold on the probability", *(words.number(p.threshold) for p in points.values())),
        ("Sensitivity", *(words.estimate(p.sensitivity) for p in points.values())),
        ("Precision", *(words.estimate(p.precision) for p in points.values())),
        ("F1", *(words.estimate(p.f1) for p in points.values())),
        (FALSE_POSITIVES, *(words.number(p.fp_per_scan) for p in points.values())),
    ]
    caption = _of_froc("At the operating point chosen on validation", results)
    return Table(("Metric", *points), tuple(rows), caption)


def operating_points_table(evaluation: Evaluation) -> Table:
    """Show each arm's threshold, its rule, and its scores on the data it was chosen on."""
    rows = []
    for arm in evaluation.arms:
        for result in next(iter(arm.classification.values()), ()):
            point = result.operating_point
            rows.append(
                (
                    f"{arm.name}, {result.label}" if result.label else arm.name,
                    words.number(point.threshold),
                    words.RULE_WORDS.get(point.rule, point.rule),
                    point.chosen_on,
                    words.number(point.sensitivity),
                    words.number(point.specificity),
                )
            )
    columns = ("Arm", "Threshold", "Rule", "Chosen on", "Sensitivity there", "Specificity there")
    return Table(columns, tuple(rows), "Operating points")


def confusion_table(results: Results, split: str) -> Table:
    """Count correct and wrong decisions at the operating point."""
    rows = [(arm, *_counts(result.at_operating_point)) for arm, result in results.items()]
    columns = ("Arm", "True positives", "False negatives", "False positives", "True negatives")
    caption = f"Decisions on the {where_scored(split, results)} at the operating point"
    few = classification_caution(next(iter(results.values())))
    return Table(columns, tuple(rows), _warned(caption, few))


def _counts(point: PointScores) -> tuple[str, ...]:
    numbers = (
        point.true_positives, point.false_negatives, point.false_positives, point.true_negatives,
    )  # fmt: skip
    return tuple(words.count(number) for number in numbers)


def point_rates(point: PointScores) -> dict[str, float]:
    """Return the rates at a threshold that apply, by their display name."""
    found = {"Sensitivity": point.sensitivity.value}
    if point.specificity is not None:
        found["Specificity"] = point.specificity.value
    found |= {"Precision": point.precision.value, "F1": point.f1.value}
    if point.fp_per_scan is not None:
        found[FP_PER_SCAN] = point.fp_per_scan
    return found


def two_by_two_table(point: PointScores) -> Table:
    """Count the decisions at a threshold; of marks on scans there are no true negatives."""
    on_scans = point.true_negatives is None
    rows = (
        (
            "Nodule" if on_scans else "Positive",
            words.count(point.true_positives),
            words.count(point.false_negatives),
        ),
        (
            "No nodule" if on_scans else "Negative",
            words.count(point.false_positives),
            words.count(point.true_negatives),
        ),
    )
    called = ("Marked", "Not marked") if on_scans else ("Called positive", "Called negative")
    return Table(("Reference", *called), rows)


def efficiency_table(arms: Sequence[ArmResult]) -> Table:
    """Show the cost of each arm."""
    rows = [
        (
            arm.name,
            words.count(cost.parameters),
            f"{cost.macs / 1e6:,.1f}",
            f"{cost.size_mib:.2f}",
            f"{cost.latency_ms:.1f}",
            words.latency_range(cost),
            " \u00d7 ".join(map(str, cost.input_shape)),
            f"{cost.device}, {words.threads(cost)}{words.busy(cost)}",
        )
        for arm in arms
        if (cost := arm.efficiency) is not None
    ]
    columns = (
        "Arm", "Parameters", "Million MACs", "Size on disk (MiB)", "Latency (ms, median)",
        "Interquartile range (ms)", "Input", "Measured on",
    )  # fmt: skip
    return Table(columns, tuple(rows), "Cost of one input")


def not_analysed_table(cases: Sequence[RunCase]) -> Table:
    """List the cases that were not analysed, each with all its reasons."""
    rows = [(case.case_id, case.split, "; ".join(case.reasons) or "not given") for case in cases]
    return Table(("Case", "Split", "Reasons"), tuple(rows), "Cases that were not analysed")


def record_table(record: RunRecord) -> Table:
    """List the facts that are needed to reproduce the run."""
    clean = {True: "with uncommitted changes", False: "clean", None: ""}[record.git_dirty]
    rows = [
        ("Command", record.command),
        ("Started", record.started),
        ("Duration", f"{record.seconds:.1f} s"),
        ("Seed", str(record.seed)),
        ("medkd", record.medkd_version),
        ("Git commit", f"{record.git_commit or 'not a checkout'} {clean}".strip()),
        ("Python", record.python),
        ("Platform", record.platform),
        ("Processor", f"{record.processor}, {record.cores} cores"),
        ("Device", record.device),
        ("Deterministic algorithms", "yes" if record.deterministic else "no"),
        ("sha256 of the config", record.config_sha256),
        *((f"Data: {name}", value) for name, value in record.data_fingerprints.items()),
        *((f"sha256 of weights: {name}", value) for name, value in record.weights_sha256.items()),
        *(("Phantoms", line) for line in record.phantoms),
        *(("Without transfer", f"{arm}: {why}") for arm, why in record.without_transfer.items()),
        *((f"Package: {name}", value) for name, value in record.packages.items()),
    ]
    return Table(("Item", "Value"), tuple(rows), "Run record")


def intervals_of(results: Results) -> Iterable[Interval | None]:
    """Yield the interval of every score."""
    for result in results.values():
        point = result.at_operating_point
        estimates: tuple[Estimate | None, ...] = (
            result.roc_auc, result.pr_auc, result.brier, point.sensitivity, point.specificity,
            point.precision, point.f1, point.accuracy, point.balanced_accuracy,
        )  # fmt: skip
        yield from (value.interval for value in estimates if value is not None)
