"""Base classes of augmentations: options, a random draw into a record, and applying the record."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

import numpy as np
from pydantic import Field

from morula.core.orientation import Orientation
from morula.core.variants import VariantOptions
from morula.data.augment.warp import Warp

AnyOptions = TypeVar("AnyOptions", bound="AugmentationOptions")
Record: TypeAlias = Any
"""What an augmentation draws for one patch: a warp, an orientation, or numbers that only the augmentation itself reads."""


class AugmentationOptions(VariantOptions):
    """Options of every augmentation."""

    probability: float = Field(0.5, ge=0, le=1)
    """Share of the patches that are changed."""


class Augmentation(ABC, Generic[AnyOptions]):
    """An augmentation. `draw` makes all random decisions; applying its record is deterministic."""

    name: ClassVar[str]
    options: AnyOptions

    def __init__(self, options: AnyOptions) -> None:
        self.options = options

    @abstractmethod
    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> Record | None:
        """Draw the record for a patch.

        Args:
            rng: source of all random numbers.
            shape: edges of the patch (Z)YX in voxels.
            spacing: edges of a voxel (Z)YX, physical.

        Returns:
            The record, or `None` when the patch stays as it is.
        """

    def happens(self, rng: np.random.Generator) -> bool:
        """Draw whether the augmentation is applied."""
        return bool(rng.random() < self.options.probability)


class Reorienting(Augmentation[AnyOptions]):
    """Flips and rotations by multiples of 90 degrees: exact; the record is an `Orientation`."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> Orientation | None:
        """See `Augmentation.draw`."""


class Spatial(Augmentation[AnyOptions]):
    """Moves voxels; the record is a `Warp`, which is composed with those of other augmentations."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> Warp | None:
        """Draw a warp in physical units, see `Augmentation.draw`."""


class Intensity(Augmentation[AnyOptions]):
    """Changes the values of the image, never the labels."""

    @abstractmethod
    def apply(self, image: np.ndarray, record: Record, spacing: Sequence[float]) -> np.ndarray:
        """A changed copy of the normalised image C(Z)YX float32."""


AnyAugmentation: TypeAlias = Augmentation[Any]
"""An augmentation with options of any class."""

AnyIntensity: TypeAlias = Intensity[Any]
"""An intensity augmentation with options of any class."""


@dataclass(frozen=True, eq=False)
class Draw:
    """All drawn records of one patch, in the order in which they are applied: warp, orientation, intensities."""

    warp: Warp | None
    orientation: Orientation
    intensity: tuple[tuple[AnyIntensity, Record], ...]

    def apply_intensity(self, image: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
        """The image C(Z)YX float32 with all drawn changes of intensity applied."""
        for augmentation, record in self.intensity:
            image = augmentation.apply(image, record, spacing)
        return image


def draw(augmentations: Sequence[AnyAugmentation], rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> Draw:
    """Draw all augmentations for one patch, in the order of the list. Arguments as in `Augmentation.draw`."""
    warp: Warp | None = None
    orientation = Orientation.identity(len(shape))
    intensity: list[tuple[AnyIntensity, Record]] = []
    for augmentation in augmentations:
        record = augmentation.draw(rng, shape, spacing)
        if record is None:
            continue
        match augmentation:
            case Reorienting():
                orientation = orientation.then(record)
            # warps are composed, so that image and labels are interpolated only once
            case Spatial():
                warp = record if warp is None else warp.then(record)
            case Intensity():
                intensity.append((augmentation, record))
    return Draw(warp, orientation, tuple(intensity))
