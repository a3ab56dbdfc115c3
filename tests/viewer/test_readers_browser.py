"""Readers whom a reverse proxy names, in a real Chromium: two at once, and one without a name."""

import contextlib
import re
import socket
import threading
from urllib.parse import urlsplit

import pytest

from medkd.review.store import open_store
from tests.viewer import factory
from tests.viewer.browsing import served

pytestmark = pytest.mark.slow


def pump(source, target):
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for side in (source, target):
        with contextlib.suppress(OSError):
            side.shutdown(socket.SHUT_RDWR)


def forward(client, port, name):
    """Pass on one request, and after an upgrade the WebSocket, with the reader's name added."""
    head = b""
    while b"\r\n\r\n" not in head:
        if not (data := client.recv(65536)):
            return client.close()
        head += data
    if b"upgrade: websocket" not in head.lower():
        head = re.sub(rb"(?i)\r\nconnection: [^\r]*", b"\r\nConnection: close", head)
    line, _, rest = head.partition(b"\r\n")
    server = socket.create_connection(("127.0.0.1", port))
    server.sendall(line + b"\r\nX-Forwarded-User: " + name.encode() + b"\r\n" + rest)
    threading.Thread(target=pump, args=(client, server), daemon=True).start()
    return pump(server, client)


@contextlib.contextmanager
def proxied(url, name):
    """Run a reverse proxy that says who is reading, as one with a log-in does; yield its URL."""
    port = urlsplit(url).port
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    words = (client, port, name)
                    threading.Thread(target=forward, args=words, daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_two_readers_behind_a_proxy_decide_under_their_own_names(browser, tmp_path):
    run = factory.write_review_run(tmp_path / "run")
    config = tmp_path / "review.yaml"
    config.write_text("readers: {name_from: header}\n")
    with served(run, "--config", str(config)) as (url, _):
        for name, button in (("Anna", "Accept"), ("Béla", "Reject")):
            with proxied(url, name) as address:
                page = browser.new_page()
                page.goto(f"{address}/case?case=scan-a")
                page.get_by_role("button", name=button).first.click()
                page.get_by_text(f"{button.lower()}, saved").wait_for()
        page = browser.new_page()
        page.goto(f"{url}/case?case=scan-a")
        page.get_by_text("the proxy sent no name").wait_for()
        assert page.get_by_role("button", name="Accept").count() == 0
    store = open_store(run.review)
    assert {d.reader: d.verdict for d in store.latest()} == {"Anna": "accept", "Béla": "reject"}
    store.close()
