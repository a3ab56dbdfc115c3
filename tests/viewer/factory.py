"""A small run to review: chest-like scans with marks, X-ray rows, a PNG, a refusal, numbers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from medkd.geometry import VoxelGrid
from medkd.io.luna16_tables import write_marks
from medkd.jsonio import write_json
from medkd.runs import Prediction, RunFolder, write_cases, write_predictions
from medkd.types import (
    ArmResult,
    Candidate,
    CaseResult,
    ClassificationResult,
    Estimate,
    Evaluation,
    FrocResult,
    Interval,
    OperatingPoint,
    PairedDifference,
    PointScores,
    RunCase,
    RunRecord,
)
from tests.spheres import sphere_mask

GRID = VoxelGrid.from_parts(
    (120, 100, 40), spacing_mm=(2.6, 2.6, 6.0), origin_mm=(-155, -130, -200)
)
NODULES = (((-70.0, 10.0, -80.0), 16.0), ((62.0, -20.0, -120.0), 22.0), ((75.0, 30.0, -50.0), 9.0))
SCORES = (0.93, 0.71, 0.22)
THRESHOLD = 0.4
EVIL = "<img src=x onerror=alert(1)> ![](http://example.org/x.png) :red[**name**]"


def write_review_run(path: Path) -> RunFolder:
    """Write a whole run with every kind of case that the viewer meets."""
    run = write_bare_run(path, build_cases())
    for name in ("scan-a", "scan-b", "scan-refused"):
        write_chest(path / "data" / f"{name}.mhd")
    marks = [
        Candidate("scan-a", center, score, diameter)
        for (center, diameter), score in zip(NODULES, SCORES, strict=True)
    ]
    write_marks(run.marks("student"), marks)
    write_json(run.result("student", "scan-a"), CaseResult("scan-a", tuple(marks), "analysed"))
    write_json(run.result("student", "scan-b"), CaseResult("scan-b", (), "analysed"))
    write_images(path / "data")
    for arm, shift in (("teacher", 0.03), ("control", -0.1), ("student", 0.0)):
        write_predictions(
            run.predictions(arm, "test"),
            [Prediction(f"xray-{row}", f"p{row}", f"xray-{row}", (row % 2,), (0.0,),
                        (0.2 + 0.5 * (row % 2) + shift,)) for row in range(3)],
        )  # fmt: skip
    write_json(run.evaluation, build_evaluation())
    run.report.write_text("<html>report</html>", encoding="utf-8")
    return run


def write_bare_run(path: Path, cases: list[RunCase]) -> RunFolder:
    """Write what makes a folder a RUN, and its worklist."""
    run = RunFolder(path)
    write_json(run.record, build_evaluation().record)
    write_cases(run.cases, cases)
    return run


def build_cases() -> list[RunCase]:
    """List the cases of the run."""
    scan = RunCase("scan-a", "p1", "scan", "data/scan-a.mhd", "test", None, None, 0.93, "analysed")
    image = RunCase("xray-1", "p1", "image", "data/chests.npz", "test", 1, 1, 0.7, "analysed")
    return [
        image,
        replace(image, case_id="xray-0", row=0, label=0, score=0.2),
        replace(image, case_id="chest-png", path="data/chest.png", row=None, score=None),
        scan,
        replace(scan, case_id="scan-b", path="data/scan-b.mhd", score=None),
        replace(scan, case_id="scan-gone", path="data/gone.mhd", score=0.5),
        replace(scan, case_id="scan-refused", path="data/scan-refused.mhd", score=None,
                status="not_analysed", reasons=("slices are missing: 3 gaps", EVIL)),
    ]  # fmt: skip


def write_chest(path: Path) -> None:
    """Write a chest-like CT: air, body, two lungs, spine, the three nodules."""
    x_mm, y_mm, _ = np.meshgrid(
        *(GRID.origin_mm[a] + GRID.spacing_mm[a] * np.arange(GRID.shape[a]) for a in range(3)),
        indexing="ij",
    )
    noise = np.random.default_rng(0).normal(0, 25, GRID.shape)
    voxels = np.full(GRID.shape, -1000.0)
    voxels[(x_mm / 145) ** 2 + (y_mm / 105) ** 2 < 1] = 40
    for side in (-70, 70):
        voxels[((x_mm - side) / 52) ** 2 + ((y_mm + 5) / 75) ** 2 < 1] = -850
    voxels[(x_mm / 18) ** 2 + ((y_mm - 70) / 18) ** 2 < 1] = 400
    for center_mm, diameter_mm in NODULES:
        voxels[sphere_mask(GRID, center_mm, diameter_mm)] = 30
    path.parent.mkdir(parents=True, exist_ok=True)
    content = np.clip(voxels + noise, -1024, 3000).astype("<i2")
    path.with_suffix(".raw").write_bytes(content.transpose(2, 1, 0).tobytes())
    numbers = {
        "Offset": GRID.origin_mm, "ElementSpacing": GRID.spacing_mm, "DimSize": GRID.shape,
    }  # fmt: skip
    lines = [
        "ObjectType = Image",
        "NDims = 3",
        "BinaryData = True",
        "BinaryDataByteOrderMSB = False",
    ]
    lines += [f"{name} = {' '.join(str(v) for v in values)}" for name, values in numbers.items()]
    lines += ["TransformMatrix = 1 0 0 0 1 0 0 0 1", "ElementType = MET_SHORT"]
    lines += [f"ElementDataFile = {path.stem}.raw"]
    path.write_text("\n".join(lines) + "\n")


def write_images(folder: Path) -> None:
    """Write a MedMNIST file of 28 x 28 images and a PNG."""
    rows, columns = np.mgrid[0:28, 0:28] / 27.0
    chest = 60 + 150 * np.abs(columns - 0.5) * (1 - 0.4 * rows)
    images = np.stack([chest, chest + 40 * rows, chest * 0.8]).astype(np.uint8)
    labels = np.array([[0], [1], [0]], dtype=np.uint8)
    parts = {f"{split}_images": images for split in ("train", "val", "test")}
    parts |= {f"{split}_labels": labels for split in ("train", "val", "test")}
    np.savez(folder / "chests.npz", **parts)
    Image.fromarray(images[1]).resize((90, 120)).save(folder / "chest.png")


def estimate(value: float) -> Estimate:
    """Build a number with an interval."""
    return Estimate(value, Interval(value - 0.05, min(value + 0.05, 1.0), unit="series"))


def build_point(sensitivity: float) -> PointScores:
    """Build the scores at the operating point."""
    return PointScores(
        THRESHOLD, 80, 20, 20, 80, estimate(sensitivity), estimate(0.89), estimate(0.84),
        specificity=estimate(0.8), accuracy=estimate(0.85), fp_per_scan=1.25,
    )  # fmt: skip


def build_arm(name: str, quality: float) -> ArmResult:
    """Build the result of one arm; a higher quality bends its curves further up."""
    point = OperatingPoint(THRESHOLD, "youden", sensitivity=0.8, specificity=0.9)
    scores = build_point(0.7 + quality / 50)
    grid = np.linspace(0, 1, 30)
    roc = tuple((float(x), float(x ** (1 / quality))) for x in grid)
    classification = ClassificationResult(
        "test", 200, 100, 180, estimate(0.8 + quality / 50), estimate(0.8), estimate(0.1), 0.05,
        scores, scores, point, roc_curve=roc,
    )  # fmt: skip
    rates = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
    sensitivity = tuple(min(0.4 + 0.1 * i + quality / 100, 1.0) for i in range(7))
    froc = FrocResult(
        "candidates", 20, 34, 60, 30, 25, 4, 1, 0, 0.7312, 0.7288,
        dict(zip([f"{r:g}" for r in rates], sensitivity, strict=True)), (0.0, *rates),
        (0.3, *sensitivity), (0.95, *np.linspace(0.9, 0.1, 7)), estimate(0.73).interval,
        at_operating_point=replace(scores, true_negatives=None, specificity=None, accuracy=None),
        warnings=("1 mark in two nodules counts for both",),
    )  # fmt: skip
    whole = replace(froc, track="whole-scan", cpm_interpolated=0.65, cpm_nearest=0.64)
    return ArmResult(
        name, "compact3d", "random", "phantom b", {"test": (classification,)}, (froc, whole)
    )


def build_evaluation(*, synthetic: bool = True) -> Evaluation:
    """Build a run's evaluation with three arms."""
    record = RunRecord(
        "medkd demo", "2026-01-01T00:00:00+00:00", 1.0, 0, "0.1.0", "3.11", "Linux", "cpu", 2,
        "cpu", True, {}, None, None, "0" * 64,
    )  # fmt: skip
    arms = (build_arm("teacher", 8), build_arm("control", 3), build_arm("student", 5))
    return Evaluation(
        "example", "phantom b", "phantom a", "phantom b", synthetic, arms,
        (PairedDifference("student", "control", "roc_auc", Estimate(0.02, Interval(-0.01, 0.05)),
                          0.21, True),),
        (), (), False, {"test": {"cases": 20}}, ("the prevalence of val and test differ",), record,
    )  # fmt: skip
