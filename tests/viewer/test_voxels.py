"""The route of voxels: who gets them, what is sent, and the headers of every answer."""

import asyncio
import gc
from weakref import WeakSet

import display
import guard
import numpy as np
import pytest
import voxels
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse
from starlette.routing import Route

from medkd.geometry import VoxelGrid

PORT = 8501
COOKIE = voxels.cookie_name(PORT)


@pytest.fixture(autouse=True)
def no_other_grants(monkeypatch):
    """Leave out the grants of pages that tests in this process keep, whose cookies are no texts."""
    monkeypatch.setattr(voxels, "_GRANTS", WeakSet())


def build_stack(value=0, slices=23):
    grid = VoxelGrid.from_parts((6, 5, slices), spacing_mm=(1, 1, 2), origin_mm=(0, 0, 0))
    content = np.arange(6 * 5 * slices).reshape(6, 5, slices).astype(np.int16) + value
    return display.build_axial_stack(content, grid)


def build_app():
    page = Route("/", lambda request: HTMLResponse("<html></html>"))
    return Starlette(routes=[*voxels.build_routes(), page], middleware=[Middleware(guard.Guard)])


def ask(path, *, cookie="", accept="*/*", scheme="http"):
    """Send one GET request to the app; returns status, headers and content."""
    sent = []
    headers = [(b"accept", accept.encode()), (b"cookie", cookie.encode())]
    scope = {
        "type": "http", "method": "GET", "path": path, "raw_path": path.encode(),
        "headers": headers,
        "query_string": b"", "server": ("127.0.0.1", PORT), "scheme": scheme, "root_path": "",
        "http_version": "1.1", "client": ("127.0.0.1", 1),
    }  # fmt: skip

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    asyncio.run(build_app()(scope, receive, send))
    head = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], head, b"".join(part.get("body", b"") for part in sent[1:])


def test_a_granted_reader_gets_every_voxel_once():
    stack, token = build_stack(), voxels.issue_token()
    grant = voxels.Grant(token, (stack,), lambda: True)
    parts = [
        ask(f"/voxels/{stack.volume_id}/{slab}", cookie=f"{COOKIE}={token}") for slab in range(3)
    ]
    assert [status for status, _, _ in parts] == [200, 200, 200]
    sent = np.frombuffer(b"".join(part[2] for part in parts), dtype="<i2")
    np.testing.assert_array_equal(sent.reshape(23, 5, 6), stack.voxels_hu.T)
    assert parts[0][1]["content-encoding"] == "identity"
    assert parts[0][1]["cache-control"] == "no-store"
    assert ask(f"/voxels/{stack.volume_id}/3", cookie=f"{COOKIE}={grant.token}")[0] == 404


@pytest.mark.parametrize(
    "cookie",
    ["", f"{COOKIE}=", f"{COOKIE}=x.y", f"medkd_reader_1={voxels.issue_token()}",
     f"{COOKIE}={voxels.issue_token()}", f"{COOKIE}={'a' * 5000}", f"{COOKIE}=\xe9.\xe9"],
)  # fmt: skip
def test_a_browser_without_the_readers_cookie_gets_no_voxel(cookie):
    stack, token = build_stack(), voxels.issue_token()
    grant = voxels.Grant(token, (stack,), lambda: True)
    status, _, content = ask(f"/voxels/{stack.volume_id}/0", cookie=cookie)
    assert (status, content) == (403, b"not granted to this reader")
    assert grant.token == token


def test_a_reader_gets_only_the_volume_that_was_granted():
    token, granted, other = voxels.issue_token(), build_stack(), build_stack(value=1)
    grant = voxels.Grant(token, (granted,), lambda: True)
    other_grant = voxels.Grant(voxels.issue_token(), (other,), lambda: True)
    assert ask(f"/voxels/{granted.volume_id}/0", cookie=f"{COOKIE}={token}")[0] == 200
    assert ask(f"/voxels/{other.volume_id}/0", cookie=f"{COOKIE}={token}")[0] == 403
    assert ask("/voxels/unknown/0", cookie=f"{COOKIE}={token}")[0] == 403
    assert grant.stacks != other_grant.stacks


def test_a_grant_ends_with_the_session_that_holds_it():
    stack, token = build_stack(), voxels.issue_token()
    session = {"grant": voxels.Grant(token, (stack,), lambda: True)}
    assert voxels.find_granted(token, stack.volume_id) is stack
    session.clear()
    gc.collect()
    assert voxels.find_granted(token, stack.volume_id) is None


def test_a_grant_ends_when_the_page_is_closed():
    stack, token, opened = build_stack(), voxels.issue_token(), [True]
    grant = voxels.Grant(token, (stack,), lambda: opened[0])
    assert voxels.find_granted(grant.token, stack.volume_id) is stack
    opened[0] = False
    assert voxels.find_granted(grant.token, stack.volume_id) is None


def test_a_session_without_cookie_can_be_granted_nothing():
    stack = build_stack()
    grant = voxels.Grant("", (stack,), lambda: True)
    assert ask(f"/voxels/{stack.volume_id}/0", cookie=f"{COOKIE}={grant.token}")[0] == 403


def test_a_page_gives_a_new_browser_a_cookie_that_scripts_and_other_sites_cannot_use():
    _, head, _ = ask("/")
    given = head["set-cookie"]
    assert given.startswith(f"{COOKIE}=")
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(given.split("; "))
    assert "Secure" in ask("/", scheme="https")[1]["set-cookie"]
    token = given.split(";")[0].partition("=")[2]
    assert voxels.is_token(token)
    assert "set-cookie" not in ask("/", cookie=f"{COOKIE}={token}")[1]


def test_a_cookie_of_an_earlier_start_of_the_app_is_renewed():
    # An unchanged page may be answered without content: the request tells that it is a page.
    assert "set-cookie" in ask("/voxels/x/0", cookie=f"{COOKIE}=old.x", accept="text/html,*/*")[1]
    assert "set-cookie" not in ask("/voxels/x/0", cookie=f"{COOKIE}=old.x")[1]


def test_every_answer_allows_nothing_from_outside():
    for path in ("/", "/voxels/x/0", "/none"):
        policy = ask(path)[1]["content-security-policy"]
        parts = dict(part.split(" ", 1) for part in policy.split("; "))
        assert parts["default-src"] == "'none'"
        assert parts["connect-src"] == "'self'"
        assert "unsafe" not in parts["script-src"]
        assert "http" not in policy
        assert "*" not in policy


def test_inline_scripts_of_the_page_are_allowed_by_their_hash():
    # The SHA-256 of "x = 1", as `printf 'x = 1' | openssl dgst -sha256 -binary | base64`.
    policy = guard.build_policy("<script>x = 1</script><script src='./a.js'></script>")
    assert "'self' blob: 'sha256-j/Q23vFFEoVZmhsa1wgASTuNyv3ikS4aODRWMwVOTCY='" in policy
