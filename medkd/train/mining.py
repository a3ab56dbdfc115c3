"""Hard negatives: marks of the teacher in training scans that are on no finding.

They are mined in rounds while the teacher is trained, or once with a teacher that is only loaded.
Each round is stored in the run. Control and students learn from the list of the last round from
their start, so all of them have the same list.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from medkd.data.crops import CaseVolumes, Volume
from medkd.data.training_places import label_points
from medkd.detect import search_prepared
from medkd.detect.view import DetectSettings
from medkd.io.luna16_tables import read_marks, write_marks
from medkd.models.network import Network
from medkd.models.package import LoadedModel, ModelInfo, load_model
from medkd.train.domains import Domain
from medkd.train.logs import Progress
from medkd.train.plan import Arm, RunContext
from medkd.types import Candidate, Nodule, Point

_ROUNDS = "round-*.csv"
_GAP_MM = 4.0
"""Least distance of a hard negative to the surface of a finding."""


class MinedVolumes:
    """Training scans with hard negatives, around which crops are cut; see `crops.VolumeSet`.

    Args:
        domain: its labelled whole training scans are mined.
        folder: folder of the lists of all rounds.
        per_scan: most hard negatives per scan.
        progress: called for every scan searched.
    """

    def __init__(self, domain: Domain, folder: Path, *, per_scan: int, progress: Progress) -> None:
        self._domain, self._folder = domain, folder
        self._per_scan, self._progress = per_scan, progress
        self._volumes = self._read()

    def __len__(self) -> int:
        """Return the number of scans with hard negatives."""
        return len(self._volumes)

    def nodules(self) -> list[tuple[int, int]]:
        """Return nothing: the crops are cut around hard negatives."""
        return []

    def volume(self, number: int) -> Volume:
        """Return a scan."""
        return self._volumes.volume(number)

    def advance(self, epoch: int, share: float) -> None:
        """Do nothing: the list changes only by `mine`."""

    def mine(self, network: Network, info: ModelInfo, number: int) -> None:
        """Search the training scans, unless this round is stored, and use its list.

        Args:
            network: a point detector; its training mode is restored.
            info: a description of it with preprocessing.
            number: of the round, from 1.
        """
        path = self._folder / f"round-{number}.csv"
        if not path.is_file():
            training = network.training
            marks = self._search(LoadedModel(network.eval(), info))
            network.train(training)
            self._folder.mkdir(parents=True, exist_ok=True)
            write_marks(path, marks)
        self._volumes = self._read()

    def _search(self, model: LoadedModel) -> list[Candidate]:
        domain, kept = self._domain, []
        findings: dict[str, list[Nodule]] = defaultdict(list)
        for finding in (*domain.index.nodules, *domain.index.excluded):
            findings[finding.seriesuid].append(finding)
        names = domain.whole_scans("train")
        for done, name in enumerate(names, start=1):
            prepared = domain.scans.get(domain.index.by_id()[name])
            marks = search_prepared(prepared, model, DetectSettings()).candidates
            kept += false_marks(name, marks, findings[name])[: self._per_scan]
            self._progress("mining hard negatives", done, len(names), "")
        return kept

    def _read(self) -> CaseVolumes:
        """Return the scans with the hard negatives of the latest round."""
        rounds = sorted(self._folder.glob(_ROUNDS), key=lambda path: (len(path.name), path))
        around: dict[str, list[Point]] = defaultdict(list)
        for mark in read_marks(rounds[-1]) if rounds else ():
            around[mark.seriesuid].append(mark.center_mm)
        scans = self._domain.scans
        return CaseVolumes(self._domain.index, list(around), scans=scans, around=around)


def open_mined(arm: Arm, context: RunContext) -> MinedVolumes | None:
    """Return the hard negatives of an arm; None: the settings ask for none.

    Control and students get a list that the finished teacher mines now, unless there is one.

    Args:
        arm: an arm with a point detector to train.
        context: the run; its teacher is finished if the arm is not a teacher.
    """
    domain = context.domain_of(arm)
    mining = domain.settings.crops.mining
    if mining is None:
        return None
    folder = context.run.path / "mined" / ("target" if domain is context.target else "source")
    mined = MinedVolumes(domain, folder, per_scan=mining.per_scan, progress=context.progress)
    if arm.role != "teacher" and not list(folder.glob(_ROUNDS)):
        name = next(iter(context.settings.teachers()))
        teacher = load_model(context.run.model(name), device=context.device)
        mined.mine(teacher.network, teacher.info, 1)
    return mined


def is_round(epoch: int, *, epochs: int, rounds: int) -> int:
    """Return the number of the mining round before an epoch, from 1; 0: none.

    Example:
        >>> [is_round(epoch, epochs=6, rounds=2) for epoch in range(6)]
        [0, 0, 1, 0, 2, 0]
    """
    starts = [round(epochs * number / (rounds + 1)) for number in range(1, rounds + 1)]
    return starts.index(epoch) + 1 if epoch in starts else 0


def false_marks(
    seriesuid: str, marks: Sequence[Candidate], findings: Sequence[Nodule]
) -> list[Candidate]:
    """Return the marks that are at least 4 mm outside every finding, in the same order."""
    points = [mark.center_mm for mark in marks]
    labelled = label_points(seriesuid, points, findings, gap_mm=_GAP_MM)
    away = {one.center_mm for one in labelled if one.label == 0}
    return [mark for mark in marks if mark.center_mm in away]
