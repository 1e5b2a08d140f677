"""What a method answers, and nothing else does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from morula.core.orientation import Orientation, orientations

if TYPE_CHECKING:
    from torch import Tensor

    from morula.decoders.decode import Objects
    from morula.decoders.statistics import ChannelStatistics
    from morula.losses.sums import Sums
    from morula.methods.classes import Classes


@dataclass(frozen=True)
class Targets:
    """What a network is trained towards.

    `channels` is K(Z)YX float32, `weights` has the same shape (0 = not scored), `instances` (Z)YX holds the label image where the
    loss needs it.
    """

    channels: np.ndarray
    weights: np.ndarray
    instances: np.ndarray | None = None


@dataclass(frozen=True)
class Sizes:
    """How large the objects of some labels are: voxels of the smallest, and the radius of the median one.

    The radius is that of a disc or ball of the object's size, in voxels of the finest axis.
    """

    smallest: int
    radius: float


class Method(ABC):
    """A way of working, for images of `ndim` dimensions with voxels of `spacing` (array order).

    Everything here takes and gives arrays C(Z)YX; batches carry N in front.
    """

    instances: ClassVar[bool]
    """Whether the result is objects (True) or a class for every pixel."""
    figures: ClassVar[tuple[str, ...]]
    """Columns of the score table by which settings can be compared, the usual one first; higher is better."""
    labelled: ClassVar[bool] = True
    """Whether it learns from labels."""
    restores: ClassVar[bool] = False
    """Whether the result is an image (True) or labels."""
    network: ClassVar[str | None] = None
    """The only network that it trains; any of those that make one set of heads when `None`."""

    def __init__(self, options: Any, objects: Any, *, ndim: int, spacing: Sequence[float]) -> None:
        self.options = options
        self.objects = objects
        self.ndim = ndim
        self.spacing = tuple(spacing)

    @classmethod
    def problems(cls, options: Any, objects: Any) -> list[tuple[str, str]]:
        """What is wrong with these options together, as dotted key and message, before any image is opened."""
        del options, objects
        return []

    def misfits(self) -> list[tuple[str, str]]:
        """What of the options does not fit images of these dimensions, as dotted key and message."""
        return []

    @classmethod
    def planned(cls, job: Any, sizes: Sizes | None = None) -> dict[str, Any]:
        """Sections of the job's document that this method plans in its own way, of what the job leaves out.

        `sizes` are those of the labels, for jobs that ask for them (`asks_for_sizes`).
        """
        del job, sizes
        return {}

    @classmethod
    def asks_for_sizes(cls, job: Any) -> bool:
        """Whether the plan depends on the sizes of the objects in the labels."""
        del job
        return False

    @classmethod
    def unplannable(cls, job: Any) -> list[tuple[str, str]]:
        """What is wrong with a planned job as a whole, as dotted key and message."""
        del job
        return []

    @property
    def object_classes(self) -> Classes | None:
        """Classes of the objects, if the method learns them."""
        return None

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
        """Voxels beyond a crop of the labels that can change the targets inside it."""
        return (0,) * self.ndim

    def targets(
        self,
        labels: np.ndarray,
        classes: np.ndarray | None = None,
        unlabelled: np.ndarray | None = None,
        relevant: np.ndarray | None = None,
    ) -> Targets:
        """Targets of a label image (Z)YX; where `unlabelled` is true nothing is scored. Never asked where `labelled` is false.

        `relevant` is true at least on the image's objects that are asked for: where it is false a single object need not be encoded.
        """
        raise NotImplementedError

    @abstractmethod
    def loss(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> dict[str, Sums]:
        """Named parts of the loss of a batch, as additive sums; the loss is the sum of their values."""

    @abstractmethod
    def activate(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """Predicted channels NK(Z)YX of the network's outputs, activations applied."""

    def reorient(self, prediction: Any, orientation: Orientation) -> Any:
        """Predicted channels (..., K, (Z)YX) as they are after the image was reoriented."""
        return orientation.apply(prediction)

    def orientations(self) -> list[Orientation]:
        """Orientations that every channel can follow."""
        return orientations(self.spacing)

    def settle(self, prediction: np.ndarray, image: Callable[[], np.ndarray] | None) -> tuple[np.ndarray, list[str]]:
        """What is decoded, made of the predicted channels K(Z)YX, and what to tell of it.

        `image` gives the image C(Z)YX on the network's scale, where it is at hand.
        """
        del image
        return prediction, []

    @property
    def counted(self) -> Sequence[int]:
        """Rows of the settled channels whose histograms `fit` reads."""
        return ()

    def statistics(self, prediction: np.ndarray) -> ChannelStatistics:
        """What `fit` reads of settled channels K(Z)YX; that of blocks can be merged.

        Raises:
            DataError: for NaN or infinite values.
        """
        from morula.decoders.statistics import ChannelStatistics

        return ChannelStatistics.of(prediction, self.counted)

    @abstractmethod
    def fit(self, statistics: ChannelStatistics) -> dict[str, Any]:
        """Decoding parameters from the statistics of the whole predicted image."""

    @abstractmethod
    def decode(self, prediction: np.ndarray, parameters: Mapping[str, Any]) -> Objects:
        """The result of predicted channels K(Z)YX."""

    def search_space(self, truths: Sequence[np.ndarray]) -> dict[str, tuple[Any, ...]]:
        """Values worth trying of the settings from channels to results, by dotted key of the job, the one in force first.

        `truths` are label images, for the size of objects. Empty where nothing can be tuned.
        """
        del truths
        return {}

    @abstractmethod
    def score(self, truth: np.ndarray, result: np.ndarray) -> Any:
        """Figures of one image, to be given to `score_rows`."""

    @abstractmethod
    def score_rows(self, scores: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Rows of the score table from the scores by image name: one an image (and threshold), then the pooled ones."""

    @abstractmethod
    def preview(self, batch: Mapping[str, Any], outputs: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """Pictures (Y, X) or (Y, X, 3) in [0, 1] by name, of the first image of a batch."""

    def preview_titles(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Titles of the rows and of the columns of tiles that a preview consists of."""
        return (), ()

    def pretext(self, image: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Entries that make a task of a training patch C(Z)YX, as the network would see it: added to the sample, or in place of its own."""
        del image, rng
        return {}

    def epoch_figures(self, told: Mapping[str, float]) -> dict[str, float]:
        """Further figures of an epoch, from those that the loop told."""
        del told
        return {}

    def image_warnings(self, image: np.ndarray, name: str) -> list[str]:
        """What makes an image C(Z)YX unfit to learn from."""
        del image, name
        return []

    def baselines(self, image: Callable[[], np.ndarray]) -> dict[str, np.ndarray]:
        """Results of plain methods, by name, scored beside the method's own; `image` gives the image C(Z)YX on the network's scale."""
        del image
        return {}

    def advice(self, history: Sequence[Mapping[str, float]]) -> list[str]:
        """Warnings that the figures of the epochs so far call for."""
        return advice_on_losses(history)


def advice_on_losses(history: Sequence[Mapping[str, float]]) -> list[str]:
    """Advice that holds for every method: overfitting, and a loss that does not fall.

    Examples:
        >>> advice_on_losses([{"loss": 1.0, "validation_loss": 1.0}] * 10)
        ['the loss has not fallen over 10 epochs; try a rate ten times higher or lower, and look at the previews in logs/previews']
    """
    said = []
    if len(history) >= 10:
        first, last = history[0]["loss"], history[-1]["loss"]
        if last > 0.98 * first:
            said.append(
                f"the loss has not fallen over {len(history)} epochs; try a rate ten times higher or lower, "
                "and look at the previews in logs/previews"
            )
        validation = [epoch["validation_loss"] for epoch in history if "validation_loss" in epoch]
        if len(validation) >= 10 and validation[-1] > 1.5 * min(validation) and last < first:
            said.append(
                "the validation loss has risen to 1.5 times its best while the training loss falls: the network learns the training "
                "images by heart; "
                "add augmentation or images, or lower training.patience"
            )
    return said


def stretched(plane: np.ndarray) -> np.ndarray:
    """A plane stretched to [0, 1] between its 1st and 99.8th percentile, for pictures.

    Examples:
        >>> stretched(np.zeros((2, 2))).max()
        np.float32(0.0)
    """
    low, high = np.percentile(plane, (1, 99.8))
    return np.clip((plane - low) / max(high - low, 1e-12), 0, 1).astype(np.float32)


def middle_plane(volume: np.ndarray) -> np.ndarray:
    """The (Y, X) plane in the middle of a (Z)YX array."""
    return volume if volume.ndim == 2 else volume[volume.shape[0] // 2]
