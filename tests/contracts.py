"""What everything in an explicit table must hold, whatever it is. One check a table.

Each check takes one entry, built small, and asserts; the tests beside the rooms run it over
their whole table, so that a new entry is covered by its line in the table alone.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medkd.errors import SeriesError
from medkd.io.scans import ScanReader
from medkd.models.detector import MAP_CHANNELS, STRIDE
from medkd.models.network import Network, NetworkSettings
from medkd.models.package import ModelInfo, load_model, save_model
from medkd.models.table import build_architecture
from medkd.report.contents import RunContents
from medkd.report.sections import SectionBuilder
from medkd.transfer.objective import TransferObjective
from medkd.transfer.settings import TransferSettings
from medkd.transfer.taps import tap_layers
from medkd.transfer.teacher import FrozenTeacher
from medkd.types import PatchBatch, Scan


def random_view(settings: NetworkSettings, *, batch: int = 2) -> Tensor:
    """A view that the network takes; 32 voxels an axis where any shape does."""
    shape = settings.input_shape or (32,) * settings.spatial_dims
    generator = torch.Generator().manual_seed(3)
    return torch.rand(batch, settings.in_channels, *shape, generator=generator)


def check_model(settings: NetworkSettings, directory: Path) -> None:
    """Check one network of the table of models."""
    before = torch.get_rng_state()
    network = build_architecture(settings, seed=5)
    assert torch.equal(torch.get_rng_state(), before), "building moved the global generator"
    _check_declared(network, settings)
    _check_same_seed(network, settings)
    _check_forward(network, random_view(settings))
    _check_outputs_are_logits(network, random_view(settings))
    _check_gradient(network, random_view(settings))
    _check_round_trip(network.eval(), settings, directory)


def check_term(settings: TransferSettings, *, spatial_dims: int, labels: int = 1) -> None:
    """Check one transfer term, alone in an objective, in 2-D or 3-D."""
    assert len(settings.terms) == 1
    batch = tiny_batch(spatial_dims=spatial_dims, labels=labels)
    objective = _like(batch, settings)
    image = batch.image.clone()
    output = objective(batch, 1.0)
    assert torch.equal(batch.image, image), "the view was changed"
    (name,) = [name for name in output.terms if name != "hard_label"]
    value = output.terms[name]
    assert value.ndim == 0
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    assert value >= 0
    assert not value.requires_grad
    assert torch.equal(objective(batch, 1.0).terms[name], value), "not deterministic"
    output.loss.backward()
    assert _gradients_are_finite(objective)
    _check_term_teaches(objective, settings, batch=batch)
    _check_term_state(objective, settings, batch=batch)
    _check_term_is_robust(settings, batch=batch)


def check_alignment(settings: TransferSettings, *, spatial_dims: int) -> None:
    """Check one alignment of two domains, alone in an objective, in 2-D or 3-D."""
    assert settings.alignment is not None
    name, batch = settings.alignment.kind, paired_batch(spatial_dims=spatial_dims)
    kept = batch.image.clone(), batch.other.image.clone()
    objective = tiny_objective(settings, spatial_dims=spatial_dims)
    output = objective(batch, 0.5)
    assert torch.equal(batch.image, kept[0]), "the view was changed"
    assert torch.equal(batch.other.image, kept[1]), "the view of the other domain was changed"
    value = output.terms[name]
    assert (value.ndim, value.dtype, value.requires_grad) == (0, torch.float32, False)
    assert torch.equal(objective(batch, 0.5).terms[name], value), "not deterministic"
    output.loss.backward()
    assert _gradients_are_finite(objective)
    _check_alignment_reaches_the_student(settings, batch=batch, spatial_dims=spatial_dims)
    names = {key.split(".")[0] for key in objective.state_dict()}
    assert names <= {"student", "alignment"}
    other = tiny_objective(settings, spatial_dims=spatial_dims)
    other.load_state_dict(copy.deepcopy(objective.state_dict()))
    assert torch.equal(other(batch, 0.5).loss, objective(batch, 0.5).loss)
    with torch.autocast("cpu", torch.bfloat16):
        output = tiny_objective(settings, spatial_dims=spatial_dims)(batch, 0.5)
    assert output.terms[name].dtype == torch.float32
    output.loss.backward()
    assert torch.isfinite(output.loss)


def _check_alignment_reaches_the_student(
    settings: TransferSettings, *, batch: PatchBatch, spatial_dims: int
) -> None:
    """Twice the weight changes the gradient of the student."""
    twice = settings.alignment.model_copy(update={"weight": 2 * settings.alignment.weight})
    gradients = []
    for one in (settings, settings.model_copy(update={"alignment": twice})):
        objective = tiny_objective(one, spatial_dims=spatial_dims)
        objective(batch, 0.5).loss.backward()
        gradients.append(objective.student.conv.weight.grad)
    assert not torch.allclose(*gradients, atol=1e-9), "alignment gives the student no gradient"


class TinyNet(nn.Module):
    """A network with batch norm, of the form that objectives expect."""

    embedding_layer = "pool"

    def __init__(self, *, width: int, seed: int, spatial_dims: int = 3, labels: int = 1) -> None:
        super().__init__()
        self.spatial_dims, self.in_channels, self.label_count = spatial_dims, 1, labels
        convolution = nn.Conv3d if spatial_dims == 3 else nn.Conv2d
        norm = nn.BatchNorm3d if spatial_dims == 3 else nn.BatchNorm2d
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.conv = convolution(1, width, 3, stride=2, padding=1)
            self.norm = norm(width)
            self.pool = nn.Sequential(
                nn.AdaptiveAvgPool3d(1) if spatial_dims == 3 else nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
            )
            self.head = nn.Linear(width, labels)

    def forward(self, view: Tensor) -> Tensor:
        feature = self.norm(self.conv(view)).relu()
        return self.head(self.pool(feature))


def tiny_objective(
    settings: TransferSettings, *, spatial_dims: int = 3, labels: int = 1
) -> TransferObjective:
    """An objective with a student of 4 and a teacher of 6 channels."""
    student = TinyNet(width=4, seed=0, spatial_dims=spatial_dims, labels=labels)
    teacher = TinyNet(width=6, seed=1, spatial_dims=spatial_dims, labels=labels)
    return TransferObjective(student, FrozenTeacher(teacher), settings)


def tiny_batch(*, spatial_dims: int = 3, labels: int = 1, samples: int = 4) -> PatchBatch:
    """Random views 8 voxels an axis; labels alternate; all are known."""
    generator = torch.Generator().manual_seed(11)
    image = torch.rand(samples, 1, *(8,) * spatial_dims, generator=generator)
    label = torch.eye(labels)[torch.arange(samples) % labels]
    if labels == 1:
        label = (torch.arange(samples) % 2).float()[:, None]
    known = torch.ones(samples, labels, dtype=torch.bool)
    return PatchBatch(image, label, known, tuple(f"sample{n}" for n in range(samples)))


def paired_batch(*, spatial_dims: int = 3, samples: int = 4) -> PatchBatch:
    """A tiny batch with one of another domain beside it, which is darker and has less contrast."""
    own = tiny_batch(spatial_dims=spatial_dims, samples=samples)
    turned = own.image.flip(-1).pow(2) * 0.4
    hidden = torch.zeros_like(own.label_known)
    names = tuple(f"other{n}" for n in range(samples))
    return replace(own, other=PatchBatch(turned, own.label, hidden, names))


def _check_declared(network: Network, settings: NetworkSettings) -> None:
    for fact in ("spatial_dims", "in_channels", "label_count", "input_shape", "hu_window"):
        assert getattr(network, fact) == getattr(settings, fact), fact


def _check_same_seed(network: Network, settings: NetworkSettings) -> None:
    torch.rand(7)
    again, other = build_architecture(settings, seed=5), build_architecture(settings, seed=6)
    own = network.state_dict()
    assert all(torch.equal(own[key], value) for key, value in again.state_dict().items())
    assert any(not torch.equal(own[key], value) for key, value in other.state_dict().items())


def _check_forward(network: Network, view: Tensor) -> None:
    network.eval()
    kept = view.clone()
    with torch.no_grad(), tap_layers(network, [network.embedding_layer]) as outputs:
        logits = network(view)
        alone = torch.cat([network(view[n : n + 1]) for n in range(len(view))])
    if network.finds_points:
        assert logits.shape == (len(view), MAP_CHANNELS, *(n // STRIDE for n in view.shape[2:]))
    else:
        assert logits.shape == (len(view), network.label_count)
        assert outputs[network.embedding_layer].ndim == 2
    assert logits.dtype == torch.float32
    assert logits.device == view.device
    assert torch.equal(view, kept), "the view was changed"
    torch.testing.assert_close(logits, alone, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        assert torch.equal(network(view), logits), "not deterministic"
        if network.dense_stride is not None:
            dense = network.forward_dense(view, patch_shape=view.shape[2:])
            torch.testing.assert_close(dense.flatten(1), logits, rtol=1e-4, atol=1e-5)


def _check_outputs_are_logits(network: Network, view: Tensor) -> None:
    """Nothing follows the last layer: with its sign the outputs change theirs."""
    ran: list[nn.Module] = []
    weighted = [m for m in network.modules() if isinstance(getattr(m, "weight", None), Tensor)]
    hooks = [m.register_forward_hook(lambda m, _i, _o: ran.append(m)) for m in weighted]
    with torch.no_grad():
        logits = network(view)
        for hook in hooks:
            hook.remove()
        for turned in (-1, 1):
            for parameter in ran[-1].parameters():
                parameter.neg_()
            torch.testing.assert_close(network(view), turned * logits, rtol=1e-4, atol=1e-5)


def _check_gradient(network: Network, view: Tensor) -> None:
    network.train()
    network(view).square().sum().backward()
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue  # the pretrained part of a probe
        assert parameter.grad is not None, f"no gradient reaches {name}"
        assert torch.isfinite(parameter.grad).all(), f"the gradient of {name} is not finite"
    network.zero_grad(set_to_none=True)


def _check_round_trip(network: Network, settings: NetworkSettings, directory: Path) -> None:
    view = random_view(settings)
    save_model(directory, network, ModelInfo(settings=settings.stored()))
    loaded = load_model(directory).network
    assert not loaded.training
    with torch.no_grad():
        assert torch.equal(loaded(view), network(view))


def _gradients_are_finite(objective: TransferObjective) -> bool:
    gradients = [p.grad for p in objective.trainable_parameters() if p.grad is not None]
    return bool(gradients) and all(torch.isfinite(gradient).all() for gradient in gradients)


def _like(batch: PatchBatch, settings: TransferSettings) -> TransferObjective:
    """A new tiny objective for a batch, prepared with other samples."""
    axes, labels = batch.image.ndim - 2, batch.label.shape[1]
    objective = tiny_objective(settings, spatial_dims=axes, labels=labels)
    objective.prepare([tiny_batch(spatial_dims=axes, labels=labels, samples=40)])
    return objective


def _check_term_teaches(
    objective: TransferObjective, settings: TransferSettings, *, batch: PatchBatch
) -> None:
    """The term moves the student's gradient, and none reaches the teacher."""
    control = _like(batch, settings.without_terms())
    control(batch, 1.0).loss.backward()
    assert not torch.allclose(
        objective.student.conv.weight.grad, control.student.conv.weight.grad, atol=1e-7
    ), "the term gives the student no gradient"
    assert objective.teacher is not None
    assert all(p.grad is None for p in objective.teacher._network.parameters())
    names = [key.split(".")[0] for key in objective.state_dict()]
    assert set(names) <= {"student", "terms"}, "a part of the teacher would be saved"


