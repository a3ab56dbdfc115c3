"""Split cases into train, validation and test by patient, and check the parts for leaks.

A patient in two parts is refused. If an image of train has the same pixels as one of validation
or test, or an image of validation the same as one of test, the earlier part drops it with a note,
because public data sets contain such copies. Test cases are never dropped. Scans are compared by
pixels if an INDEX has their digests, otherwise only by patient. Cases without a known label are
never evaluated. A fingerprint identifies the split.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from medkd.data.cases import Case, CaseIndex
from medkd.data.data_sets import find_data, images_of
from medkd.data.sampling import derive_seed, interleave
from medkd.errors import SeriesError, SettingsError
from medkd.index.frozen_split import read_split
from medkd.provenance import sha256_of_text
from medkd.settings import InputPath, Settings


class LabelLimit(Settings):
    """A limit on the training labels that are used, as a fraction or as a number of cases."""

    labelled_fraction: float | None = Field(
        None, gt=0, le=1, description="Fraction of the training patients whose labels are used."
    )
    labelled_cases: int | None = Field(
        None, ge=1, description="Training cases whose labels are used (whole patients)."
    )
    unlabelled: Literal["drop", "keep"] = Field(
        "drop",
        description="The other training cases: drop leaves them out; keep trains on them without "
        "labels, by transfer only.",
    )

    validation: Literal["all", "limited"] = Field(
        "all",
        description="Validation labels: all of them, or limited to the same fraction, so that "
        "nothing is chosen with labels that a site would not have.",
    )

    seed: int | None = Field(
        None, ge=0, description="Seed of the choice of labels; null: split_seed."
    )

    @model_validator(mode="after")
    def _one_amount(self) -> LabelLimit:
        if (self.labelled_fraction is None) == (self.labelled_cases is None):
            raise ValueError("give either labelled_fraction or labelled_cases")
        if self.validation == "limited" and self.labelled_fraction is None:
            raise ValueError("limit.validation: limited needs labelled_fraction")
        return self


class _AnySplit(Settings):
    limit: LabelLimit | None = Field(
        None, description="Limit on the labels used; null: all labels."
    )


class OfficialSplit(_AnySplit):
    """The official train, validation and test parts of the data set."""

    kind: Literal["official"] = "official"


class FoldSplit(_AnySplit):
    """Official subsets (subset0 to subset9 of LUNA16), some for validation and some for test."""

    kind: Literal["folds"] = "folds"
    val: tuple[int, ...] = Field(min_length=1, description="Subsets for validation.")
    test: tuple[int, ...] = Field(min_length=1, description="Subsets for test.")

    @model_validator(mode="after")
    def _apart(self) -> FoldSplit:
        if twice := sorted(set(self.val) & set(self.test)):
            raise ValueError(f"subsets {twice} are in both val and test")
        return self


class FractionSplit(_AnySplit):
    """A random split by patient, stratified by label."""

    kind: Literal["fractions"] = "fractions"
    val: float = Field(0.2, gt=0, lt=1, description="Fraction of the patients for validation.")
    test: float = Field(0.2, gt=0, lt=1, description="Fraction of the patients for test.")

    @model_validator(mode="after")
    def _something_left(self) -> FractionSplit:
        if self.val + self.test >= 1:
            raise ValueError(
                f"val {self.val} and test {self.test} leave no patients for training; "
                "their sum must be below 1"
            )
        return self


class CrossValidationSplit(_AnySplit):
    """One of several folds of the training and validation cases, to compare training recipes.

    Official test cases are not used: the "test" part is a fold of the other cases.
    """

    kind: Literal["cross_validation"] = "cross_validation"
    folds: int = Field(5, ge=3, description="Number of folds.")
    fold: int = Field(
        0, ge=0, description="Fold used as test, from 0; the next fold is validation."
    )

    @model_validator(mode="after")
    def _known_fold(self) -> CrossValidationSplit:
        if self.fold >= self.folds:
            raise ValueError(
                f"fold {self.fold}: expected 0 to {self.folds - 1} for {self.folds} folds"
            )
        return self


class FrozenSplit(_AnySplit):
    """A split that `medkd split` wrote for one INDEX; any other INDEX is refused."""

    kind: Literal["frozen"] = "frozen"
    path: InputPath = Field(description="The split.json file.")
    fold: int | None = Field(
        None,
        ge=0,
        description="Fold used as test, from 0; the next fold is validation. Null: the split has "
        "no folds.",
    )


AnySplit = OfficialSplit | FoldSplit | FractionSplit | CrossValidationSplit | FrozenSplit
SplitSettings = Annotated[AnySplit, Field(discriminator="kind")]


@dataclass(frozen=True, slots=True)
class Split:
    """Case ids of each part.

    `unlabelled` cases are used for training without their labels. `notes` list dropped cases and
    unused labels.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    unlabelled: tuple[str, ...] = ()
    fingerprint: str = ""
    notes: tuple[str, ...] = ()


