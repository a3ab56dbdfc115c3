"""Where marks and nodules are in the lungs, and on which DICOM image; computed once per scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import streamlit as st
from display import AxialStack
from scene import Ring

from medkd.lungs import LungField
from medkd.review.place_words import lung_words, lungs_of, report_line
from medkd.review.store import Decision
from medkd.types import Point, Scan


def find_places(stack: AxialStack | None, centers_mm: Sequence[Point]) -> tuple[str, ...]:
    """Return the lung and third of each point; empty texts outside the scan, or without lungs."""
    if stack is None or stack.is_picture or not centers_mm:
        return ("",) * len(centers_mm)
    return _places(stack.volume_id, tuple(centers_mm), stack)


def placed_rings(stack: AxialStack, rings: Sequence[Ring]) -> list[Ring]:
    """Return the rings with their places."""
    places = find_places(stack, [ring.center_mm for ring in rings])
    return [replace(ring, place=place) for ring, place in zip(rings, places, strict=True)]


def describe(stack: AxialStack, shown: Decision, place: str) -> str:
    """Return the line on a mark that the viewer copies for the PACS.

    Args:
        stack: the scan.
        shown: the latest decision on the mark.
        place: its place, as `find_places` returns it.
    """
    number, image = stack.slice_at(shown.center_mm or (0.0, 0.0, 0.0))
    return report_line(place, number, image=image, diameter_mm=shown.diameter_mm)


# Streamlit does not use arguments with an underscore as keys of a cache.
@st.cache_data(max_entries=200, show_spinner=False)
def _places(volume_id: str, centers_mm: tuple[Point, ...], _stack: AxialStack) -> tuple[str, ...]:
    lungs = find_lung_field(_stack)
    words = lung_words(lungs, centers_mm) if lungs else ("",) * len(centers_mm)
    inside = _stack.grid.contains_world(centers_mm)
    return tuple(text if is_in else "" for text, is_in in zip(words, inside, strict=True))


def find_lung_field(stack: AxialStack) -> LungField | None:
    """Return the lungs of a scan; None if none are found."""
    return _lungs(stack.volume_id, stack)


@st.cache_resource(max_entries=20, show_spinner="Finding the lungs ...")
def _lungs(volume_id: str, _stack: AxialStack) -> LungField | None:
    return lungs_of(Scan(volume_id, _stack.voxels_hu, _stack.grid, patient_id=""))
