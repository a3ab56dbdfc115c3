"""Start of the viewer: find its script and a port, run Streamlit, and end it with the command.

Streamlit runs as a separate process, bound to this machine unless another address is given. It
sends no usage statistics and ignores the user's own Streamlit settings. Proxies are not used,
because the app is on this machine. Unless a reverse proxy or OIDC does the log-in (`readers.py`),
everybody who reaches the address sees the cases.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn

import medkd
from medkd.config.review_settings import ReaderSettings
from medkd.errors import SettingsError
from medkd.review.modes import write_mode
from medkd.review.opened import Review, find_reviews

LOCAL = "127.0.0.1"
DEFAULT_PORT = 8501
START_SECONDS = 60.0
_STEP_SECONDS = 0.2
_SILENT_SECONDS = 15.0
_END_SECONDS = 10.0
# With an empty ProxyHandler, http_proxy and similar variables are not read.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class Viewer:
    """What the viewer shows, who reviews it, and where it is served.

    `prefix` is empty, or the path under which a reverse proxy serves the app ("/nodules").
    """

    review: Review
    reader: str
    address: str
    port: int
    readers: ReaderSettings = field(default_factory=ReaderSettings)
    prefix: str = ""

    @property
    def url(self) -> str:
        """The address of the app for a browser on this machine."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}{self.prefix}"

    @property
    def host(self) -> str:
        """The host name or number of the app for a browser on this machine."""
        return LOCAL if self.address in {"0.0.0.0", "::"} else self.address  # noqa: S104  # compared


def viewer_script() -> Path:
    """Return the server of the app: from the installed wheel, otherwise from the checkout.

    Raises:
        SettingsError: if it is in neither.
    """
    package = Path(medkd.__file__).resolve().parent
    places = [package / "_viewer" / "server.py", package.parent / "apps" / "viewer" / "server.py"]
    for place in places:
        if place.is_file():
            return place
    reasons = [f"searched {place}" for place in places]
    raise SettingsError("the viewer is not installed", [*reasons, "install medkd again"])


def choose_port(address: str, wanted: int | None) -> int:
    """Return a free port: the wanted one (0: any), otherwise 8501, otherwise any.

    Raises:
        SettingsError: if the wanted port is taken, or the address does not belong to this machine.
    """
    if wanted is not None:
        return _bind(address, wanted)
    try:
        return _bind(address, DEFAULT_PORT)
    except SettingsError:
        return _bind(address, 0)


def find_review(folder: Path) -> Path:
    """Find the only RUN, RESULTS or INDEX in a folder, at most two levels down.

    Raises:
        SettingsError: if there is none, or more than one.
    """
    found = find_reviews(folder)
    if len(found) == 1:
        return found[0]
    if not found:
        reason = f"searched {folder} two levels deep; make one with `medkd demo`, or give its path"
        raise SettingsError("no run to review here", [reason])
    reasons = [f"medkd review {path}" for path in found[:20]]
    raise SettingsError(f"{len(found)} runs to review here: choose one", reasons)


def build_command(viewer: Viewer) -> list[str]:
    """Build the command line that serves the app.

    Flags override the reader's own config.toml. Therefore every setting that could move the app to
    another address, hide its pages or lose a decision is given as a flag.
    """
    flags = {
        "server.address": viewer.address,
        "server.port": str(viewer.port),
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "server.baseUrlPath": viewer.prefix,
        "server.sslCertFile": "",
        "server.sslKeyFile": "",
        # Without it Streamlit asks an external service for the address of this machine.
        "browser.serverAddress": viewer.host,
        "browser.gatherUsageStats": "false",
        "client.showSidebarNavigation": "true",
        "client.toolbarMode": "minimal",
        # A fast rerun ends the callback of the event before (see apps/viewer/callbacks.py).
        "runner.fastReruns": "false",
        "logger.level": "warning",
        "logger.hideWelcomeMessage": "false",
    }
    words = [word for name, value in flags.items() for word in (f"--{name}", value)]
    # -P prevents a streamlit.py in the reader's folder from being started instead.
    return [sys.executable, "-P", "-m", "streamlit", "run", str(viewer_script()), *words]


def serve(viewer: Viewer, *, on_ready: Callable[[Viewer], None]) -> None:
    """Run the app until it is interrupted; every decision is saved immediately.

    Args:
        viewer: what to serve.
        on_ready: called once, when the app answers.

    Raises:
        SettingsError: if the app does not start.
    """
    previous = signal.signal(signal.SIGTERM, _interrupt)
    process = subprocess.Popen(  # noqa: S603  # our own interpreter and flags
        build_command(viewer),
        env=_environment(viewer),
        stdout=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    try:
        _wait_until_ready(process, viewer)
        on_ready(viewer)
        if process.wait() != 0:
            raise SettingsError("the viewer stopped", [f"exit code {process.returncode}"])
    except KeyboardInterrupt:
        pass
    finally:
        _end(process)
        signal.signal(signal.SIGTERM, previous)


def bypass_proxy(host: str) -> None:
    """Exclude the app from proxies in programs that this process starts, such as a browser."""
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name, ""), host]))


def _environment(viewer: Viewer) -> dict[str, str]:
    """Return the environment of the app: the reader's, without Streamlit settings."""
    own = {name: text for name, text in os.environ.items() if not name.startswith("STREAMLIT_")}
    return own | {
        "MEDKD_REVIEW_PATH": str(viewer.review.path.resolve()),
        "MEDKD_REVIEW_INDEX": str(viewer.review.index.resolve()) if viewer.review.index else "",
        "MEDKD_REVIEW_STORE": viewer.review.store,
        "MEDKD_REVIEW_MODE": write_mode(viewer.review.mode),
        "MEDKD_REVIEW_READER": viewer.reader,
        "MEDKD_REVIEW_READERS": viewer.readers.model_dump_json(),
        "PYTHONUNBUFFERED": "1",
    }


def _bind(address: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except (OSError, OverflowError) as error:
            reasons = [str(error), "omit --port to use a free one"]
            raise SettingsError(f"{address}:{port} cannot be used", reasons) from error
        return int(probe.getsockname()[1])


def _wait_until_ready(process: subprocess.Popen[str], viewer: Viewer) -> None:
    """Wait until our own process serves the port, not another program."""
    bound = threading.Event()
    if process.stdout is not None:
        words = f":{viewer.port}"
        threading.Thread(target=_watch, args=(process.stdout, words, bound), daemon=True).start()
    started = time.monotonic()
    while (waited := time.monotonic() - started) < START_SECONDS:
        try:
            process.wait(_STEP_SECONDS)
        except subprocess.TimeoutExpired:
            # If Streamlit prints no address, it is trusted after enough time to fail on the port.
            if (bound.is_set() or waited > _SILENT_SECONDS) and _answers(viewer.url):
                return
            continue
        reasons = [
            f"exit code {process.returncode}; see its output above",
            f"if another program uses port {viewer.port}, start again or choose another --port",
        ]
        raise SettingsError("the viewer did not start", reasons)
    reasons = [f"no answer from {viewer.url} in {START_SECONDS:.0f} s", "try another --port"]
    raise SettingsError("the viewer did not start", reasons)


def _watch(lines: Iterable[str], words: str, seen: threading.Event) -> None:
    """Read the output of the app, so its pipe never fills; set `seen` once it contains `words`."""
    for line in lines:
        if words in line:
            seen.set()


def _answers(url: str) -> bool:
    try:
        with _DIRECT.open(f"{url}/_stcore/health", timeout=2.0) as answer:
            return bool(answer.status == 200)
    except (OSError, http.client.HTTPException):
        return False


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
