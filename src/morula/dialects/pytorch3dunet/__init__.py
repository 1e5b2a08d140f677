"""Networks, checkpoints, losses and metrics of pytorch-3dunet 1.4 to 1.9, from what stands in its job files.

What differs from the original on purpose is listed in ``docs/dialects/pytorch-3dunet.md``. The names below are imported when used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

__all__ = ["IgnoredKeyWarning", "build_loss", "build_metric", "build_model", "load_state_dict", "original_state_dict"]

if TYPE_CHECKING:
    from morula.dialects.pytorch3dunet.ignored_keys import IgnoredKeyWarning as IgnoredKeyWarning
    from morula.dialects.pytorch3dunet.losses import build_loss as build_loss
    from morula.dialects.pytorch3dunet.metrics import build_metric as build_metric
    from morula.dialects.pytorch3dunet.networks import build_model as build_model
    from morula.dialects.pytorch3dunet.networks import load_state_dict as load_state_dict
    from morula.dialects.pytorch3dunet.networks import original_state_dict as original_state_dict


_PUBLIC = {
    "ignored_keys": ["IgnoredKeyWarning"],
    "losses": ["build_loss"],
    "metrics": ["build_metric"],
    "networks": ["build_model", "load_state_dict", "original_state_dict"],
}

__getattr__, __dir__, _ = lazy_loader.attach(__name__, submod_attrs=_PUBLIC)
