"""Archives with files that cannot be read: counted, named, and never a shorter series."""

from __future__ import annotations

import csv
import json
import os
import shutil
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from pydicom.dataset import Dataset
from typer.testing import CliRunner

from medkd.archive.unreadable import unreadable_in
from medkd.cli import app
from medkd.errors import SettingsError
from medkd.geometry import VoxelGrid
from medkd.index.case import Case
from medkd.index.case_store import open_image, open_scan
from medkd.index.pseudonyms import LinkTable, private_folder_of
from medkd.index.table import read_index, read_indexed_files
from tests.archive.archives import index_of, write_picture
from tests.io.dicom_helper import SERIESUID, write_ct_series

SLICES = 24
GATE = {"allow": ["lungs_not_in_view"]}


def write_series(folder: Path, **values: object) -> list[Path]:
    """Write a small chest CT; its files sort like their slices."""
    grid = VoxelGrid((16, 16, SLICES), np.diag([1.0, 1.0, 2.0, 1.0]))

    def edit(dataset: Dataset, k: int) -> None:
        dataset.InstanceNumber, dataset.BodyPartExamined = k + 1, "CHEST"
        for name, value in values.items():
            setattr(dataset, name, value)

    voxels = np.random.default_rng(1).integers(-900, -700, grid.shape).astype(np.int16)
    paths = write_ct_series(folder, voxels, grid, edit=edit)
    renamed = [folder / f"IM{k:04d}" for k in range(SLICES)]
    return [path.rename(name) for path, name in zip(paths, renamed, strict=True)]


def only_case(root: Path, tmp_path: Path, **settings: object) -> Case:
    settings = {"identity": "keep", "gate": GATE, **settings}
    (case,) = index_of(root, tmp_path / "work" / "index.csv", **settings).cases
    return case


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def counts(tmp_path: Path) -> dict[str, int]:
    return {c.code: c.files for c in unreadable_in(tmp_path / "work" / "index.csv")}


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(5000))


def cut_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300])


def cut_pixels(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def to_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent / "annex" / "gone")


SPOILT: tuple[Callable[[Path], None], ...] = (empty, garbage, cut_header, cut_pixels, to_nowhere)


@pytest.mark.parametrize("spoil", SPOILT)
@pytest.mark.parametrize("place", [0, -1])
def test_a_slice_that_cannot_be_read_refuses_its_series_by_name(
    tmp_path: Path, spoil: Callable[[Path], None], place: int
) -> None:
    paths = write_series(tmp_path / "a")
    spoil(paths[place])
    case = only_case(tmp_path / "a", tmp_path)
    assert case.status == "not_analysed"
    assert any(paths[place].name in reason for reason in case.reasons)


def test_a_mended_slice_makes_its_series_ready_again(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "a")
    whole = paths[-1].read_bytes()
    paths[-1].write_bytes(b"")
    assert only_case(tmp_path / "a", tmp_path).status == "not_analysed"
    paths[-1].write_bytes(whole)
    assert only_case(tmp_path / "a", tmp_path).status == "ready"


def test_a_damaged_slice_in_a_zip_archive_refuses_its_series(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "in" / "cd.zip", "w") as archive:
        for k, path in enumerate(write_series(tmp_path / "a")):
            archive.writestr(f"p/{path.name}", b"" if k == SLICES - 1 else path.read_bytes())
    assert "IM0023" in only_case(tmp_path / "in", tmp_path).reasons[0]


def test_other_files_beside_a_series_do_no_harm(tmp_path: Path) -> None:
    write_series(tmp_path / "a")
    (tmp_path / "a" / "README").write_text("exported")
    (tmp_path / "a" / "._IM0024").write_bytes(b"\0\x05\x16\x07" + bytes(99))
    (tmp_path / "a" / ".IM0024.part").write_bytes(b"half")
    (tmp_path / "a" / "mask.nii.gz").write_bytes(b"")
    write_picture(tmp_path / "a" / "preview.png")
    index = index_of(tmp_path / "a", tmp_path / "work" / "index.csv", identity="keep", gate=GATE)
    assert [c.status for c in index.cases if c.kind == "scan"] == ["ready"]
    assert counts(tmp_path) == {"empty_file": 1}


def test_a_pseudonymised_index_names_a_damaged_slice_by_its_label(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "Mustermann")
    garbage(paths[-1])
    case = only_case(tmp_path, tmp_path, identity="pseudonymise")
    assert case.status == "not_analysed"
    assert all("IM0023" not in reason and "Muster" not in reason for reason in case.reasons)


