"""Identities of patients and cases: keyed pseudonyms, the table that resolves them, its audit.

A public set keeps its identifiers (`identity: keep`), because the official tables use them. The
archive of a hospital gets pseudonyms (`identity: pseudonymise`): the first 16 hex digits of
HMAC-SHA256 (RFC 2104). The key is made once and never leaves the hospital; without it nobody can
find the identifiers by trying all of them. Key and table are in the private folder of the INDEX
(mode 0700, files 0600), and wider permissions are refused. Nothing here is logged.

IssuerOfPatientID is ignored: merging two patients is safe for splits, dividing one patient in two
would leak from the training into the test set.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal

from medkd.errors import SeriesError
from medkd.files import attribute_errors_to, disk_fault_of

Identity = Literal["keep", "pseudonymise"]

KEY_FILE = "key"
LINKS_FILE = "links.sqlite"
_KEY_BYTES = 32
_SHOWN_HEX = 16
"""64 bits: the probability that any two of a million cases share a pseudonym is 3e-8."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS links (
    pseudonym TEXT NOT NULL, kind TEXT NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (pseudonym, kind, value)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, who TEXT NOT NULL,
    why TEXT NOT NULL, pseudonym TEXT NOT NULL
);
CREATE TRIGGER IF NOT EXISTS audit_keeps_rows BEFORE DELETE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER IF NOT EXISTS audit_keeps_values BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
"""


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """Turn identifiers into the names that the INDEX uses.

    Args:
        mode: "keep" returns every identifier unchanged.
        key: 32 secret bytes; not used with "keep".

    Example:
        >>> names = Pseudonyms("pseudonymise", key=bytes(32))
        >>> names.patient("hospital-17") == names.patient(" hospital-17 ")
        True
        >>> names.case("1.2.840.1")
        'c5e619a0132d275a5'
        >>> Pseudonyms("keep").case("1.2.840.1")
        '1.2.840.1'
    """

    mode: Identity
    key: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        if self.mode == "pseudonymise" and len(self.key) < _KEY_BYTES:
            raise ValueError(f"expected a key of {_KEY_BYTES} bytes, got {len(self.key)}")

    def patient(self, patient_id: str) -> str:
        """Return the name of a patient.

        Args:
            patient_id: PatientID as in the archive; blanks at both ends are ignored.

        Raises:
            ValueError: if it is empty: cases without an identifier are not one patient.
        """
        return self._pseudonym("p", patient_id)

    def case(self, uid: str) -> str:
        """Return the name of a scan or radiograph, from its SeriesInstanceUID or similar.

        Raises:
            ValueError: if it is empty.
        """
        return self._pseudonym("c", uid)

    def _pseudonym(self, prefix: str, value: str) -> str:
        plain = value.strip(" \0")
        if not plain:
            raise ValueError("expected an identifier, got an empty one")
        if self.mode == "keep":
            return plain
        message = f"{prefix}\0{plain}".encode()
        return prefix + hmac.new(self.key, message, hashlib.sha256).hexdigest()[:_SHOWN_HEX]


@dataclass(frozen=True, slots=True)
class Link:
    """The identifier behind a pseudonym and its kind ("patient_id", "seriesuid", ...)."""

    kind: str
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One look-up: when (ISO 8601, UTC), by whom, why, and of which pseudonym."""

    at: str
    who: str
    why: str
    pseudonym: str