def _check_term_state(
    objective: TransferObjective, settings: TransferSettings, *, batch: PatchBatch
) -> None:
    other = _like(batch, settings)
    for parameter in other.terms.parameters():
        parameter.data.add_(1.0)
    other.terms.load_state_dict(copy.deepcopy(objective.terms.state_dict()))
    assert torch.equal(other(batch, 1.0).loss, _like(batch, settings)(batch, 1.0).loss)


def _check_term_is_robust(settings: TransferSettings, *, batch: PatchBatch) -> None:
    """Unknown labels, no known label at all, and half precision give finite losses."""
    known = batch.label_known.clone()
    known[0] = False
    for some in (known, torch.zeros_like(known)):
        objective = _like(batch, settings)
        label = batch.label.masked_fill(~some, float("nan"))
        output = objective(replace(batch, label=label, label_known=some), 1.0)
        output.loss.backward()
        assert torch.isfinite(output.loss)
        assert _gradients_are_finite(objective)
    objective = _like(batch, settings)
    with torch.autocast("cpu", torch.bfloat16):
        output = objective(batch, 1.0)
    assert all(value.dtype == torch.float32 for value in output.terms.values())
    output.loss.backward()
    assert torch.isfinite(output.loss)
    assert _gradients_are_finite(objective)


