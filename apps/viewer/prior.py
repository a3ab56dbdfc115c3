"""Which other scan of the patient is shown beside a case, read once the reader asks for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import indexed
import places
import session
import slice_viewer
import streamlit as st
from prior_scene import PriorView
from scene import Ring

from medkd.errors import MedkdError
from medkd.index.table import ArchiveIndex
from medkd.review.history import VERDICT_WORDS
from medkd.review.opened import Review
from medkd.review.place_words import size_words
from medkd.review.priors import OtherScan, align_scans, find_other_scans, index_of, lung_box
from medkd.review.store import Decision
from medkd.types import RunCase

_SHOWN = frozenset({"accept", "added"})


def find_prior(review: Review, case: RunCase) -> PriorView | None:
    """Return the other scans of the patient; None if there are none, or no INDEX lists them.

    The chosen one is read only after the reader has asked for it, because reading takes seconds.
    """
    index = index_of(review, case)
    if index is None or case.kind != "scan":
        return None
    try:
        archive = session.load_index(index)
    except MedkdError as error:
        st.warning("Whether the patient has other scans is not known.")
        st.text(str(error))
        return None
    choices = find_other_scans(archive, case.case_id)
    if not choices:
        return None
    asked = slice_viewer.asked_prior(case)
    shown = next((one for one in choices if one.case.case_id == asked), None)
    if shown is None:
        return PriorView(choices, choices[0])
    try:
        return _read_prior(review, case, PriorView(choices, shown), archive)
    except MedkdError as error:
        return PriorView(choices, shown, fault=str(error))


def _read_prior(review: Review, case: RunCase, view: PriorView, archive: ArchiveIndex) -> PriorView:
    other = replace(case, case_id=view.shown.case.case_id)  # its voxels are in the same INDEX
    stack, here = session.load_stack(review, other), session.load_stack(review, case)
    boxes = (lung_box(places.find_lung_field(here)), lung_box(places.find_lung_field(stack)))
    decisions = session.load_case_mine(review, other).values()
    sight = session.load_sight(review, other.case_id)
    reference = reference_rings(archive, view.shown) if sight.reference else []
    return replace(
        view,
        stack=stack,
        alignment=align_scans(here.grid, stack.grid, lungs=boxes),
        rings=[*decided_rings(decisions), *reference],
    )


def decided_rings(decisions: Iterable[Decision]) -> list[Ring]:
    """Build the rings of the marks that the reader accepted or added on another scan."""
    return [
        Ring(
            decision.mark_id,
            "added" if decision.is_added else "mark",
            0,
            decision.center_mm,
            decision.diameter_mm,
            verdict=decision.verdict,
            words=_sized(VERDICT_WORDS[decision.verdict], decision.diameter_mm),
        )
        for decision in decisions
        if decision.verdict in _SHOWN and decision.center_mm is not None
    ]


def reference_rings(archive: ArchiveIndex, shown: OtherScan) -> list[Ring]:
    """Build the rings of the reference nodules of another scan."""
    nodules = [n for n in archive.nodules if n.seriesuid == shown.case.case_id]
    rings = [indexed.build_ring(number, nodule) for number, nodule in indexed.numbered(nodules)]
    return [replace(ring, words=_sized(f"R{ring.number}", ring.diameter_mm)) for ring in rings]


def _sized(words: str, diameter_mm: float | None) -> str:
    return f"{words} {size_words(diameter_mm)}" if diameter_mm else words
