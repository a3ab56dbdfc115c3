"""The server of the review app, which `medkd review` starts: the pages and the route of voxels."""

from __future__ import annotations

from pathlib import Path

import ahead
import streamlit as st
import voxels
from guard import Guard
from starlette.middleware import Middleware

ahead.read_ahead()
app = st.App(
    Path(__file__).resolve().parent / "app.py",
    routes=voxels.build_routes(),
    middleware=[Middleware(Guard)],
)
