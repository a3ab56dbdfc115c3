"""From an archive with faults and names in it to a trained student, by the README's commands."""

from __future__ import annotations

import csv
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest
from typer.testing import CliRunner

from medkd.cli import app
from medkd.io.dicom.write import write_dicom_series
from medkd.io.luna16_tables import write_annotations
from medkd.jsonio import read_json
from medkd.review.opened import open_review, read_worklist
from medkd.runs import RunFolder, read_cases
from medkd.synthetic.phantom import PhantomSettings, make_phantom
from medkd.types import Evaluation
from tests.viewer.conftest import VIEWER

pytestmark = pytest.mark.slow

PLANTED = {
    "PatientBirthDate": "19310417",
    "AccessionNumber": "ACC5550123",
    "PatientComments": "daughter of the mayor",
    "ReferringPhysicianName": "Quacksalber^Ottokar",
    "InstitutionName": "Siechenhaus Hinterwald",
    "StudyDescription": "follow-up of Kunigunde",
    "StudyDate": "20170309",
}
STRINGS = [
    "Kunigunde", "Gruenwald", "PID-778899", "19310417", "ACC5550123", "mayor", "Quacksalber",
    "Ottokar", "Siechenhaus", "Hinterwald", "20170309",
]  # fmt: skip
SHORT = [
    *(f"student.training.{key}={value}" for key, value in (
        ("epochs", 1), ("warmup_epochs", 0), ("max_steps_per_epoch", 2), ("batch_size", 8))),
    "evaluation.bootstrap=20", "device=cpu",
]  # fmt: skip
CROPS = (
    "target.loading=[{kind: load}, {kind: spacing, spacing_mm: [1, 1, 1]}, "
    "{kind: crop, patch_shape: [16, 16, 16]}, {kind: intensity}]"
)
TEACHER = [f"teacher.training.{key}={value}" for key, value in (
    ("epochs", 1), ("warmup_epochs", 0), ("max_steps_per_epoch", 2), ("batch_size", 8))
]  # fmt: skip


