"""Objects of an image by brightness alone: Otsu's threshold, parted by Voronoi cells or by watershed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cc3d
import numpy as np

from morula.core.label_image import smallest_type
from morula.decoders.statistics import ChannelStatistics
from morula.kernels.components import connected_components
from morula.kernels.object_tables import numbered
from morula.kernels.smoothing import gaussian_smooth
from morula.kernels.watershed import watershed
from morula.labels.distance import distance

SPOT, OUTLINE = 0.4, 0.2
"""Widths of the Gaussians that leave one spot in an object and a smooth outline, as shares of the object's radius."""
FINEST = 0.65
"""Width of the Gaussian, in voxels, with which objects of unknown size are first looked at: clEsperanto's and CellSeg3D's."""


def bright_mask(values: np.ndarray, spacing: Sequence[float], sigma: float) -> np.ndarray:
    """What lies above Otsu's threshold of the smoothed values; nothing where all values are alike."""
    smoothed = gaussian_smooth(values, sigma, spacing)
    return smoothed > ChannelStatistics.of(smoothed[None]).otsu(0)


def typical_radius(mask: np.ndarray, spacing: Sequence[float]) -> float:
    """Radius of the objects of a mask, in voxels of the finest axis: four times the mean depth of its voxels (in 2D three), as of a ball.

    Where balls touch, the mean depth stays that of each alone.

    Examples:
        >>> place = np.indices((31, 31, 31)) - 15
        >>> round(typical_radius((place**2).sum(axis=0) <= 10**2, (1, 1, 1)), 1)
        9.3
    """
    if not mask.any():
        return 0.0
    depth = distance(mask.view(np.uint8), spacing)[mask].mean() / min(spacing) - 0.5  # from the middle of a voxel to the middle of another
    return float((mask.ndim + 1) * depth)


def ball_voxels(radius: float, spacing: Sequence[float]) -> float:
    """Voxels of a ball (in 2D a disc) whose radius is in voxels of the finest axis.

    Examples:
        >>> round(ball_voxels(3, (1, 1, 1)), 1), round(ball_voxels(3, (2, 1, 1)), 1)
        (113.1, 56.5)
    """
    ndim, finest = len(spacing), min(spacing)
    return math.pi ** (ndim / 2) / math.gamma(ndim / 2 + 1) * radius**ndim * finest**ndim / math.prod(spacing)


def outlined(values: np.ndarray, spacing: Sequence[float], limit: float | None = None) -> np.ndarray:
    """Mask of the objects in values (Z)YX, smoothed by a fifth of the objects' typical radius before the threshold.

    `limit` is the threshold; Otsu's of the smoothed values when left out.
    """
    sigma = FINEST
    for _ in range(3):  # the radius is found in the mask that it makes
        smoothed = gaussian_smooth(values, sigma, spacing)
        mask = smoothed > (ChannelStatistics.of(smoothed[None]).otsu(0) if limit is None else limit)
        sigma = max(FINEST, OUTLINE * typical_radius(mask, spacing))
    return mask