def build_split(
    index: CaseIndex,
    settings: AnySplit,
    *,
    seed: int,
) -> Split:
    """Split the cases by patient, drop leaking copies, and limit the labels if asked.

    Args:
        index: the cases.
        settings: the kind of split and the limit on labels.
        seed: seed of random splits and of the choice of labelled patients.

    Raises:
        SettingsError: if this data set cannot be split in this way, or a frozen split belongs to
            another index.
        SeriesError: if a patient is in two parts, or a frozen split cannot be used.
    """
    if isinstance(settings, FrozenSplit):
        split = _as_frozen(index, settings)
    elif isinstance(settings, FractionSplit):
        split = _by_fractions(index, settings, seed)
    elif isinstance(settings, CrossValidationSplit):
        split = _by_cross_validation(index, settings, seed)
    else:
        split = _by_origin(index, settings)
    keep = settings.limit is not None and settings.limit.unlabelled == "keep"
    split = _with_labels(index, check_leaks(index, split), keep=keep)
    _refuse_empty_parts(index, split)
    if settings.limit:
        own = settings.limit.seed
        split = _limited(index, split, settings.limit, seed=seed if own is None else own)
    return replace(split, fingerprint=_fingerprint(index, split))


def _refuse_empty_parts(index: CaseIndex, split: Split) -> None:
    """Refuse a split with empty parts; the reasons list the cases that were left out."""
    if empty := [part for part in ("train", "val", "test") if not getattr(split, part)]:
        raise SettingsError(
            f"{index.name}: train, val and test cannot all be filled",
            [
                *(
                    f"{part}: no case is left of the {len(index.cases)} in the data set"
                    for part in empty
                ),
                *(f"note: {note}" for note in (*index.notes, *split.notes)),
                "to do: add labelled cases of more patients, or change the split",
            ],
        )


def _with_labels(index: CaseIndex, split: Split, *, keep: bool) -> Split:
    """Remove cases without a known label; `keep`: keep those of train as `unlabelled`."""
    parts = {part: getattr(split, part) for part in ("train", "val", "test")}
    unknown = {
        part: tuple(c for c in members if c not in index.labels) for part, members in parts.items()
    }
    notes = [
        f"{len(cases)} {part} cases without a known label "
        + ("train without labels" if keep and part == "train" else "left out")
        for part, cases in unknown.items()
        if cases
    ]
    train, val, test = (tuple(c for c in parts[p] if c in index.labels) for p in parts)
    return Split(train, val, test, unknown["train"] if keep else (), notes=(*split.notes, *notes))


def check_leaks(index: CaseIndex, split: Split) -> Split:
    """Refuse patients in two parts; drop cases with the same pixels as a case of a later part.

    Args:
        index: the cases.
        split: their split; the order of the parts is train, val, test.

    Returns:
        The split without the dropped cases, with a note that counts them.

    Raises:
        SeriesError: if a patient is in two parts; the reasons list all such patients.
    """
    cases = index.by_id()
    parts = {part: [cases[c] for c in getattr(split, part)] for part in ("train", "val", "test")}
    homes: dict[str, set[str]] = defaultdict(set)
    for part, members in parts.items():
        for case in members:
            homes[case.patient_id].add(part)
    if shared := {patient: where for patient, where in homes.items() if len(where) > 1}:
        reasons = [f"patient {p}: in {' and '.join(sorted(w))}" for p, w in sorted(shared.items())]
        headline = f"{index.name}: {len(shared)} patients are in more than one part"
        raise SeriesError(
            headline, [*reasons, "split by patient, for example with kind: fractions"]
        )
    return _without_copies(split, parts)


