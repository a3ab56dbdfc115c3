"""Starting the viewer: which run, which port, which flags; a viewer that does not start."""

import http.server
import os
import socket
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

import medkd
from medkd.config.load import make_settings
from medkd.config.review_settings import ReviewSettings
from medkd.errors import SettingsError
from medkd.review import launch
from medkd.review.opened import Review
from tests.viewer.factory import write_bare_run


@pytest.fixture
def taken_port():
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        yield busy.getsockname()[1]


def a_viewer(tmp_path, port=1):
    return launch.Viewer(Review("RUN", tmp_path), "anna", "127.0.0.1", port)


def test_the_viewer_is_found_beside_the_package():
    assert launch.viewer_script() == (
        Path(medkd.__file__).parents[1] / "apps" / "viewer" / "server.py"
    )


def test_the_wheels_own_viewer_goes_first(tmp_path, monkeypatch):
    script = tmp_path / "medkd" / "_viewer" / "server.py"
    script.parent.mkdir(parents=True)
    script.touch()
    monkeypatch.setattr(medkd, "__file__", str(tmp_path / "medkd" / "__init__.py"))
    assert launch.viewer_script() == script


def test_a_missing_viewer_names_the_places_that_were_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(medkd, "__file__", str(tmp_path / "medkd" / "__init__.py"))
    with pytest.raises(SettingsError, match=r"_viewer[\s\S]*apps"):
        launch.viewer_script()


def test_a_port_that_was_asked_for_and_is_taken_is_refused(taken_port):
    with pytest.raises(SettingsError, match=rf"127.0.0.1:{taken_port} cannot be used"):
        launch.choose_port("127.0.0.1", taken_port)


def test_another_port_is_chosen_where_the_default_is_taken(taken_port, monkeypatch):
    monkeypatch.setattr(launch, "DEFAULT_PORT", taken_port)
    assert launch.choose_port("127.0.0.1", None) not in {0, taken_port}


def test_the_only_run_below_a_folder_is_found(tmp_path):
    run = write_bare_run(tmp_path / "runs" / "first", [])
    assert launch.find_review(tmp_path) == run.path


def test_several_runs_are_not_chosen_from(tmp_path):
    for name in ("first", "second"):
        write_bare_run(tmp_path / name, [])
    with pytest.raises(SettingsError, match=r"2 runs[\s\S]*first[\s\S]*second"):
        launch.find_review(tmp_path)


def test_no_run_at_all_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="no run to review here"):
        launch.find_review(tmp_path)


def test_the_app_is_bound_to_this_machine_and_sends_no_statistics(tmp_path):
    command = " ".join(launch.build_command(a_viewer(tmp_path)))
    assert "--server.address 127.0.0.1" in command
    assert "--browser.gatherUsageStats false" in command
    assert "--server.headless true" in command


def test_a_callback_is_not_ended_by_the_next_event(tmp_path):
    command = " ".join(launch.build_command(a_viewer(tmp_path)))
    assert "--runner.fastReruns false" in command


def test_a_prefix_is_in_the_address_and_passed_to_the_app(tmp_path):
    viewer = replace(a_viewer(tmp_path, 8501), prefix="/nodules")
    assert viewer.url == "http://127.0.0.1:8501/nodules"
    assert "--server.baseUrlPath /nodules" in " ".join(launch.build_command(viewer))


@pytest.mark.parametrize("prefix", ["nodules", "/nodules/", "/", "/a b", "/../x", "//x"])
def test_a_prefix_that_is_no_path_is_refused(prefix):
    with pytest.raises(SettingsError, match="prefix"):
        make_settings(ReviewSettings, overrides=[f"prefix={prefix}"])


def test_an_app_that_does_not_start_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "viewer_script", lambda: tmp_path / "gone.py")
    with pytest.raises(SettingsError, match=r"did not start[\s\S]*exit code"):
        launch.serve(a_viewer(tmp_path), on_ready=lambda _: pytest.fail("it answered"))


