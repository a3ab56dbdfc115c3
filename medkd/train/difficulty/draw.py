"""The bench's drawings: FROC, AUC by diameter, histogram of the classifier's scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medkd.files import replacing
from medkd.train.difficulty.rows import DifficultyRecord

_SIZE_IN = (5.2, 4.0)
_DPI = 110


def draw_difficulty(record: DifficultyRecord, folder: Path) -> None:
    """Draw what was measured to `froc.png`, `auc_by_diameter.png` and `scores.png`."""
    _draw(folder / "froc.png", record, _froc)
    if record.luna16_classifier is not None:
        _draw(folder / "auc_by_diameter.png", record, _by_diameter)
        _draw(folder / "scores.png", record, _scores)


def _draw(
    path: Path, record: DifficultyRecord, paint: Callable[[Axes, DifficultyRecord], None]
) -> None:
    figure = Figure(figsize=_SIZE_IN, layout="constrained")
    axes = figure.subplots()
    paint(axes, record)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_title(f"phantoms {record.generator_version}, {record.scans} {record.size} scans")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_DPI)


def _froc(axes: Axes, record: DifficultyRecord) -> None:
    blobs = record.blob_finder
    axes.step(blobs.fp_per_scan, blobs.sensitivity, where="post", color="#b84a00")
    axes.set_xscale("log", base=2)
    axes.set_xlim(0.125, 16)
    axes.set_ylim(0, 1)
    axes.set_xlabel("false positives a scan")
    axes.set_ylabel(f"sensitivity (blob finder, CPM {blobs.cpm:.2f})")


def _by_diameter(axes: Axes, record: DifficultyRecord) -> None:
    judged = record.luna16_classifier
    if judged is None:
        return
    names = list(judged.by_diameter)
    values = [judged.by_diameter[name].roc_auc for name in names]
    ends = np.asarray([judged.by_diameter[n].interval_95 or (v, v) for n, v in
                       zip(names, values, strict=True)])  # fmt: skip
    away = np.abs(ends.T - values)
    axes.errorbar(range(len(names)), values, yerr=away, fmt="o", color="#0072b2", capsize=4)
    axes.set_xticks(range(len(names)), names, fontsize=8)
    axes.set_ylabel("ROC AUC of the classifier of real nodules")


def _scores(axes: Axes, record: DifficultyRecord) -> None:
    scores = record.scores
    both = np.asarray([*scores.judge_nodules, *scores.judge_false])
    bins = np.linspace(both.min(), both.max() + 1e-6, 31)
    axes.hist(scores.judge_false, bins=bins.tolist(), color="#8a6500", alpha=0.6,
              label="false marks of the blob finder")  # fmt: skip
    axes.hist(scores.judge_nodules, bins=bins.tolist(), color="#0072b2", alpha=0.6,
              label="nodules")  # fmt: skip
    axes.set_xlabel("logit of the classifier of real nodules")
    axes.set_ylabel("places")
    axes.legend(frameon=False)
