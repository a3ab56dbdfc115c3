"""One trial of `medkd tune`: train the arms that the score needs, and score one on validation.

The test part is not built: its images are not read, predicted or evaluated.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from medkd.config.load import dump_settings
from medkd.config.run_settings import RunSettings
from medkd.errors import SettingsError
from medkd.files import write_text
from medkd.runs import RunFolder, read_predictions
from medkd.train.arm import fit_arm
from medkd.train.domains import Domain, build_domain
from medkd.train.logs import EpochHook, Progress, no_hook
from medkd.train.plan import Arm, RunContext, plan_arms
from medkd.train.predict import validation_scores
from medkd.train.run import build_context, check_arms
from medkd.train.state import Scores
from medkd.transfer.outputs import Outputs

BUILT = ("train", "val")
"""The parts of the data that a search uses."""


@dataclass(slots=True)
class Trials:
    """Trains and scores the trials of one search; they share the data, caches and teachers.

    Args:
        folder: folder of the search, `${run_dir}` in settings.
        arm: name of the arm that is scored.
        progress: called after every step.
        teachers: model directories of teachers that all trials share, by name.
    """

    folder: Path
    arm: str
    progress: Progress
    teachers: dict[str, Path] = field(default_factory=dict)
    _domains: dict[str, Domain] = field(default_factory=dict)

    def check(self, settings: RunSettings) -> None:
        """Refuse settings that do not fit the data, before anything is trained.

        Raises:
            SettingsError: with all reasons.
        """
        context = self._context(settings, RunFolder(self.folder), self.progress, no_hook)
        check_arms(context, needed_arms(settings, self.arm))

    def share_teacher(self, settings: RunSettings) -> None:
        """Train the teachers of the arm once, in DIR/shared, for all trials."""
        run = RunFolder(self.folder / "shared")
        for arm in needed_arms(settings, self.arm):
            if arm.role != "teacher" or arm.model is None or arm.name == self.arm:
                continue
            write_text(run.config, dump_settings(settings))
            fit_arm(arm, self._context(settings, run, self.progress, no_hook))
            self.teachers[arm.name] = run.model(arm.name)

    def run(self, settings: RunSettings, folder: Path, after_epoch: EpochHook) -> Scores:
        """Train in a folder, and return the scores of the arm on validation.

        Args:
            settings: settings of the trial.
            folder: folder of the trial; what an earlier, stopped trial left in it is deleted.
            after_epoch: called after every epoch; it may end the trial by an exception.

        Raises:
            SettingsError: if the settings do not fit the data.
            TrainingError: if the loss is not finite.
        """
        shutil.rmtree(folder, ignore_errors=True)
        run = RunFolder(folder)
        write_text(run.config, dump_settings(settings))
        name = folder.name

        def report(what: str, done: int, total: int, note: str = "") -> None:
            self.progress(f"{name}, {what}", done, total, note)

        context = self._context(settings, run, report, after_epoch)
        arms = [self._shared(arm) for arm in needed_arms(settings, self.arm)]
        check_arms(context, arms)
        try:
            for arm in arms:
                fit_arm(arm, context)
        finally:
            self._clean(run, arms)
        outputs = next(arm.transfer.outputs for arm in arms if arm.name == self.arm)
        return self._scores(run, outputs)

    def _scores(self, run: RunFolder, outputs: Outputs) -> Scores:
        """Return the scores of the logits on validation, as after each epoch of a training."""
        rows = read_predictions(run.predictions(self.arm, "val"))
        labels = np.array([row.labels for row in rows], dtype=np.float64)
        logits = np.array([row.logits for row in rows], dtype=np.float64)
        return validation_scores(logits, labels, outputs=outputs)

    def _shared(self, arm: Arm) -> Arm:
        path = self.teachers.get(arm.name)
        return arm if path is None else replace(arm, model=None, taken_from=path)

    def _clean(self, run: RunFolder, arms: Sequence[Arm]) -> None:
        """Delete the copies of shared teachers, and the states of trainings that were ended."""
        for arm in arms:
            shutil.rmtree(run.training(arm.name) / "state", ignore_errors=True)
            if arm.name in self.teachers:
                shutil.rmtree(run.model(arm.name), ignore_errors=True)

    def _context(
        self, settings: RunSettings, run: RunFolder, progress: Progress, after_epoch: EpochHook
    ) -> RunContext:
        context = build_context(
            settings, run, work_dir=self.folder, progress=progress, build=self._build
        )
        return replace(context, after_epoch=after_epoch)

    def _build(self, settings: Any, **others: Any) -> Domain:  # noqa: ANN401  # as build_domain
        """Build a domain without its test part, or return the last one with the same settings."""
        key = f"{settings.model_dump_json()} {others['seed']}"
        if key not in self._domains:
            while len(self._domains) > 1:  # source and target
                self._domains.pop(next(iter(self._domains)))
            self._domains[key] = build_domain(settings, **others, built=BUILT)
        return self._domains[key]


def needed_arms(settings: RunSettings, name: str) -> list[Arm]:
    """Return an arm of a run and the arms that it learns from, each teacher before its students.

    Raises:
        SettingsError: if the run has no such arm.
    """
    arms = {arm.name: arm for arm in plan_arms(settings)}
    if name not in arms:
        raise SettingsError(f"tune.arm: the run has no {name}", [f"its arms: {', '.join(arms)}"])
    wanted: set[str] = set()
    open_names = [name]
    while open_names:
        arm = arms[open_names.pop()]
        wanted.add(arm.name)
        open_names += [other for other in (arm.teacher, *arm.members) if other]
    return [arm for arm in arms.values() if arm.name in wanted]
