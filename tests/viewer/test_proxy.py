"""The app behind a real nginx, as the README of the review app documents it."""

import base64
import contextlib
import http.client
import shlex
import socket
import ssl
import threading
from urllib.parse import urlsplit

import pytest
import yaml

from medkd.review.store import open_store
from tests.viewer import factory
from tests.viewer.browsing import served
from tests.viewer.nginx import PASSWORD, block_of_readme, proxied

pytestmark = pytest.mark.slow

READERS = ("anna", "ben", "chief")
LOGIN = {"username": "anna", "password": PASSWORD}
FORGED = {"X-Forwarded-User": "chief", "X-Forwarded-Proto": "http"}


@contextlib.contextmanager
def echoing():
    """Answer each request with its own head, in the place of the app; yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with client:
                        head = client.recv(65536)
                        client.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + head)

        threading.Thread(target=answer, daemon=True).start()
        yield listener.getsockname()[1]


def ask(proxy, path, headers):
    """Send a request without a browser; returns status and text."""
    context = ssl._create_unverified_context()  # noqa: S323  # the test's own certificate
    opened = http.client.HTTPSConnection("127.0.0.1", proxy.port, context=context, timeout=5)
    opened.request("GET", path, headers=headers)
    answer = opened.getresponse()
    found = answer.status, answer.read().decode("latin-1")
    opened.close()
    return found


def basic(name):
    return "Basic " + base64.b64encode(f"{name}:{PASSWORD}".encode()).decode()


@pytest.mark.parametrize("upgrade", [{}, {"Upgrade": "websocket", "Connection": "Upgrade"}])
def test_the_proxy_replaces_the_readers_name_in_every_request(tmp_path, upgrade):
    forged = {"X-Forwarded-User": "chief", "x-forwarded-user": "chief", "X_Forwarded_User": "chief"}
    with echoing() as port, proxied(tmp_path / "nginx", port, READERS) as proxy:
        sent = {"Authorization": basic("anna")} | forged | upgrade
        status, head = ask(proxy, "/nodules/x", sent)
    lines = head.lower().split("\r\n")
    assert status == 200
    named = [line for line in lines if "user" in line.partition(":")[0]]
    assert named == ["x-forwarded-user: anna"]
    assert "chief" not in head.lower()
    assert "authorization" not in head.lower()
    assert ("upgrade: websocket" in lines) == bool(upgrade)


@pytest.fixture(scope="module")
def department(tmp_path_factory):
    """Run the app as the service of the README does, with its settings, behind its nginx."""
    folder = tmp_path_factory.mktemp("department")
    run = factory.write_review_run(folder / "run")
    settings = yaml.safe_load(block_of_readme("yaml", "review.yaml")) | {"prefix": "/nodules"}
    del settings["store"]  # SQLite; PostgreSQL has tests of its own
    (folder / "review.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    [line] = [row for row in block_of_readme("ini").splitlines() if row.startswith("ExecStart=")]
    _, command, _, *words = shlex.split(line.partition("=")[2])
    assert command == "review"
    words[words.index("8501")] = "0"
    words[words.index("review.yaml")] = str(folder / "review.yaml")
    with (
        served(run, *words) as (url, _),
        proxied(folder / "nginx", urlsplit(url).port, READERS) as proxy,
    ):
        yield run, proxy


def open_page(browser, address, **context):
    """Open an address, and note each answer: its address, status and headers."""
    page = browser.new_context(ignore_https_errors=True, **context).new_page()
    answers = []
    page.on("response", lambda answer: answers.append((answer.url, answer.status, answer.headers)))
    page.goto(address)
    return page, answers


def test_a_reader_behind_nginx_logs_in_and_decides_under_the_own_name(browser, department):
    run, proxy = department
    page, answers = open_page(
        browser, f"{proxy.url}/case?case=scan-a", http_credentials=LOGIN, extra_http_headers=FORGED
    )
    page.locator(".viewer[data-loaded=all]").wait_for()
    page.get_by_role("button", name="Accept").first.click()
    page.get_by_text("accept, saved").wait_for()
    store = open_store(run.review)
    assert {(d.reader, d.verdict) for d in store.latest()} == {("anna", "accept")}
    store.close()
    heads = [head for url, status, head in answers if status == 200]
    assert all("default-src 'none'" in head["content-security-policy"] for head in heads)
    assert all("strict-transport-security" in head for head in heads)
    [cookie] = [c for c in page.context.cookies() if c["name"].startswith("medkd_reader")]
    assert (cookie["path"], cookie["secure"], cookie["httpOnly"]) == ("/nodules", True, True)
    [voxels, *_] = [urlsplit(url).path for url, _, _ in answers if "/voxels/" in url]
    assert voxels.startswith("/nodules/voxels/")
    sent = f"{cookie['name']}={cookie['value']}"
    statuses = [
        ask(proxy, voxels, head)[0]
        for head in (
            {"Cookie": sent, "Authorization": basic("anna")},
            {"Cookie": sent},
            {"Authorization": basic("ben")},
            {"Authorization": basic("ben")} | FORGED,
        )
    ]
    assert statuses == [200, 401, 403, 403]


def test_nothing_is_sent_without_a_log_in(department):
    _, proxy = department
    for path in ("", "case", "_stcore/health", "_stcore/stream", "voxels/x/0"):
        assert ask(proxy, f"/nodules/{path}", FORGED)[0] == 401


def test_an_address_without_tls_leads_to_the_one_with_it(department):
    _, proxy = department
    opened = http.client.HTTPConnection("127.0.0.1", proxy.plain_port, timeout=5)
    opened.request("GET", "/nodules/case?case=scan-a")
    answer = opened.getresponse()
    assert answer.status == 301
    assert answer.headers["Location"] == "https://127.0.0.1/nodules/case?case=scan-a"
    opened.close()
