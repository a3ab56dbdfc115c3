"""Check what `medkd demo` left: python .ci/check_demo.py RUN.

Two rules. On the track that the demo shows (whole-scan marks where it searches scans, else the
given candidates) the student's CPM is above 0.3: with voxels of 2 mm it is about .33 to .35, and
processors round differently. The run took less than 8 minutes: from its first phantom to its last
score, as RUN/evaluation.json states; the installation does not count. The limit is meant for two
quiet cores. A machine that is busy with other work can miss it: then run the step again when it is
quiet.
"""

import json
import sys
from pathlib import Path

LEAST_CPM = 0.3
MOST_SECONDS = 480.0
TRACKS = ("whole-scan", "candidates")


def main(run: Path) -> int:
    """Print the numbers, then each rule that does not hold; return the exit code."""
    evaluation = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
    seconds = evaluation["record"]["seconds"]
    shown = shown_cpm(evaluation)
    faults = []
    lines = [f"{seconds:.0f} s"]
    if seconds >= MOST_SECONDS:
        faults.append(f"expected less than {MOST_SECONDS:.0f} s, got {seconds:.0f} s")
    for arm, (track, cpm) in shown.items():
        lines.append(f"{arm}, {track}: CPM {cpm:.3f}")
    if "student" not in shown:
        faults.append("expected a CPM of the student, got none")
    elif shown["student"][1] <= LEAST_CPM:
        faults.append(f"expected a student's CPM above {LEAST_CPM}, got {shown['student'][1]:.3f}")
    lines += [f"FAILED: {fault}" for fault in faults]
    sys.stdout.write("".join(f"demo: {line}\n" for line in lines))
    return 1 if faults else 0


def shown_cpm(evaluation: dict) -> dict[str, tuple[str, float]]:
    """Return of each arm the track that is shown and its CPM there."""
    results = {arm["name"]: {r["track"]: r for r in arm["froc"]} for arm in evaluation["arms"]}
    tracks = {track for found in results.values() for track in found}
    track = next((name for name in TRACKS if name in tracks), "")
    return {
        arm: (track, found[track]["cpm_interpolated"])
        for arm, found in results.items()
        if track in found
    }


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
