"""Names of the axes of an array, and the way to the order C(Z)YX that Morula computes in."""

from __future__ import annotations

from typing import Any

from morula.core.errors import DataError, OptionError

SPATIAL = "ZYX"
LETTERS = "TCZYX"


class Axes(str):
    """Axis letters of an array, one a dimension, out of ``T C Z Y X``.

    Examples:
        >>> Axes("ZCYX").spatial
        'ZYX'
        >>> Axes("ZCYX").index("C")
        1
        >>> Axes("YXC").ndim_spatial
        2

    Raises:
        OptionError: for a letter outside ``TCZYX``, a repeated one, or without Y and X.
    """

    __slots__ = ()

    def __new__(cls, letters: str) -> Axes:  # noqa: D102 - the class says it
        name = letters.upper().replace("S", "C")  # tifffile calls the colour samples S
        if set(name) - set(LETTERS) or len(set(name)) != len(name) or not {"Y", "X"} <= set(name):
            raise OptionError(
                f"axes {letters!r} are not valid; each letter of {LETTERS} may stand once, Y and X must stand. "
                "Write for example 'ZYX', 'CYX' or 'YXC'."
            )
        return super().__new__(cls, name)

    @property
    def spatial(self) -> str:
        """The spatial letters, in the order in which they stand."""
        return "".join(letter for letter in self if letter in SPATIAL)

    @property
    def spatial_axes(self) -> Axes:
        """The spatial axes alone, in the order (Z)YX."""
        return Axes("".join(letter for letter in SPATIAL if letter in self))

    @property
    def ndim_spatial(self) -> int:
        """2 or 3."""
        return len(self.spatial)

    @classmethod
    def guess(cls, shape: tuple[int, ...]) -> Axes:
        """Axes of an array without any: YX, ZYX, YXC where the last axis is 3 or 4 long and the others are not, CZYX.

        Examples:
            >>> Axes.guess((512, 512, 3)), Axes.guess((40, 512, 512))
            ('YXC', 'ZYX')
        """
        if len(shape) == 3 and shape[-1] in (3, 4) and min(shape[:2]) > 4:
            return cls("YXC")
        try:
            return cls({2: "YX", 3: "ZYX", 4: "CZYX", 5: "TCZYX"}[len(shape)])
        except KeyError:
            raise DataError(
                f"an array of shape {shape} has {len(shape)} dimensions; images have 2 to 5. State its axes, for example axes='ZYX'."
            ) from None


def canonical(array: Any, axes: Axes | str) -> Any:
    """Array with its axes moved to C(Z)YX; a missing C is added with length 1, a T of length 1 is dropped.

    Works on everything that has ``transpose`` and indexing; a NumPy view stays a view.

    Raises:
        DataError: when T is longer than 1.

    Examples:
        >>> import numpy as np
        >>> canonical(np.zeros((5, 7, 3)), "YXC").shape
        (3, 5, 7)
    """
    axes = Axes(axes)
    if len(axes) != array.ndim:
        raise DataError(f"axes {axes} name {len(axes)} dimensions but the array has shape {tuple(array.shape)}. State axes that fit.")
    if "T" in axes:
        position = axes.index("T")
        if array.shape[position] != 1:
            raise DataError(
                f"the image has {array.shape[position]} time points; one image at a time is handled. "
                "Split it, or state axes in which this dimension is Z or C."
            )
        array = array[tuple(0 if i == position else slice(None) for i in range(array.ndim))]
        axes = Axes(axes.replace("T", ""))
    if "C" not in axes:
        array = array[None]
        axes = Axes("C" + axes)
    order = ["C", *(letter for letter in SPATIAL if letter in axes)]
    return array.transpose([axes.index(letter) for letter in order])
