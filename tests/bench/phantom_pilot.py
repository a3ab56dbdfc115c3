"""A quick look at how hard phantoms are, for whoever works on the generator.

python -m tests.bench.phantom_pilot --site mixed --size full --scans 6 --seed 900 --out /tmp/pilot

The bench's own measures on a few scans of any seed but the bench's: no tuning scans (the
blob finder's threshold is tuned on the scans themselves, which flatters it). Rows are kept under
--out: call again with more --scans.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from medkd.config.difficulty_settings import DifficultySettings
from medkd.config.load import find_config, load_settings
from medkd.jsonio import read_json
from medkd.train.difficulty.measure import ScanTask
from medkd.train.difficulty.rows import ScanRow
from medkd.train.difficulty.run import result_of, run_tasks
from medkd.train.difficulty.score import choose_threshold
from medkd.train.difficulty.tables import difficulty_markdown


def pilot(asked: argparse.Namespace) -> str:
    overrides = [
        f"site={asked.site}", f"size={asked.size}", f"scans={asked.scans}",
        f"test_seed={asked.seed}", f"workers={asked.workers}",
        f"nodules_per_scan='{asked.nodules}'", *asked.set,
    ]  # fmt: skip
    config = find_config("bench/phantom_difficulty")
    bench = load_settings(config, DifficultySettings)
    if asked.seed in (bench.tuning_seed, bench.test_seed):
        raise SystemExit(f"seed {asked.seed} is the bench's: take another one")
    settings = load_settings(config, DifficultySettings, overrides=overrides)
    thresholds = tuple(sorted(settings.blobs.thresholds))
    paths = [asked.out / f"{asked.size}-{asked.site}-{asked.seed}-{n:03d}.json"
             for n in range(asked.scans)]  # fmt: skip
    tasks = [ScanTask(settings, "test", n, thresholds, thresholds[0], path)
             for n, path in enumerate(paths) if not path.is_file()]  # fmt: skip
    started = time.perf_counter()
    for done, path in enumerate(run_tasks(tasks, workers=asked.workers), start=1):
        sys.stderr.write(f"{done}/{len(tasks)} {path.name} {time.perf_counter() - started:.0f} s\n")
    rows = [read_json(path, ScanRow) for path in paths]
    threshold, tried = choose_threshold(rows, settings)
    result = result_of(
        settings, tuning=rows, test=rows, threshold=threshold, tuned_cpm=tried[threshold]
    )
    cpm = ", ".join(f"{t:g}: {value:.3f}" for t, value in tried.items())
    return (
        f"{difficulty_markdown(result)}\nCPM by threshold: {cpm}\n"
        f"shape and spacing of the first: {rows[0].shape} {rows[0].spacing_mm}\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--site", default="mixed")
    parser.add_argument("--size", default="full")
    parser.add_argument("--scans", type=int, default=6)
    parser.add_argument("--seed", type=int, default=900)
    parser.add_argument("--nodules", default="5-8", help="nodules_per_scan")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], help="key=value of the settings")
    parser.add_argument("--out", type=Path, required=True, help="folder of the rows")
    sys.stdout.write(pilot(parser.parse_args()))


if __name__ == "__main__":
    main()
