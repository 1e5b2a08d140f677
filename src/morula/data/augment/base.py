"""What an augmentation is: options, a draw into a record, and what the record does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from pydantic import Field

from morula.core.orientation import Orientation
from morula.core.variants import VariantOptions
from morula.data.augment.warp import Warp

AnyOptions = TypeVar("AnyOptions", bound="AugmentationOptions")
Record = Any


class AugmentationOptions(VariantOptions):
    """Options that every augmentation has. `shorthand` names the one that a bare number in the job file sets: ``{brightness: 0.1}``."""

    probability: float = Field(0.5, ge=0, le=1)
    """Share of the patches that are changed."""


class Augmentation(ABC, Generic[AnyOptions]):
    """One augmentation. `draw` decides what happens to a patch; nothing else is random."""

    name: ClassVar[str]
    options: AnyOptions

    def __init__(self, options: AnyOptions) -> None:
        self.options = options

    @abstractmethod
    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> Record | None:
        """What happens to a patch of `shape` (Z)YX voxels, or `None` when nothing does."""

    def happens(self, rng: np.random.Generator) -> bool:
        """One throw of the dice."""
        return bool(rng.random() < self.options.probability)


class Reorienting(Augmentation[AnyOptions]):
    """Flips and quarter turns: exact, the record is an `Orientation`."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> Orientation | None:
        """See `Augmentation.draw`."""


class Spatial(Augmentation[AnyOptions]):
    """Moves voxels by a part of the one warp."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> Warp | None:
        """The warp, in physical units."""


class Intensity(Augmentation[AnyOptions]):
    """Changes the image's values, never the labels."""

    @abstractmethod
    def apply(self, image: np.ndarray, record: Record, spacing: Sequence[float]) -> np.ndarray:
        """The changed image, C(Z)YX float32, in units of the normalised image; the given one stays as it is."""


@dataclass(frozen=True, eq=False)
class Draw:
    """Everything that happens to one patch: the warp, then the orientation, then the intensities in order."""

    warp: Warp | None
    orientation: Orientation
    intensity: tuple[tuple[Intensity[Any], Record], ...]

    def apply_intensity(self, image: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
        """The image C(Z)YX float32 with all drawn changes of intensity."""
        for augmentation, record in self.intensity:
            image = augmentation.apply(image, record, spacing)
        return image


def draw(augmentations: Sequence[Augmentation[Any]], rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> Draw:
    """Draw all augmentations for one patch of `shape` voxels, in the order of the list."""
    warp: Warp | None = None
    orientation = Orientation.identity(len(shape))
    intensity: list[tuple[Intensity[Any], Record]] = []
    for augmentation in augmentations:
        record = augmentation.draw(rng, shape, spacing)
        if record is None:
            continue
        match augmentation:
            case Reorienting():
                orientation = orientation.then(record)
            case Spatial():
                warp = record if warp is None else warp.then(record)
            case Intensity():
                intensity.append((augmentation, record))
    return Draw(warp, orientation, tuple(intensity))
