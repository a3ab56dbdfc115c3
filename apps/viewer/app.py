"""The entry script of the pages; `server.py` serves them.

It has the pages worklist and case, and for a RUN results, or in the mode "adjudication" one
page. The pages only draw: the logic is in `medkd/review`, `display.py` and `scene.py`.
"""

from __future__ import annotations

from pathlib import Path

import address
import deciding
import login
import modes
import session
import streamlit as st

st.set_page_config(page_title="medkd review", layout="wide", initial_sidebar_state="collapsed")
st.html(Path(__file__).with_name("page.css"))
review = session.current_review()
with session.stopping():
    login.log_in()
worklist = st.Page("worklist.py", title="Worklist", default=True)
case = st.Page("case.py", title="Case")
adjudication = st.Page("adjudication.py", title="Adjudication", default=True)
pages = [worklist, case]
if review.mode.name == "adjudication":
    pages = [adjudication]
elif review.kind == "RUN" and review.mode.is_open:
    pages.append(st.Page("results.py", title="Results"))
page = st.navigation(pages, position="top")
with st.sidebar:
    st.caption(review.kind.capitalize())
    st.text(review.title)
    st.caption("Reader")
    st.text(session.reader_name())
    modes.show_mode(review)
session.show_notices(review)
deciding.show_unsaved(review)
if page is worklist and address.is_first_page() and (asked := session.asked_in_address()):
    # An address with a case but without the page's name also opens the case, except when a reader
    # goes back from it.
    st.session_state[session.OPEN_CASE] = asked
    st.switch_page(case, query_params=address.parameters_besides_case())
if unknown := address.unknown_parameters(names_case=page in (case, adjudication)):
    st.warning("This page ignores unknown parts of the address:")
    st.text(", ".join(unknown))
page.run()
