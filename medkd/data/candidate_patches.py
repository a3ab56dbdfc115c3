"""CT candidates as samples: patches of whole voxels around each candidate, cropped on demand.

A batch is cropped from prepared scans and then scaled at once. The result equals that of the
configuration's MONAI `Compose` for the same candidates (tested).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from medkd.data.cases import Case, CaseIndex, OnProgress
from medkd.data.crop import crop_patch
from medkd.data.loading import hu_window, patch_shape
from medkd.data.patches import PatchSource, SampleTable
from medkd.data.prepared import PreparedScans, to_unit_range
from medkd.data.sampling import derive_seed
from medkd.errors import SettingsError
from medkd.types import LabelledCandidate


class CandidatePatches(PatchSource):
    """Patches around candidates in CT scans.

    Args:
        table: names, labels and centres of the candidates; `seriesuid` names their scans.
        cases: the scans by `seriesuid`.
        scans: the prepared scans; the loading steps include a crop and an intensity window.
        prior: [1] true prevalence of positive candidates, 0..1; None: that of the table.

    Raises:
        SettingsError: if the loading steps have no crop or no intensity window.
    """

    def __init__(
        self,
        table: SampleTable,
        *,
        cases: dict[str, Case],
        scans: PreparedScans,
        prior: tuple[float, ...] | None = None,
    ) -> None:
        shape, window = patch_shape(scans.steps), hu_window(scans.steps)
        if shape is None or window is None or table.center_mm is None:
            raise SettingsError(
                "CT candidates cannot be loaded with these steps",
                [f"expected load, crop and intensity, got {[s.kind for s in scans.steps]}"],
            )
        super().__init__(table, image_shape=(1, *shape), prior=prior)
        self._centers_mm = table.center_mm
        self._cases = cases
        self._shape = shape
        self._window = window
        self._scans = scans

    def prepare(self, progress: OnProgress | None = None) -> None:
        """Prepare all scans, so that broken scans are refused before training.

        Args:
            progress: called with (scans done, total).

        Raises:
            SeriesError: if a scan cannot be read.
        """
        self._scans.prepare((self._cases[uid] for uid in self.seriesuid), progress)

    def images(self, rows: Tensor) -> Tensor:
        """Return [B, 1, I, J, K] float32: HU scaled to the window, 0..1."""
        hu = torch.empty(len(rows), *self.image_shape)
        order = rows.tolist()
        # Scan by scan, so that each scan is opened once per batch.
        for place in sorted(range(len(order)), key=lambda n: self.seriesuid[order[n]]):
            row = order[place]
            scan = self._scans.get(self._cases[self.seriesuid[row]])
            hu[place] = crop_patch(
                scan.voxels_hu,
                scan.grid,
                center_mm=self._centers_mm[row],
                patch_shape=self._shape,
                pad_value=np.floor(self._window[0]),
            )
        return to_unit_range(hu, self._window)


def candidate_table(
    index: CaseIndex, case_ids: Sequence[str], *, unlabelled: Collection[str] = ()
) -> SampleTable:
    """List the candidates of some scans, in the order of the index.

    Args:
        index: an index of scans.
        case_ids: the scans.
        unlabelled: those of the scans whose labels are not used.
    """
    cases = index.by_id()
    wanted, hidden = set(case_ids), set(unlabelled)
    numbers: dict[str, int] = defaultdict(int)
    rows = []
    for candidate in index.candidates:
        number = numbers[candidate.seriesuid]
        numbers[candidate.seriesuid] += 1
        if candidate.seriesuid in wanted:
            rows.append((f"{candidate.seriesuid}:{number}", candidate))
    return SampleTable(
        sample_id=tuple(name for name, _ in rows),
        patient_id=tuple(cases[c.seriesuid].patient_id for _, c in rows),
        seriesuid=tuple(c.seriesuid for _, c in rows),
        center_mm=tuple(c.center_mm for _, c in rows),
        label=torch.tensor([[float(c.label > 0)] for _, c in rows]).view(-1, 1),
        label_known=torch.tensor([[c.seriesuid not in hidden] for _, c in rows]).view(-1, 1),
    )


def thin_negatives(
    table: SampleTable,
    negatives_per_positive: int,
    *,
    seed: int,
    kept_places: Iterable[LabelledCandidate] = (),
) -> SampleTable:
    """Drop random negative samples, and unlabelled samples in the same proportion.

    Args:
        table: all samples.
        negatives_per_positive: negatives kept for each positive. All positives are kept. If
            there is no positive sample, nothing is dropped.
        seed: seed of the choice.
        kept_places: negatives that are kept in addition, such as marks that readers rejected.
    """
    wanted = {(place.seriesuid, place.center_mm) for place in kept_places}
    places = zip(table.seriesuid, table.center_mm or (), strict=False)
    fixed = np.array([place in wanted for place in places] or [False] * len(table.seriesuid))
    known = table.label_known.any(dim=1).numpy()
    positive = ((table.label >= 0.5) & table.label_known).any(dim=1).numpy()
    fixed &= known & ~positive
    negative = np.flatnonzero(known & ~positive & ~fixed)
    kept_negatives = min(len(negative), negatives_per_positive * int(positive.sum()))
    if not positive.any() or kept_negatives == len(negative):
        return table
    random = np.random.default_rng(derive_seed(seed, "negatives"))
    hidden = np.flatnonzero(~known)
    kept_share = (kept_negatives + positive.sum() + fixed.sum()) / known.sum()
    kept = [
        np.flatnonzero(positive | fixed),
        random.permutation(negative)[:kept_negatives],
        random.permutation(hidden)[: round(len(hidden) * float(kept_share))],
    ]
    return table.select(np.sort(np.concatenate(kept)))
