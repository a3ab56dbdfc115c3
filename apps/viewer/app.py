"""The review app: a router. `medkd review RUN|INDEX` starts it; `session.py` finds the run.

Three pages over one run (an index has no results): worklist, case, results. They draw;
`medkd/review` and `display.py` compute.
"""

from __future__ import annotations

import deciding
import session
import streamlit as st

from medkd.review.index_cases import index_of, is_index

st.set_page_config(page_title="medkd review", layout="wide")
run = session.current_run()
worklist = st.Page("worklist.py", title="Worklist", default=True)
case = st.Page("case.py", title="Case")
pages = [worklist, case]
if not is_index(run):
    pages.append(st.Page("results.py", title="Results"))
page = st.navigation(pages)
with st.sidebar:
    st.caption("Index" if is_index(run) else "Run")
    place = run.path.resolve()
    st.text(f"{place.parent.name}/{index_of(run).name}" if is_index(run) else place.name)
    st.caption("Reader")
    st.text(session.reader_name())
session.show_notices(run)
deciding.show_unsaved(run)
if page is worklist and (asked := session.asked_in_address()):
    # An address without the page's name: the case in it must not be ignored.
    st.session_state[session.OPEN_CASE] = asked
    st.switch_page(case)
known = set(session.case_keys()) if page is case else set()
if unknown := set(st.query_params) - known:
    st.warning("This address has parts that this page does not know; they change nothing here:")
    st.text(", ".join(sorted(unknown)))
page.run()
