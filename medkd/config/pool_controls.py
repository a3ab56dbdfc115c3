"""Settings of the further controls of a run with samples without labels."""

from __future__ import annotations

from pydantic import Field

from medkd.settings import Settings


class PoolControls(Settings):
    """What samples without labels give without a teacher.

    A gain of the student is transfer only if it is a gain over self-training.
    """

    views: int | None = Field(
        6,
        ge=2,
        description="Arm control_views: the control, each sample scored by the mean logit over "
        "this many views (see augmentation); null: no such arm. Not for point detectors.",
    )
    self_training: bool = Field(
        True,
        description="Arm self_training: a student of the control's mean answers over views; a "
        "point detector learns from the control's answers to the same crops.",
    )
