"""The review app: a router. `medkd review RUN|RESULTS|INDEX` starts it; `session.py` opens that.

Three pages: worklist, case, and of a RUN its results. They draw; `medkd/review` and `display.py`
compute.
"""

from __future__ import annotations

import deciding
import session
import streamlit as st

st.set_page_config(page_title="medkd review", layout="wide")
review = session.current_review()
worklist = st.Page("worklist.py", title="Worklist", default=True)
case = st.Page("case.py", title="Case")
pages = [worklist, case]
if review.kind == "RUN":
    pages.append(st.Page("results.py", title="Results"))
page = st.navigation(pages)
with st.sidebar:
    st.caption(review.kind.capitalize())
    place = review.path.resolve()
    st.text(f"{place.parent.name}/{place.name}" if review.kind == "INDEX" else place.name)
    st.caption("Reader")
    st.text(session.reader_name())
session.show_notices(review)
deciding.show_unsaved(review)
if page is worklist and (asked := session.asked_in_address()):
    # An address without the page's name: the case in it must not be ignored.
    st.session_state[session.OPEN_CASE] = asked
    st.switch_page(case)
known = set(session.case_keys()) if page is case else set()
if unknown := set(st.query_params) - known:
    st.warning("This address has parts that this page does not know; they change nothing here:")
    st.text(", ".join(sorted(unknown)))
page.run()
