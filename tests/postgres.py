"""Where the server programs of PostgreSQL are."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path


def postgres_program(name: str) -> str | None:
    """Find a program of PostgreSQL; Debian keeps the server's programs out of the PATH."""
    if found := shutil.which(name):
        return found
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(places[-1]) if places else None


def can_start_postgres() -> bool:
    """Return whether the server and its driver are installed."""
    return postgres_program("initdb") is not None and find_spec("psycopg") is not None
