"""The sentences that summarise a run in its report, on the terminal and in the viewer."""

from __future__ import annotations

from collections.abc import Iterator

from medkd.evaluate.caution import FEW_GROUPS, classification_caution, froc_caution, sentence
from medkd.provenance import origin_words, synthetic_words
from medkd.report import words
from medkd.report.contents import RunContents
from medkd.report.tables import every_result, froc_on, ordered_splits, results_on, where_scored
from medkd.types import ArmResult, Evaluation, FrocResult, PairedDifference

TRANSFER = (
    "Transfer took place: on held-out data the student is at least 30 % closer to its calibrated "
    "teacher (KL divergence) than any arm without this teacher is"
)
NO_TRANSFER = (
    "No transfer took place: on held-out data the student is not at least 30 % closer to its "
    "calibrated teacher (KL divergence) than every arm without this teacher."
)
WITH_CONTROL = (
    "The control is the same small model, trained in the same way but without the teacher. The "
    "difference between student and control shows what the teacher added."
)
WITH_SELF_TRAINING = (
    "A part of this can come from the samples without labels, which the control did not use. "
    "Self-training is a student of the control and used them: what the student gains over it comes "
    "from the teacher."
)
SOFT_LABELS_ALONE = (
    "The student learned from the teacher's answers alone, without a loss on the labels. The "
    "control is the same small model, trained on the labels without the teacher. The difference "
    "between student and control compares the teacher's answers with the labels."
)
NOT_A_DEVICE = "Not a medical device: for research and evaluation, not for diagnosis."
CAUTION = (
    "These scans are synthetic: the numbers illustrate the method and say nothing about its "
    "value for patients."
)


def banner_lines(evaluation: Evaluation) -> tuple[str, ...]:
    """Return the notices that must be read before any number, most important first."""
    synthetic = synthetic_sentence(evaluation)
    no_transfer = NO_TRANSFER if evaluation.transfer_took_place is False else ""
    return tuple(filter(None, (synthetic, no_transfer, NOT_A_DEVICE)))


def synthetic_sentence(evaluation: Evaluation) -> str:
    """State how many synthetic and real scans were used in training; empty if all are real."""
    counted = [arm.origins for arm in evaluation.arms if arm.origins and arm.origins.synthetic]
    # The largest is usually the student's, which includes the training cases of its teacher.
    most = max(counted, key=lambda origins: origins.total, default=None)
    return sentence(synthetic_words(most, synthetic=evaluation.trained_on_synthetic))


def scored_words(evaluation: Evaluation, split: str = "test") -> str:
    """Return how many synthetic and real cases a split contains; empty if all are real."""
    found = evaluation.origins.get(split)
    return f"Scored on {origin_words(found)}." if found and found.synthetic else ""


def summary_paragraphs(contents: RunContents) -> tuple[str, ...]:
    """Return sentences on training, scores, cost, and cases that were not analysed."""
    evaluation = contents.evaluation
    return (
        _trained(evaluation),
        *_ranking(evaluation),
        *_class_accuracy(evaluation),
        *_primary_differences(evaluation),
        transfer_words(evaluation),
        *_decisions(evaluation),
        *_marks(evaluation),
        *_cost(evaluation),
        _left_out(contents),
    )


def _primary_differences(evaluation: Evaluation) -> Iterator[str]:
    """Yield the primary comparison, and the same one against self-training if there is one."""
    primary = [(found.first, found.metric) for found in evaluation.differences if found.primary]
    for found in evaluation.differences:
        beside = found.second == "self_training" and (found.first, found.metric) in primary
        if found.primary or beside:
            yield difference_words(found, patients=scored_patients(evaluation))


def _cpm_differences(evaluation: Evaluation) -> Iterator[str]:
    """Yield the student's gains in CPM, on the candidates and on whole scans."""
    for found in evaluation.differences:
        ours = found.first == "student" and found.second in _WITHOUT_TEACHER
        if ours and not found.primary and found.metric.endswith("/cpm_interpolated"):
            yield difference_words(found, patients=scored_patients(evaluation))


def difference_words(found: PairedDifference, *, patients: int | None = None) -> str:
    """Describe a paired difference and whether its interval shows an effect.

    Args:
        found: the difference.
        patients: number of patients that it was measured on, if known. If there are too few, the
            text says so and draws no conclusion.
    """
    first, second = found.first, found.second
    metric = words.metric_words(found.metric)
    head = f"{first.capitalize()} minus {second}, {metric}: {words.difference(found.difference)}."
    interval = found.difference.interval
    if interval is None:
        return f"{head} It has no interval, so chance cannot be ruled out."
    if patients is not None and patients < FEW_GROUPS:
        return f"{head} Only {patients} patients were scored: too few for a claim."
    if interval.low <= 0 <= interval.high:
        return f"{head} The interval includes zero, so these data do not show a difference."
    side, order = ("above", "higher") if interval.low > 0 else ("below", "lower")
    return f"{head} The whole interval is {side} zero: {first} is {order} than {second} here."