def test_what_cannot_be_read_is_counted_in_the_last_lines_and_in_check(tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "work" / "index.csv"
    write_series(root / "a")
    for number, spoil in enumerate((empty, garbage, cut_header)):
        (root / "b").mkdir(exist_ok=True)
        path = root / "b" / f"{number}.dcm"
        path.write_bytes((root / "a" / "IM0000").read_bytes())
        spoil(path)
    (root / "cut.zip").write_bytes(b"PK\x03\x04 and no more")
    (root / "link").symlink_to(root / "nowhere")
    garbage(root / "garbage")
    made = run("index", root, "--out", out, "--identity", "keep", "--workers", "1")
    expected = {"empty_file": 1, "damaged_dicom": 1, "damaged_file": 1, "damaged_zip": 1,
                "missing_file": 1, "unknown_file": 1}  # fmt: skip
    assert counts(tmp_path) == expected
    assert made.output.count("could not be read: 1 ") == 6
    assert "empty files: b/0.dcm" in made.output
    checked = run("check", out, "--json", tmp_path / "check.json")
    assert "1 empty files: b/0.dcm" in checked.output
    content = json.loads((tmp_path / "check.json").read_text())
    assert {u["code"]: u["files"] for u in content["unreadable"]} == expected


def locked(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Lock a folder: modes do not bind root."""
    scandir = os.scandir

    def scan(path: str) -> object:
        if Path(path).name == name:
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)


def test_a_folder_without_permission_makes_the_index_unusable_unless_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = tmp_path / "in", tmp_path / "work" / "index.csv"
    write_picture(root / "film.png")
    (root / "locked").mkdir()
    locked(monkeypatch, "locked")
    words = ("index", root, "--out", out, "--identity", "keep", "--workers", "1")
    made = run(*words)
    assert "1 folders that cannot be entered: locked" in made.output
    assert "--allow unreadable_folder" in made.output
    refused = run("check", out)
    assert (refused.exit_code, "NOT usable: unreadable_folder" in refused.output) == (1, True)
    run(*words, "--allow", "unreadable_folder")
    accepted = run("check", out)
    assert (accepted.exit_code, "cannot be entered: locked" in accepted.output) == (0, True)
    record = json.loads(out.with_suffix(".json").read_text())
    assert record["settings"]["allow_archive"] == ["unreadable_folder"]


def test_permission_that_is_given_later_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write_series(tmp_path / "a")
    opened = Path.open

    def refuse(path: Path, *args: str, **options: str) -> object:
        if path == paths[-1]:
            raise PermissionError(13, "Permission denied")
        return opened(path, *args, **options)  # type: ignore[call-overload]  # as it was given

    import medkd.archive.find as finding

    monkeypatch.setattr(finding, "SafePool", InProcess)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        case = only_case(tmp_path / "a", tmp_path)
    assert "IM0023" in case.reasons[0]
    assert counts(tmp_path) == {"no_permission": 1}
    assert only_case(tmp_path / "a", tmp_path).status == "ready"


class InProcess:
    """Stands for `SafePool` without processes, so that a patch reaches the work."""

    def __init__(self, function: Callable[[object], object], workers: int) -> None:
        self._function = function

    def run(self, tasks: list[object]) -> object:
        return ((task, self._function(task)) for task in tasks)


def medkd(*words: str | Path, within: Sequence[str] = (), **environment: str) -> tuple[int, str]:
    """Run the command line in a process of its own; return its exit code and all it printed."""
    command = [*within, sys.executable, "-c", "from medkd.cli import main; main()"]
    done = subprocess.run(  # noqa: S603  # our own interpreter
        [*command, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
    )  # fmt: skip
    return done.returncode, done.stdout.decode("latin-1")


@pytest.mark.skipif(
    os.geteuid() == 0 and shutil.which("setpriv") is None,
    reason="root reads everything, and there is no setpriv to give up this right",
)
def test_a_user_without_rights_is_told_of_folders_and_files(tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "work" / "index.csv"
    write_picture(root / "film.png")
    for name in ("a", "b"):
        write_picture(root / name / "film.png", 3)
    (root / "a").chmod(0)
    (root / "b" / "film.png").chmod(0)
    write_picture(root / "listed" / "film.png", 4)
    (root / "listed").chmod(0o400)
    bound = (
        ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    )
    code, text = medkd("index", root, "--out", out, within=bound)
    (root / "a").chmod(0o700)
    (root / "listed").chmod(0o700)
    assert code == 0, text
    assert "2 folders that cannot be entered" in text
    assert "1 files without permission to read them" in text


def test_an_empty_folder_is_refused_and_leaves_an_older_index_as_it_was(tmp_path: Path) -> None:
    root, out = tmp_path / "disk", tmp_path / "work" / "index.csv"
    write_picture(root / "film.png")
    index_of(root, out)
    before = read_index(out)
    (root / "film.png").unlink()  # or: the disk is no longer mounted there
    with pytest.raises(SettingsError, match="nothing to index") as refused:
        index_of(root, out)
    assert "mounted" in refused.value.reasons[0]
    assert read_index(out) == before


def test_a_folder_without_any_case_ends_with_one_and_says_what_its_files_are(
    tmp_path: Path,
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "letter.txt").write_text("dear")
    out = tmp_path / "work" / "index.csv"
    made = run("index", tmp_path / "in", "--out", out)
    assert made.exit_code == 1
    assert "index.files.csv lists all files" in str(made.exception)
    assert [f.became for f in read_indexed_files(out)] == ["other"]
    checked = run("check", out)
    assert (checked.exit_code, "NOT usable: nothing_found" in checked.output) == (1, True)


def test_sockets_pipes_and_links_to_themselves_are_listed(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_picture(root / "film.png")
    os.mkfifo(root / "IM0001")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(root / "s"))
        (root / "self").symlink_to(root / "self")
        (root / "up").symlink_to(root.parent)
        index_of(root, tmp_path / "index.csv", identity="keep")
    found = {f.file: f.became for f in read_indexed_files(tmp_path / "index.csv")}
    assert found["IM0001"] == found["s"] == "other"
    assert found["self"] == "unreadable"


def latin(folder: Path, name: bytes) -> Path:
    return Path(os.fsdecode(os.fsencode(folder) + b"/" + name))


@pytest.mark.parametrize("identity", ["keep", "pseudonymise"])
@pytest.mark.parametrize("site", ["folder", "institution"])
def test_names_that_are_no_utf8_are_escaped_everywhere_and_still_open(
    tmp_path: Path, identity: str, site: str
) -> None:
    root, out = tmp_path / "in", tmp_path / "work" / "index.csv"
    write_series(latin(root, b"M\xfcller"))
    spoilt = write_series(latin(root, b"sp\xe4t"), SeriesInstanceUID=f"{SERIESUID}.2")
    spoilt[3].rename(latin(spoilt[3].parent, b"IM\xe9"))
    garbage(spoilt[-1])
    write_picture(latin(root, b"f\xefm.png"))
    latin(root, b"zwei\nzeilen \xff.txt").write_text("text")
    source = latin(tmp_path, b"\xe4.csv")
    source.write_text("file,finding\nx.png,1\n")
    annotations = [{"kind": "table", "path": str(source), "key": "file",
                    "labels": {"mass": "finding"}}]  # fmt: skip
    index = index_of(root, out, identity=identity, site=site, gate=GATE, annotations=annotations)
    ready = [case for case in index.cases if case.status == "ready"]
    assert sorted(case.kind for case in ready) == ["image", "scan"]
    for case in ready:
        read = open_scan if case.kind == "scan" else open_image
        assert read(out, case.case_id) is not None
    texts = [p.read_bytes().decode("utf-8") for p in out.parent.iterdir() if p.is_file()]
    assert read_index(out) == index
    if identity == "keep":
        files = {row["file"] for row in csv.DictReader(texts_of(out))}
        assert {"f\\xefm.png", "M\\xfcller/IM0000", "zwei\\x0azeilen \\xff.txt"} <= files
        assert any("sp\\xe4t/IM0023" in r for case in index.cases for r in case.reasons)
    else:
        assert not any("xfcller" in text for text in texts)
        links = LinkTable(private_folder_of(out))
        found = [links.look_up(f.file, who="a", why="b") for f in read_indexed_files(out)]
        assert "M\\xfcller/IM0000" in {link.value for of_file in found for link in of_file}


def texts_of(out: Path) -> list[str]:
    return out.with_name("index.files.csv").read_text(encoding="utf-8").splitlines()


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C"}, {"PYTHONIOENCODING": "latin-1"},
     {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
)  # fmt: skip
def test_odd_names_are_printed_on_any_terminal(tmp_path: Path, environment: dict[str, str]) -> None:
    write_picture(latin(tmp_path / "in", b"\xfc\xc3\xbc.png"))
    latin(tmp_path / "in", b"leer\xfc\xe2\x80\x94.dcm").write_bytes(b"")
    out = tmp_path / "work" / "index.csv"
    for words in (["index", tmp_path / "in", "--out", out, "--identity", "keep"], ["check", out]):
        code, text = medkd(*words, **environment)
        assert (code, "Traceback" in text) == (0, False), text
        assert "leer\\xfc" in text
