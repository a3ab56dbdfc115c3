"""JPEG streams are decoded apart: a damaged one is refused, and ends nothing but itself."""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1

from medkd.errors import SeriesError, WorkerError
from medkd.io.dicom.gdcm_process import GdcmProcess
from medkd.io.dicom.header import read_headers
from medkd.io.dicom.pixels import PixelReader
from medkd.io.dicom.series import read_dicom_folder
from medkd.io.dicom.streams import StreamError
from medkd.io.file_ref import FileRef
from medkd.io.radiograph.read import read_radiograph, read_radiograph_header
from tests.io.dicom_helper import write_ct_series
from tests.io.jpeg_helper import DAMAGES, END, encode_jpeg_lossless, put_stream
from tests.io.radiograph_helper import write_dx
from tests.io.volume_helper import make_scan, oblique_grid

RAMP = np.add.outer(np.arange(40) * 50, np.arange(48) * 40).astype(np.uint16)
SCAN = make_scan(oblique_grid((40, 36, 4)))


def layout(**changes: object) -> dict[str, object]:
    rows, columns = RAMP.shape
    return {
        "rows": rows, "columns": columns, "samples": 1, "planar": 0, "bits": 16, "signed": 0,
        "photometric": "MONOCHROME2", "syntax": str(JPEGLosslessSV1),
    } | changes  # fmt: skip


def decoded(process: GdcmProcess, stream: bytes) -> np.ndarray:
    return np.frombuffer(process.decode(stream, layout()), "<u2").reshape(RAMP.shape)


@pytest.fixture
def process():
    started = GdcmProcess()
    yield started
    started.end()


def write_series(folder: Path) -> list[Path]:
    """Write a CT series in JPEG lossless; the stored values are HU + 1024."""
    paths = write_ct_series(folder, SCAN.voxels_hu, SCAN.grid)
    for k, path in enumerate(paths):
        put_stream(path, encode_jpeg_lossless(SCAN.voxels_hu[:, :, k].T + 1024), JPEGLossless)
    return paths


@pytest.mark.parametrize("bits", [12, 13, 16])
def test_a_sound_stream_is_decoded(process: GdcmProcess, bits: int) -> None:
    np.testing.assert_array_equal(decoded(process, encode_jpeg_lossless(RAMP, bits)), RAMP)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_stream_is_refused_and_the_next_one_read(process, damage: str) -> None:
    stream = encode_jpeg_lossless(RAMP)
    with pytest.raises(StreamError, match="its compressed stream is damaged"):
        process.decode(DAMAGES[damage](stream), layout())
    np.testing.assert_array_equal(decoded(process, stream), RAMP)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_ct_series_with_a_damaged_slice_is_refused_by_its_name(tmp_path, damage: str) -> None:
    paths = write_series(tmp_path)
    np.testing.assert_array_equal(read_dicom_folder(tmp_path).voxels_hu, SCAN.voxels_hu)
    put_stream(paths[2], DAMAGES[damage](encode_jpeg_lossless(SCAN.voxels_hu[:, :, 2].T + 1024)))
    with pytest.raises(SeriesError) as refused:
        read_dicom_folder(tmp_path)
    (reason,) = refused.value.reasons
    assert reason.startswith(f"damaged_pixels: {paths[2].name}: its compressed stream is damaged")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_radiograph_is_refused(tmp_path: Path, damage: str) -> None:
    path = write_dx(tmp_path / "a", RAMP)
    put_stream(path, encode_jpeg_lossless(RAMP))
    np.testing.assert_allclose(read_radiograph(path).pixels, RAMP / 4095, atol=1e-6)
    put_stream(path, DAMAGES[damage](encode_jpeg_lossless(RAMP)))
    with pytest.raises(SeriesError) as refused:
        read_radiograph(path)
    (reason,) = refused.value.reasons
    assert reason.startswith("bad_pixels: its compressed stream is damaged")


def test_a_few_zeros_before_the_end_are_no_damage(process: GdcmProcess) -> None:
    stream = encode_jpeg_lossless(RAMP)
    padded = stream[:-2] + b"\0\0" + END
    np.testing.assert_array_equal(decoded(process, padded), RAMP)


def test_any_damage_is_refused_or_changes_no_more_than_values(process: GdcmProcess) -> None:
    """Nothing ends this process, whichever bytes are changed."""
    rng = np.random.default_rng(7)
    stream = encode_jpeg_lossless(RAMP)
    for _ in range(60):
        changed = bytearray(stream)
        for place in rng.integers(2, 70, 2):
            changed[place] = rng.integers(256)
        try:
            assert decoded(process, bytes(changed)).shape == RAMP.shape
        except StreamError:
            continue
    np.testing.assert_array_equal(decoded(process, stream), RAMP)


def test_a_frame_that_takes_too_long_is_given_up(process: GdcmProcess, monkeypatch) -> None:
    monkeypatch.setattr("multiprocessing.connection.Connection.poll", lambda _, limit: limit < 100)
    with pytest.raises(StreamError, match="the decoder crashed on it"):
        process.decode(encode_jpeg_lossless(RAMP), layout())


def test_a_process_that_cannot_start_is_no_fault_of_a_file(process, monkeypatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(WorkerError, match="cannot be started here"):
        process.decode(encode_jpeg_lossless(RAMP), layout())


def _read_first(folder: Path) -> bool:
    header, *_ = read_headers([FileRef(path) for path in sorted(folder.iterdir())]).headers
    return PixelReader().read_into(np.empty((36, 40), np.int16), header) is None


def test_a_process_that_branches_off_has_a_decoder_of_its_own(tmp_path: Path) -> None:
    write_series(tmp_path)
    assert _read_first(tmp_path)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(_read_first, [tmp_path] * 6) == [True] * 6
    assert _read_first(tmp_path)


@pytest.mark.parametrize("syntax", ["1.2.3.4", "DOE^JANE"])
def test_what_is_no_transfer_syntax_lacks_a_decoder_and_is_not_shown(tmp_path, syntax) -> None:
    path = write_dx(tmp_path / "film", RAMP)
    content = path.read_bytes()
    known = b"1.2.840.10008.1.2.1\0"
    path.write_bytes(content.replace(known, syntax.encode().ljust(len(known), b"\0"), 1))
    (reason,) = read_radiograph_header(path).reasons
    assert reason == "missing_decoder: medkd knows no package that decodes its transfer syntax"


def test_jpeg_extended_of_12_bits_lacks_a_decoder(tmp_path: Path) -> None:
    path = write_dx(tmp_path / "film", RAMP)
    put_stream(path, encode_jpeg_lossless(RAMP), JPEGExtended12Bit)
    (reason,) = read_radiograph_header(path).reasons
    assert reason.startswith("missing_decoder: JPEG Extended (Process 2 and 4) of more than 8 bits")
    for slice_path in write_series(tmp_path / "ct"):
        put_stream(slice_path, encode_jpeg_lossless(RAMP), JPEGExtended12Bit)
    with pytest.raises(SeriesError, match=r"missing_decoder: .* of more than 8 bits"):
        read_dicom_folder(tmp_path / "ct")
