"""The viewer's files import each other by plain name, as Streamlit runs them."""

import sys
from pathlib import Path

VIEWER = Path(__file__).resolve().parents[2] / "apps" / "viewer"
sys.path.insert(0, str(VIEWER))
