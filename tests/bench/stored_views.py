"""How many views of a sample a teacher must answer in store.

    python -m tests.bench.stored_views WORK OUT.json

The student of `bench/few_labels_xray` with 5 % of the labels, taught on the views that it sees
itself: V stored views per sample in turn, or a new view in every step that the teacher answers
live. All else is equal: labels, steps, seeds. Needs MEDKD_DATA. WORK is resumed.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from medkd.config.load import load_settings, shipped_configs
from medkd.config.run_settings import RunSettings
from medkd.jsonio import write_json
from medkd.train.bench import run_bench
from medkd.train.bench_record import BenchComparison, BenchRecord, difference_of, seed_mean

VIEWS: tuple[int | str, ...] = ("live", 1, 4, 16)
FRACTION, SEEDS, METRIC = 0.05, (0, 1, 2, 3, 4), "roc_auc"


def settings_of(views: int | str) -> RunSettings:
    """Return the bench of one number of views."""
    found = load_settings(shipped_configs()["bench/few_labels_xray"], RunSettings)
    values: dict[str, Any] = found.model_dump(by_alias=True)
    values["target"]["augmentation"]["views"] = views
    values["target"]["split"]["limit"]["labelled_fraction"] = FRACTION
    arm = values["bench"]["arms"][0]
    mode = "live" if views == "live" else "stored"
    arm["transfer"]["targets"] = {"mode": mode}
    teachers = {"probe": values["bench"]["teachers"]["probe"]}
    values["bench"] |= {"arms": [arm], "teachers": teachers, "labels": [], "seeds": SEEDS}
    values["controls"] = {"self_training": False, "views": None}
    return RunSettings.model_validate(values)


def measure(work: Path) -> dict[str, Any]:
    """Run the benches, and compare each number of views with live ones."""
    records = {str(views): run_bench(settings_of(views), work / str(views), resume=True)
               for views in VIEWS}  # fmt: skip
    rows = tuple(
        replace(row, arm=name)
        for name, record in records.items()
        for row in record.rows
        if row.arm == "from_probe"
    )
    joined: BenchRecord = replace(next(iter(records.values())), rows=rows)
    found: dict[str, Any] = {"labels": FRACTION, "seeds": len(SEEDS), "metric": METRIC, "views": {}}
    for name in records:
        score = seed_mean(joined, name, METRIC)
        entry: dict[str, Any] = {"score": asdict(score.estimate), "seed_sd": score.seed_sd}
        if name != "live":
            comparison = BenchComparison(name, "live", METRIC)
            entry["minus_live"] = asdict(difference_of(joined, comparison).estimate)
        seconds = [row.record.seconds for row in rows if row.arm == name]
        entry["seconds"] = sum(seconds) / len(seconds)
        found["views"][name] = entry
    return found


def main() -> None:
    """Measure and write the result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("out", type=Path)
    asked = parser.parse_args()
    write_json(asked.out, measure(asked.work))


if __name__ == "__main__":
    main()
