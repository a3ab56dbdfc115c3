"""`medkd review`: refusals, and the export of decisions. The app itself: tests/viewer."""

import pytest

from medkd.cli import main
from medkd.review.store import Decision, open_store
from medkd.runs import RunFolder
from tests.viewer.factory import write_bare_run


def review(monkeypatch, *words):
    """Run the command as a user does; return its exit code."""
    monkeypatch.setattr("sys.argv", ["medkd", "review", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        main()
    return left.value.code


def test_a_folder_that_is_no_run_is_refused(tmp_path, monkeypatch, capsys):
    assert review(monkeypatch, tmp_path) == 1
    assert "not a RUN, RESULTS or an INDEX" in capsys.readouterr().err


def test_a_reader_without_a_name_is_refused(tmp_path, monkeypatch, capsys):
    write_bare_run(tmp_path, [])
    assert review(monkeypatch, tmp_path, "--reader", " ") == 1
    assert "--reader NAME" in capsys.readouterr().err


def test_decisions_are_exported_without_opening_the_app(tmp_path, monkeypatch, capsys):
    write_bare_run(tmp_path, [])
    store = open_store(RunFolder(tmp_path).review)
    store.add(Decision("scan-1", "mark", "anna", "accept", note="spiculated"))
    store.close()
    out = tmp_path / "decisions.csv"
    assert review(monkeypatch, tmp_path, "--export", out) == 0
    assert "1 decisions written" in capsys.readouterr().out
    assert "anna,accept,spiculated" in out.read_text()
