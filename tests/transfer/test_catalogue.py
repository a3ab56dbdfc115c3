"""The tables of `medkd/transfer/README.md` name only terms, keys and tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import get_args

import pytest

from medkd.config.keys import sections_of, settings_in
from medkd.config.run_settings import RunSettings
from medkd.settings import Settings
from medkd.transfer.table import TERMS

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "medkd" / "transfer" / "README.md").read_text(encoding="utf-8")
ITEMS = [row for row in re.findall(r"^\| (.+) \|$", TEXT, re.M) if re.match(r"\d+ \|", row)]
ERRORS = [row for row in re.findall(r"^\| (.+) \|$", TEXT, re.M) if re.match(r"E\d+ \|", row)]


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.split("|")]


def is_key(path: str) -> bool:
    """Whether a dotted path leads to a key of a run's configuration."""
    kinds: list[type[Settings]] = [RunSettings]
    for name in path.split("."):
        fields = [
            info
            for kind in kinds
            for key, info in kind.model_fields.items()
            if name == (info.alias or key)
        ]
        if not fields:
            return False
        kinds = [inner for info in fields for inner in settings_in(info.annotation)]
    return True


def known_kinds() -> set[str]:
    fields = [s.model_fields.get("kind") for s in sections_of(RunSettings)]
    return {value for field in fields if field for value in get_args(field.annotation)}


def named_tests() -> list[str]:
    return sorted(set(re.findall(r"`([\w/]+\.py::\w+)`", TEXT)))


def test_every_numbered_item_and_error_has_its_row() -> None:
    assert [cells(row)[0] for row in ITEMS] == [str(n) for n in range(1, 53)]
    assert [cells(row)[0] for row in ERRORS] == [f"E{n}" for n in range(1, 28)]


@pytest.mark.parametrize("row", ITEMS, ids=lambda row: cells(row)[1])
def test_an_item_names_keys_that_exist(row: str) -> None:
    _, _, state, keys, reason = cells(row)
    named = re.findall(r"`([^`]+)`", keys)
    kinds = [key.removeprefix("kind: ") for key in named if key.startswith("kind: ")]

    assert state in {"here", "part", "later", "left out"}
    assert set(kinds) <= known_kinds()
    assert [k for k in named if not k.startswith("kind: ") and not is_key(k)] == []
    assert bool(named) is (state in {"here", "part"})
    assert "::" in reason or state in {"later", "left out"}
    assert state != "part" or "later" in reason or "left out" in reason


@pytest.mark.parametrize("row", ERRORS, ids=lambda row: cells(row)[0])
def test_an_error_has_a_test_or_a_reason(row: str) -> None:
    assert "::" in cells(row)[2] or cells(row)[2].startswith("no test: ")


def test_every_named_test_exists() -> None:
    absent = []
    for name in named_tests():
        file, function = name.split("::")
        path = ROOT / "tests" / file
        tree = ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else ast.parse("")
        defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        absent += [] if function in defined else [name]

    assert len(named_tests()) > 50
    assert absent == []


def test_the_table_of_terms_lists_every_term_once() -> None:
    rows = TEXT.partition("## Which term")[2].partition("\n\nSeveral layers")[0]
    listed = [
        kind
        for row in re.findall(r"^\| (`.+?) \|", rows, re.M)
        for kind in re.findall(r"`(\w+)`", row)
    ]

    assert sorted(listed) == sorted(TERMS)


def test_a_key_or_kind_that_does_not_exist_would_be_found() -> None:
    assert is_key("student.training.ema_decay")
    assert not is_key("student.training.ema_decays")
    assert "relations" not in known_kinds()
