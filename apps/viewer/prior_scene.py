"""Another scan of the same patient, as plain data for the slice viewer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from display import AxialStack
from scene import Ring, describe_planes, describe_ring, describe_stack

from medkd.review.priors import Alignment, OtherScan


@dataclass(frozen=True, slots=True)
class PriorView:
    """The other scans of a patient, and the one that is shown beside the current scan.

    `stack` and `alignment` are None until the reader has asked for it, and `fault` says why it
    cannot be shown. `rings` are its reference nodules and the reader's decisions on it; nothing of
    them can be changed here.
    """

    choices: Sequence[OtherScan]
    shown: OtherScan
    stack: AxialStack | None = None
    alignment: Alignment | None = None
    rings: Sequence[Ring] = ()
    fault: str = ""


def describe_prior(prior: PriorView) -> dict[str, object]:
    """Describe another scan for the browser.

    `inverse` maps LPS mm to an index of its volume; it has three rows of four numbers. The boxes
    `here` and `there` are [lowest, highest] LPS mm of each axis.
    """
    shown, stack, alignment = prior.shown, prior.stack, prior.alignment
    described: dict[str, object] = {
        "id": shown.case.case_id,
        "name": "Prior" if shown.is_earlier else "Other scan",
        "when": shown.time_words,
        "choices": [{"id": one.case.case_id, "words": one.words} for one in prior.choices],
        "fault": prior.fault,
        "volume": None,
    }
    if stack is None or alignment is None:
        return described
    return described | {
        "volume": describe_stack(stack),
        "planes": describe_planes(stack),
        "inverse": np.linalg.inv(stack.grid.affine_lps_mm)[:3].tolist(),
        "by": alignment.by,
        "here": np.transpose(alignment.here).tolist(),
        "there": np.transpose(alignment.there).tolist(),
        "rings": [describe_ring(ring, stack) for ring in prior.rings],
    }
