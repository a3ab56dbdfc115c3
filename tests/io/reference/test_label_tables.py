from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from medkd.errors import SeriesError
from medkd.io.reference import (
    AnnotationSettings,
    FileNames,
    ReferenceRows,
    read_reference_source,
)
from medkd.io.reference.case_table import TableAnnotations
from medkd.io.reference.table import SOURCES
from tests.real_data import data_root

NIH_HEADER = "Image Index,Finding Labels,Follow-up #,Patient ID,View Position\n"


def read(has_case: Any = None, **settings: Any) -> ReferenceRows:
    return read_reference_source(
        TypeAdapter(AnnotationSettings).validate_python(settings), {}, has_case=has_case
    )


def values(rows: ReferenceRows, key: str) -> dict[str, int | None]:
    return {label.name: label.value for label in rows.labels if label.key == key}


@pytest.mark.parametrize("kind", SOURCES)
def test_a_source_is_listed_under_its_own_kind_and_its_columns_name_its_settings(kind: str) -> None:
    fields = SOURCES[kind].settings.model_fields
    assert get_args(fields["kind"].annotation) == (kind,)
    assert set(SOURCES[kind].columns) <= set(fields)


def test_nih_findings_are_present_or_absent_with_patient_and_view(tmp_path: Path) -> None:
    path = tmp_path / "d.csv.gz"
    path.write_bytes(gzip.compress((NIH_HEADER + "a.png,Mass|Nodule,0,17,PA\n").encode()))
    found = read(kind="nih", data_entry=path)
    labels = values(found, "a.png")
    assert len(labels) == 15
    assert {name for name, value in labels.items() if value} == {"Mass", "Nodule"}
    assert labels["No Finding"] == 0
    assert {(label.patient_id, label.view) for label in found.labels} == {("17", "PA")}


