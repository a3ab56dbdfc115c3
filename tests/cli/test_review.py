"""`medkd review`: refusals, and the export of decisions. The app itself: tests/viewer."""

import json
import sqlite3

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


def a_run(folder, verdicts=("accept", "reject")):
    write_bare_run(folder, [])
    store = open_store(RunFolder(folder).review)
    for number, verdict in enumerate(verdicts):
        store.add(Decision("scan-1", f"mark {number}", "anna", verdict))
    store.close()
    return RunFolder(folder).review


def test_an_untouched_store_is_verified_by_run_and_by_store(tmp_path, monkeypatch, capsys):
    store = a_run(tmp_path)
    for place in (tmp_path, store):
        assert review(monkeypatch, place, "--verify") == 0
        assert "2 decisions, no row was changed" in capsys.readouterr().out


def test_a_changed_row_fails_the_check_by_its_number(tmp_path, monkeypatch, capsys):
    store = a_run(tmp_path)
    with sqlite3.connect(store) as foreign:
        foreign.execute("DROP TRIGGER decisions_no_update")
        foreign.execute("UPDATE decisions SET verdict = 'accept' WHERE number = 2")
    foreign.close()
    for words in ([tmp_path, "--verify"], [store, "--verify"], [tmp_path, "--no-browser"]):
        assert review(monkeypatch, *words) == 1
        assert "row 2 was changed" in capsys.readouterr().err


def test_a_store_that_was_replaced_as_a_whole_fails_against_a_noted_head(
    tmp_path, monkeypatch, capsys
):
    store = a_run(tmp_path)
    review(monkeypatch, store, "--verify")
    head = capsys.readouterr().out.split("head of the chain: ")[1].split()[0]
    assert review(monkeypatch, store, "--verify", "--head", head) == 0
    store.unlink()
    a_run(tmp_path, ["accept", "accept"])
    assert review(monkeypatch, store, "--verify", "--head", head) == 1
    assert "all rows may have been replaced" in capsys.readouterr().err


def test_a_review_that_nobody_began_has_no_store_to_verify(tmp_path, monkeypatch, capsys):
    write_bare_run(tmp_path, [])
    assert review(monkeypatch, tmp_path, "--verify") == 1
    assert "nobody has decided anything there" in capsys.readouterr().err


def test_a_url_of_an_unknown_database_is_refused_without_its_password(
    tmp_path, monkeypatch, capsys
):
    assert review(monkeypatch, "mysql://anna:secret@db/x", "--verify") == 1
    shown = capsys.readouterr().err
    assert "postgresql://USER@HOST/DATABASE" in shown
    assert "secret" not in shown


def a_reviewed_run(folder):
    write_bare_run(folder, [])
    store = open_store(RunFolder(folder).review)
    place = {"center_mm": (1.0, 2.0, 3.0), "diameter_mm": 6.0, "note": "a secret note"}
    store.add(Decision("scan-1", "at_1", "anna", "accept", **place))
    store.add(Decision("scan-1", "at_1", "ben", "reject", **place))
    store.add_nodule(
        Decision("scan-2", "added_1", "anna", "added", center_mm=(0.0, 0.0, 0.0), diameter_mm=4.0)
    )
    store.close()
    return folder


def test_each_form_of_export_is_written_and_may_be_written_again(tmp_path, monkeypatch, capsys):
    run = a_reviewed_run(tmp_path / "run")
    for name, words in (("a.csv", ["--form", "luna16"]), ("b.json", []), ("c.csv", [])):
        for _ in range(2):
            assert review(monkeypatch, run, "--export", run / name, *words) == 0
    assert (run / "a.csv").read_text().splitlines()[1:] == ["scan-2,0.0,0.0,0.0,4.0"]
    assert len(json.loads((run / "b.json").read_text())["decisions"]) == 3
    assert len((run / "c.csv").read_text().splitlines()) == 4
    assert "1 disputed mark left out" in capsys.readouterr().out


def test_the_adjudicator_is_named_by_option_or_by_settings(tmp_path, monkeypatch):
    run = a_reviewed_run(tmp_path / "run")
    (tmp_path / "review.yaml").write_text(
        "# Readers.\n# Needs: nothing.\n# medkd review RUN --config review.yaml\n"
        "readers: {adjudicator: anna}\n"
    )
    for words in (["--adjudicator", "anna"], ["--config", tmp_path / "review.yaml"]):
        out = tmp_path / "out.csv"
        assert review(monkeypatch, run, "--export", out, "--form", "luna16", *words) == 0
        assert len(out.read_text().splitlines()) == 3


def test_an_unknown_form_is_refused(tmp_path, monkeypatch, capsys):
    run = a_reviewed_run(tmp_path / "run")
    assert review(monkeypatch, run, "--export", tmp_path / "x", "--form", "xml") == 1
    assert "expected csv, luna16 or json" in capsys.readouterr().err


def test_a_header_names_the_reader_on_this_machine_alone(tmp_path, monkeypatch, capsys):
    write_bare_run(tmp_path, [])
    config = tmp_path / "review.yaml"
    config.write_text("readers: {name_from: header}\n")
    words = ["--config", config, "--address", "0.0.0.0", "--no-browser"]  # noqa: S104
    assert review(monkeypatch, tmp_path, *words) == 1
    assert "could send any X-Forwarded-User header" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--mode", "blind"], "concurrent, second-reader, blinded, adjudication"),
        (["--mode", "adjudication"], "readers.adjudicator"),
    ],
)
def test_a_mode_that_is_not_possible_is_refused_before_the_app_starts(
    tmp_path, monkeypatch, capsys, words, reason
):
    write_bare_run(tmp_path, [])
    assert review(monkeypatch, tmp_path, *words) == 1
    assert reason in capsys.readouterr().err