def spots(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Regional maxima of the values in a mask, plateaus in one piece: ids (Z)YX uint32 from 1 on.

    Examples:
        >>> spots(np.array([[0, 2, 1, 3, 3, 0]]), np.array([[True] * 6]))
        array([[0, 1, 0, 2, 2, 0]], dtype=uint32)
    """
    from skimage.morphology import local_maxima

    if not mask.any():
        return np.zeros(mask.shape, np.uint32)
    tops = local_maxima(np.where(mask, values, values.min()), connectivity=mask.ndim) & mask
    if not tops.any():  # one plateau that fills the mask
        tops = mask
    return connected_components(tops, mask.ndim)[0]


def voronoi(seeds: np.ndarray, mask: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Each voxel of the mask to the nearest seed; what is cut off from that one in the mask, to one that it is connected with.

    Ids (Z)YX of the seeds, uint32; 0 for pieces of the mask without a seed.

    Examples:
        >>> voronoi(np.array([[1, 0, 0, 0, 2]], np.uint32), np.array([[True, True, False, True, True]]), (1, 1))
        array([[1, 1, 0, 2, 2]], dtype=uint32)
    """
    from scipy import ndimage

    if not seeds.any():
        return np.zeros(mask.shape, np.uint32)
    away, nearest = ndimage.distance_transform_edt(seeds == 0, sampling=tuple(spacing), return_indices=True)
    cells = np.where(mask, seeds[tuple(nearest)], 0).astype(np.uint32)
    neighbours = 8 if mask.ndim == 2 else 26
    parts, number = cc3d.connected_components(cells, connectivity=neighbours, return_N=True, out_dtype=np.uint32)  # type: ignore[call-overload]
    seeded = np.zeros(number + 1, bool)
    seeded[parts[(seeds > 0) & mask]] = True
    seeded[0] = False
    return watershed(away, np.where(seeded[parts], cells, np.uint32(0)), mask, connectivity=mask.ndim)


def part_by_spots(
    values: np.ndarray, mask: np.ndarray, spacing: Sequence[float], *, sigma: float | None = None, flooded: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """A mask parted into one piece for each spot of the smoothed values, and the spots. Ids (Z)YX uint32.

    Args:
        values: what has a peak in each object.
        mask: where objects are.
        spacing: edge lengths of a voxel.
        sigma: width of the Gaussian in voxels of the finest axis; 0.4 of the typical radius of the mask's objects when left out.
        flooded: meet where the smoothed values are lowest between the spots, instead of halfway.
    """
    smoothed = gaussian_smooth(values, SPOT * typical_radius(mask, spacing) if sigma is None else sigma, spacing)
    seeds = spots(smoothed, mask)
    return (watershed(-smoothed, seeds, mask, connectivity=mask.ndim) if flooded else voronoi(seeds, mask, spacing)), seeds


def otsu_voronoi(image: np.ndarray, spacing: Sequence[float], *, spot_sigma: float | None = None, outline_sigma: float = 1.0) -> np.ndarray:
    """Objects of an image (Z)YX: Otsu's threshold of the smoothed image, parted into the Voronoi cells of its spots.

    The method of clEsperanto's `voronoi_otsu_labeling`; a plain method to compare with.

    Args:
        image: intensities (Z)YX.
        spacing: edge lengths of a voxel.
        spot_sigma: smoothing before spots are looked for, in voxels of the finest axis; planned from the size of the objects when left out.
        outline_sigma: smoothing before the threshold, likewise.

    Returns:
        Ids 1..n.

    Examples:
        >>> otsu_voronoi(np.array([[0, 9, 9, 0, 0, 9, 9, 0]], np.float32), (1, 1), outline_sigma=0)
        array([[0, 1, 1, 0, 0, 2, 2, 0]], dtype=uint16)
    """
    return _otsu(image, spacing, spot_sigma, outline_sigma, flooded=False)


def otsu_watershed(
    image: np.ndarray, spacing: Sequence[float], *, spot_sigma: float | None = None, outline_sigma: float | None = None
) -> np.ndarray:
    """As `otsu_voronoi`, but the spots are flooded by watershed, so that objects meet in the valleys between them."""
    return _otsu(image, spacing, spot_sigma, outline_sigma, flooded=True)


def _otsu(
    image: np.ndarray, spacing: Sequence[float], spot_sigma: float | None, outline_sigma: float | None, *, flooded: bool
) -> np.ndarray:
    mask = outlined(image, spacing) if outline_sigma is None else bright_mask(image, spacing, outline_sigma)
    labels, _ = part_by_spots(image, mask, spacing, sigma=spot_sigma, flooded=flooded)
    largest = int(labels.max(initial=0))
    return numbered(labels, largest)[0] if largest else labels.astype(smallest_type(0))