def check_reader(reader: ScanReader, sample: Path, expected: Scan) -> None:
    """Check one line of `READERS` on a file (or folder) that holds `expected`.

    Same HU at the same places, int16 over a slice-contiguous buffer, given names kept, the file
    untouched, the same result again, and `SeriesError` with reasons for what is not there.
    """
    files = [p for p in [sample, *sorted(sample.rglob("*"))] if p.is_file()]
    before = [p.read_bytes() for p in files]
    scan, again = reader(sample, seriesuid="1.9", patient_id="p9"), reader(sample)
    assert (scan.seriesuid, scan.patient_id) == ("1.9", "p9")
    assert again.seriesuid
    assert again.patient_id
    assert scan.voxels_hu.dtype == np.int16
    assert scan.voxels_hu.T.flags.c_contiguous
    assert scan.voxels_hu.shape == scan.grid.shape
    np.testing.assert_array_equal(scan.voxels_hu, expected.voxels_hu)
    np.testing.assert_array_equal(again.voxels_hu, scan.voxels_hu)
    np.testing.assert_allclose(scan.grid.affine_lps_mm, expected.grid.affine_lps_mm, atol=1e-4)
    assert [p.read_bytes() for p in files] == before
    with pytest.raises(SeriesError) as refusal:
        reader(sample.with_name("absent" + "".join(sample.suffixes)))
    assert refusal.value.reasons


def check_section(build: SectionBuilder, contents: RunContents) -> None:
    """Check one line of `SECTIONS` on a run: whole tables, drawings with words, repeatable.

    None is a right answer of a section that has nothing to say about the run.
    """
    section = build(contents)
    assert build(contents) == section, "not deterministic"
    if section is None:
        return
    assert section.paragraphs or section.tables or section.figures or section.listing
    for table in section.tables:
        assert table.caption
        assert table.rows
        assert {len(row) for row in table.rows} == {len(table.columns)}
    for figure in section.figures:
        assert len(figure.alt) > 20
        assert b"<script" not in figure.content
