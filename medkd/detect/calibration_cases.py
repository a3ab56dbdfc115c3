"""The scans on which a model may be calibrated: annotated, not of the test part, not of training.

The record of a model states the fingerprints of its data set and of its split. A model that was
trained on the same INDEX can be calibrated only on the validation part of the same split. For other
data the record cannot show whether a scan was used in training, which gives a warning.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from medkd.data.archive_cases import ArchiveData
from medkd.data.archive_reference import IndexReference, read_index_reference
from medkd.data.splits import FrozenSplit, build_split
from medkd.errors import MedkdError, SeriesError, SettingsError
from medkd.index.frozen_split import read_split
from medkd.index.scan_inputs import ScanInput
from medkd.index.table import ArchiveIndex, read_index
from medkd.models.package import ModelInfo
from medkd.provenance import sha256_of_text
from medkd.types import Reference

Part = Literal["train", "val", "test"]


@dataclass(frozen=True, slots=True)
class Division:
    """A part of a frozen split; `fold` counts from 0 (None: the split has no folds)."""

    split: Path
    part: Part = "val"
    fold: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class CalibrationCases:
    """The chosen scans and their reference standard.

    `notes` state which scans are left out. `split_fingerprint` and `part` are empty if the whole
    INDEX is used.
    """

    reference: Reference
    scans: tuple[ScanInput, ...]
    index_fingerprint: str
    split_fingerprint: str = ""
    part: str = ""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """Digest of the case ids."""
        return sha256_of_text(json.dumps(sorted(self.reference.seriesuids)))

    @property
    def synthetic(self) -> int:
        """Number of synthetic scans."""
        return sum(scan.synthetic for scan in self.scans)


def choose_cases(
    index: Path, info: ModelInfo, division: Division | None = None
) -> CalibrationCases:
    """Choose the annotated scans of an INDEX for the calibration of a model.

    Args:
        index: index.csv.
        info: the model, whose training scans are refused.
        division: part of a frozen split; None: the whole INDEX.

    Raises:
        SettingsError: if the part is test, the split belongs to another INDEX, or the scans are
            known to have been used in training.
        SeriesError: if the INDEX or the split cannot be used, or no scan has a nodule.
    """
    archive = read_index(index)
    _refuse_test(division)
    warning = _check_training(index, archive, info, division)
    found = _reference(index, archive, division)
    counted = set(found.reference.seriesuids)
    scans = tuple(ScanInput(index, case) for case in archive.cases if case.case_id in counted)
    return CalibrationCases(
        found.reference,
        scans,
        archive.fingerprint,
        read_split(division.split).fingerprint if division else "",
        division.part if division else "",
        tuple(found.notes()),
        (warning,) if warning else (),
    )


def _refuse_test(division: Division | None) -> None:
    if division is not None and division.part == "test":
        reasons = [
            "never calibrate on test: thresholds chosen on test scans make their scores too good",
            "use the validation part: --part val",
        ]
        raise SettingsError("--part test: a model is not calibrated on these scans", reasons)


def _reference(index: Path, archive: ArchiveIndex, division: Division | None) -> IndexReference:
    """Return the annotated scans of the part, of which at least one must have a nodule."""
    wanted = None
    if division is not None:
        ids = set(getattr(read_split(division.split).parts(division.fold), division.part))
        wanted = [c.case_id for c in archive.cases if c.kind == "scan" and c.case_id in ids]
        if not wanted:
            reason = f"expected CT scans in part {division.part}, got {len(ids)} cases, no scan"
            raise SeriesError(f"{division.split}: no scan to calibrate on", [reason])
    found = read_index_reference(index, only=wanted)
    if wanted is not None:
        part = set(wanted)
        left_out = {name: why for name, why in found.left_out.items() if name in part}
        found = replace(found, left_out=left_out)
    if not found.reference.nodules:
        reasons = [
            f"expected nodules with positions, got {len(found.reference.seriesuids)} scans "
            "without any: give annotations to medkd index, or use more scans",
            *found.notes(),
        ]
        raise SeriesError(f"{index}: no nodule to calibrate on", reasons)
    return found


def _check_training(
    index: Path, archive: ArchiveIndex, info: ModelInfo, division: Division | None
) -> str:
    """Refuse scans that trained the model; return a warning if the record cannot tell."""
    if division is not None and _is_own_split(index, archive, info, division):
        if division.part == "val":
            return ""
        reasons = [
            f"the model was trained on the part {division.part} of this split: its scores there "
            "are higher than on other scans",
            "use the validation part: --part val",
        ]
        raise SettingsError("the model is not calibrated on its training scans", reasons)
    if info.data_fingerprint == archive.fingerprint:
        reasons = [
            "the model was trained on scans of this index, with "
            f"{'another' if division else 'a'} split",
            "give the frozen split of its training with --split and --part val, or scans that "
            "were not used",
        ]
        raise SettingsError("the model is not calibrated on its training scans", reasons)
    return (
        "the model's record does not list its training scans: make sure that none of these scans, "
        f"and none of their patients, was among them (trained on: {info.trained_on})"
    )


def _is_own_split(index: Path, archive: ArchiveIndex, info: ModelInfo, division: Division) -> bool:
    """Return whether the model was trained with this split.

    Raises:
        SettingsError: if the split belongs to another INDEX.
    """
    frozen = read_split(division.split)
    if frozen.index_fingerprint != archive.fingerprint:
        reason = (
            f"expected a split of {index.name} (fingerprint {archive.fingerprint[:12]}), got one "
            f"of {frozen.index_fingerprint[:12]}: create a new one with medkd split"
        )
        raise SettingsError(f"{division.split}: the split of another index", [reason])
    frozen.parts(division.fold)
    settings = FrozenSplit(path=str(division.split.absolute()), fold=division.fold)
    try:
        data = ArchiveData(index=str(index.absolute()), cases="scans")
        used = build_split(data.read_cases(Path()), settings, seed=0)
    except MedkdError:  # nothing can be trained with it, so this model was not
        return False
    return used.fingerprint == info.training_fingerprint
