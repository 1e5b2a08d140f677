"""How much the orientations of test-time augmentation disagree on each object."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import numpy as np

from morula.core.events import Event, below
from morula.inference.rescale import rescaled
from morula.models.model import Model
from morula.models.scale import Fitted


def tta_spread(
    model: Model, fitted: Fitted, labels: np.ndarray, *, memory: int | str | None, device: str
) -> Generator[Event, None, np.ndarray]:
    """Predict an image in each orientation alone, and compare the predictions object by object.

    Args:
        model: a model of objects with channels whose values lie between 0 and 1.
        fitted: the image at the scale of the model.
        labels: objects (Z)YX on the grid of the original image, with the ids 1 to n.
        memory: bytes that tiles may take.
        device: a result of `Model.device`.

    Returns:
        (n,) float32: the standard deviation over the orientations of the channel's mean in the object, averaged over these channels (the
        value of `yield from`).
    """
    flat, n = labels.ravel(), int(labels.max(initial=0))
    voxels = np.maximum(np.bincount(flat, minlength=n + 1), 1)
    means = []
    for number, orientation in enumerate(model.orientations(), start=1):
        steps = replace(model, orientation=orientation).predict_steps(fitted.image, memory=memory, device=device)
        prediction = fitted.channels((yield from below(f"orientation {number}", steps)))[list(model.method.bounded)]
        on_grid = prediction if prediction.shape[1:] == labels.shape else rescaled(prediction, labels.shape)
        means.append([np.bincount(flat, weights=channel.ravel(), minlength=n + 1) / voxels for channel in on_grid])
    return np.std(means, axis=0).mean(axis=0)[1:].astype(np.float32)
