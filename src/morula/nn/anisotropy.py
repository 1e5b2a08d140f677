"""Kernel and pooling sizes for anisotropic voxels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

Sizes: TypeAlias = tuple[tuple[int, ...], ...]

COARSE = 2.0  # an axis with a spacing of at least this multiple of the finest one is not pooled
SMALLEST = 4  # smallest edge of a pooled level in voxels


def plan_anisotropy(spacing: Sequence[float], patch: Sequence[int], levels: int) -> tuple[Sizes, Sizes]:
    """Kernel edges of each level and pooling factors of each step down for voxels of this spacing.

    Each step halves the axes whose spacing is less than twice the finest one, so that voxels become isotropic first. An axis
    that would have fewer than 4 voxels is not pooled. Kernel edges are 3, and 1 along an axis whose spacing is still at least
    twice the finest (the rule of nnU-Net, Isensee et al. 2021, https://doi.org/10.1038/s41592-020-01008-z).

    Args:
        spacing: edge lengths of a voxel, (Z)YX, in any unit.
        patch: edge lengths of the training patch in voxels, (Z)YX.
        levels: requested number of levels.

    Returns:
        Kernels (one entry per level) and pools (one less). Fewer levels than requested where the patch is too small.

    Examples:
        >>> plan_anisotropy((1, 1), (64, 64), 3)
        (((3, 3), (3, 3), (3, 3)), ((2, 2), (2, 2)))
        >>> plan_anisotropy((4, 1, 1), (16, 64, 64), 4)
        (((1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3)), ((1, 2, 2), (1, 2, 2), (2, 2, 2)))
    """
    edges, sizes = [float(edge) for edge in spacing], [int(n) for n in patch]
    kernels = [_kernel(edges, None)]
    pools: list[tuple[int, ...]] = []
    while len(kernels) < levels:
        # pooling must leave at least SMALLEST voxels
        large = [n >= 2 * SMALLEST for n in sizes]
        if not any(large):
            break
        finest = min(edge for edge, fits in zip(edges, large, strict=True) if fits)
        pool = tuple(2 if fits and edge < COARSE * finest else 1 for edge, fits in zip(edges, large, strict=True))
        edges = [edge * p for edge, p in zip(edges, pool, strict=True)]
        sizes = [n // p for n, p in zip(sizes, pool, strict=True)]
        pools.append(pool)
        kernels.append(_kernel(edges, kernels[-1]))
    return tuple(kernels), tuple(pools)


def _kernel(edges: Sequence[float], finer: tuple[int, ...] | None) -> tuple[int, ...]:
    kernel = tuple(1 if edge >= COARSE * min(edges) else 3 for edge in edges)
    return kernel if finer is None else tuple(map(max, kernel, finer))  # once a kernel is 3 along an axis, it stays 3
