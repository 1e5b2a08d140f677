"""What the four interfaces of a method share: the options that it was built with."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence

from morula.methods.object_options import ObjectOptions
from morula.methods.options import MethodOptions


class Configured(ABC):
    """A method, or a part of one, for images of `ndim` dimensions with voxels of `spacing` (array order).

    Arrays are C(Z)YX; batches have N in front.
    """

    options: MethodOptions

    def __init__(self, options: MethodOptions, objects: ObjectOptions, *, ndim: int, spacing: Sequence[float]) -> None:
        self.options = options
        self.objects = objects
        self.ndim = ndim
        self.spacing = tuple(spacing)