def test_an_nih_row_with_a_strange_finding_is_listed_and_makes_no_label(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(NIH_HEADER + "a.png,Masss,0,17,PA\nb.png,,0,17,PA\n")
    found = read(kind="nih", data_entry=tmp_path / "d.csv")
    assert found.labels == ()
    assert [row.row for row in found.unmatched] == ["data_entry, row 2", "data_entry, row 3"]


def test_chexpert_uncertain_and_blank_are_not_known_and_never_absent(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Edema,Fracture,Lung Lesion\n"
        "S/train/patient00007/study1/view1_frontal.jpg,F,68,Frontal,AP,,-1.0,0.0,1.0\n"
        "S/train/patient00007/study1/view2_lateral.jpg,F,68,Lateral,,,maybe,,\n"
    )
    found = read(kind="chexpert", path=tmp_path / "t.csv")
    first, second = (label.key for label in found.labels[::4])
    assert values(found, first) == {
        "No Finding": None, "Edema": None, "Fracture": 0, "Lung Lesion": 1,
    }  # fmt: skip
    assert set(values(found, second).values()) == {None}
    assert [label.view for label in found.labels[::4]] == ["AP", "LATERAL"]
    assert {label.patient_id for label in found.labels} == {"patient00007"}
    assert found.notes == (
        "Edema: 1 values mean neither present nor absent and are read as unknown",
    )


@pytest.mark.parametrize(
    ("votes", "needed", "expected"),
    [("111", 2, 1), ("110", 2, 1), ("100", 2, None), ("000", 2, 0), ("100", 1, 1), ("1", 2, 1),
     ("0", 2, 0), ("0-0", 2, None)],
)  # fmt: skip
def test_several_vindr_readers_make_a_label_known_where_they_agree(
    tmp_path: Path, votes: str, needed: int, expected: int | None
) -> None:
    rows = "".join(f"img,R{n},{vote.strip('-')}\n" for n, vote in enumerate(votes))
    (tmp_path / "l.csv").write_text("image_id,rad_id,Nodule/Mass\n" + rows)
    found = read(kind="vindr", labels=tmp_path / "l.csv", readers_needed=needed)
    assert values(found, "img") == {"Nodule/Mass": expected}


def test_vindr_boxes_alone_give_labels_too(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text(
        "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max\n"
        "a,Nodule/Mass,8,R1,10,20,40,60\n"
        "a,Nodule/Mass,8,R2,11,20,41,60\n"
        "a,ILD,5,R2,11,20,41,10\n"
        "a,No finding,14,R3,,,,\n"
        "b,No finding,14,R1,,,,\n"
    )
    found = read(kind="vindr", boxes=tmp_path / "b.csv")
    assert values(found, "a") == {"ILD": None, "No finding": None, "Nodule/Mass": 1}
    assert values(found, "b") == {"ILD": 0, "No finding": 1, "Nodule/Mass": 0}


def test_a_site_table_says_present_absent_or_not_known_in_its_own_words(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "uid;befund;pat\n1.2.3;Ja;P1\n1.2.4; nein ;P2\n1.2.5;unklar;P3\n1.2.6;;P4\n"
    )
    found = read(
        kind="table", path=tmp_path / "t.csv", separator=";", key="uid", key_is="seriesuid",
        labels={"nodule": "befund"}, positive=["ja"], negative=["Nein"], patient="pat",
    )  # fmt: skip
    assert [label.value for label in found.labels] == [1, 0, None, None]
    assert {label.key_is for label in found.labels} == {"seriesuid"}
    assert [label.patient_id for label in found.labels] == ["P1", "P2", "P3", "P4"]
    assert found.notes[0].startswith("nodule: 1 values")


def test_rows_of_cases_that_the_archive_does_not_hold_are_listed_once(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(NIH_HEADER + "a.png,Mass,0,1,PA\nb.png,Mass,0,2,PA\n")
    names = FileNames(["images/a.png"])
    found = read(
        lambda key, key_is: key_is == "file" and bool(names.find(key)),
        kind="nih",
        data_entry=tmp_path / "d.csv",
    )
    assert {label.key for label in found.labels} == {"a.png"}
    assert [(row.row, row.key) for row in found.unmatched] == [("data_entry, row 3", "b.png")]


def test_a_table_without_its_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("Path,Sex\na.png,F\n")
    with pytest.raises(SeriesError, match="at least one label column"):
        read(kind="chexpert", path=tmp_path / "t.csv")
    with pytest.raises(SeriesError, match="column 'Finding Labels' is missing"):
        read(kind="nih", data_entry=tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"kind": "vindr"}, "give labels, boxes or both"),
        ({"kind": "table", "path": "t", "key": "k", "labels": {}}, "labels"),
        (
            {"kind": "table", "path": "t", "key": "k", "labels": {"a": "b"}, "negative": ["YES"]},
            r"present and absent: \['yes'\]",
        ),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        read(**settings)


def test_the_real_nih_tables_label_every_image_of_the_thousand() -> None:
    folder = data_root() / "nih1000"
    names = FileNames(str(path) for path in folder.rglob("*.png"))
    found = read(
        lambda key, _: bool(names.find(key)),
        kind="nih",
        data_entry=next(folder.glob("Data_Entry*")),
    )
    assert len({label.key for label in found.labels}) == 1000


def test_any_text_but_a_negative_word_says_yes_where_the_rule_is_non_blank(tmp_path: Path) -> None:
    cells = ("x", "seen at the left", "", "  ", "No", "0")
    rows = "".join(f"{n}.png,{cell}\n" for n, cell in enumerate(cells))
    (tmp_path / "t.csv").write_text(f"file,nodule\n{rows}", encoding="utf-8")
    settings = TableAnnotations(
        kind="table", path=tmp_path / "t.csv", key="file", labels={"n": "nodule"}, rule="non_blank"
    )
    found = read_reference_source(settings, {})
    assert [label.value for label in found.labels] == [1, 1, 0, 0, 0, 0]
    assert found.notes == ("n: by the rule non_blank, 2 texts mean present and 2 blank cells mean "
                           "absent",)  # fmt: skip
    words = settings.model_copy(update={"rule": "words"})
    values = [label.value for label in read_reference_source(words, {}).labels]
    assert values == [None, None, None, None, 0, 0]
