"""Read what the first page needs while the server starts, so that no reader has to wait for it."""

from __future__ import annotations

import importlib
import logging
import threading
from contextlib import suppress

from medkd.errors import MedkdError

MODULES = ("pandas", "panels", "address", "slice_viewer")
"""What the first page imports."""

NAME = "read-ahead"


def read_ahead() -> None:
    """Load modules and the worklist in another thread.

    What cannot be read is left to the page, which shows the reasons.
    """
    # Streamlit's cache warns of a call that comes from no page, as it must here.
    warner = logging.getLogger("streamlit.runtime.scriptrunner_utils.script_run_context")
    warner.addFilter(lambda record: record.threadName != NAME)
    threading.Thread(target=_read, name=NAME, daemon=True).start()


def _read() -> None:
    for name in MODULES:
        importlib.import_module(name)
    import session

    with suppress(MedkdError):
        session.read_first_page()
