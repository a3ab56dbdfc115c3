"""The reference standard of the scans of an INDEX, against which marks are scored.

A scan counts if its nodules are known: it has a nodule with a position, or it was found to be free
of nodules. A scan without annotations is left out, and so is a scan that has a nodule of unknown
position. Otherwise every true mark in it would be a false positive.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medkd.data.archive_cases import known_scan_labels
from medkd.errors import SeriesError
from medkd.index.case import Case
from medkd.index.table import ArchiveIndex, read_index
from medkd.types import Nodule, Reference

UNANNOTATED = "that are not annotated: whether they have nodules is not known"
_SHOWN = 3
LABEL = "nodule"
"""The label of whole scans for the presence of a nodule."""


@dataclass(frozen=True, slots=True)
class IndexReference:
    """The reference standard of an INDEX.

    Args:
        reference: the scans that count, with the patients of the INDEX.
        left_out: case ids of the INDEX that do not count, with the reason.
        generators: generators of the synthetic scans among those that count.
        pseudonymous: whether the names in the INDEX are pseudonyms.
    """

    reference: Reference
    left_out: dict[str, str]
    generators: tuple[str, ...] = ()
    pseudonymous: bool = True

    def notes(self) -> Iterator[str]:
        """Yield for each reason how many scans are left out, and the first of them."""
        for reason in dict.fromkeys(self.left_out.values()):
            ids = [name for name, why in self.left_out.items() if why == reason]
            more = ", ..." if len(ids) > _SHOWN else ""
            yield f"left out: {len(ids)} scans {reason}: {', '.join(ids[:_SHOWN])}{more}"


def read_index_reference(
    path: Path, *, only: Sequence[str] | None = None, excluded: Sequence[Nodule] = ()
) -> IndexReference:
    """Read the reference standard of an INDEX.

    Args:
        path: the index.csv file.
        only: case ids that count; None: all scans whose nodules are known.
        excluded: further excluded findings, with the names of the INDEX.

    Raises:
        SeriesError: if the INDEX cannot be used, lacks a case of `only`, or no scan counts.
    """
    index = read_index(path)
    scans = [case for case in index.cases if case.kind == "scan"]
    if unknown := sorted(set(only or ()) - {case.case_id for case in scans}):
        shown = ", ".join(unknown[:_SHOWN])
        reason = f"{len(unknown)} of the requested series are not scans of this index: {shown}"
        raise SeriesError(f"{path}: cannot be scored against", [reason])
    left_out = dict(_left_out(index, scans, only))
    counted = {case.case_id: case for case in scans if case.case_id not in left_out}
    found = IndexReference(
        Reference(
            nodules=_of(index.nodules, counted, "included"),
            excluded=(*_of(index.nodules, counted, "excluded"), *excluded),
            seriesuids=tuple(counted),
            patients={name: case.patient_id for name, case in counted.items()},
        ),
        left_out,
        tuple(dict.fromkeys(case.generator for case in counted.values() if case.synthetic)),
        index.identity == "pseudonymise",
    )
    if not counted:
        advice = [*found.notes()]
        if UNANNOTATED in left_out.values():
            advice.append("give annotations to medkd index (--annotations, --labels)")
        raise SeriesError(f"{path}: no scan can be scored", advice or ["it holds no CT scan"])
    return found


def _left_out(
    index: ArchiveIndex, scans: Sequence[Case], only: Sequence[str] | None
) -> Iterator[tuple[str, str]]:
    known = known_scan_labels(index, [LABEL])
    placed = {n.seriesuid for n in index.nodules if n.counts_as == "included"}
    wanted = None if only is None else set(only)
    for case in scans:
        name = case.case_id
        if wanted is not None and name not in wanted:
            yield name, "not among --seriesuids"
        elif case.status == "not_analysed":
            yield name, "not analysed (medkd check shows why)"
        elif case.extent == "patch":
            yield name, "that are patches around nodules, not whole scans"
        elif name not in known:
            yield name, UNANNOTATED
        elif known[name] and name not in placed:
            yield name, "with a nodule of unknown position"


def _of(
    nodules: Sequence[Nodule], counted: Mapping[str, Case], counts_as: str
) -> tuple[Nodule, ...]:
    return tuple(n for n in nodules if n.seriesuid in counted and n.counts_as == counts_as)
