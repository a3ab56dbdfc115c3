"""A probe: frozen features of a pretrained network, and a linear classifier fitted on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medkd.errors import SettingsError
from medkd.models.network import Network
from medkd.models.package import ModelInfo, load_model, save_model
from medkd.models.probe import Probe, central_part, fit_probe, pool
from medkd.models.table import build_model, check_model_input, parse_model_settings
from medkd.transfer.teacher import FrozenTeacher

TWO_LAYERS = {"backbone": {"kind": "compact2d"}, "layers": ["features.3", "features.4"]}


def build_probe(**changed: object) -> Probe:
    settings = parse_model_settings({"kind": "probe", **TWO_LAYERS, **changed})
    probe = build_model(settings, seed=0).eval()
    assert isinstance(probe, Probe)
    return probe


def labelled_views(count: int = 40) -> tuple[torch.Tensor, np.ndarray]:
    random = torch.Generator().manual_seed(3)
    labels = torch.arange(count) % 2
    views = torch.rand(count, 1, 24, 20, generator=random) * 0.6
    views[labels == 1, :, 6:18, 5:15] += 0.3
    return views, labels[:, None].double().numpy()


def fitted(**changed: object) -> tuple[Probe, torch.Tensor, np.ndarray]:
    probe = build_probe(**changed)
    views, labels = labelled_views()
    with torch.no_grad():
        features = probe.read_features(views)
    fit_probe(probe, features.double().numpy(), labels)
    return probe, views, labels


def test_a_fitted_probe_scores_as_scikit_learns_own_pipeline() -> None:
    probe, views, labels = fitted(components=12, inverse_penalty=0.05)
    with torch.no_grad():
        features, logits = probe.read_features(views), probe(views)

    pipeline = make_pipeline(
        StandardScaler(), PCA(12), LogisticRegression(C=0.05, class_weight="balanced")
    ).fit(features.double().numpy(), labels[:, 0])

    expected = pipeline.decision_function(features.double().numpy())
    np.testing.assert_allclose(logits[:, 0].numpy(), expected, atol=2e-3)
    assert ((logits[:, 0].numpy() > 0) == (labels[:, 0] == 1)).mean() > 0.9


def test_features_are_the_pooled_outputs_of_the_layers_of_each_look() -> None:
    looks = [{}, {"size_vox": 12, "layers": ["features.3"], "pooling": "centre"}]
    probe, (views, _) = build_probe(looks=looks), labelled_views(4)
    found = probe.read_features(views)

    with torch.no_grad():
        body = probe.backbone.features
        third, inner = body[:4](views), body[:4](views[:, :, 6:18, 4:16])
        expected = [third.mean(dim=(2, 3)), body[4](third).mean(dim=(2, 3)), pool(inner, "centre")]

    torch.testing.assert_close(found, torch.cat(expected, dim=1))


def test_pooling_around_the_centre_is_a_weighted_mean_that_prefers_the_centre() -> None:
    features = torch.rand(2, 3, 5, 4, 7, generator=torch.Generator().manual_seed(0))
    weights = torch.ones(())
    for size in (5, 4, 7):
        places = torch.arange(size) - (size - 1) / 2
        weights = weights[..., None] * torch.exp(-0.5 * (places / (0.2 * size)) ** 2)
    expected = (features * weights).sum(dim=(2, 3, 4)) / weights.sum()

    torch.testing.assert_close(pool(features, "centre"), expected)
    torch.testing.assert_close(pool(features, "global"), features.mean(dim=(2, 3, 4)))
    spot = torch.zeros(1, 1, 9, 9)
    spot[..., 4, 4] = 1
    assert pool(spot, "centre") > 3 * pool(spot.roll(4, dims=3), "centre")
    assert pool(torch.ones(2, 6), "centre").shape == (2, 6)


def test_the_central_part_is_in_the_middle_of_every_axis() -> None:
    view = torch.arange(6 * 7.0).view(1, 1, 6, 7)
    assert torch.equal(central_part(view, 4), view[:, :, 1:5, 1:5])
    assert torch.equal(central_part(view, 7), view)


def test_a_probe_is_saved_and_loaded_without_its_source_and_is_a_frozen_teacher(
    tmp_path: Path,
) -> None:
    source = build_model(parse_model_settings({"kind": "compact2d"}), seed=7)
    info = ModelInfo(source_settings := {"kind": "compact2d"}, trained_on="X-rays")
    save_model(tmp_path / "source", source, info)
    settings = parse_model_settings(
        {"kind": "probe", "from": str(tmp_path / "source"), "layers": ["pool"]}
    )
    probe = build_model(settings, seed=0)
    assert isinstance(probe, Probe)
    assert probe.initialisation == "frozen compact2d, trained on X-rays"
    for name, tensor in source.state_dict().items():
        assert torch.equal(probe.backbone.state_dict()[name], tensor)
    stored = settings.stored()
    assert str(tmp_path) not in str(stored)
    assert stored["backbone"]["kind"] == source_settings["kind"]
    save_model(tmp_path / "probe", probe, ModelInfo(stored))
    loaded = load_model(tmp_path / "probe")
    views, _ = labelled_views(3)
    with torch.no_grad():
        expected = probe.eval()(views)
    torch.testing.assert_close(FrozenTeacher(loaded.network)(views).logits, expected)
    assert {path.suffix for path in (tmp_path / "probe").iterdir()} == {".json", ".safetensors"}


def test_training_mode_leaves_the_pretrained_network_as_it_is() -> None:
    probe, views, _ = fitted()
    before = {name: tensor.clone() for name, tensor in probe.backbone.state_dict().items()}
    probe.train()(views)
    assert all(torch.equal(before[n], t) for n, t in probe.backbone.state_dict().items())
    assert not any(parameter.requires_grad for parameter in probe.backbone.parameters())


def test_the_shipped_detector_can_be_probed_in_three_dimensions() -> None:
    settings = parse_model_settings(
        {"kind": "probe", "from": "ct-nodule-small", "layers": ["down4", "down8"]}
    )
    probe = build_model(settings, seed=0).eval()
    assert isinstance(probe, Network)
    assert (probe.spatial_dims, probe.hu_window) == (3, (-1000.0, 400.0))
    with torch.no_grad():
        assert probe(torch.rand(2, 1, 32, 32, 32)).shape == (2, 1)


def misfits(shape: tuple[int, ...], *sizes: int | None, **body: object) -> tuple[str, ...]:
    values = {"kind": "probe", "layers": ["down4"], "looks": [{"size_vox": s} for s in sizes]}
    settings = parse_model_settings(values | body)
    window = settings.hu_window
    return check_model_input(settings, view_shape=(1, *shape), hu_window=window, label_count=1)


def test_looks_that_do_not_divide_into_a_detectors_cells_are_refused_before_training() -> None:
    body = {"from": "ct-nodule-small"}
    (reason,) = misfits((32, 32, 32), 20, 24, None, **body)
    assert "size_vox: 20 shows (20, 20, 20) of views of shape (32, 32, 32)" in reason
    assert "detector3d accepts multiples of 8 voxels" in reason
    (reason,) = misfits((32, 28, 32), 24, None, **body)
    assert "size_vox: null shows (32, 28, 32)" in reason
    assert not misfits((16, 16, 16), 20, **body)  # a look is at most the view


def test_looks_of_another_shape_than_the_only_accepted_one_are_refused() -> None:
    body = {"backbone": {"kind": "luna_classifier"}}
    assert [reason.split(",")[0] for reason in misfits((48, 48, 32), 20, None, **body)] == [
        "probe.looks: size_vox: 20 shows (20"
    ]
    assert len(misfits((48, 48, 48), 20, None, **body)) == 2
    (reason,) = misfits((48, 48, 48), None, **body)
    assert "probe accepts only views of shape (48, 48, 32)" in reason


def test_the_features_of_a_pretrained_body_do_not_depend_on_the_seed(tmp_path: Path) -> None:
    plain = {"kind": "torchvision2d", "name": "mobilenet_v3_small", "image_size": 32}
    weights = build_model(parse_model_settings(plain), seed=3).body.state_dict()
    save_file(weights, tmp_path / "body.safetensors")
    given = plain | {"weights": "file", "weights_file": str(tmp_path / "body.safetensors")}
    values = {"kind": "probe", "backbone": given, "layers": ["body.features.3"]}
    probes = [build_model(parse_model_settings(values), seed=seed) for seed in (1, 2)]
    first, second = (FrozenTeacher(probe.backbone).fingerprint() for probe in probes)
    assert first == second


def test_more_components_than_samples_leave_the_rest_zero() -> None:
    probe = build_probe(components=60)
    views, labels = labelled_views(10)
    with torch.no_grad():
        features = probe.read_features(views)
    fit_probe(probe, features.double().numpy(), labels)
    assert torch.count_nonzero(probe.embed.components[10:]) == 0
    assert torch.count_nonzero(probe.head.weight[:, 10:]) == 0


def test_unknown_labels_are_left_out_of_the_fit_of_their_label_alone() -> None:
    probe, (views, labels) = build_probe(label_count=2), labelled_views()
    both = np.hstack([labels, labels])
    both[::4, 1] = np.nan
    with torch.no_grad():
        features = probe.read_features(views).double().numpy()
    fit_probe(probe, features, both)
    whole = probe.head.weight[0].clone()
    assert not torch.allclose(whole, probe.head.weight[1])


def test_one_class_and_unknown_layers_and_two_backbones_are_refused() -> None:
    probe, (views, labels) = build_probe(), labelled_views(6)
    with torch.no_grad():
        features = probe.read_features(views).double().numpy()
    with pytest.raises(SettingsError, match="label 0: 1 of 2 classes"):
        fit_probe(probe, features, np.ones_like(labels))
    with pytest.raises(SettingsError, match=r"no layer 'nowhere'; it has features"):
        build_probe(layers=["nowhere"])
    with pytest.raises(ValidationError, match="either backbone"):
        parse_model_settings({"kind": "probe", "layers": ["a"]})
    with pytest.raises(ValidationError, match="in_channels is 3, that of the backbone is 1"):
        build_probe(in_channels=3)
