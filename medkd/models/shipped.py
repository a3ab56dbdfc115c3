"""Find a MODEL by its path or by the name of a model that ships in the package.

The shipped models are model directories in `medkd/_models`, with half-precision weights and a
model card. A path wins over a name: a folder `ct-nodule-small` in the current folder hides the
shipped model of that name.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from medkd.errors import CheckpointError
from medkd.files import replacing

INFO_NAME = "model.json"
CARD_NAME = "MODEL_CARD.md"
DEFAULT_DETECTOR = "ct-nodule-small"
"""The shipped model that `medkd detect` uses if no model is given."""

SHIPPED = Path(__file__).resolve().parent.parent / "_models"
"""The folder of the shipped models, the same in a checkout and in the wheel."""


def shipped_models() -> dict[str, Path]:
    """Map the name of each shipped model to its directory."""
    return {path.parent.name: path.parent for path in sorted(SHIPPED.glob(f"*/{INFO_NAME}"))}


def is_shipped(model: str | Path) -> bool:
    """Return whether this is the name of a shipped model and no file or folder hides it."""
    return not Path(model).exists() and str(model) in shipped_models()


def find_model(model: str | Path) -> Path:
    """Return a model directory by its path or by the name of a shipped model.

    Args:
        model: for example "RUN/student" or "ct-nodule-small". A path that exists wins.

    Raises:
        CheckpointError: if it is neither; the reasons list the shipped names and the models in
            the subfolders or beside it.
    """
    directory = Path(model)
    if (directory / INFO_NAME).is_file():
        return directory
    if is_shipped(model):
        return shipped_models()[str(model)]
    headline = f"{model}: not a model directory and not the name of a shipped model"
    raise CheckpointError(headline, _why_no_model(directory))


def copy_model(model: str | Path, out: Path) -> None:
    """Copy the files of a model to a new model directory, atomically.

    Args:
        model: a model directory, or the name of a shipped model.
        out: a new or empty folder.

    Raises:
        CheckpointError: if `model` is not found, or `out` is not new or empty.
        OSError: if writing fails.
    """
    directory = find_model(model)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise CheckpointError(
            f"{out}: not written", ["expected no folder or an empty one; choose another path"]
        )
    with replacing(out) as temporary:
        temporary.mkdir()
        for path in filter(Path.is_file, sorted(directory.iterdir())):
            shutil.copyfile(path, temporary / path.name)  # not the mode, which may be read-only


def _why_no_model(directory: Path) -> list[str]:
    """Return what is missing, the shipped names, and the models in subfolders or beside it."""
    what = f"it contains no {INFO_NAME}" if directory.is_dir() else "the folder does not exist"
    shipped = shipped_models()
    reasons = [what, f"shipped models: {', '.join(shipped) or 'none in this installation'}"]
    if str(directory) in shipped:
        reasons += [f"this folder hides the shipped model {directory}: rename the folder"]
    near = directory if directory.is_dir() else directory.parent
    models = sorted(str(path.parent) for path in near.glob(f"*/{INFO_NAME}"))
    if models:
        return [*reasons, f"models nearby: {', '.join(models)}"]
    return [*reasons, "expected RUN/student or another model of a finished run; resume a stopped "
            "run with `medkd train CONFIG --out RUN --resume`"]  # fmt: skip
