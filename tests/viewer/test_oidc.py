"""The log-in by OIDC in a real Chromium, with a provider on loopback that signs its tokens."""

import tomllib

import pytest

from medkd.review.store import open_store
from tests.viewer import factory
from tests.viewer.browsing import served
from tests.viewer.nginx import block_of_readme
from tests.viewer.oidc_provider import running

pytestmark = pytest.mark.slow

ACCOUNTS = {
    "anna": {"email": "anna@hospital.example", "email_verified": True, "name": "Anna"},
    "guest": {"name": "Guest"},
    "forger": {"email": "anna@hospital.example"},
}


@pytest.fixture(scope="module")
def department(tmp_path_factory):
    """Run the app with the log-in of a provider."""
    folder = tmp_path_factory.mktemp("department")
    run = factory.write_review_run(folder / "run")
    settings = "prefix: /nodules\nreaders: {name_from: oidc}\n"
    (folder / "review.yaml").write_text(settings, encoding="utf-8")
    (folder / ".streamlit").mkdir()
    with pytest.MonkeyPatch.context() as patch, running(ACCOUNTS, forged={"forger"}) as provider:
        documented = tomllib.loads(block_of_readme("toml"))["auth"]
        assert tomllib.loads(provider.secrets)["auth"].keys() == documented.keys()
        (folder / ".streamlit" / "secrets.toml").write_text(provider.secrets, encoding="utf-8")
        patch.chdir(folder)  # where Streamlit looks for its secrets
        with served(run, "--config", str(folder / "review.yaml")) as (url, _):
            yield run, url, provider


def log_in(browser, url, account):
    page = browser.new_context().new_page()
    page.goto(url)
    page.get_by_role("button", name="Log in").click()
    given = reader_cookies(page)
    page.get_by_role("link", name=account).click()
    page.wait_for_url(f"{url}/**")
    assert reader_cookies(page) == given  # pages that are open may still load voxels
    return page


def reader_cookies(page):
    return [c["value"] for c in page.context.cookies() if c["name"].startswith("medkd_reader")]


def test_a_reader_logs_in_decides_and_logs_out(browser, department):
    run, url, provider = department
    page = log_in(browser, url, "anna")
    page.get_by_role("heading", name="Worklist").wait_for()
    addresses = []
    page.on("response", lambda answer: addresses.append(answer.url))
    page.goto(f"{url}/case?case=scan-a")
    page.locator(".viewer[data-loaded=all]").wait_for()
    page.get_by_role("button", name="Accept").first.click()
    page.get_by_text("accept, saved").wait_for()
    store = open_store(run.review)
    assert {(d.reader, d.verdict) for d in store.latest()} == {("anna@hospital.example", "accept")}
    store.close()
    page.get_by_test_id("stExpandSidebarButton").click()
    page.get_by_text("anna@hospital.example").wait_for()
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("button", name="Log in").wait_for()
    assert provider.logged_out == 1
    voxels = next(address for address in addresses if "/voxels/" in address)
    assert page.request.get(voxels).status == 403


def test_an_account_without_the_claim_is_refused_and_can_log_out(browser, department):
    _, url, _ = department
    page = log_in(browser, url, "guest")
    page.goto(f"{url}/case?case=scan-a")
    page.get_by_text("no verified name").wait_for()
    assert page.get_by_text("scan-a").count() == 0
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("button", name="Log in").wait_for()


def test_a_token_that_another_key_signed_logs_nobody_in(browser, department):
    _, url, _ = department
    page = log_in(browser, url, "forger")
    page.goto(f"{url}/case?case=scan-a")
    page.get_by_role("button", name="Log in").wait_for()
    assert page.get_by_text("scan-a").count() == 0
