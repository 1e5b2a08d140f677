"""Tiles at given positions: patches with a halo that the network sees and that is discarded, as in pytorch-3dunet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from morula.core.errors import OptionError
from morula.inference.window import Weights, patch_weights


@dataclass(frozen=True)
class PatchPlan:
    """Patches of one shape at all combinations of starts; see `morula.inference.plan.Tiles`. All lengths in voxels.

    The input of the network is a patch with `halo` voxels on all sides, reflect-padded beyond the ends of the image; the output in the
    halo is discarded. Overlapping patches are blended smoothly; with `blend` ``last`` the later patch is used.

    Raises:
        OptionError: when the patches do not cover the image.

    Examples:
        >>> plan = PatchPlan((10, 10), (4, 4), ((0, 3, 6), (0, 4, 6)), halo=(2, 2))
        >>> plan.tile, plan.n_tiles
        ((8, 8), 9)
    """

    shape: tuple[int, ...]
    patch: tuple[int, ...]
    patch_starts: tuple[tuple[int, ...], ...]
    halo: tuple[int, ...]
    batch: int = 1
    blend: Literal["smooth", "last"] = "smooth"

    def __post_init__(self) -> None:
        for n, patch, starts in zip(self.shape, self.patch, self.patch_starts, strict=True):
            # the end of the image counts as a start: a gap before it is found like any other
            reached = 0
            for start in (*starts, n):
                if start > reached:
                    raise OptionError(
                        "patch.gap",
                        f"patches of {list(self.patch)} voxels do not cover the voxels {reached} to {start - 1} of an axis of {n}",
                        key="patch_starts",
                        value=tuple(starts),
                        remedy="Use a stride of at most the patch.",
                    )
                reached = start + patch

    @property
    def tile(self) -> tuple[int, ...]:
        """The patch with its halo."""
        return tuple(n + 2 * h for n, h in zip(self.patch, self.halo, strict=True))

    @property
    def starts(self) -> tuple[tuple[int, ...], ...]:
        """First voxels of the patches with their halo."""
        # may be negative: what is beyond the image is reflected
        return tuple(tuple(start - h for start in starts) for starts, h in zip(self.patch_starts, self.halo, strict=True))

    @property
    def ndim(self) -> int:
        """2 or 3."""
        return len(self.shape)

    @property
    def n_tiles(self) -> int:
        """Number of patches."""
        return math.prod(map(len, self.patch_starts))

    def weights(self, axis: int) -> Weights:
        """Weights of the patches along an axis, see `morula.inference.plan.Tiles`."""
        return patch_weights(self.shape[axis], self.patch[axis], self.patch_starts[axis], last_wins=self.blend == "last")