def _without_copies(split: Split, parts: dict[str, list[Case]]) -> Split:
    digests = {part: _digests(members) for part, members in parts.items()}
    kept, notes = {}, []
    for part, later in (("train", ("val", "test")), ("val", ("test",))):
        elsewhere = {d for name in later for d in digests[name].values()}
        kept[part] = tuple(c for c in getattr(split, part) if digests[part].get(c) not in elsewhere)
        if dropped := len(getattr(split, part)) - len(kept[part]):
            where, kind = " or ".join(later), parts[part][0].kind
            notes.append(f"{dropped} {part} {kind}s dropped: the same pixels are in {where}")
    return replace(split, train=kept["train"], val=kept["val"], notes=(*split.notes, *notes))


def _digests(cases: Iterable[Case]) -> dict[str, bytes]:
    """Map case ids to digests of their pixels; of scans, only those of an INDEX have one."""
    members = list(cases)
    given = {c.case_id: c.content.encode() for c in members if c.content}
    images = [case for case in members if case.kind == "image" and not case.archived]
    if not images:
        return given
    pixels = images_of(images).images
    return given | {
        case.case_id: hashlib.blake2b(image.tobytes(), digest_size=16).digest()
        for case, image in zip(images, pixels, strict=True)
    }


def _by_origin(index: CaseIndex, settings: OfficialSplit | FoldSplit) -> Split:
    homes: dict[str, str]
    if isinstance(settings, OfficialSplit):
        homes = {part: part for part in ("train", "val", "test")}
    else:
        subsets = sorted({case.origin for case in index.cases if case.origin.startswith("subset")})
        homes = dict.fromkeys(subsets, "train")
        homes |= {f"subset{n}": "val" for n in settings.val}
        homes |= {f"subset{n}": "test" for n in settings.test}
    origins = {case.origin for case in index.cases}
    if unknown := sorted(origins - set(homes)):
        other = "folds or fractions" if settings.kind == "official" else "official or fractions"
        raise SettingsError(
            f"{index.name} cannot be split by kind {settings.kind}",
            [f"its cases come from {', '.join(unknown)}; use kind {other}"],
        )
    if absent := sorted(set(homes) - origins):
        reasons = [f"no case comes from {origin}" for origin in absent]
        raise SettingsError(f"{index.name} cannot be split by kind {settings.kind}", reasons)
    return _assembled(index.cases, lambda case: homes[case.origin])


def _as_frozen(index: CaseIndex, settings: FrozenSplit) -> Split:
    path = find_data(settings.path)
    frozen = read_split(path)
    if frozen.index_fingerprint != index.fingerprint:
        raise SettingsError(
            f"{path}: the split of another index",
            [f"expected a split of {index.name} (fingerprint {index.fingerprint[:12]}), got one of "
             f"{frozen.index_fingerprint[:12]}: create a new one with medkd split"],
        )  # fmt: skip
    parts = frozen.parts(settings.fold)
    known = index.by_id()  # the images are missing if only scans were read
    train, val, test = (
        tuple(case for case in part if case in known)
        for part in (parts.train, parts.val, parts.test)
    )
    return Split(train, val, test)


def _by_fractions(index: CaseIndex, settings: FractionSplit, seed: int) -> Split:
    patients = _mixed_patients(index, index.cases, seed=seed, purpose="split")
    val = max(1, round(settings.val * len(patients)))
    test = max(1, round(settings.test * len(patients)))
    home = dict.fromkeys(patients, "train")
    home |= dict.fromkeys(patients[:val], "val")
    home |= dict.fromkeys(patients[val : val + test], "test")
    return _assembled(index.cases, lambda case: home[case.patient_id])


