"""Which synthetic nodules are put into a scan."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from medkd.settings import Settings

Texture = Literal["solid", "part-solid", "ground-glass"]
TEXTURES: tuple[Texture, ...] = ("solid", "part-solid", "ground-glass")


class ImplantSettings(Settings):
    """How many nodules, and of what kind."""

    n: int = Field(3, ge=1, le=200, description="Nodules a scan.")
    sizes: str = Field("4-12", description='Diameters in mm, "A-B", drawn as LUNA16 has them.')
    shapes: Literal["analytic", "lidc"] = Field("analytic", description="Where outlines are from.")
    textures: tuple[Texture, ...] = Field(
        TEXTURES, min_length=1, description="Kinds that are drawn; solid most often."
    )
    seed: int = Field(0, ge=0, description="Same seed and scan, same nodules.")

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
        """Least and largest diameter in mm."""
        low, high = self.sizes.split("-")
        return float(low), float(high)
