"""The results page in a real Chromium: three clicks lead to the worst missed nodule."""

import pytest
from playwright.sync_api import expect

from tests.report.run_factory import write_example_run
from tests.viewer.browsing import served

pytestmark = pytest.mark.slow


def test_three_clicks_lead_to_the_worst_missed_nodule_and_back(browser, tmp_path):
    run = write_example_run(tmp_path / "run")
    with served(run, "--reader", "anna") as (url, _):
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        page.goto(url)
        page.get_by_role("link", name="Results").click()
        page.get_by_role("radio", name="Mistakes").click()
        pictures = page.get_by_test_id("stImage").locator("img")
        expect(pictures).to_have_count(3)
        assert pictures.first.evaluate("picture => picture.naturalWidth") == 256
        page.get_by_role("button", name="Open", exact=True).first.click()
        page.locator(".viewer[data-loaded=all]").wait_for()
        expect(page.locator("button[data-key=g]")).to_have_attribute("aria-pressed", "true")
        page.get_by_role("link", name="Results").click()
        expect(pictures).to_have_count(3)  # the same part again, not the first one
