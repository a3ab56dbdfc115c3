"""The house stands as the README says: imports go down, rooms keep apart, modules stay small."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "medkd"

FLOORS: dict[str, int] = {
    "__init__": 0, "__main__": 10, "geometry": 0, "types": 0, "errors": 0, "settings": 0,
    "files": 0, "jsonio": 0, "processes": 0, "unfinished": 0, "yaml_data": 0, "provenance": 0,
    "runs": 0, "formats": 0,
    "io": 1, "lungs": 1, "evaluate": 1,
    "index": 2, "difficulty": 2,
    "archive": 3, "data": 3, "models": 3, "transfer": 3,
    "synthetic": 4, "detect": 4,
    "config": 5, "explain": 5,
    "train": 6, "acceptance": 6,
    "report": 7, "review": 7,
    "cli": 9,
}  # fmt: skip

CONFINED = {
    "monai": {"data", "models", "detect"},
    "highdicom": {"io"},
    "nibabel": set(),  # of MONAI and of tests: medkd counts a volume's bytes itself
    "pydicom": {"io"},
    "SimpleITK": set(),
    "streamlit": set(),
    "accelerate": {"train"},
    "sqlalchemy": {"review"},
    "sqlite3": {"archive", "index", "io"},
    "typer": {"cli"},
    "torch": {
        "data",
        "synthetic",
        "models",
        "transfer",
        "detect",
        "explain",
        "train",
        "evaluate.efficiency",
        "types",
    },
}
"""Third-party package to the rooms (or one module) of medkd that may import it."""

APP_MAY_IMPORT = {
    "geometry", "types", "errors", "files", "formats", "jsonio", "runs", "provenance", "io",
    "evaluate", "index", "lungs", "report", "review", "models.package",
}  # fmt: skip

MAX_MODULE_LINES = 500
MAX_FUNCTION_LINES = 60
P90_FUNCTION_LINES = 40


def modules(folder: Path) -> list[Path]:
    return sorted(
        p for p in folder.rglob("*.py") if not p.parts[len(folder.parts)].startswith("_v")
    )


def imports_of(path: Path) -> Iterator[str]:
    """Yield every imported module, those inside functions too, but not under TYPE_CHECKING."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def upward_imports() -> list[str]:
    faults = []
    for path in modules(PACKAGE):
        room = room_of(path)
        for name in imports_of(path):
            if not name.startswith("medkd."):
                continue
            other = name.split(".")[1]
            if other not in FLOORS or other == room:
                continue
            same_floor_room = FLOORS[other] == FLOORS[room] and FLOORS[room] != 0
            if FLOORS[other] > FLOORS[room] or same_floor_room:
                faults.append(f"{dotted(path)} imports {name}")
    return faults


def test_every_room_stands_in_the_floor_table() -> None:
    assert {room_of(path) for path in modules(PACKAGE)} <= set(FLOORS)


def test_the_table_of_the_readme_is_the_one_that_is_checked() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) \| ((?:`\w+` ?)+) \|", readme, re.M)
    shown = {name: int(floor) for floor, names in rows for name in re.findall(r"`(\w+)`", names)}
    assert shown == {name: floor for name, floor in FLOORS.items() if name[0] != "_"}


def test_imports_go_downwards_only() -> None:
    assert upward_imports() == []


@pytest.mark.parametrize("package", CONFINED)
def test_third_party_packages_stay_in_their_rooms(package: str) -> None:
    strangers = [
        dotted(path)
        for path in modules(PACKAGE)
        if any(name.split(".")[0] == package for name in imports_of(path))
        and room_of(path) not in CONFINED[package]
        and dotted(path) not in CONFINED[package]
    ]
    assert strangers == []


def test_monai_is_never_imported_at_module_level() -> None:
    """It takes seconds; only functions that use it may import it."""
    at_top = []
    for path in modules(PACKAGE):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == "monai" for name in names):
                at_top.append(dotted(path))
    assert at_top == []


def test_the_app_imports_only_what_draws() -> None:
    faults = []
    for path in modules(ROOT / "apps"):
        for name in imports_of(path):
            parts = name.split(".")
            if parts[0] == "medkd" and len(parts) > 1:
                allowed = parts[1] in APP_MAY_IMPORT or ".".join(parts[1:3]) in APP_MAY_IMPORT
                faults += [] if allowed else [f"{path.name} imports {name}"]
    assert faults == []


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{path.name}:{node.name}", (node.end_lineno or node.lineno) - node.lineno + 1


def test_modules_and_functions_stay_small() -> None:
    sources = modules(PACKAGE) + modules(ROOT / "apps")
    lines = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in sources}
    sizes = dict(pair for path in sources for pair in functions(path))
    ordered = sorted(sizes.values())
    p90 = ordered[int(0.9 * (len(ordered) - 1))]
    print(f"{len(lines)} modules, longest {max(lines.values())} lines; "  # noqa: T201  # gate's table
          f"{len(sizes)} functions, longest {ordered[-1]}, p90 {p90}")  # fmt: skip
    assert {k: n for k, n in lines.items() if n > MAX_MODULE_LINES} == {}
    assert {k: n for k, n in sizes.items() if n > MAX_FUNCTION_LINES} == {}
    assert p90 <= P90_FUNCTION_LINES


def test_a_planted_upward_import_would_be_found(tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text("def f():\n    from medkd.train.loop import fit\n")
    assert list(imports_of(planted)) == ["medkd.train.loop.fit"]
    assert FLOORS["train"] > FLOORS["io"]


def test_the_top_level_holds_what_was_fixed() -> None:
    allowed = {"pyproject.toml", "medkd", "apps", "configs", "tests", "README.md", "LICENSE"}
    visible = {p.name for p in ROOT.iterdir() if not p.name.startswith(".")}
    untracked = {"build", "dist", "runs", "medkd-demo", "htmlcov"}
    assert visible - untracked == allowed
