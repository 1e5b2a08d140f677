"""pytorch-3dunet 1.4 to 1.9: its job files, networks, checkpoints, losses, metrics, transforms, data sets, training and prediction.

What differs from the original on purpose is listed in ``docs/dialects/pytorch-3dunet.md``. The names below are imported when used.

Examples:
    >>> from morula.dialects import pytorch3dunet
    >>> model = pytorch3dunet.build_model({"name": "UNet2D", "in_channels": 1, "out_channels": 1, "f_maps": [8, 16]})
    >>> for event in pytorch3dunet.train3dunet("train_config.yml"):  # doctest: +SKIP
    ...     print(event)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from morula.dialects.pytorch3dunet.check import check3dunet as check3dunet
    from morula.dialects.pytorch3dunet.job import purpose_of as purpose_of
    from morula.dialects.pytorch3dunet.job import read_job as read_job
    from morula.dialects.pytorch3dunet.keys import IgnoredKeyWarning as IgnoredKeyWarning
    from morula.dialects.pytorch3dunet.losses import build_loss as build_loss
    from morula.dialects.pytorch3dunet.metrics import build_metric as build_metric
    from morula.dialects.pytorch3dunet.networks import build_model as build_model
    from morula.dialects.pytorch3dunet.networks import load_state_dict as load_state_dict
    from morula.dialects.pytorch3dunet.networks import original_state_dict as original_state_dict
    from morula.dialects.pytorch3dunet.patches import build_dataset as build_dataset
    from morula.dialects.pytorch3dunet.predict import predict3dunet as predict3dunet
    from morula.dialects.pytorch3dunet.replay import replay3dunet as replay3dunet
    from morula.dialects.pytorch3dunet.run import run3dunet as run3dunet
    from morula.dialects.pytorch3dunet.train import train3dunet as train3dunet
    from morula.dialects.pytorch3dunet.transform_lists import transform_label as transform_label
    from morula.dialects.pytorch3dunet.transform_lists import transform_raw as transform_raw


_PUBLIC = {
    "check": ["check3dunet"],
    "keys": ["IgnoredKeyWarning"],
    "job": ["purpose_of", "read_job"],
    "losses": ["build_loss"],
    "metrics": ["build_metric"],
    "networks": ["build_model", "load_state_dict", "original_state_dict"],
    "patches": ["build_dataset"],
    "predict": ["predict3dunet"],
    "replay": ["replay3dunet"],
    "run": ["run3dunet"],
    "train": ["train3dunet"],
    "transform_lists": ["transform_label", "transform_raw"],
}

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_PUBLIC)
