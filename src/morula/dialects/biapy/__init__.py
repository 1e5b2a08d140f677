"""Job files and checkpoints of BiaPy 3.5 to 3.7. The names of checkpoints are imported when used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_FACE = {"CheckpointWarning": "checkpoint", "is_biapy_checkpoint": "checkpoint", "load_biapy_checkpoint": "checkpoint"}

__all__ = ["CheckpointWarning", "is_biapy_checkpoint", "load_biapy_checkpoint"]

if TYPE_CHECKING:
    from morula.dialects.biapy.checkpoint import CheckpointWarning as CheckpointWarning
    from morula.dialects.biapy.checkpoint import is_biapy_checkpoint as is_biapy_checkpoint
    from morula.dialects.biapy.checkpoint import load_biapy_checkpoint as load_biapy_checkpoint


def __getattr__(name: str) -> Any:
    if name in _FACE:
        return getattr(importlib.import_module(f"{__name__}.{_FACE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
