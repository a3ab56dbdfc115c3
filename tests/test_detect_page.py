"""The page of results: thumbnails, what is said on top, refused scans, resumed searches."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medkd.detect.jobs import SearchJob, frozen_point, run_job, scan_job
from medkd.detect.page import NOT_A_DEVICE, PageFacts, write_page
from medkd.detect.thumbnails import draw_thumbnails, write_thumbnails
from medkd.errors import SettingsError
from medkd.io.pictures import SIDE_PX, axial_picture
from medkd.io.volume import write_mhd
from medkd.models.package import LoadedModel
from medkd.runs import ResultsFolder
from medkd.types import (
    Candidate,
    CaseOrigins,
    CaseResult,
    LungPlace,
    MarkPlace,
    OperatingPoint,
    Scan,
    SliceFact,
)
from tests.detect_cases import BALLS_MM, chest_with_balls, write_detector

POINTS = {
    "whole-scan": OperatingPoint(0.5, "fp_per_scan"),
    "whole-scan@1": OperatingPoint(0.9, "fp_per_scan"),
    "whole-scan@4": OperatingPoint(0.0, "fp_per_scan", fp_per_scan=3.9, sensitivity=0.75),
}
FACTS = PageFacts("Model: m.", "Threshold: 0.5.", 0.5, ("Synthetic model.",), ("known",))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    origins = CaseOrigins(real=1, phantom=9)
    folder = tmp_path_factory.mktemp("model") / "model"
    return write_detector(
        folder, operating_points=POINTS, trained_on_synthetic=True, origins=origins
    )


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    write_mhd(chest_with_balls(), folder / "2.25.1.mhd")
    (folder / "broken.mhd").write_text("no header")
    return folder


def page_of(out: Path) -> str:
    return ResultsFolder(out).page.read_text(encoding="utf-8")


def pictures_of(page: str) -> list[str]:
    return re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)


def test_a_picture_shows_the_mark_in_the_middle_whatever_way_the_axes_point() -> None:
    scan = chest_with_balls()
    picture = axial_picture(scan, BALLS_MM[0])
    half = SIDE_PX // 2
    # 10 mm of tissue in lung: 20 pixels of .5 mm, bright; 15 mm away there is lung
    assert picture[half - 5 : half + 5, half - 5 : half + 5].min() > 200
    assert picture[half, half - 30] < 120
    grid = scan.grid.reordered((1, 0, 2), (True, False, True))
    voxels = np.flip(scan.voxels_hu.transpose(1, 0, 2), (0, 2))
    other = Scan("2.25.8", np.ascontiguousarray(voxels), grid, "p")
    np.testing.assert_allclose(axial_picture(other, BALLS_MM[0]), picture, atol=1)


def test_left_and_back_of_the_patient_are_right_and_below() -> None:
    scan = chest_with_balls(balls=False)
    x, y, z = BALLS_MM[0]
    for place, (row, column) in (((x + 15, y, z), (0, 30)), ((x, y + 10, z), (20, 0))):
        voxels = scan.voxels_hu.copy()
        i, j, k = np.rint(scan.grid.world_to_voxel(np.array(place))).astype(int)
        voxels[i - 1 : i + 2, j - 1 : j + 2, k] = 400
        picture = axial_picture(replace(scan, voxels_hu=voxels), (x, y, z))
        assert picture[SIDE_PX // 2 + row, SIDE_PX // 2 + column] > 240


def test_a_mark_at_the_edge_of_the_scan_has_black_beyond_it() -> None:
    scan = chest_with_balls()
    corner = tuple(scan.grid.origin_mm.tolist())
    assert (axial_picture(scan, corner) == 0).mean() > 0.6  # type: ignore[arg-type]


def test_thumbnails_are_small_jpegs_of_the_first_ten_marks() -> None:
    marks = [Candidate("1", BALLS_MM[n % 3], 1 - n / 20) for n in range(12)]
    pictures = draw_thumbnails(chest_with_balls(), marks)
    assert len(pictures) == 10
    image = Image.open(io.BytesIO(base64.b64decode(pictures[0])))
    assert (image.format, image.size, image.mode) == ("JPEG", (SIDE_PX, SIDE_PX), "L")
    assert max(map(len, pictures)) < 10_000


def written(tmp_path: Path, *results: CaseResult) -> str:
    write_page(ResultsFolder(tmp_path), results, FACTS)
    return page_of(tmp_path)


def test_a_mark_is_told_with_its_place_and_whether_it_reaches_the_threshold(
    tmp_path: Path,
) -> None:
    place = MarkPlace((3, 4, 11), SliceFact(42, "1.2.3"), LungPlace("left", "upper"))
    marks = (Candidate("7", (1.0, 2.0, 3.0), 0.8, 6.25), Candidate("7", (9.0, 9.0, 9.0), 0.2))
    result = CaseResult("7", marks, "analysed", notes=("known", "allowed: x"), input_key="a" * 64,
                        places=(place, MarkPlace((0, 0, 0))))  # fmt: skip
    write_thumbnails(tmp_path / "thumbnails", "a" * 64, ["QUJD", "REVG"])
    page = written(tmp_path, result)
    assert pictures_of(page) == ["QUJD", "REVG"]
    words = "Mark 1, p 0.8, 6.2 mm, slice 12, instance 42, left lung, upper third, reaches"
    assert words in page
    assert page.count('<li class="above">') == 1
    assert "2 marks, 1 of them reach the threshold" in page
    assert "allowed: x" in page
    assert ">known<" not in page
    assert "1.2.3" not in page  # not even the UID of the image


def test_the_page_says_what_it_is_and_which_scans_were_not_analysed(tmp_path: Path) -> None:
    refused = CaseResult("<b>8</b>", (), "not_analysed", reasons=("gantry_tilt: 5 & more",))
    page = written(tmp_path, refused)
    for words in (NOT_A_DEVICE, "Synthetic model.", "Model: m.", "0 of 1 scans analysed",
                  "&lt;b&gt;8&lt;/b&gt;: NOT ANALYSED", "gantry_tilt: 5 &amp; more"):  # fmt: skip
        assert words in page
    assert "<script" not in page
    assert "default-src 'none'" in page


def test_a_synthetic_scan_is_marked_in_the_table_and_in_its_section(tmp_path: Path) -> None:
    note = "synthetic scan: medkd phantom 6"
    page = written(tmp_path, CaseResult("9", (), "analysed", notes=(note,)))
    assert "analysed, synthetic</td>" in page
    assert f"<b>{note}</b>" in page


def test_two_hundred_scans_make_a_page_below_30_mb(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(-800, 150, (100, 70, 60)).astype(np.int16)
    scan = replace(chest_with_balls(), voxels_hu=noise)  # noise is the worst for JPEG
    marks = tuple(Candidate("1", BALLS_MM[n % 3], 0.5) for n in range(10))
    pictures, results = draw_thumbnails(scan, marks), []
    for number in range(200):
        key = f"{number:064d}"[::-1]
        write_thumbnails(tmp_path / "thumbnails", key, pictures)
        results.append(CaseResult(str(number), marks, "analysed", input_key=key))
    page = written(tmp_path, *results)
    assert len(pictures_of(page)) == 2000
    assert len(page) < 30_000_000


def job_of(scans: Path, model: LoadedModel, fp_per_scan: float | None = None) -> SearchJob:
    return scan_job([scans], model, fp_per_scan=fp_per_scan)


def test_a_search_leaves_the_page_and_writes_it_again_when_it_is_resumed(
    scans: Path, model: LoadedModel, tmp_path: Path
) -> None:
    run_job(job_of(scans, model), tmp_path / "out")
    page = page_of(tmp_path / "out")
    assert len(pictures_of(page)) == 10
    assert "trained on 9 synthetic and 1 real scan: no clinical performance known" in page
    assert "broken: NOT ANALYSED" in page
    ResultsFolder(tmp_path / "out").page.unlink()
    run_job(job_of(scans, model), tmp_path / "out", resume=True)
    assert page_of(tmp_path / "out") == page


def test_another_frozen_threshold_flags_the_stored_marks_anew(
    scans: Path, model: LoadedModel, tmp_path: Path
) -> None:
    first = run_job(job_of(scans, model), tmp_path / "out")
    before = (tmp_path / "out" / "2.25.1.json").read_bytes()
    again = run_job(job_of(scans, model, 4.0), tmp_path / "out", resume=True)
    assert again == first
    assert (tmp_path / "out" / "2.25.1.json").read_bytes() == before
    folder = ResultsFolder(tmp_path / "out")
    assert folder.read_record().threshold == 0.0
    rows = folder.table.read_text().splitlines()[1:]
    assert {row.rsplit(",", 2)[1:][0] for row in rows} == {"0.0"}
    words = "Threshold: 0, chosen on validation (there 3.9 false positives per scan, sensitivity"
    assert words in page_of(tmp_path / "out")


def test_a_threshold_that_was_not_frozen_is_refused_with_those_that_were(
    model: LoadedModel,
) -> None:
    default = frozen_point(model.info, None)
    assert default is not None
    assert default.threshold == 0.5
    with pytest.raises(SettingsError, match=r"--fp-per-scan: expected one of 1, 4"):
        frozen_point(model.info, 2.0)
    with pytest.raises(SettingsError, match="has no such thresholds"):
        frozen_point(replace(model.info, operating_points={}), 1.0)
