"""Example runs for the report's tests: written once, never changed (copy one to change it)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from medkd.jsonio import read_json, write_json
from medkd.report.contents import RunContents, read_contents
from medkd.runs import RunFolder
from medkd.types import Evaluation
from tests.report.run_factory import write_example_run

Change = Callable[[Evaluation], Evaluation]


@pytest.fixture(scope="session")
def scan_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return write_example_run(tmp_path_factory.mktemp("scan"))


@pytest.fixture(scope="session")
def image_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return write_example_run(tmp_path_factory.mktemp("image"), kind="image")


@pytest.fixture(scope="session")
def scan_contents(scan_run: RunFolder) -> RunContents:
    return read_contents(scan_run)


@pytest.fixture(scope="session")
def image_contents(image_run: RunFolder) -> RunContents:
    return read_contents(image_run)


@pytest.fixture
def own_run(scan_run: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy that a test may change."""
    skip = shutil.ignore_patterns("data", "results")
    return RunFolder(shutil.copytree(scan_run.path, tmp_path / "run", ignore=skip))


@pytest.fixture
def changed_run(own_run: RunFolder) -> Callable[[Change], RunFolder]:
    """Change the evaluation of a copy by a function."""

    def change(function: Change) -> RunFolder:
        write_json(own_run.evaluation, function(read_json(own_run.evaluation, Evaluation)))
        return own_run

    return change
