"""Two acquisitions under one SeriesInstanceUID are refused; what varies in a good scan is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from medkd.errors import SeriesError
from medkd.io.dicom.gate import GateSettings
from medkd.io.dicom.series import read_dicom_folder
from medkd.types import Scan
from tests.io.dicom_helper import write_ct_series, write_enhanced_ct
from tests.io.volume_helper import make_scan, oblique_grid

GRID = oblique_grid((12, 10, 24))
SCAN = make_scan(GRID)
GATE = GateSettings()


def upper_half(k: int) -> bool:
    return k >= 12


def every_second(k: int) -> bool:
    return k % 2 == 1


def one_slice(k: int) -> bool:
    return k == 7


def read_with(
    folder: Path, edit: Callable[[Dataset, int], None], gate: GateSettings = GATE
) -> Scan:
    write_ct_series(folder, SCAN.voxels_hu, GRID, edit=edit)
    return read_dicom_folder(folder, gate=gate)


def divided(where: Callable[[int], bool], name: str, here: object, there: object):
    """Set an attribute to one value where `where` holds and to another elsewhere; None: absent."""

    def edit(dataset: Dataset, k: int) -> None:
        value = here if where(k) else there
        if value is None:
            dataset.pop(name, None)
        else:
            setattr(dataset, name, value)

    return edit


def agents(*meanings: str) -> Items:
    """A sequence of contrast agents (PS3.3 C.7.6.4)."""
    items = Items([])
    for meaning in meanings:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "C-B0322", "SRT", meaning
        items.append(item)
    return items


DIVISIONS = [
    ("ConvolutionKernel", "B70f", "B30f"),
    ("ConvolutionKernel", ["I50f", "3"], ["I50f", "2"]),
    ("KVP", "140", "120"),
    ("AcquisitionNumber", "2", "1"),
    ("ContrastBolusAgent", "Omnipaque 350", None),
    ("ContrastBolusAgent", "Omnipaque 350", ""),
    ("ContrastBolusStartTime", "101500", None),
    ("ContrastBolusStartTime", "101500", "102000"),
    ("ContrastBolusAgentSequence", agents("Omnipaque 350"), None),
    ("ContrastBolusAgentSequence", agents("Omnipaque 350"), agents()),
    ("ContrastBolusAgentSequence", agents("Omnipaque 350"), agents("Omnipaque 350", "Gadovist")),
    ("ContrastBolusVolume", "100", None),
    ("ContrastBolusVolume", "100", "0"),
    ("ContrastBolusRoute", "Omnipaque IV", None),
    ("SeriesDescription", "Omnipaque arterial", "venous"),
]


@pytest.mark.parametrize("where", [upper_half, every_second, one_slice])
@pytest.mark.parametrize(("name", "here", "there"), DIVISIONS)
def test_two_acquisitions_are_refused_with_their_groups(
    tmp_path: Path, where, name: str, here: object, there: object
) -> None:
    with pytest.raises(SeriesError) as refusal:
        read_with(tmp_path, divided(where, name, here, there))
    (reason,) = refusal.value.reasons
    count = sum(map(where, range(24)))
    assert reason.startswith(f"mixed_acquisition: expected one {name}, got ")
    assert f" in {24 - count} slices (" in reason
    assert f" in {count} slices (" in reason
    assert "Omnipaque" not in reason  # free text


def test_the_groups_are_named_by_value_count_and_place(tmp_path: Path) -> None:
    with pytest.raises(SeriesError) as refusal:
        read_with(tmp_path, divided(upper_half, "ConvolutionKernel", "B70f", "B30f"))
    ends = [GRID.direction[:, 2] @ GRID.voxel_to_world([0, 0, k]) for k in (0, 11, 12, 23)]
    lower, upper = (f"{ends[n]:.6g} to {ends[n + 1]:.6g} mm" for n in (0, 2))
    assert refusal.value.reasons[0].partition(", got ")[2] == (
        f"B30f in 12 slices ({lower} along the normal); "
        f"B70f in 12 slices ({upper} along the normal)"
    )


def test_two_acquisitions_can_be_accepted_by_name(tmp_path: Path) -> None:
    gate = GateSettings(allow=("mixed_acquisition",))
    scan = read_with(tmp_path, divided(every_second, "AcquisitionNumber", "2", "1"), gate)
    assert scan.notes[0].startswith("allowed: mixed_acquisition: expected one AcquisitionNumber")


def test_they_are_refused_without_a_gate_too(tmp_path: Path) -> None:
    write_ct_series(tmp_path, SCAN.voxels_hu, GRID, edit=divided(upper_half, "KVP", "140", "80"))
    with pytest.raises(SeriesError, match="mixed_acquisition"):
        read_dicom_folder(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Exposure", lambda k: str(100 + 7 * k)),
        ("XRayTubeCurrent", lambda k: str(200 + k % 5)),
        ("ExposureTime", lambda k: str(500 + k // 12)),
        ("ContentTime", lambda k: f"1015{k:02d}.5"),
        ("AcquisitionTime", lambda k: f"1015{k:02d}.5"),
        ("TableHeight", lambda k: str(100 + k % 2)),
        ("WindowCenter", lambda k: [str(k), "40"]),
        ("SeriesDescription", lambda k: f"chest {k}"),
        ("AcquisitionNumber", lambda k: str(k + 1)),
    ],
)
def test_what_varies_in_a_good_scan_is_no_fault(tmp_path: Path, name: str, value) -> None:
    scan = read_with(tmp_path, lambda dataset, k: setattr(dataset, name, value(k)))
    assert scan.notes == ()


def test_steps_of_a_scan_that_have_numbers_are_noted(tmp_path: Path) -> None:
    scan = read_with(tmp_path, lambda d, k: setattr(d, "AcquisitionNumber", str(1 + k // 4)))
    assert scan.notes == ("6 values of AcquisitionNumber, which number the steps of one scan",)


@pytest.mark.parametrize(
    "number", [lambda k: 1 + k // 6, lambda k: 1 + k % 6], ids=["four blocks", "six in turn"]
)
def test_other_numbers_of_acquisitions_are_refused(tmp_path: Path, number) -> None:
    with pytest.raises(SeriesError, match="mixed_acquisition: expected one AcquisitionNumber"):
        read_with(tmp_path, lambda d, k: setattr(d, "AcquisitionNumber", str(number(k))))


BLOCKS: dict[str, Callable[[int], bool]] = {
    "upper half": upper_half,
    "first fifth": lambda k: k < 5,
    "last but a fifth": lambda k: k >= 5,
    "middle": lambda k: 8 <= k < 16,
    "both ends": lambda k: not 8 <= k < 16,
}
NOT_EVERYWHERE = ["ConvolutionKernel", "KVP", "AcquisitionNumber", "SeriesDescription"]


@pytest.mark.parametrize("name", NOT_EVERYWHERE)
@pytest.mark.parametrize("block", BLOCKS)
def test_a_value_that_a_block_of_slices_alone_states_divides_them(
    tmp_path: Path, name: str, block: str
) -> None:
    with pytest.raises(SeriesError) as refusal:
        read_with(tmp_path, divided(BLOCKS[block], name, "3", None))
    (reason,) = refusal.value.reasons
    count = sum(map(BLOCKS[block], range(24)))
    assert reason.startswith(f"mixed_acquisition: expected one {name}, got ")
    assert f" in {count} slices (" in reason
    assert f"none in {24 - count} slices (" in reason


@pytest.mark.parametrize("name", NOT_EVERYWHERE)
@pytest.mark.parametrize(
    "where",
    [every_second, one_slice, lambda k: not one_slice(k), lambda k: k < 4, lambda k: k >= 4,
     lambda k: k % 12 < 6],
)  # fmt: skip
def test_a_value_that_other_slices_do_not_state_is_noted(tmp_path: Path, name: str, where) -> None:
    scan = read_with(tmp_path, divided(where, name, "3", None))
    (note,) = scan.notes
    assert note.endswith(f": no {name}, which the other slices state")


def test_blocks_can_be_accepted_by_name_without_a_second_note(tmp_path: Path) -> None:
    gate = GateSettings(allow=("mixed_acquisition",))
    (note,) = read_with(tmp_path, divided(upper_half, "KVP", "120", None), gate).notes
    assert note.startswith("allowed: mixed_acquisition: expected one KVP, got ")


@pytest.mark.parametrize(
    "title", [lambda k: f"chest {k}", lambda k: f"chest {k // 2}", lambda k: f"chest {k % 5}"]
)
def test_a_title_that_counts_slices_is_no_fault(tmp_path: Path, title) -> None:
    scan = read_with(tmp_path, lambda d, k: setattr(d, "SeriesDescription", title(k)))
    assert scan.notes == ()


def test_times_of_two_acquisitions_are_refused_by_their_titles(tmp_path: Path) -> None:
    def edit(dataset: Dataset, k: int) -> None:
        dataset.AcquisitionTime = "102020" if upper_half(k) else "101010"
        dataset.SeriesDescription = "venous" if upper_half(k) else "arterial"

    with pytest.raises(SeriesError, match="expected one SeriesDescription, got value 1 in 12"):
        read_with(tmp_path, edit)


def test_contrast_that_every_slice_states_is_no_fault(tmp_path: Path) -> None:
    def edit(dataset: Dataset, k: int) -> None:
        dataset.ContrastBolusAgentSequence = agents("Iohexol")
        dataset.ContrastBolusVolume, dataset.ContrastBolusRoute = ("100", "100.0")[k % 2], "IV"

    assert read_with(tmp_path, edit).notes == ()


def test_slices_of_several_thicknesses_are_noted(tmp_path: Path) -> None:
    scan = read_with(tmp_path, divided(upper_half, "SliceThickness", "1", "2"))
    assert scan.notes == ("2 values of SliceThickness differ between slices",)


def test_spelling_makes_no_other_acquisition(tmp_path: Path) -> None:
    titles = ("Chest  1 mm", "CHEST 1 MM ")
    scan = read_with(tmp_path / "t", lambda d, k: setattr(d, "SeriesDescription", titles[k % 2]))
    assert scan.notes == ()
    kernels = ("standard", "STANDARD ")
    scan = read_with(tmp_path, lambda d, k: setattr(d, "ConvolutionKernel", kernels[k % 2]))
    assert scan.notes == ()

    def number(dataset: Dataset, k: int) -> None:
        dataset.KVP = ("120", "120.0")[k % 2]

    assert read_with(tmp_path / "kvp", number).notes == ()


GROUPS = {
    "ConvolutionKernel": ("CTReconstructionSequence", "B30f", "B70f"),
    "KVP": ("CTXRayDetailsSequence", 80.0, 140.0),
    "FrameAcquisitionNumber": ("FrameContentSequence", 1, 2),
    "ContrastBolusAgentPhase": ("ContrastBolusUsageSequence", "PRE_CONTRAST", "POST_CONTRAST"),
    "ContrastBolusAgentAdministered": ("ContrastBolusUsageSequence", "NO", "YES"),
}


@pytest.mark.parametrize("name", GROUPS)
def test_frames_of_two_acquisitions_are_refused(tmp_path: Path, name: str) -> None:
    macro, *values = GROUPS[name]

    def edit(dataset: Dataset) -> None:
        for k, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
            item = Dataset()
            setattr(item, name, values[k % 2])
            setattr(group, macro, Items([item]))

    write_enhanced_ct(tmp_path / "E", SCAN, edit=edit)
    with pytest.raises(SeriesError, match=f"mixed_acquisition: expected one {name}, got "):
        read_dicom_folder(tmp_path, gate=GATE)


def test_the_second_agent_of_a_frame_divides_frames_too(tmp_path: Path) -> None:
    def edit(dataset: Dataset) -> None:
        for k, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
            given = [Dataset(), Dataset()]
            given[0].ContrastBolusAgentAdministered = "YES"
            given[1].ContrastBolusAgentAdministered = "YES" if k < 9 else "NO"
            group.ContrastBolusUsageSequence = Items(given)

    write_enhanced_ct(tmp_path / "E", SCAN, edit=edit)
    with pytest.raises(SeriesError, match="expected one ContrastBolusAgentAdministered, got "):
        read_dicom_folder(tmp_path, gate=GATE)