# A stand-in for Streamlit: serves the health page on a port and prints the address first.
QUICK_APP = """
import http.server, sys
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/_stcore/health" else 404)
        self.end_headers()
    def log_message(self, *_): pass
server = http.server.HTTPServer((sys.argv[1], int(sys.argv[2])), Health)
print(f"  URL: http://{sys.argv[1]}:{sys.argv[2]}")
server.serve_forever()
"""
PROXY_NAMES = [
    "http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY",
]  # fmt: skip


class ReachedError(Exception):
    """The app was announced; ends `serve` in a test."""


def announce(viewer):
    raise ReachedError(viewer.url)


@pytest.fixture
def free_port():
    return launch.choose_port("127.0.0.1", 0)


@pytest.fixture
def quick_start(monkeypatch):
    """Serve that script in Streamlit's place, and lose no time on what does not start."""

    def start(script):
        def command(viewer):
            return [sys.executable, "-c", script, viewer.address, str(viewer.port)]

        monkeypatch.setattr(launch, "build_command", command)
        monkeypatch.setattr(launch, "START_SECONDS", 3.0)

    return start


@pytest.fixture
def answer_all():
    """A proxy, or another program on the port, that answers 200 to whatever it is asked."""

    class Always(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Always) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize("name", PROXY_NAMES)
def test_the_app_is_reached_without_any_proxy(tmp_path, monkeypatch, quick_start, free_port, name):
    monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens there
    quick_start(QUICK_APP)
    with pytest.raises(ReachedError, match=f"http://127.0.0.1:{free_port}"):
        launch.serve(a_viewer(tmp_path, free_port), on_ready=announce)


def test_a_proxy_that_answers_everything_is_not_our_app(
    tmp_path, monkeypatch, quick_start, free_port, answer_all
):
    for name in PROXY_NAMES:
        monkeypatch.setenv(name, f"http://127.0.0.1:{answer_all}")
    quick_start("import time; time.sleep(60)")
    with pytest.raises(SettingsError, match="no answer"):
        launch.serve(a_viewer(tmp_path, free_port), on_ready=announce)


def test_another_program_on_the_port_is_not_our_app(tmp_path, quick_start, answer_all):
    # Two readers start at the same moment and both find the port free; one of them gets it.
    quick_start("import sys, time; time.sleep(1); sys.exit(1)")
    with pytest.raises(SettingsError, match=rf"did not start[\s\S]*program uses port {answer_all}"):
        launch.serve(a_viewer(tmp_path, answer_all), on_ready=announce)


def test_an_ipv6_address_stands_in_brackets(tmp_path):
    assert launch.Viewer(Review("RUN", tmp_path), "anna", "::1", 8501).url == "http://[::1]:8501"
    assert launch.Viewer(Review("RUN", tmp_path), "anna", "::", 8501).url == "http://127.0.0.1:8501"


def test_the_browser_that_opens_the_app_is_told_not_to_use_a_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "intranet.example")
    monkeypatch.setenv("NO_PROXY", "")
    launch.bypass_proxy("127.0.0.1")
    assert os.environ["no_proxy"] == "intranet.example,127.0.0.1"
    assert os.environ["NO_PROXY"] == "127.0.0.1"


@pytest.mark.slow
def test_the_readers_own_streamlit_settings_do_not_move_the_app(tmp_path, monkeypatch, free_port):
    settings = tmp_path / ".streamlit" / "config.toml"
    settings.parent.mkdir()
    lines = ["[server]", 'baseUrlPath = "x"', 'sslCertFile = "gone.pem"', 'sslKeyFile = "gone.key"']
    settings.write_text("\n".join([*lines, "[logger]", "hideWelcomeMessage = true", ""]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STREAMLIT_SERVER_BASE_URL_PATH", "y")
    monkeypatch.setenv("STREAMLIT_SERVER_PORT", "1")
    for name in PROXY_NAMES:
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(ReachedError):
        launch.serve(a_viewer(tmp_path, free_port), on_ready=announce)
