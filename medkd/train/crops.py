"""The training crops of a point detector, from the scans of a domain and its further sets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import partial

from medkd.config.training_settings import TrainingSettings
from medkd.data.cases import CaseIndex
from medkd.data.crops import CaseVolumes, CropLoader, CropSet
from medkd.data.loading import DEFAULT_WINDOW, hu_window, patch_shape
from medkd.synthetic.stream import PhantomStream
from medkd.train.domains import Domain
from medkd.train.logs import Progress
from medkd.train.mining import MinedVolumes, false_marks
from medkd.types import Candidate, Nodule, Point


def build_crop_loader(
    domain: Domain,
    training: TrainingSettings,
    *,
    seed: int,
    mined: MinedVolumes | None = None,
    progress: Progress,
) -> CropLoader:
    """Prepare all scans and return the crops of a training.

    Args:
        domain: its loading steps have a crop step and equal spacings.
        training: supplies the batch size.
        seed: seed of all draws.
        mined: hard negatives; None: none are mined.
        progress: called for every scan prepared.

    Raises:
        SeriesError: if a scan cannot be read.
    """
    steps, crops = domain.settings.loading, domain.settings.crops
    sets = list(_sets(domain, progress))
    if mined is not None and crops.mining is not None:
        sets.append(CropSet(mined, crops.mining.share, 0.0))
    return CropLoader(
        sets,
        shape=patch_shape(steps) or (40, 40, 40),
        window=hu_window(steps) or DEFAULT_WINDOW,
        batch_size=training.batch_size,
        seed=seed,
        settings=crops,
    )


def _sets(domain: Domain, progress: Progress) -> Iterator[CropSet]:
    crops, scans, index = domain.settings.crops, domain.scans, domain.index
    own = CaseVolumes(index, domain.split.train, scans=scans)
    yield CropSet(own, crops.share, crops.nodule_share)
    pool = CaseVolumes(
        index, domain.split.unlabelled, scans=scans, labelled=False, around=_candidates(index)
    )
    yield CropSet(pool, crops.unlabelled_share, 0.0)
    rejected = rejected_places(domain)
    denied = CaseVolumes(index, list(rejected), scans=scans, around=rejected)
    yield CropSet(denied, crops.rejected_share, 0.0)
    for name, more in crops.more.items():
        found = domain.more[name]
        volumes = CaseVolumes(found, [case.case_id for case in found.cases], scans=scans)
        volumes.prepare(partial(_report, progress, f"{name}: preparing scans"))
        yield CropSet(volumes, more.share, more.nodule_share)
    if crops.phantoms:
        stream = PhantomStream(crops.phantoms, domain.settings.loading)
        yield CropSet(stream, crops.phantoms.share, crops.phantoms.nodule_share)


def _candidates(index: CaseIndex) -> dict[str, list[Point]]:
    """Return the listed candidates of each scan."""
    found: dict[str, list[Point]] = defaultdict(list)
    for candidate in index.candidates:
        found[candidate.seriesuid].append(candidate.center_mm)
    return found


def rejected_places(domain: Domain) -> dict[str, list[Point]]:
    """Return the marks that readers rejected in each training scan, away from all findings.

    Args:
        domain: its labelled training scans are used.
    """
    index, train = domain.index, set(domain.split.train)
    findings: dict[str, list[Nodule]] = defaultdict(list)
    for finding in (*index.nodules, *index.excluded):
        findings[finding.seriesuid].append(finding)
    marks: dict[str, list[Candidate]] = defaultdict(list)
    for mark in index.negatives:
        if mark.seriesuid in train:
            marks[mark.seriesuid].append(Candidate(mark.seriesuid, mark.center_mm, 0.0))
    away = {name: false_marks(name, found, findings[name]) for name, found in marks.items()}
    return {name: [mark.center_mm for mark in found] for name, found in away.items() if found}


def _report(progress: Progress, what: str, done: int, total: int) -> None:
    progress(what, done, total, "")
