"""The training interface of methods: heads of the network, targets, losses and previews."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np

from morula.methods.configured import Configured

if TYPE_CHECKING:
    from torch import Tensor

    from morula.losses.sums import Sums

Batch: TypeAlias = Mapping[str, Any]
"""Tensors of a batch by name (`image`, `targets`, `weights`, ...), and the names of its images."""


@dataclass(frozen=True)
class Targets:
    """Targets of a network.

    `channels` is K(Z)YX float32, `weights` has the same shape (0 = excluded from the loss), `instances` (Z)YX is the label image where
    the loss needs it.
    """

    channels: np.ndarray
    weights: np.ndarray
    instances: np.ndarray | None = None


@dataclass(frozen=True)
class StoredInput:
    """Inputs of the network that are computed once per image and kept in a folder.

    `settings` identify them: they are computed again when these change. `compute` takes an image C(Z)YX float32 and a random generator.
    """

    folder: Path
    settings: Mapping[str, Any]
    compute: Callable[[np.ndarray, np.random.Generator], np.ndarray]


class TrainingTask(Configured):
    """Heads of the network, targets, loss and previews."""

    labelled: ClassVar[bool] = True
    """Whether it learns from labels."""

    @property
    def probability_channels(self) -> bool:
        """Whether all predicted channels are probabilities that targets of 0 and 1 can be compared with."""
        return False

    @property
    def on_scale_of_image(self) -> bool:
        """Whether targets are normalised as their images are, each by its own values, and predictions get the values of the image back."""
        return False

    @property
    def exclusive_channels(self) -> bool:
        """Whether the channels are classes that exclude each other, the background first."""
        return False

    @property
    @abstractmethod
    def heads(self) -> dict[str, int]:
        """Output channels of each head of the network."""

    @property
    @abstractmethod
    def channels(self) -> tuple[str, ...]:
        """Names of the predicted channels, in the order of `activate`."""

    @property
    def context(self) -> tuple[int, ...]:
        """Voxels beyond a crop of the labels that can change the targets inside it, per axis."""
        return (0,) * self.ndim

    def targets(
        self,
        labels: np.ndarray,
        classes: np.ndarray | None = None,
        unlabelled: np.ndarray | None = None,
        relevant: np.ndarray | None = None,
    ) -> Targets:
        """Targets of a label image (Z)YX. Only called where `labelled` is true.

        Args:
            labels: object ids or class numbers (Z)YX.
            classes: class of each voxel's object, where classes are learned.
            unlabelled: true where a voxel is not annotated; nothing is scored there.
            relevant: true at least on the objects of interest: where it is false, an object that is encoded by itself may be left out.
        """
        raise NotImplementedError  # not abstract, because methods that learn without labels have no targets

    @abstractmethod
    def loss(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Sums]:
        """Named parts of the loss of a batch, as additive sums; the loss is the sum of their values."""

    @abstractmethod
    def activate(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """Predicted channels NK(Z)YX from the network's outputs, activations applied."""

    @abstractmethod
    def preview(self, batch: Batch, outputs: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """Pictures (Y, X) or (Y, X, 3) in [0, 1] by name, of the first image of a batch."""

    def arrays(self, batch: Batch, outputs: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """What the first image of a batch looks like to the network and what it makes of it: (Z)YX, or K(Z)YX, by name.

        Whole numbers are labels. Viewers show them as layers while the network trains.
        """
        found = {"input": first_image(batch["image"]), "prediction": first_image(self.activate(outputs))}
        return found | ({"truth": first_image(batch["targets"])} if self.labelled else {})

    def preview_titles(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Titles of the rows and of the columns of tiles that a preview consists of."""
        return (), ()

    def pretext(self, image: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Entries of a sample that are made of its training patch C(Z)YX, as the network receives it; they replace entries of that name."""
        del image, rng
        return {}

    @property
    def stored_input(self) -> StoredInput | None:
        """Inputs that are computed once per image; `None` where the network receives the images themselves."""
        return None

    def epoch_figures(self, figures: Mapping[str, float]) -> dict[str, float]:
        """Further figures of an epoch, computed from those of the training loop."""
        del figures
        return {}

    def image_warnings(self, image: np.ndarray, name: str) -> list[str]:
        """Reasons why an image C(Z)YX is unfit to learn from."""
        del image, name
        return []

    def advice(self, history: Sequence[Mapping[str, float]]) -> list[str]:
        """Warnings that follow from the figures of the epochs so far."""
        return advice_on_losses(history)


def first_image(images: Tensor) -> np.ndarray:
    """The first image of NK(Z)YX as an array of its own, (Z)YX where it has one channel."""
    array: np.ndarray = images[0].detach().float().cpu().numpy().copy()
    return array[0] if len(array) == 1 else array


def advice_on_losses(history: Sequence[Mapping[str, float]]) -> list[str]:
    """Advice that applies to every method: overfitting, and a loss that does not fall.

    Examples:
        >>> advice_on_losses([{"loss": 1.0, "validation_loss": 1.0}] * 10)
        ['the loss has not fallen over 10 epochs; try a learning rate ten times higher or lower, and inspect the previews in logs/previews']
    """
    advice = []
    if len(history) >= 10:
        first, last = history[0]["loss"], history[-1]["loss"]
        if last > 0.98 * first:  # 2 % is within the noise of the batches
            advice.append(
                f"the loss has not fallen over {len(history)} epochs; try a learning rate ten times higher or lower, "
                "and inspect the previews in logs/previews"
            )
        validation = [epoch["validation_loss"] for epoch in history if "validation_loss" in epoch]
        # a rise alone is noise: overfitting needs a training loss that still falls
        if len(validation) >= 10 and validation[-1] > 1.5 * min(validation) and last < first:
            advice.append(
                "the validation loss has risen to 1.5 times its best while the training loss falls: the network is overfitting; "
                "add augmentation or images, or lower training.patience"
            )
    return advice
