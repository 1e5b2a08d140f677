"""Compiled (Numba) algorithms on plain arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from morula.kernels import contacts as contacts

# imported when it is first used, as the modules of `morula.workflows`: it imports Numba, whose dictionaries it needs
__getattr__, _, _ = lazy_loader.attach(__name__, submodules=["contacts"])
