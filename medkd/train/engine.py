"""Train one epoch: objective, optimizer, learning rate and averaged weights on one device.

Several processes (`ranks.py`) compute a share of every batch each, and all do the same step.

The steps run with `accelerate`; `loop.py` runs the epochs.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Protocol

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from medkd.config.training_settings import TrainingSettings
from medkd.detect.fast import has_bfloat16
from medkd.errors import MedkdError, SettingsError
from medkd.processes import launched
from medkd.train.layer_rates import LayerRates
from medkd.train.logs import Progress
from medkd.train.ranks import ALONE, Ranks, missing_gpus
from medkd.train.shared_layers import shared_layers
from medkd.train.state import Scores, Snapshot, random_state, restore_random_state
from medkd.transfer.taps import Join
from medkd.types import PatchBatch

_NOT_CONNECTED = (
    "only `medkd train` runs in several processes, started by torchrun: start this alone; several "
    "runs are best started as separate commands"
)

View = Callable[[PatchBatch], PatchBatch]
"""Replaces the samples of a batch, on its device, by augmented views."""


class TrainingError(MedkdError):
    """The training cannot continue: its loss is not finite, or the GPU has too little memory."""


class ObjectiveOutput(Protocol):
    """The result of one forward pass."""

    @property
    def loss(self) -> Tensor:
        """The weighted sum of the loss terms, which is minimised."""

    @property
    def terms(self) -> Mapping[str, Tensor]:
        """The unweighted loss terms by name."""


class Objective(Protocol):
    """An `nn.Module` that computes the loss and contains the student and other trained parts.

    `join` is applied to the outputs of networks before losses are computed from them.
    """

    student: nn.Module
    join: Join

    def __call__(self, batch: PatchBatch, progress: float) -> ObjectiveOutput:
        """Return the loss of a batch; `progress` is the fraction of the training done, 0..1."""

    def trainable_parameters(self) -> Iterable[nn.Parameter]:
        """Return the parameters to optimise."""

    def train(self, mode: bool = True) -> nn.Module:
        """Set the student and other trained parts to training mode or to evaluation mode."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state of all trained parts, without the teacher."""

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> object:
        """Restore the state of all trained parts."""


