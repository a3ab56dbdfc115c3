"""`medkd layers`: the layers of a network that a transfer term can name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medkd.cli.options import SetOption

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from medkd.config.run_settings import RunSettings
    from medkd.models.layers import Layer, NetworkLayers
    from medkd.models.network import Network, NetworkSettings

_COLUMNS = ("layer", "module", "output", "parameters", "")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("layers")(layers)


def layers(
    model: Annotated[
        Path | None,
        typer.Argument(metavar="MODEL", help="A model directory, or the name of a shipped model."),
    ] = None,
    *,
    config: Annotated[
        str | None,
        typer.Option(
            help="Instead of MODEL: the teachers and the student of this configuration (a YAML "
            "file, or the name of a shipped one)."
        ),
    ] = None,
    overrides: SetOption = None,
    shape: Annotated[
        str,
        typer.Option(
            help="Shape of one view without channels, such as 48,48,48; default: that of the model "
            "or of the configuration."
        ),
    ] = "",
    every: Annotated[
        bool, typer.Option("--all", help="Also list the layers inside the groups.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON, which always lists every layer.")
    ] = False,
) -> None:
    """List the layers of a network: name, module, shape of the output for one view, parameters.

    The name is the value of `teacher_layer` (if the network is the teacher) or `student_layer` of a
    transfer term. Without these keys a term compares the embedding layers, which are marked. Long
    networks are shown by their groups; --all lists every layer, also those that cannot be tapped.
    The shapes come from a run on one empty view; of a configuration, no data and no weights are
    read, except those of a model named by `teacher.from`.

    The JSON contains, for each network: role, network, view_shape, is_assumed, parameters, layers
    (name, kind,
    output, parameters, is_group, is_embedding, note; output is null if the layer cannot be tapped).

    Example: `medkd layers ct-nodule-source`

    Example: `medkd layers --config transfer/luna16_candidates --all`
    """
    from json import dumps

    from medkd.jsonio import to_jsonable

    _check_source(model, config, overrides)
    given = _parse_shape(shape)
    found = _of_model(model, given) if model else _of_config(str(config), overrides or (), given)
    if json:
        rows = [{"role": role, **to_jsonable(one)} for role, one in found.items()]
        typer.echo(dumps({"networks": rows}, indent=1))
        return
    for role, one in found.items():
        _print_network(role, one, every=every)
    _print_keys(found)


def _check_source(model: Path | None, config: str | None, overrides: list[str] | None) -> None:
    from medkd.errors import SettingsError

    if (model is None) == (config is None):
        reason = "write `medkd layers MODEL` or `medkd layers --config CONFIG`"
        raise SettingsError("give either a model or a configuration", [reason])
    if config is None and overrides:
        raise SettingsError("--set: not used", ["it changes a configuration: add --config CONFIG"])


def _parse_shape(text: str) -> tuple[int, ...] | None:
    from medkd.cli.options import split_commas
    from medkd.errors import SettingsError

    parts = split_commas(text)
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        reason = "expected whole numbers above 0, separated by commas: 28,28 or 48,48,48"
        raise SettingsError(f"--shape {text}: not a shape", [reason])
    return tuple(map(int, parts)) or None


def _of_model(model: Path, shape: tuple[int, ...] | None) -> dict[str, NetworkLayers]:
    from medkd.models.package import load_model

    loaded = load_model(model)
    known = shape or loaded.info.preprocessing.patch_shape
    return {str(model): _listed(loaded.network, loaded.info.kind, known)}


def _of_config(
    name: str, overrides: Sequence[str], shape: tuple[int, ...] | None
) -> dict[str, NetworkLayers]:
    from medkd.config.load import find_config, load_settings
    from medkd.config.run_settings import RunSettings
    from medkd.models.package import load_model
    from medkd.models.table import build_architecture

    settings = load_settings(find_config(name), RunSettings, overrides=overrides)
    known = shape or _configured_shape(settings)
    found = {}
    for role, given in _networks_of(settings):
        if isinstance(given, str):
            loaded = load_model(given)
            found[role] = _listed(loaded.network, loaded.info.kind, known)
        else:
            kind = str(getattr(given, "kind", ""))
            found[role] = _listed(build_architecture(given), kind, known)
    return found


def _networks_of(settings: RunSettings) -> Iterator[tuple[str, NetworkSettings | str]]:
    """Yield the role of each network, and its settings or the model that it is read from."""
    for name, teacher in settings.teachers().items():
        role = name if name == "teacher" else f"teacher {name}"
        if given := teacher.model or teacher.from_:
            yield role, given
    if settings.student:
        yield "student", settings.student.model


def _configured_shape(settings: RunSettings) -> tuple[int, ...] | None:
    """Return the spatial shape of a view as far as the configuration states it."""
    from medkd.data.loading import ImageStep, patch_shape

    steps = settings.target.loading
    sizes = [step.size_px for step in steps if isinstance(step, ImageStep) and step.size_px]
    models = [model for _, model in _networks_of(settings) if not isinstance(model, str)]
    fixed = [model.input_shape for model in models if model.input_shape]
    return patch_shape(steps) or next(iter((*sizes, *fixed)), None)


def _listed(network: Network, kind: str, spatial: tuple[int, ...] | None) -> NetworkLayers:
    """List the layers for views of a spatial shape; None: that of the network, or assumed."""
    from medkd.models.layers import ASSUMED_SIZE, list_layers

    own = network.input_shape or (ASSUMED_SIZE,) * network.spatial_dims
    found = list_layers(network, (network.in_channels, *(spatial or own)), kind=kind)
    return replace(found, is_assumed=spatial is None and network.input_shape is None)


def _print_network(role: str, found: NetworkLayers, *, every: bool) -> None:
    from medkd.models.layers import outline

    shown = found.layers if every else outline(found.layers)
    typer.secho(f"{role}: {found.network}, {found.parameters:,} parameters", bold=True)
    assumed = " (assumed: --shape gives another)" if found.is_assumed else ""
    typer.echo(f"one view: {_words(found.view_shape)}{assumed}")
    rows = [_COLUMNS, *map(_cells, shown)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    for name, kind, output, parameters, note in rows:
        line = f"  {name:{widths[0]}}  {kind:{widths[1]}}  {output:{widths[2]}}  "
        typer.echo(f"{line}{parameters:>{widths[3]}}  {note}".rstrip())
    if len(shown) < len(found.layers):
        typer.echo(f"  {len(shown)} of {len(found.layers)} layers; --all lists every layer")
    typer.echo("")


def _cells(layer: Layer) -> tuple[str, ...]:
    output = _words(layer.output) if layer.output is not None else "cannot be tapped"
    note = "; ".join(filter(None, ("embedding" if layer.is_embedding else "", layer.note)))
    return (layer.name, layer.kind, output, f"{layer.parameters:,}", note)


def _words(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "one number"


def _print_keys(found: dict[str, NetworkLayers]) -> None:
    from medkd.transfer.table import TERMS
    from medkd.transfer.terms import LayerTermSettings

    kinds = [k for k, term in TERMS.items() if issubclass(term.settings, LayerTermSettings)]
    sides = [side for side in ("teacher", "student") if any(r.startswith(side) for r in found)]
    keys = [f"{side}_layer" for side in sides] or ["teacher_layer", "student_layer"]
    typer.echo(
        "Shapes are channels first, but those of transformers may have them last: terms refuse"
    )
    typer.echo(
        f"such layers, probes read them. A layer is named by {' and '.join(keys)} of a term:"
    )
    values = ", ".join(f"{key}: NAME" for key in keys)
    typer.echo(f"  transfer.terms: [{{kind: hint, {values}}}]")
    typer.echo(f"Terms with these keys: {', '.join(kinds)}. Without a key: the embedding.")
