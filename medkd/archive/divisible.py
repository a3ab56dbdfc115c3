"""Whether an INDEX can be divided by patient: `medkd check` says it before `medkd split` does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from medkd.archive.leaks import bound_patients
from medkd.archive.notices import Notice
from medkd.archive.split import positive_labels
from medkd.io.index_table import ArchiveIndex, IndexedCase
from medkd.io.split_file import PARTS

CANNOT_SPLIT = "cannot_split"

_SHOWN = 3


def split_notices(index: ArchiveIndex, ready: Sequence[IndexedCase]) -> Iterator[Notice]:
    """Say why train, val and test cannot be made of the cases, or not all with positives.

    Args:
        index: for its labels and nodules.
        ready: its cases that are ready.
    """
    groups = bound_patients(ready)
    if not ready:
        return
    if len(groups) < len(PARTS):
        yield _too_few(ready, len(groups))
        return
    labels = positive_labels(index)
    holders: dict[str, list[int]] = defaultdict(list)
    for number, group in enumerate(groups):
        for name in set().union(*(labels.get(case.case_id, set()) for case in group)):
            holders[name].append(number)
    for name, numbers in sorted(holders.items()):
        if len(numbers) < len(PARTS):
            ids = tuple(sorted({case.patient_id for n in numbers for case in groups[n]}))
            yield Notice(
                "few_positive_patients",
                f"{name}: known to be present in {len(numbers)} of {len(groups)} patients alone: "
                f"{len(PARTS) - len(numbers)} of train, val and test will have none",
                ids,
                "index more patients with it, or give more annotations",
            )


def _too_few(ready: Sequence[IndexedCase], groups: int) -> Notice:
    patients = sorted({case.patient_id for case in ready})
    ids = tuple(patients[:_SHOWN])
    if len(patients) == 1 and len(ready) > 1:
        return Notice(
            CANNOT_SPLIT,
            f"all {len(ready)} cases have one PatientID: they cannot be divided by patient",
            ids,
            "if it is a placeholder for many patients, give each patient an ID of their own in "
            "the archive and index it again; for one patient, detect and review work",
        )
    joined = ", since patients with equal pixels count as one" if len(patients) > groups else ""
    return Notice(
        CANNOT_SPLIT,
        f"cases are ready of {groups} patient{'s' * (groups > 1)} alone, which cannot fill train, "
        f"val and test{joined}",
        ids,
        f"index at least {len(PARTS)} patients to train; for fewer, detect and review work",
    )
