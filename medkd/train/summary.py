"""Summarise finished arms as an `Evaluation`, and write reference and worklist."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from medkd.config.run_settings import CONTROL, SELF_TRAINING
from medkd.difficulty import difficulty_words
from medkd.evaluate.efficiency import Measured, measure_efficiency
from medkd.explain.run import find_disagreements
from medkd.models.imported import IMPORTED
from medkd.models.package import WEIGHTS_NAME, load_model
from medkd.provenance import finish_record
from medkd.runs import read_cases, write_disagreements
from medkd.train.arm import FinishedArm
from medkd.train.compare import (
    compare_arms,
    measure_fidelity,
    term_records,
    transfer_happened,
    warn_of_few_positives,
    warn_of_weak_teacher,
)
from medkd.train.plan import Arm, RunContext
from medkd.train.pool import rank_pool, why_not_ranked
from medkd.train.scans import compare_marks, reference_of, write_reference, write_worklist
from medkd.train.shift import measure_shift
from medkd.train.similarity import compare_layers, why_not_compared
from medkd.types import Efficiency, Evaluation, Fidelity, RunRecord

Arms = Mapping[str, FinishedArm]


def summarise(
    context: RunContext, plan: Sequence[Arm], arms: Arms, *, record: RunRecord
) -> Evaluation:
    """Compare finished arms and write the files that the viewer reads.

    Args:
        context: the run.
        plan: the arms in their order.
        arms: the finished arms by name.
        record: the record from the start of the run; all fields except `seconds` are completed.
    """
    target, source = context.target, context.source
    students = [arm for arm in plan if arm.role == "student"]
    _write_files(context, arms)
    own = [arm for arm in students if arm.teacher != CONTROL]
    fidelity = _fidelity(own, arms)
    verdicts = {
        name: transfer_happened(found[name], [f for arm, f in found.items() if arm != name])
        for name, found in fidelity.items()
        if CONTROL in found
    }
    warnings = (*_warnings(context, plan, arms), *_transfer_warnings(verdicts))
    costs = _efficiency(context, arms)
    pairs = _pairs(students, arms)
    of_marks = compare_marks(
        [(first.name, second.name) for first, second in pairs],
        context,
        {name: arm.predictions["test"] for name, arm in arms.items()},
    )
    teachers = [arms[arm.name].info for arm in plan if arm.role == "teacher"]
    return Evaluation(
        name=context.settings.name,
        dataset=target.index.name,
        source_data="; ".join(dict.fromkeys(info.trained_on for info in teachers)),
        target_data=target.description,
        trained_on_synthetic=any(arm.info.trained_on_synthetic for arm in arms.values()),
        arms=tuple(replace(arm.result, efficiency=costs[name]) for name, arm in arms.items()),
        differences=compare_arms(pairs, context.settings.evaluation, of_marks),
        terms=term_records(own[0].transfer, own[0].mutual) if len(own) == 1 else (),
        fidelity=tuple(dict.fromkeys(f for found in fidelity.values() for f in found.values())),
        similarity=compare_layers([a for a in own if a.teacher], arms, context),
        no_similarity=why_not_compared(context) if own else "",
        transfer_took_place=all(verdicts.values()) if len(verdicts) == 1 else None,
        splits={**({} if source is target else source.counts("source ")), **target.counts()},
        origins={**({} if source is target else source.origins("source ")), **target.origins()},
        warnings=warnings,
        shift=measure_shift(context, list(arms)),
        record=finish_record(
            record,
            seconds=0.0,
            data_fingerprints={
                "source": source.split.fingerprint,
                "target": target.split.fingerprint,
            },
            weights_sha256={name: arm.info.weights_sha256 for name, arm in arms.items()},
            phantoms=_phantoms(context, arms),
            without_transfer={arm.name: arm.untaught for arm in students if arm.untaught},
        ),
    )


def _pairs(students: Sequence[Arm], arms: Arms) -> list[tuple[FinishedArm, FinishedArm]]:
    """Pair students with control, teacher and self-training; the first pair is the primary."""
    ordered = sorted(students, key=lambda arm: arm.teacher == CONTROL)
    pairs = [(arms[arm.name], arms[CONTROL]) for arm in ordered if CONTROL in arms]
    pairs += [(arms[a.name], arms[a.teacher]) for a in ordered if a.teacher not in (None, CONTROL)]
    if SELF_TRAINING in arms:
        pairs += [(arms[a.name], arms[SELF_TRAINING]) for a in students if a.name != SELF_TRAINING]
    return pairs


def _write_files(context: RunContext, arms: Arms) -> None:
    """Write the reference standard of CT, the worklist, the disagreements, and what to label."""
    if context.target.settings.is_ct:
        write_reference(context.run, reference_of(context.target, "test"))
    shown = arms.get("student", list(arms.values())[-1])
    write_worklist(context, shown.name, shown.predictions)
    _write_disagreements(context, arms)
    rank_pool(context)


def _phantoms(context: RunContext, arms: Arms) -> list[str]:
    """Describe the difficulty of the phantoms used for training or evaluation."""
    used = (*context.target.index.generators, *context.source.index.generators)
    trained = (stamp for arm in arms.values() for stamp in arm.info.generators)
    return [difficulty_words(stamp) for stamp in dict.fromkeys((*used, *trained))]


def _fidelity(students: Sequence[Arm], arms: Arms) -> dict[str, dict[str, Fidelity]]:
    """Return the fidelity to its teacher of each taught student and of the arms without it."""
    found = {}
    for student in students:
        if student.teacher is None:
            continue
        teacher = arms[student.teacher]
        names = [name for name in (CONTROL, SELF_TRAINING) if name in arms]
        found[student.name] = {
            name: measure_fidelity(teacher, arms[name]) for name in (*names, student.name)
        }
    return found


def _write_disagreements(context: RunContext, arms: Arms) -> None:
    """Write where the predictions of teacher and student differ most.

    `medkd explain` replaces the rows of scans by those of the places in their heat maps.
    """
    if not {"teacher", "student"} <= set(arms):
        return
    analysed = [case for case in read_cases(context.run.cases) if case.status == "analysed"]
    rows = find_disagreements(context.run, analysed, arms["student"].info.label_names)
    path = context.run.explained.disagreements
    path.parent.mkdir(exist_ok=True)
    write_disagreements(path, rows)


def _transfer_warnings(verdicts: Mapping[str, bool]) -> Iterator[str]:
    for name, happened in verdicts.items():
        if not happened:
            yield (
                f"NO TRANSFER TOOK PLACE in {name}: on held-out data its divergence from the "
                "teacher is not at least 30 % below that of each arm without this teacher"
            )


def _warnings(context: RunContext, plan: Sequence[Arm], arms: Arms) -> Iterator[str]:
    target, source = context.target, context.source
    if context.settings.tuned:
        yield context.settings.tuned.words
    yield from (f"{arm.name}: {arm.untaught}" for arm in plan if arm.untaught)
    pretrained = any(arm.name == CONTROL and arm.initialise for arm in plan)
    for name in (arm.name for arm in plan if arm.role == "teacher"):
        info = arms[name].info
        if info.initialisation.startswith(IMPORTED):
            yield (
                f"not reproducible without the file that {name} was imported from "
                f"({info.origin}; licence: {info.licence})"
            )
        if CONTROL in arms:
            yield from warn_of_weak_teacher(arms[name], arms[CONTROL], pretrained=pretrained)
    for domain, words in ((target, "target"), (source, "source")):
        if words == "source" and source is target:
            continue
        yield from warn_of_few_positives(f"{words} domain", domain.counts())
        notes = (*domain.index.notes, *domain.split.notes)
        yield from (f"{domain.index.name} ({words}): {note}" for note in notes)
    taught = (arm for arm in plan if arm.teacher != CONTROL)
    if target.split.unlabelled and any(arm.transfer.terms or arm.mutual for arm in taught):
        count = len(target.split.unlabelled)
        reason = why_not_ranked(context)
        unranked = f"; they are not ranked for labelling, because {reason}" if reason else ""
        yield (
            f"{count} training cases without labels teach the student, but not the "
            f"control{unranked}"
        )


def _efficiency(context: RunContext, arms: Arms) -> dict[str, Efficiency]:
    """Measure the cost of all arms together, under the same conditions."""
    folders = {name: context.run.model(name) for name in arms}
    models = {
        name: Measured(
            load_model(folder, device=context.device).network,
            (folder / WEIGHTS_NAME).stat().st_size,
        )
        for name, folder in folders.items()
    }
    return measure_efficiency(models, (1, *context.target.image_shape), device=context.device)
