"""The middleware around the app: the reader's cookie, and headers that allow nothing from outside.

Every page gets a Content-Security-Policy. Scripts come from this server, from the text of the
slice viewer (which Streamlit loads as a blob), and from the inline scripts of Streamlit's own page,
each allowed by its hash. Styles may be inline, because Streamlit writes its styles that way.
"""

from __future__ import annotations

import base64
import re
from hashlib import sha256
from http.cookies import SimpleCookie
from pathlib import Path

import streamlit as st
import voxels
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def build_policy(page: str) -> str:
    """Build the Content-Security-Policy of the app.

    Args:
        page: the HTML of Streamlit's page, whose inline scripts are allowed.
    """
    hashes = [
        f"'sha256-{base64.b64encode(sha256(script.encode()).digest()).decode()}'"
        for script in _INLINE_SCRIPT.findall(page)
    ]
    allowed = {
        "default-src": "'none'",
        "script-src": " ".join(["'self'", "blob:", *hashes]),
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data: blob:",
        "font-src": "'self' data:",
        "connect-src": "'self'",
        "worker-src": "'self' blob:",
        "manifest-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'self'",
    }
    return "; ".join(f"{name} {sources}" for name, sources in allowed.items())


class Guard:
    """ASGI middleware that adds the security headers, and the reader's cookie to each page."""

    def __init__(self, app: ASGIApp) -> None:
        page = Path(st.__file__).parent / "static" / "index.html"
        self._app = app
        self._headers = {
            "Content-Security-Policy": build_policy(page.read_text(encoding="utf-8")),
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and add to the head of its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._add_headers(scope, MutableHeaders(scope=message))
            await send(message)

        await self._app(scope, receive, send_guarded)

    def _add_headers(self, scope: Scope, headers: MutableHeaders) -> None:
        for name, value in self._headers.items():
            headers[name] = value
        asked = Headers(scope=scope)
        # An unchanged page is answered without content and type, but must renew an old cookie.
        if "text/html" not in headers.get("content-type", "") + asked.get("accept", ""):
            return
        name = voxels.cookie_name((scope.get("server") or ("", 0))[1])
        sent = SimpleCookie(asked.get("cookie", ""))
        if name in sent and voxels.is_token(sent[name].value):
            return
        secure = "; Secure" if scope.get("scheme") == "https" else ""
        place = f"Path={voxels.prefix() or '/'}"
        # Lax, not Strict: a link on another site, or a log-in there, would renew the cookie, and
        # the pages that are open could load no voxels any more.
        given = f"{name}={voxels.issue_token()}; {place}; HttpOnly; SameSite=Lax{secure}"
        headers.append("Set-Cookie", given)
