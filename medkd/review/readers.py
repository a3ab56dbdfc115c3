"""Who decides: the name of the reader, from where the settings say, and the reader's role.

A name from a header is only as good as the proxy that sets it. The app must therefore be
reachable through the proxy alone (`check_exposure`), and the proxy must replace the header in
every request. A missing name is refused: no decision is saved under somebody else's name.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from medkd.config.review_settings import ReaderSettings as ReaderSettings
from medkd.errors import ExtraMissingError, SettingsError
from medkd.review.decision import Decision

Role = Literal["reader", "admin"]

LONGEST_NAME = 100
LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})
"""Addresses that only this machine reaches."""


@dataclass(frozen=True, slots=True)
class Reader:
    """A reader: the name under which decisions are saved, and the role.

    A "reader" decides and sees only the own decisions; an "admin" sees and exports all.
    """

    name: str
    role: Role = "reader"

    def may_see(self, decision: Decision) -> bool:
        """Return whether this reader may see a decision."""
        return self.role == "admin" or decision.reader == self.name


@dataclass(frozen=True, slots=True)
class Login:
    """What the app knows about the person at the browser; empty parts are not known.

    `account` is the account that started the app, `headers` are those of the browser's request,
    `claims` those of the OIDC log-in, and `chosen` is the name that the person chose.
    """

    account: str = ""
    headers: Mapping[str, str] | None = None
    claims: Mapping[str, object] | None = None
    chosen: str = ""


def identify_reader(settings: ReaderSettings, login: Login) -> Reader:
    """Return who is reading.

    Args:
        settings: where the name comes from, and the roles.
        login: what is known about the person.

    Raises:
        SettingsError: if there is no name, it cannot be a name, or it is not among `names`.

    Example:
        >>> settings = ReaderSettings(name_from="header", admins=("Eva",))
        >>> identify_reader(settings, Login(headers={"x-forwarded-user": "Eva"})).role
        'admin'
    """
    name = _clean(_name_from(settings, login))
    if not name:
        raise SettingsError("the reader's name is not known", [_REMEDIES[settings.name_from]])
    if len(name) > LONGEST_NAME or not name.isprintable():
        reason = f"expected at most {LONGEST_NAME} printable characters, got {name[:120]!r}"
        raise SettingsError("the reader's name cannot be used", [reason])
    known = {_clean(one) for one in (*settings.names, *settings.admins)}
    if settings.names and name not in known:
        reason = "an admin adds the name to readers.names in the settings of medkd review"
        raise SettingsError(f"{name!r} is not among the readers", [reason])
    return Reader(name, _role_of(settings, name))


def is_adjudicator(settings: ReaderSettings, reader: Reader) -> bool:
    """Return whether a reader is the one whose decision is the reference."""
    return bool(settings.adjudicator) and reader.name == _clean(settings.adjudicator)


def check_exposure(settings: ReaderSettings, address: str) -> None:
    """Refuse to listen beyond this machine if the name comes from a header.

    Raises:
        SettingsError: if others could send requests, and so any name, past the proxy.
    """
    if settings.name_from == "header" and address not in LOCAL:
        reasons = [
            f"whoever reaches {address} without the proxy could send any {settings.header} header",
            "run the proxy on this machine and keep --address 127.0.0.1",
        ]
        raise SettingsError(f"--address {address}: not with readers.name_from: header", reasons)


def check_log_in(settings: ReaderSettings) -> None:
    """Check that the packages of the log-in are installed.

    Raises:
        ExtraMissingError: if the log-in is OIDC and its package is missing.
    """
    if settings.name_from == "oidc" and find_spec("authlib") is None:
        raise ExtraMissingError("authlib", "oidc")


def read_reader_settings(text: str) -> ReaderSettings:
    """Read settings from the JSON text by which the app receives them; empty: the default ones."""
    return ReaderSettings.model_validate_json(text or "{}")


_REMEDIES = {
    "account": "give it with --reader NAME",
    "header": "the proxy sent no name: check its log-in, and readers.header in the settings",
    "oidc": "the account has no verified name in the claim of readers.claim: use another account",
    "choice": "choose your name",
}


def _name_from(settings: ReaderSettings, login: Login) -> str:
    if settings.name_from == "header":
        values = {name.casefold(): value for name, value in (login.headers or {}).items()}
        return _as_utf8(values.get(settings.header.casefold(), ""))
    if settings.name_from == "oidc":
        return _from_claims(login.claims or {}, settings.claim)
    return login.chosen if settings.name_from == "choice" else login.account


def _from_claims(claims: Mapping[str, object], claim: str) -> str:
    # Many providers let their users write any e-mail address, and tell that it was not verified.
    if claim == "email" and claims.get("email_verified", True) not in {True, "true"}:
        return ""
    value = claims.get(claim)
    return value if isinstance(value, str) else ""


def _as_utf8(value: str) -> str:
    """Return a header's text as UTF-8: servers decode the bytes of a header as Latin-1."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except (UnicodeEncodeError, UnicodeDecodeError):
        return value


def _clean(name: str) -> str:
    """Return one spelling of a name: the same letters can be encoded in two ways."""
    return unicodedata.normalize("NFC", name).strip()


def _role_of(settings: ReaderSettings, name: str) -> Role:
    # Whoever starts the app on the own machine owns its store.
    own_machine = settings.name_from == "account" and not settings.admins
    return "admin" if own_machine or name in map(_clean, settings.admins) else "reader"
