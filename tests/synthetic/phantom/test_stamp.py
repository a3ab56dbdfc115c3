"""The hash that guards the generator."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from medkd.synthetic.phantom import DIFFICULTY
from medkd.synthetic.phantom.make import probe_hash

OLD_PROCESSOR = {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX512F,-AVX,-FMA4"}
"""Makes the C library use exponentials and sines for a processor without these (x86, Linux)."""


@pytest.mark.slow
def test_the_difficulty_hash_is_that_of_the_generators_output() -> None:
    assert probe_hash() == DIFFICULTY, (
        "the same settings produce other phantoms than before: raise GENERATOR_VERSION, set "
        "DIFFICULTY to this hash, and run `python -m tests.bench.phantom_difficulty` again"
    )


@pytest.mark.slow
def test_the_bytes_do_not_depend_on_the_processors_instruction_set() -> None:
    features = np.show_config("dicts")["SIMD Extensions"]["found"]
    code = "from medkd.synthetic.phantom.make import probe_hash; print(probe_hash())"
    done = subprocess.run(  # noqa: S603  # our own interpreter
        [sys.executable, "-c", code],
        env={**os.environ, **OLD_PROCESSOR, "NPY_DISABLE_CPU_FEATURES": " ".join(features)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert features
    assert done.stdout.strip() == probe_hash()
