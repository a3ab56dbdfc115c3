"""How alike teacher and student arrange the test samples, layer by layer (linear CKA).

The embedding layers, the stages of both networks and the layers that transfer terms name are
compared. The same is measured for the control, because two networks that learned the same labels
are alike without any transfer. Nothing is chosen by these numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from medkd.config.run_settings import CONTROL
from medkd.data.patches import PatchSource
from medkd.evaluate.cka import LEAST_SAMPLES, batch_sizes, linear_cka
from medkd.models.layers import list_layers, stages
from medkd.models.network import Network
from medkd.models.package import load_model
from medkd.train.plan import Arm, RunContext
from medkd.transfer.taps import tap_layers
from medkd.transfer.terms import Side
from medkd.types import LayerSimilarity

SPLIT = "test"
SAMPLES = 256
"""Most samples on which layers are compared."""
BATCH = 32
"""Samples whose features are held in memory at once."""


@dataclass(frozen=True, slots=True, eq=False)
class _Tapped:
    """A network in eval mode and the names of its layers to compare."""

    network: Network
    layers: tuple[str, ...]

    def features(self, view: torch.Tensor) -> list[NDArray[np.float32]]:
        with torch.no_grad(), tap_layers(self.network, self.layers) as outputs:
            self.network(view)
        return [outputs[name].float().cpu().numpy() for name in self.layers]


def compare_layers(
    students: Sequence[Arm], arms: Collection[str], context: RunContext
) -> tuple[LayerSimilarity, ...]:
    """Compare the layers of every student of a run, and of the control, with those of the teachers.

    Args:
        students: arms with a teacher.
        arms: names of the finished arms.
        context: the run.

    Returns:
        One result for each student, and one for the control for each teacher and choice of layers;
        none if `why_not_compared`.
    """
    if why_not_compared(context):
        return ()
    found = (one for student in students for one in _of_student(student, arms, context))
    return tuple(dict.fromkeys(found))


def _of_student(
    student: Arm, arms: Collection[str], context: RunContext
) -> Iterator[LayerSimilarity]:
    source = context.target.parts[SPLIT]
    teacher = _tapped(str(student.teacher), "teacher", student, context)
    compared = {
        name: _tapped(name, "student", student, context)
        for name in (CONTROL, student.name)
        if name in arms
    }
    rows = _drawn(source, context.settings.evaluation.seed)
    found = linear_cka(_features(rows, teacher, list(compared.values()), context))
    ends = np.cumsum([len(tapped.layers) for tapped in compared.values()])[:-1]
    parts = np.split(found, ends, axis=1)
    for (name, tapped), values in zip(compared.items(), parts, strict=True):
        yield LayerSimilarity(
            arm=name,
            teacher=str(student.teacher),
            split=SPLIT,
            samples=len(rows),
            teacher_layers=teacher.layers,
            layers=tapped.layers,
            cka=_rounded(values),
        )


def why_not_compared(context: RunContext) -> str:
    """Return why the layers of a run are not compared; empty if they are."""
    student = context.settings.student
    if student is not None and student.model.finds_points:
        return (
            "The layers of point detectors are not compared: their maps belong to places in a "
            "scan and not to samples."
        )
    samples = len(context.target.parts[SPLIT])
    if samples < LEAST_SAMPLES:
        return f"Layers are compared on at least {LEAST_SAMPLES} test samples, got {samples}."
    return ""


def _tapped(name: str, side: Side, student: Arm, context: RunContext) -> _Tapped:
    """Load an arm and choose its layers: the embedding first, then the others in their order."""
    network = load_model(context.run.model(name), device=context.device).network
    known = list_layers(network, context.target.image_shape).layers
    named = {layer for term in student.transfer.terms for layer in term.layers(side)}
    wanted = {stage.name for stage in stages(known)} | named
    own = network.embedding_layer
    others = (layer.name for layer in known if layer.name in wanted and layer.name != own)
    return _Tapped(network, (own, *others))


def _drawn(source: PatchSource, seed: int) -> NDArray[np.int64]:
    """Draw samples at random, so that each batch is like the whole split."""
    return np.random.default_rng(seed).permutation(len(source))[:SAMPLES]


def _features(
    rows: NDArray[np.int64], teacher: _Tapped, others: Sequence[_Tapped], context: RunContext
) -> Iterator[tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]]:
    """Yield the features of the teacher and of all other networks, batch by batch."""
    source, done = context.target.parts[SPLIT], 0
    for batch in np.split(rows, np.cumsum(batch_sizes(len(rows), batch=BATCH))[:-1]):
        view = source.__getitems__(batch).image.to(context.device)
        found = [layer for tapped in others for layer in tapped.features(view)]
        yield teacher.features(view), found
        done += len(batch)
        context.progress("comparing layers with the teacher's", done, len(rows), "")


def _rounded(values: NDArray[np.float64]) -> tuple[tuple[float | None, ...], ...]:
    return tuple(
        tuple(None if np.isnan(value) else round(float(value), 4) for value in row)
        for row in values
    )
