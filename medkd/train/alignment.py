"""The other domain of an arm that is aligned: its batches, its views, and what is refused.

A network is trained on its own domain: a teacher on the source, control and student on the target.
If it is aligned, each of its batches has a batch of the other domain beside it, from a loader with
a seed of its own. Order, views and labels of the own batches are those of a training without
alignment, so that an arm with alignment differs from its control by the alignment alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from medkd.data.augment import view_batch
from medkd.data.loader import PairedLoader, TrainLoader
from medkd.data.sampling import derive_seed
from medkd.errors import SettingsError
from medkd.models.package import ModelInfo
from medkd.models.table import build_architecture
from medkd.train.domains import Domain
from medkd.train.engine import View
from medkd.train.plan import Arm, RunContext
from medkd.transfer.objective import TransferObjective
from medkd.types import PatchBatch


def pair_with_other_domain(
    loader: TrainLoader, arm: Arm, context: RunContext
) -> TrainLoader | PairedLoader:
    """Return the batches of an aligned arm; the loader itself if the arm is not aligned."""
    other = context.other_domain_of(arm)
    if other is None:
        return loader
    return PairedLoader(
        loader,
        TrainLoader(
            other.parts["train"],
            batch_size=loader.batch_size,
            balanced=False,  # balancing would use the labels
            seed=derive_seed(context.seed_of(arm), "other domain"),
            views=other.settings.augmentation.views,
            workers=arm.training.workers,
        ),
    )


def build_view(arm: Arm, context: RunContext) -> View:
    """Return the function that replaces the samples of a batch by their augmented views.

    Samples of the other domain are augmented as that domain is configured.
    """
    domain, other = context.domain_of(arm), context.other_domain_of(arm)
    own = partial(view_batch, settings=domain.settings.augmentation, seed=context.view_seed(domain))
    if other is None:
        return own
    of_other = partial(
        view_batch, settings=other.settings.augmentation, seed=context.view_seed(other)
    )

    def both(batch: PatchBatch) -> PatchBatch:
        return replace(own(batch), other=of_other(batch.other) if batch.other else None)

    return both


def alignment_purpose(arm: Arm, context: RunContext) -> Iterator[str]:
    """Yield what a training depends on beside its own domain; nothing if it is not aligned."""
    other, aligned = context.other_domain_of(arm), arm.transfer.alignment
    if other is None or aligned is None:
        return
    yield aligned.model_dump_json()
    yield other.split.fingerprint
    yield other.settings.model_dump_json(exclude={"cache_dir", "cache_gib"})


def check_alignment(arm: Arm, context: RunContext) -> tuple[str, ...]:
    """Return why an arm cannot be aligned with its other domain; empty if it can."""
    other, aligned = context.other_domain_of(arm), arm.transfer.alignment
    if other is None or aligned is None or arm.model is None:
        return ()
    own = context.domain_of(arm)
    reasons = list(_sizes(arm, own, other))
    try:  # its layer must exist and be trained
        TransferObjective(
            build_architecture(arm.model),
            None,
            arm.transfer.model_copy(update={"terms": ()}),
            positive_share=own.parts["train"].prior,
            view_shape=own.image_shape,
        )
    except SettingsError as error:
        reasons += error.reasons
    return tuple(f"{arm.name}: {reason}" for reason in reasons)


def _sizes(arm: Arm, own: Domain, other: Domain) -> Iterator[str]:
    """Yield why the batches of both domains cannot be compared."""
    aligned = arm.transfer.alignment
    size = min(arm.training.batch_size, len(own.parts["train"]))
    if aligned is not None:
        yield from aligned.misfits(size)
    if len(other.parts["train"]) < size:
        yield (
            f"alignment: {other.index.name} has {len(other.parts['train'])} training samples, "
            f"fewer than one batch of {size}: lower training.batch_size, or use more cases"
        )


def with_unlabelled(info: ModelInfo, other: Domain, words: str) -> ModelInfo:
    """Add samples that shaped a network without their labels to its description.

    `origins` keeps counting the cases of its own domain. For a student, those of the source are
    counted with its teacher.

    Args:
        info: the description.
        other: the domain of the samples.
        words: what was done with the samples.
    """
    cases = other.origins()["train"]
    made = other.generators if cases.synthetic else ()
    return replace(
        info,
        trained_on=f"{info.trained_on}; {words} of {other.index.name}, without their labels",
        trained_on_synthetic=info.trained_on_synthetic or cases.synthetic,
        generators=tuple(dict.fromkeys((*info.generators, *made))),
    )
