"""The result of an acceptance test, and its settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from medkd.detect import DetectSettings
from medkd.detect.view import OneLook
from medkd.settings import Settings
from medkd.synthetic.implant.kept import NoduleRow
from medkd.synthetic.implant.settings import ImplantSettings
from medkd.types import Estimate, RunRecord

GroupKind = Literal["all", "size", "texture", "attachment"]


class AcceptanceSettings(Settings):
    """How a site's scans are chosen, changed and searched."""

    scans: int = Field(50, ge=1, description="Most scans; if there are more, a random choice.")
    seed: int = Field(0, ge=0, description="Seed of the choice of scans and of the bootstrap.")
    implants: ImplantSettings = Field(
        default_factory=lambda: ImplantSettings(sizes="4-20"), description="The nodules."
    )
    search: OneLook = Field(default_factory=DetectSettings, description="How a scan is searched.")


@dataclass(frozen=True, slots=True)
class ScoredNodule:
    """A synthetic nodule with the probability of its best mark (0: no mark).

    `score_before` is that of the best mark at the same place on the unchanged scan.
    """

    nodule: NoduleRow
    score: float
    score_before: float


@dataclass(frozen=True, slots=True)
class ScoredScan:
    """What was found on one scan, or the reasons why parts of the test are missing.

    `analysed` tells whether the unchanged scan was searched; `false_scores` are the probabilities
    of its marks on no annotated finding. There are no `nodules` if none could be added or the
    changed scan was not analysed. `annotated`: its real nodules are known.
    """

    case_id: str
    patient_id: str
    analysed: bool
    annotated: bool = False
    false_scores: tuple[float, ...] = ()
    nodules: tuple[ScoredNodule, ...] = ()
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GroupResult:
    """Sensitivity for one group of nodules, 0..1.

    `found` nodules have a mark at or above the threshold; `marked_before` have one on the unchanged
    scan already, which shows how often a mark is there by chance.
    """

    kind: GroupKind
    name: str
    nodules: int
    found: int
    marked_before: int
    sensitivity: Estimate


@dataclass(frozen=True, slots=True)
class PointResult:
    """Results at one threshold of the model.

    `names` are those of the operating point. `false_marks` is the rate per unchanged scan,
    `expected` that of the scans on which the threshold was chosen (None: not recorded).
    """

    names: tuple[str, ...]
    threshold: float
    chosen_on: str
    expected: float | None
    false_marks: Estimate
    groups: tuple[GroupResult, ...]


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The result of an acceptance test; `settings` are the plain values of `AcceptanceSettings`.

    `model` describes the model in one line; `cautions` are statements that every page must repeat.
    """

    model: str
    settings: dict[str, Any]
    ready: int
    scans: tuple[ScoredScan, ...]
    points: tuple[PointResult, ...]
    cautions: tuple[str, ...]
    record: RunRecord

    @property
    def nodules(self) -> tuple[tuple[ScoredScan, ScoredNodule], ...]:
        """All nodules, each with its scan."""
        return tuple((scan, nodule) for scan in self.scans for nodule in scan.nodules)

    @property
    def analysed(self) -> tuple[ScoredScan, ...]:
        """The scans whose unchanged form was searched."""
        return tuple(scan for scan in self.scans if scan.analysed)

    @property
    def patients(self) -> int:
        """Number of patients of the analysed scans."""
        return len({scan.patient_id for scan in self.analysed})
