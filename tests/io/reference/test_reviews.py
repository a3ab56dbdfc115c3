"""Decisions of readers as annotations: which series, what is unmatched, what is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medkd.errors import CheckpointError
from medkd.formats import REVIEWS_KIND
from medkd.io.reference import ReferenceRows, read_reference_source
from medkd.io.reference.reviews import ReviewAnnotations, is_reviews
from tests.io.reference.oblique import SERIESUID, oblique_places


def mark(verdict: str, voxel: tuple[float, float, float], **changed: object) -> dict[str, object]:
    place = oblique_places().grid.voxel_to_world(voxel).tolist()
    values: dict[str, object] = {"seriesuid": "c1", "center_mm": place, "diameter_mm": 6.5}
    values |= {"verdict": verdict, "readers": ["anna", "ben"], "decided_at": "2025-01-01"}
    return values | changed


def read(folder: Path, **content: object) -> ReferenceRows:
    path = folder / "reviews.json"
    path.write_text(json.dumps({"kind": REVIEWS_KIND, "marks": []} | content))
    settings = ReviewAnnotations(kind="reviews", path=path)
    return read_reference_source(
        settings, {SERIESUID: oblique_places()}, real_names={"c1": SERIESUID}
    )


def test_only_marks_that_are_nodules_become_nodules(tmp_path: Path) -> None:
    voxels = [(10, 20, 5), (30, 2, 9), (5, 5, 5)]
    verdicts = ("accepted", "added", "rejected")
    found = read(tmp_path, marks=[mark(v, at) for v, at in zip(verdicts, voxels, strict=True)])
    assert [m.verdict for m in found.marks] == list(verdicts)
    assert {m.seriesuid for m in found.marks} == {SERIESUID}
    grid = oblique_places().grid
    places = [grid.world_to_voxel(n.center_mm) for n in found.nodules]
    assert places == [pytest.approx(at) for at in voxels[:2]]
    assert {(n.diameter_mm, n.readers_agreeing) for n in found.nodules} == {(6.5, 2)}


def test_the_real_series_is_accepted_as_the_name_of_a_case(tmp_path: Path) -> None:
    found = read(tmp_path, marks=[mark("rejected", (5, 5, 5), seriesuid=SERIESUID)])
    assert (len(found.marks), found.unmatched) == (1, ())


def test_marks_outside_or_of_another_case_are_listed(tmp_path: Path) -> None:
    rows = [mark("accepted", (10, 20, 24)), mark("rejected", (1, 1, 1), seriesuid="c9")]
    found = read(tmp_path, marks=rows, reviewed={"c8": ["anna"]})
    assert (found.nodules, found.marks) == ((), ())
    reasons = [row.reason for row in found.unmatched]
    assert reasons[0].startswith("outside the volume")
    assert reasons[1:] == [
        "no series of the archive has this UID", "no series of the archive has this name",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "labels"),
    [
        ({"reviewed": {"c1": ["anna"]}}, [0]),
        ({"reviewed": {"c1": ["anna"]}, "marks": [mark("rejected", (5, 5, 5))]}, [0]),
        ({"reviewed": {"c1": ["anna"]}, "marks": [mark("added", (5, 5, 5))]}, []),
        ({"reviewed": {"c1": ["anna"]}, "disputed": {"c1": 1}}, []),
        ({"marks": [mark("rejected", (5, 5, 5))]}, []),
    ],
)
def test_a_scan_is_free_of_nodules_only_if_it_was_read_completely(
    tmp_path: Path, content: dict[str, object], labels: list[int]
) -> None:
    assert [label.value for label in read(tmp_path, **content).labels] == labels


def test_what_is_left_out_or_uncertain_is_noted(tmp_path: Path) -> None:
    found = read(tmp_path, marks=[mark("accepted", (5, 5, 5), diameter_mm=-1)], disputed={"c2": 3})
    notes = " ".join(found.notes)
    assert "3 decisions on which equally many readers differ" in notes
    assert "1 scans with accepted" in notes
    assert "1 accepted or added marks have no" in notes


def image(value: int, finding: str = "Mass or Nodule") -> dict[str, object]:
    who: dict[str, object] = {"readers": ["anna"], "decided_at": "2025-01-01"}
    return {"case_id": "c1", "finding": finding, "value": value} | who


@pytest.mark.parametrize(
    ("content", "labels"),
    [
        (image(1, "Mass"), {"Mass": 1}),
        (image(0, "Mass"), {"Mass": 0}),
        (image(1), {"Mass or Nodule": 1}),
        (image(0), {"Mass or Nodule": 0, "Mass": 0, "Nodule": 0}),
    ],
)
def test_a_decision_on_an_x_ray_is_the_label_of_the_finding(
    tmp_path: Path, content: dict[str, object], labels: dict[str, int]
) -> None:
    found = read(tmp_path, images=[content])
    assert {label.name: label.value for label in found.labels} == labels
    assert {(label.key, label.key_is) for label in found.labels} == {(SERIESUID, "seriesuid")}
    assert [(r.case_id, r.readers) for r in found.readings] == [(SERIESUID, ("anna",))]


def test_x_rays_without_a_known_finding_are_noted(tmp_path: Path) -> None:
    assert "5 whole images with decisions are left out" in " ".join(read(tmp_path, unnamed=5).notes)


def test_another_json_file_is_not_one_of_decisions(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"kind": "other", "marks": []}')
    assert not is_reviews(path)
    with pytest.raises(CheckpointError, match="kind"):
        read_reference_source(ReviewAnnotations(kind="reviews", path=path), {})
