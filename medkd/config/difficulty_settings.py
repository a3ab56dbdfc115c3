"""Settings of the phantom difficulty benchmark, which `medkd bench` runs.

They select the phantom scans and configure the blob finder, the classifier that serves as judge,
and the features of the surroundings. They are fixed before a generator version is measured and
do not depend on the generator.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from medkd.settings import OtherPath, Settings
from medkd.synthetic.phantom import PhantomSettings


class BlobSettings(Settings):
    """A blob finder without training: `skimage.feature.blob_log` inside the true lung mask."""

    spacing_mm: float = Field(1.0, gt=0, description="Voxel spacing of the image it searches, mm.")
    hu_window: tuple[float, float] = Field(
        (-1000.0, 400.0), description="HU that are scaled to 0 and 1."
    )
    sigmas: tuple[float, float] = Field(
        (1.0, 9.0), description="Smallest and largest sigma, voxels."
    )
    sigma_steps: int = Field(9, ge=2, le=30, description="Number of sigmas, evenly spaced.")
    overlap: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Of two blobs that overlap more than this, the smaller is dropped.",
    )
    thresholds: tuple[float, ...] = Field(
        (0.04, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6),
        min_length=1,
        description="Minimum responses tried on the tuning scans; the best CPM decides.",
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
    """A classifier that was trained on real nodules and never on phantoms."""

    weights: OtherPath = Field(
        description="Weight file of the network `luna_classifier`; skipped if it does not exist."
    )
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="Expected SHA-256 of the file.")


class SurroundingsSettings(Settings):
    """Boosted trees on the surroundings of a location, with the location itself masked out."""

    margin_mm: float = Field(
        2.0, ge=0, description="Width of the mask beyond the nodule's radius, mm."
    )
    shells_mm: tuple[float, ...] = Field(
        (3.0, 7.0, 12.0),
        min_length=1,
        description="Outer radii of the shells, beyond the mask, mm.",
    )
    folds: int = Field(10, ge=2, le=50, description="Cross-validation folds; a scan is in one.")
    repeats: int = Field(5, ge=1, le=50, description="Repeats with new folds; scores are averaged.")


class DifficultySettings(Settings):
    """A benchmark of how difficult and how realistic the generated phantoms are."""

    name: str = Field("phantom_difficulty", pattern=r"^[\w.-]+$", description="Name of the bench.")
    size: Literal["small", "region", "full"] = Field("full", description="Size of every phantom.")
    site: Literal["a", "b", "c", "mixed"] = Field(
        "mixed", description="Simulated hospital (its scanner); mixed: all three in turn."
    )
    nodules_per_scan: str = Field("5-8", description='Range of nodules per scan, "A-B".')
    tuning_scans: int = Field(20, ge=1, description="Scans used to tune the threshold.")
    tuning_seed: int = Field(description="Seed of the tuning scans only.")
    scans: int = Field(40, ge=2, description="Scans that are scored.")
    test_seed: int = Field(description="Seed of the scored scans only.")
    least_diameter_mm: float = Field(
        4.0, ge=0, description="Least diameter of nodules for the judge and the trees, mm."
    )
    false_marks_kept: int = Field(
        40, ge=1, le=100, description="Highest-scoring false marks of the blob finder, per scan."
    )
    apart_mm: float = Field(
        5.0, ge=0, description="Least distance of a false mark from any finding's surface, mm."
    )
    blobs: BlobSettings = Field(default_factory=BlobSettings, description="The blob finder.")
    judge: JudgeSettings | None = Field(None, description="The classifier; null: not measured.")
    surroundings: SurroundingsSettings = Field(
        default_factory=SurroundingsSettings, description="Input of the boosted trees."
    )
    bootstrap: int = Field(1000, ge=0, description="Bootstrap resamples, by scan.")
    seed: int = Field(0, ge=0, description="Seed of resamples, folds and drawn radii.")
    workers: int = Field(
        2, ge=1, le=64, description="Processes; each needs about 2.5 GiB of memory."
    )

    @model_validator(mode="after")
    def _apart(self) -> DifficultySettings:
        if self.tuning_seed == self.test_seed:
            raise ValueError(
                "tuning_seed and test_seed must differ: tuning scans must not be scored"
            )
        self.phantoms("test")
        return self

    def phantoms(self, part: Literal["tuning", "test"]) -> PhantomSettings:
        """Return the phantom settings of the tuning scans or of the scored scans."""
        return PhantomSettings(
            site=self.site,
            size=self.size,
            nodules_per_scan=self.nodules_per_scan,
            scans=self.tuning_scans if part == "tuning" else self.scans,
            seed=self.tuning_seed if part == "tuning" else self.test_seed,
        )
