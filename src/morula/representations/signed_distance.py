"""D: signed distance to the end of objects, inside and outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import PositiveFloat

from morula.core.compiled import njit
from morula.core.label_image import compact_ids
from morula.labels.distance import distance
from morula.representations.base import REACH, Representation, whole_object_context
from morula.representations.options import RepresentationOptions


class Options(RepresentationOptions):
    """Options of the channel D."""

    kind: Literal["D"] = "D"
    """Name of the variant."""
    earlier_names: ClassVar[Mapping[str, str]] = {"act": "activation"}

    activation: Literal["tanh", "linear"] = "tanh"
    """Last layer of the network for this channel; with `tanh` the target is the hyperbolic tangent of the distances. Also called `act`."""
    alpha: PositiveFloat = 1.0
    """Distances in the background are multiplied by it before the tangent."""
    beta: PositiveFloat = 1.0
    """Distances inside objects are multiplied by it before the tangent."""
    norm: bool = True
    """Scale the distances to [-1, 1] (each object by its own depth, the background by 32 voxels of the finest axis); else they are lengths
    in the unit of the voxel size."""

    @property
    def top(self) -> float | None:
        """Value at the depth that stands for 1; `None` for lengths."""
        if not self.norm:
            return None
        return float(np.tanh(self.beta)) if self.activation == "tanh" else 1.0


class SignedDistance(Representation[Options]):
    """Euclidean distance of each voxel to the boundary: positive inside objects, negative in the background.

    The boundary, where the distance is 0, is half a voxel (of the finest axis) outside the outermost voxels, so that the sign alone
    separates inside from outside. Distances respect the voxel size. Distances in the background are clipped at 32
    voxels of the finest axis.
    After Lin et al., NucMM dataset: 3D neuronal nuclei instance segmentation at sub-cubic millimeter scale (MICCAI 2021).

    Examples:
        >>> SignedDistance(Options(norm=False, activation="linear")).encode(np.array([[0, 0, 1, 1, 1, 0]], np.uint32), (1, 1))
        array([[[-1.5, -0.5,  0.5,  1.5,  0.5, -0.5]]], dtype=float32)
    """

    code = "D"
    depth = "signed"
    options_class = Options
    loss = "mse"

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.activation = self.options.activation
        self.full_scale = self.options.top

    def encode(self, labels: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
        """Targets (1, (Z)YX) of labels (Z)YX uint32."""
        ids, largest = compact_ids(labels)
        finest = min(spacing)
        # the reach is counted to the centre of an object's nearest voxel; the boundary is half a voxel nearer
        far = np.float32((REACH - 0.5) * finest)
        out = distance(ids, spacing, outside=REACH * finest)
        factors = (self.options.beta, self.options.alpha) if self.options.activation == "tanh" else (1.0, 1.0)
        inside, outside = map(np.float32, factors)
        _sign(out.ravel(), ids.ravel(), largest, np.float32(finest / 2), far, self.options.norm, inside, outside)
        return np.tanh(out, out=out)[None] if self.options.activation == "tanh" else out[None]

    def context(self, spacing: Sequence[float]) -> tuple[int, ...]:
        """How far other voxels matter: depth and scale depend on whole objects."""
        return whole_object_context(spacing)


@njit(cache=True, nogil=True)
def _sign(
    values: np.ndarray,
    ids: np.ndarray,
    largest: int,
    half: np.float32,
    far: np.float32,
    norm: bool,
    inside: np.float32,
    outside: np.float32,
) -> None:
    """Convert distances between voxel centres to signed distances to the boundary, in place; scale them where `norm` is on, and multiply
    them by the factors of the inside and the outside."""
    scale = np.full(largest + 1, np.float32(1))
    if norm:
        scale[:] = 0
        # the background is scaled by the distance at which it is clipped
        scale[0] = far
        for i in range(ids.size):
            if ids[i] != 0:
                # the depth of the object: its scale, so that small and large objects have the same peak
                scale[ids[i]] = max(scale[ids[i]], values[i] - half)
    for i in range(ids.size):
        value = values[i] - half
        if ids[i] != 0:
            values[i] = value / scale[ids[i]] * inside
        else:
            values[i] = -min(value, far) / scale[0] * outside
