"""Radiographs, the voxels of a scan, or the reasons if they cannot be read."""

from __future__ import annotations

import deciding
import session
import slice_viewer
import streamlit as st
from actions import Saver
from display import AxialStack
from heat import load_heat
from scene import Answered, Reading, Ring

from medkd.errors import MedkdError
from medkd.review.history import open_decisions
from medkd.review.opened import Review
from medkd.review.store import WHOLE_CASE, Decision
from medkd.types import RunCase


def try_stack(review: Review, case: RunCase) -> AxialStack | None:
    """Read the scan; if that fails, show all reasons and return None."""
    try:
        return session.load_stack(review, case)
    except MedkdError as error:
        show_unreadable(case, error)
        return None


def show_unreadable(case: RunCase, error: MedkdError) -> None:
    """Show all reasons, unless the page already shows them as those of the refusal."""
    if case.status == "not_analysed" and set(error.reasons) <= set(case.reasons):
        st.error(f"This {case.kind} cannot be shown either, for the following of these reasons:")
        st.text("\n".join(reason.partition(":")[0] for reason in error.reasons))
        return
    st.error(f"This {case.kind} cannot be shown.")
    st.text(str(error))


def show_picture(
    review: Review,
    case: RunCase,
    whole: Decision,
    *,
    answered: Answered,
    first_read: bool = False,
) -> None:
    """Draw a radiograph in the viewer; if that fails, show all reasons.

    Args:
        review: the opened RUN, RESULTS or INDEX.
        case: the case.
        whole: the reader's decision on it, as the page shows it.
        answered: the last action that was processed, read before the decisions.
        first_read: whether the reader has not finished the first read yet.
    """
    try:
        stack = session.load_picture(review, case)
    except MedkdError as error:
        show_unreadable(case, error)
        return
    if case.row is not None:
        rows, columns = stack.grid.shape[1], stack.grid.shape[0]
        st.caption(f"Row {case.row} of a MedMNIST file, {rows} x {columns} pixels")
    ring = Ring(
        WHOLE_CASE,
        "whole",
        1,
        tuple(stack.grid.voxel_to_world([(count - 1) / 2 for count in stack.grid.shape])),
        None,
        score=whole.score,
        verdict=whole.verdict,
        saved=deciding.saved_words(whole) if whole.decided_at else "",
        unsaved=deciding.is_unsaved(whole),
        repeated=whole.read == "first" and not first_read,
    )
    undoable = open_decisions(session.load_case_history(review, case))
    refused = case.status == "not_analysed"
    reading = Reading(
        decides=True,
        answered=answered,
        undoable=undoable,
        refused=refused,
        first_read=first_read,
    )
    save = Saver(review, case, {WHOLE_CASE: whole}).save
    heat = load_heat(review, case)
    slice_viewer.show_viewer(case, stack, [ring], reading=reading, save=save, heat=heat)
