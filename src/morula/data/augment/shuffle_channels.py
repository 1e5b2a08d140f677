"""Channels in another order, for networks that must not depend on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from morula.data.augment.base import AugmentationOptions, Intensity


class ShuffleChannelsOptions(AugmentationOptions):
    """Put the channels of the image in a random order."""

    kind: Literal["shuffle_channels"] = "shuffle_channels"
    """Name of the variant."""


class ShuffleChannels(Intensity[ShuffleChannelsOptions]):
    """All orders but the present one are equally likely; an image of one channel stays as it is."""

    name = "shuffle_channels"

    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> int | None:
        """A seed, because the number of channels is known when the record is applied."""
        return int(rng.integers(2**63)) if self.happens(rng) else None

    def apply(self, image: np.ndarray, record: int, spacing: Sequence[float]) -> np.ndarray:
        """See `Intensity.apply`."""
        rng, count = np.random.default_rng(record), len(image)
        order = rng.permutation(count)
        while count > 1 and np.array_equal(order, np.arange(count)):
            order = rng.permutation(count)
        return image[order]
