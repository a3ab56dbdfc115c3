"""The end of a run: from finished arms to `Evaluation`, with the CT tracks and the worklist."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from medkd.config.run_settings import CONTROL
from medkd.difficulty import difficulty_words
from medkd.evaluate.efficiency import Measured, measure_efficiency
from medkd.models.imported import IMPORTED
from medkd.models.package import WEIGHTS_NAME, load_model
from medkd.provenance import finish_record
from medkd.train.arms import FinishedArm
from medkd.train.compare import (
    compare_arms,
    few_positives,
    likeness,
    score_arm,
    term_records,
    transfer_happened,
    weigh_teacher,
)
from medkd.train.plan import RunContext
from medkd.train.scans import (
    reference_of,
    score_candidates,
    score_marks,
    search_scans,
    write_reference,
    write_worklist,
)
from medkd.types import (
    ArmResult,
    CaseResult,
    Efficiency,
    Evaluation,
    Fidelity,
    FrocResult,
    RunRecord,
)

Arms = Mapping[str, FinishedArm]


def summarise(context: RunContext, arms: Arms, *, record: RunRecord) -> Evaluation:
    """Score finished arms against each other and write what the viewer reads.

    Args:
        context: of the run.
        arms: every teacher and small network of the plan by its name.
        record: as begun; what is known only now is filled in, but for its seconds.
    """
    target, source, plan = context.target, context.source, context.plan
    frocs = _frocs(context, arms)
    fidelity = _fidelity(context, arms)
    verdicts = {
        arm.name: transfer_happened(found[arm.name], found[CONTROL])
        for arm, found in ((arm, fidelity[arm.name]) for arm in plan.students)
        if CONTROL in found
    }
    warnings = (*_warnings(context, arms), *_untaught(verdicts))
    students = plan.students
    return Evaluation(
        name=context.settings.name,
        dataset=target.index.name,
        source_data=_source_words(context, arms),
        target_data=target.words,
        trained_on_synthetic=any(arm.info.trained_on_synthetic for arm in arms.values()),
        arms=_results(context, arms, frocs),
        differences=compare_arms(_pairs(context, arms), context.settings.evaluation),
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


def _pairs(context: RunContext, arms: Arms) -> list[tuple[FinishedArm, FinishedArm]]:
    """Student minus control first (the primary comparison), then student minus its teacher."""
    students = context.plan.students
    control = [(arms[arm.name], arms[CONTROL]) for arm in students if context.plan.has_control]
    teacher = [(arms[arm.name], arms[str(arm.teacher)]) for arm in students]
    return control + teacher


def _fidelity(context: RunContext, arms: Arms) -> dict[str, dict[str, Fidelity]]:
    """Return for each student the likeness to its teacher: its own, and the control's."""
    found = {}
    for student in context.plan.students:
        teacher = arms[str(student.teacher)]
        names = (CONTROL, student.name) if context.plan.has_control else (student.name,)
        found[student.name] = {name: likeness(teacher, arms[name]) for name in names}
    return found


def _untaught(verdicts: Mapping[str, bool]) -> Iterator[str]:
    for name, happened in verdicts.items():
        if not happened:
            yield (
                f"NO TRANSFER TOOK PLACE in {name}: on held-out data its divergence from the "
                "teacher is not at least 30 % below the control's"
            )


def _warnings(context: RunContext, arms: Arms) -> Iterator[str]:
    target, source = context.target, context.source
    for name in context.plan.teachers:
        yield from _foreign_file(arms[name])
        if CONTROL in arms:
            yield from weigh_teacher(arms[name], arms[CONTROL])
    for domain, words in ((target, "target"), (source, "source")):
        if words == "source" and source is target:
            continue
        yield from few_positives(f"{words} domain", domain.counts())
        notes = (*domain.index.notes, *domain.split.notes)
        yield from (f"{domain.index.name} ({words}): {note}" for note in notes)
    if target.split.unlabelled and context.plan.students:
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


def _source_words(context: RunContext, arms: Arms) -> str:
    """Say what the teachers were trained on."""
    words = dict.fromkeys(arms[name].info.trained_on for name in context.plan.teachers)
    return "; ".join(words)


def _results(
    context: RunContext, arms: Arms, frocs: Mapping[str, tuple[FrocResult, ...]]
) -> tuple[ArmResult, ...]:
    found = []
    costs = _efficiency(context, arms)
    for number, (name, arm) in enumerate(arms.items()):
        context.progress("evaluating arms", number, len(arms), name)
        found.append(_result(context, arm, frocs.get(name, ()), cost=costs[name]))
    context.progress("evaluating arms", len(arms), len(arms), "")
    return tuple(found)


def _result(
    context: RunContext, arm: FinishedArm, froc: tuple[FrocResult, ...], *, cost: Efficiency
) -> ArmResult:
    return ArmResult(
        name=arm.name,
        model=f"{arm.info.kind}, {arm.info.parameters / 1e6:.2f} M parameters",
        initialisation=arm.info.initialisation,
        trained_on=arm.info.trained_on,
        classification=score_arm(arm, context.settings.evaluation),
        froc=froc,
        efficiency=cost,
        origins=arm.info.origins,
    )


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


def _frocs(context: RunContext, arms: Arms) -> dict[str, tuple[FrocResult, ...]]:
    """Score both CT tracks, and write what report and viewer read of scans; images: worklist."""
    run, target, settings = context.run, context.target, context.settings
    shown = arms.get("student", list(arms.values())[-1])
    results: dict[str, list[CaseResult]] = {}
    frocs: dict[str, tuple[FrocResult, ...]] = {}
    if target.settings.is_ct:
        reference = reference_of(target, "test")
        write_reference(run, reference)
        for name, arm in arms.items():
            frocs[name] = (score_candidates(arm, reference, settings.evaluation),)
    if settings.detection is not None:
        for name in (name for name in settings.detection.arms if name in arms):
            found = search_scans(
                name, run, target, settings=settings.detection, progress=context.progress
            )
            own = score_marks(name, run, target, found["test"], settings=settings.evaluation)
            frocs[name] = (*frocs[name], own)
            results = found if name == shown.name else results
    everything = [result for part in results.values() for result in part]
    write_worklist(run, target, student=shown, results=everything)
    return frocs
