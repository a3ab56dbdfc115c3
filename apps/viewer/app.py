"""The review app: a router. `medkd review RUN` starts it; `frame.py` says where the run comes from.

Three pages over one run: worklist, case, results. They draw; `medkd/review` and `display.py`
compute.
"""

from __future__ import annotations

import frame
import streamlit as st

st.set_page_config(page_title="medkd review", layout="wide")
page = st.navigation(
    [
        st.Page("worklist.py", title="Worklist", default=True),
        st.Page("case.py", title="Case"),
        st.Page("results.py", title="Results"),
    ]
)
run = frame.current_run()
with st.sidebar:
    st.caption("Run")
    st.text(run.path.resolve().name)
    st.caption("Reader")
    st.text(frame.reader_name())
frame.show_notices(frame.load_evaluation(run))
frame.show_unsaved()
page.run()
