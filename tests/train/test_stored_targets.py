"""Training from a teacher's stored answers equals training with the teacher asked live."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medkd.config.run_settings import RunSettings
from medkd.data.augment import AugmentationSettings
from medkd.data.loading import LoadStep
from medkd.models.package import load_model
from medkd.models.probe import Probe
from medkd.models.table import build_model, parse_model_settings
from medkd.runs import RunFolder
from medkd.train import answers
from medkd.train.answers import PLAIN, Asked, read_features
from medkd.train.plan import plan_arms
from medkd.train.run import build_context, run_training
from medkd.train.targets import _answers
from medkd.transfer.targets import TargetShape, TargetStore
from medkd.transfer.teacher import FrozenTeacher

Build = Callable[..., RunSettings]


@pytest.fixture
def settings_of(image_settings: Build, image_values: dict[str, Any], tmp_path: Path) -> Build:
    """Build settings of a run with two views a sample and a cache that all runs share."""

    def build(targets: dict[str, Any], **changed: Any) -> RunSettings:
        target = image_values["target"] | {"cache_dir": str(tmp_path / "cache")}
        target["augmentation"] = {"shift_vox": 1.0, "views": 2} | changed.pop("augmentation", {})
        transfer = image_values["transfer"] | {"targets": targets}
        return image_settings(**({"target": target, "transfer": transfer} | changed))

    return build


@pytest.fixture
def asked(settings_of: Build, tmp_path: Path) -> Asked:
    """Two views of each training sample."""
    run = RunFolder(tmp_path / "run")
    context = build_context(settings_of({}), run, work_dir=run.path, progress=lambda *_: None)
    return context.asked(plan_arms(context.settings)[-1], context.target.parts["train"], views=2)


def losses(run: Path) -> np.ndarray:
    with (run / "training" / "student" / "log.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    return np.array([[float(row[key]) for key in ("train_loss", "term_hint")] for row in rows])


def stores(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "cache" / "targets").glob("*/")}


@pytest.mark.parametrize(("precision", "apart"), [("float32", 1e-5), ("half", 1e-3)])
def test_the_losses_are_those_of_the_live_teacher(
    settings_of: Build, tmp_path: Path, precision: str, apart: float
) -> None:
    run_training(settings_of({}), RunFolder(tmp_path / "live"))
    own = {"mode": "stored", "precision": precision}
    run_training(settings_of(own), RunFolder(tmp_path / "stored"))
    np.testing.assert_allclose(losses(tmp_path / "stored"), losses(tmp_path / "live"), atol=apart)
    (key,) = stores(tmp_path)
    assert set(TargetStore(tmp_path / "cache" / "targets" / key).names) == {"logits", "pool"}


def test_answers_are_computed_once_for_all_runs_and_never_for_others(
    settings_of: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"mode": "stored"}
    run_training(settings_of(own), RunFolder(tmp_path / "one"))
    teacher = {"from": str(tmp_path / "one" / "teacher")}
    first = stores(tmp_path)
    written = TargetStore.write
    monkeypatch.setattr(TargetStore, "write", lambda *_: pytest.fail("computed again"))
    run_training(settings_of(own, teacher=teacher), RunFolder(tmp_path / "again"))
    assert stores(tmp_path) == first
    monkeypatch.setattr(TargetStore, "write", written)
    for number, changed in enumerate(
        [
            {"augmentation": {"shift_vox": 2.0}},
            {"seed": 1},
            {"augmentation": {"views": 3}},
        ]
    ):
        run = RunFolder(tmp_path / f"other-{number}")
        run_training(settings_of(own, teacher=teacher, **changed), run)
        assert len(stores(tmp_path)) == len(first) + 1 + number
    run_training(settings_of(own), RunFolder(tmp_path / "other teacher, other weights"))
    assert len(stores(tmp_path)) == len(first) + 3


CHANGES: dict[str, Callable[[Asked], Asked]] = {
    "another seed of the views": lambda asked: replace(asked, seed=asked.seed + 1),
    "another number of views": lambda asked: replace(asked, views=3),
    "the samples as they are": lambda asked: replace(asked, views=PLAIN),
    "another precision": lambda asked: replace(asked, precision="half"),
    "other views": lambda asked: of_domain(
        asked, settings=asked.domain.settings.model_copy(
            update={"augmentation": AugmentationSettings(shift_vox=2.0, views=2)}
        )
    ),
    "another preprocessing": lambda asked: of_domain(
        asked, settings=asked.domain.settings.model_copy(update={"loading": (LoadStep(),)})
    ),
    "other data": lambda asked: of_domain(
        asked, index=replace(asked.domain.index, fingerprint="other")
    ),
}  # fmt: skip


def of_domain(asked: Asked, **changed: Any) -> Asked:
    return replace(asked, domain=replace(asked.domain, **changed))


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_all_on_which_answers_depend_is_in_the_name_of_their_store(
    asked: Asked, change: Callable[[Asked], Asked]
) -> None:
    shape = TargetShape(("a", "b"), 2, {"logits": (1,)})
    key = answers._key(asked, shape, "teacher")
    assert key == answers._key(asked, shape, "teacher")
    assert key != answers._key(asked, shape, "another teacher")
    assert key != answers._key(asked, replace(shape, sample_id=("a", "c")), "teacher")
    assert key != answers._key(change(asked), shape, "teacher")


@pytest.mark.parametrize("other", [{"seed": 1}, {"temperature": 2.0}, {"pooling": "centre"}])
def test_answers_of_another_teacher_are_stored_apart(
    asked: Asked, tmp_path: Path, other: dict[str, Any]
) -> None:
    def ask(*, seed: int = 0, temperature: float = 1.0, pooling: str = "mean") -> None:
        values = {"kind": "compact2d", "channels": [4], "strides": [1], "pooling": pooling}
        network = build_model(parse_model_settings(values), seed=seed)
        _answers(FrozenTeacher(network, temperature), [], asked)

    for _ in range(2):
        ask()
        assert len(stores(tmp_path)) == 1
    ask(**other)
    assert len(stores(tmp_path)) == 2


def test_the_features_of_probes_of_other_image_sizes_are_stored_apart(
    asked: Asked, tmp_path: Path
) -> None:
    found = []
    for size in (32, 48):
        body = {"kind": "torchvision2d", "name": "resnet18", "image_size": size}
        values = {"kind": "probe", "backbone": body, "layers": ["body.layer1"]}
        probe = build_model(parse_model_settings(values), seed=0)
        assert isinstance(probe, Probe)
        found.append(read_features(probe, replace(asked, views=PLAIN)))
    assert not torch.equal(*found)
    assert len(stores(tmp_path)) == 2


def test_a_seed_of_the_views_is_shared_by_all_seeds_of_the_run(
    settings_of: Build, tmp_path: Path
) -> None:
    run_training(settings_of({"mode": "stored"}), RunFolder(tmp_path / "one"))
    teacher = {"from": str(tmp_path / "one" / "teacher")}
    for seed in (1, 2):
        changed = {"seed": seed, "teacher": teacher, "augmentation": {"seed": 5}}
        run_training(settings_of({"mode": "stored"}, **changed), RunFolder(tmp_path / str(seed)))
    assert len(stores(tmp_path)) == 2


def test_a_stopped_computation_goes_on_with_the_missing_rows(
    settings_of: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "_BATCH", 10)
    written, write = [], TargetStore.write

    def stop_after_three(store: TargetStore, rows: Any, values: Any) -> None:
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(len(rows))
        write(store, rows, values)

    monkeypatch.setattr(TargetStore, "write", stop_after_three)
    with pytest.raises(KeyboardInterrupt):
        run_training(settings_of({"mode": "stored"}), RunFolder(tmp_path / "run"))
    monkeypatch.setattr(
        TargetStore, "write", lambda s, r, v: (written.append(len(r)), write(s, r, v))
    )
    run_training(settings_of({"mode": "stored"}), RunFolder(tmp_path / "run"), resume=True)
    assert sum(written) == 2 * 48
    whole = RunFolder(tmp_path / "whole")
    run_training(settings_of({"mode": "stored"}), whole)
    np.testing.assert_array_equal(losses(tmp_path / "run"), losses(whole.path))


def test_averaged_answers_are_the_mean_over_the_views_of_a_sample(
    settings_of: Build, tmp_path: Path
) -> None:
    terms = {"terms": [{"kind": "soft_label"}]}
    targets = {"mode": "stored", "average": True, "views": 3, "precision": "float32"}
    changed = {"transfer": terms | {"targets": targets}, "augmentation": {"views": "live"}}
    run_training(settings_of({}, **changed), RunFolder(tmp_path / "run"))
    (key,) = stores(tmp_path)
    store = TargetStore(tmp_path / "cache" / "targets" / key)
    assert store.views == 3
    model = load_model(tmp_path / "run" / "teacher")
    assert torch.isfinite(store.read(np.arange(9))["logits"]).all()
    assert model.info.calibration.temperature[0] > 0


@pytest.mark.parametrize(
    ("targets", "views", "words"),
    [
        ({"mode": "stored"}, "live", "needs augmentation.views: a number, not live"),
        ({"mode": "stored", "views": 4}, 2, "targets.views is 4, augmentation.views 2"),
    ],
)
def test_views_that_cannot_be_stored_are_refused(
    settings_of: Build, targets: dict[str, Any], views: object, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        settings_of(targets, augmentation={"views": views})
