"""Nodules into a scan that was made without them.

Where nodules lie hangs on what the scan shows without them. A scanner is linear but for its noise,
which hangs on the whole body: so what a nodule changes in the painted chest is passed through slice
profile and kernel and added, box by box.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medkd.synthetic.phantom.anatomy import Anatomy, render_anatomy
from medkd.synthetic.phantom.canvas import Canvas, Float32
from medkd.synthetic.phantom.findings import Finding, render_findings
from medkd.synthetic.phantom.forms import box_within
from medkd.synthetic.phantom.scanner import add_to_scan
from medkd.synthetic.phantom.styles import Protocol

_KERNEL_MM = 10.0
"""How far a kernel's overshoot is felt."""


def put_into_scan(
    voxels_hu: NDArray[np.int16],
    findings: Sequence[Finding],
    *,
    anatomy: Anatomy,
    rest: Sequence[Finding],
    canvas: Canvas,
    protocol: Protocol,
) -> None:
    """Add findings to a scan, in place.

    Args:
        voxels_hu: [i, j, k] the scan, on `canvas`.
        findings: what to add; no two overlap.
        anatomy: the chest.
        rest: findings that the scan shows already.
        canvas: the scan's voxels.
        protocol: the scan's settings.
    """
    for finding in findings:

        def change(slab: Canvas, finding: Finding = finding) -> Float32:
            hu = render_anatomy(anatomy, slab).hu
            render_findings(rest, slab, hu)
            before = hu.copy()
            render_findings([finding], slab, hu)
            return hu - before

        box = _box(finding, canvas, protocol)
        if all(part.stop > part.start for part in box):
            add_to_scan(voxels_hu[box], canvas.part(box), protocol, change)


def _box(finding: Finding, canvas: Canvas, protocol: Protocol) -> tuple[slice, slice, slice]:
    """The voxels whose values a finding can change."""
    layer = finding.layers[0]
    across = 2.0 * protocol.profile.thickness_mm
    reach = layer.form.reach_mm + layer.edge_mm + np.array([_KERNEL_MM, _KERNEL_MM, across])
    middle = canvas.index_vox(layer.middle_mm[None])[0]
    return box_within(middle, reach / canvas.spacing_mm + 0.5, canvas.shape)
