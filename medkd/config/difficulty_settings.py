"""How hard phantoms are is measured by these settings: the third kind that `medkd bench` takes.

They say which scans, what the blob finder does, which classifier judges, and how the surroundings
are read. They are fixed before a generator is measured, and tell nothing of the generator itself.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from medkd.settings import OtherPath, Settings
from medkd.synthetic.phantom import PhantomSettings


class BlobSettings(Settings):
    """A blob finder without learning: skimage.feature.blob_log inside the true lung."""

    spacing_mm: float = Field(1.0, gt=0, description="Voxels that it looks at, mm.")
    hu_window: tuple[float, float] = Field((-1000.0, 400.0), description="HU read as 0 to 1.")
    sigmas: tuple[float, float] = Field((1.0, 9.0), description="Smallest and largest, voxels.")
    sigma_steps: int = Field(9, ge=2, le=30, description="How many sigmas, evenly spread.")
    overlap: float = Field(0.5, ge=0, le=1, description="Of two blobs more alike one goes.")
    thresholds: tuple[float, ...] = Field(
        (0.04, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6),
        min_length=1,
        description="Least responses that are tried on the tuning scans; the best CPM decides.",
    )

    @model_validator(mode="after")
    def _rising(self) -> BlobSettings:
        for name in ("hu_window", "sigmas"):
            low, high = getattr(self, name)
            if low >= high:
                raise ValueError(f"{name}: expected [low, high], got [{low:g}, {high:g}]")
        if min(self.sigmas) <= 0 or min(self.thresholds) <= 0:
            raise ValueError("sigmas and thresholds must be above 0")
        return self


class JudgeSettings(Settings):
    """A classifier of real nodules that never saw a phantom."""

    weights: OtherPath = Field(
        description="File of the network `luna_classifier`; absent: left out."
    )
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="What the file must have.")


class SurroundingsSettings(Settings):
    """Boosted trees on what lies around a place, the place itself masked out."""

    margin_mm: float = Field(2.0, ge=0, description="Masked beyond a nodule's radius, mm.")
    shells_mm: tuple[float, ...] = Field(
        (3.0, 7.0, 12.0), min_length=1, description="Outer ends of the shells beyond the mask, mm."
    )
    folds: int = Field(10, ge=2, le=50, description="Of the cross-validation, whole scans each.")
    repeats: int = Field(5, ge=1, le=50, description="Shuffles; a place's scores are averaged.")


class DifficultySettings(Settings):
    """What `medkd bench` measures of the phantom generator."""

    name: str = Field("phantom_difficulty", pattern=r"^[\w.-]+$", description="Name of the bench.")
    size: Literal["small", "region", "full"] = Field("full", description="Of every phantom.")
    site: Literal["a", "b", "c", "mixed"] = Field("mixed", description="Whose scanner.")
    nodules_per_scan: str = Field("5-8", description='Fewest and most nodules a scan, "A-B".')
    tuning_scans: int = Field(20, ge=1, description="Scans that the threshold is tuned on.")
    tuning_seed: int = Field(description="Of these scans; for nothing else.")
    scans: int = Field(40, ge=2, description="Scans that are scored.")
    test_seed: int = Field(description="Of these scans; for nothing else.")
    least_diameter_mm: float = Field(4.0, ge=0, description="Smaller nodules are not judged.")
    false_marks_kept: int = Field(
        40, ge=1, le=100, description="Best false marks a scan of the blob finder."
    )
    apart_mm: float = Field(
        5.0, ge=0, description="A false mark lies this far beyond the radius of every finding."
    )
    blobs: BlobSettings = Field(default_factory=BlobSettings, description="The blob finder.")
    judge: JudgeSettings | None = Field(None, description="Null: no classifier judges.")
    surroundings: SurroundingsSettings = Field(
        default_factory=SurroundingsSettings, description="What the boosted trees see."
    )
    bootstrap: int = Field(1000, ge=0, description="Resamples of the intervals, by scan.")
    seed: int = Field(0, ge=0, description="Of resamples, folds and drawn radii.")
    workers: int = Field(2, ge=1, le=64, description="Processes; each needs about 2.5 GiB.")

    @model_validator(mode="after")
    def _apart(self) -> DifficultySettings:
        if self.tuning_seed == self.test_seed:
            raise ValueError("tuning_seed and test_seed must differ: no scan may serve twice")
        self.phantoms("test")
        return self

    def phantoms(self, part: Literal["tuning", "test"]) -> PhantomSettings:
        """Return which phantoms make up one part of the bench."""
        return PhantomSettings(
            site=self.site,
            size=self.size,
            nodules_per_scan=self.nodules_per_scan,
            scans=self.tuning_scans if part == "tuning" else self.scans,
            seed=self.tuning_seed if part == "tuning" else self.test_seed,
        )
