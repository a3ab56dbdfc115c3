"""Which generator this is: its version, and a hash of what it makes.

The hash is drawn from what the generator makes of a few fixed settings: a change that moves one
voxel moves it. Every result that comes from phantoms carries version and hash.
"""

from __future__ import annotations

import hashlib

from medkd.io.synthetic_mark import PHANTOM, stamp_words

GENERATOR_VERSION = "6"
"""Raised whenever the same settings give other bytes."""

DIFFICULTY = "b032c0e6afae9375"
"""`probe_hash()` of this generator; fixed before anything is trained on its phantoms."""

PROBES: tuple[tuple[str, str], ...] = (("a", "small"), ("b", "small"), ("c", "region"))
"""(site, size) of the phantoms that the hash is drawn from."""


def generator_stamp() -> str:
    """Return the stamp of this generator, for example "medkd phantom 2 0123456789abcdef"."""
    return stamp_words(PHANTOM, GENERATOR_VERSION, DIFFICULTY)


def probe_hash() -> str:
    """Return 16 hex digits of what the generator makes of the probes: voxels, truth, places."""
    from medkd.synthetic.phantom.make import PhantomSettings, make_phantom

    digest = hashlib.sha256()
    for site, size in PROBES:
        settings = PhantomSettings.model_validate(
            {"site": site, "size": size, "seed": 4711, "nodules_per_scan": "3-3"}
        )
        made = make_phantom(settings, 0)
        digest.update(repr((made.scan.grid.shape, made.scan.grid.spacing_mm.tolist())).encode())
        digest.update(made.scan.voxels_hu.tobytes(order="F"))
        digest.update(repr((made.nodules, made.excluded, made.candidates)).encode())
    return digest.hexdigest()[:16]
