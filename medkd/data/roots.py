"""Paths of data sets in settings: they may name one of two environment variables."""

from __future__ import annotations

import os
import re
from pathlib import Path

from medkd.errors import SettingsError

ROOT_VARIABLES = ("MEDKD_DATA", "LUNA16_ROOT")
"""The only environment variables that a root or path may name, as ${NAME}."""


def find_data(text: str) -> Path:
    """Turn a root or path of the settings into an existing path.

    Raises:
        SettingsError: if it names a variable that is not allowed or not set, or nothing there.
    """
    reasons = []
    filled = text
    for name in re.findall(r"\$\{([^}]*)\}", text):
        if name not in ROOT_VARIABLES:
            allowed = " and ".join(f"${{{n}}}" for n in ROOT_VARIABLES)
            reasons.append(f"${{{name}}} is not allowed here; a data path may name {allowed}")
        elif not os.environ.get(name):
            reasons.append(f"the environment variable {name} is not set: export {name}=FOLDER")
        else:
            filled = filled.replace(f"${{{name}}}", os.environ[name])
    path = Path(filled).expanduser()
    if not reasons and not path.exists():
        reasons.append(f"{path}: no such file or folder; set the data path to where the set is")
    if reasons:
        raise SettingsError(f"the data path {text!r} cannot be used", reasons)
    return path
