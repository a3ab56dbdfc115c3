"""Measures scan after scan, and writes and prints the figures."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from medkd.jsonio import read_json, write_json
from medkd.synthetic.phantom import DIFFICULTY
from tests.bench.phantom_difficulty.measure import ScanRow, measure_scan
from tests.bench.phantom_difficulty.score import Result, failed_bars, result_of


def run(out: Path, scans: int) -> Result:
    """Measure the scans that have no row of this generator in `out`, and score all."""
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(scans):
        path = out / f"scan-{DIFFICULTY}-{number:03d}.json"
        if not path.is_file():
            write_json(path, measure_scan(number))
        rows.append(read_json(path, ScanRow))
        sys.stderr.write(f"{number + 1}/{scans}\n")
    result = result_of(rows)
    write_json(out / "difficulty.json", result)
    return result


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="How hard the phantoms of this generator are.")
    parser.add_argument("out", type=Path, help="folder of the rows and of difficulty.json")
    parser.add_argument("--scans", type=int, default=40)
    asked = parser.parse_args()
    result = run(asked.out, asked.scans)
    sys.stdout.write(f"{result}\n" + "".join(f"FAILED: {words}\n" for words in failed_bars(result)))


if __name__ == "__main__":
    main()
