"""Operations on objects, applied in the order in which they are listed.

A refinement is a member of the family `REFINEMENTS`: options, and a function from labels to labels. Other packages add members by entry
points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from morula.core.errors import OptionError
from morula.core.family import Family, Member
from morula.core.image_like import ImageLike, spatial_array
from morula.core.label_image import check_labels
from morula.core.options import validated
from morula.core.variants import VariantOptions, expand_variant, variant_types
from morula.core.voxel_size import VoxelSizeLike
from morula.kernels.object_tables import renumber
from morula.labels.border import clear_border
from morula.labels.holes import fill_holes
from morula.labels.merge_oversegmented import repair_large
from morula.labels.morphology import Radius, dilate, erode, radii
from morula.labels.objects import DECODED, Objects
from morula.labels.size_filter import remove_large, remove_small
from morula.labels.voronoi import Nearest, voronoi

Mask = np.ndarray | Callable[["Tessellation"], np.ndarray] | None
"""Where objects may be: an array (Z)YX, or a function that computes it for an operation with these options."""
Operations = Sequence[object] | Mapping[str, object]
"""Operations in their order: options, names, or mappings from a name to its settings."""
Operation = Callable[[np.ndarray, Any, Sequence[float], Mask], np.ndarray]


class RefinementOptions(VariantOptions):
    """Options of one operation on objects."""


class Size(RefinementOptions):
    """A number of voxels."""

    shorthand: ClassVar[str] = "size"
    size: int = Field(ge=0)
    """Voxels; an object of exactly this size is kept."""


class Reach(RefinementOptions):
    """A radius."""

    shorthand: ClassVar[str] = "radius"
    radius: Radius = 1
    """Voxels of the finest axis, or one number per axis."""


class Border(RefinementOptions):
    """What counts as the border."""

    kind: Literal["clear_border"] = "clear_border"
    """Name of the variant."""

    shorthand: ClassVar[str] = "margin"
    margin: int = Field(0, ge=0)
    """Smallest number of voxels between the border of the image and an object that is kept."""
    z: bool = True
    """Whether the first and the last z plane are borders (3D)."""


class Pieces(RefinementOptions):
    """Which objects are large, and which neighbours are pieces of them."""

    kind: Literal["repair_large"] = "repair_large"
    """Name of the variant."""

    shorthand: ClassVar[str] = "size"
    size: int = Field(ge=0)
    """Objects with at least this many voxels are large. More than objects usually have, so that few objects are inspected."""
    contact: float = Field(0.8, ge=0)
    """Two neighbours are pieces of one object when the length (area in 3D) of their border, divided by the side of a square (the face of
    a cube) with as many voxels as the smaller one, reaches this value: 1.6 for the halves of a disc, 0.6 for the cells of a honeycomb."""


class Tessellation(RefinementOptions):
    """What a mask is divided by."""

    kind: Literal["voronoi"] = "voronoi"
    """Name of the variant."""

    shorthand: ClassVar[str] = "nearest"
    nearest: Nearest = "centroid"
    """Each voxel of the mask goes to the object whose centroid is nearest, or (`object`) to the nearest object."""
    channel: Literal["M", "F", "B", "C"] | None = None
    """Channel that the mask is made of; left out: the first of M, F, B and C that is predicted."""
    threshold: float | Literal["auto"] = "auto"
    """Voxels above this value belong to the mask (below it for B); `auto` is Otsu's threshold."""


class NoSettings(RefinementOptions):
    """Nothing to set."""

    kind: Literal["fill_holes"] = "fill_holes"
    """Name of the variant."""


class Dilation(Reach):
    """How far objects grow."""

    kind: Literal["dilation"] = "dilation"
    """Name of the variant."""


class Erosion(Reach):
    """How far objects shrink."""

    kind: Literal["erosion"] = "erosion"
    """Name of the variant."""


class SmallSize(Size):
    """Size from which objects are kept."""

    kind: Literal["remove_small"] = "remove_small"
    """Name of the variant."""


