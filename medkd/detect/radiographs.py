"""Calibrated probabilities for whole radiographs, from a model trained on radiographs."""

from __future__ import annotations

import time

import torch

from medkd.data.loading import ImageStep, parse_loading
from medkd.data.radiograph_patches import resize_radiograph
from medkd.detect.search import past_of
from medkd.errors import CheckpointError, SeriesError
from medkd.models.package import LoadedModel, ModelInfo, calibrated_probability
from medkd.types import CaseResult, Radiograph


def takes_radiographs(info: ModelInfo) -> bool:
    """Return whether a model was trained on images rather than on patches of scans."""
    steps = info.preprocessing.steps
    return bool(steps) and steps[0].get("kind") == "image"


def check_image_model(model: LoadedModel) -> tuple[int, int]:
    """Return the rows and columns of the input image that a model expects.

    Raises:
        CheckpointError: lists all reasons why the model cannot score radiographs.
    """
    info, network = model.info, model.network
    reasons = []
    if network.spatial_dims != 2:
        reasons.append(f"its input is {network.spatial_dims}-D; a radiograph is 2-D")
    steps = parse_loading(info.preprocessing.steps) if info.preprocessing.steps else ()
    sizes = [step.size_px for step in steps if isinstance(step, ImageStep)]
    size = (sizes[0] if sizes else None) or info.preprocessing.patch_shape or ()
    if len(size) != 2:
        reasons.append("its preprocessing does not define the rows and columns of the input")
    names = len(info.label_names)
    expected = 2 if info.outputs == "exclusive" and names == 1 else names
    if network.label_count != expected:
        reasons.append(f"it has {network.label_count} outputs for {names} labels")
    if reasons:
        raise CheckpointError(f"the model {info.kind!r} cannot score radiographs", reasons)
    return size[0], size[1]


def score_radiograph(radiograph: Radiograph, model: LoadedModel, *, view: str = "") -> CaseResult:
    """Score one radiograph, prepared in the same way as the training images.

    Args:
        radiograph: of any size; it is resized by area without keeping the aspect ratio.
        model: a 2-D classifier; it runs on the device of its network.
        view: the view position (PA, AP, ...), used if the radiograph itself does not state it.

    Returns:
        A result with the calibrated probability of each label.

    Raises:
        SeriesError: if the model was not trained on this view position.
        CheckpointError: if the model cannot score radiographs.
    """
    started = time.perf_counter()
    rows, columns = check_image_model(model)
    _check_view(radiograph.view or view, model.info)
    pixels = torch.from_numpy(resize_radiograph(radiograph, (rows, columns))).float() / 255
    device = next((p.device for p in model.network.parameters()), torch.device("cpu"))
    with torch.inference_mode():
        logits = model.network(pixels[None, None].to(device)).double().cpu()
        found = calibrated_probability(logits, model.info)[0].tolist()
    names = model.info.label_names
    values = found[-1:] if len(names) == 1 else found
    return CaseResult(
        radiograph.imageuid,
        (),
        "analysed",
        notes=past_of(model.info),
        seconds=round(time.perf_counter() - started, 3),
        kind="image",
        probabilities=dict(zip(names, values, strict=True)),
    )


def _check_view(view: str, info: ModelInfo) -> None:
    """Refuse a view position that the training images did not have, such as lateral."""
    known = info.preprocessing.views
    if known is None or view.casefold() in {name.casefold() for name in known}:
        return
    trained = ", ".join(name or "not stated" for name in known)
    reason = f"view: {view or 'not stated'}; the model was trained on the views {trained}"
    raise SeriesError("the model was not trained on this view", [reason])
