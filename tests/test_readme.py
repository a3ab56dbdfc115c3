"""The README keeps its word: commands exist, tables come from stored rows."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer.main

from medkd.cli import app
from medkd.jsonio import read_json
from medkd.train.bench_record import BenchRecord, bench_markdown
from medkd.train.label_map import LabelMap, map_markdown
from tests.bench.phantom_difficulty.score import Result
from tests.bench.tables import (
    implant_markdown,
    opening_markdown,
    phantom_markdown,
    phantom_scans_markdown,
    real_nodules_markdown,
    real_scans_markdown,
    scrolling_markdown,
)
from tests.bench.transfer_tables import (
    stored_views_markdown,
    target_speed_markdown,
    torchdistill_markdown,
)

WRITERS = {
    "pneumoniamnist.json": lambda path: bench_markdown(read_json(path, BenchRecord)),
    "phantom_difficulty.json": lambda path: phantom_markdown(read_json(path, Result)),
    "implant_realism.json": lambda path: implant_markdown(json.loads(path.read_text())),
    "real_scans.json": lambda path: real_scans_markdown(json.loads(path.read_text())),
    "phantom_scans.json": lambda path: phantom_scans_markdown(json.loads(path.read_text())),
    "real_nodules.json": lambda path: real_nodules_markdown(json.loads(path.read_text())),
    "few_labels_xray.json": lambda path: map_markdown(read_json(path, LabelMap)),
    "few_labels_xray_20k.json": lambda path: map_markdown(read_json(path, LabelMap)),
    "few_labels_xray_320k.json": lambda path: map_markdown(read_json(path, LabelMap)),
    "few_labels_ct.json": lambda path: map_markdown(read_json(path, LabelMap)),
    "few_labels_ct3d.json": lambda path: map_markdown(read_json(path, LabelMap)),
    "source_to_site.json": lambda path: bench_markdown(read_json(path, BenchRecord)),
    "stored_views.json": lambda path: stored_views_markdown(json.loads(path.read_text())),
    "target_speed.json": lambda path: target_speed_markdown(json.loads(path.read_text())),
    "torchdistill.json": lambda path: torchdistill_markdown(json.loads(path.read_text())),
    "viewer_speed.json": lambda path: scrolling_markdown(path.parent),
    "worklist_speed_results.json": lambda path: opening_markdown(path.parent),
}
"""How each stored result becomes the table of `tests/bench/README.md`."""

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = ROOT / "tests" / "bench" / "results"

CHANGELOG = (ROOT / "medkd" / "CHANGELOG.md").read_text(encoding="utf-8")
BENCHES = (ROOT / "tests" / "bench" / "README.md").read_text(encoding="utf-8")
GENERATED = re.findall(r"<!-- rows: (\S+) -->\n(.*?)\n<!-- end of rows -->", BENCHES, re.S)


def commands() -> dict[str, object]:
    return dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def test_every_command_of_the_readme_exists() -> None:
    named = set(re.findall(r"(?:`|^|bin/)medkd ([a-z]+)", README, re.M))
    assert named
    assert named <= set(commands())


def test_every_command_has_help_with_an_example() -> None:
    groups = list(commands().values())
    leaves = [leaf for c in groups for leaf in getattr(c, "commands", {"": c}).values()]
    without = [leaf.name for leaf in leaves if "Example" not in (leaf.help or "")]
    assert len(leaves) >= len(groups)
    assert without == []


@pytest.mark.parametrize(("name", "shown"), GENERATED, ids=[name for name, _ in GENERATED])
def test_a_results_table_is_the_one_its_stored_rows_give(name: str, shown: str) -> None:
    assert shown.strip() == WRITERS[name](RESULTS / name).strip()


def test_every_stored_table_is_shown() -> None:
    assert {name for name, _ in GENERATED} == set(WRITERS)


def test_the_result_table_of_the_readme_is_the_one_its_stored_rows_give() -> None:
    ((name, shown),) = re.findall(
        r"<!-- table: (\S+) -->\n(.*?)\n<!-- end of table -->", README, re.S
    )
    assert shown.strip() == WRITERS[name](RESULTS / name).strip()


def test_the_readme_is_short() -> None:
    assert len(README.split()) <= 1800


def test_both_commands_for_a_fresh_machine_stand_there_once() -> None:
    assert len(re.findall(r"^```sh ci demo$", README, re.M)) == 1
    assert len(re.findall(r"^```sh ci test$", README, re.M)) == 1


def test_the_new_paths_of_the_changelog_exist() -> None:
    moved = CHANGELOG.split("### Moved", 1)[1].split("###", 1)[0]
    new = [row.split("|")[2] for row in moved.splitlines() if row.startswith("| `")]
    paths = re.findall(r"`(medkd(?:\.\w+)+)`", "".join(new))
    missing = [path for path in paths if find_spec(path) is None]
    assert len(paths) > 40
    assert missing == []
