"""Directions of rays, and the distance from each voxel to the boundary of its object along each of them.

The rays are evenly spaced angles in 2D and a Fibonacci sphere in 3D. From every voxel a ray is followed step by step until it leaves the
object. Complexity: rays x voxels x mean ray length. Two things make it fast: the steps of a ray are the same for every voxel, so that they
are offsets into the flat image; and the voxels of a row are followed together, which the compiler turns into SIMD code.

After Schmidt et al. (MICCAI 2018) and Weigert et al. (WACV 2020).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from morula.core.compiled import njit
from morula.core.label_image import as_volume, to_3d

LANES = 256
"""Voxels of a row that are followed together."""
STEPS = 4
"""Steps between two checks whether any of them is still inside."""


def directions(count: int, ndim: int) -> np.ndarray:
    """Unit vectors (count, ndim) in array order: evenly spaced angles from +x towards +y in 2D, a Fibonacci sphere in 3D.

    After Schmidt et al. (MICCAI 2018) and Weigert et al. (WACV 2020), StarDist.

    Examples:
        >>> directions(4, 2)
        array([[ 0.,  1.],
               [ 1.,  0.],
               [ 0., -1.],
               [-1.,  0.]])
    """
    k = np.arange(count)
    if ndim == 2:
        angle = 2 * np.pi * k / count
        rays = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    else:
        z = 1 - 2 * (k + 0.5) / count
        angle = 2 * np.pi * k / ((1 + np.sqrt(5)) / 2)
        across = np.sqrt(1 - z * z)
        rays = np.stack([z, across * np.sin(angle), across * np.cos(angle)], axis=1)
    # rounded, so that mirrored rays are equal to the last digit
    return np.round(rays, 9) + 0.0


def ray_lengths(
    labels: np.ndarray, count: int, spacing: Sequence[float], scale: float = 1.0, *, out: np.ndarray | None = None
) -> np.ndarray:
    """Distance from each voxel to the end of its object along each ray, (count, (Z)YX) float32; 0 in the background.

    From a voxel's centre the ray is followed in steps of one voxel (of the finest axis it runs along) until it leaves the object or the
    image; the end is taken half a voxel before the first voxel outside. Lengths are in units of `spacing`, divided by `scale`.

    Args:
        labels: (Z)YX uint32, compact.
        count: number of rays, see `directions`.
        spacing: edge lengths of a voxel; rays point in physical directions.
        scale: length that a value of 1 stands for.
        out: array that is written to and returned; a new one where left out.

    Examples:
        >>> ray_lengths(np.array([[0, 1, 1, 1, 0]], np.uint32), 2, (1, 1))[:, 0]
        array([[0. , 2.5, 1.5, 0.5, 0. ],
               [0. , 0.5, 1.5, 2.5, 0. ]], dtype=float32)
    """
    planes = [n + 2 for n in as_volume(labels).shape]
    # ids and steps in 16 bits: twice as many per SIMD instruction
    small = np.uint16 if max(labels.max(), sum(planes)) < 2**16 else np.uint32
    strides = np.array([planes[1] * planes[2], planes[2], 1])
    # upper bound of what is read beyond the end of the image
    edge = STEPS * int(strides[3 - labels.ndim :].sum()) + LANES
    padded = np.zeros(strides[0] * planes[0] + 2 * edge, small)
    # a border of background ends every ray at the image, without a check per step
    padded[edge : len(padded) - edge].reshape(planes)[1:-1, 1:-1, 1:-1] = as_volume(labels)
    out = np.empty((count, *labels.shape), np.float32) if out is None else out
    lengths = to_3d(spacing, 1.0)
    for ray, target in zip(directions(count, labels.ndim), out, strict=True):
        step = to_3d(ray, 0.0) / lengths
        step /= np.sqrt((step * step).sum())
        offsets = np.rint(np.arange(1, sum(planes) + STEPS)[:, None] * step).astype(np.int64)
        unit = float(np.sqrt(((step * lengths) ** 2).sum())) / scale
        back = 1 - 0.5 / np.abs(step).max()
        _follow(padded, edge, offsets @ strides, np.float32(unit), np.float32(back), as_volume(target))
    return out


@njit(cache=True, nogil=True)
def _follow(ids: np.ndarray, edge: int, offsets: np.ndarray, unit: np.float32, back: np.float32, out: np.ndarray) -> None:
    """Distances along one ray, for many voxels of a row together, until the last of them has left its object.

    Args:
        ids: the image with a border of one background voxel, flat, between `edge` more voxels at either end.
        edge: their number.
        offsets: flat offsets of the ray's voxels from its first voxel.
        unit: length of a step.
        back: part of the last step that does not count: the boundary is half a voxel before the first voxel outside.
        out: (Z)YX, written to.
    """
    nz, ny, nx = out.shape
    own, go, steps = np.zeros(LANES, ids.dtype), np.zeros(LANES, ids.dtype), np.zeros(LANES, ids.dtype)
    none, one = ids.dtype.type(0), ids.dtype.type(1)
    for z in range(nz):
        for y in range(ny):
            for begin in range(0, nx, LANES):
                start, number = edge + ((z + 1) * (ny + 2) + y + 1) * (nx + 2) + 1 + begin, min(LANES, nx - begin)
                for lane in range(number):
                    own[lane] = ids[start + lane]
                    go[lane] = one if own[lane] else none
                    steps[lane] = one
                k, going = 0, True
                while going:
                    a, b = ids[start + offsets[k] :][:number], ids[start + offsets[k + 1] :][:number]
                    c, d = ids[start + offsets[k + 2] :][:number], ids[start + offsets[k + 3] :][:number]
                    # a voxel that has left its object stays out, even where the ray enters the object again
                    for lane in range(number):
                        # read before the choice: a read that depends on it would not become SIMD code on processors without masks
                        mine, inside = own[lane], go[lane]
                        first = inside if a[lane] == mine else none
                        second = first if b[lane] == mine else none
                        third = second if c[lane] == mine else none
                        fourth = third if d[lane] == mine else none
                        go[lane] = fourth
                        steps[lane] += first + second + third + fourth
                    k += STEPS
                    left = none
                    for lane in range(number):
                        left |= go[lane]
                    going = left != 0
                for lane in range(number):
                    out[z, y, begin + lane] = (np.float32(steps[lane]) - back) * unit if own[lane] else np.float32(0)
