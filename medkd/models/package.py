"""The model directory: the unit of exchange. Weights as safetensors, all else as JSON.

    MODEL/model.json            `ModelInfo`
    MODEL/model.safetensors     every parameter and buffer of the network, and nothing else

Detect, viewer and export read nothing else. No code and no pickle in it; the weights' sha256
stands in the JSON and is checked on load. Reading the JSON alone does not import torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from medkd import __version__
from medkd.errors import CheckpointError
from medkd.files import replacing
from medkd.formats import MODEL
from medkd.jsonio import read_json, write_json
from medkd.types import CaseOrigins, OperatingPoint

if TYPE_CHECKING:
    from torch import Tensor

    from medkd.models.network import Network, NetworkSettings

INFO_NAME = "model.json"
WEIGHTS_NAME = "model.safetensors"


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What turns a scan or image into the views that the model was trained on.

    `steps` are the loading steps of the training data as plain values; `hu_window` is what 0
    and 1 of a view stand for (None: image); `spacing_mm` None: native; `patch_shape` in voxels
    (i, j, k) or pixels; `views` of radiographs that were used (empty text: not stated; None: not
    recorded).
    """

    steps: tuple[dict[str, Any], ...] = ()
    hu_window: tuple[float, float] | None = None
    spacing_mm: tuple[float, ...] | None = None
    patch_shape: tuple[int, ...] | None = None
    views: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Calibration:
    """probability = sigmoid(logit / temperature + logit_shift); softmax for exclusive outputs."""

    temperature: float = 1.0
    logit_shift: float = 0.0


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Everything about a model but its weights.

    `settings` are the plain values of one of `table.ModelSettings`. `operating_points` were
    frozen on validation, by name. `generators` are the stamps of what made the synthetic scans
    that it, or its teacher, was trained on; `origins` counts those scans and the real ones (None:
    not recorded). `weights_sha256`, `parameters` and `medkd_version`
    are filled in by `save_model`.
    """

    settings: dict[str, Any]
    label_names: tuple[str, ...] = ("nodule",)
    outputs: Literal["independent", "exclusive"] = "independent"
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    calibration: Calibration = field(default_factory=Calibration)
    operating_points: dict[str, OperatingPoint] = field(default_factory=dict)
    trained_on: str = "nothing"
    trained_on_synthetic: bool = False
    generators: tuple[str, ...] = ()
    origins: CaseOrigins | None = None
    training_fingerprint: str = ""
    initialisation: str = "random"
    metrics: dict[str, float] = field(default_factory=dict)
    intended_use: str = "research; not a medical device"
    licence: str = "not stated"
    origin: str = "trained by medkd"
    weights_sha256: str = ""
    parameters: int = 0
    medkd_version: str = __version__
    format_version: int = MODEL.version

    @property
    def kind(self) -> str:
        """The network's name in the table of models."""
        return str(self.settings.get("kind", ""))


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A network in eval mode with what is known of it."""

    network: Network
    info: ModelInfo


def save_model(directory: Path, network: Network, info: ModelInfo) -> ModelInfo:
    """Write a model directory whole, or leave what was there.

    Args:
        directory: made or replaced; refused if it holds something that is no model.
        network: its parameters and buffers are written.
        info: what is known of it.

    Returns:
        `info` as written, with sha256, number of parameters and medkd's version.

    Raises:
        CheckpointError: if the disk is full or not writable, or the place is taken.
    """
    from safetensors.torch import save as to_safetensors

    from medkd.models.network import parameter_count

    if directory.exists() and not _is_free(directory):
        raise CheckpointError(
            f"{directory}: not saved", ["something stands there that is no model directory"]
        )
    tensors = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    content = to_safetensors(tensors)
    written = replace(
        info,
        settings=_without_folders(info.settings),
        weights_sha256=hashlib.sha256(content).hexdigest(),
        parameters=parameter_count(network),
        medkd_version=__version__,
    )
    try:
        with replacing(directory) as temporary:
            temporary.mkdir()
            (temporary / WEIGHTS_NAME).write_bytes(content)
            write_json(temporary / INFO_NAME, written)
    except OSError as error:
        kept = "what stood there is unchanged" if directory.exists() else "nothing was left there"
        raise CheckpointError(f"{directory}: not saved", [str(error), kept]) from error
    return written


def read_info(directory: Path) -> ModelInfo:
    """Read what is known of a model, without its weights and without torch.

    Raises:
        CheckpointError: if this is no model directory of this version.
    """
    if not (directory / INFO_NAME).is_file():
        raise CheckpointError(f"{directory}: no model directory", _why_no_model(directory))
    return read_json(directory / INFO_NAME, ModelInfo, form=MODEL)


def _why_no_model(directory: Path) -> list[str]:
    """Say what is missing, and name the models that a run left near by."""
    what = f"there is no {INFO_NAME} in it" if directory.is_dir() else "no such folder"
    near = directory if directory.is_dir() else directory.parent
    models = sorted(str(path.parent) for path in near.glob(f"*/{INFO_NAME}"))
    if models:
        return [what, f"models near by: {', '.join(models)}"]
    return [what, "expected RUN/student or another model of a finished run; a run that was stopped "
            "goes on with `medkd train CONFIG --out RUN --resume`"]  # fmt: skip


def load_model(directory: Path, *, device: str = "cpu") -> LoadedModel:
    """Load a model directory.

    Args:
        directory: what `save_model` left.
        device: where the network shall live, as torch names it.

    Raises:
        CheckpointError: if a file is missing, truncated or changed, or does not fit the network
            that the JSON names.

    Example:
        >>> import tempfile
        >>> from medkd.models.table import build_model, parse_model_settings
        >>> settings = parse_model_settings({"kind": "shallow2d"})
        >>> folder = Path(tempfile.mkdtemp()) / "model"
        >>> info = ModelInfo(settings=settings.model_dump(mode="json"))
        >>> _ = save_model(folder, build_model(settings, seed=0), info)
        >>> load_model(folder).info.parameters
        4881
    """
    from medkd.models.table import build_architecture
    from medkd.models.weights import fit_weights, parse_safetensors

    info = read_info(directory)
    path = directory / WEIGHTS_NAME
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{directory}: no whole model", [str(error)]) from error
    found = hashlib.sha256(content).hexdigest()
    if found != info.weights_sha256:
        raise CheckpointError(
            f"{path}: not the weights that {INFO_NAME} describes",
            [
                f"sha256 expected {info.weights_sha256}, found {found}",
                f"the file has {len(content)} bytes; it was changed or cut off: copy it again",
            ],
        )
    network = build_architecture(_settings_of(info, directory))
    fit_weights(network, parse_safetensors(content, str(path)), name=str(path))
    network.initialisation = info.initialisation
    return LoadedModel(network.to(device).eval(), info)


def calibrated_probability(logits: Tensor, info: ModelInfo) -> Tensor:
    """Turn logits into calibrated probabilities.

    Args:
        logits: [B, K] or [B, K, *grid].
        info: its calibration and outputs count.

    Returns:
        The same shape, 0..1.
    """
    scaled = logits / info.calibration.temperature + info.calibration.logit_shift
    return scaled.softmax(dim=1) if info.outputs == "exclusive" else scaled.sigmoid()


def _is_free(directory: Path) -> bool:
    """A model, or an empty folder."""
    return directory.is_dir() and (
        (directory / INFO_NAME).is_file() or not any(directory.iterdir())
    )


def _without_folders(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the name of a weights file, not where it stood on the machine that trained."""
    file = settings.get("weights_file")
    return {**settings, "weights_file": Path(file).name} if file else dict(settings)


def _settings_of(info: ModelInfo, directory: Path) -> NetworkSettings:
    from medkd.models.table import parse_model_settings

    values: Mapping[str, Any] = info.settings
    try:
        return parse_model_settings(values)
    except ValidationError as error:
        reasons = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise CheckpointError(f"{directory}: a model that this medkd does not know", reasons) from (
            error
        )
