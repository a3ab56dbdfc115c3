"""The slice viewer on a page: a Streamlit component whose files are in `component/`.

Voxels do not travel through the component: the page grants this reader's session the volume, and
the browser loads it by the route in `voxels.py`. The reader's actions come back as a list of
those that were not answered yet, each with a sequence number, because single events are lost when
they are close together.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import flow
import places
import scene
import streamlit as st
import voxels
from actions import Action, read_action
from callbacks import uninterrupted
from display import AxialStack
from heat import Heat, describe_heat
from prior_scene import PriorView, describe_prior
from scene import Answered, Jump, Reading, Ring
from streamlit.runtime import Runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

from medkd.types import Point, RunCase

NAME = "medkd_slice_viewer"
FOLDER = Path(__file__).resolve().parent / "component"
SCRIPTS = (
    "geometry", "grey", "volume", "slab", "decisions", "rings", "memory", "heat", "pane", "draft",
    "adding", "keyed", "ruler", "readout", "report", "diameter", "pointer", "prior",
    "connection", "page", "address", "keys", "bars", "viewer", "main",
)  # fmt: skip
"""The JavaScript modules, in the order of their imports."""

GRANT = "voxel_grant"
_LOG = logging.getLogger(__name__)
_PROCESSING = threading.Lock()
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./\w+\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default )", re.MULTILINE)

Save = Callable[[Action, Mapping[int, int]], int]
"""Saves an action, given the rows that earlier actions wrote; returns the row that it wrote."""


@cache
def script_text() -> str:
    """Return the JavaScript of the component as one module.

    Streamlit loads the script of a component as a text, from which relative imports are not
    possible. The modules are therefore joined, without their imports and exports.
    """
    texts = [_text(f"js/{name}.js") for name in SCRIPTS]
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", text)) for text in texts)


@cache
def _text(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def viewer_key(case: RunCase) -> str:
    """Return the key of the component of a case; each case has its own, with its own decisions."""
    return f"viewer:{case.case_id}"


def jump_key(case: RunCase) -> str:
    """Return the session key of the mark of a case that was chosen on the page."""
    return f"jump:{case.case_id}"


def chosen_key(case: RunCase) -> str:
    """Return the session key of the ring of a case that was chosen last, on the page or in it."""
    return f"chosen:{case.case_id}"


def chosen_ring(case: RunCase) -> str:
    """Return the ring of a case that was chosen last; empty if none was."""
    return str(st.session_state.get(chosen_key(case), ""))


def jump_to(case: RunCase, ring_id: str) -> None:
    """Show a mark when the page is drawn next."""
    last: Jump = st.session_state.get(jump_key(case), Jump())
    st.session_state[chosen_key(case)] = ring_id
    st.session_state[jump_key(case)] = Jump(ring_id, last.count + 1)


def asked_prior(case: RunCase) -> str:
    """Return the other scan of the patient that the reader wants beside a case; empty: none yet."""
    state = st.session_state.get(viewer_key(case)) or {}
    return str(state.get("prior") or "")


def go_to(case_id: str, center_mm: Point | None) -> None:
    """Show a place of a case with its heat map when its page is drawn next; None: the image."""
    key = f"jump:{case_id}"
    last: Jump = st.session_state.get(key, Jump())
    st.session_state[key] = Jump("", last.count + 1, center_mm)


def read_answered(case: RunCase) -> Answered:
    """Return the last action that was processed; call it before the decisions are read.

    Otherwise an action that is processed meanwhile would be answered, but not shown.
    """
    answered: Answered = st.session_state.get(_answered_key(case), Answered())
    return replace(answered)


def show_viewer(
    case: RunCase,
    stack: AxialStack,
    rings: Sequence[Ring],
    *,
    reading: Reading,
    save: Save,
    heat: Heat,
    prior: PriorView | None = None,
) -> None:
    """Draw the slice viewer of a scan.

    Args:
        case: the case.
        stack: its voxels.
        rings: marks, highest score first, then added nodules and reference nodules.
        reading: what the reader does with them; what was chosen is filled in here.
        save: saves an action of the reader.
        heat: the heat maps of the model.
        prior: another scan of the same patient; None: there is none.
    """
    beside = (prior.stack,) if prior and prior.stack else ()
    _grant((stack, *beside, *heat.maps))
    key = viewer_key(case)
    reading = replace(
        reading,
        chosen=chosen_ring(case),
        jump=st.session_state.get(jump_key(case), Jump()),
        question=flow.question(case.case_id),
    )

    def receive() -> bool:
        sent = st.session_state[key].get("decisions")
        return bool(sent) and _process(case, sent, save)

    def on_decisions() -> None:
        receive()

    def on_selected() -> None:
        _keep_selected(case, st.session_state[key].get("selected") or {})

    draw = st.components.v2.component(
        NAME,
        html=_text("viewer.html"),
        css=_text("viewer.css"),
        js=script_text(),
    )
    data = scene.build_scene(stack, places.placed_rings(stack, rings), reading)
    data["prior"] = describe_prior(prior) if prior else None
    data["heat"] = describe_heat(heat, stack)
    draw(
        key=key,
        data=data,
        on_decisions_change=uninterrupted(on_decisions),
        on_selected_change=uninterrupted(on_selected),
        on_prior_change=lambda: None,  # `asked_prior` reads the state
    )
    # If another event stopped the callback, it is not called again for the same list.
    if receive():
        st.rerun()


def _keep_selected(case: RunCase, sent: Mapping[str, Any]) -> None:
    """Keep the ring that was chosen in the viewer, unless one was chosen on the page since."""
    last: Jump = st.session_state.get(jump_key(case), Jump())
    if sent.get("jump") == last.count:
        st.session_state[chosen_key(case)] = str(sent.get("id") or "")


def _process(case: RunCase, sent: Mapping[str, Any], save: Save) -> bool:
    """Save the actions of a list that were not processed yet; return whether there were any.

    Streamlit may stop a callback at any access to the session. When a browser connects again, it
    also starts the next one before the stopped one has ended. `answered` is therefore changed in
    place, immediately after each action, and only one thread processes actions at a time.
    """
    with _PROCESSING:
        return _process_alone(case, sent, save)


def _process_alone(case: RunCase, sent: Mapping[str, Any], save: Save) -> bool:
    answered: Answered = st.session_state.setdefault(_answered_key(case), Answered())
    if answered.client != str(sent["client"]):
        answered.client, answered.number = str(sent["client"]), 0
        answered.rows.clear()
    before = answered.number
    for raw in sorted(sent["list"], key=lambda action: int(action["number"])):
        number = int(raw["number"])
        if number <= answered.number:
            continue
        try:
            action = read_action(raw)
        except ValueError:
            _LOG.warning("the slice viewer sent an action that is none; it was not saved")
        else:
            answered.rows[number] = save(action, answered.rows)
        answered.number = number
    return answered.number > before


def _answered_key(case: RunCase) -> str:
    return f"answered:{case.case_id}"


def _grant(stacks: tuple[voxels.Volume, ...]) -> None:
    """Grant this session these volumes; the grant for other volumes ends."""
    port = int(st.get_option("server.port") or 0)
    token = st.context.cookies.get(voxels.cookie_name(port), "")
    held: voxels.Grant | None = st.session_state.get(GRANT)
    # Volumes have no equality of their own: they are compared by identity.
    if held is None or held.stacks != stacks or held.token != token:
        st.session_state[GRANT] = voxels.Grant(token, stacks, _session_check())


def _session_check() -> Callable[[], bool]:
    """Return a function that tells whether the reader's page is still connected."""
    context = get_script_run_ctx()
    session_id = context.session_id if context else ""
    return lambda: Runtime.exists() and Runtime.instance().is_active_session(session_id)
