"""The wheel contains the shipped models, the viewer and the configurations."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = ("pyproject.toml", "README.md", "LICENSE", ".gitignore", "medkd/__init__.py")


def test_the_files_of_a_shipped_model_are_in_the_wheel(tmp_path: Path) -> None:
    """Built from a small stand-in of the project with its own build settings."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    models = [f"_models/m/{name}" for name in ("model.json", "model.safetensors", "MODEL_CARD.md")]
    for name in (
        *(f"medkd/{name}" for name in models),
        "apps/viewer/server.py",
        "apps/viewer/component/js/main.js",
        "configs/demo/x.yaml",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "dist"]
    subprocess.run(build, cwd=tmp_path, check=True, capture_output=True)  # noqa: S603  # fixed words
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    packed_app = ("_viewer/server.py", "_viewer/component/js/main.js")
    wanted = {f"medkd/{name}" for name in (*models, *packed_app, "_configs/demo/x.yaml")}
    assert wanted <= packed


def test_the_ci_compares_the_models_of_the_wheel_and_limits_its_size() -> None:
    text = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "-le 15000000" in text
    assert "diff -r medkd/_models" in text
