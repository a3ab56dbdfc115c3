"""Data paths in settings, which may contain one of two environment variables."""

from __future__ import annotations

import os
import re
from pathlib import Path

from medkd.errors import SettingsError

ROOT_VARIABLES = ("MEDKD_DATA", "LUNA16_ROOT")
"""The environment variables that a data path may contain, as ${NAME}."""


def find_data(text: str) -> Path:
    """Expand a data path of the settings and check that it exists.

    Raises:
        SettingsError: if the path contains a variable that is not allowed or not set, or does not
            exist.
    """
    reasons = []
    filled = text
    for name in re.findall(r"\$\{([^}]*)\}", text):
        if name not in ROOT_VARIABLES:
            allowed = " and ".join(f"${{{n}}}" for n in ROOT_VARIABLES)
            reasons.append(f"${{{name}}} is not allowed here; a data path may contain {allowed}")
        elif not os.environ.get(name):
            reasons.append(f"the environment variable {name} is not set: export {name}=FOLDER")
        else:
            filled = filled.replace(f"${{{name}}}", os.environ[name])
    path = Path(filled).expanduser()
    if not reasons and not path.exists():
        reasons.append(f"{path}: no such file or folder; set the path to the folder of the data")
    if reasons:
        raise SettingsError(f"the data path {text!r} cannot be used", reasons)
    return path
