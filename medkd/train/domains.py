"""A data domain that is ready for training: index, split, and the samples of each part."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from medkd.config.domain_settings import DomainSettings
from medkd.data.archive_cases import ArchiveData, add_candidates
from medkd.data.augment import check_augmentation
from medkd.data.cases import Case, CaseIndex, CaseSource, OnProgress
from medkd.data.datasets import build_patches
from medkd.data.loading import LoadingStep, hu_window, loading_as_dicts, spacing_mm
from medkd.data.patches import PatchSource
from medkd.data.prepared import PreparedScans
from medkd.data.splits import Split, build_split
from medkd.errors import SettingsError
from medkd.io.synthetic_mark import count_origins, is_implant
from medkd.models.network import NetworkSettings
from medkd.models.package import Preprocessing
from medkd.models.table import check_model_input
from medkd.provenance import mixture_words, origin_words
from medkd.synthetic.phantom import generator_stamp
from medkd.train.logs import Progress, no_progress
from medkd.types import CaseOrigins

logger = logging.getLogger(__name__)

HELD_OUT = ("val", "test")
PARTS = ("train", *HELD_OUT)


@dataclass(frozen=True, slots=True, eq=False)
class Domain:
    """One domain; `parts` holds the samples of "train", "val" and, unless it is left out, "test".

    All parts and the whole-scan search share the prepared `scans`. `more` are the further sets of
    `crops.more`, by name.
    """

    settings: DomainSettings
    index: CaseIndex
    split: Split
    parts: dict[str, PatchSource]
    scans: PreparedScans
    more: dict[str, CaseIndex] = field(default_factory=dict)

    def scans_for(self, steps: tuple[LoadingStep, ...]) -> PreparedScans:
        """Return scans prepared by the steps of a model; equal steps share the domain's scans."""
        return self.scans if steps == self.scans.steps else _prepared(self.settings, steps)

    @property
    def description(self) -> str:
        """The data set, its training cases and samples, and what generated synthetic cases."""
        origins = self.origins()["train"]
        labelled = f" ({len(self.split.train)} with labels)" if self.split.unlabelled else ""
        samples = len(self.parts["train"])
        made = "".join(f", {_made(stamp, origins)}" for stamp in self.generators)
        cases = f"{origin_words(origins)} for training{labelled}"
        mixture = f"{words}: " if (words := mixture_words(origins)) else ""
        names = ", ".join((self.index.name, *self.more))
        new = ", and phantoms made during the training" if self.streamed else ""
        return f"{mixture}{names}, {cases}, {samples} samples{made}{new}"

    @property
    def generators(self) -> tuple[str, ...]:
        """The generators of its synthetic cases, each once."""
        sets = (self.index, *self.more.values())
        return tuple(sorted({stamp for one in sets for stamp in one.generators}))

    @property
    def streamed(self) -> tuple[str, ...]:
        """The generator of the phantoms that are made during the training; empty: none are."""
        return (generator_stamp(),) if self.settings.crops.phantoms else ()

    def origins(self, prefix: str = "") -> dict[str, CaseOrigins]:
        """Count the real and synthetic cases of each part; train includes the further sets."""
        sets = (self.index, *self.more.values())
        cases = {case.case_id: case for one in sets for case in one.cases}
        return {f"{prefix}{part}": self._count(cases, self._used(part)) for part in PARTS}

    def _count(self, cases: Mapping[str, Case], names: Sequence[str]) -> CaseOrigins:
        kind: Literal["scans", "images"] = "scans" if self.settings.is_ct else "images"
        patches = [name for name in names if cases[name].extent == "patch"]
        whole = [name for name in names if cases[name].extent == "whole"]
        counted = count_origins((cases[name].generator for name in whole), kind=kind)
        return replace(counted, patches=len(patches))

    def _used(self, part: str) -> tuple[str, ...]:
        """Return the case ids of a part; train includes all cases of which crops are cut."""
        own: tuple[str, ...] = tuple(getattr(self.split, part))
        if part != "train":
            return own
        more = (case.case_id for one in self.more.values() for case in one.cases)
        return (*own, *self.split.unlabelled, *more)

    def whole_scans(self, part: str) -> list[str]:
        """Return the labelled cases of a part that are whole scans: only they are searched."""
        cases = self.index.by_id()
        return [name for name in getattr(self.split, part) if cases[name].extent == "whole"]

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape [C, *spatial] of one view."""
        return self.parts["train"].image_shape

    @property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing that a model trained on this domain needs."""
        loading, data = self.settings.loading, self.settings.data
        archive = data if isinstance(data, ArchiveData) and data.cases == "images" else None
        return Preprocessing(
            steps=tuple(loading_as_dicts(loading)),
            hu_window=hu_window(loading) if self.settings.is_ct else None,
            spacing_mm=spacing_mm(loading) if self.settings.is_ct else None,
            patch_shape=tuple(self.image_shape[1:]),
            views=archive.views if archive else None,
        )

    def counts(self, prefix: str = "") -> dict[str, dict[str, int]]:
        """Count cases, patients, samples and positive samples of each part, for the record.

        Of exclusive classes, each sample has one, so the samples of the smallest class are counted.
        """
        cases = "scans" if self.settings.is_ct else "images"
        found = {}
        for part, source in self.parts.items():
            positive = (source.label >= 0.5) & source.label_known
            found[f"{prefix}{part}"] = {
                cases: len(self._used(part)),
                "patients": len(set(source.patient_id)),
                "samples": len(source),
            }
            if self.index.exclusive:
                found[f"{prefix}{part}"]["smallest_class"] = int(positive.sum(dim=0).min())
            else:
                found[f"{prefix}{part}"]["positives"] = int(positive.any(dim=1).sum())
            labelled = int(source.label_known.any(dim=1).sum())
            if labelled < len(source):
                found[f"{prefix}{part}"]["labelled"] = labelled
        return found


