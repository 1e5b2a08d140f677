"""Networks, checkpoints, losses and metrics of pytorch-3dunet 1.4 to 1.9, from what stands in its job files.

What differs from the original on purpose is listed in ``docs/dialects/pytorch-3dunet.md``. The names below are imported when used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_FACE = {
    "IgnoredKeyWarning": "ignored_keys",
    "build_loss": "losses",
    "build_metric": "metrics",
    "build_model": "networks",
    "load_state_dict": "networks",
    "original_state_dict": "networks",
}

__all__ = ["IgnoredKeyWarning", "build_loss", "build_metric", "build_model", "load_state_dict", "original_state_dict"]

if TYPE_CHECKING:
    from morula.dialects.pytorch3dunet.ignored_keys import IgnoredKeyWarning as IgnoredKeyWarning
    from morula.dialects.pytorch3dunet.losses import build_loss as build_loss
    from morula.dialects.pytorch3dunet.metrics import build_metric as build_metric
    from morula.dialects.pytorch3dunet.networks import build_model as build_model
    from morula.dialects.pytorch3dunet.networks import load_state_dict as load_state_dict
    from morula.dialects.pytorch3dunet.networks import original_state_dict as original_state_dict


def __getattr__(name: str) -> Any:
    if name in _FACE:
        return getattr(importlib.import_module(f"{__name__}.{_FACE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
