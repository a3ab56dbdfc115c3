"""A whole run: domains, teacher, control, student, scores, and the RUN folder that they leave.

`run_plan` reads top to bottom. Every arm is finished or not; a run that was stopped goes on with
the first that is not. The report is made from the folder afterwards, by whoever called.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from medkd.config.load import dump_settings, fill_run_dir
from medkd.config.run_settings import RunSettings, StudentSettings, TeacherSettings
from medkd.data.sampling import derive_seed
from medkd.errors import SettingsError
from medkd.jsonio import read_json, write_json
from medkd.models.package import ModelInfo, load_model
from medkd.models.table import check_student_size
from medkd.provenance import joint_origins, start_record
from medkd.runs import RunFolder
from medkd.train.arms import (
    SOURCE_TEST,
    FinishedArm,
    UnfinishedArm,
    describe,
    finish_arm,
    is_finished,
    prior_of,
    read_arm,
    take_model,
)
from medkd.train.compare import weigh_teacher
from medkd.train.domains import build_domain, check_model
from medkd.train.engine import build_accelerator
from medkd.train.folder import open_folder
from medkd.train.logs import Progress, no_progress
from medkd.train.plan import RunContext, RunPlan, TaughtArm, standard_plan
from medkd.train.predict import Prior
from medkd.train.recipes import Assignment, control_arm, distill, train_teacher
from medkd.train.summary import summarise
from medkd.transfer.teacher import FrozenTeacher
from medkd.types import CaseOrigins, Evaluation, RunRecord

logger = logging.getLogger(__name__)


def run_training(
    settings: RunSettings,
    run: RunFolder,
    *,
    resume: bool = False,
    progress: Progress = no_progress,
) -> Evaluation:
    """Train teacher (unless given), control and student, score them, and fill the run folder.

    Args:
        settings: of the run; `${run_dir}` in them is the run folder.
        run: an empty or new folder, or with `resume` one that an earlier call left.
        resume: go on with what stands there.
        progress: told of every step.

    Raises:
        SettingsError: if the folder holds another run, or the settings cannot be run here.
        SeriesError: if data are broken.
        CheckpointError: if something cannot be saved.
    """
    open_folder(run.path, run.config, settings, resume=resume)
    return run_plan(settings, standard_plan(settings), run, work_dir=run.path, progress=progress)


def run_plan(
    settings: RunSettings,
    plan: RunPlan,
    run: RunFolder,
    *,
    work_dir: Path,
    progress: Progress = no_progress,
) -> Evaluation:
    """Train and score what a plan names, in a run folder that is open already.

    Args:
        settings: of the run; `${run_dir}` in them is `work_dir`.
        plan: arms that are finished in the folder are not trained again.
        run: where everything is left.
        work_dir: where phantoms and caches stand.
        progress: told of every step.
    """
    if run.evaluation.is_file():
        return read_json(run.evaluation, Evaluation)
    started = time.perf_counter()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    device = build_accelerator("no", settings.device).device.type
    record = _begin_record(settings, run, device)
    context = _build_context(
        settings, plan, run, work_dir=work_dir, device=device, progress=progress
    )
    _check(context)
    arms: dict[str, FinishedArm] = {}
    for name, teacher in plan.teachers.items():
        arms[name] = _finish_teacher(context, name, teacher)
    for arm in plan.arms:
        arms[arm.name] = _finish_student(context, arm, arms)
        if arm.teacher is None:
            _warn_of_weak_teachers(context, arms, arms[arm.name])
    evaluation = summarise(context, arms, record=record)
    seconds = round(time.perf_counter() - started, 3)
    evaluation = replace(evaluation, record=replace(evaluation.record, seconds=seconds))
    write_json(run.record, evaluation.record)
    write_json(run.evaluation, evaluation)
    return evaluation


def _build_context(
    settings: RunSettings,
    plan: RunPlan,
    run: RunFolder,
    *,
    work_dir: Path,
    device: str,
    progress: Progress,
) -> RunContext:
    filled = fill_run_dir(settings, work_dir)
    build = partial(build_domain, work_dir=work_dir, seed=settings.split_seed, progress=progress)
    source = build(filled.source) if filled.source else None
    target = build(filled.target)
    return RunContext(filled, plan, run, source or target, target, device, progress)


def _begin_record(settings: RunSettings, run: RunFolder, device: str) -> RunRecord:
    name = f"cuda {torch.cuda.get_device_name()}" if device == "cuda" else device
    record = start_record(
        dump_settings(settings), seed=settings.seed, device=name, deterministic=device == "cpu"
    )
    write_json(run.record, record)
    return record


def _check(context: RunContext) -> None:
    """Refuse, before anything is trained, what would fail later; with all reasons."""
    reasons: list[str] = []
    for name, teacher in context.plan.teachers.items():
        if teacher.model is not None:
            reasons += check_model(context.source, teacher.model, role=name)
    student = context.settings.student
    if student is not None:
        reasons += check_model(context.target, student.model, role="student")
        reasons += check_student_size(student.model)
    reasons += _check_precision(context)
    if context.source.image_shape != context.target.image_shape:
        reasons.append(
            f"views of the source domain are {context.source.image_shape}, of the target domain "
            f"{context.target.image_shape}: teacher and student must see the same kind of view"
        )
    if reasons:
        raise SettingsError("these networks do not fit the data", reasons)


def _check_precision(context: RunContext) -> Iterator[str]:
    """Refuse bf16 in 3-D on a CPU.

    torch 2.15 there gives the weights of convolutions on small maps (2 voxels an axis) gradients
    that differ from call to call and are NaN at times.
    """
    training = {n: t.training for n, t in context.plan.teachers.items() if t.model is not None}
    if context.settings.student:
        training["student"] = context.settings.student.training
    volumes = len(context.target.image_shape) == 4
    for name, settings in training.items():
        if context.device == "cpu" and volumes and settings.mixed_precision == "bf16":
            yield (
                f"{name}: mixed_precision: bf16 of a 3-D network on a CPU gives wrong gradients "
                "(torch); use auto or no"
            )


def _finish_teacher(context: RunContext, name: str, settings: TeacherSettings) -> FinishedArm:
    """Train or take a teacher, and calibrate it on the target domain before it teaches."""
    run, target, source = context.run, context.target, context.source
    if is_finished(run, name):
        return read_arm(run, name)
    share = target.parts["train"].prior
    if settings.from_ is not None:
        taken = take_model(Path(settings.from_).expanduser(), target, device=context.device)
        network, info, prior = taken.network, taken.info, prior_of(taken.info, true=share)
    else:
        task = _task(context, name, settings, seed=derive_seed(context.settings.seed, "teacher"))
        trained = train_teacher(task, source, progress=context.progress)
        network, info = trained.network, describe(trained, task, source)
        prior = Prior(share, trained.prior.trained)
    return finish_arm(
        UnfinishedArm(name, network, info, settings.training, prior),
        run,
        target,
        evaluation=context.settings.evaluation,
        also={} if source is target else {SOURCE_TEST: source.parts["test"]},
        progress=context.progress,
    )


def _finish_student(
    context: RunContext, arm: TaughtArm, arms: dict[str, FinishedArm]
) -> FinishedArm:
    """Train the small network, with what its teacher gives it if it has one."""
    run, target, student = context.run, context.target, context.settings.student
    if is_finished(run, arm.name):
        return read_arm(run, arm.name)
    if student is None:
        raise ValueError(f"the plan names {arm.name}, but the settings have no student")
    task = _task(context, arm.name, student, seed=derive_seed(context.settings.seed, "student"))
    if arm.teacher is None:
        trained = control_arm(task, target, arm.transfer, progress=context.progress)
        info = describe(trained, task, target)
    else:
        loaded = load_model(run.model(arm.teacher), device=context.device)
        teacher = FrozenTeacher(loaded.network, loaded.info.calibration.temperature)
        trained = distill(task, target, arm.transfer, teacher=teacher, progress=context.progress)
        info = taught(describe(trained, task, target), arms[arm.teacher].info)
    return finish_arm(
        UnfinishedArm(arm.name, trained.network, info, student.training, trained.prior),
        run,
        target,
        evaluation=context.settings.evaluation,
        also={},
        progress=context.progress,
    )


def _task(
    context: RunContext, name: str, settings: TeacherSettings | StudentSettings, *, seed: int
) -> Assignment:
    if settings.model is None:
        raise ValueError(f"{name} has no model to train")
    return Assignment(
        name=name,
        model=settings.model,
        training=settings.training,
        folder=context.run.training(name),
        seed=seed,
        device=context.device,
    )


def taught(info: ModelInfo, teacher: ModelInfo) -> ModelInfo:
    """A student carries its teacher's past: synthetic data, and a licence that binds."""
    licence = info.licence if teacher.licence == info.licence else f"teacher: {teacher.licence}"
    return replace(
        info,
        trained_on_synthetic=info.trained_on_synthetic or teacher.trained_on_synthetic,
        generators=tuple(dict.fromkeys((*info.generators, *teacher.generators))),
        origins=_taught_origins(info, teacher),
        origin=f"distilled by medkd from {teacher.kind}, trained on {teacher.trained_on}",
        licence=licence,
    )


def _taught_origins(info: ModelInfo, teacher: ModelInfo) -> CaseOrigins | None:
    """Count the cases of student and teacher; None where those of the teacher are not known."""
    if info.origins is None or teacher.training_fingerprint == info.training_fingerprint:
        return info.origins
    if teacher.origins is None:
        return None if teacher.trained_on_synthetic else info.origins
    return joint_origins(info.origins, teacher.origins)


def _warn_of_weak_teachers(
    context: RunContext, arms: dict[str, FinishedArm], control: FinishedArm
) -> None:
    for name in context.plan.teachers:
        if weigh_teacher(arms[name], control):
            told = "TEACHER NOT BETTER: %s on validation, against %s; the end of the run says more"
            logger.warning(told, name, control.name)
