"""Objects by brightness alone: Otsu's threshold, divided among the bright spots by Voronoi cells or by watershed.

clEsperanto's `voronoi_otsu_labeling` and CellSeg3D do the same with fixed widths::

    image        smooth slightly -> Otsu's threshold -> mask
    image        smooth strongly -> regional maxima inside the mask -> one spot per object
    mask + spots every voxel of the mask goes to the nearest spot, or to the spot whose basin it is in

The widths follow from the typical radius of objects, which is estimated from the mean depth of the mask: for a ball of radius r the mean
distance to the boundary is r / 4 (in 2D r / 3), and where balls touch, the mean stays that of each one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cc3d
import numpy as np

from morula.core.label_image import smallest_type
from morula.decoders.statistics import ChannelStatistics
from morula.kernels.components import connected_components
from morula.kernels.object_tables import renumber
from morula.kernels.smoothing import gaussian_smooth
from morula.kernels.watershed import watershed
from morula.labels.distance import distance
from morula.labels.partial_labels import nearest_labels

SPOT, OUTLINE = 0.4, 0.2
"""Widths of the Gaussians that leave one spot per object and a smooth outline, as shares of the object's radius."""
FINEST = 0.65
"""Width of the Gaussian, in voxels, while the size of objects is unknown: the one of clEsperanto and CellSeg3D."""
FARTHEST_SPOT = 256.0
"""Voxels of the finest axis up to which distances to spots are resolved; a fixed range, so that all blocks agree."""


def bright_mask(values: np.ndarray, spacing: Sequence[float], sigma: float) -> np.ndarray:
    """Voxels above Otsu's threshold of the smoothed values; none where all values are equal."""
    smoothed = gaussian_smooth(values, sigma, spacing)
    return smoothed > ChannelStatistics.of(smoothed[None]).otsu(0)


def typical_radius(mask: np.ndarray, spacing: Sequence[float]) -> float:
    """Typical radius of the objects of a mask, in voxels of the finest axis: four times (in 2D three times) the mean depth of its voxels.

    Examples:
        >>> place = np.indices((31, 31, 31)) - 15
        >>> round(typical_radius((place**2).sum(axis=0) <= 10**2, (1, 1, 1)), 1)
        9.3
    """
    if not mask.any():
        return 0.0
    # distances are measured to the centre of the first voxel outside; the boundary is half a voxel nearer
    depth = distance(mask.view(np.uint8), spacing)[mask].mean() / min(spacing) - 0.5
    return float((mask.ndim + 1) * depth)


def ball_voxels(radius: float, spacing: Sequence[float]) -> float:
    """Voxels of a ball (in 2D a disc) with a radius in voxels of the finest axis.

    Examples:
        >>> round(ball_voxels(3, (1, 1, 1)), 1), round(ball_voxels(3, (2, 1, 1)), 1)
        (113.1, 56.5)
    """
    ndim, finest = len(spacing), min(spacing)
    return math.pi ** (ndim / 2) / math.gamma(ndim / 2 + 1) * radius**ndim * finest**ndim / math.prod(spacing)


def outline_mask(values: np.ndarray, spacing: Sequence[float], threshold: float | None = None) -> tuple[np.ndarray, float]:
    """Mask of the objects in an image, smoothed by a fifth of their typical radius before the threshold; and the width of that Gaussian.

    The radius is estimated from the mask that it leads to, so that three rounds are needed; the third changes little.

    Args:
        values: (Z)YX.
        spacing: edge lengths of a voxel.
        threshold: value above which a voxel belongs to an object; Otsu's threshold of the smoothed values where left out.
    """
    sigma, used = FINEST, FINEST
    for _ in range(3):
        smoothed = gaussian_smooth(values, sigma, spacing)
        mask = smoothed > (ChannelStatistics.of(smoothed[None]).otsu(0) if threshold is None else threshold)
        used, sigma = sigma, max(FINEST, OUTLINE * typical_radius(mask, spacing))
    return mask, used


