"""A division of an INDEX into train, validation and test, frozen in a file.

The file has groups of case ids: the three parts of one division, or N folds. Fold f is the test
part, the next fold (after the last one the first) is the validation part, and all others train.
The file names its INDEX by fingerprint and is refused with any other INDEX.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from medkd.errors import SeriesError
from medkd.files import write_text
from medkd.provenance import sha256_of_text

VERSION = 1

PARTS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Parts:
    """Case ids of one division."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SplitFile:
    """A frozen division.

    Args:
        kind: "fractions" has the groups train, val and test, "folds" has three or more groups,
            "official" has either.
        index_fingerprint: of the INDEX that was divided.
        groups: name to case ids, in order.
        seed: of the random division; None if it was not random.
        notes: how it was divided, and which cases were omitted.
    """

    kind: Literal["fractions", "folds", "official"]
    index_fingerprint: str
    groups: dict[str, tuple[str, ...]]
    seed: int | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def folds(self) -> int:
        """Number of folds; 0 for a single division."""
        return 0 if set(self.groups) == set(PARTS) else len(self.groups)

    @property
    def fingerprint(self) -> str:
        """Digest of its whole content."""
        return sha256_of_text(json.dumps(asdict(self), sort_keys=True))

    def parts(self, fold: int | None = None) -> Parts:
        """Return train, validation and test.

        Args:
            fold: which fold is the test part, from 0; None for a single division.

        Raises:
            SeriesError: if a fold is given for a single division, or none for folds.
        """
        if not self.folds:
            if fold is not None:
                raise SeriesError("not a fold of this split", ["it is one division: give no fold"])
            return Parts(*(self.groups[part] for part in PARTS))
        if fold is None or not 0 <= fold < self.folds:
            reason = f"expected a fold of 0 to {self.folds - 1}, got {fold}"
            raise SeriesError("not a fold of this split", [reason])
        groups = list(self.groups.values())
        val = (fold + 1) % self.folds
        train = [c for n, group in enumerate(groups) if n not in (fold, val) for c in group]
        return Parts(tuple(train), groups[val], groups[fold])


def write_split(path: Path, split: SplitFile) -> None:
    """Write a split as JSON atomically."""
    content = {"version": VERSION, "fingerprint": split.fingerprint, **asdict(split)}
    write_text(path, json.dumps(content, indent=1) + "\n")


def read_split(path: Path) -> SplitFile:
    """Read a frozen split.

    Raises:
        SeriesError: if it is missing, is not a split, or was edited.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        reason = "there is no such file: medkd split INDEX --out creates it"
        raise _refusal(path, reason) from error
    except (ValueError, OSError) as error:
        raise _refusal(path, "it is not JSON") from error
    split = _split_of(path, content)
    if split.fingerprint != content["fingerprint"]:
        raise _refusal(path, "it was changed since it was frozen: run medkd split again")
    return split


def _split_of(path: Path, content: Any) -> SplitFile:  # noqa: ANN401  # JSON
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise _refusal(path, f"expected a split of version {VERSION}")
    try:
        groups = {str(name): tuple(map(str, ids)) for name, ids in content["groups"].items()}
        other = content["kind"] == "fractions" and set(groups) != set(PARTS)
        if other or len(groups) < len(PARTS):
            raise _refusal(path, f"expected the groups {', '.join(PARTS)}, got {list(groups)}")
        return SplitFile(
            kind=content["kind"],
            index_fingerprint=content["index_fingerprint"],
            groups=groups,
            seed=content["seed"],
            notes=tuple(content["notes"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise _refusal(path, f"a value is missing or wrong: {error}") from error


def _refusal(path: Path, reason: str) -> SeriesError:
    return SeriesError(f"{path}: not a usable split", [reason])
