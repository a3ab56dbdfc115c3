"""CSV tables as Excel, a PACS or a script writes them; what is no number is refused, by name."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from medkd.archive.sources import recognise_source
from medkd.errors import SeriesError
from medkd.io.luna16_tables import (
    read_annotations,
    read_excluded,
    read_marks,
    read_patients,
    read_seriesuids,
)
from medkd.io.number_text import number_in
from medkd.io.reference import SeriesPlaces, read_reference_source
from medkd.io.reference.case_table import TableAnnotations
from medkd.io.reference.nih import NihAnnotations
from medkd.io.reference.points import PointsAnnotations
from medkd.io.tables import read_table
from tests.io.reference.oblique import SERIESUID, oblique_places

COMMAS = "seriesuid,coordX,coordY,coordZ,diameter_mm\n1.2,1.5,-2,3e1,4.25\n1.3,5,6,7,8\n"
PLACES = [(1.5, -2.0, 30.0), (5.0, 6.0, 7.0)]
SEMICOLONS = COMMAS.replace(",", ";").replace(".", ",").replace("1,2;", "1.2;").replace(
    "1,3;", "1.3;"
)  # fmt: skip


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + COMMAS.encode(),
        COMMAS.encode("utf-16"),
        COMMAS.encode("utf-16-le"),
        COMMAS.encode("utf-16-be"),
        COMMAS.replace(",", "\t").encode("utf-16"),
        COMMAS.encode("utf-32"),
        gzip.compress(COMMAS.encode(), mtime=0),
        COMMAS.replace("\n", "\r\n"),
        COMMAS.replace("\n", "\r"),
        "\n\r\n  \n" + COMMAS,
        ";;;;\n" + SEMICOLONS,
        SEMICOLONS,
        SEMICOLONS.replace(";", "\t"),
        SEMICOLONS.replace(";", "|"),
        COMMAS.replace(",", ";"),
        COMMAS.replace("1.5", '"1,5"').replace("4.25", '"4,25"'),
        COMMAS.replace("1.5,-2", '"1,5","-2,00"').replace("4.25", '"0,425e1"'),
        "sep=;\r\n" + SEMICOLONS,
        COMMAS.replace("\n", ",,\n"),
        COMMAS.replace("1.2,", '"1.2",').replace("-2", ' "-2"').replace(' "-2"', '"-2"'),
        COMMAS.replace("seriesuid,coordX", " SeriesUID , COORDX"),
        COMMAS.replace("4.25", " 4.25 "),
        COMMAS.rstrip("\n"),
        COMMAS.replace("diameter_mm", 'diameter_mm,"a note\nof two lines"').replace(
            "4.25\n", '4.25,"said\r\n""twice"""\n'
        ),
        COMMAS.replace("diameter_mm", "diameter_mm,größe").encode("latin-1"),
    ],
)
def test_a_table_is_read_whoever_wrote_it(tmp_path: Path, content: str | bytes) -> None:
    path = write(tmp_path / "a.csv", content)
    nodules = read_annotations(path)
    assert [nodule.center_mm for nodule in nodules] == PLACES
    assert [nodule.diameter_mm for nodule in nodules] == [4.25, 8.0]
    assert recognise_source(str(path)).kind == "luna16" or content[:1] == b"\x1f"


@pytest.mark.parametrize(
    ("cell", "hint"),
    [
        ("1_0.5", "underscores"), ("1_0", "underscores"),
        ("1,234", "decimal mark here is '.': write all numbers"),
        ("1,234.5", "thousands"), ("1'234", "thousands"), ("1 234", "thousands"),
        ("1.234.567", "thousands"), ("1e400", "too large"), ("-1e400", "too large"),
        ("nan", ""), ("NaN", ""), ("inf", ""), ("-Infinity", ""), ("", ""), ("0x1F", ""),
        ("\uff11\uff12", "digits 0 to 9"), ("\u0661", "digits 0 to 9"), ("1e", ""), ("--1", ""),
        ("1.2.3", ""), ("true", ""), ("1.5mm", ""), ("\u22121", ""),
    ],
)  # fmt: skip
def test_what_is_no_number_is_refused_with_row_column_and_value(
    tmp_path: Path, cell: str, hint: str
) -> None:
    row = f'1.2,1,2,"{cell}",4\n'
    header = "seriesuid,coordX,coordY,coordZ,"
    for read, last in ((read_annotations, "diameter_mm"), (read_excluded, "diameter_mm"),
                       (read_marks, "probability")):  # fmt: skip
        with pytest.raises(SeriesError) as refusal:
            read(write(tmp_path / "a.csv", f"{header}{last}\n{row}"))
        (reason,) = refusal.value.reasons
        assert reason.startswith(f"row 2: coordZ must be a finite number, got {cell!r}")
        assert hint in reason
        assert "a.csv" in refusal.value.headline


@pytest.mark.parametrize("text", ["1", "+1.", ".5", "-1.5E-3", " 7 ", "007"])
def test_plain_numbers_are_read_as_python_reads_them(text: str) -> None:
    assert number_in(text) == float(text)


def test_thousands_are_refused_where_the_decimal_mark_is_a_comma(tmp_path: Path) -> None:
    for cell in ("1.234,5", "1 234,5", "1_0,5"):
        with pytest.raises(SeriesError, match="row 3: coordX must be a finite number"):
            read_annotations(write(tmp_path / "a.csv", SEMICOLONS.replace("5;6", f"{cell};6")))


