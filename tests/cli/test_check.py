"""`medkd check` reports the shortcuts of two real sets: size of nodules, and view of X-rays."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from medkd.archive.brightness import BRIGHT, bright_share
from medkd.cli import app
from medkd.evaluate.intervals import LabelledSamples
from medkd.evaluate.separation import measure_separation
from medkd.index.case import Case
from medkd.index.table import ArchiveIndex, CaseLabel, write_index
from tests.real_data import data_root

CONFIG = """
identity: keep
annotations:
  - {kind: table, path: labels.csv, key: file, labels: {malignant: malignant}, patient: exam}
"""


def run(*words: str | Path) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code in (0, 1), result.output
    return result.output


def checked(index: Path, *words: str) -> tuple[dict[str, Any], str]:
    """Check an INDEX; return the JSON and what is printed."""
    place = index.with_name("check.json")
    printed = run("check", index, "--json", place, *words)
    return json.loads(place.read_text(encoding="utf-8")), printed


def shortcuts(found: dict[str, Any]) -> dict[str, list[str]]:
    """Return the labels that each number predicts, by the name of the number."""
    numbers: dict[str, list[str]] = {}
    for one in found["numbers"]:
        if one["is_shortcut"]:
            numbers.setdefault(one["number"], []).append(one["label"])
    return numbers


def largest_slices() -> list[tuple[dict[str, str], np.ndarray]]:
    """Read the largest slice of each of 677 real nodules, cut out on black, and its row."""
    folder = data_root() / "nodules2d"
    images = np.load(folder / "slices.npz")["images"]
    largest: dict[str, tuple[int, dict[str, str]]] = {}
    with (folder / "index.csv").open(encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            area = int((images[int(row["row"])] > 0).sum())
            name = f"{row['exam_id']}-{row['nodule_id']}"
            if area > largest.get(name, (0, row))[0]:
                largest[name] = area, row
    return [(row, images[int(row["row"])]) for _, row in largest.values()]


def index_nodules(folder: Path, *, side: int) -> Path:
    """Write the middle of the slices as PNG with a table of labels, and index them."""
    (folder / "png").mkdir()
    low = (64 - side) // 2
    rows = ["file,exam,malignant"]
    for row, pixels in largest_slices():
        name = f"{row['row']}.png"
        Image.fromarray(pixels[low : low + side, low : low + side]).save(folder / "png" / name)
        rows.append(f"{name},{row['exam_id']},{row['label']}")
    (folder / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    (folder / "set.yaml").write_text(CONFIG, encoding="utf-8")
    index = folder / "index.csv"
    run("index", folder / "png", "--out", index, "--config", folder / "set.yaml", "--workers", "1")
    return index


def test_an_index_with_few_cases_says_that_nothing_was_compared(tmp_path: Path) -> None:
    cases = (Case("a", "p1", "image", view="AP"), Case("b", "p2", "image", view="PA"))
    labels = (CaseLabel("a", "mass", 1, "t"), CaseLabel("b", "mass", 0, "t"))
    write_index(tmp_path / "index.csv", ArchiveIndex(cases, labels=labels))

    found, printed = checked(tmp_path / "index.csv", "--images", "0")

    assert found["numbers"] == []
    assert "compared with the labels: none: too few cases with and without a label" in printed


def test_the_bright_share_of_real_nodules_has_the_known_auc_of_their_area() -> None:
    rows = largest_slices()
    values = [bright_share(pixels / np.float32(255)) for _, pixels in rows]
    labels = [int(row["label"]) for row, _ in rows]
    samples = LabelledSamples(labels, [row["exam_id"] for row, _ in rows])

    found = measure_separation(values, samples)

    assert found is not None
    # The largest area has .882 on the whole set and .887 on these three quarters of it.
    assert found.auc == pytest.approx(0.885, abs=0.005)


@pytest.mark.slow
def test_the_size_of_real_nodules_is_reported_as_a_shortcut(tmp_path: Path) -> None:
    found, printed = checked(index_nodules(tmp_path, side=24))

    assert shortcuts(found) == {BRIGHT: ["malignant"]}
    assert f"shortcut: in images, {BRIGHT} alone predicts malignant (AUC 0.8" in printed
    assert "on 500 of 677 labelled radiographs" in printed
    assert found["usable"] is True  # a warning refuses nothing


@pytest.mark.slow
def test_small_nodules_that_the_index_refuses_are_reported_too(tmp_path: Path) -> None:
    """On 64 x 64 pixels most benign nodules are so small that their image has no contrast."""
    found, printed = checked(index_nodules(tmp_path, side=64))

    assert shortcuts(found) == {"status": ["malignant"], BRIGHT: ["malignant"]}
    assert "status alone predicts malignant (AUC 0.82" in printed
    assert "present: not analysed 10 %, ready 69 %" in printed


@pytest.mark.slow
def test_the_view_of_real_x_rays_is_reported_as_a_shortcut_to_nodules(tmp_path: Path) -> None:
    root, index = data_root() / "nih1000", tmp_path / "index.csv"
    run("index", root / "NIH1000", "--out", index, "--identity", "keep", "--workers", "1",
        "--labels", root / "Data_Entry_2017_v2020.csv.gz")  # fmt: skip
    found, printed = checked(index)

    assert "Nodule" in shortcuts(found)["view"]
    # 35 of 39 nodules and 602 of 961 others are PA: (35/39 + 359/961) / 2 = .635
    assert "Nodule (AUC 0.64, 95 % interval by patient 0.57 to 0.69; present: PA 5 %" in printed
    assert f"numbers that were compared with the labels: view, {BRIGHT}\n" in printed