class WeightAverage:
    """An exponential moving average of a network's weights over the steps of training.

    Parameters and floating-point buffers (batch-norm statistics) are averaged; counters are
    copied. At the start the decay rises as (1 + n) / (10 + n), so that the average lags less.

    Args:
        network: the average starts as a copy of its weights.
        decay: share of the old average that is kept per step, 0..1.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.weights = {name: t.detach().clone() for name, t in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Include the weights after one optimizer step."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, tensor in network.state_dict().items():
            average = self.weights[name]
            if average.is_floating_point():
                average.lerp_(tensor.to(average.dtype), 1 - decay)
            else:
                average.copy_(tensor)


class Engine:
    """One objective in training.

    Args:
        objective: it is moved to the device and prepared for the precision of the settings.
        settings: how it is trained.
        batches: batches per epoch.
        device: "auto", "cpu" or "cuda".
        title: name under which progress is reported.
        ranks: the processes that train together.
    """

    def __init__(
        self,
        objective: Objective,
        settings: TrainingSettings,
        *,
        batches: int,
        device: str,
        title: str,
        ranks: Ranks = ALONE,
    ) -> None:
        self.settings = settings
        self.ranks = ranks
        self.objective = objective
        self.batches = batches
        self.title = title
        self.step = 0
        self.steps_per_epoch = math.ceil(batches / settings.accumulate)
        self.steps = settings.epochs * self.steps_per_epoch
        points = bool(getattr(objective.student, "finds_points", False))
        precision = settings.mixed_precision
        if precision == "auto" and points and not torch.cuda.is_available() and has_bfloat16():
            precision = "bf16"
        self.accelerator = build_accelerator(precision, device)
        if points:  # a quarter faster in float32, several times in bf16
            objective.student.to(memory_format=torch.channels_last_3d)
        elif getattr(objective.student, "spatial_dims", 3) == 2:  # a third faster
            objective.student.to(memory_format=torch.channels_last)
        self.layers = LayerRates(objective.student, settings.layers)
        groups, self.rules = self.layers.groups(
            objective.trainable_parameters(), settings.weight_decay
        )
        self._rate = settings.learning_rate
        optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate)
        # Evaluation mode only leaves out the wrapper of DDP: the gradients are averaged here, and
        # the wrapper would refuse networks of which some parts are not trained for a while.
        self.model = self.accelerator.prepare_model(objective, evaluation_mode=True)
        self.optimizer = self.accelerator.prepare_optimizer(optimizer)
        if ranks.count > 1:
            objective.join = ranks.join
        self._networks = [objective.student, *getattr(objective, "peers", ())]
        decay = settings.ema_decay
        self.average = WeightAverage(objective.student, decay) if decay else None

    @property
    def learning_rate(self) -> float:
        """Learning rate of the last step, without the factors of single layers."""
        return self._rate

    def views(self, batches: Iterable[PatchBatch], view: View | None) -> Iterator[PatchBatch]:
        """Yield the batches of an epoch on the device, with augmented views as samples."""
        for batch in islice(batches, self.batches):
            moved = batch.to(self.accelerator.device)
            yield self.ranks.with_all_labels(view(moved) if view else moved)

    def train_epoch(self, batches: Iterator[PatchBatch], epoch: int, progress: Progress) -> Scores:
        """Train on every batch.

        Args:
            batches: the batches of the epoch.
            epoch: number of the epoch from 0, for the progress report.
            progress: called after every step except the very last, which validation follows.

        Returns:
            Means over the epoch: `train_loss`, and the unweighted `term_<name>`. Of several
            processes only the first checks them.

        Raises:
            TrainingError: if a mean is not finite, or the memory of the GPU is too small.
        """
        sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros(()))
        done = 0
        note = f"epoch {epoch + 1} of {self.settings.epochs}"
        self.objective.train()
        while group := list(islice(batches, self.settings.accumulate)):
            self.layers.apply(self.step / self.steps)
            with _memory_hint(self.settings, self.title):
                for batch in group:
                    with shared_layers(self._networks, self.ranks, len(batch.label)):
                        output: ObjectiveOutput = self.model(batch, self.step / self.steps)
                    self.accelerator.backward(output.loss / len(group))
                    sums["train_loss"] = sums["train_loss"] + _value(output.loss)
                    for name, term in output.terms.items():
                        sums[f"term_{name}"] = sums[f"term_{name}"] + _value(term)
                self._update()
            done += len(group)
            if self.step < self.steps:
                progress(f"{self.title}: training steps", self.step, self.steps, note)
        return _finite_means(sums, done, self.title) if self.ranks.is_first else {}

    @contextmanager
    def evaluated_weights(self) -> Iterator[None]:
        """Load the averaged weights, if there are any, into the student for a while."""
        if self.average is None:
            yield
            return
        student = self.objective.student
        own = {name: t.detach().clone() for name, t in student.state_dict().items()}
        student.load_state_dict(self.average.weights)
        try:
            yield
        finally:
            student.load_state_dict(own)

    def snapshot(self) -> Snapshot:
        """Copy the weights and the states of optimizer and random generators."""
        scaler = self.accelerator.scaler
        return Snapshot(
            step=self.step,
            model=_copied(self.objective.state_dict()),
            optimizer=self.optimizer.state_dict(),
            random=random_state(),
            average=_copied(self.average.weights) if self.average else None,
            average_updates=self.average.updates if self.average else 0,
            scaler=scaler.state_dict() if scaler else None,
        )

    def restore(self, state: Snapshot) -> None:
        """Restore the state of a snapshot."""
        self.step = state.step
        self.objective.load_state_dict(state.model)
        self.optimizer.load_state_dict(state.optimizer)
        restore_random_state(state.random)
        if self.average and state.average is not None:
            device = self.accelerator.device
            self.average.weights = {n: t.to(device) for n, t in state.average.items()}
            self.average.updates = state.average_updates
        if self.accelerator.scaler and state.scaler:
            self.accelerator.scaler.load_state_dict(state.scaler)

    def _update(self) -> None:
        self.ranks.average_gradients(self.objective.trainable_parameters())
        self._rate = learning_rate_at(
            self.step,
            steps=self.steps,
            warmup_steps=round(self.settings.warmup_epochs * self.steps_per_epoch),
            peak=self.settings.learning_rate,
        )
        progress = self.step / self.steps
        for group, rule in zip(self.optimizer.param_groups, self.rules, strict=True):
            group["lr"] = self._rate * rule.factor(progress)
        if self.settings.gradient_clip:
            moved = list(self.objective.trainable_parameters())
            self.accelerator.clip_grad_norm_(moved, self.settings.gradient_clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if self.average:
            self.average.update(self.objective.student)


def learning_rate_at(step: int, *, steps: int, warmup_steps: int, peak: float) -> float:
    """Return the learning rate of a step: linear warm-up, then half a cosine down to zero.

    Args:
        step: number of the step, from 0.
        steps: steps of the whole training.
        warmup_steps: steps of the warm-up.
        peak: highest learning rate.

    Example:
        >>> [round(learning_rate_at(s, steps=6, warmup_steps=2, peak=1.0), 3) for s in range(6)]
        [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, steps - warmup_steps)
    return peak * 0.5 * (1 + math.cos(math.pi * done))