def build_domain(
    settings: DomainSettings,
    *,
    work_dir: Path,
    seed: int,
    progress: Progress = no_progress,
    built: Sequence[str] = PARTS,
) -> Domain:
    """Read a data set, split it, and prepare its samples.

    Args:
        settings: settings of the domain.
        work_dir: folder of phantoms and caches.
        seed: seed of the split and of the choice of negatives.
        progress: called for every phantom written, scan searched and case prepared.
        built: the parts whose samples are prepared; the images of other parts are not read.

    Raises:
        SettingsError: if a part lacks one class of a label.
        SeriesError: if the data set is broken.
    """
    site = f"site {settings.data.site}: " if settings.data.kind == "phantom" else ""
    source: CaseSource = settings.data
    index = source.read_cases(work_dir, _counter(progress, f"{site}writing phantoms"))
    split = build_split(index, settings.split, seed=seed)
    scans = _prepared(settings, settings.loading)
    if isinstance(settings.data, ArchiveData):
        held_out = [case for part in HELD_OUT if part in built for case in getattr(split, part)]
        used = (*split.train, *split.unlabelled, *held_out)
        report = _counter(progress, f"{index.name}: finding candidates in scans")
        index = add_candidates(
            index, settings.data, used, scans=scans, work_dir=work_dir, progress=report
        )
    for note in (*index.notes, *split.notes):
        logger.info("%s: %s", index.name, note)
    parts = {}
    for part in built:
        train = part == "train"
        parts[part] = build_patches(
            index,
            getattr(split, part),
            scans=scans,
            negatives_per_positive=settings.negatives_per_positive if train else None,
            seed=seed,
            unlabelled=split.unlabelled if train else (),
        )
        kind = "scans" if settings.is_ct else "images"
        parts[part].prepare(_counter(progress, f"{index.name}, {part}: preparing {kind}"))
    more = {
        name: _read_more(one.data, work_dir, _counter(progress, f"{name}: writing phantoms"))
        for name, one in settings.crops.more.items()
    }
    domain = Domain(settings, index, split, parts, scans, more)
    _check(domain)
    return domain


def _read_more(source: CaseSource, work_dir: Path, progress: OnProgress) -> CaseIndex:
    return source.read_cases(work_dir, progress)


def _prepared(settings: DomainSettings, steps: tuple[LoadingStep, ...]) -> PreparedScans:
    return PreparedScans(steps, Path(settings.cache_dir), limit_gib=settings.cache_gib)


def check_model(domain: Domain, model: NetworkSettings, *, role: str) -> tuple[str, ...]:
    """Return why a model cannot use the views of a domain; empty if it can."""
    reasons = check_model_input(
        model,
        view_shape=domain.image_shape,
        hu_window=domain.preprocessing.hu_window,
        label_count=domain.parts["train"].label.shape[1],
    )
    return tuple(f"{role}: {reason}" for reason in reasons)


def _made(stamp: str, origins: CaseOrigins) -> str:
    """Describe what a generator made: all cases, some of them, or nodules in real scans."""
    if is_implant(stamp):
        return f"nodules put into real scans by {stamp}"
    every = origins.phantom == origins.total
    return f"made by {stamp}" if every else f"the synthetic scans made by {stamp}"


def _counter(progress: Progress, what: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(what, done, total, "")


def _check(domain: Domain) -> None:
    reasons = []
    names = domain.index.label_names
    for part, source in domain.parts.items():
        positive = ((source.label >= 0.5) & source.label_known).sum(dim=0).tolist()
        known = source.label_known.sum(dim=0).tolist()
        for name, positives, total in zip(names, positive, known, strict=True):
            if not 0 < positives < total:
                where = f"{part}, {name}" if len(names) > 1 else part
                reasons.append(
                    f"{where}: {positives} of {total} labelled samples are positive; both classes "
                    "are needed: use more cases or another split"
                )
    reasons += check_augmentation(domain.settings.augmentation, len(domain.image_shape) - 1)
    if reasons:
        raise SettingsError(f"{domain.index.name} cannot be used for training", reasons)