def scored_patients(evaluation: Evaluation) -> int | None:
    """Return the number of patients of the test split; None if the run does not record it."""
    return evaluation.splits.get("test", {}).get("patients")


def transfer_words(evaluation: Evaluation) -> str:
    """State whether transfer took place, by the 30 % rule, or why none was tried."""
    untaught = evaluation.record.without_transfer
    if untaught and not evaluation.fidelity:
        return " ".join(f"{sentence(reason)}" for reason in untaught.values())
    if evaluation.transfer_took_place is None:
        return "This run did not test whether transfer took place."
    drops = ", ".join(f"{_below(drop)} {whose}" for whose, drop in _kl_drops(evaluation))
    measured = f" (its KL is {drops})" if drops else ""
    if evaluation.transfer_took_place:
        return f"{TRANSFER}{measured}."
    return f"{NO_TRANSFER[:-1]}{measured}."


def _below(drop: float) -> str:
    return f"{words.percent(abs(drop))} {'below' if drop >= 0 else 'above'}"


def _kl_drops(evaluation: Evaluation) -> list[tuple[str, float]]:
    """Return by which fraction the KL of the only student is below that of each other arm."""
    by_arm = {found.arm: found.kl for found in evaluation.fidelity}
    others = {whose: by_arm.pop(arm, 0.0) for arm, whose in _WITHOUT_TEACHER.items()}
    if len(by_arm) != 1:
        return []
    (student,) = by_arm.values()
    return [(whose, 1 - student / kl) for whose, kl in others.items() if kl > 0]


_WITHOUT_TEACHER = {"control": "the control's", "self_training": "that of self-training"}


def _trained(evaluation: Evaluation) -> str:
    models = {arm.name: arm.model for arm in evaluation.arms}
    if {"teacher", "control", "student"} <= set(models) and evaluation.fidelity:
        itself = f" {WITH_SELF_TRAINING}" if "self_training" in models else ""
        return (
            f"A large teacher ({models['teacher']}; source data: {evaluation.source_data}) taught "
            f"a small student ({models['student']}) on {evaluation.target_data}. "
            f"{SOFT_LABELS_ALONE if _without_labels(evaluation) else WITH_CONTROL}{itself}"
        )
    arms = ", ".join(f"{name} ({model})" for name, model in models.items())
    return f"Arms of this run: {arms}. Data: {evaluation.dataset}."


def _without_labels(evaluation: Evaluation) -> bool:
    return any(term.kind == "hard_label" and term.weight == 0 for term in evaluation.terms)


def _ranking(evaluation: Evaluation) -> Iterator[str]:
    first_split = ordered_splits(evaluation)[:1]
    for split, results in every_result(evaluation):
        if split not in first_split:
            continue
        first = next(iter(results.values()))
        few = _few(classification_caution(first))
        areas = ", ".join(f"{a} {words.estimate(r.roc_auc)}" for a, r in results.items())
        yield (
            f"ROC AUC on the {where_scored(split, results)} ({words.count(first.samples)} samples, "
            f"{words.count(first.positives)} positive): {areas}.{few}"
        )


def _class_accuracy(evaluation: Evaluation) -> Iterator[str]:
    found = {
        a.name: a.class_accuracy["test"] for a in evaluation.arms if "test" in a.class_accuracy
    }
    if found:
        shares = ", ".join(f"{arm} {words.estimate(share)}" for arm, share in found.items())
        yield f"Share of test samples whose most probable class is the right one: {shares}."


def _decisions(evaluation: Evaluation) -> Iterator[str]:
    student = _arm(evaluation, "student")
    for result in student.classification.get("test", ()) if student else ():
        point = result.at_operating_point
        of = f" for {result.label}" if result.label else ""
        yield (
            f"At the threshold chosen on validation{of} ({words.number(point.threshold)}) the "
            f"student calls {words.count(point.true_positives)} of "
            f"{words.count(result.positives)} positive and {words.count(point.false_positives)} of "
            f"{words.count(result.samples - result.positives)} negative test samples positive: "
            f"sensitivity {words.estimate(point.sensitivity)}, F1 {words.estimate(point.f1)}."
            f"{_few(classification_caution(result))}"
        )


