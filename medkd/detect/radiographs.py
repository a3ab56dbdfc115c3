"""Calibrated probabilities for whole radiographs, from a model that was trained on such."""

from __future__ import annotations

import time

import torch

from medkd.data.loading import ImageStep, parse_loading
from medkd.data.radiograph_patches import resize_radiograph
from medkd.detect.search import past_of
from medkd.errors import CheckpointError, SeriesError
from medkd.models.package import LoadedModel, ModelInfo, calibrated_probability
from medkd.types import CaseResult, Radiograph

CLASSIFICATION = "classification"
"""Name of the operating point of whole images."""


def takes_radiographs(info: ModelInfo) -> bool:
    """Say whether a model was trained on images, not on patches of scans."""
    steps = info.preprocessing.steps
    return bool(steps) and steps[0].get("kind") == "image"


def check_image_model(model: LoadedModel) -> tuple[int, int]:
    """Return the rows and columns of a view.

    Raises:
        CheckpointError: with every reason why the model cannot score radiographs.
    """
    info, network = model.info, model.network
    reasons = []
    if network.spatial_dims != 2:
        reasons.append(f"it takes {network.spatial_dims}-D views; a radiograph has two axes")
    steps = parse_loading(info.preprocessing.steps) if info.preprocessing.steps else ()
    sizes = [step.size_px for step in steps if isinstance(step, ImageStep)]
    size = (sizes[0] if sizes else None) or info.preprocessing.patch_shape or ()
    if len(size) != 2:
        reasons.append("its preprocessing does not say the rows and columns of a view")
    names = len(info.label_names)
    expected = 2 if info.outputs == "exclusive" and names == 1 else names
    if network.label_count != expected:
        reasons.append(f"it has {network.label_count} outputs for {names} labels")
    if reasons:
        raise CheckpointError(f"the model {info.kind!r} cannot score radiographs", reasons)
    return size[0], size[1]


def score_radiograph(radiograph: Radiograph, model: LoadedModel, *, view: str = "") -> CaseResult:
    """Score one radiograph, prepared as the training images were.

    Args:
        radiograph: of any size; resized by area, aspect not kept.
        model: a 2-D classifier; runs on the device that its network lives on.
        view: what is known of the view where the picture itself does not say it.

    Returns:
        The calibrated probability of each label.

    Raises:
        SeriesError: if the picture shows another view than the model was trained on.
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
    """Refuse a lateral picture where the model has seen frontal ones, and the like."""
    known = info.preprocessing.views
    if known is None or view.casefold() in {name.casefold() for name in known}:
        return
    trained = ", ".join(name or "not stated" for name in known)
    reason = f"view: {view or 'not stated'}; the model was trained on the views {trained}"
    raise SeriesError("another view than the model knows", [reason])
