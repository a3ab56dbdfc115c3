"""The controls of a training with samples without labels, and the teachers made of other arms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medkd.config.run_settings import RunSettings
from medkd.data.augment import view_batch
from medkd.models.ensemble import Ensemble
from medkd.models.package import load_model
from medkd.models.probe import Probe
from medkd.runs import RunFolder, read_predictions
from medkd.train.bench import run_bench
from medkd.train.label_map import labels_needed, map_markdown, run_label_map
from medkd.train.predict import labels_of
from medkd.train.run import build_context, run_training

Build = Callable[..., RunSettings]
LIMIT = {"labelled_fraction": 0.5, "unlabelled": "keep", "validation": "limited"}
PROBE = {
    "kind": "probe",
    "backbone": {"kind": "compact2d", "channels": [4, 8], "strides": [1, 2]},
    "layers": ["features.3", "features.4"],
    "components": 8,
    "views": 2,
}
OUTPUTS = {
    "terms": [{"kind": "soft_label"}],
    "targets": {"mode": "stored", "average": True, "views": 2, "scale": "control"},
}


@pytest.fixture
def with_pool(image_settings: Build, image_values: dict[str, Any]) -> Build:
    def build(**changed: Any) -> RunSettings:
        target = image_values["target"] | {"split": {"kind": "official", "limit": LIMIT}}
        return image_settings(**({"target": target} | changed))

    return build


def test_a_pool_brings_two_more_arms_and_no_pool_none(
    with_pool: Build, image_settings: Build, tmp_path: Path
) -> None:
    evaluation = run_training(with_pool(controls={"views": 3}), RunFolder(tmp_path / "pool"))
    names = ["teacher", "control", "control_views", "self_training", "student"]
    assert [arm.name for arm in evaluation.arms] == names
    assert evaluation.splits["train"]["labelled"] == 24
    first = evaluation.differences[0]
    assert (first.first, first.second, first.primary) == ("student", "control", True)
    pairs = {(one.first, one.second) for one in evaluation.differences}
    assert ("student", "self_training") in pairs
    assert {one.arm for one in evaluation.fidelity} == {"student", "control", "self_training"}
    assert evaluation.splits["val"]["samples"] == 12
    plain = run_training(image_settings(), RunFolder(tmp_path / "plain"))
    assert [arm.name for arm in plain.arms] == ["teacher", "control", "student"]
    off = {"views": None, "self_training": False}
    few = run_training(with_pool(controls=off), RunFolder(tmp_path / "off"))
    assert [arm.name for arm in few.arms] == ["teacher", "control", "student"]


def test_the_control_with_views_is_the_control_scored_by_the_mean_logit(
    with_pool: Build, tmp_path: Path
) -> None:
    settings, run = with_pool(controls={"views": 3}), RunFolder(tmp_path / "run")
    run_training(settings, run)
    context = build_context(settings, run, work_dir=run.path, progress=lambda *_: None)
    source = context.target.parts["test"]
    network = load_model(run.model("control")).network
    batch = source.__getitems__(range(len(source)))
    logits = []
    for number in range(3):
        viewed = type(batch)(
            batch.image, batch.label, batch.label_known, batch.sample_id, (number,) * len(source)
        )
        views = view_batch(viewed, settings.target.augmentation, seed=settings.seed)
        with torch.no_grad():
            logits.append(network(views.image))
    expected = torch.stack(logits).mean(dim=0)[:, 0].numpy()
    found = [row.logits[0] for row in read_predictions(run.predictions("control_views", "test"))]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    same = load_model(run.model("control_views")).network.state_dict()
    assert all(torch.equal(same[n], t) for n, t in network.state_dict().items())


def test_self_training_learns_from_the_control_and_is_never_the_headline(
    with_pool: Build, tmp_path: Path
) -> None:
    record = run_bench(with_pool(bench={"seeds": [0]}), tmp_path / "bench")
    (row,) = record.of("self_training")
    assert (row.role, row.teacher) == ("student", "control")
    assert record.headline == "student"
    assert "student minus self_training" in (tmp_path / "bench" / "table.md").read_text()
    assert row.labels == 24 + 12


def probe_bench(build: Build) -> RunSettings:
    bench = {
        "seeds": [0],
        "teachers": {"probe": PROBE, "both": {"ensemble": {"members": ["probe", "control"]}}},
        "arms": [
            {"name": "from_probe", "teacher": "probe", "transfer": OUTPUTS},
            {"name": "from_both", "teacher": "both", "transfer": OUTPUTS},
        ],
        "primary": {"first": "from_probe"},
        "labels": [{"fraction": 0.25, "seeds": 2}, {"fraction": 1.0, "seeds": 1}],
    }
    return build(bench=bench, teacher=None, transfer=None)


def test_a_map_has_one_bench_for_each_fraction_and_adds_up(
    with_pool: Build, tmp_path: Path
) -> None:
    found = run_label_map(probe_bench(with_pool), tmp_path / "map")
    counts = {score.fraction: score.labels for score in found.scores}
    assert counts == {0.25: 12 + 6, 1.0: 48 + 24}
    arms = {score.arm for score in found.scores if score.fraction == 1.0}
    assert arms == {
        "probe", "control", "control_views", "both", "self_training", "from_probe", "from_both",
    }  # fmt: skip
    primary = [one for one in found.differences if one.primary]
    assert [(one.fraction, one.first, one.second) for one in primary] == [
        (0.25, "from_probe", "control")
    ]
    text = (tmp_path / "map" / "map.md").read_text()
    assert text == map_markdown(found)
    assert "- from_probe with 18 labels: the control would need" in text
    means = {(s.fraction, s.arm): s.estimate.value for s in found.scores if s.metric == "roc_auc"}
    for fraction, labels in counts.items():
        gain = means[fraction, "from_probe"] > means[fraction, "control"]
        said = f"- from_probe with {labels:.0f} labels: the control would need" in text
        assert said == gain
    assert "- 25 %: from_probe: mean KL to its teacher is " in text
    assert " of self-training's: " in text
    assert run_label_map(probe_bench(with_pool), tmp_path / "map", resume=True) == found


def test_an_ensemble_answers_with_its_members_on_one_scale(
    with_pool: Build, tmp_path: Path
) -> None:
    settings = probe_bench(with_pool)
    run_bench(settings, tmp_path / "bench")
    run = RunFolder(tmp_path / "bench" / "seed-0")
    network = load_model(run.model("both")).network
    assert isinstance(network, Ensemble)
    assert isinstance(network.networks[0], Probe)
    context = build_context(settings, run, work_dir=tmp_path, progress=lambda *_: None)
    source = context.target.parts["train"]
    images = source.__getitems__(range(len(source))).image
    with torch.no_grad():
        moved = [
            network.factor[number] * member.eval()(images) + network.offset[number]
            for number, member in enumerate(network.networks)
        ]
    assert float(moved[0].mean()) == pytest.approx(float(moved[1].mean()), abs=2e-2)
    assert float(moved[0].std()) == pytest.approx(float(moved[1].std()), rel=2e-2)
    assert float(network.weight.sum()) == pytest.approx(1)
    assert np.isnan(labels_of(source)).any()


def test_an_ensemble_by_confidence_is_built_and_teaches(with_pool: Build, tmp_path: Path) -> None:
    settings = probe_bench(with_pool).model_dump(by_alias=True, exclude_unset=True)
    settings["bench"]["teachers"]["both"]["ensemble"]["weights"] = "confidence"
    settings["bench"] |= {"seeds": [0], "labels": []}
    run_bench(RunSettings.model_validate(settings), tmp_path / "bench")
    network = load_model(RunFolder(tmp_path / "bench" / "seed-0").model("both")).network
    assert isinstance(network, Ensemble)
    assert network.by_confidence


def test_an_arm_can_teach_the_next_one_with_a_network_of_its_own(
    image_settings: Build, image_values: dict[str, Any], tmp_path: Path
) -> None:
    own = {"terms": [{"kind": "soft_label"}]}
    assistant = {"kind": "shallow2d", "channels": 8}
    arms = [
        {"name": "assistant", "transfer": own, "model": assistant},
        {"name": "student", "teacher": "assistant", "transfer": own},
        {"name": "second", "teacher": "student", "transfer": own},
    ]
    settings = image_settings(
        bench={"seeds": [0], "teachers": {"teacher": image_values["teacher"]}, "arms": arms},
        teacher=None, transfer=None,
    )  # fmt: skip
    record = run_bench(settings, tmp_path / "bench")
    sizes = {arm: record.of(arm)[0].parameters for arm in record.arms()}
    assert sizes["teacher"] > sizes["assistant"] > sizes["student"] == sizes["second"]
    assert [record.of(arm)[0].teacher for arm in ("assistant", "student", "second")] == [
        "teacher", "assistant", "student",
    ]  # fmt: skip
    arms[0], arms[1] = arms[1], arms[0]
    with pytest.raises(ValueError, match="'assistant', which is not listed before it"):
        image_settings(bench={"arms": arms})


def test_members_of_an_ensemble_must_be_teachers_or_the_control(image_settings: Build) -> None:
    bench = {"teachers": {"both": {"ensemble": {"members": ["both", "other"]}}}}
    with pytest.raises(ValueError, match="'both' names 'other': members are single teachers"):
        image_settings(bench=bench, teacher=None)


@pytest.mark.parametrize(
    ("wanted", "expected"), [(0.7, 10.0), (0.8, 10.0), (0.85, 31.6), (0.9, 100.0), (0.95, None)]
)
def test_labels_are_read_from_the_controls_own_curve(wanted: float, expected: float | None) -> None:
    assert labels_needed([10, 100, 1000], [0.8, 0.9, 0.9], wanted) == expected
