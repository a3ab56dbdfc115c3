"""The images of a case: slices with circles, a radiograph, or the reasons if it cannot be read."""

from __future__ import annotations

from collections.abc import Sequence

import panels
import session
import streamlit as st
from display import WINDOWS, AxialStack, Ring, data_uri, draw_image, draw_slice

from medkd.errors import MedkdError
from medkd.review.opened import Review
from medkd.types import RunCase

# For nodules and marks without a diameter. (Not a docstring: Streamlit prints bare strings.)
UNKNOWN_DIAMETER_MM = 10.0


def try_stack(review: Review, case: RunCase) -> AxialStack | None:
    """Read the scan; if that fails, show all reasons and return None."""
    try:
        return session.load_stack(review, case)
    except MedkdError as error:
        show_unreadable(case, error)
        return None


def show_unreadable(case: RunCase, error: MedkdError) -> None:
    """Show all reasons, unless the page already shows them."""
    if case.status == "not_analysed" and error.reasons == case.reasons:
        st.caption(f"Not shown: this {case.kind} was refused.")
        return
    st.error(f"This {case.kind} cannot be shown.")
    st.text(str(error))


def show_slices(case: RunCase, stack: AxialStack, rings: Sequence[Ring], *, legend: str) -> None:
    """Draw the choice of HU window, the slice slider, the slice, and the legend of the circles."""
    window = st.radio(
        "Window", list(WINDOWS), horizontal=True, key="window", label_visibility="collapsed"
    )
    key = panels.slice_key(case)
    if key not in st.session_state:
        first = stack.nearest_slice(rings[0].center_mm) if rings else stack.slices // 2
        st.session_state[key] = first + 1
    if not 1 <= st.session_state[key] <= stack.slices:  # the file was replaced by a shorter scan
        st.session_state[key] = stack.slices
    bar = st.container(horizontal=True, vertical_alignment="bottom")
    for label, step in (("Down", -1), ("Up", 1)):
        bar.button(label, on_click=step_slice, args=(key, step, stack.slices))
    one = stack.slices == 1  # a slider needs two ends
    number = 0 if one else bar.slider("Slice (1 = lowest)", 1, stack.slices, key=key) - 1
    png = draw_slice(stack, number, window=WINDOWS[window], rings=rings)
    st.image(data_uri(png), width="stretch")
    assumed = any(ring.diameter_mm == UNKNOWN_DIAMETER_MM for ring in rings)
    unknown = " Circles of 10 mm: the diameter is unknown." if assumed else ""
    st.caption(
        f"Slice {number + 1} of {stack.slices}, z {stack.slice_z_mm(number):.1f} mm (LPS). Seen "
        f"from the feet. {legend}{unknown}"
    )


def step_slice(key: str, step: int, slices: int) -> None:
    """Move by one slice within the stack."""
    st.session_state[key] = min(max(st.session_state[key] + step, 1), slices)


def show_picture(review: Review, case: RunCase) -> None:
    """Draw an image; if that fails, show all reasons."""
    try:
        _draw_picture(review, case)
    except MedkdError as error:
        show_unreadable(case, error)


def _draw_picture(review: Review, case: RunCase) -> None:
    """Draw a radiograph, or a row of a MedMNIST file; a slider chooses the slice of a volume."""
    if case.row is None:
        radiograph = session.load_radiograph(review, case)
        png = draw_image(radiograph.pixels, spacing_mm=radiograph.pixel_spacing_mm)
        st.image(data_uri(png))
        return
    pixels = session.load_row(review, case)
    if pixels.ndim == 3:
        depth = pixels.shape[2]
        number = st.slider("Slice", 1, depth, depth // 2, key=panels.slice_key(case))
        pixels = pixels[:, :, number - 1]
    st.image(data_uri(draw_image(pixels)))
    st.caption(f"Row {case.row} of a MedMNIST file, {pixels.shape[0]} x {pixels.shape[1]} pixels")
