"""The model directory, by which models are exchanged: weights as safetensors, the rest as JSON.

    MODEL/model.json            `ModelInfo`
    MODEL/model.safetensors     every parameter and buffer of the network, and nothing else

Detection, viewer and export read only these two files. They contain neither code nor pickles.
The JSON contains the sha256 of the weights, which is checked on load. Reading the JSON alone
does not import torch. A directory is named by its path, or a shipped model by its name
(`shipped.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, ValidationError

from medkd import __version__
from medkd.errors import CheckpointError
from medkd.evaluate.calibration import Scaling
from medkd.files import replacing
from medkd.formats import MODEL
from medkd.jsonio import read_json, write_json
from medkd.models.shipped import INFO_NAME, find_model
from medkd.types import CaseOrigins, Interval, OperatingPoint

if TYPE_CHECKING:
    from torch import Tensor

    from medkd.models.network import Network, NetworkSettings

CLASSIFICATION = "classification"
"""Name of the operating point for samples (candidates, images)."""

WHOLE_SCAN = "whole-scan"
"""Name of the default operating point for marks on whole scans."""

FP_PER_SCAN = (1.0, 2.0, 4.0)
"""False positives per scan of the other operating points for marks on whole scans."""

WEIGHTS_NAME = "model.safetensors"


def _as_tuple(value: object) -> object:
    """Turn a single number, as older models with one label stored it, into a tuple."""
    return (value,) if isinstance(value, int | float) else value


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a scan or image becomes the views that the model was trained on.

    `steps` are the loading steps of the training data as plain values. `hu_window` are the HU of
    the values 0 and 1 of a view (None: image). `spacing_mm` None means native spacing.
    `patch_shape` is in voxels (i, j, k) or pixels. `views` are the radiograph views used in
    training (empty text: not stated; None: not recorded).
    """

    steps: tuple[dict[str, Any], ...] = ()
    hu_window: tuple[float, float] | None = None
    spacing_mm: tuple[float, ...] | None = None
    patch_shape: tuple[int, ...] | None = None
    views: tuple[str, ...] | None = None


def whole_scan_point(fp_per_scan: float) -> str:
    """Return the name of the operating point with this number of false positives per scan.

    Example:
        >>> whole_scan_point(4.0)
        'whole-scan@4'
    """
    return f"{WHOLE_SCAN}@{fp_per_scan:g}"


Values = Annotated[tuple[float, ...], BeforeValidator(_as_tuple)]


@dataclass(frozen=True, slots=True)
class Calibration:
    """probability = sigmoid(logit / temperature + logit_shift); softmax for exclusive outputs.

    Both have one value per output, or a single value for all outputs.
    """

    temperature: Values = (1.0,)
    logit_shift: Values = (0.0,)


@dataclass(frozen=True, slots=True)
class CalibrationRecord:
    """The marks by which `medkd calibrate` fitted a calibration and the whole-scan thresholds.

    `scans` were searched, of which `scans_with_nodules` have reference nodules. `hits` are the
    nodules with a mark and `false_marks` the marks on no finding; both were fitted. `part` is the
    part of the frozen split (empty: the whole INDEX was used). `cases_sha256` identifies the cases.
    """

    scans: int
    scans_with_nodules: int
    patients: int
    nodules: int
    hits: int
    false_marks: int
    synthetic_scans: int
    index_fingerprint: str
    cases_sha256: str
    split_fingerprint: str = ""
    part: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DataSource:
    """A data set that a model learned from or was measured on.

    `use` states which of the two, for example "training" or "test". `counts` are numbers by noun,
    for example {"nodules": 951}. `attribution` is the text that the licence requires.
    """

    name: str
    licence: str
    attribution: str
    use: str = "training"
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Everything about a model except its weights.

    `settings` are the plain values of one of `table.ModelSettings`. `operating_points` maps names
    to thresholds that were frozen on validation. `generators` are the stamps of the generators
    that made the synthetic scans of its own or its teacher's training. `origins` counts these
    scans and the real ones (None: not recorded). `calibrated_on` describes the scans of `medkd
    calibrate` (None: the calibration is that of the training). `data_fingerprint` identifies the
    data set of the training, `training_fingerprint` also its split. `metrics` maps names to values,
    and `metric_intervals` some of these names to their intervals. `config` and `seed` name the
    configuration that trained the model and the seed of its weights (empty, None: not recorded).
    `purpose` is one line; `sources` and `limits` are for the model card. `save_model` fills in
    `precision`, `weights_sha256`, `parameters` and `medkd_version`.
    """

    settings: dict[str, Any]
    label_names: tuple[str, ...] = ("nodule",)
    outputs: Literal["independent", "exclusive"] = "independent"
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    calibration: Calibration = field(default_factory=Calibration)
    operating_points: dict[str, OperatingPoint] = field(default_factory=dict)
    calibrated_on: CalibrationRecord | None = None
    trained_on: str = "nothing"
    trained_on_synthetic: bool = False
    generators: tuple[str, ...] = ()
    origins: CaseOrigins | None = None
    data_fingerprint: str = ""
    training_fingerprint: str = ""
    initialisation: str = "random"
    metrics: dict[str, float] = field(default_factory=dict)
    metric_intervals: dict[str, Interval] = field(default_factory=dict)
    purpose: str = ""
    sources: tuple[DataSource, ...] = ()
    limits: tuple[str, ...] = ()
    config: str = ""
    seed: int | None = None
    intended_use: str = "research; not a medical device"
    licence: str = "not stated"
    origin: str = "trained by medkd"
    precision: Literal["float32", "float16"] = "float32"
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
    """A network in eval mode, with its `ModelInfo`.

    `directory` is where `load_model` read it (None: built in memory). It is pickled as this path,
    and every process that unpickles it loads the directory once.
    """

    network: Network
    info: ModelInfo
    directory: Path | None = None

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the directory instead of the weights."""
        if self.directory is None:
            return LoadedModel, (self.network, self.info)
        device = str(next(self.network.parameters()).device)
        return _loaded_once, (self.directory, device, self.info.weights_sha256)


