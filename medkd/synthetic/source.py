"""Phantoms as a data set that is written on first use and then read in LUNA16's layout."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field

from medkd.data.cases import CaseIndex, OnProgress
from medkd.data.data_sets import find_data, luna16_cases
from medkd.io.luna16 import read_luna16
from medkd.provenance import sha256_of_text
from medkd.synthetic.phantom import PhantomSettings, generator_stamp, write_phantom_set


class PhantomData(PhantomSettings):
    """Phantoms in LUNA16's layout, written on first use."""

    kind: Literal["phantom"] = "phantom"
    candidates: Literal["candidates_V2", "candidates"] = Field(
        "candidates_V2", description="Which file of candidates is used."
    )

    def read_cases(self, work_dir: Path, progress: OnProgress | None = None) -> CaseIndex:
        """Read the phantoms below `work_dir/data`, after writing them if they are missing."""
        root = self._written(work_dir, progress)
        luna = read_luna16(root, candidates=self.candidates)
        return luna16_cases(luna, name=f"phantom, site {self.site}", patients={})

    def _written(self, work_dir: Path, progress: OnProgress | None) -> Path:
        wanted = PhantomSettings(**self.model_dump(exclude={"kind", "candidates"}))
        key = sha256_of_text(f"{generator_stamp()} {wanted.model_dump_json()}")[:8]
        root = work_dir / "data" / f"site_{self.site}-{key}"
        if not (root / "phantom.json").is_file():  # written last
            given = str(find_data(wanted.lidc)) if wanted.lidc else None
            wanted = wanted.model_copy(update={"lidc": given})
            write_phantom_set(root, wanted, workers=min(4, os.cpu_count() or 1), progress=progress)
        return root
