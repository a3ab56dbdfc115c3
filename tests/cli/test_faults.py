"""What ends a command from outside: one line with path and remedy, and nothing half-written."""

from __future__ import annotations

import errno
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from medkd.cli import faults
from medkd.cli.faults import explain
from medkd.errors import CheckpointError, SettingsError, WorkerError
from medkd.files import remove_partial, replacing, write_text

MAIN = "from medkd.cli import main; main()"


def of(number: int, path: str | None = "/out/x") -> OSError:
    return OSError(number, os.strerror(number), path)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "no space left on the disk: free some space"),
        (errno.EDQUOT, "quota"),
        (errno.EFBIG, "ulimit -f"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "no permission"),
        (errno.EPERM, "no permission"),
        (errno.EMFILE, "ulimit -n"),
        (errno.ENAMETOOLONG, "shorter"),
        (errno.ENOENT, "no such file"),
        (errno.ENOTDIR, "not a folder"),
        (errno.EIO, "reports an error"),
        (errno.ESTALE, "mount it again"),
        (errno.EXDEV, "cross-device"),
    ],
)
def test_a_fault_of_the_disk_is_one_line_with_path_and_remedy(number: int, words: str) -> None:
    line = explain(of(number), resumes=True)
    assert line.startswith("/out/x: ")
    assert words in line.lower()
    assert "\n" not in line
    assert "Errno" not in line


def test_only_a_command_that_resumes_is_told_to() -> None:
    assert explain(of(errno.ENOSPC), resumes=True).endswith("run it again with --resume")
    assert explain(of(errno.ENOSPC), resumes=False).endswith("run the same command again")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (sqlite3.OperationalError("database or disk is full"), "no space left"),
        (sqlite3.OperationalError("attempt to write a readonly database"), "read-only"),
        (sqlite3.OperationalError("unable to open database file"), "no permission"),
        (sqlite3.OperationalError("database is locked"), "another program"),
        (RuntimeError("PytorchStreamWriter failed writing file data/0"), "no space left"),
        (
            RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 7 vs 6"),
            "space",
        ),
        (OSError("16384 requested and 0 written"), "no space left"),
        (MemoryError(), "not enough memory"),
    ],
)
def test_what_libraries_say_in_their_own_words_is_understood(error: Exception, words: str) -> None:
    assert words in explain(error, resumes=False)


def test_why_something_was_not_saved_comes_first() -> None:
    refusal = CheckpointError("/out/student: not saved", ["[Errno 28] No space left"])
    refusal.__cause__ = of(errno.ENOSPC, "/out/student")
    assert explain(refusal, resumes=True).startswith("/out/student: no space left on the disk")


def test_processes_that_cannot_be_started_are_not_blamed_on_the_disk() -> None:
    refusal = WorkerError("training: a loader process failed", ["workers: 0 needs no helpers"])
    refusal.__cause__ = of(errno.ENOSPC, None)
    assert explain(refusal, resumes=True) == str(refusal)
    then = of(errno.EMFILE)  # what is tidied up afterwards meets the same limit
    then.__context__ = refusal
    assert explain(then, resumes=True) == str(refusal)


def test_a_refusal_stays_as_it_is() -> None:
    refusal = SettingsError("a.yaml: 1 problem", ["line 3"])
    refusal.__cause__ = of(errno.ENOENT)
    assert explain(refusal, resumes=True) == str(refusal)


def test_an_error_of_the_program_is_not_hidden() -> None:
    assert explain(KeyError("lung"), resumes=False) == ""


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("disk is full"),
     OSError("4096 requested and 0 written")],
)  # fmt: skip
def test_a_full_disk_names_the_file_that_was_to_be_written(
    tmp_path: Path, error: Exception
) -> None:
    path = tmp_path / "weights"
    with pytest.raises(OSError, match="No space left") as failed, replacing(path):
        raise error
    assert (failed.value.errno, failed.value.filename) == (errno.ENOSPC, str(path))
    assert not list(tmp_path.iterdir())


def test_a_fault_inside_a_temporary_folder_names_the_finished_one(tmp_path: Path) -> None:
    path = tmp_path / "set"
    with pytest.raises(OSError, match="too long") as failed, replacing(path) as temporary:
        (temporary / ("x" * 300)).mkdir(parents=True)
    assert failed.value.filename == str(path)


def test_a_fault_of_a_file_that_is_read_meanwhile_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as failed, replacing(tmp_path / "out"):
        (tmp_path / "in").read_text()
    assert failed.value.filename == str(tmp_path / "in")


def test_a_name_as_long_as_the_disk_allows_can_be_written(tmp_path: Path) -> None:
    write_text(tmp_path / ("n" * 250), "x")
    assert [path.name for path in tmp_path.iterdir()] == ["n" * 250]


def test_a_kill_between_two_renames_loses_no_folder(tmp_path: Path) -> None:
    (tmp_path / ".teacher.ab12cd_3.old").mkdir()
    (tmp_path / ".teacher.ab12cd_3.old" / "model.json").touch()
    (tmp_path / ".teacher.ab12cd_3.part").mkdir()
    remove_partial(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["teacher"]
    assert (tmp_path / "teacher" / "model.json").exists()


class Slow:
    """Is told to end while it is taken apart."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)


def wait_after(held: list[Slow]) -> None:
    held.clear()
    signal.pause()


def test_a_signal_while_an_object_is_taken_apart_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(faults, "received", [])
    with faults.ended_by_signals(), pytest.raises(KeyboardInterrupt):
        wait_after([Slow()])
    assert faults.received == [signal.SIGTERM]


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with faults.ended_by_signals():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def run(
    *words: object, before: Callable[[], None] | None = None, code: str = MAIN
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603  # our own program
        [sys.executable, "-c", code, *map(str, words)],
        capture_output=True, text=True, check=False, preexec_fn=before,
    )  # fmt: skip


def allow_small_files() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


@pytest.mark.slow
def test_a_command_that_finds_no_space_says_so_and_goes_on_later(tmp_path: Path) -> None:
    out = tmp_path / "set"
    words = ("phantom", out, "--scans", 1, "--size", "region")
    full = run(*words, before=allow_small_files)
    assert full.returncode == 1
    assert full.stderr.startswith(f"medkd: {tmp_path}")
    assert "free some space and run the same command again" in full.stderr
    assert len(full.stderr.splitlines()) == 1
    assert not out.exists()
    assert run(*words).returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


AS_NOBODY = """
import os, sys
from medkd.cli import app, main
words = sys.argv[1:]
app(["config", "copy", "demo/phantom", words[-1] + ".first"], standalone_mode=False)  # load all
os.setegid(65534); os.seteuid(65534)
main()
"""


def test_a_folder_without_rights_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    tmp_path.chmod(0o500)
    code = AS_NOBODY if os.geteuid() == 0 else MAIN  # root may write everywhere
    refused = run("config", "copy", "demo/phantom", path, code=code)
    tmp_path.chmod(0o700)
    assert refused.returncode == 1
    words = "no permission: change its permissions, or choose another path"
    assert refused.stderr.startswith("medkd: ")
    assert refused.stderr.endswith(f"{words}\n")
    assert len(refused.stderr.splitlines()) == 1
    assert not path.exists()


def test_a_closed_pipe_is_quiet() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(  # noqa: S603  # our own program
        [sys.executable, "-c", MAIN, "config", "keys"],
        stdout=writer, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode != 0
