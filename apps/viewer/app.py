"""The review app: a router. `medkd review RUN|INDEX` starts it; `frame.py` finds the run.

Three pages over one run (an index has no results): worklist, case, results. They draw;
`medkd/review` and `display.py` compute.
"""

from __future__ import annotations

import frame
import streamlit as st

from medkd.review.index_cases import FOLDER_SUFFIX, is_index

st.set_page_config(page_title="medkd review", layout="wide")
run = frame.current_run()
pages = [
    st.Page("worklist.py", title="Worklist", default=True),
    st.Page("case.py", title="Case"),
]
if not is_index(run):
    pages.append(st.Page("results.py", title="Results"))
page = st.navigation(pages)
with st.sidebar:
    st.caption("Index" if is_index(run) else "Run")
    st.text(run.path.resolve().name.removesuffix(FOLDER_SUFFIX))
    st.caption("Reader")
    st.text(frame.reader_name())
frame.show_notices(run)
frame.show_unsaved()
page.run()
