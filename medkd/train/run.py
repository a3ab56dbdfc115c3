"""A whole run: build the domains, run one arm after another, compare the arms.

An arm that is already finished in the run folder is read instead of trained again, so a stopped run
can be resumed. The report is made from the folder afterwards.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from medkd.config.load import dump_settings, fill_run_dir
from medkd.config.run_settings import CONTROL, RunSettings
from medkd.errors import SettingsError
from medkd.formats import EVALUATION
from medkd.jsonio import read_json, write_json
from medkd.models.table import check_student_size
from medkd.processes import launched
from medkd.provenance import start_record
from medkd.runs import RunFolder
from medkd.train.adapt import check_adaptation
from medkd.train.alignment import check_alignment
from medkd.train.arm import FinishedArm, load_teacher, run_arm
from medkd.train.compare import settle_transfer, warn_of_weak_teacher
from medkd.train.domains import HELD_OUT, Domain, build_domain, check_model
from medkd.train.engine import build_accelerator
from medkd.train.folder import open_folder
from medkd.train.given import given_misfits, unanswered
from medkd.train.logs import Progress, no_progress
from medkd.train.networks import check_layers, check_terms, follow_network
from medkd.train.plan import Arm, RunContext, plan_arms
from medkd.train.ranks import ALONE, Ranks, join_ranks
from medkd.train.summary import summarise
from medkd.types import Evaluation, RunRecord

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Begin:
    """The first order of a run on several processes: the data of the run are prepared."""

    settings: RunSettings
    run: RunFolder


def run_training(
    settings: RunSettings,
    run: RunFolder,
    *,
    resume: bool = False,
    progress: Progress = no_progress,
) -> Evaluation:
    """Train teacher (unless given), control and student, evaluate them, and fill the run folder.

    `torchrun` may start it in several processes. Only the first reads the arguments and writes the
    folder; the others train with it, see `follow_training`.

    Args:
        settings: settings of the run; `${run_dir}` in them is the run folder.
        run: an empty or new folder, or with `resume` that of an earlier call.
        resume: continue the run in this folder.
        progress: called after every step.

    Raises:
        SettingsError: if the folder holds another run, or the settings cannot be used here.
        SeriesError: if the data are broken.
        CheckpointError: if a file cannot be saved.
        OtherProcessError: if another process of the training has ended.
    """
    if launched().rank > 0:
        return follow_training()
    with join_ranks() as ranks:
        open_folder(run.path, run.config, settings, resume=resume)
        arms = plan_arms(settings)
        evaluation = run_arms(
            settings, arms, run, work_dir=run.path, progress=progress, ranks=ranks
        )
        return ranks.from_first(evaluation)


def follow_training() -> Evaluation:
    """Train with the first process of several until its run is finished; write no file.

    Returns:
        The evaluation of the run, from the first process.

    Raises:
        OtherProcessError: if another process of the training has ended.
    """
    context: RunContext | None = None
    with join_ranks() as ranks:
        order: object = None
        while not isinstance(order := ranks.from_first(order), Evaluation):
            if isinstance(order, _Begin):
                context = build_context(
                    order.settings, order.run, work_dir=order.run.path, ranks=ranks
                )
            elif isinstance(order, Arm) and context is not None:
                follow_network(order, context, load_teacher(order, context))
        return order


def run_arms(
    settings: RunSettings,
    arms: Sequence[Arm],
    run: RunFolder,
    *,
    work_dir: Path,
    progress: Progress = no_progress,
    ranks: Ranks = ALONE,
) -> Evaluation:
    """Train, evaluate and compare some arms in a run folder that is already open.

    Args:
        settings: settings of the run; `${run_dir}` in them is `work_dir`.
        arms: the arms to run, each teacher before its students.
        run: the run folder.
        work_dir: folder of phantoms and caches; with several processes, the run folder.
        progress: called after every step.
        ranks: the processes that train together, of which this is the first.
    """
    if run.evaluation.is_file():
        return read_json(run.evaluation, Evaluation, form=EVALUATION)
    started = time.perf_counter()
    context = build_context(settings, run, work_dir=work_dir, progress=progress, ranks=ranks)
    record = _begin_record(context, settings)
    check_arms(context, arms)
    ranks.from_first(_Begin(settings, run))
    finished: dict[str, FinishedArm] = {}
    trained: list[Arm] = []
    for planned in arms:
        arm = settle_transfer(planned, finished)
        if arm.untaught:
            logger.warning("%s: %s", arm.name, arm.untaught)
        trained.append(arm)
        finished[arm.name] = run_arm(arm, context)
        _warn_of_weak_teachers(arm, finished)
    evaluation = summarise(context, trained, finished, record=record)
    seconds = round(time.perf_counter() - started, 3)
    evaluation = replace(evaluation, record=replace(evaluation.record, seconds=seconds))
    write_json(run.record, evaluation.record)
    write_json(run.evaluation, evaluation)
    return evaluation


def build_context(
    settings: RunSettings,
    run: RunFolder,
    *,
    work_dir: Path,
    progress: Progress = no_progress,
    build: Callable[..., Domain] = build_domain,
    ranks: Ranks = ALONE,
) -> RunContext:
    """Read and prepare the domains of a run.

    Args:
        settings: settings of the run; `${run_dir}` in them is `work_dir`.
        run: the run folder.
        work_dir: folder of phantoms and caches.
        progress: called after every step.
        build: builds a domain, with the arguments of `build_domain`.
        ranks: the processes that train together.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    device = build_accelerator("no", settings.device).device.type
    filled = fill_run_dir(settings, work_dir)
    build = partial(build, work_dir=work_dir, seed=settings.split_seed, progress=progress)
    source = build(filled.source) if filled.source else None
    target = build(filled.target)
    return RunContext(filled, run, source or target, target, device, progress, ranks=ranks)


