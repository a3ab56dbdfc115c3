"""The viewer's files import each other by plain name, as Streamlit runs them."""

import sys
from pathlib import Path

import pytest

from tests.viewer import factory
from tests.viewer.browsing import FLAGS, chromium_path

VIEWER = Path(__file__).resolve().parents[2] / "apps" / "viewer"
sys.path.insert(0, str(VIEWER))


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    return factory.write_review_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def run(whole_run):
    """A run without a decision, which the tests of a module share."""
    for file in whole_run.path.glob("review.sqlite*"):
        file.unlink()
    return whole_run


@pytest.fixture
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        opened = started.chromium.launch(executable_path=chromium_path(), args=FLAGS)
        yield opened
        opened.close()
