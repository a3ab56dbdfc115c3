"""What the keys of a run's configuration mean: its sections, composed of the rooms' own settings.

`config.py` reads YAML into `RunSettings` and prints the descriptions below (`medkd config keys`).
A key that belongs to one thing alone is described beside that thing.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from medkd.settings import Settings


class TrainingSettings(Settings):
    """How one network is trained, whatever it learns from."""

    epochs: int = Field(20, ge=1, description="Passes over the training samples.")
    batch_size: int = Field(32, ge=1, description="Samples a forward pass.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak of the cosine schedule (AdamW).")
    weight_decay: float = Field(
        0.01, ge=0, description="Decoupled decay; biases and norm layers are left alone."
    )
    warmup_epochs: float = Field(
        1.0, ge=0, description="Epochs in which the learning rate rises from 0 to its peak."
    )
    mixed_precision: Literal["no", "bf16", "fp16"] = Field(
        "no", description="Precision of the forward pass; fp16 needs a GPU."
    )
    accumulate: int = Field(1, ge=1, description="Batches whose gradients make one step.")
    ema_decay: float | None = Field(
        None, gt=0, lt=1, description="Decay a step of averaged weights, which then are the result."
    )
    early_stop_patience: int | None = Field(
        None, ge=1, description="Epochs without a better validation score before stopping."
    )
    monitor: Literal["roc_auc", "pr_auc", "loss"] = Field(
        "roc_auc", description="Validation score that picks the best epoch; ties go to the loss."
    )
    keep: Literal["best", "last"] = Field(
        "best", description="Weights that are the result: of the best epoch, or of the last."
    )
    balanced: bool = Field(True, description="Batches hold every class in equal parts.")
    prior: Literal["data", "balanced"] = Field(
        "data",
        description="data: probabilities are put right for the true share of positives; "
        "balanced: they read as if classes were equally frequent.",
    )
    gradient_clip: float | None = Field(None, gt=0, description="Largest norm of the gradient.")
    workers: int = Field(0, ge=0, description="Processes that load samples; 0: this one.")
    max_steps_per_epoch: int | None = Field(
        None, ge=1, description="Batches an epoch at most; for trials."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> TrainingSettings:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs {self.warmup_epochs} leaves nothing of {self.epochs} epochs; "
                "set it below"
            )
        if self.early_stop_patience is not None and self.keep == "last":
            raise ValueError("early_stop_patience with keep: last keeps a worse epoch; use best")
        return self


class EvaluationSettings(Settings):
    """How numbers are made from predictions."""

    rule: Literal["youden", "max_accuracy", "half", "sensitivity"] = Field(
        "youden", description="How the threshold is chosen on validation; half: probability .5."
    )
    sensitivity: float = Field(
        0.9, gt=0, lt=1, description="Least sensitivity on validation, for rule: sensitivity."
    )
    bootstrap: int = Field(1000, ge=0, description="Resamples of an interval; 0: no intervals.")
    seed: int = Field(0, ge=0, description="Seed of the bootstrap.")
    froc_fp_per_scan: float = Field(
        1.0, gt=0, description="False marks a scan at the frozen whole-scan operating point."
    )
