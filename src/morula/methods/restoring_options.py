"""Options of all methods whose result is an image; needs no torch."""

from __future__ import annotations

from pydantic import PositiveInt

from morula.methods.options import MethodOptions


class RestoringOptions(MethodOptions):
    """Options of all methods whose result is an image."""

    in_channels: PositiveInt | None = None
    """Channels of the images; left out: read from them."""
