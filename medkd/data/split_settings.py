"""Settings of the split into train, validation and test, and of the number of labels used."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

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

    @model_validator(mode="after")
    def _one_amount(self) -> LabelLimit:
        if (self.labelled_fraction is None) == (self.labelled_cases is None):
            raise ValueError("give either labelled_fraction or labelled_cases")
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
