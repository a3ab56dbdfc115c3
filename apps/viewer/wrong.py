"""Part of the results page: the images that the model called wrongly, with a way into each case."""

from __future__ import annotations

from collections.abc import Sequence

import gallery
import session
import stored
import streamlit as st

from medkd.errors import MedkdError
from medkd.review.opened import Review
from medkd.review.wrong_images import WrongImage, WrongImages
from medkd.types import Evaluation

NOT_SCORED = "The student of this run was not scored on scans or images."


def show_wrong_images(review: Review, evaluation: Evaluation) -> None:
    """Draw the missed images or the false alarms of a label, worst first."""
    found = stored.load_wrong_images(review, evaluation)
    if not found:
        st.info(NOT_SCORED)
        return
    one = found[0]
    if len(found) > 1:
        one = st.selectbox("Label", found, format_func=lambda wrong: wrong.label)
    st.text(threshold_words(review, one))
    bar = st.container(horizontal=True, vertical_alignment="center", gap="small")
    names = {
        gallery.MISSED: f"Missed: {len(one.missed)}",
        gallery.FALSE: f"False alarms: {len(one.false_alarms)}",
    }
    kind = gallery.choose_kind(names, bar, key="wrong_shown")
    images = one.missed if kind == gallery.MISSED else one.false_alarms
    if not images:
        st.info("There are none.")
        return
    first = gallery.choose_first(len(images), bar, key=f"first_image:{one.label}:{kind}")
    order = "lowest" if kind == gallery.MISSED else "highest"
    bar.caption(f"{session.ARM.capitalize()}, the {order} probability first.")
    show_images(review, images[first : first + gallery.AT_ONCE], first=first)


def threshold_words(review: Review, one: WrongImages) -> str:
    """Describe when an image is called positive."""
    finding = one.label or session.finding_name(review)
    return (
        f"{finding}: an image is called positive with a probability of at least "
        f"{one.threshold:.3f}, the threshold chosen on validation."
    )


def show_images(review: Review, images: Sequence[WrongImage], *, first: int) -> None:
    """Draw a small picture of each image, its probability, and a button that opens its case."""
    cases = {case.case_id: case for case in session.load_cases(review)}
    for start in range(0, len(images), gallery.IN_ROW):
        columns = st.columns(gallery.IN_ROW)
        row = images[start : start + gallery.IN_ROW]
        for column, (number, one) in zip(columns, enumerate(row, first + start + 1), strict=False):
            case = cases.get(one.case_id)
            try:
                picture = case and stored.load_thumbnail(review, case)
            except MedkdError:
                picture = None
            if picture:
                column.image(picture, width="stretch")
            else:
                column.caption("This image cannot be shown.")
            column.text(f"{number}. probability {one.probability:.3f}")
            if case and column.button("Open", key=f"wrong:{number}", width="stretch"):
                st.session_state[session.OPEN_CASE] = [case.case_id]
                st.switch_page("case.py")
