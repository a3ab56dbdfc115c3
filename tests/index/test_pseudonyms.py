"""Pseudonyms are keyed and stable; the way back is private and audited."""

from __future__ import annotations

import os
import pickle
import sqlite3
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medkd.errors import SeriesError
from medkd.index.pseudonyms import (
    LinkTable,
    Pseudonyms,
    current_user,
    days_since_first,
    make_private_folder,
    open_pseudonyms,
    private_folder_of,
)

KEY = bytes(range(32))
posix = pytest.mark.skipif(os.name != "posix", reason="only POSIX has these file modes")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_pseudonym_is_the_keyed_hash_of_rfc_2104() -> None:
    # printf 'p\0hospital-17' | openssl dgst -sha256 -mac HMAC -macopt hexkey:000102...1f
    assert Pseudonyms("pseudonymise", KEY).patient("hospital-17") == "p54e22000e53fed60"


def test_patients_and_cases_of_equal_identifiers_have_names_of_their_own() -> None:
    names = Pseudonyms("pseudonymise", KEY)
    assert names.patient("17")[1:] != names.case("17")[1:]


def test_another_key_gives_other_names() -> None:
    other = Pseudonyms("pseudonymise", bytes(32))
    assert other.case("1.2.3") != Pseudonyms("pseudonymise", KEY).case("1.2.3")


@given(st.text(min_size=1))
def test_a_pseudonym_never_shows_its_identifier(value: str) -> None:
    if not value.strip(" \0"):
        return
    name = Pseudonyms("pseudonymise", KEY).patient(value)
    assert len(name) == 17
    assert set(name[1:]) <= set("0123456789abcdef")


def test_padding_of_dicom_values_does_not_count() -> None:
    names = Pseudonyms("pseudonymise", KEY)
    assert names.case("1.2.3\0") == names.case("1.2.3") == names.case(" 1.2.3 ")


def test_keep_gives_the_identifier_itself() -> None:
    assert Pseudonyms("keep").patient("LIDC-IDRI-0001") == "LIDC-IDRI-0001"


@pytest.mark.parametrize("value", ["", "  ", "\0"])
@pytest.mark.parametrize("names", [Pseudonyms("keep"), Pseudonyms("pseudonymise", KEY)])
def test_patients_without_an_identifier_are_not_one_patient(value: str, names: Pseudonyms) -> None:
    with pytest.raises(ValueError, match="an empty one"):
        names.patient(value)


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Pseudonyms("pseudonymise", b"short")


def test_the_key_is_not_shown_but_travels_to_workers() -> None:
    names = Pseudonyms("pseudonymise", KEY)
    assert "key" not in repr(names)
    assert pickle.loads(pickle.dumps(names)) == names  # noqa: S301  # own bytes


@posix
def test_the_key_is_made_once_with_private_modes(tmp_path: Path) -> None:
    folder = tmp_path / "work" / "index.private"
    first = open_pseudonyms(folder, "pseudonymise").case("1.2.3")
    assert open_pseudonyms(folder, "pseudonymise").case("1.2.3") == first
    assert (mode_of(folder), mode_of(folder / "key")) == (0o700, 0o600)
    assert [path.name for path in folder.iterdir()] == ["key"]


def test_two_indexes_have_two_keys(tmp_path: Path) -> None:
    first = open_pseudonyms(tmp_path / "a.private", "pseudonymise")
    assert first.case("1") != open_pseudonyms(tmp_path / "b.private", "pseudonymise").case("1")


def test_keep_touches_no_file(tmp_path: Path) -> None:
    open_pseudonyms(tmp_path / "index.private", "keep")
    assert list(tmp_path.iterdir()) == []


@posix
@pytest.mark.parametrize("opened", ["", "key"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o755])
def test_what_others_may_read_is_refused(tmp_path: Path, opened: str, mode: int) -> None:
    folder = tmp_path / "index.private"
    open_pseudonyms(folder, "pseudonymise")
    (folder / opened).chmod(mode | 0o100 * (not opened))
    with pytest.raises(SeriesError, match=r"not private\n.*others may read it; chmod"):
        open_pseudonyms(folder, "pseudonymise")


