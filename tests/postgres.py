"""Where the server programs of PostgreSQL are; its driver belongs to the extra `dev`."""

from __future__ import annotations

import shutil
from pathlib import Path


def postgres_program(name: str) -> str | None:
    """Find a program of PostgreSQL; Debian keeps the server's programs out of the PATH."""
    if found := shutil.which(name):
        return found
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(places[-1]) if places else None
