"""Scores of validation patches while a network trains; see `training.monitor`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np

from morula.methods.training_task import Batch, TrainingTask
from morula.metrics.channels import channel_dice, channel_iou

if TYPE_CHECKING:
    from torch import Tensor


def patch_scores(name: Literal["iou", "dice"], task: TrainingTask, batch: Batch, outputs: Mapping[str, Tensor]) -> dict[str, float]:
    """Agreement of a batch with its targets by name, where these have a weight.

    `dice` compares probabilities. `iou` compares masks: probabilities above 0.5 or, of classes that exclude each other, the most
    probable class, without the background.
    """
    predicted, target, weights = (_array(values) for values in (task.activate(outputs), batch["targets"], batch["weights"]))
    counted = weights > 0
    if name == "dice":
        return {name: channel_dice(predicted, target, counted)}
    if task.exclusive_channels:
        classes = np.arange(1, predicted.shape[1]).reshape(1, -1, *[1] * (predicted.ndim - 2))
        return {name: channel_iou(predicted.argmax(axis=1, keepdims=True) == classes, target[:, 1:] > 0.5, counted[:, 1:])}
    return {name: channel_iou(predicted > 0.5, target > 0.5, counted)}


def _array(values: Tensor) -> np.ndarray:
    array: np.ndarray = values.detach().float().cpu().numpy()
    return array
