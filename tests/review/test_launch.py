"""Starting the viewer: which run, which port, which flags; a viewer that does not start."""

import socket
from pathlib import Path

import pytest

import medkd
from medkd.errors import SettingsError
from medkd.review import launch
from medkd.runs import RunFolder


@pytest.fixture
def taken_port():
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        yield busy.getsockname()[1]


def a_viewer(tmp_path, port=1):
    return launch.Viewer(RunFolder(tmp_path), "anna", "127.0.0.1", port)


def test_the_viewer_is_found_beside_the_package():
    assert launch.viewer_script() == (
        Path(medkd.__file__).parents[1] / "apps" / "viewer" / "app.py"
    )


def test_the_wheels_own_viewer_goes_first(tmp_path, monkeypatch):
    script = tmp_path / "medkd" / "_viewer" / "app.py"
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
    run = tmp_path / "runs" / "first"
    run.mkdir(parents=True)
    (run / "cases.csv").touch()
    assert launch.find_run(tmp_path) == run


def test_several_runs_are_not_chosen_from(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cases.csv").touch()
    with pytest.raises(SettingsError, match=r"2 runs[\s\S]*first[\s\S]*second"):
        launch.find_run(tmp_path)


def test_no_run_at_all_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="no run to review here"):
        launch.find_run(tmp_path)


def test_the_app_is_bound_to_this_machine_and_sends_no_statistics(tmp_path):
    command = " ".join(launch.build_command(a_viewer(tmp_path)))
    assert "--server.address 127.0.0.1" in command
    assert "--browser.gatherUsageStats false" in command
    assert "--server.headless true" in command


def test_an_app_that_does_not_start_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "viewer_script", lambda: tmp_path / "gone.py")
    with pytest.raises(SettingsError, match=r"did not start[\s\S]*exit code"):
        launch.serve(a_viewer(tmp_path), on_ready=lambda _: pytest.fail("it answered"))
