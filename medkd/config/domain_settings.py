"""Settings of a data domain: data set, split, loading, augmentation, crops of detectors."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from medkd.data.archive_cases import ArchiveData
from medkd.data.augment import AugmentationSettings, check_augmentation
from medkd.data.crops import CropSettings
from medkd.data.data_sets import Luna16Data, MedMnistData
from medkd.data.loading import ImageStep, LoadingSettings, patch_shape
from medkd.data.splits import SplitSettings
from medkd.settings import OtherPath, Settings
from medkd.synthetic.source import PhantomData
from medkd.synthetic.stream import PhantomStreamSettings

ArmName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
DataSettings = Annotated[
    Luna16Data | PhantomData | MedMnistData | ArchiveData, Field(discriminator="kind")
]


class MoreCrops(Settings):
    """Further scans on which point detectors are trained; validation and test never use them."""

    data: DataSettings = Field(description="The data set; all its scans are used.")
    share: float = Field(gt=0, description="Crops from this set, relative to the other sets.")
    nodule_share: float = Field(
        0.7, ge=0, le=1, description="Share of its crops around a nodule; 0: without nodules."
    )


class PhantomCrops(PhantomStreamSettings):
    """Phantoms that are generated while a point detector is trained."""

    share: float = Field(gt=0, description="Crops from phantoms, relative to the other sets.")
    nodule_share: float = Field(
        0.7, ge=0, le=1, description="Share of their crops around a nodule."
    )


class MiningSettings(Settings):
    """Hard negatives: marks of the teacher in training scans that are on no finding."""

    rounds: int = Field(
        1, ge=1, description="Rounds, evenly spread over the training of the teacher."
    )
    per_scan: int = Field(20, ge=1, description="Most hard negatives per scan.")
    share: float = Field(0.3, gt=0, description="Crops around them, relative to other sets.")


class TrainingCrops(CropSettings):
    """The crops on which point detectors are trained, and their sources."""

    share: float = Field(
        1.0, ge=0, description="Crops from the labelled training scans, relative to other sets."
    )
    unlabelled_share: float = Field(
        0.5, ge=0, description="Crops from training scans without labels, relative to other sets."
    )
    rejected_share: float = Field(
        0.3,
        ge=0,
        description="Crops around marks that readers rejected in `medkd review` (an INDEX with "
        "--reviews), relative to other sets.",
    )
    more: dict[ArmName, MoreCrops] = Field(
        default_factory=dict, description="Further sets of scans, by name."
    )
    phantoms: PhantomCrops | None = Field(
        None, description="Phantoms generated during the training; null: none."
    )
    mining: MiningSettings | None = Field(
        None, description="Hard negatives from the training scans; null: none."
    )


class DomainSettings(Settings):
    """One data domain: the data set, its split, loading steps and augmentation."""

    data: DataSettings = Field(description="The data set.")
    split: SplitSettings = Field(description="How it is split into train, validation and test.")
    loading: LoadingSettings = Field(
        (ImageStep(),), description="Steps from a file to the input of the models."
    )
    augmentation: AugmentationSettings = Field(
        default_factory=AugmentationSettings, description="Random changes of the training samples."
    )
    crops: TrainingCrops = Field(
        default_factory=TrainingCrops, description="Crops for point detectors (detector3d)."
    )
    negatives_per_positive: int | None = Field(
        None, ge=1, description="Negative training candidates kept per positive one; null: all."
    )
    cache_dir: OtherPath = Field(
        "${run_dir}/cache", description="Folder of the cache of prepared scans; see `medkd cache`."
    )
    cache_gib: float = Field(
        100.0,
        gt=0,
        description="Size limit of the cache, GiB; the least recently used entries are removed.",
    )

    @model_validator(mode="after")
    def _loading_fits_the_set(self) -> DomainSettings:
        if self.is_ct and patch_shape(self.loading) is None:
            raise ValueError("CT needs loading steps with a crop step; see demo/phantom")
        if isinstance(self.data, ArchiveData) and not self.is_ct and not self._reads_files():
            raise ValueError(
                "radiographs of an archive need loading: [{kind: image, source: file, size_px: "
                "[ROWS, COLUMNS]}]"
            )
        reasons = check_augmentation(self.augmentation, 3 if self.is_ct else 2)
        if self.is_ct and reasons:
            raise ValueError("; ".join(reasons))
        return self

    @property
    def is_ct(self) -> bool:
        """Whether samples are patches of CT scans rather than whole images."""
        images = isinstance(self.data, ArchiveData) and self.data.cases == "images"
        return not images and not isinstance(self.data, MedMnistData)

    def _reads_files(self) -> bool:
        steps = [step for step in self.loading if isinstance(step, ImageStep)]
        return any(s.source == "file" and s.size_px and len(s.size_px) == 2 for s in steps)