class LargeSize(Size):
    """Size up to which objects are kept."""

    kind: Literal["remove_large"] = "remove_large"
    """Name of the variant."""


class SmallObjectsSize(Size):
    """Size from which objects are kept."""

    kind: Literal["remove_small_objects"] = "remove_small_objects"
    """Name of the variant."""


class LargeObjectsSize(Size):
    """Size up to which objects are kept."""

    kind: Literal["remove_large_objects"] = "remove_large_objects"
    """Name of the variant."""


class BigObjectsSize(Size):
    """Size up to which objects are kept."""

    kind: Literal["remove_big_objects"] = "remove_big_objects"
    """Name of the variant."""


# All operations have one signature, so that `refine` can apply them in any order; most need neither spacing nor mask.


def _dilation(labels: np.ndarray, options: Reach, spacing: Sequence[float], mask: Mask) -> np.ndarray:
    return dilate(labels, radii(options.radius, spacing))


def _erosion(labels: np.ndarray, options: Reach, spacing: Sequence[float], mask: Mask) -> np.ndarray:
    return erode(labels, radii(options.radius, spacing))


def _fill_holes(labels: np.ndarray, options: NoSettings, spacing: Sequence[float], mask: Mask) -> np.ndarray:
    return fill_holes(labels)


def _clear_border(labels: np.ndarray, options: Border, spacing: Sequence[float], mask: Mask) -> np.ndarray:
    return clear_border(labels, margin=options.margin, axes=None if options.z else (-2, -1))


def _remove_small(labels: np.ndarray, options: Size, spacing: Sequence[float], mask: Mask) -> np.ndarray:
    return remove_small(labels, options.size)


def _remove_large(labels: np.ndarray, options: Size, spacing: Sequence[float], mask: Mask) -> np.ndarray:
    return remove_large(labels, options.size)


def _repair_large(labels: np.ndarray, options: Pieces, spacing: Sequence[float], mask: Mask) -> np.ndarray:
    return repair_large(labels, options.size, contact=options.contact, voxel_size=spacing)


def _voronoi(labels: np.ndarray, options: Tessellation, spacing: Sequence[float], mask: Mask) -> np.ndarray:
    if mask is None:
        raise OptionError(
            "refinement.no_mask", "voronoi divides a mask among the objects, but no mask is given", key="mask", remedy="Give a mask."
        )
    return voronoi(labels, mask(options) if callable(mask) else mask, nearest=options.nearest, voxel_size=spacing)


_HERE = "morula.labels.refine"

REFINEMENTS = Family(
    "refinement",
    {
        "dilation": Member(f"{_HERE}:_dilation", f"{_HERE}:Dilation", "grow each object into the background"),
        "erosion": Member(f"{_HERE}:_erosion", f"{_HERE}:Erosion", "shrink each object"),
        "fill_holes": Member(f"{_HERE}:_fill_holes", f"{_HERE}:NoSettings", "fill the holes of each object"),
        "clear_border": Member(f"{_HERE}:_clear_border", f"{_HERE}:Border", "drop objects at the image's border"),
        "remove_small": Member(f"{_HERE}:_remove_small", f"{_HERE}:SmallSize", "drop objects of fewer voxels"),
        "remove_large": Member(f"{_HERE}:_remove_large", f"{_HERE}:LargeSize", "drop objects of more voxels"),
        "repair_large": Member(f"{_HERE}:_repair_large", f"{_HERE}:Pieces", "merge the pieces of large objects, fill their holes"),
        "voronoi": Member(f"{_HERE}:_voronoi", f"{_HERE}:Tessellation", "let objects cover the predicted foreground without gaps"),
        # names by which other programs know the same operations
        "remove_small_objects": Member(f"{_HERE}:_remove_small", f"{_HERE}:SmallObjectsSize", "another name of remove_small"),
        "remove_large_objects": Member(f"{_HERE}:_remove_large", f"{_HERE}:LargeObjectsSize", "another name of remove_large"),
        "remove_big_objects": Member(f"{_HERE}:_remove_large", f"{_HERE}:BigObjectsSize", "another name of remove_large"),
    },
    group="morula.refinements",
)


