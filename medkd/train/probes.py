"""Fit the probe of an arm on the views of its labelled samples: seconds instead of epochs."""

from __future__ import annotations

import numpy as np

from medkd.models.probe import Probe, fit_probe
from medkd.train.answers import read_features
from medkd.train.plan import Arm, RunContext
from medkd.train.predict import Prior, labels_of


def fit_probe_of(arm: Arm, probe: Probe, context: RunContext) -> Prior:
    """Fit the linear part of a probe, and return the prevalence at which it was fitted.

    Args:
        arm: the arm, for its name and domain.
        probe: the network of the arm with its pretrained weights.
        context: the run.

    Raises:
        SettingsError: if a label does not have both classes.
    """
    domain, views = context.domain_of(arm), probe.settings.views
    source = domain.parts["train"]
    labels = labels_of(source)
    rows = np.flatnonzero(~np.isnan(labels).all(axis=1))
    asked = context.asked(
        arm, source, views=views, domain=domain, precision="half", rows=tuple(rows.tolist())
    )
    features = read_features(probe, asked).flatten(0, 1).double().numpy()
    fit_probe(probe, features, np.repeat(labels[rows], views, axis=0))
    fitted = (0.5,) * labels.shape[1] if probe.settings.class_balanced else source.prior
    return Prior(source.prior, fitted)
