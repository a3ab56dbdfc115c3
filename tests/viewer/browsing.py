"""Start the review app and a real Chromium for tests."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


def chromium_path():
    """Find the system's Chromium; without one skip, or fail where it is required."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        required = "chromium" in os.environ.get("MEDKD_REQUIRE", "").split(",")
        (pytest.fail if required else pytest.skip)("no chromium on this machine")
    return found


@contextlib.contextmanager
def served(run, *words):
    """Run `medkd review` on a run, at any free port; yield its address and process."""
    # A shell starts what it runs in the background with SIGINT ignored; a test may be started so.
    main = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from medkd.cli import main; main()"
    )
    command = [sys.executable, "-c", main, "review", str(run.path), "--no-browser", *words]
    if "--port" not in words:  # tests that run side by side would both find 8501 free
        command += ["--port", "0"]
    process = subprocess.Popen(  # noqa: S603  # the tested command
        command, stdout=subprocess.PIPE, text=True, start_new_session=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        yield re.search(r"http://\S+", process.stdout.readline()).group(), process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
