"""From predicted channels to a result: the interface of methods."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np

from morula.core.orientation import Array, Orientation, orientations
from morula.decoders.search_space import Space
from morula.decoders.statistics import ChannelStatistics
from morula.methods.configured import Configured

if TYPE_CHECKING:
    from morula.labels.objects import Objects
    from morula.methods.class_options import Classes

Parameters: TypeAlias = Mapping[str, Any]
"""Decoding parameters by name, fitted to a whole image."""
SearchSpace: TypeAlias = Space
"""Values to try of each setting, by dotted key of the job, the current one first."""


class Postprocessing(Configured):
    """Statistics of predicted channels, decoding parameters fitted to them, and decoding."""

    instances: ClassVar[bool]
    """Whether the result is objects (True) or a class for every pixel."""
    restores: ClassVar[bool] = False
    """Whether the result is an image (True) or labels."""
    labels_are_images: ClassVar[bool] = False
    """Whether labels of images are images, whose values a result is compared with."""

    @property
    def object_classes(self) -> Classes | None:
        """Classes of the objects, where the method learns them."""
        return self.options.object_classes

    @property
    def extra_columns(self) -> tuple[str, ...]:
        """Columns of the object table that this method adds to the measured ones."""
        return ()

    @property
    def bounded(self) -> Sequence[int]:
        """Rows of the predicted channels whose values lie between 0 and 1."""
        return ()

    def reorient(self, prediction: Array, orientation: Orientation) -> Array:
        """Predicted channels (..., K, (Z)YX), NumPy or torch, of the reoriented image."""
        return orientation.apply(prediction)

    def orientations(self) -> list[Orientation]:
        """Orientations under which every channel can be reoriented, the identity first."""
        return orientations(self.spacing)

    def settle(self, prediction: np.ndarray, image: Callable[[], np.ndarray] | None) -> tuple[np.ndarray, list[str]]:
        """Input of the decoder, computed from the predicted channels K(Z)YX, and messages for the log.

        `image` returns the image C(Z)YX as the network received it, where it is available.
        """
        del image
        return prediction, []

    @property
    def counted(self) -> Sequence[int]:
        """Rows of the decoder's input whose histograms `fit` needs."""
        return ()

    def statistics(self, prediction: np.ndarray) -> ChannelStatistics:
        """Statistics of the decoder's input K(Z)YX for `fit`; those of blocks can be merged.

        Raises:
            DataError: for NaN or infinite values.
        """
        return ChannelStatistics.of(prediction, self.counted)

    @abstractmethod
    def fit(self, statistics: ChannelStatistics) -> Parameters:
        """Decoding parameters from the statistics of the whole predicted image."""

    @abstractmethod
    def decode(self, prediction: np.ndarray, parameters: Parameters) -> Objects:
        """The result of the decoder's input K(Z)YX (see `settle`)."""

    def votes(self, prediction: np.ndarray, labels: np.ndarray, n: int) -> np.ndarray:
        """Number of voxels (n, classes) of each object 1 to n that vote for each class, in a part of the prediction K(Z)YX and the labels.

        Without classes (n, 0).
        """
        del prediction, labels
        return np.zeros((n, 0), np.int64)

    def block_problem(self) -> str:
        """Why a prediction cannot be decoded block by block, as a clause for messages; empty where it can."""
        return "the method decodes whole images only"

    def calibrate(self, sample: np.ndarray, parameters: Parameters) -> Parameters:
        """Parameters completed by what depends on the shape of objects, from a part K(Z)YX of the prediction; for decoding in blocks."""
        del sample
        return parameters

    def block_halo(self, parameters: Parameters, max_diameter: float) -> tuple[int, ...]:
        """Halo in voxels (Z)YX with which decoding in blocks gives the objects of decoding the whole, see `Decoder.context`."""
        del parameters, max_diameter
        return (0,) * self.ndim

    def block_alignment(self) -> tuple[int, ...]:
        """Voxels (Z)YX of which the first voxel of a block has to be a multiple."""
        return (1,) * self.ndim

    def search_space(self, truths: Sequence[np.ndarray]) -> SearchSpace:
        """Values to try of the settings between channels and results; empty where nothing can be tuned.

        `truths` are label images, from which the sizes of objects are taken.
        """
        del truths
        return {}