class LinkTable:
    """The table from pseudonyms to identifiers. Every look-up is recorded in its audit.

    Args:
        private_dir: the private folder of the INDEX; made with mode 0700 on first writing.
    """

    def __init__(self, private_dir: Path) -> None:
        self.private_dir = private_dir
        self.path = private_dir / LINKS_FILE

    def record(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Store many (pseudonym, kind, value) in one transaction; existing rows are unchanged.

        Raises:
            SeriesError: if others may read the folder or the table.
        """
        make_private_folder(self.private_dir)
        if not self.path.exists():
            _make_private_file(self.path, b"")
        with self._connection() as connection:
            connection.executescript(_SCHEMA)
            connection.executemany("INSERT OR IGNORE INTO links VALUES (?, ?, ?)", rows)

    def look_up(self, pseudonym: str, *, who: str, why: str) -> tuple[Link, ...]:
        """Record the request in the audit, then return the identifiers behind a pseudonym.

        Args:
            pseudonym: as the INDEX shows it.
            who: the person who asks.
            why: the reason, not empty.

        Returns:
            The identifiers, ordered by kind and value; empty if there are none.

        Raises:
            SeriesError: if there is no table, a reason is missing, or others may read the table.
        """
        asked = {"who": who, "why": why}
        missing = [f"{name} is needed for the audit" for name in asked if not asked[name].strip()]
        if missing:
            raise SeriesError(f"{pseudonym}: not looked up", missing)
        self._check_exists()
        with self._connection() as connection:
            entry = (datetime.now(UTC).isoformat(timespec="seconds"), who, why, pseudonym)
            connection.execute(
                "INSERT INTO audit (at, who, why, pseudonym) VALUES (?, ?, ?, ?)", entry
            )
        with self._connection() as connection:
            rows = connection.execute(
                "SELECT kind, value FROM links WHERE pseudonym = ? ORDER BY kind, value",
                (pseudonym,),
            )
            return tuple(Link(kind, value) for kind, value in rows)

    def audit(self) -> tuple[AuditEntry, ...]:
        """Return every look-up, oldest first.

        Raises:
            SeriesError: if there is no table, or others may read it.
        """
        self._check_exists()
        with self._connection() as connection:
            rows = connection.execute("SELECT at, who, why, pseudonym FROM audit ORDER BY id")
            return tuple(AuditEntry(*row) for row in rows)

    def _check_exists(self) -> None:
        if not self.path.is_file():
            raise SeriesError(
                f"{self.private_dir}: nothing to look up",
                ["no table of links: the index keeps its identifiers, or its private folder is "
                 "elsewhere"],
            )  # fmt: skip
        _check_private(self.private_dir)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        _check_private(self.path)
        try:
            with closing(sqlite3.connect(self.path, timeout=60.0)) as connection, connection:
                yield connection
        except sqlite3.DatabaseError as error:
            if fault := disk_fault_of(error, self.path):
                raise fault from None
            # The text of the error may contain a value, so only its type is shown.
            kind = type(error).__name__
            raise SeriesError(f"{self.path}: cannot be used", [f"sqlite: {kind}"]) from None


def private_folder_of(index: Path) -> Path:
    """Return the folder of an INDEX that never leaves the hospital, such as `index.private`."""
    return index.with_suffix(".private")


def open_pseudonyms(private_dir: Path, mode: Identity) -> Pseudonyms:
    """Read the secret key of an INDEX, or generate it on the first call, and return the pseudonyms.

    Args:
        private_dir: the private folder of the INDEX, made with mode 0700 if missing.
        mode: "keep" needs no key; nothing is then read or written.

    Raises:
        SeriesError: if the folder or the key belongs to another user or others may read it, if the
            folder is a file, if the key has a wrong length, or if the key is missing although the
            table of links (`LinkTable`) already exists.
    """
    if mode == "keep":
        return Pseudonyms("keep")
    make_private_folder(private_dir)
    path = private_dir / KEY_FILE
    if not path.exists():
        if (private_dir / LINKS_FILE).exists():
            raise SeriesError(
                f"{path}: the key is missing",
                ["a new key would rename every case: restore it, or give another --out"],
            )
        _make_private_file(path, secrets.token_bytes(_KEY_BYTES))
    _check_private(path)
    key = path.read_bytes()
    if len(key) != _KEY_BYTES:
        raise SeriesError(
            f"{path}: not a key", [f"expected {_KEY_BYTES} bytes, got {len(key)}: restore it"]
        )
    return Pseudonyms("pseudonymise", key)


def make_private_folder(path: Path) -> None:
    """Make a folder that only its owner may enter (0700), or check an existing one.

    Raises:
        SeriesError: if it is open to others, belongs to another user, or is not a folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if not path.is_dir():
            raise SeriesError(f"{path}: not used", ["expected a folder, got a file"]) from None
    _check_private(path)


def days_since_first(dates: Sequence[str | None]) -> tuple[int | None, ...]:
    """Convert the study dates of one patient to days since the earliest of them.

    Args:
        dates: DICOM dates (DA: YYYYMMDD; YYYY.MM.DD as before 1993), None or "" if unknown.

    Returns:
        Days in the same order; None if a date is missing or not valid.

    Example:
        >>> days_since_first(["20240301", None, "20240228"])
        (2, None, 0)
    """
    days = [_day_of(text or "") for text in dates]
    first = min((day for day in days if day is not None), default=0)
    return tuple(None if day is None else day - first for day in days)


def current_user() -> str:
    """Return the account that runs this process; environment variables do not change it."""
    if os.name != "posix":
        import getpass

        return getpass.getuser()
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # an account of a container without an entry
        return f"uid {os.geteuid()}"


def _day_of(text: str) -> int | None:
    digits = text.strip(" \0").replace(".", "")
    if len(digits) != 8 or not digits.isascii() or not digits.isdigit():
        return None
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:])).toordinal()
    except ValueError:
        return None


def _make_private_file(path: Path, content: bytes) -> None:
    """Write a file with mode 0600 atomically; an existing file is kept."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with attribute_errors_to(path), os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            return
    finally:
        temporary.unlink()


def _check_private(path: Path) -> None:
    """Refuse a path that other users may read, or that belongs to another user."""
    if os.name != "posix":
        return
    found = path.stat()
    mode = found.st_mode & 0o777
    reasons = []
    if mode & 0o077:
        wanted = "700" if path.is_dir() else "600"
        reasons.append(f"its mode is {mode:o}: others may read it; chmod {wanted}")
    if found.st_uid != os.geteuid():
        reasons.append("it belongs to another user")
    if reasons:
        raise SeriesError(f"{path}: not private", reasons)
