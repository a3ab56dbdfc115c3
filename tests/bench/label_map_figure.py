"""Draw a map of when transfer pays: ROC AUC by number of labels, one line per arm.

python -m tests.bench.label_map_figure MAP.json FIGURE.png
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from medkd.jsonio import read_json
from medkd.train.label_map import LabelMap, MapScore

STYLES = {
    "control": ("#444444", "-", "o"),
    "control_views": ("#999999", "--", "o"),
    "self_training": ("#0072b2", "-", "s"),
    "probe": ("#e69f00", "--", "^"),
    "from_probe": ("#e69f00", "-", "^"),
    "both": ("#009e73", "--", "D"),
    "from_both": ("#009e73", "-", "D"),
    "labels_only": ("#999999", "-", "o"),
    "large": ("#e69f00", "--", "^"),
    "from_large": ("#e69f00", "-", "^"),
    "pretrained_from_large": ("#009e73", "-", "D"),
}
"""Colours (readable by colour-blind people), lines and markers; teachers are dashed."""


def draw(found: LabelMap, metric: str, path: Path, words: str) -> None:
    """Draw one metric; bars are the 95 % intervals."""
    lines: dict[str, list[MapScore]] = defaultdict(list)
    for score in found.scores:
        if score.metric == metric:
            lines[score.arm].append(score)
    figure, axes = plt.subplots(figsize=(7.5, 4.8))
    for place, (arm, scores) in enumerate(lines.items()):
        color, line, marker = STYLES.get(arm, ("#cc79a7", "-", "x"))
        shift = 1 + 0.02 * (place - len(lines) / 2)  # so that the bars lie beside each other
        labels = [score.labels * shift for score in scores]
        values = [score.estimate.value for score in scores]
        intervals = [score.estimate.interval for score in scores]
        bars = [
            [value - i.low if i else 0 for value, i in zip(values, intervals, strict=True)],
            [i.high - value if i else 0 for value, i in zip(values, intervals, strict=True)],
        ]
        axes.errorbar(
            labels, values, yerr=bars, color=color, linestyle=line, marker=marker, label=arm,
            capsize=2, linewidth=1.4, elinewidth=0.8,
        )  # fmt: skip
    axes.set_xscale("log")
    counts = sorted({round(score.labels) for score in found.scores})
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.set_xlabel("labels of training and validation")
    axes.set_ylabel(f"{words}, test part")
    axes.set_title(f"{found.name}: {found.dataset}")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("map", type=Path)
    parser.add_argument("figure", type=Path)
    given = parser.parse_args()
    draw(read_json(given.map, LabelMap), "roc_auc", given.figure, "ROC AUC")


if __name__ == "__main__":
    main()
