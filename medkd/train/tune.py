"""Search settings on validation: `medkd tune`.

    DIR/config.yaml     the settings of the search
    DIR/study.db        the study of optuna (SQLite)
    DIR/shared/         the teacher, if no searched key changes it
    DIR/trial-0003/     settings, log and models of one trial
    DIR/trials.csv      one row per trial
    DIR/best.yaml       the configuration with the best values, for `medkd train`

Values are proposed by TPE (Bergstra et al., NeurIPS 2011), first ten trials at random. A trial is
pruned after an epoch in which its best score so far is worse than the median of earlier trials
after the same epoch. The test part of the data is not used.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medkd.config.run_settings import RunSettings
from medkd.config.tune_settings import SearchRange, TuneSettings
from medkd.data.sampling import derive_seed
from medkd.errors import MedkdError, SettingsError
from medkd.models.weights import import_extra
from medkd.train.engine import TrainingError
from medkd.train.folder import open_folder
from medkd.train.logs import EpochHook, Progress, no_progress
from medkd.train.search_space import (
    Values,
    changes_teacher,
    check_space,
    plain_values,
    trial_settings,
)
from medkd.train.state import Scores
from medkd.train.trial import Trials
from medkd.train.tune_record import TrialRow, TuneResult, write_result

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

PRUNE_FROM = 5
"""Finished trials before the first one may be pruned."""

REASON, SECONDS = "reason", "seconds"
"""Names of what is stored with a trial: why it was not trained to its end, and its time."""


class PrunedError(MedkdError):
    """A trial is ended early, because its scores are below those of most other trials."""


def run_tune(
    settings: RunSettings,
    folder: Path,
    *,
    resume: bool = False,
    progress: Progress = no_progress,
) -> TuneResult:
    """Run trials until their number is reached, and write the best configuration.

    The proposals of a trial depend on `tune.seed`, the number of trials done and their scores, and
    on nothing in memory. A search that was killed and resumed therefore tries the same values as
    one that ran through; the trial that was cut off is repeated under the next number. This holds
    for the same version of optuna and if trainings repeat exactly, as they do on a CPU; on a GPU,
    scores differ in their last digits and with them later proposals.

    Args:
        settings: settings with a `tune` section.
        folder: folder of the search; `${run_dir}` in the settings.
        resume: continue the search in this folder.
        progress: called after every step.

    Raises:
        SettingsError: if a key cannot be searched, the settings do not fit the data, the folder
            holds something else, or no trial succeeded.
        ExtraMissingError: if optuna is not installed.
    """
    import_extra("optuna", extra="tune")
    check_space(settings)
    tune = _section(settings)
    values = plain_values(settings)
    plain = trial_settings(values, {})
    open_folder(folder, folder / "config.yaml", settings, resume=resume)
    trials = Trials(folder, tune.arm, progress)
    trials.check(plain)
    if not any(changes_teacher(settings, key) for key in tune.space):
        trials.share_teacher(plain)
    study = open_study(folder / "study.db", settings.name, tune)
    while (done := _count_done(study)) < tune.trials:
        study.sampler = _sampler(tune, done)
        trial = study.ask()
        progress("tune: running trials", done, tune.trials, trial_name(trial.number))
        _run_trial(study, trial, trials, tune=tune, values=values)
        write_result(_result(study, settings), folder, values)
    result = _result(study, settings)
    write_result(result, folder, values)
    if result.is_telling(PRUNE_FROM):
        result = replace(result, importance=_importance(study))
    progress("tune: running trials", done, max(done, tune.trials), "")
    if result.best is None:
        reasons = dict.fromkeys(row.reason for row in result.rows if row.reason)
        raise SettingsError(f"{folder}: no trial succeeded", list(reasons)[:10])
    return result


def trial_name(number: int) -> str:
    """Name the folder of a trial.

    Example:
        >>> trial_name(3)
        'trial-0003'
    """
    return f"trial-{number:04d}"


def open_study(path: Path, name: str, tune: TuneSettings) -> Study:
    """Open or create the study in a file; trials that were cut off are marked as such.

    Raises:
        SettingsError: if the path cannot be part of a database address.
    """
    import optuna

    if "?" in str(path):
        raise SettingsError(f"{path}: a search cannot be stored here", ["use a folder without ?"])
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=f"sqlite:///{path.absolute()}",
        study_name=name,
        direction="minimize" if tune.metric == "loss" else "maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=PRUNE_FROM),
        load_if_exists=True,
    )
    running = optuna.trial.TrialState.RUNNING
    for trial in study.get_trials(deepcopy=False, states=(running,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    return study


def _section(settings: RunSettings) -> TuneSettings:
    if settings.tune is None:
        raise ValueError("expected settings with a tune section")
    return settings.tune


def _sampler(tune: TuneSettings, done: int) -> Any:  # noqa: ANN401  # a sampler of optuna
    """Return a sampler whose random numbers depend on the number of trials done alone."""
    from optuna.samplers import TPESampler

    seed = derive_seed(tune.seed, "tune", done) % 2**32
    return TPESampler(seed=seed, n_startup_trials=10, constant_liar=False)


def _run_trial(
    study: Study, trial: Trial, trials: Trials, *, tune: TuneSettings, values: Values
) -> None:
    """Run one trial and store its score, or the reason why it has none."""
    from optuna.trial import TrialState

    started = time.perf_counter()
    score: float | None = None
    reason, state = "", TrialState.COMPLETE
    try:
        changed = _suggest(trial, tune.space)
        same = _same_before(study, trial)
        if same is not None:
            score, reason = same.value, f"not trained again: same values as trial {same.number}"
        else:
            own = trial_settings(values, changed)
            folder = trials.folder / trial_name(trial.number)
            score = trials.run(own, folder, _pruning(trial, tune))[tune.metric]
    except PrunedError as error:
        reason, state = error.headline, TrialState.PRUNED
    except (SettingsError, TrainingError) as error:
        reason, state = "; ".join((error.headline, *error.reasons)), TrialState.FAIL
    trial.set_user_attr(SECONDS, round(time.perf_counter() - started, 3))
    trial.set_user_attr(REASON, reason)
    study.tell(trial, score, state=state)


def _same_before(study: Study, trial: Trial) -> FrozenTrial | None:
    """Return an earlier complete trial with the same values, as happens with few choices."""
    from optuna.trial import TrialState

    earlier = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return next((one for one in earlier if one.params == trial.params), None)


def _pruning(trial: Trial, tune: TuneSettings) -> EpochHook:
    """Return the hook that reports the scores of the arm, and ends a trial that is pruned."""

    def after_epoch(arm: str, epoch: int, scores: Scores) -> None:
        if arm != tune.arm:
            return
        trial.report(scores[tune.metric], epoch)
        if trial.should_prune():
            raise PrunedError(f"pruned after epoch {epoch}")

    return after_epoch


def _suggest(trial: Trial, space: Mapping[str, SearchRange]) -> Values:
    """Return a value for each key. Choices are stored as JSON, since they may be sections."""
    found: Values = {}
    for key, tried in space.items():
        low, high = tried.low, tried.high
        if low is None or high is None:
            texts = [json.dumps(choice) for choice in tried.choices]
            found[key] = json.loads(trial.suggest_categorical(key, texts))
        elif tried.is_integer:
            found[key] = trial.suggest_int(key, int(low), int(high), log=tried.log)
        else:
            found[key] = trial.suggest_float(key, float(low), float(high), log=tried.log)
    return found


def _count_done(study: Study) -> int:
    """Count the trials that came to an end; one that was cut off does not count."""
    return sum(REASON in t.user_attrs for t in study.get_trials(deepcopy=False))


def _result(study: Study, settings: RunSettings) -> TuneResult:
    tune = _section(settings)
    rows = [_row(trial, tune.space) for trial in study.get_trials(deepcopy=False)]
    complete = [row for row in rows if row.state == "complete" and row.score is not None]
    sign = -1 if tune.metric == "loss" else 1
    best = max(complete, key=lambda row: sign * (row.score or 0.0), default=None)
    return TuneResult(
        study=settings.name,
        metric=tune.metric,
        arm=tune.arm,
        rows=tuple(rows),
        best=best,
    )


def _row(trial: FrozenTrial, space: Mapping[str, SearchRange]) -> TrialRow:
    state, reason = trial.state.name.lower(), trial.user_attrs.get(REASON)
    return TrialRow(
        number=trial.number,
        state={"fail": "failed" if reason is not None else "stopped"}.get(state, state),
        values={
            key: json.loads(value) if space[key].choices else value
            for key, value in trial.params.items()
        },
        score=trial.value,
        seconds=trial.user_attrs.get(SECONDS),
        reason=reason or "",
    )


def _importance(study: Study) -> dict[str, float]:
    """Return the share of the variance of scores that each key explains (fANOVA)."""
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    evaluator = FanovaImportanceEvaluator(n_trees=32, seed=0)
    return dict(get_param_importances(study, evaluator=evaluator))
