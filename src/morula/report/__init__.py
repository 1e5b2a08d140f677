"""The report of a run: one HTML file with pictures, curves and tables. Modules are imported when they are first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from morula.report import build as build

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submodules=["build"])
