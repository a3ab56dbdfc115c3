"""Finished models that teach as they are: from a directory, or shipped with medkd.

They may have more labels than the data. As a member of an ensemble, a model may also lack some.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medkd.errors import SettingsError
from medkd.models.label_choice import choose_labels
from medkd.models.package import LoadedModel, ModelInfo, load_model, read_info
from medkd.models.table import build_architecture, parse_model_settings
from medkd.models.weights import load_weights
from medkd.train.domains import Domain, check_model
from medkd.train.plan import RunContext
from medkd.transfer.outputs import Outputs


def load_given(
    path: Path, context: RunContext, *, outputs: Outputs, member: bool = False
) -> LoadedModel:
    """Load a model for the labels of the target domain, in their order.

    Args:
        path: a model directory, or the name of a shipped model.
        context: the run.
        outputs: what the outputs of its students mean.
        member: it is joined with others, and may lack some of the labels.

    Raises:
        SettingsError: if the model does not fit the views or the labels of the target domain.
        CheckpointError: if the model directory is incomplete.
    """
    domain = context.target
    if reasons := given_misfits(path, domain, outputs=outputs, member=member):
        raise SettingsError(f"{path}: this model cannot teach on {domain.index.name}", reasons)
    loaded = load_model(path, device=context.device)
    info = choose_labels(loaded.info, domain.index.label_names, lacking=member)
    if info.settings == loaded.info.settings:
        return replace(loaded, info=info)
    network = build_architecture(parse_model_settings(info.settings)).to(context.device).eval()
    load_weights(network, loaded.network.state_dict(), name=str(path))
    return LoadedModel(network, info)


def given_misfits(
    path: Path, domain: Domain, *, outputs: Outputs, member: bool = False
) -> list[str]:
    """Return why a model does not fit a domain, or its students; see `load_given`."""
    info = choose_labels(read_info(path), domain.index.label_names, lacking=member)
    settings = parse_model_settings(info.settings)
    reasons = [*check_model(domain, settings, role=info.kind), *_differences(info, domain)]
    if info.outputs != outputs:
        reasons.append(
            f"its outputs are {info.outputs}, those of the student {outputs}: set transfer.outputs "
            "to those of the teacher"
        )
    return reasons


def unanswered(paths: Sequence[Path], domain: Domain) -> list[str]:
    """Return the labels of a domain that none of several models answers."""
    known = {name.casefold() for path in paths for name in read_info(path).label_names}
    return [name for name in domain.index.label_names if name.casefold() not in known]


def _differences(info: ModelInfo, domain: Domain) -> list[str]:
    """List how the preprocessing and labels of a model differ from those of a domain."""
    reasons = []
    given, ours = info.preprocessing, domain.preprocessing
    if given.hu_window is not None and given.hu_window != ours.hu_window:
        reasons.append(f"it was trained with the HU window {given.hu_window}, not {ours.hu_window}")
    if given.spacing_mm is not None and given.spacing_mm != ours.spacing_mm:
        reasons.append(f"it was trained at {given.spacing_mm} mm, not at {ours.spacing_mm} mm")
    known = {name.casefold() for name in info.label_names}
    if missing := [n for n in domain.index.label_names if n.casefold() not in known]:
        reasons.append(
            f"it has no output for {', '.join(missing)}; its labels are "
            f"{', '.join(info.label_names)}"
        )
    elif info.label_names != domain.index.label_names:
        reasons.append(
            f"it was trained for {', '.join(info.label_names)}, but the labels of the data are "
            f"{', '.join(domain.index.label_names)}"
        )
    return reasons