def save_model(
    directory: Path, network: Network, info: ModelInfo, *, half: bool = False
) -> ModelInfo:
    """Write a model directory atomically: if writing fails, an existing model is unchanged.

    Args:
        directory: created or replaced; refused if it is neither a model nor an empty folder.
        network: the network whose parameters and buffers are written.
        info: the model's description.
        half: write floating-point tensors as float16, in half of the space. `load_model` turns
            them back into float32.

    Returns:
        `info` as written, with precision, sha256, number of parameters and medkd's version.

    Raises:
        CheckpointError: if the disk is full or not writable, the directory is refused, or a
            value does not fit float16.
    """
    from safetensors.torch import save as to_safetensors

    from medkd.models.network import parameter_count
    from medkd.models.weights import to_half

    if directory.exists() and not _is_free(directory):
        raise CheckpointError(
            f"{directory}: not saved",
            [f"expected no folder, an empty one or a model with {INFO_NAME}; choose another path"],
        )
    tensors = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    if half:
        tensors = to_half(tensors, name=str(directory))
    content = to_safetensors(tensors)
    written = replace(
        info,
        settings=_without_folders(info.settings),
        precision="float16" if half else "float32",
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
        kept = "the existing model is unchanged" if directory.exists() else "nothing was written"
        raise CheckpointError(f"{directory}: not saved", [str(error), kept]) from error
    return written


def read_info(model: Path | str) -> ModelInfo:
    """Read a model's description without its weights and without importing torch.

    Args:
        model: a model directory, or the name of a shipped model.

    Raises:
        CheckpointError: if this is not a model of a supported version.
    """
    return read_json(find_model(model) / INFO_NAME, ModelInfo, form=MODEL)


def load_model(model: Path | str, *, device: str = "cpu") -> LoadedModel:
    """Load a model in float32.

    Args:
        model: a folder written by `save_model`, or the name of a shipped model.
        device: torch device that the network is moved to.

    Raises:
        CheckpointError: if the JSON is missing, invalid or of an unsupported version, or the
            weights are missing, truncated, changed, or do not fit the network in the JSON.

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
    from medkd.models.weights import load_weights, parse_safetensors

    directory = find_model(model)
    info = read_info(directory)
    path = directory / WEIGHTS_NAME
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{directory}: the weights cannot be read", [str(error)]) from error
    found = hashlib.sha256(content).hexdigest()
    if found != info.weights_sha256:
        raise CheckpointError(
            f"{path}: not the weights that {INFO_NAME} describes",
            [
                f"sha256 expected {info.weights_sha256}, got {found}",
                f"the file has {len(content)} bytes; it was changed or cut off: copy it again",
            ],
        )
    network = build_architecture(_settings_of(info, directory))
    load_weights(network, parse_safetensors(content, str(path)), name=str(path))
    network.initialisation = info.initialisation
    return LoadedModel(network.to(device).eval(), info, directory.absolute())


@lru_cache(maxsize=2)
def _loaded_once(directory: Path, device: str, weights_sha256: str) -> LoadedModel:
    """Load a model for this process.

    Raises:
        CheckpointError: if the directory now contains another model.
    """
    model = load_model(directory, device=device)
    if model.info.weights_sha256 != weights_sha256:
        reason = f"sha256 of the weights: {weights_sha256} before, {model.info.weights_sha256} now"
        raise CheckpointError(f"{directory}: the model was replaced", [reason])
    return model


def calibrated_probability(logits: Tensor, info: ModelInfo) -> Tensor:
    """Return calibrated probabilities of logits.

    Args:
        logits: [B, K] or [B, K, *grid].
        info: supplies `calibration` and `outputs`.

    Returns:
        Probabilities in 0..1, of the shape of `logits`.
    """
    import torch

    shape = (-1, *(1,) * (logits.ndim - 2))
    temperature, shift = (
        torch.tensor(values, dtype=logits.dtype, device=logits.device).view(shape)
        for values in (info.calibration.temperature, info.calibration.logit_shift)
    )
    scaled = logits / temperature + shift
    return scaled.softmax(dim=1) if info.outputs == "exclusive" else scaled.sigmoid()


def nodule_scaling(info: ModelInfo) -> Scaling:
    """Return temperature and shift of the nodule logit of a model with one label.

    The logit of two exclusive outputs is their difference, so only that of their shifts counts.
    """
    temperature, shift = info.calibration.temperature[0], info.calibration.logit_shift
    own = shift[-1] - shift[0] if info.outputs == "exclusive" else shift[0]
    return Scaling(temperature, own)


def _is_free(directory: Path) -> bool:
    """Return whether the directory is a model or an empty folder, so it may be replaced."""
    return directory.is_dir() and (
        (directory / INFO_NAME).is_file() or not any(directory.iterdir())
    )


def _without_folders(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Reduce each `weights_file` to its name: folders of the training machine are not stored."""
    found = {k: _without_folders(v) if isinstance(v, dict) else v for k, v in settings.items()}
    file = settings.get("weights_file")
    return {**found, "weights_file": Path(file).name} if file else found


def _settings_of(info: ModelInfo, directory: Path) -> NetworkSettings:
    from medkd.models.table import parse_model_settings

    try:
        return parse_model_settings(info.settings)
    except ValidationError as error:
        reasons = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise CheckpointError(
            f"{directory}: this version of medkd does not know the model", reasons
        ) from error
