"""Ask a network about the views of samples, and keep what it says in the cache of the domain.

`view_logits` serves everything that needs logits of many views: stored targets of a student, the
members of an ensemble, the fit of a probe, and scoring with averaged test views. What is kept is
what costs most: of a probe the pooled features, which do not depend on the labels and so serve all
its fits; of an ensemble the answers of its members.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from medkd.data.augment import view_batch
from medkd.data.cache_folder import CacheFolder
from medkd.data.patches import PatchSource
from medkd.models.ensemble import Ensemble
from medkd.models.network import Network
from medkd.models.probe import Probe
from medkd.provenance import sha256_of_text
from medkd.train.domains import Domain
from medkd.train.logs import Progress
from medkd.transfer.targets import (
    LOGITS,
    Precision,
    TargetShape,
    TargetStore,
    check_space,
    create_store,
)
from medkd.transfer.teacher import FrozenTeacher

FEATURES = "features"
"""Name of the pooled features of a probe in a store."""

PLAIN = 0
"""Number of views that stands for the samples as they are, without augmentation."""

_BATCH = 64
_ROWS_AT_ONCE = 4096

Run = Callable[[Tensor], dict[str, Tensor]]
"""Maps views [B, C, *spatial] to named outputs [B, ...]."""


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """Which views of which samples are asked about, and who is told how far that is.

    `views` views per sample are drawn with `seed`; `PLAIN`: the samples as they are. `rows` are the
    numbers of the samples (None: all).
    """

    domain: Domain
    source: PatchSource
    views: int
    seed: int
    device: str
    precision: Precision
    title: str
    progress: Progress
    rows: tuple[int, ...] | None = None

    @property
    def samples(self) -> Sequence[int]:
        """The numbers of the samples that are asked about."""
        return range(len(self.source)) if self.rows is None else self.rows

    @property
    def sample_id(self) -> tuple[str, ...]:
        """The names of the samples that are asked about."""
        return tuple(self.source.sample_id[number] for number in self.samples)

    @property
    def count(self) -> int:
        """Answers per sample, at least 1."""
        return max(self.views, 1)


def view_logits(network: Network, asked: Asked) -> Tensor:
    """Return the logits [N, V, K] of a network for the views of samples, in their order."""
    if isinstance(network, Ensemble):
        members = [view_logits(member, asked) for member in network.networks]
        flat = network.cpu().combine([member.flatten(0, 1) for member in members])
        return network.pick_used(flat).detach().view(*members[0].shape[:2], -1)
    if isinstance(network, Probe):
        features = read_features(network, asked)
        with torch.no_grad():
            found = network.cpu().eval().pick_used(network.classify(features.flatten(0, 1)))
        return found.view(*features.shape[:2], -1)
    network = network.to(asked.device).eval()
    with torch.no_grad():
        rows = [network(batch).float().cpu() for batch, _ in _view_batches(asked, _every(asked))]
    return torch.cat(rows).view(len(asked.samples), asked.count, -1)


def read_features(probe: Probe, asked: Asked) -> Tensor:
    """Return the pooled features [N, V, F] of views; they are computed once and kept."""
    store = open_answers(
        _named(FEATURES, probe.read_features),
        asked,
        teacher=f"{FrozenTeacher(probe.backbone).fingerprint()} {_reading(probe)}",
        network=probe,
    )
    rows = store.rows_of(*asked_views(asked))
    parts = np.array_split(rows, -(-len(rows) // _ROWS_AT_ONCE))
    found = torch.cat([store.read(part)[FEATURES] for part in parts])
    return found.view(len(asked.samples), asked.count, -1)


def asked_views(asked: Asked) -> tuple[list[str], list[int]]:
    """Return the sample id and the number of each view that is asked about."""
    ids = [name for name in asked.sample_id for _ in range(asked.count)]
    return ids, [*range(asked.count)] * len(asked.samples)


def open_answers(run: Run, asked: Asked, *, teacher: str, network: nn.Module) -> TargetStore:
    """Open the store of a teacher's answers in the cache, and compute those that are missing.

    Args:
        run: what is computed for a batch of views.
        asked: the views.
        teacher: everything about the teacher on which the answers depend.
        network: is moved to the device and set to eval mode.
    """
    network.to(asked.device).eval()
    ids = tuple(sorted(asked.source.sample_id))
    with torch.no_grad():
        first = run(asked.source.__getitems__([0]).image.to(asked.device))
    shape = TargetShape(
        ids, asked.count, {k: tuple(v.shape[1:]) for k, v in first.items()}, asked.precision
    )
    folder = Path(asked.domain.settings.cache_dir) / "targets"
    cache = CacheFolder(folder, asked.domain.settings.cache_gib)
    key = _key(asked, shape, teacher)
    if not (folder / key).is_dir():
        check_space(shape, folder)
    store = TargetStore(cache.entry(key, lambda entry: create_store(entry, shape)))
    todo = _every(asked)
    rows = store.rows_of(*asked_views(asked))
    missing = [pair for pair, lacks in zip(todo, store.missing(rows), strict=True) if lacks]
    for (views, pairs), done in zip(_view_batches(asked, missing), _counts(missing), strict=True):
        names = [asked.source.sample_id[sample] for sample, _ in pairs]
        with torch.no_grad():
            store.write(store.rows_of(names, [view for _, view in pairs]), run(views))
        asked.progress(f"{asked.title}: answers stored", done, len(missing), "")
    return store


def _key(asked: Asked, shape: TargetShape, teacher: str) -> str:
    """Name a store by all that its answers depend on."""
    settings = asked.domain.settings
    views = settings.augmentation.model_dump_json(exclude={"views", "seed"})
    parts = [
        teacher, json.dumps(asked.domain.preprocessing.steps, default=str),
        asked.domain.index.fingerprint, *([views, str(asked.seed)] if asked.views else ["plain"]),
        str(asked.views), json.dumps({k: list(v) for k, v in shape.rows.items()}),
        asked.precision, *shape.sample_id,
    ]  # fmt: skip
    return sha256_of_text("\n".join(parts))[:32]


def _every(asked: Asked) -> list[tuple[int, int]]:
    return [(n, view) for n in asked.samples for view in range(asked.count)]


def _view_batches(
    asked: Asked, pairs: Sequence[tuple[int, int]]
) -> Iterator[tuple[Tensor, Sequence[tuple[int, int]]]]:
    """Yield views on the device, and their (sample, view) numbers."""
    settings = asked.domain.settings.augmentation
    for start in range(0, len(pairs), _BATCH):
        part = pairs[start : start + _BATCH]
        batch = asked.source.__getitems__([sample for sample, _ in part])
        if asked.views:
            batch = replace(batch, view_number=tuple(view for _, view in part))
            batch = view_batch(batch.to(torch.device(asked.device)), settings, seed=asked.seed)
        yield batch.image.to(asked.device), part


def _counts(pairs: Sequence[object]) -> Iterator[int]:
    return (min(start + _BATCH, len(pairs)) for start in range(0, len(pairs), _BATCH))


def _named(name: str, read: Callable[[Tensor], Tensor]) -> Run:
    return lambda views: {name: read(views)}


def teacher_run(teacher: FrozenTeacher, layers: Sequence[str]) -> Run:
    """Return what a store keeps of a teacher: calibrated logits, and the outputs of layers."""

    def run(views: Tensor) -> dict[str, Tensor]:
        answer = teacher(views, layers)
        return {LOGITS: answer.logits, **answer.features}

    return run


def _reading(probe: Probe) -> str:
    settings = probe.settings
    looks = [look.model_dump(mode="json") for look in settings.looks]
    return json.dumps([settings.layers, settings.pooling, looks])
