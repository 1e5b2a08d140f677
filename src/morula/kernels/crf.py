"""A dense conditional random field that refines class probabilities by the image.

Every voxel is connected with every other one; two voxels prefer the same class when they are near each other and have similar intensities
(bilateral kernel), or are direct neighbours whatever their intensities (spatial kernel). Inference is the mean-field approximation: each
round adds the smoothed probabilities to the evidence and normalises again::

    probabilities -> smooth by both kernels -> add to log(evidence) -> softmax -> repeat

The sums over all pairs would be quadratic. The bilateral one is computed on a coarse grid over position and intensity: add every voxel to
its grid cell (splat), blur the grid, read it back at every voxel (slice). Complexity: linear in the voxels per round.

After Krähenbühl and Koltun (NIPS 2011, https://arxiv.org/abs/1210.5644); the grid after Chen, Paris and Durand (SIGGRAPH 2007).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from pydantic import Field, PositiveFloat

from morula.core.compiled import njit
from morula.core.errors import DataError
from morula.core.options import Options

_CELL = 0.5
"""Edge of a cell of the bilateral grid, in standard deviations. Larger cells are faster and less exact."""


class CRF(Options):
    """Refinement by a fully connected conditional random field (Krähenbühl and Koltun 2011, https://arxiv.org/abs/1210.5644).

    The defaults are those of CellSeg3D.
    """

    bilateral_width: PositiveFloat = 10.0
    """Distance over which voxels with similar intensities prefer the same class, in voxels of the finest axis."""
    intensity_width: PositiveFloat = 5.0
    """Difference of intensities up to which voxels are similar; intensities are from 0 to 100."""
    bilateral_weight: float = Field(10.0, ge=0)
    """Weight of the bilateral kernel."""
    spatial_width: PositiveFloat = 1.0
    """Distance over which all voxels prefer the same class, in voxels of the finest axis: removes single voxels."""
    spatial_weight: float = Field(5.0, ge=0)
    """Weight of the spatial kernel."""
    iterations: int = Field(5, ge=1)
    """Rounds of the mean-field inference."""


def refine_probabilities(
    probabilities: np.ndarray, image: np.ndarray, options: CRF | None = None, *, spacing: Sequence[float]
) -> np.ndarray:
    """Refine class probabilities by mean-field inference in a dense conditional random field.

    Both kernels are normalised symmetrically, so that weights mean the same in the corner of a volume. The bilateral sums are within a few
    percent of the exact ones.

    Args:
        probabilities: of the classes, K(Z)YX.
        image: intensities (Z)YX, from 0 to 100.
        options: widths and weights; defaults where left out.
        spacing: edge lengths of a voxel.

    Returns:
        Probabilities K(Z)YX float32 that sum to 1.

    Raises:
        DataError: when the shapes differ.

    Examples:
        >>> image = np.array([[0.0, 0, 0, 100, 100, 100]] * 3)
        >>> noisy = np.where(image > 50, 0.8, 0.2)
        >>> noisy[1, 1] = 0.7  # a dark voxel that was classified as bright
        >>> refine_probabilities(np.stack([1 - noisy, noisy]), image, spacing=(1, 1)).argmax(axis=0)[1]
        array([0, 0, 0, 1, 1, 1])
    """
    options = options or CRF()
    if probabilities.shape[1:] != image.shape:
        raise DataError(
            "crf.shapes", f"must have the shape of the probabilities, {probabilities.shape[1:]}", key="image", value=image.shape
        )
    # clipped, so that a probability of 0 can be revised by the image
    evidence = np.log(np.clip(probabilities.astype(np.float32), 1e-5, 1))
    kernels: list[tuple[float, _Bilateral | _Spatial]] = [
        (options.bilateral_weight, _Bilateral(image, options.bilateral_width, options.intensity_width, spacing)),
        (options.spatial_weight, _Spatial(image.shape, options.spatial_width, spacing)),
    ]
    terms = [(weight, _symmetric(kernel)) for weight, kernel in kernels if weight > 0]
    refined = _softmax(evidence)
    for _ in range(options.iterations):
        # every round starts from the evidence; only the messages change
        energy = evidence.copy()
        for weight, smooth in terms:
            energy += weight * np.stack([smooth(plane) for plane in refined])
        refined = _softmax(energy)
    return refined


def _softmax(energy: np.ndarray) -> np.ndarray:
    # the largest energy is subtracted: exp cannot overflow
    raised = np.exp(energy - energy.max(axis=0))
    return (raised / raised.sum(axis=0)).astype(np.float32)


def _symmetric(smooth: _Bilateral | _Spatial) -> Callable[[np.ndarray], np.ndarray]:
    """The kernel K normalised to D^-1/2 K D^-1/2, where D are its row sums."""
    # the row sums of a kernel are what it makes of an image of ones
    scale = 1 / np.sqrt(np.maximum(smooth(np.ones(smooth.shape, np.float32)), 1e-12))
    return lambda plane: scale * smooth(scale * plane)


class _Spatial:
    """Sum over all voxels weighted by a Gaussian of their distance."""

    def __init__(self, shape: tuple[int, ...], width: float, spacing: Sequence[float]) -> None:
        self.shape = shape
        self.sigmas = [width * min(spacing) / length for length in spacing]

    def __call__(self, plane: np.ndarray) -> np.ndarray:
        from scipy import ndimage

        # nothing beyond the image sends messages; `_symmetric` makes up for the missing neighbours
        return ndimage.gaussian_filter(plane, self.sigmas, mode="constant")


class _Bilateral:
    """Sum over all voxels weighted by Gaussians of their distance and of the difference of their intensities, up to a factor."""

    def __init__(self, image: np.ndarray, width: float, intensity: float, spacing: Sequence[float]) -> None:
        self.shape = image.shape
        self.sigmas = [_CELL_IN_SIGMAS] * (image.ndim + 1)
        scales = [_CELL * width * min(spacing) / length for length in spacing] + [_CELL * intensity]
        # a little more than the range of intensities, so that a constant image has a cell, too
        lengths = [*image.shape, float(image.max() - image.min()) + 1e-3]
        self.cells = tuple(int(length / scale) + 2 for length, scale in zip(lengths, scales, strict=True))
        axes = [np.arange(n, dtype=np.float32) / np.float32(scale) for n, scale in zip(image.shape, scales, strict=False)]
        grid = [*np.meshgrid(*axes, indexing="ij"), (image - image.min()) / np.float32(scales[-1])]
        places = np.stack([axis.ravel() for axis in grid], axis=1).astype(np.float32)
        # the last cell needs a neighbour above it for the interpolation
        self.corners = np.minimum(places.astype(np.int32), np.array(self.cells, np.int32) - 2)
        self.shares = places - self.corners
        self.strides = np.array([int(np.prod(self.cells[axis + 1 :])) for axis in range(len(self.cells))], np.int64)

    def __call__(self, plane: np.ndarray) -> np.ndarray:
        from scipy import ndimage

        grid = np.zeros(int(np.prod(self.cells)), np.float32)
        _splat(np.ascontiguousarray(plane, np.float32).ravel(), self.corners, self.shares, self.strides, grid)
        blurred = ndimage.gaussian_filter(grid.reshape(self.cells), self.sigmas, mode="constant")
        out = np.zeros(plane.size, np.float32)
        _slice(blurred.ravel(), self.corners, self.shares, self.strides, out)
        return out.reshape(self.shape)


# linear interpolation to the grid and back adds a variance of 1/6 of a squared cell each; the blur makes up the rest
_CELL_IN_SIGMAS = float(np.sqrt(1 / _CELL**2 - 1 / 3))


@njit(cache=True, nogil=True)
def _splat(values: np.ndarray, corners: np.ndarray, shares: np.ndarray, strides: np.ndarray, grid: np.ndarray) -> None:
    ndim = corners.shape[1]
    for i in range(values.size):
        for corner in range(1 << ndim):
            place, share = 0, values[i]
            for axis in range(ndim):
                up = corner >> axis & 1
                place += (corners[i, axis] + up) * strides[axis]
                share *= shares[i, axis] if up else 1 - shares[i, axis]
            grid[place] += share


@njit(cache=True, nogil=True)
def _slice(grid: np.ndarray, corners: np.ndarray, shares: np.ndarray, strides: np.ndarray, out: np.ndarray) -> None:
    ndim = corners.shape[1]
    for i in range(out.size):
        for corner in range(1 << ndim):
            place, share = 0, np.float32(1)
            for axis in range(ndim):
                up = corner >> axis & 1
                place += (corners[i, axis] + up) * strides[axis]
                share *= shares[i, axis] if up else 1 - shares[i, axis]
            out[i] += share * grid[place]
