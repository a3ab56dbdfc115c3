"""Parts of the results page: pictures of missed nodules and false marks, and groups of nodules.

A picture is drawn from its scan when it is shown for the first time. Only the scans of the pictures
on the page are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import session
import slice_viewer
import stored
import streamlit as st
from callbacks import uninterrupted
from streamlit.delta_generator import DeltaGenerator

from medkd.errors import MedkdError
from medkd.report import words
from medkd.review.crops import RingColor
from medkd.review.misses import Mistakes, WrongPlace
from medkd.review.opened import Review
from medkd.review.place_words import size_words
from medkd.review.strata import ALL
from medkd.types import Evaluation, RunCase

AT_ONCE, IN_ROW = 12, 6
"""Pictures on the page, and in one row."""

NOT_ON_SCANS = "No model of this run was scored on scans."
MISSED, FALSE = "missed", "false"


def show_mistakes(review: Review, evaluation: Evaluation) -> None:
    """Draw the missed nodules or the false marks, worst first, each with a way into its case."""
    found = stored.load_mistakes(review, evaluation)
    if found is None:
        st.info(NOT_ON_SCANS)
        return
    names = {
        MISSED: f"Missed nodules: {len(found.missed)}",
        FALSE: f"False marks: {len(found.false_marks)}",
    }
    st.text(point_words(found))
    bar = st.container(horizontal=True, vertical_alignment="center", gap="small")
    kind = choose_kind(names, bar, key="mistakes_shown")
    color: RingColor = "missed" if kind == MISSED else "mark"
    places = found.missed if kind == MISSED else found.false_marks
    order = "the largest first" if kind == MISSED else "the highest score first"
    if not places:
        st.info("There are none.")
        return
    first = choose_first(len(places), bar, key=f"first:{kind}")
    bar.caption(f"{session.ARM.capitalize()}, {order}. Axial, 64 x 64 mm; a ring shows the place.")
    show_pictures(review, places[first : first + AT_ONCE], first=first, color=color)


def choose_kind(names: Mapping[str, str], bar: DeltaGenerator, *, key: str) -> str:
    """Return which kind of mistakes the reader wants to see, by the names on the control."""
    return bar.segmented_control(
        "Shown",
        list(names),
        format_func=names.__getitem__,
        default=MISSED,
        required=True,
        key=key,
        label_visibility="collapsed",
        persist_state="session",
    )


def point_words(found: Mistakes) -> str:
    """Describe the marks and the threshold of the mistakes."""
    marks = "marks on whole scans" if found.track == "whole-scan" else "scored candidates of a list"
    if found.threshold is None:
        return f"All {marks}: there is no threshold chosen on validation."
    least = f"a score of at least {found.threshold:.3f}, the threshold chosen on validation"
    return f"{marks.capitalize()} with {least}."


def choose_first(count: int, bar: DeltaGenerator, *, key: str) -> int:
    """Draw the buttons for the previous and next pictures, and return the first one to show."""
    first = min(int(st.session_state.get(key, 0)), (count - 1) // AT_ONCE * AT_ONCE)
    for label, step in ((f"Previous {AT_ONCE}", -AT_ONCE), (f"Next {AT_ONCE}", AT_ONCE)):
        bar.button(
            label,
            key=f"{key}:{step}",
            disabled=not 0 <= first + step < count,
            on_click=uninterrupted(st.session_state.__setitem__),
            args=(key, first + step),
        )
    bar.caption(f"{first + 1} to {min(first + AT_ONCE, count)} of {count}")
    return first


def show_pictures(
    review: Review, places: Sequence[WrongPlace], *, first: int, color: RingColor
) -> None:
    """Draw one cell for each place, then fill in the pictures scan by scan."""
    cases = {case.case_id: case for case in session.load_cases(review)}
    frames: dict[str, list[tuple[WrongPlace, DeltaGenerator]]] = {}
    for start in range(0, len(places), IN_ROW):
        columns = st.columns(IN_ROW)
        for column, (number, place) in zip(
            columns, enumerate(places[start : start + IN_ROW], first + start + 1), strict=False
        ):
            frame = column.empty()
            frame.caption("Reading ...")
            frames.setdefault(place.case_id, []).append((place, frame))
            column.text(f"{number}. {describe(place)}")
            case = cases.get(place.case_id)
            if case and column.button("Open", key=f"open:{color}:{number}", width="stretch"):
                open_place(case, place)
    fill_pictures(review, cases, frames, color)


def describe(place: WrongPlace) -> str:
    """Describe a missed nodule or a false mark in one line."""
    size = size_words(place.diameter_mm) if place.diameter_mm else "size not known"
    return f"{size}, {'no mark' if place.score is None else f'score {place.score:.3f}'}"


def open_place(case: RunCase, place: WrongPlace) -> None:
    """Go to the case page with a nodule or mark chosen."""
    st.session_state[session.OPEN_CASE] = [case.case_id]
    slice_viewer.jump_to(case, place.ring_id)
    st.switch_page("case.py")


def fill_pictures(
    review: Review,
    cases: Mapping[str, RunCase],
    frames: Mapping[str, Sequence[tuple[WrongPlace, DeltaGenerator]]],
    color: RingColor,
) -> None:
    """Read the scans one after the other, and draw the pictures of each."""
    for case_id, cells in frames.items():
        try:
            pictures = stored.load_crops(
                review, cases[case_id], [place for place, _ in cells], color
            )
        except (MedkdError, KeyError):
            pictures = [None] * len(cells)
        for (_, frame), picture in zip(cells, pictures, strict=True):
            if picture is None:
                frame.caption("This place cannot be shown.")
            else:
                frame.image(picture, width="stretch")


def show_groups(review: Review, evaluation: Evaluation) -> None:
    """Draw the table of nodules and false marks by size and place."""
    found = stored.load_mistakes(review, evaluation)
    if found is None:
        st.info(NOT_ON_SCANS)
        return
    st.text(point_words(found))
    rows = [
        {
            "Group": "" if one.kind == ALL else one.kind.capitalize(),
            "Value": one.name,
            "Nodules": one.nodules,
            "Found": one.found,
            "Missed": one.nodules - one.found,
            "Sensitivity": words.number(one.sensitivity),
            "False marks": "" if one.false_marks is None else str(one.false_marks),
        }
        for one in stored.load_strata(review, found)
    ]
    st.dataframe(pd.DataFrame(rows), hide_index=True, height="content")
    st.caption(
        "Diameters are those of the reference standard. Its tables name no place: lung and third "
        "are those of the nearest mark that a search of this run stored (at most 30 mm away). "
        "Groups are small: read the counts, not the third digit."
    )
