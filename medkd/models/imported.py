"""Import foreign weights as a model, by an explicit command and only with their sha256.

The network must be of a kind in the table of models. The file contains one of three things: every
tensor of the network under medkd's names; only the body under the library's names (the head is
then new); or, for `luna_classifier`, the training state of the network described in
`luna_classifier.py`. Code in a file is never executed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from medkd.errors import SettingsError
from medkd.models.luna_classifier import LunaClassifierSettings
from medkd.models.network import Network, NetworkSettings
from medkd.models.package import LoadedModel, ModelInfo, Preprocessing
from medkd.models.table import MODELS, build_architecture, parse_model_settings
from medkd.models.weights import load_weights, read_weights

LUNA_STATE_KEY = "model_state"
IMPORTED = "imported from"
"""The first words of an imported network's `initialisation`."""

NOT_STATED = "not stated by the source"
UNLICENSED = "none stated by the source: local verification only, not to be shared or shipped"


@dataclass(frozen=True, slots=True)
class ImportFacts:
    """Facts that the importing person states; they are stored with the model (None: not stated)."""

    label_names: tuple[str, ...] = ("nodule",)
    trained_on: str | None = None
    licence: str | None = None


def import_weights(
    path: Path,
    settings: NetworkSettings,
    *,
    sha256: str,
    facts: ImportFacts | None = None,
) -> LoadedModel:
    """Load a foreign weights file into a network of a known kind.

    Args:
        path: a `.safetensors` file, or a file written by torch.save.
        settings: the network; the weights that its `weights` names are not loaded.
        sha256: the 64 hex digits that the file must have.
        facts: labels, training data and licence; some kinds have defaults for missing facts.

    Raises:
        CheckpointError: if the sha256 differs, or the file is damaged, needs code to be loaded,
            or does not fit the network.
        SettingsError: if the number of label names is not the number of outputs.
    """
    if isinstance(settings, LunaClassifierSettings):
        return _import_luna_classifier(path, settings, sha256=sha256, facts=facts)
    known = facts or ImportFacts()
    if len(known.label_names) != settings.label_count:
        raise SettingsError(
            f"{path}: not imported",
            [
                f"label_count is {settings.label_count}, but the label names are "
                f"{list(known.label_names)}: state one name per output"
            ],
        )
    network = build_architecture(settings)
    network.initialisation = _fill(
        network, settings, found=read_weights(path, sha256=sha256), path=path
    )
    info = ModelInfo(
        settings=settings.model_dump(mode="json"),
        label_names=known.label_names,
        preprocessing=Preprocessing(hu_window=settings.hu_window, patch_shape=settings.input_shape),
        trained_on=known.trained_on or NOT_STATED,
        initialisation=network.initialisation,
        licence=known.licence or NOT_STATED,
        origin=_origin(path, sha256),
    )
    return LoadedModel(network.eval(), info)


def settings_from_values(kind: str, values: Mapping[str, Any]) -> NetworkSettings:
    """Build the settings of a kind from plain values.

    Raises:
        SettingsError: with every invalid value.
    """
    try:
        return parse_model_settings({**values, "kind": kind})
    except ValidationError as error:
        reasons = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise SettingsError(f"no network of kind {kind!r} with these settings", reasons) from error


def _import_luna_classifier(
    path: Path, settings: LunaClassifierSettings, *, sha256: str, facts: ImportFacts | None
) -> LoadedModel:
    found = read_weights(path, sha256=sha256)
    state = found.get(LUNA_STATE_KEY, found)
    network = build_architecture(settings)
    plain = {key.removeprefix("raw."): value for key, value in dict(state).items()}
    load_weights(network.get_submodule("raw"), plain, name=str(path))
    known = facts or ImportFacts()
    network.initialisation = f"{IMPORTED} {path.name}"
    info = ModelInfo(
        settings=settings.model_dump(mode="json"),
        preprocessing=_native_patches(settings),
        label_names=known.label_names,
        trained_on=known.trained_on or "LUNA16",
        initialisation=network.initialisation,
        intended_use="source model for local verification; not a medical device",
        licence=known.licence or UNLICENSED,
        origin=_origin(path, sha256),
    )
    return LoadedModel(network.eval(), info)


def _native_patches(settings: LunaClassifierSettings) -> Preprocessing:
    """Return its preprocessing: patches at each scan's own spacing, without resampling."""
    window, shape = settings.hu_window, settings.patch_shape
    steps: tuple[dict[str, Any], ...] = (
        {"kind": "load"},
        {"kind": "orientation", "axcodes": "LPS"},
        {"kind": "intensity", "hu_window": list(window or ())},
        {"kind": "crop", "patch_shape": list(shape)},
    )
    return Preprocessing(steps=steps, hu_window=window, spacing_mm=None, patch_shape=shape)


def _fill(
    network: Network, settings: NetworkSettings, *, found: Mapping[str, Any], path: Path
) -> str:
    body = dict(network.named_children()).get("body")
    if body is None or any(key.startswith("body.") for key in found):
        load_weights(network, found, name=str(path))
        return f"{IMPORTED} {path.name}"
    adopt = MODELS[str(getattr(settings, "kind", ""))].adopt
    if adopt is not None:
        return f"{IMPORTED} {path.name}: {adopt(network, settings, found)}"
    load_weights(body, found, name=str(path))
    return f"{IMPORTED} {path.name}: its body, new head"


def _origin(path: Path, sha256: str) -> str:
    return f"{path.name}, sha256 {sha256.strip().lower()}"
