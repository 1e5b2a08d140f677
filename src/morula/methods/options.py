"""The base of the options of all methods; needs neither Numba nor torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

from morula.core.variants import VariantOptions

if TYPE_CHECKING:
    from morula.methods.class_options import Classes


class MethodOptions(VariantOptions):
    """Options of one method."""

    @property
    def object_classes(self) -> Classes | None:
        """Classes of objects, where the method learns them in addition to the objects."""
        return None

    @property
    def matching_thresholds(self) -> tuple[float, ...]:
        """Intersections over union from which an object counts as found, one set of scores each; empty where there are no objects."""
        return ()

    @property
    def enlarged_by(self) -> tuple[int, ...]:
        """Factor per axis (Z)YX by which results have more voxels than their images; empty for none."""
        return ()

    def relative_to(self, folder: Path) -> Self:
        """The same options with their paths relative to a folder; the options themselves where they hold no path."""
        del folder
        return self
