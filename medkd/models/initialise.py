"""Start a network from the weights of a source model, layer by layer, by an explicit rule.

A layer is a module with its own tensors, for example one convolution. It is copied as a whole or
not at all: a bias without its weight, or a variance without its mean, would be wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field
from torch import Tensor

from medkd.errors import CheckpointError
from medkd.models.network import Network
from medkd.models.package import ModelInfo, load_model
from medkd.models.weights import load_weights
from medkd.settings import ModelPath, Settings


class InitialiseSettings(Settings):
    """The source model from whose weights a network starts."""

    from_: ModelPath = Field(
        alias="from", description="A model directory, or the name of a shipped model."
    )
    mismatched: Literal["refuse", "skip"] = Field(
        "refuse",
        description="Layers that differ from the source: refuse the source, or skip these layers.",
    )


@dataclass(frozen=True, slots=True)
class InitialisationReport:
    """Which layers a network took over.

    `copied` are the names of the copied layers. `skipped` maps the layers whose shapes differ to
    their shapes in words. `missing` are the layers that only the network has, `unused` those that
    only the source has. `source` describes the source model: its training data also shaped the
    network.
    """

    source: ModelInfo
    copied: tuple[str, ...]
    skipped: dict[str, str]
    missing: tuple[str, ...]
    unused: tuple[str, ...]

    @property
    def differences(self) -> tuple[str, ...]:
        """One line for each layer that was not copied."""
        return (
            *(f"layer {name!r} differs: {shapes}" for name, shapes in self.skipped.items()),
            *(f"layer {name!r} is not in the source" for name in self.missing),
            *(f"layer {name!r} is only in the source" for name in self.unused),
        )


def initialise_from(
    network: Network, model: str | Path, *, mismatched: Literal["refuse", "skip"]
) -> InitialisationReport:
    """Copy the weights of a source model into a network, and record this in the network.

    Args:
        network: receives the weights and a new `initialisation`; it keeps its dtype and device.
        model: a model directory, or the name of a shipped model.
        mismatched: "refuse" accepts only a source with exactly the network's layers and shapes.
            "skip" leaves every other layer as it is.

    Returns:
        What was copied, and every difference.

    Raises:
        CheckpointError: with all differences, if the source does not fit. The network is then
            unchanged. With "skip", a source is refused only if no layer fits.

    Example:
        >>> import tempfile
        >>> from medkd.models.package import save_model
        >>> from medkd.models.table import build_model, parse_model_settings
        >>> settings = parse_model_settings({"kind": "shallow2d"})
        >>> source, folder = build_model(settings, seed=0), Path(tempfile.mkdtemp()) / "source"
        >>> _ = save_model(folder, source, ModelInfo(settings.model_dump(mode="json")))
        >>> report = initialise_from(build_model(settings, seed=1), folder, mismatched="refuse")
        >>> report.differences
        ()
    """
    source = load_model(model)
    own, found = _by_layer(network.state_dict()), _by_layer(source.network.state_dict())
    skipped = {n: w for n in own if n in found and (w := _shapes_that_differ(found[n], own[n]))}
    report = InitialisationReport(
        source=source.info,
        copied=tuple(n for n in own if n in found and n not in skipped),
        skipped=skipped,
        missing=tuple(n for n in own if n not in found),
        unused=tuple(n for n in found if n not in own),
    )
    _check(report, network, model, strict=mismatched == "refuse")
    chosen = {_key(n, t): value for n in report.copied for t, value in found[n].items()}
    load_weights(network, {**network.state_dict(), **chosen}, name=str(model))
    network.initialisation = _words(report, Path(model).name)
    return report


def _check(
    report: InitialisationReport, network: Network, model: str | Path, *, strict: bool
) -> None:
    if not report.copied:
        headline = f"{model}: no layer of this {report.source.kind} fits {type(network).__name__}"
        raise CheckpointError(headline, report.differences)
    if strict and report.differences:
        raise CheckpointError(
            f"{model}: the layers of this source model differ from the network's",
            [*report.differences, "use the source's settings, or `mismatched: skip` to copy the "
             "other layers"],
        )  # fmt: skip


def _words(report: InitialisationReport, name: str) -> str:
    total = len(report.copied) + len(report.skipped) + len(report.missing)
    share = "all" if total == len(report.copied) else f"{len(report.copied)} of {total}"
    info = report.source
    return (
        f"{share} layers from {name} (sha256 {info.weights_sha256[:12]}, trained on "
        f"{info.trained_on}; licence: {info.licence})"
    )


def _by_layer(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Group tensors by layer: "down4.0.weight" becomes ["down4.0"]["weight"]."""
    layers: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        layer, _, tensor = key.rpartition(".")
        layers.setdefault(layer, {})[tensor] = value
    return layers


def _key(layer: str, tensor: str) -> str:
    return f"{layer}.{tensor}" if layer else tensor


def _shapes_that_differ(source: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """Return the tensors of a layer whose shapes differ; empty if all are equal."""
    return "; ".join(
        f"{key} {_shape(source, key)} in the source, {_shape(own, key)} here"
        for key in dict.fromkeys((*own, *source))
        if _shape(source, key) != _shape(own, key)
    )


def _shape(tensors: Mapping[str, Tensor], key: str) -> str:
    return str(tuple(tensors[key].shape)) if key in tensors else "absent"
