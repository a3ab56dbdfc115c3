"""What the fuzz benches share: cases read in a guarded child process, counted by outcome."""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
from collections import Counter
from collections.abc import Callable, Collection
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

SECONDS, BYTES = 10, 2 << 30

Outcome = tuple[str, str, str]
"""Where the mutation was, what came of it, and the codes of the reasons or what went wrong."""

OneCase = Callable[[tuple[int, int]], Outcome]
Prepare = Callable[[Path], OneCase]
"""Importable by name: makes the corpus in a folder and returns what draws and judges one case."""


def _child(pipe: Connection, folder: Path, prepare: Prepare) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    one_case = prepare(folder)
    pipe.send("ready")
    while True:
        pipe.send(one_case(pipe.recv()))


class Guarded:
    """A child process that reads cases; replaced when it dies or takes too long."""

    def __init__(self, folder: Path, prepare: Prepare) -> None:
        self._folder, self._prepare = folder, prepare
        self._context = multiprocessing.get_context("spawn")
        self._start()

    def _start(self) -> None:
        home = Path(tempfile.mkdtemp(dir=self._folder))
        self._pipe, other = self._context.Pipe()
        self._process = self._context.Process(
            target=_child, args=(other, home, self._prepare), daemon=True
        )
        self._process.start()
        other.close()
        self._pipe.recv()

    def ask(self, seed: tuple[int, int]) -> Outcome:
        """Return what one case gave; a dead or slow child is an outcome too."""
        self._pipe.send(seed)
        try:
            if self._pipe.poll(SECONDS):
                return self._pipe.recv()
            outcome = "hang"
        except EOFError:
            outcome = "crash"
        self.stop()
        self._start()
        return "unknown", outcome, f"exit {self._process.exitcode}"

    def stop(self) -> None:
        """End the child."""
        self._process.kill()
        self._process.join()


def run_cases(
    count: int,
    seed: int,
    child: Guarded,
    *,
    bad: Collection[str],
    report: Callable[[int], None] = lambda done: None,
) -> dict[str, object]:
    """Read `count` mutated inputs; return the counts by outcome, and every bad case."""
    outcomes: Counter[str] = Counter()
    by_place: dict[str, Counter[str]] = {}
    codes: Counter[str] = Counter()
    found: list[dict[str, object]] = []
    try:
        for number in range(count):
            where, outcome, detail = child.ask((seed, number))
            outcomes[outcome] += 1
            by_place.setdefault(where, Counter())[outcome] += 1
            codes.update(detail.split("+") if outcome == "refused" else [])
            if outcome in bad:
                found.append({"case": [seed, number], "where": where, "outcome": outcome,
                              "detail": detail})  # fmt: skip
            report(number + 1)
    finally:
        child.stop()
    return {
        "cases": count, "seed": seed, "seconds": SECONDS, "gib": BYTES >> 30,
        "outcomes": dict(sorted(outcomes.items())),
        "refused_by_code": dict(codes.most_common()),
        "by_series_and_place": {k: dict(sorted(v.items())) for k, v in sorted(by_place.items())},
        "bad": found,
    }  # fmt: skip


def restructured(content: bytes, rng: np.random.Generator) -> bytes:
    """Cut bytes short, or take some out, put some in, double some, append some."""
    at, size = int(rng.integers(len(content))), int(rng.choice([1, 2, 4, 8, 64, 512]))
    kind = int(rng.integers(5))
    if kind == 0:
        return content[:at]
    if kind == 1:
        return content[:at] + content[at + size :]
    if kind == 2:
        return content[:at] + rng.bytes(size) + content[at:]
    if kind == 3:
        return content[: at + size] + content[at:]
    return content + rng.bytes(size)


def changed_bytes(content: bytes, rng: np.random.Generator, low: int, high: int) -> bytes:
    """Change one to three bytes at or behind `low` and before `high`: a bit, or the whole."""
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(low, high))
        changed[at] = (
            changed[at] ^ (1 << int(rng.integers(8)))
            if rng.random() < 0.5
            else int(rng.choice([0, 0xFF, 0x2E, 0x31, 0x39, int(rng.integers(256))]))
        )
    return bytes(changed)
