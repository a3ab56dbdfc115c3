"""How cases are divided into train, validation and test, and how few labels are used."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from medkd.settings import InputPath, Settings


class LabelLimit(Settings):
    """How few training cases keep their labels; one of the two amounts is given."""

    labelled_fraction: float | None = Field(
        None, gt=0, le=1, description="Share of the training patients whose labels are used."
    )
    labelled_cases: int | None = Field(
        None, ge=1, description="Training cases whose labels are used (whole patients)."
    )
    unlabelled: Literal["drop", "keep"] = Field(
        "drop", description="keep: the others still train, without labels, by transfer alone."
    )

    @model_validator(mode="after")
    def _one_amount(self) -> LabelLimit:
        if (self.labelled_fraction is None) == (self.labelled_cases is None):
            raise ValueError("give either labelled_fraction or labelled_cases")
        return self


class _AnySplit(Settings):
    limit: LabelLimit | None = Field(None, description="Few labels: how many training cases.")


class OfficialSplit(_AnySplit):
    """The set's own train, validation and test."""

    kind: Literal["official"] = "official"


class FoldSplit(_AnySplit):
    """Official subsets (LUNA16's subset0 to subset9): some for validation, some for test."""

    kind: Literal["folds"] = "folds"
    val: tuple[int, ...] = Field(min_length=1, description="Subsets for validation.")
    test: tuple[int, ...] = Field(min_length=1, description="Subsets for test.")

    @model_validator(mode="after")
    def _apart(self) -> FoldSplit:
        if twice := sorted(set(self.val) & set(self.test)):
            raise ValueError(f"subsets {twice} stand in both val and test")
        return self


class FractionSplit(_AnySplit):
    """Random shares of the patients, positive and negative ones in like proportion."""

    kind: Literal["fractions"] = "fractions"
    val: float = Field(0.2, gt=0, lt=1, description="Share of the patients for validation.")
    test: float = Field(0.2, gt=0, lt=1, description="Share of the patients for test.")

    @model_validator(mode="after")
    def _something_left(self) -> FractionSplit:
        if self.val + self.test >= 1:
            raise ValueError(f"val {self.val} and test {self.test} leave nothing to train on")
        return self


class CrossValidationSplit(_AnySplit):
    """One of several folds of the training and validation cases; official test is left alone.

    Recipes are chosen with it: its "test" is a fold of the cases that are not test.
    """

    kind: Literal["cross_validation"] = "cross_validation"
    folds: int = Field(5, ge=3, description="Folds of the patients.")
    fold: int = Field(0, ge=0, description="Fold that is held out; the next one validates.")

    @model_validator(mode="after")
    def _known_fold(self) -> CrossValidationSplit:
        if self.fold >= self.folds:
            raise ValueError(f"fold {self.fold} of {self.folds}: folds count from 0")
        return self


class FrozenSplit(_AnySplit):
    """What `medkd split` froze for one INDEX; another index is refused."""

    kind: Literal["frozen"] = "frozen"
    path: InputPath = Field(description="The split.json.")
    fold: int | None = Field(
        None, ge=0, description="Fold that is the test part, from 0; the next one validates."
    )


AnySplit = OfficialSplit | FoldSplit | FractionSplit | CrossValidationSplit | FrozenSplit
SplitSettings = Annotated[AnySplit, Field(discriminator="kind")]
