"""How one network is trained: passes, learning rates, and which weights are kept."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from medkd.settings import Settings


class LayerRate(Settings):
    """The learning rate of some layers, as a factor on that of the training."""

    match: str = Field(
        min_length=1,
        description="Shell pattern (* ? [ab]) of names of parameters, for example "
        "`features.0.*`; a pattern that matches none is refused with similar names.",
    )
    rate: float = Field(
        ge=0,
        description="Factor on the learning rate. 0: frozen; a frozen batch norm keeps its stored "
        "statistics too.",
    )
    until: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Share of the training after which the factor is 1 (staged unfreezing); null: "
        "it never changes.",
    )

    def factor(self, progress: float) -> float:
        """Return the factor on the learning rate at progress 0..1 of the training."""
        return 1.0 if self.until is not None and progress >= self.until else self.rate


class TrainingSettings(Settings):
    """How one network (teacher, control or student) is trained."""

    epochs: int = Field(20, ge=1, description="Passes over the training samples.")
    batch_size: int = Field(
        32, ge=1, description="Samples per forward pass, of all processes together."
    )
    learning_rate: float = Field(
        1e-3, gt=0, description="Peak learning rate of the cosine schedule (AdamW)."
    )
    weight_decay: float = Field(
        0.01, ge=0, description="Decoupled weight decay; not applied to biases and norm layers."
    )
    warmup_epochs: float = Field(
        1.0, ge=0, description="Epochs in which the learning rate rises from 0 to its peak."
    )
    mixed_precision: Literal["no", "bf16", "fp16", "auto"] = Field(
        "no",
        description="Precision of the forward pass. fp16 needs a GPU; so does bf16 for 3-D "
        "classifiers. auto: bf16 on a GPU that supports it, and for point detectors on a "
        "processor that multiplies bf16 numbers; else no.",
    )
    accumulate: int = Field(
        1, ge=1, description="Batches whose gradients are averaged for one optimizer step."
    )
    ema_decay: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Decay per step of an exponential moving average of the weights. If set, the "
        "averaged weights are used for validation and saved; null: no averaging.",
    )
    early_stop_patience: int | None = Field(
        None, ge=1, description="Stop after this many epochs without a better validation score."
    )
    monitor: Literal["roc_auc", "pr_auc", "loss"] = Field(
        "roc_auc",
        description="Validation metric that selects the best epoch; ties: the lower loss.",
    )
    keep: Literal["best", "last"] = Field(
        "best", description="Which weights are saved: of the best or of the last epoch."
    )
    average_best: int = Field(
        1, ge=1, description="keep: best saves the mean of the weights of this many best epochs."
    )
    balanced: bool = Field(True, description="Sample all classes equally often in each batch.")
    labelled_share: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Share of labelled samples in a batch, where some have no label; null: their "
        "natural share.",
    )
    prior: Literal["data", "balanced"] = Field(
        "data",
        description="data: probabilities are corrected for the true prevalence. "
        "balanced: they assume equally frequent classes.",
    )
    gradient_clip: float | None = Field(
        None, gt=0, description="Largest gradient norm; null: not clipped."
    )
    workers: int = Field(
        0, ge=0, description="Processes that load samples; 0: the main process loads."
    )
    max_steps_per_epoch: int | None = Field(
        None, ge=1, description="Most batches per epoch, for quick trials; null: no limit."
    )

    layers: tuple[LayerRate, ...] = Field(
        (),
        description="Learning rates of single layers, and layers that are not trained; where "
        "several entries match a parameter, the last one counts. Empty: one rate for all.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> TrainingSettings:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs {self.warmup_epochs} must be below epochs {self.epochs}: reduce it"
            )
        if self.early_stop_patience is not None and self.keep == "last":
            raise ValueError("early_stop_patience with keep: last saves a worse epoch; use best")
        if self.average_best > 1 and self.keep == "last":
            raise ValueError("average_best needs keep: best")
        return self
