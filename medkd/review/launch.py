"""Starts the viewer: finds its folder and a port, runs Streamlit, ends it with the command.

Streamlit runs as a process of its own, bound to this machine unless told otherwise, without
usage statistics. No login: whoever reaches the address sees the cases.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

import medkd
from medkd.errors import SettingsError
from medkd.runs import RunFolder

LOCAL = "127.0.0.1"
DEFAULT_PORT = 8501
START_SECONDS = 60.0
_STEP_SECONDS = 0.2
_END_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Viewer:
    """What shall be started: the run, who reads it, where it is served."""

    run: RunFolder
    reader: str
    address: str
    port: int

    @property
    def url(self) -> str:
        """Where a browser on this machine finds the app."""
        host = LOCAL if self.address in {"0.0.0.0", "::"} else self.address  # noqa: S104  # compared
        return f"http://{host}:{self.port}"


def viewer_script() -> Path:
    """Return the app's script: of the installed wheel, else of the checkout.

    Raises:
        SettingsError: if neither has it.
    """
    package = Path(medkd.__file__).resolve().parent
    places = [package / "_viewer" / "app.py", package.parent / "apps" / "viewer" / "app.py"]
    for place in places:
        if place.is_file():
            return place
    reasons = [f"looked for {place}" for place in places]
    raise SettingsError("the viewer is not installed", [*reasons, "install medkd again"])


def choose_port(address: str, wanted: int | None) -> int:
    """Return a port that is free now: the wanted one, else 8501, else any.

    Raises:
        SettingsError: if the wanted port is taken, or the address is not of this machine.
    """
    if wanted is not None:
        _bind(address, wanted)
        return wanted
    try:
        return _bind(address, DEFAULT_PORT)
    except SettingsError:
        return _bind(address, 0)


def find_run(folder: Path) -> Path:
    """Find the only run in a folder, at most two levels down.

    Raises:
        SettingsError: if there is none, or more than one.
    """
    patterns = ("cases.csv", "*/cases.csv", "*/*/cases.csv")
    found = sorted(path.parent for pattern in patterns for path in folder.glob(pattern))
    if len(found) == 1:
        return found[0]
    if not found:
        reason = f"looked in {folder} two levels deep; make one with `medkd demo`, or name it"
        raise SettingsError("no run to review here", [reason])
    reasons = [f"medkd review {path}" for path in found[:20]]
    raise SettingsError(f"{len(found)} runs to review here: name one", reasons)


def build_command(viewer: Viewer) -> list[str]:
    """Build the command line that serves the app."""
    flags = {
        "server.address": viewer.address,
        "server.port": str(viewer.port),
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "logger.level": "warning",
    }
    words = [word for name, value in flags.items() for word in (f"--{name}", value)]
    # -P: a streamlit.py in the reader's own folder must not be what starts.
    return [sys.executable, "-P", "-m", "streamlit", "run", str(viewer_script()), *words]


def serve(viewer: Viewer, *, on_ready: Callable[[Viewer], None]) -> None:
    """Run the app until it is interrupted; decisions are on the disk at all times.

    Args:
        viewer: what to serve.
        on_ready: called once, when the app answers.

    Raises:
        SettingsError: if the app does not start.
    """
    environment = os.environ | {
        "MEDKD_REVIEW_RUN": str(viewer.run.path.resolve()),
        "MEDKD_REVIEW_READER": viewer.reader,
    }
    previous = signal.signal(signal.SIGTERM, _interrupt)
    process = subprocess.Popen(  # noqa: S603  # our own interpreter and flags
        build_command(viewer), env=environment, stdout=subprocess.DEVNULL
    )
    try:
        _wait_until_ready(process, viewer)
        on_ready(viewer)
        if process.wait() != 0:
            raise SettingsError("the viewer ended by itself", [f"exit code {process.returncode}"])
    except KeyboardInterrupt:
        pass
    finally:
        _end(process)
        signal.signal(signal.SIGTERM, previous)


def _bind(address: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except (OSError, OverflowError) as error:
            reasons = [str(error), "leave --port out and a free one is chosen"]
            raise SettingsError(f"{address}:{port} cannot be used", reasons) from error
        return int(probe.getsockname()[1])


def _wait_until_ready(process: subprocess.Popen[bytes], viewer: Viewer) -> None:
    for _ in range(int(START_SECONDS / _STEP_SECONDS)):
        try:
            process.wait(_STEP_SECONDS)
        except subprocess.TimeoutExpired:
            if _answers(f"{viewer.url}/_stcore/health"):
                return
            continue
        raise SettingsError("the viewer did not start", [f"exit code {process.returncode}"])
    raise SettingsError("the viewer did not start", [f"no answer in {START_SECONDS:.0f} s"])


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2.0) as answer:  # noqa: S310  # our own http address
            return bool(answer.status == 200)
    except OSError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