def test_decimal_commas_and_points_do_not_mix_in_one_table(tmp_path: Path) -> None:
    with pytest.raises(SeriesError, match=r"got '6\.5': the decimal mark here is ','"):
        read_annotations(write(tmp_path / "a.csv", SEMICOLONS.replace("5;6", "5;6.5")))


@pytest.mark.parametrize(
    "content",
    [
        COMMAS.replace("5,6,7,8", '"5,5",6,7,8'),  # in one column
        COMMAS.replace("5,6,7,8", '5,6,7,"8,5"'),
        COMMAS.replace("5,6,7,8", '5,"6,5",7,8'),  # in another column
        COMMAS.replace("1.5", '"1,5"'),
    ],
)
def test_quoted_decimal_commas_and_points_do_not_mix(tmp_path: Path, content: str) -> None:
    with pytest.raises(SeriesError, match=r": the decimal mark here is '[.,]': write all numbers"):
        read_annotations(write(tmp_path / "a.csv", content))


def test_a_row_with_a_decimal_comma_between_commas_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SeriesError, match=r"row 2: expected equally long rows of 5 cells .* got 6"):
        read_annotations(write(tmp_path / "a.csv", COMMAS.replace("1.5", "1,5")))


@pytest.mark.parametrize(
    "content",
    [b"PK\x03\x04 a workbook", b"a,b\n\0\0\0\x01", b"\x1f\x8b broken", b'a,b\n"open', b"\n\n"],
)
def test_what_is_no_table_is_refused_in_words(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(SeriesError, match="cannot be read as a table"):
        read_marks(write(tmp_path / "a.csv", content))


def test_a_cut_row_is_refused_where_a_number_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SeriesError, match="row 3: diameter_mm must be a finite number, got ''"):
        read_annotations(write(tmp_path / "a.csv", COMMAS.removesuffix(",8\n")))


def test_rows_after_a_quoted_line_end_keep_the_numbers_of_their_lines(tmp_path: Path) -> None:
    text = 'seriesuid,patient_id,note\na,p,"two\nlines"\na,q,\n'
    with pytest.raises(SeriesError, match="row 4: series a has another patient"):
        read_patients(write(tmp_path / "p.csv", text))


@pytest.mark.parametrize(
    "text",
    ["\ufeff1.2\n1.3\n", "SeriesUID\n1.2\n1.3\n", "id;seriesuid\n7;1.2\n8;1.3\n", "1.2\r1.3"],
)
def test_a_list_of_series_is_read_with_any_header(tmp_path: Path, text: str) -> None:
    assert read_seriesuids(write(tmp_path / "s.csv", text)) == ["1.2", "1.3"]


def test_series_beside_other_cells_without_a_header_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SeriesError, match="expected one seriesuid per line, got 2 cells"):
        read_seriesuids(write(tmp_path / "s.csv", "1.2,p1\n1.3,p2\n"))


def test_a_wrong_separator_is_hinted_at(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "uid\tlabel\n1\t1\n")
    table = read_table(path, separator=";")
    table.texts("uid")
    with pytest.raises(SeriesError, match=r"seem separated by '\\t', not ';': set separator='\\t'"):
        table.refuse_if_faulty()


def points(path: Path, **settings: object) -> PointsAnnotations:
    place = {"given_as": "voxel", "columns": ("a", "b", "c"), "axes": "ijk", "origin": 0}
    return PointsAnnotations.model_validate(
        {"kind": "points", "path": path, "diameter": ("d",), "place": place, **settings}
    )


@pytest.mark.parametrize("settings", [{}, {"separator": ";", "decimal": ","}, {"decimal": ","}])
def test_points_with_semicolons_and_decimal_commas_need_no_settings(
    tmp_path: Path, settings: dict[str, object]
) -> None:
    path = write(tmp_path / "p.csv", f"\ufeffseriesuid;a;b;c;d\r\n{SERIESUID};1,5;2;3;4,25\r\n")
    places: dict[str, SeriesPlaces] = {SERIESUID: oblique_places()}
    (nodule,) = read_reference_source(points(path, **settings), places).nodules
    assert nodule.diameter_mm == 4.25


@pytest.mark.parametrize("cell", ["1_0", "1e400", "1.234,5", "\uff11", "nan", "1.5"])
def test_a_point_that_is_no_number_is_listed(tmp_path: Path, cell: str) -> None:
    text = f"seriesuid;a;b;c;d\n{SERIESUID};{cell};2;3;4,25\n{SERIESUID};1;2;3;4,25\n"
    path = write(tmp_path / "p.csv", text)
    found = read_reference_source(points(path, decimal=","), {SERIESUID: oblique_places()})
    assert len(found.nodules) == 1
    assert found.unmatched[0].reason.startswith("a is not a finite number with decimal ','")


def test_a_table_of_labels_is_read_with_any_separator_and_mark(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "File;Größe\na.png;1\nb.png;0\n".encode("cp1252"))
    settings = TableAnnotations(kind="table", path=path, key="file", labels={"big": "größe"})
    assert [label.value for label in read_reference_source(settings, {}).labels] == [1, 0]


def test_nih_tables_with_a_mark_and_semicolons_are_read(tmp_path: Path) -> None:
    text = "\ufeffImage Index;Finding Labels;Patient ID;View Position\r\na.png;Mass|Nodule;1;PA\r\n"
    path = write(tmp_path / "d.csv", text)
    assert recognise_source(str(path)).kind == "nih"
    labels = read_reference_source(NihAnnotations(kind="nih", data_entry=path), {}).labels
    assert {label.name for label in labels if label.value} == {"Mass", "Nodule"}
