"""Publish trained models as the models that ship with medkd.

    python -m tests.bench.publish_models TEACHER STUDENT

TEACHER and STUDENT are model directories of finished runs, for example RUN/teacher RUN/student.
They become `medkd/_models/ct-nodule-source` and `medkd/_models/ct-nodule-small`: weights in half
precision, `model.json` and `MODEL_CARD.md`. What no training knows (purpose, licences, limits) is
read from `model_facts/NAME.json`, and scores with intervals from the evaluation of the run. The
same inputs give the same bytes.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import torch

from medkd.errors import CheckpointError
from medkd.files import replacing, write_text
from medkd.jsonio import read_json
from medkd.models.card import model_card
from medkd.models.network import Network
from medkd.models.package import DataSource, ModelInfo, load_model, save_model
from medkd.models.shipped import CARD_NAME, SHIPPED
from medkd.runs import RunFolder
from medkd.types import ArmResult, Interval

FACTS = Path(__file__).resolve().parent / "model_facts"
NAMES = ("ct-nodule-source", "ct-nodule-small")
"""The names of the published teacher and student."""
MOST_CHANGE = 1e-2
"""Most that half precision may change a value of the output on random views."""
VIEW_VOXELS = 48


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a person states of a model, see `ModelInfo`.

    `config` replaces the run's name (empty: it stays). `metrics` and `metric_intervals` are added
    to those of the run, for example scores on other data.
    """

    purpose: str
    licence: str
    sources: tuple[DataSource, ...]
    limits: tuple[str, ...]
    config: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    metric_intervals: dict[str, Interval] = field(default_factory=dict)


def publish_model(model: Path, facts: ModelFacts, out: Path) -> ModelInfo:
    """Write a model directory with weights in half precision and a card.

    Args:
        model: the model directory of an arm in a RUN, or any other model directory.
        facts: what the card states beyond `model.json` and the evaluation of the RUN.
        out: created or replaced; its name is the heading of the card.

    Raises:
        CheckpointError: if half precision changes the output by more than `MOST_CHANGE`, or the
            model cannot be read or stored so. An existing `out` is then unchanged.
    """
    loaded = load_model(model)
    scores = run_scores(model)
    info = replace(
        loaded.info,
        purpose=facts.purpose,
        licence=facts.licence,
        sources=facts.sources,
        limits=facts.limits,
        config=facts.config or loaded.info.config,
        metrics={**loaded.info.metrics, **scores.metrics, **facts.metrics},
        metric_intervals={
            **loaded.info.metric_intervals,
            **scores.metric_intervals,
            **facts.metric_intervals,
        },
    )
    with replacing(out) as temporary:
        written = save_model(temporary, loaded.network, info, half=True)
        change = output_change(loaded.network, load_model(temporary).network)
        if not change <= MOST_CHANGE:
            reason = f"half precision changes the output by {change:.2g}, limit {MOST_CHANGE:g}"
            raise CheckpointError(f"{model}: not published", [reason])
        write_text(temporary / CARD_NAME, model_card(out.name, written))
    return written


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores by name, and intervals of some of them."""

    metrics: dict[str, float]
    metric_intervals: dict[str, Interval]


def run_scores(model: Path) -> Scores:
    """Read CPM and ROC AUC of an arm on the test data of its run; empty if there are none."""
    path = RunFolder(model.resolve().parent).arm_result(model.resolve().name)
    if not path.is_file():
        return Scores({}, {})
    result = read_json(path, ArmResult)
    found = {
        f"test_cpm_{froc.track}": (froc.cpm_interpolated, froc.interval) for froc in result.froc
    }
    for score in chain.from_iterable(result.classification.values()):
        label = f"_{score.label}" if score.label else ""
        found[f"{score.split}_roc_auc{label}"] = (score.roc_auc.value, score.roc_auc.interval)
    return Scores(
        {name: value for name, (value, _) in found.items()},
        {name: interval for name, (_, interval) in found.items() if interval is not None},
    )


@torch.no_grad()
def output_change(before: Network, after: Network) -> float:
    """Return the largest difference of the outputs of two networks on four random views."""
    shape = before.input_shape or (VIEW_VOXELS,) * before.spatial_dims
    views = torch.rand(4, before.in_channels, *shape, generator=torch.Generator().manual_seed(0))
    return max(float((before(v[None]) - after(v[None])).abs().max()) for v in views)


def main(teacher: str, student: str) -> None:
    """Publish both models and print their sizes."""
    for name, model in zip(NAMES, (teacher, student), strict=True):
        facts = read_json(FACTS / f"{name}.json", ModelFacts)
        out = SHIPPED / name
        info = publish_model(Path(model), facts, out)
        size = sum(path.stat().st_size for path in out.iterdir())
        print(f"{out}: {info.parameters:,} parameters, {size:,} bytes")  # noqa: T201  # a script


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
