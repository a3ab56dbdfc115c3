"""Use only some outputs of a model: those for the labels of other data, in their order.

Public models of chest radiographs have 14 or 18 labels, a hospital has one or two of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from medkd.models.package import Calibration, ModelInfo
from medkd.models.table import parse_model_settings


def choose_labels(info: ModelInfo, labels: Sequence[str], *, lacking: bool = False) -> ModelInfo:
    """Return the description of the same network with the outputs for some labels.

    Names are compared without regard to case. What cannot be chosen is returned unchanged: a model
    without the labels, and exclusive classes, whose probabilities depend on all of them.

    Args:
        info: of a model with one output for each label.
        labels: names of the wanted labels, in the wanted order.
        lacking: the model may lack some of them, but not all; their logit is then 0.

    Example:
        >>> info = ModelInfo({"kind": "shallow2d", "label_count": 3}, ("Mass", "Nodule", "Edema"))
        >>> chosen = choose_labels(info, ["nodule", "mass"])
        >>> chosen.settings["used_outputs"], chosen.label_names
        ([1, 0], ('nodule', 'mass'))
    """
    given = [name.casefold() for name in info.label_names]
    wanted = [name.casefold() for name in labels]
    settings = parse_model_settings(info.settings)
    known = set(wanted) & set(given)
    fits = len(given) == settings.used_count and known and (lacking or known == set(wanted))
    if info.outputs == "exclusive" or not fits or len(set(given)) < len(given):
        return info
    numbers = [given.index(name) if name in known else -1 for name in wanted]
    names = tuple(labels)
    if numbers == list(range(len(given))):
        return replace(info, label_names=names)
    before = [*(settings.used_outputs or range(settings.label_count)), -1]
    return replace(
        info,
        settings={**info.settings, "used_outputs": [before[number] for number in numbers]},
        label_names=names,
        calibration=_calibration_of(info.calibration, numbers),
        operating_points={},
    )


def _calibration_of(found: Calibration, numbers: Sequence[int]) -> Calibration:
    temperature, shift = (
        values if len(values) == 1 else tuple([*values, none][number] for number in numbers)
        for values, none in ((found.temperature, 1.0), (found.logit_shift, 0.0))
    )
    return Calibration(temperature, shift)
