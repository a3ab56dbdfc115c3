from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medkd.errors import SeriesError
from medkd.io.luna16_tables import (
    read_annotations,
    read_candidates,
    read_excluded,
    read_marks,
    read_patients,
    read_reference,
    read_seriesuids,
    write_annotations,
    write_candidates,
    write_marks,
    write_seriesuids,
)
from medkd.types import Candidate, LabelledCandidate, Nodule

MARK_HEADER = "seriesuid,coordX,coordY,coordZ,probability\n"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_marks_are_read_by_column_name_in_any_order(tmp_path):
    path = write(
        tmp_path / "m.csv", "probability,coordZ,coordY,coordX,seriesuid,x\n.5,3,2,1,1.2,q\n"
    )

    assert read_marks(path) == [Candidate("1.2", (1.0, 2.0, 3.0), 0.5)]


def test_numbers_are_rounded_as_python_rounds_them(tmp_path):
    # pandas' own parser is off by one in the last digit for some decimals.
    text = "0.30000000000000004441,-128.6994211,1e22,0.999999619"
    path = write(tmp_path / "m.csv", f"{MARK_HEADER}a,{text}\n")

    assert read_marks(path)[0].center_mm == tuple(map(float, text.split(",")[:3]))


def test_a_byte_order_mark_and_blank_lines_are_passed_over(tmp_path):
    path = tmp_path / "m.csv"
    path.write_bytes(b"\xef\xbb\xbf" + MARK_HEADER.encode() + b"a,1,2,3,0.5\r\n\r\na,1,2,3,0.4\r\n")

    assert [mark.score for mark in read_marks(path)] == [0.5, 0.4]


def test_a_header_alone_is_an_empty_table(tmp_path):
    assert read_marks(write(tmp_path / "m.csv", MARK_HEADER)) == []


def test_identical_rows_of_marks_are_kept(tmp_path):
    path = write(tmp_path / "m.csv", MARK_HEADER + "a,1,2,3,0.5\n" * 2)

    assert len(read_marks(path)) == 2


def test_every_fault_of_a_table_is_reported_with_its_row(tmp_path):
    rows = "a,1,2,3,0.5\na,x,2,3,0.5\n,1,2,3,0.5\na,1,nan,3,\n b,1,2,inf,0.5\n"

    with pytest.raises(SeriesError) as refusal:
        read_marks(write(tmp_path / "m.csv", MARK_HEADER + rows))

    assert refusal.value.reasons == (
        "row 4: seriesuid must be a name without blanks around it, got ''",
        "row 6: seriesuid must be a name without blanks around it, got ' b'",
        "row 3: coordX must be a finite number, got 'x'",
        "row 5: coordY must be a finite number, got 'nan'",
        "row 6: coordZ must be a finite number, got 'inf'",
        "row 5: probability must be a finite number, got ''",
    )


def test_all_missing_columns_are_named_at_once(tmp_path):
    with pytest.raises(SeriesError) as refusal:
        read_annotations(write(tmp_path / "a.csv", "seriesuid,coordX,coordX,coordZ\na,1,2,3\n"))

    text = str(refusal.value)
    assert "column 'coordX' is present 2 times" in text
    assert "column 'coordY' is missing" in text
    assert "column 'diameter_mm' is missing" in text


def test_more_than_20_reasons_are_counted(tmp_path):
    path = write(tmp_path / "m.csv", MARK_HEADER + "a,1,2,3,?\n" * 30)

    with pytest.raises(SeriesError) as refusal:
        read_marks(path)

    assert refusal.value.reasons[-1] == "and 10 more"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        (b"", "the file is empty"),
        (MARK_HEADER.encode() + b"a,1,2,3,0.5,6\n", "equally long rows"),
        (MARK_HEADER.encode() + b"a,1,2,3,\xff\xfe\n", "UTF-8"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, content, words):
    path = tmp_path / "m.csv"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(SeriesError, match=words):
        read_marks(path)