def _marks(evaluation: Evaluation) -> Iterator[str]:
    """Yield the CPM of the whole-scan marks, or of the given candidates if there are none."""
    results = main_froc(evaluation)
    if not results:
        return
    searched = any(result.track == "whole-scan" for result in results.values())
    scores = ", ".join(
        f"{arm} {words.with_interval(r.cpm_interpolated, r.interval)}" for arm, r in results.items()
    )
    rule = "mean sensitivity at 1/8 to 8 false positives per scan"
    what = "marks on whole scans" if searched else "the given candidates"
    unsearched = "" if searched else " No arm searched whole scans in this run."
    data = (scored_words(evaluation), *(f"{line}." for line in evaluation.record.phantoms))
    about_data = "".join(f" {line}" for line in data if line)
    few = _few(froc_caution(next(iter(results.values()))))
    yield f"CPM of {what}, interpolated ({rule}): {scores}.{few}{unsearched}{about_data}"


def _few(caution: str) -> str:
    """Return a caution as a sentence to append to another; empty stays empty."""
    return f" {sentence(caution)}" if caution else ""


def _cost(evaluation: Evaluation) -> Iterator[str]:
    teacher, student = _arm(evaluation, "teacher"), _arm(evaluation, "student")
    if teacher is None or student is None:
        return
    big, small = teacher.efficiency, student.efficiency
    if big is None or small is None or not (small.parameters and big.parameters):
        return
    yield (
        f"The student has {words.count(small.parameters)} parameters, "
        f"{_ratio(big.parameters, small.parameters)} the teacher. It takes "
        f"{words.latency(small)} for one input, the teacher {words.latency(big)} "
        f"({small.device}, {words.threads(small)}{words.busy(small)})."
    )


def _ratio(big: int, small: int) -> str:
    """Compare the parameter counts in words: "as many as", or "12 times fewer than"."""
    if big == small:
        return "as many as"
    more, times = small > big, max(big, small) / min(big, small)
    if times < 1.05:  # "1.0 times" would be meaningless
        return f"{words.count(abs(big - small))} {'more' if more else 'fewer'} than"
    digits = 0 if times >= 5 else 1
    return f"{times:.{digits}f} times {'more' if more else 'fewer'} than"


def _left_out(contents: RunContents) -> str:
    if contents.cases is None:
        return "This run has no cases.csv, so it is not known which cases were not analysed."
    refused = len(contents.not_analysed)
    total = words.count(len(contents.cases))
    if not refused:
        return f"All {total} cases of the worklist were analysed."
    return (
        f"{words.count(refused)} of {total} cases of the worklist "
        f"{'was' if refused == 1 else 'were'} not analysed. Not analysed does not mean no findings."
    )


def main_froc(evaluation: Evaluation) -> dict[str, FrocResult]:
    """Return each arm's FROC of whole-scan marks, or of the given candidates if there are none."""
    return froc_on(evaluation, "whole-scan") or froc_on(evaluation, "candidates")


def closing_lines(evaluation: Evaluation) -> tuple[str, ...]:
    """Return lines that summarise the training, the scores of the arms and their difference.

    Args:
        evaluation: result of a run on CT scans with the arms teacher, control and student.

    Returns:
        Lines for a terminal; table columns are aligned by spaces.
    """
    return (
        *_models(evaluation),
        "",
        *_scores(evaluation),
        "",
        *_primary_differences(evaluation),
        *_cpm_differences(evaluation),
        # Warnings that begin in capitals report that the comparison failed.
        *(warning for warning in evaluation.warnings if warning[:2].isupper()),
        CAUTION,
    )


def _models(evaluation: Evaluation) -> Iterator[str]:
    for arm in evaluation.arms:
        data = evaluation.source_data if arm.name == "teacher" else evaluation.target_data
        without_stamp = data.split(", made by ")[0]
        yield f"{arm.name}: {arm.model}; trained on {without_stamp}"
    yield "The student also learns from the teacher's output; the control does not."
    if _arm(evaluation, "self_training"):
        yield "Self-training learns from the control's output instead of the teacher's."


def _scores(evaluation: Evaluation) -> Iterator[str]:
    froc, results = main_froc(evaluation), results_on(evaluation, "test")[0]
    first = next(iter(results.values()))
    yield (
        f"Scored on {words.count(first.samples)} given candidates "
        f"({words.count(first.positives)} of them in nodules) in "
        f"{words.count(scored_patients(evaluation))} other scans of the same site."
    )
    searched = any(found.track == "whole-scan" for found in froc.values())
    if not searched:
        yield "No arm searched whole scans in this run; `medkd detect` does."
    yield ""
    track = "whole scans" if searched else "candidates"
    wide = max(map(len, results)) + 2
    yield f"{'':{wide}}{'ROC AUC, candidates':26}CPM, {track} (both with 95 % intervals)"
    for arm, result in results.items():
        found = froc.get(arm)
        cpm = words.with_interval(found.cpm_interpolated, found.interval) if found else "not scored"
        yield f"{arm:{wide}}{words.estimate(result.roc_auc):26}{cpm}"
    yield "CPM: mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives per scan."


def _arm(evaluation: Evaluation, name: str) -> ArmResult | None:
    return next((arm for arm in evaluation.arms if arm.name == name), None)
