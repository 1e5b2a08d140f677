"""The images of a patch: image, labels, classes and weights, read, warped and oriented together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from morula.core.image import Image
from morula.core.reflect_pad import read_reflected
from morula.core.region import Region
from morula.data.augment.base import Draw
from morula.data.augment.resample import SPLINE_REACH, Fetched, fetch_region
from morula.data.augment.warp import Warp
from morula.data.crop import crop
from morula.data.normalise import Normalisation


@dataclass(frozen=True, eq=False)
class Layer:
    """One image of a source, interpolated with splines of an order: 0 takes the nearest voxel, 1 is linear. Labels have a margin."""

    name: str
    image: Image
    order: int
    dtype: DTypeLike = np.float32
    margin: bool = False
    normalisation: Normalisation | None = None

    def prepared(self, array: np.ndarray) -> np.ndarray:
        """The values as they are warped: normalised, and in a dtype that holds them."""
        if self.normalisation is not None:
            return self.normalisation.apply(array)
        return array.astype(self.dtype, copy=False)


def read_layers(
    layers: Sequence[Layer], extent: Region, spacing: tuple[float, ...], region: Region, drawn: Draw, margin: Sequence[int]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """All layers of a patch, warped and oriented: C(Z)YX by name, and the mask (Z)YX of the voxels in the image.

    Args:
        layers: images of one shape.
        extent: the box of them that may be read; beyond it they are mirrored.
        spacing: edge lengths of a voxel.
        region: the patch before it is warped.
        drawn: warp and orientation.
        margin: voxels by which labels and the mask are larger than the patch on each side.
    """
    if drawn.warp is None:
        arrays, there = _plain(layers, extent, region, margin)
    else:
        arrays, there = _warped(layers, extent, spacing, region, drawn.warp, margin)
    turn = drawn.orientation.apply
    return {name: np.ascontiguousarray(turn(array)) for name, array in arrays.items()}, np.ascontiguousarray(turn(there))


def _plain(layers: Sequence[Layer], extent: Region, region: Region, margin: Sequence[int]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    arrays = {}
    for layer in layers:
        where = region.grow(margin) if layer.margin else region
        arrays[layer.name] = layer.prepared(read_reflected(layer.image.lazy(), where, extent))
    outer = region.grow(margin)
    there = np.zeros(outer.shape, bool)
    common = outer.intersect(extent)
    assert common is not None
    there[common.shift([-a for a in outer.start]).slices] = True
    return arrays, there


def _warped(
    layers: Sequence[Layer], extent: Region, spacing: tuple[float, ...], region: Region, warp: Warp, margin: Sequence[int]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    outer = region.grow(margin)
    centre = (np.array(region.start) + np.array(region.stop) - 1) / 2
    # read only the box that the warp can reach
    reach = warp.region(outer.shape, spacing, centre)
    wide = warp.map(outer.shape, spacing, centre)
    inner = wide.inner(margin)
    arrays = {}
    for layer in layers:
        # splines depend on voxels beyond the interpolated region
        wider = reach.grow((SPLINE_REACH,) * len(outer.shape)) if layer.order > 1 else reach
        box = fetch_region(wider, extent)
        fetched = Fetched(layer.prepared(crop(layer.image, box)), box.start, extent)
        where = wide if layer.margin else inner
        match layer.order:
            case 0:
                arrays[layer.name] = fetched.nearest(where)
            case 1:
                arrays[layer.name] = fetched.linear(where)
            case order:
                arrays[layer.name] = fetched.spline(where, order)
    return arrays, wide.inside(extent)
