"""The base of the options of all methods; needs neither Numba nor torch."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from morula.core.variants import VariantOptions


class MethodOptions(VariantOptions):
    """Options of one method."""

    def relative_to(self, folder: Path) -> Self:
        """The same options with their paths relative to a folder; the options themselves where they hold no path."""
        del folder
        return self
