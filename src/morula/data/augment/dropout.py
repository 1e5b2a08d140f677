"""Single voxels that are lost, as from dead pixels of a camera."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from morula.core.errors import OptionError
from morula.data.augment.base import AugmentationOptions, Intensity
from morula.data.augment.noise import Seeded


class DropoutOptions(AugmentationOptions):
    """Set single voxels to 0; the labels stay."""

    kind: Literal["dropout"] = "dropout"
    """Name of the variant."""

    low: float = Field(0.0, ge=0, lt=1)
    """Smallest share of the voxels that are lost."""
    high: float = Field(0.2, ge=0, lt=1)
    """Largest share; drawn evenly between the two."""

    @model_validator(mode="after")
    def _ordered(self) -> DropoutOptions:
        if self.low > self.high:
            raise OptionError("augmentation.range", f"must not be above high ({self.high:g})", key="low", value=self.low)
        return self


class Dropout(Intensity[DropoutOptions]):
    """Voxels chosen independently become 0, a value of the normalised image, in all channels."""

    name = "dropout"

    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> Seeded | None:
        """Share of the voxels, and the seed that chooses them."""
        if not self.happens(rng):
            return None
        return float(rng.uniform(self.options.low, self.options.high)), int(rng.integers(2**63))

    def apply(self, image: np.ndarray, record: Seeded, spacing: Sequence[float]) -> np.ndarray:
        """See `Intensity.apply`."""
        share, seed = record
        lost = np.random.default_rng(seed).random(image.shape[1:], dtype=np.float32) < share
        return np.where(lost, np.float32(0), image)
