"""The utilities that the window of this name offers: what each needs, and what it makes of a layer. Needs no Qt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from morula.core.errors import OptionError
from morula.core.image import Image
from morula.core.region import Region
from morula.labels.size_filter import remove_large, remove_small
from morula.workflows.utilities import above, as_instances, as_semantic, cropped, with_cubic_voxels

Kind = Literal["image", "labels"]


@dataclass(frozen=True)
class Utility:
    """One utility.

    Attributes:
        name: what the window shows; also the end of the name of the new layer.
        description: what it does.
        kinds: layers that it takes.
        run: from an image, whether it is labels, and the setting, to another image.
        makes: kind of the new layer; `None` for that of the layer.
        setting: name of the setting; empty where there is none.
        example: a setting.
    """

    name: str
    description: str
    kinds: tuple[Kind, ...]
    run: Callable[[Image, bool, str], Image]
    makes: Kind | None = None
    setting: str = ""
    example: str = ""


BOTH: tuple[Kind, ...] = ("image", "labels")


def box_of(text: str, ndim: int) -> Region:
    """A box from its text, first and last voxel of each axis.

    Raises:
        OptionError: for another text.

    Examples:
        >>> box_of("0:8, 100:200", 2)
        Region(start=(0, 100), stop=(8, 200))
    """
    try:
        pairs = [tuple(int(number) for number in part.split(":")) for part in text.split(",")]
        start, stop = zip(*pairs, strict=True)
    except ValueError:
        start, stop = (), ()
    if len(start) != ndim:
        rule, remedy = f"must be {ndim} pairs of first voxel and the one after the last", f"For example {', '.join(['0:64'] * ndim)}."
        raise OptionError("utilities.box", rule, key="box", value=text, remedy=remedy)
    return Region(start, stop)


def numbers_of(text: str, count: int) -> tuple[int, ...]:
    """Edge lengths from their text; one number is taken for all axes.

    Raises:
        OptionError: for another text.

    Examples:
        >>> numbers_of("64", 3), numbers_of("16, 64, 64", 3)
        ((64, 64, 64), (16, 64, 64))
    """
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) not in (1, count):
        rule = f"must be one or {count} whole numbers"
        raise OptionError("utilities.numbers", rule, key="setting", value=text, remedy=f"For example {', '.join(['64'] * count)}.")
    return numbers * count if len(numbers) == 1 else numbers


def _threshold(image: Image, _: bool, text: str) -> Image:
    try:
        limit = float(text) if text else None
    except ValueError:
        raise OptionError(
            "utilities.threshold", "must be a number", key="threshold", value=text, remedy="Leave it empty for Otsu's."
        ) from None
    return above(image, limit)


def _without(remove: Callable[[np.ndarray, int], np.ndarray]) -> Callable[[Image, bool, str], Image]:
    return lambda image, _, text: replace(image, data=remove(np.asarray(image), numbers_of(text, 1)[0]))


UTILITIES = (
    Utility(
        "crop",
        "A box of the layer; what is visible, if none is named.",
        BOTH,
        lambda image, _, text: cropped(image, box_of(text, image.ndim_spatial)),
        setting="Box",
    ),
    Utility(
        "correct anisotropy",
        "Cubic voxels with the shortest edge: slices are added along the coarse axis, no detail is lost. Needs the voxel size.",
        BOTH,
        lambda image, labels, _: with_cubic_voxels(image, labels=labels),
    ),
    Utility("threshold", "A mask of what is brighter.", ("image",), _threshold, "labels", "Threshold", "Otsu's"),
    Utility("to instances", "One id per connected piece of each class.", ("labels",), lambda image, *_: as_instances(image)),
    Utility("to semantic", "One class for all objects.", ("labels",), lambda image, *_: as_semantic(image)),
    Utility("remove small", "Without the objects of fewer voxels.", ("labels",), _without(remove_small), setting="Voxels", example="20"),
    Utility("remove large", "Without the objects of more voxels.", ("labels",), _without(remove_large), setting="Voxels", example="5000"),
)
"""Utilities that make a layer of a layer, in the order in which they are offered."""


def utility(name: str) -> Utility:
    """The utility of a name."""
    return next(entry for entry in UTILITIES if entry.name == name)
