"""Write the card of a model: what it is for, what it learned from, its scores and its limits.

The text is Markdown that is also readable in a terminal. It is made from `ModelInfo` alone, so
every model directory has a card. The headings follow Mitchell et al. 2019, "Model Cards for Model
Reporting".
"""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import fill

from medkd.models.package import DataSource, ModelInfo, Preprocessing
from medkd.provenance import synthetic_words
from medkd.types import Interval, OperatingPoint

WIDTH = 100
NOT_RECORDED = "not recorded"


def model_card(name: str, info: ModelInfo) -> str:
    """Return the card of a model as Markdown.

    Args:
        name: the heading, usually the name of the model directory.
        info: the model's description.

    Example:
        >>> print(model_card("tiny", ModelInfo({"kind": "shallow2d"})).splitlines()[0])
        # tiny
    """
    sections = {
        "Intended use": [_item("", info.intended_use)],
        "Network": list(_network(info)),
        "Training": list(_training(info)),
        "Data": [line for source in info.sources for line in _source(source)],
        "Scores": [_item(k, score_text(k, v, info)) for k, v in info.metrics.items()],
        "Thresholds": [_point(key, point) for key, point in info.operating_points.items()],
        "Limits": [_item("", limit) for limit in info.limits],
        "Licence": [_item("", info.licence)],
    }
    parts = [f"# {name}", *([fill(info.purpose, WIDTH)] if info.purpose else [])]
    for heading, lines in sections.items():
        parts.append(f"## {heading}\n\n" + "\n".join(lines or [_item("", NOT_RECORDED)]))
    return "\n\n".join(parts) + "\n"


def score_text(name: str, value: float, info: ModelInfo) -> str:
    """Return a score of a model with its interval, for example "0.842 (95 % 0.81 to 0.87)".

    Args:
        name: a key of `info.metrics`.
        value: its value.
        info: supplies the interval, if there is one.
    """
    interval = info.metric_intervals.get(name)
    return f"{value:.3f}" + (_interval(interval) if interval else "")


def _network(info: ModelInfo) -> Iterator[str]:
    yield _item("Kind", f"{info.kind}, {info.parameters:,} parameters")
    yield _item("Outputs", f"{', '.join(info.label_names)} ({info.outputs})")
    yield from _preprocessing(info.preprocessing)
    yield _item("Weights", f"{info.precision}, sha256 {info.weights_sha256}")


def _preprocessing(given: Preprocessing) -> Iterator[str]:
    if given.spacing_mm is not None:
        yield _item("Voxel spacing", " x ".join(f"{mm:g}" for mm in given.spacing_mm) + " mm")
    if given.hu_window is not None:
        yield _item("HU window", "{:g} to {:g} HU".format(*given.hu_window))
    if given.patch_shape is not None:
        yield _item("Patch", " x ".join(map(str, given.patch_shape)))


def _training(info: ModelInfo) -> Iterator[str]:
    yield _item("Trained on", info.trained_on)
    if warning := synthetic_words(info.origins, synthetic=info.trained_on_synthetic):
        yield _item("Note", warning)
    for stamp in info.generators:
        yield _item("Generator", stamp)
    yield _item("Initial weights", info.initialisation)
    yield _item("Origin", info.origin)
    yield _item("Configuration", info.config or NOT_RECORDED)
    yield _item("Seed", NOT_RECORDED if info.seed is None else str(info.seed))
    yield _item("medkd version", info.medkd_version)


def _source(source: DataSource) -> Iterator[str]:
    counts = ", ".join(f"{number:,} {noun}" for noun, number in source.counts.items())
    yield _item("", source.name)
    yield _item("Use", f"{source.use}{f'; {counts}' if counts else ''}", indent="  ")
    yield _item("Licence", source.licence, indent="  ")
    yield _item("Attribution", source.attribution, indent="  ")


def _interval(interval: Interval) -> str:
    bounds = f"{100 * interval.level:g} % {interval.low:.3f} to {interval.high:.3f}"
    return f" ({bounds}; {interval.resamples} bootstrap resamples by {interval.unit})"


def _point(name: str, point: OperatingPoint) -> str:
    rates = {
        "sensitivity": point.sensitivity,
        "specificity": point.specificity,
        "false positives per scan": point.fp_per_scan,
    }
    known = "".join(f", {what} {rate:.3g}" for what, rate in rates.items() if rate is not None)
    return _item(name, f"{point.threshold:.4g} by {point.rule}, chosen on {point.chosen_on}{known}")


def _item(name: str, text: str, *, indent: str = "") -> str:
    """Return a wrapped item of a list; `name` is empty for an item without a name."""
    words = f"{name}: {text}" if name else text
    return fill(
        words, WIDTH, initial_indent=f"{indent}- ", subsequent_indent=f"{indent}  ",
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
