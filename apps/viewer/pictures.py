"""Radiographs, the voxels of a scan, or the reasons if they cannot be read."""

from __future__ import annotations

import session
import streamlit as st
from display import AxialStack, data_uri, draw_image

from medkd.errors import MedkdError
from medkd.review.opened import Review
from medkd.types import RunCase


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
        number = st.slider("Slice", 1, depth, depth // 2, key=f"slice:{case.case_id}")
        pixels = pixels[:, :, number - 1]
    st.image(data_uri(draw_image(pixels)))
    st.caption(f"Row {case.row} of a MedMNIST file, {pixels.shape[0]} x {pixels.shape[1]} pixels")
