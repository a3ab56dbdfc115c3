"""Settings of the synthetic nodules that are added to a scan."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from medkd.settings import Settings

Texture = Literal["solid", "part-solid", "ground-glass"]
TEXTURES: tuple[Texture, ...] = ("solid", "part-solid", "ground-glass")


class ImplantSettings(Settings):
    """Number, sizes and kinds of nodules."""

    n: int = Field(3, ge=1, le=200, description="Nodules per scan.")
    sizes: str = Field(
        "4-12", description='Range of diameters in mm, "A-B", with LUNA16\'s distribution.'
    )
    shapes: Literal["analytic", "lidc"] = Field("analytic", description="Source of outlines.")
    textures: tuple[Texture, ...] = Field(
        TEXTURES, min_length=1, description="Textures to draw from; solid is the most frequent."
    )
    seed: int = Field(0, ge=0, description="The same seed and scan give the same nodules.")

    @field_validator("sizes")
    @classmethod
    def _is_range(cls, text: str) -> str:
        if text == "luna16":
            return "3-33"
        found = re.fullmatch(r"(\d{1,2}(?:\.\d+)?)-(\d{1,2}(?:\.\d+)?)", text)
        if not found or not 3 <= float(found[1]) <= float(found[2]) <= 40:
            raise ValueError(f'expected luna16, or "A-B" with 3 <= A <= B <= 40, got {text!r}')
        return text

    @property
    def range_mm(self) -> tuple[float, float]:
        """Least and greatest diameter in mm."""
        low, high = self.sizes.split("-")
        return float(low), float(high)
