"""Curves and pictures in TensorBoard, with the tags of pytorch-3dunet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from morula.dialects.pytorch3dunet.sections import FormatterOptions
from morula.training import tracking

Pictures = Mapping[str, np.ndarray]
"""Middle planes by kind (inputs, targets, predictions): NCYX, or NYX of class numbers."""


class Board(tracking.Board):
    """Event files in a folder, with the tags of the original; nothing where the package tensorboard is not installed."""

    def __init__(self, folder: Path, options: FormatterOptions) -> None:
        super().__init__(folder)
        self.options = options

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Add values to the curves."""
        if self.present:
            for tag, value in values.items():
                self._open(step).add_scalar(tag, value, step)

    def pictures(self, planes: Pictures, plane: int, prefix: str, step: int) -> None:
        """Add the pictures of a batch; `plane` is the number of the plane that is shown, `prefix` ``train_`` or ``val_N_``."""
        if self.present:
            for kind, batch in planes.items():
                for tag, image in tagged(kind, batch, plane, self.options):
                    self._open(step).add_image(prefix + tag, image, step)


def tagged(kind: str, batch: np.ndarray, plane: int, options: FormatterOptions) -> Iterator[tuple[str, np.ndarray]]:
    """Tags and pictures (1 or 3, Y, X) in [0, 1] of a batch NCYX, or NYX of class numbers.

    Predictions and targets of several channels are shown as the channel with the highest value, in colours; with `log_channelwise` each
    channel of the prediction is shown. Inputs with other than 1 or 3 channels are shown channel by channel.
    """
    # the last channel holds labels for the metric
    if kind == "targets" and options.skip_last_target and batch.ndim == 4 and batch.shape[1] > 1:
        batch = batch[:, :-1]
    for number, sample in enumerate(batch):
        tag = f"{kind}/batch_{number}/slice_{plane}"
        if sample.ndim == 2:
            yield tag, _coloured(sample)
        elif (kind == "inputs" and len(sample) in (1, 3)) or (kind != "inputs" and len(sample) == 1 and not _each(kind, options)):
            yield tag, _spread(sample)
        elif kind == "inputs" or _each(kind, options):
            for channel, image in enumerate(sample):
                yield f"{kind}/batch_{number}/channel_{channel}/slice_{plane}", _spread(image[None])
        else:
            yield tag, _coloured(sample.argmax(axis=0))


def _each(kind: str, options: FormatterOptions) -> bool:
    return kind == "predictions" and options.log_channelwise


def _spread(image: np.ndarray) -> np.ndarray:
    # TensorBoard shows values from 0 to 1
    low, width = image.min(), np.ptp(image)
    return (image - low) / width if width > 0 else np.zeros_like(image)


def _coloured(labels: np.ndarray) -> np.ndarray:
    from skimage.color import label2rgb  # only for pictures of labels; slow to import

    return label2rgb(labels.astype(np.int64)).transpose(2, 0, 1)
