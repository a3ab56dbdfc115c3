"""Who is reading: the settings of the readers, and what is known about the person at the browser.

`medkd review` passes the settings as JSON in the environment variable `MEDKD_REVIEW_READERS`.
"""

from __future__ import annotations

import os

import streamlit as st

from medkd.errors import SettingsError
from medkd.report.summary import NOT_A_DEVICE
from medkd.review.readers import (
    Login,
    Reader,
    ReaderSettings,
    identify_reader,
    is_adjudicator,
    read_reader_settings,
)

CHOSEN = "chosen_reader"
"""Session key of the name that the reader chose."""


def log_in() -> None:
    """Ask who is reading, if the settings say so; the page stops until OIDC has logged in.

    Raises:
        SettingsError: if Streamlit's log-in is not configured.
    """
    settings = _settings()
    if settings.name_from == "choice":
        st.sidebar.selectbox(
            "Your name", settings.names, index=None, key=CHOSEN, placeholder="Choose your name"
        )
    elif settings.name_from == "oidc":
        _log_in_by_oidc()


def current_reader() -> Reader:
    """Return who is reading.

    Raises:
        SettingsError: if that is not known.
    """
    settings = _settings()
    login = Login(
        account=os.environ.get("MEDKD_REVIEW_READER", "").strip() or "reader",
        headers=dict(st.context.headers) if settings.name_from == "header" else None,
        claims=dict(st.user) if settings.name_from == "oidc" else None,
        chosen=st.session_state.get(CHOSEN) or "",
    )
    return identify_reader(settings, login)


def _log_in_by_oidc() -> None:
    if "is_logged_in" not in st.user:
        reason = "add the section [auth] to .streamlit/secrets.toml, and start medkd review again"
        raise SettingsError("the log-in by OIDC is not configured", [reason])
    if not st.user["is_logged_in"]:
        st.header("medkd review")
        st.caption(NOT_A_DEVICE)
        st.button("Log in", type="primary", on_click=st.login)
        st.stop()
    try:
        current_reader()
    except SettingsError as error:
        st.error("This account cannot read here.")
        st.text(str(error))
        st.button("Log out", on_click=st.logout)  # not in the sidebar, which may be closed
        st.stop()
    st.sidebar.button("Log out", on_click=st.logout)


def adjudicates() -> bool:
    """Return whether the reader is the adjudicator.

    Raises:
        SettingsError: if it is not known who is reading.
    """
    return is_adjudicator(_settings(), current_reader())


def _settings() -> ReaderSettings:
    return read_reader_settings(os.environ.get("MEDKD_REVIEW_READERS", ""))
