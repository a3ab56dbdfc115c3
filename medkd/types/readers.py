"""Data types of a comparison of readers with each other and with a reference standard."""

from __future__ import annotations

from dataclasses import dataclass

from medkd.types.results import Estimate


@dataclass(frozen=True, slots=True)
class PairAgreement:
    """How far two readers agree on whether a place is a nodule.

    `both_yes` to `both_no` count the places on which both decided; `only_first` and `only_second`
    those on which only one of them did. `kappa` is None if it is not defined: the readers share no
    place, or both gave the same single answer everywhere. Its interval is a bootstrap by case.
    """

    first: str
    second: str
    both_yes: int
    only_first_yes: int
    only_second_yes: int
    both_no: int
    only_first: int
    only_second: int
    kappa: Estimate | None

    @property
    def places(self) -> int:
        """The number of places on which both decided."""
        return self.both_yes + self.only_first_yes + self.only_second_yes + self.both_no

    @property
    def agreed(self) -> float | None:
        """The share of these places on which they agree, 0..1; None without such a place."""
        return (self.both_yes + self.both_no) / self.places if self.places else None


@dataclass(frozen=True, slots=True)
class ReaderPoint:
    """One reader's point in a FROC plot, by LUNA16's hit rule, over the scans the reader finished.

    `sensitivity` is 0..1 (None: these scans have no nodule), `fp_per_scan` false positives a scan.
    """

    reader: str
    scans: int
    nodules: int
    sensitivity: float | None
    fp_per_scan: float


@dataclass(frozen=True, slots=True)
class ReaderStudy:
    """What is known about the readers of a run: a point each, and the agreement of each pair.

    A reader who finished no scan of the reference standard has no point.
    """

    points: tuple[ReaderPoint, ...] = ()
    pairs: tuple[PairAgreement, ...] = ()
