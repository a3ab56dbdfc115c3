"""The keys that `medkd tune` searches: which may be searched, and settings with other values.

A key is a path with dots into the resolved settings, for example `transfer.terms.0.weight`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from typing import Any

import yaml

from medkd.config.load import dump_settings, settings_from
from medkd.config.run_settings import RunSettings
from medkd.config.tune_settings import SearchRange
from medkd.errors import SettingsError

Values = dict[str, Any]
"""Plain values of settings, as `dump_settings` writes them."""

_CASES = "it changes which cases are in validation, and scores could not be compared"
_NO_EFFECT = "it does not change the score"
_FIXED = {
    "seed": "the best of several seeds is best by chance; `medkd bench` repeats a run with seeds",
    "split_seed": _CASES,
    "target.data": _CASES,
    "target.split": _CASES,
    "name": _NO_EFFECT,
    "device": _NO_EFFECT,
    "threads": _NO_EFFECT,
    "controls": _NO_EFFECT,
    "detection": "whole scans are not searched in a trial",
    "bench": "a trial is one run, not a bench",
    "tune": "the search itself is not searched",
    "tuned": "the search itself is not searched",
    **{f"evaluation.{key}": _NO_EFFECT for key in ("rule", "sensitivity", "bootstrap", "seed")},
}
"""Keys that cannot be searched, with the keys below them, and why."""

_NOT_USED = {
    "student": (),
    "control": ("teacher", "source", "transfer.terms", "transfer.targets", "transfer.schedule"),
    "teacher": ("student", "transfer"),
}
"""Keys that an arm does not use."""


def plain_values(settings: RunSettings) -> Values:
    """Return the settings as plain values."""
    values: Values = yaml.safe_load(dump_settings(settings))
    return values


def check_space(settings: RunSettings) -> None:
    """Refuse a space with keys that do not exist or cannot be searched, with all reasons.

    Raises:
        SettingsError: names similar keys for each key that does not exist.
    """
    tune = settings.tune
    if tune is None:
        raise SettingsError(
            "this configuration has no tune section",
            ["add `tune: {space: {student.training.learning_rate: {low: 1e-4, high: 1e-2, "
             "log: true}}}`"],
        )  # fmt: skip
    values = plain_values(settings)
    reasons = [
        f"tune.space: {key}: {reason}"
        for key, tried in tune.space.items()
        for reason in _faults(key, tried, values, arm=tune.arm)
    ]
    keys = sorted(tune.space)
    reasons += [
        f"tune.space: {key} is a part of {outer}: search one of them"
        for outer in keys
        for key in keys
        if key != outer and is_within(key, outer)
    ]
    if reasons:
        raise SettingsError("these keys cannot be searched", reasons)


def is_within(key: str, outer: str) -> bool:
    """Return whether a key is another key or below it.

    Example:
        >>> is_within("target.split.seed", "target.split"), is_within("seed", "seeds")
        (True, False)
    """
    return key == outer or key.startswith(f"{outer}.")


def changes_teacher(settings: RunSettings, key: str) -> bool:
    """Return whether a searched key changes the teacher's training."""
    data = "source" if settings.source else "target"
    return is_within(key, "teacher") or is_within(key, data)


def with_values(values: Values, changed: Mapping[str, Any]) -> Values:
    """Return plain values with some keys changed; every key must exist.

    Example:
        >>> with_values({"terms": [{"weight": 1}]}, {"terms.0.weight": 2})
        {'terms': [{'weight': 2}]}
    """
    result = deepcopy(values)
    for key, value in changed.items():
        *outer, last = key.split(".")
        here: Any = result
        for part in outer:
            here = here[int(part)] if isinstance(here, list) else here[part]
        here[int(last) if isinstance(here, list) else last] = deepcopy(value)
    return result


def trial_settings(values: Values, changed: Mapping[str, Any]) -> RunSettings:
    """Return the settings of one trial: without bench, whole-scan search and search.

    Raises:
        SettingsError: if the values are invalid together.
    """
    nothing: Values = dict.fromkeys(("bench", "detection", "tune", "tuned"))
    return settings_from(
        RunSettings, with_values(values | nothing, changed), headline="these values are invalid"
    )


def _faults(key: str, tried: SearchRange, values: Values, *, arm: str) -> Iterator[str]:
    """Yield why a key cannot be searched."""
    here: Any = values
    for number, part in enumerate(key.split(".")):
        above = ".".join(key.split(".")[:number])
        if here is None:
            yield f"{above} is null in this configuration: give it a value, then search its keys"
            return
        below = _below(here, part)
        if below is _ABSENT:
            yield f"unknown key{_similar(key, values)}"
            return
        here = below
    for fixed, reason in _FIXED.items():
        if is_within(key, fixed) or is_within(fixed, key):
            yield f"cannot be searched: {reason}"
            return
    if any(is_within(key, unused) for unused in _NOT_USED[arm]):
        yield f"has no effect on tune.arm: {arm}"
    if isinstance(here, dict | list) and not tried.choices:
        yield "is a whole section: give choices, or search one of its keys"


_ABSENT = object()


def _below(value: Any, part: str) -> Any:  # noqa: ANN401  # plain YAML values
    if isinstance(value, dict):
        return value.get(part, _ABSENT)
    if isinstance(value, list) and part.isdigit() and int(part) < len(value):
        return value[int(part)]
    return _ABSENT


def _similar(key: str, values: Values) -> str:
    known = [name for name in _keys(values) if name.partition(".")[0] not in ("tune", "tuned")]
    close = difflib.get_close_matches(key, known, n=3, cutoff=0.6)
    last = key.rpartition(".")[2]
    close = close or [name for name in known if name.rpartition(".")[2] == last][:3]
    return f"; did you mean {' or '.join(close)}?" if close else " (see `medkd config show`)"


def _keys(value: Any, key: str = "") -> Iterator[str]:  # noqa: ANN401  # plain YAML values
    if key:
        yield key
    pairs: Iterable[tuple[object, Any]] = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        pairs = enumerate(value)
    for name, below in pairs:
        yield from _keys(below, f"{key}.{name}" if key else str(name))
