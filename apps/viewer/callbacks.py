"""Callbacks of widgets that run to their end although another event waits.

Streamlit stops a callback at an access to the session if another event has come meanwhile, and
forgets what was not done: a typed note, because a button was pressed right afterwards. Every
callback is therefore passed to Streamlit as `on_click=uninterrupted(callback)`. The functions
themselves are not wrapped, because they call each other, and only the outermost may begin again.

This needs `runner.fastReruns = false` (`.streamlit/config.toml` and `medkd/review/launch.py`).
Otherwise Streamlit ends the thread of the callback, which then cannot begin again, and runs the
page in another thread at the same time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from streamlit.runtime.scriptrunner import RerunException

P = ParamSpec("P")


def uninterrupted(callback: Callable[P, None]) -> Callable[P, None]:
    """Return a callback that begins again if Streamlit stops it for another event.

    The callback must access the session before it writes into the store, may change the session
    only in ways that can be repeated, and must not call `st.rerun` or `st.switch_page`. It must not
    write `st.query_params` either: the waiting event brings the address as it was before.

    If a third event comes while the callback runs again, only that one is handled: a press of a
    button that the second event brought is lost.

    Raises:
        RerunException: at the end, for the event that has come; Streamlit then handles it.
    """

    @wraps(callback)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            callback(*args, **kwargs)
        except RerunException:
            run(*args, **kwargs)
            raise

    return run
