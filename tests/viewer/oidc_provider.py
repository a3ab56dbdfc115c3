"""A small OpenID Connect provider on loopback: discovery, authorization code with PKCE, log-out."""

import base64
import contextlib
import socket
import threading
import time
from hashlib import sha256
from html import escape
from urllib.parse import urlencode

import uvicorn
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse
from starlette.routing import Route

CLIENT = ("medkd", "the client's secret")


class Provider:
    """Logs in any of its accounts at a click; `forged` are those whose token it signs wrongly."""

    def __init__(self, port, accounts, forged=()):
        # Another host name than the app's: a browser then regards it as another site.
        self.url = f"http://localhost:{port}"
        self.accounts = accounts
        self.forged = forged
        self.key = RSAKey.generate_key(2048, {"kid": "1"})
        self.codes = {}
        self.logged_out = 0

    @property
    def secrets(self):
        """The section [auth] of Streamlit's secrets."""
        facts = {
            "redirect_uri": "http://127.0.0.1:{port}/nodules/oauth2callback",
            "cookie_secret": "a secret of the test, long enough",
            "client_id": CLIENT[0],
            "client_secret": CLIENT[1],
            "server_metadata_url": f"{self.url}/.well-known/openid-configuration",
        }
        return "[auth]\n" + "".join(f'{name} = "{value}"\n' for name, value in facts.items())

    def app(self):
        paths = {
            "/.well-known/openid-configuration": self.discovery, "/authorize": self.authorize,
            "/chosen": self.chosen, "/token": self.token, "/keys": self.keys, "/end": self.end,
        }  # fmt: skip
        return Starlette(routes=[Route(p, f, methods=["GET", "POST"]) for p, f in paths.items()])

    def discovery(self, _):
        return JSONResponse({
            "issuer": self.url, "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token", "jwks_uri": f"{self.url}/keys",
            "end_session_endpoint": f"{self.url}/end", "response_types_supported": ["code"],
            "subject_types_supported": ["public"], "code_challenge_methods_supported": ["S256"],
            "id_token_signing_alg_values_supported": ["RS256"],
        })  # fmt: skip

    def authorize(self, request):
        """Ask which account logs in."""
        asked = dict(request.query_params)
        assert (asked["response_type"], asked["client_id"]) == ("code", CLIENT[0])
        assert asked["code_challenge_method"] == "S256"
        links = [
            f'<a href="/chosen?{escape(urlencode(asked | {"account": name}))}">{name}</a>'
            for name in self.accounts
        ]
        return HTMLResponse("<h1>Choose an account</h1>" + " ".join(links))

    def chosen(self, request):
        asked = dict(request.query_params)
        code = f"code-{len(self.codes)}"
        self.codes[code] = asked
        back = urlencode({"code": code, "state": asked["state"]})
        return RedirectResponse(f"{asked['redirect_uri']}?{back}", status_code=302)

    async def token(self, request):
        """Exchange a code, once, for a signed token of the account."""
        form = await request.form()
        sent = request.headers["Authorization"].removeprefix("Basic ")
        assert base64.b64decode(sent).decode() == ":".join(CLIENT)
        asked = self.codes.pop(form["code"])
        digest = sha256(form["code_verifier"].encode()).digest()
        assert base64.urlsafe_b64encode(digest).decode().rstrip("=") == asked["code_challenge"]
        name, now = asked["account"], int(time.time())
        claims = {
            "iss": self.url, "aud": CLIENT[0], "sub": name, "iat": now, "exp": now + 60,
            "nonce": asked["nonce"], **self.accounts[name],
        }  # fmt: skip
        key = RSAKey.generate_key(2048) if name in self.forged else self.key
        token = jwt.encode({"alg": "RS256", "kid": "1"}, claims, key)
        return JSONResponse({"access_token": "x", "token_type": "Bearer", "id_token": token})

    def keys(self, _):
        return JSONResponse(KeySet([self.key]).as_dict(private=False))

    def end(self, request):
        self.logged_out += 1
        return RedirectResponse(request.query_params["post_logout_redirect_uri"], status_code=302)


@contextlib.contextmanager
def running(accounts, forged=()):
    """Run a provider; yield it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        provider = Provider(listener.getsockname()[1], accounts, forged)
        server = uvicorn.Server(uvicorn.Config(provider.app(), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield provider
        server.should_exit = True
        thread.join(5)