def refine(labels: ImageLike, operations: Operations, voxel_size: VoxelSizeLike = None, *, mask: Mask = None) -> np.ndarray:
    """Apply operations to all objects, one after another. Ids and data type stay the same.

    An operation is a name (``"fill_holes"``), or a name with its setting (``{"remove_small": 20}``, ``{"dilation": {"radius": 2}}``).

    Args:
        labels: ids (Z)YX, an array or `Image`.
        operations: a list, a mapping from name to setting, or a single name.
        voxel_size: edge lengths of a voxel; those of the image where left out, else 1.
        mask: where objects may be, (Z)YX bool, for the operation `voronoi`.

    Raises:
        OptionError: for an unknown setting, or `voronoi` without a mask.
        UnknownNameError: for an unknown operation.

    Examples:
        >>> refine(np.array([[1, 1, 0, 2]], np.uint16), [{"remove_small": 2}, "dilation"])
        array([[1, 1, 1, 0]], dtype=uint16)
    """
    array, spacing = spatial_array(labels, voxel_size)
    check_labels(array)  # for its errors alone: the operations keep the type of the ids
    for operation in _listed(operations):
        array = REFINEMENTS.load(operation.kind)(array, operation, spacing, mask)
    return array


def refine_objects(objects: Objects, operations: Operations, spacing: Sequence[float], *, mask: Mask = None) -> Objects:
    """Apply operations to objects: ids are 1..n again, each object keeps its confidence, and the labels before the operations are the
    intermediate image `decoded`."""
    if not len(operations):
        return objects
    labels = refine(objects.labels, operations, tuple(spacing), mask=mask)
    # operations remove objects, and ids of `Objects` are indices into the confidences
    labels, old = renumber(labels, len(objects.confidence))
    return Objects(labels, objects.confidence[old - 1], {**objects.intermediates, DECODED: objects.labels})


def refinement_context(operations: Operations, spacing: Sequence[float], max_diameter: float) -> tuple[int, ...]:
    """Voxels per axis beyond an object that can change it in these operations, for refining objects block by block.

    Objects grow and shrink by their radius, and the pieces of a large object are its neighbours. The other operations look at one object
    at a time, except for `voronoi`, which divides a whole mask. A block must not end inside an object that touches the border of the
    image: `clear_border` takes the border of the block for it, which changes only objects larger than the halo.

    Examples:
        >>> refinement_context(["fill_holes", {"dilation": 2}], (2.0, 1.0, 1.0), max_diameter=20)
        (1, 2, 2)
    """
    reach = [0] * len(spacing)
    for operation in _listed(operations):
        if isinstance(operation, Reach):
            reach = [a + b for a, b in zip(reach, radii(operation.radius, spacing), strict=True)]
        elif isinstance(operation, Pieces):
            reach = [a + math.ceil(2 * max_diameter * min(spacing) / length) for a, length in zip(reach, spacing, strict=True)]
    return tuple(reach)


def _listed(operations: Operations) -> list[RefinementOptions]:
    """Operations in any spelling as options with `kind`."""
    types = variant_types(REFINEMENTS)
    if isinstance(operations, Mapping):
        operations = [{name: setting} for name, setting in operations.items()]
    listed = []
    for operation in [operations] if isinstance(operations, str) else operations:
        if not isinstance(operation, RefinementOptions):
            spelt = expand_variant(operation, types)
            name = spelt.get("kind") if isinstance(spelt, Mapping) else None
            if not isinstance(spelt, Mapping) or not isinstance(name, str):
                raise OptionError(
                    "refinement.format",
                    "must be the name of an operation, or a name with its setting",
                    key="operations",
                    value=operation,
                    remedy="Write for example {'remove_small': 20}.",
                )
            REFINEMENTS.member(name)  # raises for an unknown name, with the most similar one
            operation = validated(types[name], spelt, f"operation {name}")
        assert isinstance(operation, RefinementOptions)
        listed.append(operation)
    return listed
