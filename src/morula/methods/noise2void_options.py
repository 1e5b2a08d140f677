"""Options of the method `noise2void`; needs no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from morula.methods.restoring_options import RestoringOptions

Replacement = Literal["voxel", "other_voxel", "near_voxel", "mean", "median", "normal", "noise"]


class Options(RestoringOptions):
    """Noise2Void (Krull et al. 2019, https://arxiv.org/abs/1811.10980): which voxels are hidden, and what the network sees in their place.

    Examples:
        >>> Options(share=0.5)
        Traceback (most recent call last):
        pydantic_core._pydantic_core.ValidationError: 1 validation error for Options
        share
          Input should be less than or equal to 0.25 ...
    """

    kind: Literal["noise2void"] = "noise2void"
    """Name of the variant."""

    share: float = Field(0.00198, gt=0, le=0.25)
    """Share of the voxels of a patch that are hidden: one at random in each square or cube of a grid, whose edge follows from it."""
    replacement: Replacement = "voxel"
    """What replaces a hidden voxel. `voxel`: a random one of its neighbourhood, which may be itself; `other_voxel`: another one;
    `near_voxel`: one at another place along each axis, at distances with a standard deviation of 4 voxels; `mean`, `median`: of the others
    in the neighbourhood; `normal`: a random number with mean and standard deviation of the neighbourhood; `noise`: itself with noise that
    has a standard deviation of `radius`, in normalised values."""
    radius: PositiveInt = 5
    """Voxels on each side of a hidden one that belong to its neighbourhood, which ends at the border of the patch."""
    line: NonNegativeInt = 0
    """Number of voxels before and behind a hidden one along x that are replaced by random numbers from -2 to 2 (normalised values), against
    noise that is correlated along lines; 4 is usual (Broaddus et al. 2020, https://doi.org/10.1109/ISBI45749.2020.9098336)."""