def test_nodules_know_which_file_they_come_from(tmp_path):
    path = write(tmp_path / "a.csv", "seriesuid,coordX,coordY,coordZ,diameter_mm\na,1,2,3,-1\n")

    assert read_annotations(path)[0].counts_as == "included"
    assert read_excluded(path) == [Nodule("a", (1.0, 2.0, 3.0), -1.0, "excluded")]


def test_a_class_other_than_0_and_1_is_refused(tmp_path):
    path = write(tmp_path / "c.csv", "seriesuid,coordX,coordY,coordZ,class\na,1,2,3,1\na,1,2,3,2\n")

    with pytest.raises(SeriesError, match="row 3: class must be 0 or 1, got 2"):
        read_candidates(path)


def test_the_list_of_series_has_no_header_and_may_have_one(tmp_path):
    assert read_seriesuids(write(tmp_path / "s.csv", "1.2\n1.3\n")) == ["1.2", "1.3"]
    assert read_seriesuids(write(tmp_path / "s.csv", "seriesuid\n1.2\n")) == ["1.2"]


def test_a_series_listed_twice_is_refused_with_both_rows(tmp_path):
    with pytest.raises(SeriesError, match=r"row 3: series 1\.2 is already in row 1"):
        read_seriesuids(write(tmp_path / "s.csv", "1.2\n1.3\n1.2\n"))


def test_a_list_of_no_series_is_refused(tmp_path):
    with pytest.raises(SeriesError, match="it lists no series"):
        read_seriesuids(write(tmp_path / "s.csv", "seriesuid\n"))


def test_a_series_with_two_patients_is_refused(tmp_path):
    path = write(tmp_path / "p.csv", "seriesuid,patient_id\na,p\nb,p\na,q\n")

    with pytest.raises(SeriesError, match="row 4: series a has another patient"):
        read_patients(path)


def test_a_reference_is_refused_with_the_faults_of_all_tables(tmp_path):
    nodules = write(tmp_path / "a.csv", "seriesuid,coordX,coordY,coordZ,diameter_mm\na,1,2,3,x\n")
    series = write(tmp_path / "s.csv", "a\na\n")

    with pytest.raises(SeriesError) as refusal:
        read_reference(nodules, tmp_path / "absent.csv", seriesuids=series)

    text = str(refusal.value)
    assert "diameter_mm must be a finite number, got 'x'" in text
    assert "absent.csv: cannot be read as a table: no such file" in text
    assert "is already in row 1" in text


def test_a_reference_without_a_patient_for_a_series_is_refused(tmp_path):
    nodules = write(tmp_path / "a.csv", "seriesuid,coordX,coordY,coordZ,diameter_mm\n")
    series = write(tmp_path / "s.csv", "a\nb\n")
    patients = write(tmp_path / "p.csv", "seriesuid,patient_id\na,p\n")

    with pytest.raises(SeriesError, match="no patient for series b"):
        read_reference(nodules, nodules, seriesuids=series, patients=patients)


finite = st.floats(-1e6, 1e6)
points = st.tuples(finite, finite, finite)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["1.2", "1.3"]), points, finite), max_size=5))
def test_what_is_written_reads_back_the_same(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("tables")
    marks = [Candidate(uid, place, value) for uid, place, value in rows]
    nodules = [Nodule(uid, place, value) for uid, place, value in rows]
    candidates = [LabelledCandidate(uid, place, int(value > 0)) for uid, place, value in rows]

    write_marks(folder / "m.csv", marks)
    write_annotations(folder / "a.csv", nodules)
    write_candidates(folder / "c.csv", candidates)
    write_seriesuids(folder / "s.csv", ["1.2", "1.3"])

    assert read_marks(folder / "m.csv") == marks
    assert read_annotations(folder / "a.csv") == nodules
    assert read_candidates(folder / "c.csv") == candidates
    assert read_seriesuids(folder / "s.csv") == ["1.2", "1.3"]
