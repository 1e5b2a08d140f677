"""Names of the axes of an array, and the conversion to C(Z)YX, the order in which Morula computes."""

from __future__ import annotations

import numpy as np

from morula.core.errors import DataError, OptionError
from morula.core.remedy import Remedy

SPATIAL = "ZYX"
LETTERS = "TCZYX"


class Axes(str):
    """Axis letters of an array, one per dimension: ``T``, ``C``, ``Z``, ``Y``, ``X``. ``S`` (colour samples in TIFF) is read as ``C``.

    Examples:
        >>> Axes("ZCYX").spatial
        'ZYX'
        >>> Axes("ZCYX").index("C")
        1
        >>> Axes("YXC").ndim_spatial
        2

    Raises:
        OptionError: for a letter outside ``TCZYX``, a repeated letter, or without Y and X.
    """

    __slots__ = ()

    def __new__(cls, letters: str) -> Axes:  # noqa: D102 - documented by the class
        name = letters.upper().replace("S", "C")  # tifffile calls the colour samples S
        if set(name) - set(LETTERS) or len(set(name)) != len(name) or not {"Y", "X"} <= set(name):
            raise OptionError(
                "axes.invalid",
                f"must consist of the letters {LETTERS}, each at most once, with Y and X",
                key="axes",
                value=letters,
                remedy="Write for example 'ZYX', 'CYX' or 'YXC'.",
            )
        return super().__new__(cls, name)

    @property
    def spatial(self) -> str:
        """The spatial letters, in their order in the array."""
        return "".join(letter for letter in self if letter in SPATIAL)

    @property
    def spatial_axes(self) -> Axes:
        """The spatial axes in the order (Z)YX."""
        return Axes("".join(letter for letter in SPATIAL if letter in self))

    @property
    def ndim_spatial(self) -> int:
        """Number of spatial axes, 2 or 3."""
        return len(self.spatial)

    @classmethod
    def guess(cls, shape: tuple[int, ...]) -> Axes:
        """Most likely axes of an array of this shape: YX, ZYX, CZYX or TCZYX; YXC where only the last axis has length 3 or 4.

        Raises:
            DataError: for fewer than 2 or more than 5 dimensions.

        Examples:
            >>> Axes.guess((512, 512, 3)), Axes.guess((40, 512, 512))
            ('YXC', 'ZYX')
        """
        # a last axis of 3 or 4 is far more often RGB(A) than x; a stack of 3 x 4 pixels would not be an image
        if len(shape) == 3 and shape[-1] in (3, 4) and min(shape[:2]) > 4:
            return cls("YXC")
        try:
            return cls({2: "YX", 3: "ZYX", 4: "CZYX", 5: "TCZYX"}[len(shape)])
        except KeyError:
            raise DataError("image.dimensions", f"has {len(shape)} dimensions; images have 2 to 5", key="shape", value=shape) from None


def several_time_points(count: int, file: str | None = None) -> DataError:
    """The error for an image with several time points."""
    return DataError(
        "image.time_points",
        f"the image has {count} time points; only single images are supported",
        remedy=Remedy(
            "select one (time=0; --time 0; images.time: 0)",
            "split it",
            "state axes in which this dimension is Z or C (axes='ZYX'; --axes ZYX; images.axes: ZYX)",
        ),
        file=file,
    )


def canonical(array: np.ndarray, axes: Axes | str) -> np.ndarray:
    """Move the axes of an array to C(Z)YX; a missing C is added with length 1, a T of length 1 is removed.

    Args:
        array: of any type; the result is a view of it.
        axes: names of its dimensions.

    Raises:
        DataError: when T is longer than 1, or `axes` and array differ in their number of dimensions.

    Examples:
        >>> import numpy as np
        >>> canonical(np.zeros((5, 7, 3)), "YXC").shape
        (3, 5, 7)
    """
    axes = Axes(axes)
    if len(axes) != array.ndim:
        raise DataError(
            "axes.count",
            f"name {len(axes)} dimensions but the array has shape {tuple(array.shape)}",
            key="axes",
            value=str(axes),
            remedy="Give one letter per dimension.",
        )
    if "T" in axes:
        position = axes.index("T")
        if array.shape[position] != 1:
            raise several_time_points(array.shape[position])
        # an index, not `squeeze`: other axes of length 1 must stay
        array = array[tuple(0 if i == position else slice(None) for i in range(array.ndim))]
        axes = Axes(axes.replace("T", ""))
    if "C" not in axes:
        array = array[None]
        axes = Axes("C" + axes)
    order = ["C", *(letter for letter in SPATIAL if letter in axes)]
    return array.transpose([axes.index(letter) for letter in order])
