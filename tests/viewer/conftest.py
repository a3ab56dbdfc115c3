"""The viewer's files import each other by plain name, as Streamlit runs them."""

import sys
from pathlib import Path

import pytest

from tests.viewer.browsing import FLAGS, chromium_path

VIEWER = Path(__file__).resolve().parents[2] / "apps" / "viewer"
sys.path.insert(0, str(VIEWER))


@pytest.fixture
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        opened = started.chromium.launch(executable_path=chromium_path(), args=FLAGS)
        yield opened
        opened.close()
