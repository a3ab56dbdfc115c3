"""A case of an INDEX: its image with the reference nodules, and its labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import added
import pandas as pd
import panels
import places
import row_words
import session
import slice_viewer
import streamlit as st
from actions import Saver
from display import AxialStack
from heat import load_heat
from pictures import show_picture, try_stack
from prior_scene import PriorView
from scene import Answered, Reading, Ring

from medkd.index.case import Case
from medkd.review.history import open_decisions
from medkd.review.index_cases import NoduleFact, label_rows, synthetic_words
from medkd.review.opened import Review
from medkd.review.outcomes import Outcome, nodule_name
from medkd.review.outcomes import numbered as numbered
from medkd.review.place_words import short_place, size_words
from medkd.review.store import Decision
from medkd.types import Nodule, RunCase

LEGEND = "Blue: reference nodule, violet: excluded finding."
MEANING = "Accept: the image and its labels are correct. Reject: they are not."
LISTED = 50
COLUMNS = (7, 3)


def show_indexed(
    review: Review,
    case: RunCase,
    mine: Mapping[str, Decision],
    *,
    answered: Answered,
    prior: PriorView | None,
) -> None:
    """Draw the image on the left, and the INDEX's entries and the decisions on the right."""
    archive = session.load_archive(review)
    known = session.load_sight(review, case.case_id).reference
    nodules = [n for n in archive.nodules if known and n.seriesuid == case.case_id]
    left, right = st.columns(COLUMNS, gap="small")
    with left:
        stack = try_stack(review, case) if case.kind == "scan" else None
        if case.kind == "image":
            show_picture(review, case, panels.image_decision(case, mine), answered=answered)
    # The viewer of an image reads its history itself.
    history = session.load_case_history(review, case) if case.kind == "scan" else []
    found = added.find_added(case, history)
    if stack is not None:
        rings = [build_ring(number, nodule) for number, nodule in numbered(nodules)]
        shown = {one.decision.mark_id: one.decision for one in found}
        refused = case.status == "not_analysed"
        undoable = open_decisions(history)
        reading = Reading(decides=False, answered=answered, undoable=undoable, refused=refused)
        save = Saver(review, case, shown, stack).save
        with left:
            every = added.added_rings(found) + rings
            heat = load_heat(review, case)
            slice_viewer.show_viewer(
                case, stack, every, reading=reading, save=save, heat=heat, prior=prior
            )
    with right, st.container(key="case_side", gap="xsmall"):
        if case.kind == "scan":
            panels.show_reviewed(review, case, mine)
            if known:
                fact = session.load_nodule_facts(review)[case.case_id]
                list_nodules(case, nodules, fact=fact, stack=stack)
            if found:
                st.caption("Added by you")
            rows = row_words.placed_rows(stack, added.added_rows(found))
            panels.show_list(review, case, rows, stack=stack, history=history)
        show_labels(label_rows(archive, case.case_id) if known else ())
        if row := archive.by_id().get(case.case_id):
            show_notes(row, reference=known)
        if case.kind == "scan":
            panels.show_whole_scan(review, case, mine)
        else:
            meaning = MEANING if known else panels.IMAGE_MEANING
            panels.show_image_decision(review, case, mine, meaning=meaning)


def show_notes(row: Case, *, reference: bool) -> None:
    """Draw what is known about a case; `reference`: also notes, which may tell of nodules."""
    notes = [f"allowed: {text}" for text in row.allowed]
    notes += row.notes if reference else ()
    st.text("\n".join([*notes, describe_case(row)]))


def describe_case(row: Case) -> str:
    """Describe the acquisition of a case, as far as its header states it."""
    thickness = row.slice_thickness_mm
    parts = [
        row.modality,
        f"view {row.view}" if row.view else "",
        " x ".join(map(str, row.shape)),
        " x ".join(f"{mm:.3g}" for mm in row.spacing_mm) + (" mm" if row.spacing_mm else ""),
        f"slice thickness {thickness:g} mm" if thickness is not None else "",
        f"kernel {row.kernel}" if row.kernel else "",
        row.manufacturer,
        synthetic_words(row),
    ]
    return ", ".join(part for part in parts if part)


def list_nodules(
    case: RunCase, nodules: Sequence[Nodule], *, fact: NoduleFact, stack: AxialStack | None
) -> None:
    """Draw what is known about the scan, and one button per nodule that jumps to it."""
    st.subheader("Reference standard")
    unread = "" if fact.count is not None else ". That is not the same as no nodule"
    st.caption(f"This scan: {fact.words}{unread}.")
    if nodules and stack is not None:
        st.caption(LEGEND)
    listed = numbered(nodules)[:LISTED]
    found = places.find_places(stack, [nodule.center_mm for _, nodule in listed])
    for (number, nodule), place in zip(listed, found, strict=True):
        panels.jump_button(
            case,
            f"{number}: {describe(nodule)}",
            center_mm=nodule.center_mm,
            name=nodule_name(number),
            stack=stack,
            chosen=slice_viewer.chosen_ring(case) == nodule_name(number),
            ending=f", {short_place(place)}" if place else "",
        )
    if len(nodules) > LISTED:
        st.caption(f"{len(nodules) - LISTED} more are drawn on the slices.")


def describe(nodule: Nodule) -> str:
    """Describe a nodule or excluded finding of the reference standard."""
    known = nodule.diameter_mm > 0
    size = size_words(nodule.diameter_mm) if known else "diameter unknown"
    kind = "nodule" if nodule.counts_as == "included" else "excluded finding"
    readers = f", {nodule.readers_agreeing} readers" if nodule.readers_agreeing else ""
    return f"{kind}, {size}{readers}"


def build_ring(number: int, nodule: Nodule, outcome: Outcome = "") -> Ring:
    """Build the ring of a reference nodule or excluded finding."""
    diameter_mm = nodule.diameter_mm if nodule.diameter_mm > 0 else None
    return Ring(
        nodule_name(number),
        nodule.counts_as,
        number,
        nodule.center_mm,
        diameter_mm,
        outcome=outcome,
    )


def show_labels(rows: Sequence[tuple[str, str, str]]) -> None:
    """Draw a table of the labels of the whole case."""
    if rows:
        st.subheader("Labels")
        table = pd.DataFrame(list(rows), columns=["Label", "Value", "Source"])
        st.dataframe(table.sort_values("Value", ascending=False, kind="stable"), hide_index=True)