def command(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == code, done.output
    return done.output


def settings(*texts: str) -> list[str]:
    return [word for text in (*SHORT, *texts) for word in ("--set", text)]


def write_ct_archive(root: Path) -> list[str]:
    """Write five phantoms with names in headers and folders; four more series with a fault."""
    made = [make_phantom(PhantomSettings(site="a"), number) for number in range(5)]
    for number, phantom in enumerate(made):
        write_named(phantom.scan, root, number)
    faulty = [replace(made[0].scan, seriesuid=f"2.25.10{number}") for number in range(4)]
    gap = write_named(faulty[0], root, 11)
    gap[len(gap) // 2].unlink()
    write_named(faulty[1], root, 12, BodyPartExamined="HEAD")
    write_named(faulty[2], root, 13, SliceThickness="5")
    write_named(faulty[3], root, 14, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_annotations(root / "annotations.csv", [n for p in made for n in p.nodules])
    (root / "Thumbs.db").write_bytes(b"\0not an image")
    return [phantom.scan.seriesuid for phantom in made]


def write_named(scan: object, root: Path, number: int, **extra: object) -> list[Path]:
    return write_dicom_series(
        scan,  # type: ignore[arg-type]
        root / f"Gruenwald_Kunigunde_{number}" / "CT",
        patient_name=f"Gruenwald^Kunigunde{number}",
        patient_id=f"PID-778899-{number}",
        extra={**PLANTED, **extra},
    )


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the five commands were run in on CT."""
    place = tmp_path_factory.mktemp("ct")
    uids = write_ct_archive(place / "archive")
    (place / "uids.txt").write_text("\n".join(uids))
    work, log = place / "work", place / "log.txt"
    handler = logging.FileHandler(log)
    logging.getLogger().addHandler(handler)
    logging.getLogger("medkd").setLevel(logging.DEBUG)
    rows = place / "archive" / "annotations.csv"
    said = command("index", f"{place / 'archive'}", "--out", f"{work / 'index.csv'}",
                   "--annotations", f"{rows}")  # fmt: skip
    said += command("check", f"{work / 'index.csv'}")
    said += command("split", f"{work / 'index.csv'}", "--out", f"{work / 'split.json'}",
                    "--val", "0.3", "--test", "0.3")  # fmt: skip
    said += command(
        "train", "transfer/hospital_ct", "--out", f"{place / 'run'}",
        *settings(f"target.data.index={work / 'index.csv'}", CROPS,
                  f"target.split.path={work / 'split.json'}", "target.crops.mining.per_scan=2",
                  "detection.arms=[student]"),
    )  # fmt: skip
    said += command("detect", f"{place / 'run' / 'student'}", f"{work / 'index.csv'}",
                    "--out", f"{place / 'found'}")  # fmt: skip
    logging.getLogger().removeHandler(handler)
    (place / "said.txt").write_text(said)
    return place


def test_an_archive_with_faults_ends_in_a_student_and_a_report(ct: Path) -> None:
    run = RunFolder(ct / "run")
    evaluation = read_json(run.evaluation, Evaluation)
    assert [arm.name for arm in evaluation.arms] == ["teacher", "control", "student"]
    assert evaluation.trained_on_synthetic
    assert run.report.is_file()
    refused = [case for case in read_cases(run.cases) if case.status == "not_analysed"]
    reasons = " ".join(reason for case in refused for reason in case.reasons)
    for code in ("missing_slices", "not_chest", "slice_thickness", "localizer"):
        assert f"{code}: " in reasons
    assert "not_chest" in run.report.read_text()


def test_every_scan_has_a_result_refused_ones_with_their_reasons(ct: Path) -> None:
    said = (ct / "said.txt").read_text()
    assert "5 of 9 scans analysed" in said
    assert len(list((ct / "found").glob("c*.json"))) == 9


def test_no_planted_identity_leaves_the_private_folder(ct: Path) -> None:
    uids = (ct / "uids.txt").read_text().split()
    left = [place for place in (*(ct / "work").rglob("*"), *(ct / "run").rglob("*"),
                                *(ct / "found").rglob("*"), ct / "log.txt", ct / "said.txt")
            if place.is_file() and "index.private" not in place.parts]  # fmt: skip
    assert len(left) > 20
    assert words_in(left, [*STRINGS, *uids]) == set()
    # They were there to be found: in the archive's headers, and in what never leaves the site.
    headers = [next((ct / "archive").rglob("I*"))]
    assert words_in(headers, STRINGS) == set(STRINGS)
    private = [place for place in (ct / "work" / "index.private").iterdir() if place.is_file()]
    assert "PID-778899" in words_in(private, STRINGS)


def words_in(places: list[Path], words: list[str]) -> set[str]:
    """Return the words that stand in the names or bytes of files, in any case."""
    content = [(str(place) + "\n").encode() + place.read_bytes() for place in places]
    return {word for word in words if any(word.lower().encode() in c.lower() for c in content)}


def test_no_planted_identity_is_shown_by_the_app(ct: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in (ct / "run", ct / "work" / "index.csv"):
        opened = open_review(place)
        monkeypatch.setenv("MEDKD_REVIEW_PATH", str(opened.path))
        for case in read_worklist(opened)[:6]:
            page = AppTest.from_file(str(VIEWER / "app.py"), default_timeout=60).run()
            page.switch_page("case.py")
            page.query_params["case"] = case.case_id
            page.run()
            assert not page.exception
            shown = str(page.main) + str(page.sidebar)
            assert [word for word in STRINGS if word.lower() in shown.lower()] == []
            assert case.case_id in shown
    kept = [place for place in (ct / "work" / "index.review").iterdir() if place.is_file()]
    assert words_in(kept, STRINGS) == set()


def test_x_rays_with_a_label_table_end_in_a_student_and_a_report(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    with (tmp_path / "Data_Entry_2017.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["Image Index", "Finding Labels", "Follow-up #", "Patient ID",
                         "Patient Age", "Patient Gender", "View Position"])  # fmt: skip
        for number in range(48):
            name, sick = f"{number // 2 + 1:08d}_{number % 2:03d}.png", number // 2 % 2
            pixels = random.normal(100, 20, (64, 64))
            pixels[24:40, 24:40] += 70 * sick
            path = tmp_path / "images" / name
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
            writer.writerow([name, "Mass" if sick else "No Finding", number % 2,
                             number // 2 + 1, 50, "F", "PA"])  # fmt: skip
    index, split = tmp_path / "work" / "index.csv", tmp_path / "work" / "split.json"
    command("index", f"{tmp_path / 'images'}", "--out", f"{index}",
            "--labels", f"{tmp_path / 'Data_Entry_2017.csv'}")  # fmt: skip
    command("check", f"{index}")
    command("split", f"{index}", "--out", f"{split}")
    command(
        "train", "transfer/hospital_xray", "--out", f"{tmp_path / 'run'}",
        *settings(*TEACHER, f"target.data.index={index}", f"target.split.path={split}",
                  "target.data.positive=[Nodule, Mass]",
                  "target.loading=[{kind: image, source: file, size_px: [32, 32]}]",
                  "teacher.model={kind: shallow2d, channels: 8}",
                  "student.model={kind: shallow2d, channels: 4}"),
    )  # fmt: skip
    evaluation = read_json(tmp_path / "run" / "evaluation.json", Evaluation)
    assert (tmp_path / "run" / "report.html").is_file()
    assert evaluation.splits["test"]["patients"] >= 4
