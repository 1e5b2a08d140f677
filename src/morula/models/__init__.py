"""Trained models: load, predict, segment, save."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from morula.models import load as load
    from morula.models import model as model
    from morula.models import scale as scale

# imported when they are first used, as the modules of `morula.workflows`: they import torch or SciPy
__getattr__, _, _ = lazy_loader.attach(__name__, submodules=["load", "model", "scale"])