def test_a_damaged_key_is_refused(tmp_path: Path) -> None:
    open_pseudonyms(tmp_path / "x", "pseudonymise")
    (tmp_path / "x" / "key").write_bytes(b"cut")
    with pytest.raises(SeriesError, match="expected 32 bytes, got 3"):
        open_pseudonyms(tmp_path / "x", "pseudonymise")


def test_a_lost_key_is_not_replaced_in_silence(tmp_path: Path) -> None:
    open_pseudonyms(tmp_path / "x", "pseudonymise")
    LinkTable(tmp_path / "x").record([("p1", "patient_id", "17")])
    (tmp_path / "x" / "key").unlink()
    with pytest.raises(SeriesError, match="would rename every case"):
        open_pseudonyms(tmp_path / "x", "pseudonymise")


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(SeriesError, match="expected a folder"):
        make_private_folder(tmp_path / "x")


def test_links_are_kept_once_and_come_back_in_order(tmp_path: Path) -> None:
    table = LinkTable(tmp_path / "x")
    for _ in range(2):
        table.record([("p1", "patient_id", "17")])
    table.record([("p1", "seriesuid", "1.2"), ("p2", "patient_id", "18")])
    found = table.look_up("p1", who="qa", why="call back")
    assert [(link.kind, link.value) for link in found] == [("patient_id", "17"),
                                                           ("seriesuid", "1.2")]  # fmt: skip
    assert "17" not in repr(found)


@posix
def test_the_table_is_private_and_refused_where_it_is_not(tmp_path: Path) -> None:
    table = LinkTable(tmp_path / "x")
    table.record([("p1", "patient_id", "17")])
    assert mode_of(table.path) == 0o600
    table.path.chmod(0o644)
    with pytest.raises(SeriesError, match="chmod 600"):
        table.look_up("p1", who="qa", why="call back")


def test_every_look_up_is_written_down_even_of_what_is_not_known(tmp_path: Path) -> None:
    table = LinkTable(tmp_path / "x")
    table.record([("p1", "patient_id", "17")])
    assert table.look_up("p9", who="qa", why="typing error") == ()
    table.look_up("p1", who="qa", why="call back")
    assert [(e.who, e.pseudonym, e.why) for e in table.audit()] == [
        ("qa", "p9", "typing error"), ("qa", "p1", "call back")
    ]  # fmt: skip


@pytest.mark.parametrize(("who", "why"), [("", "x"), ("qa", " ")])
def test_a_look_up_without_person_or_reason_is_refused(tmp_path: Path, who: str, why: str) -> None:
    table = LinkTable(tmp_path / "x")
    table.record([("p1", "patient_id", "17")])
    with pytest.raises(SeriesError, match="needed for the audit"):
        table.look_up("p1", who=who, why=why)


@pytest.mark.parametrize("change", ["DELETE FROM audit", "UPDATE audit SET who = 'nobody'"])
def test_the_audit_can_only_grow(tmp_path: Path, change: str) -> None:
    table = LinkTable(tmp_path / "x")
    table.record([("p1", "patient_id", "17")])
    table.look_up("p1", who="qa", why="call back")
    connection = sqlite3.connect(table.path)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(change)
    connection.close()


def test_no_answer_is_given_if_the_audit_cannot_be_written(tmp_path: Path) -> None:
    table = LinkTable(tmp_path / "x")
    table.record([("p1", "patient_id", "17")])
    connection = sqlite3.connect(table.path)
    connection.executescript(
        "CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'full'); END;"
    )
    connection.close()
    with pytest.raises(SeriesError, match="cannot be used"):
        table.look_up("p1", who="qa", why="call back")


def test_an_index_without_a_table_says_so(tmp_path: Path) -> None:
    with pytest.raises(SeriesError, match="nothing to look up"):
        LinkTable(tmp_path).look_up("p1", who="qa", why="x")


def test_dates_become_days_since_the_patients_first_study() -> None:
    # 2024 is a leap year: 28 February to 1 March are two days.
    dates = ["20240301", "20240228", "", None, "2024.02.29", "20249999", "March"]
    assert days_since_first(dates) == (2, 0, None, None, 1, None, None)
    assert days_since_first([]) == ()


def test_the_private_folder_stands_beside_the_index() -> None:
    assert private_folder_of(Path("work/index.csv")) == Path("work/index.private")


@posix
def test_the_environment_cannot_change_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "somebody")
    assert current_user() != "somebody"
