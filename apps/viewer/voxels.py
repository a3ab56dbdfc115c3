"""The guarded route by which the voxels of a scan travel to the browser, once and in slabs.

Streamlit's own ways are not used: media files can be loaded by any browser, and above 1 MiB two
different files can be given one address. Here a browser receives voxels only if it sends the
cookie of a reader whose open session was granted exactly this volume: the scan that the page
shows, a heat map of it, or the other scan of the patient beside it. A volume is addressed by a hash
of all its voxels, so an address contains nothing about the patient, and two volumes are never
confused. A grant ends when the page of the reader is closed.
"""

from __future__ import annotations

import hmac
import secrets
import threading
from collections.abc import Callable
from typing import Protocol
from weakref import WeakSet

import streamlit as st
from display import SLAB_SLICES
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_KEY = secrets.token_bytes(32)
_HEADERS = {
    # `identity` keeps Streamlit from compressing, which on a local network only adds time.
    "Content-Encoding": "identity",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Volume(Protocol):
    """A volume that travels in slabs of `SLAB_SLICES` slices: a scan, or a heat map in one slab."""

    @property
    def volume_id(self) -> str:
        """A hash of its content."""

    @property
    def slices(self) -> int:
        """Number of slices."""

    def slab(self, first: int, count: int) -> bytes:
        """Return the content of some slices."""


class Grant:
    """The right of one reader's session to load the volumes on its page, while it is open.

    The session holds this object; nothing else does.

    Args:
        token: the token in the cookie of the reader's browser.
        stacks: the volumes.
        is_open: returns whether the reader's page is still open.
    """

    def __init__(self, token: str, stacks: tuple[Volume, ...], is_open: Callable[[], bool]) -> None:
        self.token = token
        self.stacks = stacks
        self.is_open = is_open
        with _LOCK:
            _GRANTS.add(self)


_LOCK = threading.Lock()
_GRANTS: WeakSet[Grant] = WeakSet()


def issue_token() -> str:
    """Return a new random token, which only this process can issue."""
    nonce = secrets.token_urlsafe(32)
    return f"{nonce}.{_sign(nonce)}"


def is_token(token: str) -> bool:
    """Return whether this process issued a token."""
    nonce, _, signature = token.partition(".")
    return bool(nonce) and hmac.compare_digest(signature.encode(), _sign(nonce).encode())


def prefix() -> str:
    """Return the path under which a reverse proxy serves the app, "/nodules"; empty: none."""
    return str(st.get_option("server.baseUrlPath") or "").rstrip("/")


def path() -> str:
    """Return the path of all voxels."""
    return f"{prefix()}/voxels"


def cookie_name(port: int) -> str:
    """Return the name of the cookie; browsers share cookies between the ports of a machine."""
    return f"medkd_reader_{port}"


def find_granted(token: str, volume_id: str) -> Volume | None:
    """Return a volume if an open session with this token was granted it, otherwise None."""
    if not is_token(token):
        return None
    with _LOCK:
        grants = list(_GRANTS)
    for grant in grants:
        known = hmac.compare_digest(grant.token.encode(), token.encode())
        granted = {stack.volume_id: stack for stack in grant.stacks} if known else {}
        if volume_id in granted and grant.is_open():
            return granted[volume_id]
    return None


def send_slab(request: Request) -> Response:
    """Answer with a slab of a volume, or with 403 whatever the reason of the refusal is."""
    server = request.scope.get("server") or ("", 0)
    token = request.cookies.get(cookie_name(server[1]), "")
    stack = find_granted(token, request.path_params["volume"])
    if stack is None:
        return Response("not granted to this reader", status_code=403, headers=_HEADERS)
    first = request.path_params["slab"] * SLAB_SLICES
    if first >= stack.slices:
        return Response("no such slab", status_code=404, headers=_HEADERS)
    content = stack.slab(first, SLAB_SLICES)
    return Response(content, media_type="application/octet-stream", headers=_HEADERS)


def _sign(nonce: str) -> str:
    return hmac.new(_KEY, nonce.encode(), "sha256").hexdigest()


def build_routes() -> list[Route]:
    """Build the routes that the server of the app adds to Streamlit's."""
    return [Route(f"{path()}/{{volume:str}}/{{slab:int}}", send_slab, methods=["GET"])]