def build_accelerator(mixed_precision: str, device: str) -> Accelerator:
    """Build the `Accelerator` for one arm.

    Args:
        mixed_precision: "no", "bf16", "fp16", or "auto" (bf16 on a GPU that supports it).
        device: "auto" (the fastest one available), "cpu" or "cuda".

    Raises:
        SettingsError: if the device or the precision is not available.
    """
    # accelerate keeps one state per process and refuses another precision. Arms may differ in
    # precision, and accelerate has no public way to reset the state.
    AcceleratorState._reset_state(reset_partial_state=True)
    asked = mixed_precision
    if asked == "auto":
        gpu = device != "cpu" and torch.cuda.is_available()
        native = gpu and torch.cuda.is_bf16_supported(including_emulation=False)
        asked = "bf16" if native else "no"
    connected = dist.is_initialized()
    if launched().count > 1 and not connected:
        raise SettingsError("training cannot run here as configured", [_NOT_CONNECTED])
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision=asked)
    reasons = []
    if accelerator.num_processes > 1 and not connected:  # started by MPI, without torchrun
        reasons.append(_NOT_CONNECTED)
    if connected and accelerator.device.type == "cuda" and (few := missing_gpus()):
        reasons.append(few)
    if device == "cuda" and accelerator.device.type != "cuda":
        reasons.append("device: cuda, but this machine has no CUDA device; use auto or cpu")
    if mixed_precision == "fp16" and accelerator.device.type != "cuda":
        reasons.append("mixed_precision: fp16 needs a CUDA device; use bf16 or no")
    if reasons:
        raise SettingsError("training cannot run here as configured", reasons)
    return accelerator


@contextmanager
def _memory_hint(settings: TrainingSettings, title: str) -> Iterator[None]:
    """Convert a lack of memory on a GPU to an error with a remedy."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        half = max(settings.batch_size // 2, 1)
        remedy = (
            f"training.batch_size is {settings.batch_size}: use {half} with training.accumulate "
            f"{2 * settings.accumulate} for the same step"
        )
        raise TrainingError(
            f"{title}: the memory of the GPU is too small",
            [str(error).splitlines()[0], remedy, "or use mixed_precision: bf16, or device: cpu"],
        ) from error


def _value(tensor: Tensor) -> Tensor:
    return tensor.detach().float().cpu()


def _copied(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in weights.items()}


def _finite_means(sums: Mapping[str, Tensor], count: int, title: str) -> Scores:
    means = {name: float(total) / count for name, total in sums.items()}
    if not all(math.isfinite(value) for value in means.values()):
        raise TrainingError(
            f"{title}: the loss is not a finite number",
            [f"{means}", "lower training.learning_rate, or set training.gradient_clip: 1.0"],
        )
    return means
