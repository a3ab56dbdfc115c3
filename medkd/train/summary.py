"""The end of a run: from finished arms to `Evaluation`, with reference and worklist."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from medkd.config.run_settings import CONTROL
from medkd.difficulty import difficulty_words
from medkd.evaluate.efficiency import Measured, measure_efficiency
from medkd.models.imported import IMPORTED
from medkd.models.package import WEIGHTS_NAME, load_model
from medkd.provenance import finish_record
from medkd.train.arm import FinishedArm
from medkd.train.compare import (
    compare_arms,
    few_positives,
    likeness,
    term_records,
    transfer_happened,
    weigh_teacher,
)
from medkd.train.plan import Arm, RunContext
from medkd.train.scans import reference_of, write_reference, write_worklist
from medkd.types import (
    ArmResult,
    Efficiency,
    Evaluation,
    Fidelity,
    RunRecord,
)

Arms = Mapping[str, FinishedArm]


def summarise(
    context: RunContext, plan: Sequence[Arm], arms: Arms, *, record: RunRecord
) -> Evaluation:
    """Compare finished arms and write what the viewer reads.

    Args:
        context: of the run.
        plan: the arms in their order.
        arms: every arm by its name, finished.
        record: as begun; what is known only now is filled in, but for its seconds.
    """
    target, source = context.target, context.source
    students = [arm for arm in plan if arm.role == "student"]
    if target.settings.is_ct:
        write_reference(context.run, reference_of(target, "test"))
    shown = arms.get("student", list(arms.values())[-1])
    write_worklist(context, shown.name, shown.predictions)
    fidelity = _fidelity(students, arms)
    verdicts = {
        name: transfer_happened(found[name], found[CONTROL])
        for name, found in fidelity.items()
        if CONTROL in found
    }
    warnings = (*_warnings(context, plan, arms), *_untaught(verdicts))
    return Evaluation(
        name=context.settings.name,
        dataset=target.index.name,
        source_data=_source_words(plan, arms),
        target_data=target.words,
        trained_on_synthetic=any(arm.info.trained_on_synthetic for arm in arms.values()),
        arms=_results(context, arms),
        differences=compare_arms(_pairs(students, arms), context.settings.evaluation),
        terms=term_records(students[0].transfer) if len(students) == 1 else (),
        fidelity=tuple(dict.fromkeys(f for found in fidelity.values() for f in found.values())),
        transfer_took_place=all(verdicts.values()) if len(verdicts) == 1 else None,
        splits={**({} if source is target else source.counts("source ")), **target.counts()},
        origins={**({} if source is target else source.origins("source ")), **target.origins()},
        warnings=warnings,
        record=finish_record(
            record,
            seconds=0.0,
            data_fingerprints={
                "source": source.split.fingerprint,
                "target": target.split.fingerprint,
            },
            weights_sha256={name: arm.info.weights_sha256 for name, arm in arms.items()},
            phantoms=_phantoms(context, arms),
        ),
    )


def _phantoms(context: RunContext, arms: Arms) -> list[str]:
    """Say how hard the phantoms are that the run was scored on, or its networks trained on."""
    used = (*context.target.index.generators, *context.source.index.generators)
    trained = (stamp for arm in arms.values() for stamp in arm.info.generators)
    return [difficulty_words(stamp) for stamp in dict.fromkeys((*used, *trained))]


def _pairs(students: Sequence[Arm], arms: Arms) -> list[tuple[FinishedArm, FinishedArm]]:
    """Student minus control first (the primary comparison), then student minus its teacher."""
    control = [(arms[arm.name], arms[CONTROL]) for arm in students if CONTROL in arms]
    teacher = [(arms[arm.name], arms[str(arm.teacher)]) for arm in students]
    return control + teacher


def _fidelity(students: Sequence[Arm], arms: Arms) -> dict[str, dict[str, Fidelity]]:
    """Return for each student the likeness to its teacher: its own, and the control's."""
    found = {}
    for student in students:
        teacher = arms[str(student.teacher)]
        names = (CONTROL, student.name) if CONTROL in arms else (student.name,)
        found[student.name] = {name: likeness(teacher, arms[name]) for name in names}
    return found


def _untaught(verdicts: Mapping[str, bool]) -> Iterator[str]:
    for name, happened in verdicts.items():
        if not happened:
            yield (
                f"NO TRANSFER TOOK PLACE in {name}: on held-out data its divergence from the "
                "teacher is not at least 30 % below the control's"
            )


def _warnings(context: RunContext, plan: Sequence[Arm], arms: Arms) -> Iterator[str]:
    target, source = context.target, context.source
    for name in (arm.name for arm in plan if arm.role == "teacher"):
        yield from _foreign_file(arms[name])
        if CONTROL in arms:
            yield from weigh_teacher(arms[name], arms[CONTROL])
    for domain, words in ((target, "target"), (source, "source")):
        if words == "source" and source is target:
            continue
        yield from few_positives(f"{words} domain", domain.counts())
        notes = (*domain.index.notes, *domain.split.notes)
        yield from (f"{domain.index.name} ({words}): {note}" for note in notes)
    if target.split.unlabelled and any(arm.role == "student" for arm in plan):
        count = len(target.split.unlabelled)
        yield f"{count} training cases without labels teach the student, but not the control"


def _foreign_file(teacher: FinishedArm) -> Iterator[str]:
    """Say so where numbers hang on a file that no command of ours can make again."""
    info = teacher.info
    if info.initialisation.startswith(IMPORTED):
        yield (
            f"not reproducible without the file that {teacher.name} was imported from "
            f"({info.origin}; licence: {info.licence})"
        )


def _source_words(plan: Sequence[Arm], arms: Arms) -> str:
    """Say what the teachers were trained on."""
    teachers = [arms[arm.name] for arm in plan if arm.role == "teacher"]
    return "; ".join(dict.fromkeys(teacher.info.trained_on for teacher in teachers))


def _results(context: RunContext, arms: Arms) -> tuple[ArmResult, ...]:
    """Add to each arm's evaluation what the arm costs."""
    costs = _efficiency(context, arms)
    return tuple(replace(arm.result, efficiency=costs[name]) for name, arm in arms.items())


def _efficiency(context: RunContext, arms: Arms) -> dict[str, Efficiency]:
    """Measure all arms together, so that they meet the same machine."""
    folders = {name: context.run.model(name) for name in arms}
    models = {
        name: Measured(
            load_model(folder, device=context.device).network,
            (folder / WEIGHTS_NAME).stat().st_size,
        )
        for name, folder in folders.items()
    }
    return measure_efficiency(models, (1, *context.target.image_shape), device=context.device)
