"""The slice viewer on a page: a Streamlit component whose files are in `component/`.

Voxels do not travel through the component: the page grants this reader's session the volume, and
the browser loads it by the route in `voxels.py`. The reader's decisions come back as a list of
those that were not answered yet, each with a sequence number, because single events are lost when
they are close together.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import scene
import streamlit as st
import voxels
from display import AxialStack
from scene import Answered, Jump, Ring
from streamlit.runtime import Runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

from medkd.review.store import Verdict
from medkd.types import RunCase

NAME = "medkd_slice_viewer"
FOLDER = Path(__file__).resolve().parent / "component"
SCRIPTS = (
    "geometry", "grey", "volume", "slab", "decisions", "rings", "memory", "pane", "pointer",
    "connection", "keys", "bars", "viewer", "main",
)  # fmt: skip
"""The JavaScript modules, in the order of their imports."""

GRANT = "voxel_grant"
_PROCESSING = threading.Lock()
_DECIDED: tuple[Verdict, ...] = ("accept", "reject", "undecided")
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./\w+\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default )", re.MULTILINE)

Decide = Callable[[str, Verdict], None]
"""Saves a verdict on the mark with an id."""


@cache
def script_text() -> str:
    """Return the JavaScript of the component as one module.

    Streamlit loads the script of a component as a text, from which relative imports are not
    possible. The modules are therefore joined, without their imports and exports.
    """
    texts = [(FOLDER / "js" / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS]
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", text)) for text in texts)


def viewer_key(case: RunCase) -> str:
    """Return the key of the component of a case; each case has its own, with its own decisions."""
    return f"viewer:{case.case_id}"


def jump_key(case: RunCase) -> str:
    """Return the session key of the mark of a case that was chosen on the page."""
    return f"jump:{case.case_id}"


def jump_to(case: RunCase, ring_id: str) -> None:
    """Show a mark when the page is drawn next."""
    last: Jump = st.session_state.get(jump_key(case), Jump())
    st.session_state[jump_key(case)] = Jump(ring_id, last.count + 1)


def show_viewer(
    case: RunCase, stack: AxialStack, rings: Sequence[Ring], *, decide: Decide | None
) -> None:
    """Draw the slice viewer of a scan.

    Args:
        case: the case.
        stack: its voxels.
        rings: marks, highest score first, and reference nodules.
        decide: saves a verdict on a mark; None if the reader does not decide on marks here.
    """
    _grant(stack)
    answered: Answered = st.session_state.get(_answered_key(case), Answered())
    jump: Jump = st.session_state.get(jump_key(case), Jump())
    data = scene.build_scene(stack, rings, decides=decide is not None, jump=jump, answered=answered)
    known = {ring.ring_id for ring in rings if ring.group == "mark"}

    def receive() -> bool:
        sent = st.session_state[viewer_key(case)].get("decisions")
        if decide is None or not sent:
            return False
        return _process(case, sent, known=known, decide=decide)

    def on_change() -> None:
        receive()

    draw = st.components.v2.component(
        NAME,
        html=(FOLDER / "viewer.html").read_text(encoding="utf-8"),
        css=(FOLDER / "viewer.css").read_text(encoding="utf-8"),
        js=script_text(),
    )
    draw(key=viewer_key(case), data=data, on_decisions_change=on_change)
    # If another event stopped the callback, it is not called again for the same list.
    if receive():
        st.rerun()


def _process(case: RunCase, sent: Mapping[str, Any], *, known: set[str], decide: Decide) -> bool:
    """Save the decisions of a list that were not processed yet; return whether there were any.

    Streamlit may stop a callback at any access to the session, and starts the next one before the
    stopped one has ended. `answered` is therefore changed in place, immediately after each
    decision, and only one thread processes decisions at a time.
    """
    with _PROCESSING:
        return _process_alone(case, sent, known=known, decide=decide)


def _process_alone(
    case: RunCase, sent: Mapping[str, Any], *, known: set[str], decide: Decide
) -> bool:
    answered: Answered = st.session_state.setdefault(_answered_key(case), Answered())
    if answered.client != str(sent["client"]):
        answered.client, answered.number = str(sent["client"]), 0
    before = answered.number
    for decision in sorted(sent["list"], key=lambda decision: int(decision["number"])):
        number, mark, verdict = (decision[name] for name in ("number", "mark", "verdict"))
        if int(number) <= answered.number:
            continue
        if mark in known and verdict in _DECIDED:
            decide(mark, verdict)
        answered.number = int(number)
    return answered.number > before


def _answered_key(case: RunCase) -> str:
    return f"answered:{case.case_id}"


def _grant(stack: AxialStack) -> None:
    """Grant this session the volume; the grant for another volume ends."""
    port = int(st.get_option("server.port") or 0)
    token = st.context.cookies.get(voxels.cookie_name(port), "")
    held: voxels.Grant | None = st.session_state.get(GRANT)
    if held is None or held.stack is not stack or held.token != token:
        st.session_state[GRANT] = voxels.Grant(token, stack, _session_check())


def _session_check() -> Callable[[], bool]:
    """Return a function that tells whether the reader's page is still connected."""
    context = get_script_run_ctx()
    session_id = context.session_id if context else ""
    return lambda: Runtime.exists() and Runtime.instance().is_active_session(session_id)