def spots(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Regional maxima of the values inside a mask; a plateau is one maximum.

    Returns:
        Ids (Z)YX uint32 from 1 on.

    Examples:
        >>> spots(np.array([[0, 2, 1, 3, 3, 0]]), np.array([[True] * 6]))
        array([[0, 1, 0, 2, 2, 0]], dtype=uint32)
    """
    from skimage.morphology import local_maxima

    if not mask.any():
        return np.zeros(mask.shape, np.uint32)
    maxima = local_maxima(np.where(mask, values, values.min()), connectivity=mask.ndim) & mask
    # one plateau that fills the mask has no lower neighbour, which scikit-image requires of a maximum
    if not maxima.any():
        maxima = mask
    return connected_components(maxima, mask.ndim)[0]


def connected_cells(seeds: np.ndarray, mask: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Voronoi cells of seeds inside a mask, each of them connected.

    A voxel goes to the nearest seed. Where the mask cuts off a part of a cell from its seed, that part goes to a neighbouring cell that it
    touches, so that no object has a part beyond a gap.

    Returns:
        Ids (Z)YX uint32 of the seeds; 0 for components of the mask without a seed.

    Examples:
        >>> mask = np.array([[True, True, False, True, True]])
        >>> connected_cells(np.array([[1, 0, 0, 0, 2]], np.uint32), mask, (1, 1))
        array([[1, 1, 0, 2, 2]], dtype=uint32)
    """
    if not seeds.any():
        return np.zeros(mask.shape, np.uint32)
    cells = np.where(mask, nearest_labels(seeds, seeds == 0, spacing), np.uint32(0))
    neighbours = 8 if mask.ndim == 2 else 26
    parts, number = cc3d.connected_components(cells, connectivity=neighbours, return_N=True, out_dtype=np.uint32)  # type: ignore[call-overload]
    has_seed = np.zeros(number + 1, bool)
    has_seed[parts[(seeds > 0) & mask]] = True
    has_seed[0] = False
    # parts without a seed are flooded by the cells that they touch, the nearest seed first
    markers = np.where(has_seed[parts], cells, np.uint32(0))
    value_range = (0.0, FARTHEST_SPOT * min(spacing))
    return watershed(distance(seeds == 0, spacing), markers, mask, connectivity=mask.ndim, value_range=value_range)


def otsu_voronoi(image: np.ndarray, spacing: Sequence[float], *, spot_sigma: float | None = None, outline_sigma: float = 1.0) -> np.ndarray:
    """Objects of an image: Otsu's threshold of the smoothed image, divided into the Voronoi cells of its spots.

    The method of clEsperanto's `voronoi_otsu_labeling`; a baseline for learned methods.

    Args:
        image: intensities (Z)YX.
        spacing: edge lengths of a voxel.
        spot_sigma: smoothing before spots are searched, in voxels of the finest axis; planned from the size of objects where left out.
        outline_sigma: smoothing before the threshold, in the same unit.

    Returns:
        Labels (Z)YX with ids 1..n.

    Examples:
        >>> otsu_voronoi(np.array([[0, 9, 9, 0, 0, 9, 9, 0]], np.float32), (1, 1), outline_sigma=0)
        array([[0, 1, 1, 0, 0, 2, 2, 0]], dtype=uint16)
    """
    return _otsu_labels(image, bright_mask(image, spacing, outline_sigma), spacing, spot_sigma, flood=False)


def otsu_watershed(
    image: np.ndarray, spacing: Sequence[float], *, spot_sigma: float | None = None, outline_sigma: float | None = None
) -> np.ndarray:
    """As `otsu_voronoi`, but the spots are flooded by watershed, so that objects meet in the valleys between them."""
    mask = outline_mask(image, spacing)[0] if outline_sigma is None else bright_mask(image, spacing, outline_sigma)
    return _otsu_labels(image, mask, spacing, spot_sigma, flood=True)


def _otsu_labels(image: np.ndarray, mask: np.ndarray, spacing: Sequence[float], spot_sigma: float | None, *, flood: bool) -> np.ndarray:
    sigma = SPOT * typical_radius(mask, spacing) if spot_sigma is None else spot_sigma
    smoothed = gaussian_smooth(image, sigma, spacing)
    seeds = spots(smoothed, mask)
    labels = watershed(-smoothed, seeds, mask, connectivity=mask.ndim) if flood else connected_cells(seeds, mask, spacing)
    largest = int(labels.max(initial=0))
    return renumber(labels, largest)[0] if largest else labels.astype(smallest_type(0))
