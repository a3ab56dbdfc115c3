"""The figures of the bench in words: a page of Markdown, drawn from the record alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from medkd.train.difficulty.rows import Auc, DifficultyRecord, Judged, Masked

CPM_BAR = 0.60
JUDGE_BARS = (0.85, 0.99)
MASKED_BAR = 0.60
"""What a generator must keep to: blob finder below, classifier between, surroundings below."""


def difficulty_markdown(record: DifficultyRecord) -> str:
    """Return the page."""
    return "\n".join(_lines(record)) + "\n"


def failed_bars(record: DifficultyRecord) -> tuple[str, ...]:
    """Say which bars the generator does not keep to, or were not measured."""
    failed = []
    if record.blob_finder.cpm >= CPM_BAR:
        failed.append(f"blob finder CPM {record.blob_finder.cpm:.3f}, not below {CPM_BAR}")
    judged, masked = record.luna16_classifier, record.masked_surroundings
    low, high = JUDGE_BARS
    if judged is None:
        failed.append("classifier of real nodules not measured")
    elif not low <= judged.roc_auc <= high:
        failed.append(f"classifier AUC {judged.roc_auc:.3f}, not {low} to {high}")
    if masked is None:
        failed.append("masked surroundings not measured")
    elif masked.roc_auc >= MASKED_BAR:
        failed.append(f"masked surroundings AUC {masked.roc_auc:.3f}, not below {MASKED_BAR}")
    return tuple(failed)


def _lines(record: DifficultyRecord) -> Iterator[str]:
    blobs = record.blob_finder
    yield f"# How hard the phantoms are: generator {record.generator_version} {record.difficulty}"
    yield ""
    yield (
        f"{record.scans} {record.size} scans with {record.nodules} nodules; thresholds tuned on "
        f"{record.tuning_scans} other scans. Intervals: 95 %, by scan."
    )
    yield ""
    yield "| measured by | figure | interval | bar |"
    yield "|---|---|---|---|"
    yield (
        f"| blob finder inside the true lung, CPM | {blobs.cpm:.3f} | "
        f"{_interval(blobs.interval_95)} | < {CPM_BAR:.2f} |"
    )
    judged, masked = record.luna16_classifier, record.masked_surroundings
    low, high = JUDGE_BARS
    yield _row("classifier of real nodules, ROC AUC", judged, f"{low:.2f} to {high:.2f}")
    yield _row("surroundings, nodule masked out, ROC AUC", masked, f"< {MASKED_BAR:.2f}")
    for note in (*record.notes, *failed_bars(record)):
        yield f"\n**{note}**"
    yield ""
    rates = ", ".join(f"{value:.2f} at {rate}" for rate, value in blobs.sensitivity_at.items())
    yield (
        f"Blob finder: threshold {blobs.threshold:g} (tuned: CPM {blobs.tuned_cpm:.3f}); "
        f"sensitivity {rates} FP a scan; {blobs.found_of_best_marks} of {blobs.nodules} nodules "
        "among the best 100 marks."
    )
    if judged is not None:
        yield from _judged_lines(judged)
    if masked is not None:
        yield from _masked_lines(masked)
    seconds = ", ".join(f"{name} {value:.1f}" for name, value in record.seconds_a_scan.items())
    yield ""
    yield f"Seconds a scan: {seconds}. Peak memory of a worker: {record.peak_mib} MiB."


def _judged_lines(judged: Judged) -> Iterator[str]:
    parts = (
        ("texture", judged.by_texture), ("outline", judged.by_outline),
        ("attachment", judged.by_attachment), ("diameter", judged.by_diameter),
        ("kernel, nodules and false marks", judged.by_kernel),
    )  # fmt: skip
    for name, groups in parts:
        if groups:
            yield from _group_lines(f"classifier by {name}", groups)


def _group_lines(name: str, groups: Mapping[str, Auc]) -> Iterator[str]:
    yield ""
    yield f"| {name} | nodules | ROC AUC | interval |"
    yield "|---|---|---|---|"
    for group, auc in groups.items():
        yield f"| {group} | {auc.nodules} | {auc.roc_auc:.3f} | {_interval(auc.interval_95)} |"


def _masked_lines(masked: Masked) -> Iterator[str]:
    yield ""
    yield (
        f"Surroundings: {masked.nodules} nodules, {masked.false_marks} false marks, as many a scan."
    )
    if masked.highest:
        yield (
            f"Against the best false marks of all scans together: {masked.highest.roc_auc:.3f} "
            f"{_interval(masked.highest.interval_95)}."
        )
    yield from _group_lines("surroundings by attachment", masked.by_attachment)
    yield ""
    yield "What tells most, each alone: " + ", ".join(
        f"{name} {value:.2f}" for name, value in masked.telling.items()
    ) + "."  # fmt: skip


def _row(words: str, found: Judged | Masked | None, bar: str) -> str:
    if found is None:
        return f"| {words} | not measured | | {bar} |"
    return (
        f"| {words} ({found.nodules} nodules, {found.false_marks} false marks) | "
        f"{found.roc_auc:.3f} | {_interval(found.interval_95)} | {bar} |"
    )


def _interval(pair: tuple[float, float] | None) -> str:
    return "" if pair is None else f"{pair[0]:.3f} to {pair[1]:.3f}"
