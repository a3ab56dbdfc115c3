"""Markdown tables of stored results on synthetic scans, as the README of this folder shows them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.phantom_difficulty.score import Auc, Result

SCROLLED = {
    "viewer_speed": "100 marks",
    "viewer_speed_heat_map": "100 marks, heat map",
    "viewer_speed_prior_scan": "a prior scan of the same size",
}
OPENED = {
    "worklist_speed_index": "worklist of an INDEX, 10,000 scans",
    "worklist_speed_results": "worklist of RESULTS, 10,000 scans",
    "xray_speed": "one of 1,000 X-rays, 2,048 x 2,500 pixels",
}
"""The results of the viewer's speed, and their names in the tables."""


def phantom_markdown(result: Result) -> str:
    """Write how hard the phantoms are, one line per figure."""
    blob, classifier = result.blob_finder, result.luna16_classifier
    assert classifier is not None
    rows = [
        ("blob finder inside the lung, CPM", _with_interval(blob.cpm, blob.interval_95)),
        ("blob finder, nodules among its best marks", f"{blob.found_of_best_marks}/{blob.nodules}"),
        ("LUNA16 classifier, ROC AUC against false marks", _auc(classifier)),
        *(
            (f"the same, {re.sub(r'^0(?=[0-9])', '', name)}", f"{value:.3f}")
            for name, value in classifier.by.items()
        ),
        ("boosted trees on masked surroundings, ROC AUC", _auc(result.masked_surroundings)),
    ]
    head = f"{result.generator}, {result.scans} scans of the size {result.size}:"
    return f"{head}\n\n{_table(('measure', 'value'), rows)}"


def implant_markdown(result: dict[str, Any]) -> str:
    """Write how far implants look like nodules: one line per judge and scan."""
    judges = {
        "discriminator, both scans": result["discriminator"],
        **{f"discriminator, {scan}": found for scan, found in result["by_scan"].items()},
        "discriminator, solid only": result["solid"],
        "discriminator on pasted spheres (positive control)": result["positive_control"],
    }
    rows = [
        (name, f"{found['auc']:.3f} ({found['low']:.3f} to {found['high']:.3f})")
        for name, found in judges.items()
    ] + [
        (f"LUNA16 classifier above .5, {name} ({found['count']})", f"{found['above_half']:.1%}")
        for name, found in result["classifier"].items()
    ]
    seeds = ", ".join(map(str, result["seeds"]))
    head = f"Implants version {result['generator_version']}, seeds {seeds}:"
    return f"{head}\n\n{_table(('judge', 'ROC AUC or share'), rows)}"


def real_scans_markdown(result: dict[str, Any]) -> str:
    """Write what the shipped models find on real scans: one line per annotated finding."""
    models = list(result)
    head = ("scan", "annotated finding", *models)
    rows = []
    for scan in result[models[0]]["scans"]:
        found = [result[model]["scans"][scan] for model in models]
        findings = [one["findings"] or [None] for one in found]
        for row in zip(*findings, strict=True):
            words = (
                "none" if row[0] is None else f"{row[0]['name']}, {row[0]['diameter_mm']:.1f} mm"
            )
            cells = [_rank(one) + _above(of) for one, of in zip(row, found, strict=True)]
            rows.append((scan, words, *cells))
    return _table(head, rows)


def phantom_scans_markdown(result: dict[str, Any]) -> str:
    """Write what each method finds on whole phantoms: CPM with its interval, and by kind."""
    methods = result["methods"]
    first = next(iter(methods.values()))
    rows = [("all", first["nodules"], *(_cpm(one) for one in methods.values()))]
    rows += [
        (name, kind["nodules"], *(_cpm(one["by"][name]) for one in methods.values()))
        for name, kind in first["by"].items()
    ]
    for rate in ("0.125", "1", "4", "8"):
        cells = (f"{one['sensitivity_at'][rate]:.2f}" for one in methods.values())
        rows.append((f"sensitivity at {rate} per scan", first["nodules"], *cells))
    head = f"{result['generator']}, {result['scans']} full scans, CPM:"
    return f"{head}\n\n{_table(('nodules', 'number', *methods), rows)}"


def real_nodules_markdown(result: dict[str, Any]) -> str:
    """Write how many real nodules each model finds, and how their diameters differ."""
    head = (
        "model", "trainings", "nodules", "sensitivity at 1 / 2 / 4 / 8 false marks per scan",
        "mean", "below 6 / 6 to 10 / above 10 mm, at 4", "ROC AUC",
    )  # fmt: skip
    rows = []
    for name, row in result["rows"].items():
        every, *sizes = row["sensitivity"].values()
        rows.append(
            (
                name, row["models"], row["nodules"], " / ".join(f"{v:.3f}" for v in every.values()),
                f"{row['mean_sensitivity']:.3f}", " / ".join(f"{one['4']:.3f}" for one in sizes),
                f"{row['roc_auc']:.3f}",
            )
        )  # fmt: skip
    return f"{_table(head, rows)}\n\n{_diameters(result)}"


def scrolling_markdown(folder: Path) -> str:
    """Write how many slices are drawn by 300 wheel events, from the results of a folder."""
    head = ("beside the slices", "one plane", "three planes", "renderer process")
    rows = []
    for name, words in SCROLLED.items():
        row = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        drawn = (
            f"{one['distinct_slices']} drawn, {one['slices_per_second_median']:.0f}/s"
            for one in (row["one_plane"], row["three_planes"])
        )
        rows.append((words, *drawn, f"{row['renderer_mib']:.0f} MiB"))
    return _table(head, rows)


def opening_markdown(folder: Path) -> str:
    """Write in how many seconds pages open, from the results of a folder."""
    keys = (
        "known_browser_s", "new_browser_s", "first_reader_new_browser_s",
        "streamlit_alone_new_browser_s",
    )  # fmt: skip
    rows = []
    for name, words in OPENED.items():
        row = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        rows.append((words, *(f"{row[key]:.2f} s" for key in keys)))
    head = ("page", "known browser", "new browser", "first reader, new", "Streamlit alone, new")
    return _table(head, rows)


def _diameters(result: dict[str, Any]) -> str:
    """Write found minus annotated diameter, one line per model and size."""
    head = ("model", "nodules of", "number", "median absolute error", "bias", "limits of agreement")
    rows = [
        (
            name, size, one["nodules"], f"{one['median_absolute_error']:.2f} mm",
            f"{one['bias']:+.2f} mm", " to ".join(f"{v:+.2f}" for v in one["limits_of_agreement"]),
        )
        for name, row in result["rows"].items()
        for size, one in row["diameter_mm"].items()
    ]  # fmt: skip
    return _table(head, rows)


def _cpm(found: dict[str, Any]) -> str:
    return _with_interval(found["cpm"], found["interval_95"])


def _rank(finding: dict[str, Any] | None) -> str:
    if finding is None:
        return ""
    if finding["rank"] is None:
        return "not found; "
    return f"mark {finding['rank']} (p {finding['probability']:.2f}); "


def _above(found: dict[str, Any]) -> str:
    counts = " / ".join(str(count) for count in found["marks_above"].values())
    return f"{counts} marks"


def _auc(found: Auc) -> str:
    return _with_interval(found.roc_auc, found.interval_95)


def _with_interval(value: float, interval: tuple[float, float] | None) -> str:
    return f"{value:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [" | ".join(map(str, cells)) for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join(f"| {line} |" for line in lines)
