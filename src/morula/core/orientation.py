"""Flips and rotations by 90 degrees: the symmetries of a pixel grid."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np

Array = TypeVar("Array")


@dataclass(frozen=True)
class Orientation:
    """A permutation of the spatial axes followed by flips: ``output axis i = input axis permutation[i]``, reversed where ``flips[i]``.

    Works on NumPy arrays and torch tensors; leading axes (batch, channel) are unchanged.

    Examples:
        >>> import numpy as np
        >>> turn = Orientation((1, 0), (False, True))
        >>> image = np.arange(6).reshape(2, 3)
        >>> turn.apply(image)
        array([[3, 0],
               [4, 1],
               [5, 2]])
        >>> bool((turn.inverse.apply(turn.apply(image)) == image).all())
        True
    """

    permutation: tuple[int, ...]
    flips: tuple[bool, ...]

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.permutation)

    @property
    def is_identity(self) -> bool:
        """Whether the orientation changes nothing."""
        return self.permutation == tuple(range(self.ndim)) and not any(self.flips)

    def apply(self, array: Array) -> Array:
        """The array in this orientation: its last `ndim` axes are permuted, then flipped."""

        lead = array.ndim - self.ndim  # type: ignore[attr-defined]
        axes = [*range(lead), *(lead + axis for axis in self.permutation)]
        flipped = [lead + axis for axis, flip in enumerate(self.flips) if flip]
        if isinstance(array, np.ndarray):
            return cast(Array, np.flip(cast(Any, array).transpose(axes), tuple(flipped)))
        # core never imports torch: a tensor has the same two operations as methods of other names
        return cast(Array, cast(Any, array).permute(axes).flip(flipped))

    @property
    def inverse(self) -> Orientation:
        """The orientation that undoes this one."""
        # flips come after the permutation, so that they are sorted back together with the axes
        order = tuple(self.permutation.index(axis) for axis in range(self.ndim))
        return Orientation(order, tuple(self.flips[axis] for axis in order))

    def then(self, other: Orientation) -> Orientation:
        """This orientation followed by another."""
        permutation = tuple(self.permutation[axis] for axis in other.permutation)
        # two flips of an axis cancel each other; this one's flips move with the axes that the other one permutes
        flips = tuple(self.flips[axis] != flip for axis, flip in zip(other.permutation, other.flips, strict=True))
        return Orientation(permutation, flips)

    @classmethod
    def identity(cls, ndim: int) -> Orientation:
        """The orientation that changes nothing."""
        return cls(tuple(range(ndim)), (False,) * ndim)

    def reorient_vector(self, offset: Sequence[float]) -> tuple[float, ...]:
        """A vector in array order after the array was reoriented.

        Examples:
            >>> Orientation((1, 0), (False, True)).reorient_vector((1, 2))
            (2, -1)
        """
        return tuple(-offset[axis] if flip else offset[axis] for axis, flip in zip(self.permutation, self.flips, strict=True))


def orientations(spacing: Sequence[float], *, turns: bool = True) -> list[Orientation]:
    """All orientations that preserve the voxel size: axes are exchanged only where their spacing is equal.

    Args:
        spacing: voxel edge lengths in array order.
        turns: include exchanges of axes; otherwise only flips.

    Returns:
        8 orientations in 2D, 16 in 3D with a longer z, 48 in isotropic 3D (4 or 8 without `turns`); the identity is the first.

    Examples:
        >>> len(orientations((1, 1))), len(orientations((2, 1, 1))), len(orientations((1, 1, 1), turns=False))
        (8, 16, 8)
    """
    ndim = len(spacing)
    permutations = [
        order
        for order in itertools.permutations(range(ndim))
        if all(spacing[a] == spacing[i] for i, a in enumerate(order)) and (turns or order == tuple(range(ndim)))
    ]
    return [Orientation(order, flips) for order in permutations for flips in itertools.product((False, True), repeat=ndim)]
