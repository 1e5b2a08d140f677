"""Compiled inner loops of `morula.data.augment.resample`: interpolation at mapped positions, with reflect padding."""

from __future__ import annotations

import numpy as np

from morula.core.compiled import njit


@njit(cache=True, nogil=True, inline="always")
def _fold(x: float, n: int) -> float:
    """Reflect a coordinate at voxel 0 and voxel n - 1 until it is between them."""
    if n == 1:
        return 0.0
    if x < 0.0:
        x = -x
    if x > n - 1:
        period = 2.0 * (n - 1)
        x = x % period
        if x > n - 1:
            x = period - x
    return x


@njit(cache=True, nogil=True, inline="always")
def _pair(x: float, low: int, start: int, length: int) -> tuple[int, int, float]:
    """Indices in the fetched array of the two neighbours of a position, and the weight of the second."""
    x += low - start
    if x < 0.0:
        x = 0.0
    if x > length - 1:
        x = float(length - 1)
    first = int(x)
    second = min(first + 1, length - 1)
    return first, second, x - first


@njit(cache=True, nogil=True, fastmath=True)
def linear(source, start, low, n, matrix, offset, field, out):  # type: ignore[no-untyped-def]
    """Write linearly interpolated values CZYX into `out`."""
    moved = field.size > 0
    flat = n[0] == 1  # 2D: no interpolation along z
    for z in range(out.shape[1]):
        for y in range(out.shape[2]):
            # the part of the affine map that is constant along x
            base_z = offset[0] + matrix[0, 0] * z + matrix[0, 1] * y - low[0]
            base_y = offset[1] + matrix[1, 0] * z + matrix[1, 1] * y - low[1]
            base_x = offset[2] + matrix[2, 0] * z + matrix[2, 1] * y - low[2]
            for x in range(out.shape[3]):
                pz = base_z + matrix[0, 2] * x
                py = base_y + matrix[1, 2] * x
                px = base_x + matrix[2, 2] * x
                if moved:
                    pz += field[0, z, y, x]
                    py += field[1, z, y, x]
                    px += field[2, z, y, x]
                z0, z1, wz = _pair(_fold(pz, n[0]), low[0], start[0], source.shape[1])
                y0, y1, wy = _pair(_fold(py, n[1]), low[1], start[1], source.shape[2])
                x0, x1, wx = _pair(_fold(px, n[2]), low[2], start[2], source.shape[3])
                a00, a01 = (1 - wy) * (1 - wx), (1 - wy) * wx
                a10, a11 = wy * (1 - wx), wy * wx
                for c in range(source.shape[0]):
                    value = (
                        a00 * source[c, z0, y0, x0]
                        + a01 * source[c, z0, y0, x1]
                        + a10 * source[c, z0, y1, x0]
                        + a11 * source[c, z0, y1, x1]
                    )
                    if not flat and wz > 0:
                        above = (
                            a00 * source[c, z1, y0, x0]
                            + a01 * source[c, z1, y0, x1]
                            + a10 * source[c, z1, y1, x0]
                            + a11 * source[c, z1, y1, x1]
                        )
                        value += wz * (above - value)
                    out[c, z, y, x] = value


@njit(cache=True, nogil=True)
def inside(low, n, matrix, offset, field, out):  # type: ignore[no-untyped-def]
    """Write into `out` (Z, Y, X) whether the source position of each voxel is inside the image."""
    moved = field.size > 0
    for z in range(out.shape[0]):
        for y in range(out.shape[1]):
            for x in range(out.shape[2]):
                within = True
                for axis in range(3):
                    place = offset[axis] + matrix[axis, 0] * z + matrix[axis, 1] * y + matrix[axis, 2] * x - low[axis]
                    if moved:
                        place += field[axis, z, y, x]
                    within = within and -0.5 <= place <= n[axis] - 0.5
                out[z, y, x] = within


@njit(cache=True, nogil=True, inline="always")
def _near(x: float, low: int, start: int, length: int) -> int:
    return min(max(int(np.floor(x + 0.5)) + low - start, 0), length - 1)


@njit(cache=True, nogil=True)
def nearest(source, start, low, n, matrix, offset, field, out):  # type: ignore[no-untyped-def]
    """Write the values CZYX of the nearest voxels into `out`."""
    moved = field.size > 0
    for z in range(out.shape[1]):
        for y in range(out.shape[2]):
            for x in range(out.shape[3]):
                pz = offset[0] + matrix[0, 0] * z + matrix[0, 1] * y + matrix[0, 2] * x - low[0]
                py = offset[1] + matrix[1, 0] * z + matrix[1, 1] * y + matrix[1, 2] * x - low[1]
                px = offset[2] + matrix[2, 0] * z + matrix[2, 1] * y + matrix[2, 2] * x - low[2]
                if moved:
                    pz += field[0, z, y, x]
                    py += field[1, z, y, x]
                    px += field[2, z, y, x]
                iz = _near(_fold(pz, n[0]), low[0], start[0], source.shape[1])
                iy = _near(_fold(py, n[1]), low[1], start[1], source.shape[2])
                ix = _near(_fold(px, n[2]), low[2], start[2], source.shape[3])
                for c in range(source.shape[0]):
                    out[c, z, y, x] = source[c, iz, iy, ix]