def _begin_record(context: RunContext, settings: RunSettings) -> RunRecord:
    device = context.device
    words = f"cuda {torch.cuda.get_device_name()}" if device == "cuda" else device
    if context.ranks.count > 1:
        words += f", {context.ranks.count} processes"
    record = start_record(
        dump_settings(settings),
        seed=settings.seed,
        device=words,
        deterministic=device == "cpu",
    )
    write_json(context.run.record, record)
    return record


def check_arms(context: RunContext, arms: Sequence[Arm]) -> None:
    """Refuse settings that do not fit the data before anything is trained, with all reasons."""
    reasons = [reason for arm in arms for reason in _check_networks(arm, context)]
    reasons += _check_precision(context, arms)
    if context.settings.detection:
        reasons += (
            f"detection: {part} has no whole scan, and patches around nodules are not searched: "
            "add scans, or set detection to null"
            for part in HELD_OUT
            if not context.target.whole_scans(part)
        )
    if context.source.image_shape != context.target.image_shape:
        reasons.append(
            f"views of the source domain are {context.source.image_shape}, of the target domain "
            f"{context.target.image_shape}: teacher and student must see the same kind of view"
        )
    if reasons:
        raise SettingsError("these networks do not fit the data", list(dict.fromkeys(reasons)))
    if misfits := list(_misfits(context, arms)):
        raise SettingsError("this transfer does not fit the networks and the data", misfits)


def _misfits(context: RunContext, arms: Sequence[Arm]) -> Iterator[str]:
    """Yield why transfer terms, alignments and adaptations cannot be used."""
    named = {arm.name: arm for arm in arms}
    for arm in arms:
        if arm.teacher is not None:
            yield from check_terms(arm, named[arm.teacher], context)
        yield from check_alignment(arm, context)
        yield from check_adaptation(arm, context)


def _check_networks(arm: Arm, context: RunContext) -> Iterator[str]:
    """Yield why the networks of an arm do not fit the data or its settings."""
    outputs = arm.transfer.outputs
    for path in (*arm.joined, *([arm.taken_from] if arm.taken_from else [])):
        member = path in arm.joined
        misfits = given_misfits(path, context.target, outputs=outputs, member=member)
        yield from (f"{arm.name}: {path}: {reason}" for reason in misfits)
    if arm.joined and not arm.members and (labels := unanswered(arm.joined, context.target)):
        yield f"{arm.name}: no member has an output for {', '.join(labels)}"
    if arm.model is None:
        return
    yield from check_layers(arm)
    if arm.role == "control":
        return
    yield from check_model(context.domain_of(arm), arm.model, role=arm.name)
    for number, peer in enumerate(arm.mutual.models if arm.mutual else (), start=1):
        role = f"{arm.name}, mutual model {number}"
        yield from check_model(context.domain_of(arm), peer, role=role)
    if arm.role == "student":
        yield from check_student_size(arm.model)
    if arm.transfer.outputs == "exclusive":
        yield from (f"{arm.name}: {reason}" for reason in _not_exclusive(arm, context))


def _not_exclusive(arm: Arm, context: RunContext) -> Iterator[str]:
    """Yield why the outputs of an arm cannot share one softmax."""
    index = context.domain_of(arm).index
    if not index.exclusive and len(index.label_names) > 1:
        yield (
            f"outputs: exclusive is for one of several classes, but {index.name} has "
            f"{len(index.label_names)} independent labels, of which a sample may have several or "
            "none: use outputs: independent"
        )
    elif not index.exclusive:
        yield (
            f"outputs: exclusive is for one of several classes, but {index.name} has one "
            "yes-or-no label: use outputs: independent with label_count: 1"
        )


def _check_precision(context: RunContext, arms: Sequence[Arm]) -> Iterator[str]:
    """Refuse bf16 for 3-D classifiers on a CPU; the maps of a point detector are large enough.

    With torch 2.15, the gradients of convolutions on small maps (2 voxels per axis) then differ
    from call to call and are sometimes NaN.
    """
    if context.device != "cpu" or len(context.target.image_shape) != 4:
        return
    for arm in arms:
        if arm.model is None or arm.model.finds_points:
            continue
        if arm.training.mixed_precision == "bf16":
            yield (
                f"{arm.name}: mixed_precision: bf16 of a 3-D classifier on a CPU gives wrong "
                "gradients (torch); use auto or no"
            )


def _warn_of_weak_teachers(arm: Arm, finished: dict[str, FinishedArm]) -> None:
    """Log which teachers are no better on validation than the control, once it is finished."""
    if arm.name != CONTROL:
        return
    for name, teacher in finished.items():
        if name != arm.name and warn_of_weak_teacher(teacher, finished[arm.name]):
            words = "TEACHER NOT BETTER: %s on validation than %s; see the end of the run"
            logger.warning(words, name, arm.name)