def _by_cross_validation(index: CaseIndex, settings: CrossValidationSplit, seed: int) -> Split:
    pool = [case for case in index.cases if case.origin != "test"]
    patients = _mixed_patients(index, pool, seed=seed, purpose="folds")
    names = {settings.fold: "test", (settings.fold + 1) % settings.folds: "val"}
    home = {p: names.get(place % settings.folds, "train") for place, p in enumerate(patients)}
    split = _assembled(pool, lambda case: home[case.patient_id])
    left = len(index.cases) - len(pool)
    note = f"fold {settings.fold} of {settings.folds}; {left} official test cases left out"
    return replace(split, notes=(note,))


def _limited(index: CaseIndex, split: Split, limit: LabelLimit, *, seed: int) -> Split:
    cases = index.by_id()
    train = [cases[c] for c in split.train]
    patients = _mixed_patients(index, train, seed=seed, purpose="labels")
    chosen = _first_patients(patients, train, limit)
    labelled = tuple(c.case_id for c in train if c.patient_id in chosen)
    rest = tuple(c.case_id for c in train if c.patient_id not in chosen)
    fate = "train without labels" if limit.unlabelled == "keep" else "are left out"
    note = (
        f"labels of {len(labelled)} of {len(train)} training cases used "
        f"({_counted(index, labelled)}); the others {fate}"
    )
    val = split.val
    if limit.validation == "limited":
        held = [cases[c] for c in split.val]
        mixed = _mixed_patients(index, held, seed=seed, purpose="validation labels")
        known = _first_patients(mixed, held, limit)
        val = tuple(c.case_id for c in held if c.patient_id in known)
        note += f"; of {len(split.val)} validation cases {len(val)}"
    return replace(
        split,
        train=labelled,
        val=val,
        unlabelled=(*split.unlabelled, *rest) if limit.unlabelled == "keep" else (),
        notes=(*split.notes, note),
    )


def _counted(index: CaseIndex, labelled: Sequence[str]) -> str:
    """Count the positive cases, or the cases of each exclusive class, in words."""
    found = Counter(index.labels[case_id] for case_id in labelled)
    if not index.exclusive:
        return f"{found.total() - found[0]} positive"
    return ", ".join(f"{found[place]} {name}" for place, name in enumerate(index.label_names))


def _first_patients(
    patients: Sequence[str], cases: Sequence[Case], limit: LabelLimit
) -> Collection[str]:
    if limit.labelled_fraction is not None:
        return set(patients[: max(1, round(limit.labelled_fraction * len(patients)))])
    sizes: dict[str, int] = defaultdict(int)
    for case in cases:
        sizes[case.patient_id] += 1
    before = np.cumsum([0, *(sizes[p] for p in patients)])[:-1]
    return {p for p, n in zip(patients, before, strict=True) if n < (limit.labelled_cases or 0)}


def _mixed_patients(
    index: CaseIndex, cases: Iterable[Case], *, seed: int, purpose: str
) -> list[str]:
    """Return the patients in random order, with positive and negative ones evenly distributed."""
    highest: dict[str, int] = {}
    for case in cases:
        label = index.labels.get(case.case_id, -1)  # unknown labels are a group of their own
        highest[case.patient_id] = max(label, highest.get(case.patient_id, -1))
    random = np.random.default_rng(derive_seed(seed, purpose))
    strata: dict[int, list[str]] = defaultdict(list)
    for patient in sorted(highest):
        strata[highest[patient]].append(patient)
    shuffled = [random.permutation(strata[label]).tolist() for label in sorted(strata)]
    streams = [iter(group) for group in shuffled]
    return [next(streams[group]) for group in interleave([len(g) for g in shuffled])]


def _assembled(cases: Iterable[Case], home: Callable[[Case], str]) -> Split:
    parts: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for case in cases:
        parts[home(case)].append(case.case_id)
    return Split(tuple(parts["train"]), tuple(parts["val"]), tuple(parts["test"]))


def _fingerprint(index: CaseIndex, split: Split) -> str:
    parts = [index.fingerprint, split.train, split.val, split.test, split.unlabelled]
    return sha256_of_text(json.dumps(parts))
