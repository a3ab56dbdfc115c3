"""The table of all networks. A new network needs a module, its settings and a line in `MODELS`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from medkd.models import (
    classifiers,
    detector,
    ensemble,
    luna_classifier,
    probe,
    teachers,
    teachers_xray,
)
from medkd.models.network import Network, NetworkSettings, parameter_count, seeded
from medkd.settings import union_by_kind

STUDENT_PARAMETERS = 500_000
"""A student has at most this many parameters."""


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """How networks of one kind are built.

    `build` creates the network with random weights. `initialise` loads the weights that the
    settings name in `weights`, and returns a description of them. `adopt` loads tensors under the
    names of a foreign library and returns a description; it is needed only if they do not simply
    fill the body.
    """

    settings: type[NetworkSettings]
    build: Callable[[Any], Network]
    initialise: Callable[[Any, Any], str] | None = None
    adopt: Callable[[Any, Any, Mapping[str, Any]], str] | None = None


MODELS: dict[str, ModelEntry] = {
    "compact2d": ModelEntry(classifiers.Compact2dSettings, classifiers.build_compact),
    "compact3d": ModelEntry(classifiers.Compact3dSettings, classifiers.build_compact),
    "shallow2d": ModelEntry(classifiers.Shallow2dSettings, classifiers.build_shallow),
    "shallow3d": ModelEntry(classifiers.Shallow3dSettings, classifiers.build_shallow),
    "linear2d": ModelEntry(classifiers.Linear2dSettings, classifiers.LinearClassifier),
    "linear3d": ModelEntry(classifiers.Linear3dSettings, classifiers.LinearClassifier),
    "resnet3d": ModelEntry(
        teachers.Resnet3dSettings, teachers.build_resnet3d, teachers.initialise_resnet3d
    ),
    "torchvision2d": ModelEntry(
        teachers.Torchvision2dSettings,
        teachers.build_torchvision2d,
        teachers.initialise_torchvision2d,
    ),
    "timm2d": ModelEntry(
        teachers.Timm2dSettings, teachers.build_timm2d, teachers.initialise_timm2d
    ),
    "torchxrayvision2d": ModelEntry(
        teachers_xray.Torchxrayvision2dSettings,
        teachers_xray.build_torchxrayvision2d,
        teachers_xray.initialise_torchxrayvision2d,
        teachers_xray.adopt_torchxrayvision2d,
    ),
    "luna_classifier": ModelEntry(
        luna_classifier.LunaClassifierSettings, luna_classifier.LunaClassifier
    ),
    "detector3d": ModelEntry(detector.DetectorSettings, detector.PointDetector),
    "ensemble": ModelEntry(ensemble.EnsembleSettings, ensemble.Ensemble),
    "probe": ModelEntry(probe.ProbeSettings, probe.Probe, probe.initialise_probe),
}


if TYPE_CHECKING:
    ModelSettings = NetworkSettings
else:
    ModelSettings = union_by_kind(entry.settings for entry in MODELS.values())
"""The settings of one network of the table, chosen by `kind`."""


def parse_model_settings(values: object) -> NetworkSettings:
    """Parse plain values with a `kind` into the settings of that kind.

    Raises:
        pydantic.ValidationError: if the values are invalid.
    """
    parsed: NetworkSettings = TypeAdapter(ModelSettings).validate_python(values)
    return parsed


def build_model(settings: NetworkSettings, *, seed: int) -> Network:
    """Build a network on the CPU, with the weights that its settings name.

    The same settings and seed always give the same random weights. The state of the global
    generator is not changed.

    Args:
        settings: one of `ModelSettings`.
        seed: seed of the random weights.

    Raises:
        CheckpointError: if the named weights cannot be loaded or do not fit.
        ExtraMissingError: if an optional package is missing.

    Example:
        >>> from medkd.models.classifiers import Compact2dSettings
        >>> parameter_count(build_model(Compact2dSettings(), seed=0))
        322353
    """
    entry = _entry(settings)
    network = build_architecture(settings, seed=seed)
    if entry.initialise is not None and settings.names_weights:
        network.initialisation = entry.initialise(network, settings)
    return network


def build_architecture(settings: NetworkSettings, *, seed: int = 0) -> Network:
    """Build a network with random weights, ignoring the weights that its settings name."""
    with seeded(seed):
        return build_part(settings)


def build_part(settings: NetworkSettings) -> Network:
    """Build a network as part of another one: its random weights come from the same seed."""
    return _entry(settings).build(settings)


def check_model_input(
    settings: NetworkSettings,
    *,
    view_shape: Sequence[int],
    hu_window: tuple[float, float] | None,
    label_count: int,
) -> tuple[str, ...]:
    """Return the reasons why a model does not accept the data's views; empty if it does.

    Args:
        settings: one of `ModelSettings`.
        view_shape: [C, *spatial] of one view, the input of the network.
        hu_window: the HU window of the views, None for images.
        label_count: number of labels of the data.
    """
    kind = _kind(settings)
    reasons = []
    channels, *spatial = view_shape
    if settings.finds_points and any(size % detector.ALIGNMENT for size in spatial):
        reasons.append(
            f"{kind} accepts crops of multiples of {detector.ALIGNMENT} voxels, the data has "
            f"{tuple(spatial)}"
        )
    if isinstance(settings, probe.ProbeSettings) and len(spatial) == settings.spatial_dims:
        reasons += _unfit_looks(settings, spatial)
    if len(spatial) != settings.spatial_dims:
        reasons.append(
            f"{kind} accepts {settings.spatial_dims}-D views, the data has "
            f"{len(spatial)}-D views of shape {tuple(spatial)}"
        )
    elif settings.input_shape is not None and tuple(spatial) != settings.input_shape:
        reasons.append(
            f"{kind} accepts only views of shape {settings.input_shape}, "
            f"the data has {tuple(spatial)}"
        )
    if channels != settings.in_channels:
        reasons.append(f"in_channels is {settings.in_channels}, the data has {channels}")
    if label_count != settings.used_count:
        named = "used_outputs has" if settings.used_outputs else "label_count is"
        reasons.append(f"{named} {settings.used_count}, the data has {label_count}")
    if settings.hu_window is not None and settings.hu_window != hu_window:
        reasons.append(f"{kind} needs the HU window {settings.hu_window}, the data has {hu_window}")
    return tuple(reasons)


def _unfit_looks(settings: probe.ProbeSettings, spatial: Sequence[int]) -> Iterator[str]:
    """Yield why the pretrained network of a probe does not accept a field of view."""
    body = settings.body
    for look in settings.looks:
        shown = look.shape_in(spatial)
        if body.finds_points and any(size % detector.ALIGNMENT for size in shown):
            wanted = f"multiples of {detector.ALIGNMENT} voxels"
        elif settings.input_shape is None and body.input_shape not in (None, shown):
            wanted = f"only views of shape {body.input_shape}"
        else:
            continue
        yield (
            f"probe.looks: size_vox: {look.size_vox or 'null'} shows {shown} of views of shape "
            f"{tuple(spatial)}, {_kind(body)} accepts {wanted}"
        )


def check_student_size(settings: NetworkSettings) -> tuple[str, ...]:
    """Return why a model is too large for a student (`STUDENT_PARAMETERS`); empty if it is not."""
    count = parameter_count(build_architecture(settings))
    if count <= STUDENT_PARAMETERS:
        return ()
    return (
        f"a student has at most {STUDENT_PARAMETERS:,} parameters, {_kind(settings)} with these "
        f"settings has {count:,}; use fewer channels",
    )


def _entry(settings: NetworkSettings) -> ModelEntry:
    kind = _kind(settings)
    if kind not in MODELS:
        raise TypeError(f"unknown model kind {kind!r}; known kinds are {', '.join(MODELS)}")
    return MODELS[kind]


def _kind(settings: NetworkSettings) -> str:
    return str(getattr(settings, "kind", type(settings).__name__))
