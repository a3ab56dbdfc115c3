"""Whatever a foreign reader raises becomes a refusal with the file and one reason."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from nibabel.filebasedimages import ImageFileError

from medkd.errors import SeriesError, SettingsError
from medkd.io.foreign import foreign_faults


@pytest.mark.parametrize(
    "error",
    [
        EOFError("Compressed file ended"), ImageFileError("not a gzip file"), KeyError("PixelData"),
        RuntimeError("boom"), AssertionError(), RecursionError(), zlib.error("-3"), IndexError(),
        struct.error("4 bytes"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        NotImplementedError(), ZeroDivisionError(), OSError("no errno"),
    ],
)  # fmt: skip
def test_every_exception_becomes_a_refusal(error: Exception) -> None:
    with (
        pytest.raises(SeriesError, match=r"^scan\.nii: cannot be read") as refusal,
        foreign_faults(Path("scan.nii")),
    ):
        raise error
    (reason,) = refusal.value.reasons
    assert reason.startswith(type(error).__name__)


def test_running_out_of_memory_is_a_refusal() -> None:
    with pytest.raises(SeriesError) as refusal, foreign_faults("a"):
        np.zeros((1 << 20, 1 << 20, 1 << 10))
    assert refusal.value.reasons[0].startswith("it does not fit into memory")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), SettingsError("x")])
def test_what_is_no_fault_of_the_file_passes(error: BaseException) -> None:
    with pytest.raises(type(error)) as passed, foreign_faults("a"):
        raise error
    assert passed.value is error


def test_a_panic_of_a_decoder_in_rust_is_a_refusal() -> None:
    panic = type("PanicException", (BaseException,), {})
    with pytest.raises(SeriesError) as refusal, foreign_faults("a"):
        raise panic("index out of bounds")
    assert refusal.value.reasons == ("PanicException: index out of bounds",)


def test_the_reason_holds_no_path(tmp_path: Path) -> None:
    path = tmp_path / "Doe^Jane.dcm"
    for error in (OSError(13, "Permission denied", str(path)), ValueError(f"{path}: no"),
                  ValueError(f"bad {path.name}")):  # fmt: skip
        with pytest.raises(SeriesError) as refusal, foreign_faults(path, prefix="unreadable: "):
            raise error
        assert "Doe" not in refusal.value.reasons[0]
        assert refusal.value.reasons[0].startswith("unreadable: ")


def test_the_foreign_text_can_be_left_out() -> None:
    with pytest.raises(SeriesError) as refusal, foreign_faults("f1", show_text=False):
        raise ValueError("PatientName Doe^Jane")
    assert refusal.value.reasons == ("ValueError",)
