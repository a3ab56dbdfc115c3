"""Compare the sites of a run: source and target, or the sites of an INDEX.

Held-out cases (validation and test) are compared, because a network fits its own training cases
more closely than those of any other site.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray

from medkd.data.patches import PatchSource
from medkd.data.sampling import derive_seed
from medkd.evaluate.shift import (
    gaussian_kernels,
    permutation_p,
    site_auc,
    spread_of_counts,
    squared_mmd,
)
from medkd.index.case import Case
from medkd.lungs import PADDING_HU, sample_body
from medkd.models.network import Network
from medkd.models.package import load_model
from medkd.train.domains import HELD_OUT, Domain
from medkd.train.plan import RunContext
from medkd.transfer.features import pool
from medkd.transfer.taps import tap_layers
from medkd.types import SiteDistance, SiteShift, SiteSummary

MOST_SITES = 6
LEAST_SAMPLES = 2
"""With fewer held-out samples a site has no distance."""

MOST_CASES = 40
"""Most cases of a site whose intensities are measured."""

MOST_SAMPLES = 500
"""Most samples of a site whose embeddings are compared."""

RESAMPLES = 500
_BATCH = 64
_LOW_HU, _HIGH_HU = PADDING_HU, 4095

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class _Site:
    """A site of a domain; `rows` are its held-out samples, by part."""

    name: str
    domain: Domain
    cases: tuple[Case, ...]
    rows: dict[str, list[int]] = field(default_factory=dict)

    @property
    def held_out(self) -> int:
        """The number of its held-out samples."""
        return sum(map(len, self.rows.values()))


@dataclass(frozen=True, slots=True, eq=False)
class _Samples:
    """The embeddings [N, E] of a site and the patient of each."""

    features: Float64
    patients: tuple[str, ...]


def measure_shift(context: RunContext, arms: Sequence[str]) -> SiteShift | None:
    """Compare the intensities of all sites, and their embeddings by each arm.

    Args:
        context: the run.
        arms: the arms, whose models are saved in the run.

    Returns:
        None unless two sites have at least `LEAST_SAMPLES` held-out samples.

    Raises:
        SeriesError: if a scan cannot be read.
    """
    every = find_sites(context)
    sites = [site for site in every if site.held_out >= LEAST_SAMPLES]
    if len(sites) < 2:
        return None
    notes = [
        f"{site.name} is left out: it has {site.held_out} held-out samples, fewer than "
        f"{LEAST_SAMPLES}."
        for site in every
        if site not in sites
    ]
    if len(sites) > MOST_SITES:
        notes.append(f"Of {len(sites)} sites, the {MOST_SITES} with most cases are compared.")
        sites = sorted(sites, key=lambda site: len(site.cases), reverse=True)[:MOST_SITES]
    seed = derive_seed(context.settings.seed, "shift")
    summaries = []
    for number, site in enumerate(sites):
        summaries.append(_summary(site, seed=seed))
        context.progress("sites: measuring intensities", number + 1, len(sites), site.name)
    distances: list[SiteDistance] = []
    for number, arm in enumerate(arms):
        network = load_model(context.run.model(arm), device=context.device).network
        if network.finds_points:
            notes.append(f"{arm} is a point detector: it has no embedding of samples to compare.")
        else:
            distances += _distances(arm, network, sites, seed=seed)
        context.progress("sites: comparing embeddings", number + 1, len(arms), arm)
    return SiteShift(tuple(summaries), tuple(distances), RESAMPLES, tuple(notes))


def find_sites(context: RunContext) -> list[_Site]:
    """Return the sites of a run, those of the source first."""
    if context.source is context.target:
        return list(_sites_of(context.target, "target"))
    return [*_sites_of(context.source, "source"), *_sites_of(context.target, "target")]


def _sites_of(domain: Domain, role: str) -> Iterator[_Site]:
    cases, split = domain.index.by_id(), domain.split
    used = [cases[name] for name in (*split.train, *split.unlabelled, *split.val, *split.test)]
    by_site: dict[str, list[Case]] = defaultdict(list)
    for case in used:
        by_site[case.site].append(case)
    for site, members in sorted(by_site.items()):
        rows = {
            part: [n for n, uid in enumerate(domain.parts[part].seriesuid)
                   if cases[uid].site == site]
            for part in HELD_OUT
        }  # fmt: skip
        shown = f", {site or 'site not stated'}" if len(by_site) > 1 else ""
        yield _Site(f"{role}: {domain.index.name}{shown}", domain, tuple(members), rows)


def _summary(site: _Site, *, seed: int) -> SiteSummary:
    unit = "HU" if site.domain.settings.is_ct else "grey"
    counts, measured = _intensities_of_scans(site) if unit == "HU" else _grey_values(site, seed)
    low = _LOW_HU if unit == "HU" else 0
    found = spread_of_counts(np.arange(len(counts)) + low, counts) if measured else None
    quantiles = found.quantiles if found else {}
    return SiteSummary(
        name=site.name,
        cases=len(site.cases),
        patients=len({case.patient_id for case in site.cases}),
        measured=measured,
        unit="HU" if unit == "HU" else "grey",
        mean=found.mean if found else None,
        sd=found.sd if found else None,
        quantiles={f"{share:g}": value for share, value in quantiles.items()},
    )


def _intensities_of_scans(site: _Site) -> tuple[NDArray[np.int64], int]:
    """Count each HU in the body of held-out scans; of a patch all voxels count."""
    held = {site.domain.parts[part].seriesuid[row] for part in HELD_OUT for row in site.rows[part]}
    chosen = [case for case in site.cases if case.case_id in held][:MOST_CASES]
    counts = np.zeros(_HIGH_HU - _LOW_HU + 1, dtype=np.int64)
    measured = 0
    for case in chosen:
        prepared = site.domain.scans.get(case)
        whole = case.extent == "whole"
        hu = sample_body(prepared.as_scan()) if whole else prepared.voxels_hu.numpy().ravel()
        hu = hu[hu > _LOW_HU]
        clipped = np.minimum(hu.astype(np.int64), _HIGH_HU) - _LOW_HU
        counts += np.bincount(clipped, minlength=len(counts))
        measured += bool(len(hu))
    return counts, measured


def _grey_values(site: _Site, seed: int) -> tuple[NDArray[np.int64], int]:
    """Count the grey values 0..255 of held-out images as they are loaded."""
    counts, measured = np.zeros(256, dtype=np.int64), 0
    for source, rows in _drawn(site, seed=seed):
        for start in range(0, len(rows), _BATCH):
            image = source.__getitems__(rows[start : start + _BATCH]).image.numpy()
            counts += np.bincount(np.rint(255 * image.clip(0, 1)).astype(np.int64).ravel(),
                                  minlength=256)  # fmt: skip
        measured += len(rows)
    return counts, measured


def _distances(
    arm: str, network: Network, sites: Sequence[_Site], *, seed: int
) -> Iterator[SiteDistance]:
    """Yield the distance of every two sites in the embedding of an arm."""
    samples = {site.name: _embed(site, network, seed=seed) for site in sites}
    for first, second in combinations(samples, 2):
        yield _distance(arm, (first, second), samples, seed=seed)


def _distance(
    arm: str, names: tuple[str, str], samples: Mapping[str, _Samples], *, seed: int
) -> SiteDistance:
    one, other = (samples[name] for name in names)
    features = np.concatenate([one.features, other.features])
    first = np.arange(len(features)) < len(one.features)
    patients = (*one.patients, *other.patients)
    kernel = gaussian_kernels(features)
    return SiteDistance(
        arm=arm,
        first=names[0],
        second=names[1],
        samples=(len(one.features), len(other.features)),
        patients=(len(set(one.patients)), len(set(other.patients))),
        squared_mmd=squared_mmd(kernel, first),
        p_value=permutation_p(kernel, first, patients, resamples=RESAMPLES, seed=seed % 2**32),
        roc_auc=site_auc(features, first, patients, seed=seed % 2**32),
    )


def _embed(site: _Site, network: Network, *, seed: int) -> _Samples:
    """Return the embeddings of at most `MOST_SAMPLES` held-out samples, without augmentation."""
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    layer, parts, patients = network.embedding_layer, [], []
    network.eval()
    for source, rows in _drawn(site, seed=seed):
        patients += [source.patient_id[row] for row in rows]
        for start in range(0, len(rows), _BATCH):
            image = source.__getitems__(rows[start : start + _BATCH]).image
            with torch.no_grad(), tap_layers(network, [layer]) as found:
                network(image.to(device))
            parts.append(pool(found[layer]).double().cpu().numpy())
    return _Samples(np.concatenate(parts), tuple(patients))


def _drawn(site: _Site, *, seed: int) -> Iterator[tuple[PatchSource, list[int]]]:
    """Yield the parts of a site and the rows that are used, at most `MOST_SAMPLES` together."""
    every = [(part, row) for part in HELD_OUT for row in site.rows[part]]
    random = np.random.default_rng(derive_seed(seed, site.name))
    kept = sorted(random.permutation(len(every))[:MOST_SAMPLES].tolist())
    for part in HELD_OUT:
        rows = [every[number][1] for number in kept if every[number][0] == part]
        if rows:
            yield site.domain.parts[part], rows
