"""The transforms of pytorch-3dunet that normalise or change raw data, as native augmentations. Needs no torch.

The original gives raw data and labels the same random numbers by seeding one generator per list. Here the random part is drawn once::

    list raw --> augmentations --draw--> warp, orientation, intensities --apply--> raw data
                                              |        |
                                              +--------+--------------> labels, weights --> targets
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from itertools import zip_longest
from typing import Annotated, ClassVar, Literal, TypeAlias

import numpy as np
from pydantic import Field, PositiveInt

from morula.core.errors import OptionError
from morula.core.image import Image
from morula.data.augment.affine import Rotate, RotateOptions
from morula.data.augment.base import AnyAugmentation, AugmentationOptions, Intensity
from morula.data.augment.blur import Blur, BlurOptions
from morula.data.augment.elastic_noise import ElasticNoise, ElasticNoiseOptions
from morula.data.augment.intensity import Contrast, ContrastOptions, Gamma, GammaOptions
from morula.data.augment.noise import GaussianNoise, GaussianNoiseOptions, PoissonOffset, PoissonOffsetOptions
from morula.data.augment.orient import Flip, FlipOptions, Rotate90, Rotate90Options
from morula.data.normalise import Fixed, MinMax, Options, Percentile, ZScore, stated, statistics
from morula.data.normalise import Normalisation as Record
from morula.dialects.pytorch3dunet.keys import NotNegative, Pair, Positive, Section, Share, key

Percent: TypeAlias = Annotated[float, Field(ge=0, le=100)]
Axis: TypeAlias = Annotated[int, Field(ge=0, le=2)]
Order: TypeAlias = Annotated[int, Field(ge=0, le=5)]
Scale: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""A normalisation of a patch CZYX."""

CHANGED = "Share of the patches that are changed."


class Transform(Section):
    """Keys of every transform.

    Attributes:
        role: whether it moves voxels, crops, changes values, or makes targets from labels.
    """

    native_form = "`augment`"
    dead: ClassVar = {
        "random_state": "random numbers follow manual_seed.",
        "blur": "only versions before 1.3 read it.",
        "sigma": "only ElasticDeformation and GaussianBlur3D have a width.",
        "axis": "no version since 1.3 reads it.",
    }
    role: ClassVar[Literal["spatial", "crop", "values", "labels"]] = "values"
    name: str = key(..., "Name of the transform.")

    def augmentation(self) -> AnyAugmentation | None:
        """The native augmentation, where the transform is random."""
        return None

    def interpolation(self) -> int | None:
        """Order of the splines, where the transform interpolates and states one."""
        return None


# --- normalisation -----------------------------------------------------------------------------------------------------------------------


class Identity(Transform):
    """No change."""

    native_form = "nothing"


class Normalisation(Transform):
    """Keys of every normalisation."""

    native_form = "`sampling.normalise`"
    eps: NotNegative = key(1e-10, "Added to the difference of the two.")

    @property
    @abstractmethod
    def options(self) -> Options:
        """The native normalisation, of each patch by its own intensities or by fixed numbers."""


class Standardize(Normalisation):
    """Mean 0 and standard deviation 1."""

    eps: NotNegative = key(1e-10, "Smallest standard deviation.")
    mean: float | None = key(None, "Mean to use instead of that of the patch.")
    std: float | None = key(None, "Standard deviation to use instead of that of the patch.")
    channelwise: bool = key(False, "Normalise each channel separately.")

    def check(self) -> None:
        """See `Section.check`."""
        if (self.mean is None) != (self.std is None):
            raise OptionError("transform.mean_and_std", "mean and std are used together", remedy="Give both or none.")

    @property
    def options(self) -> ZScore | Fixed:
        """See `Normalisation.options`."""
        if self.mean is not None and self.std is not None:
            return Fixed(offset=self.mean, scale=max(self.std, self.eps))
        return ZScore(per="patch", channels="each" if self.channelwise else "together", eps=self.eps)


class PercentileNormalizer(Normalisation):
    """Map two percentiles to 0 and 1."""

    pmin: Percent = key(1.0, "Percentile that becomes 0.")
    pmax: Percent = key(99.6, "Percentile that becomes 1.")
    channelwise: bool = key(False, "Normalise each channel separately.")

    def check(self) -> None:
        """See `Section.check`."""
        if self.pmin >= self.pmax:
            raise OptionError("transform.percentiles", f"pmin must be below pmax, but they are {self.pmin:g} and {self.pmax:g}")

    @property
    def options(self) -> Percentile:
        """See `Normalisation.options`."""
        channels: Literal["each", "together"] = "each" if self.channelwise else "together"
        return Percentile(low=self.pmin, high=self.pmax, per="patch", channels=channels, eps=self.eps)


class Normalize(Normalisation):
    """Map the lowest value to -1 and the highest to 1."""

    min_value: float | None = key(None, "Lowest value, instead of that of the patch.")
    max_value: float | None = key(None, "Highest value, instead of that of the patch.")
    norm01: bool = key(False, "Map to 0 and 1 instead of -1 and 1.")

    def check(self) -> None:
        """See `Section.check`."""
        low, high = self.min_value, self.max_value
        if low is not None and high is not None and low >= high:
            raise OptionError("transform.limits", f"min_value must be below max_value, but they are {low:g} and {high:g}")

    @property
    def options(self) -> MinMax | Fixed:
        """See `Normalisation.options`."""
        low, high, ends = self.min_value, self.max_value, (0.0 if self.norm01 else -1.0, 1.0)
        if low is None or high is None:
            return MinMax(per="patch", channels="together", range=ends, low=low, high=high, eps=self.eps)
        scale = (high - low + self.eps) / (ends[1] - ends[0])
        return Fixed(offset=low - ends[0] * scale, scale=scale, clip=ends)


class ToTensor(Transform):
    """Data type of the values, and a channel axis."""

    native_form = "not needed; `normalize` is `sampling.normalise`"
    expand_dims: bool = key(True, "Add a channel axis where there is none.")
    dtype: Literal["float32", "float64", "float", "int64", "int32", "long", "int", "uint8"] = key("float32", "Data type of the values.")
    normalize: bool = key(False, "Scale to 0 ... 1.")


class Scaling(Intensity[AugmentationOptions]):
    """Normalises values; nothing is random."""

    name = "scaling"

    def __init__(self, function: Scale) -> None:
        super().__init__(AugmentationOptions(probability=1.0))
        self.function = function

    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> tuple[()]:
        """See `Augmentation.draw`."""
        return ()

    def apply(self, image: np.ndarray, record: tuple[()], spacing: Sequence[float]) -> np.ndarray:
        """See `Intensity.apply`."""
        return self.function(image)


def scaling_of(transform: Transform) -> Scale | None:
    """The normalisation of a patch CZYX by a transform, `None` where it does not normalise."""
    options = native_scaling(transform)
    return None if options is None else partial(_scaled, options=options)


def _scaled(patch: np.ndarray, *, options: Options) -> np.ndarray:
    record = stated(options, len(patch))
    assert record is not None  # no volume is measured
    return record.apply(patch)


def records_of(transforms: Sequence[Transform], whole: Image) -> list[Record | None]:
    """The normalisation of each transform by the statistics of a whole volume; `None` where it measures neither mean nor percentiles."""
    told = {"per": "image", "channels": "together", "voxels": "all"}
    found = [native_scaling(transform) for transform in transforms]
    return [statistics(whole, scaling.model_copy(update=told)) if isinstance(scaling, ZScore | Percentile) else None for scaling in found]


def native_scaling(transform: Transform) -> Options | None:
    """The native normalisation of a transform, `None` where it does not normalise."""
    if isinstance(transform, Normalisation):
        return transform.options
    return MinMax(per="patch", channels="together") if isinstance(transform, ToTensor) and transform.normalize else None


# --- random changes of positions ---------------------------------------------------------------------------------------------------------


class RandomFlip(Transform):
    """Flip along axes."""

    role = "spatial"
    axis_prob: Share = key(0.5, "Probability of each axis to stay as it is.")

    def augmentation(self) -> Flip:
        """See `Transform.augmentation`."""
        return Flip(FlipOptions(probability=1 - self.axis_prob))


class RandomRotate90(Transform):
    """Rotate about z by multiples of 90 degrees."""

    role = "spatial"

    def augmentation(self) -> Rotate90:
        """See `Transform.augmentation`."""
        return Rotate90(Rotate90Options(plane="yx", rectangles=True))


class RandomRotate(Transform):
    """Rotate by any angle."""

    role = "spatial"
    angle_spectrum: Annotated[float, Field(gt=0, le=180)] = key(30.0, "Largest angle in degrees, in both directions.")
    axes: Annotated[tuple[tuple[Axis, Axis], ...], Field(min_length=1)] = key(((1, 0), (2, 1), (2, 0)), "Planes, one of which is drawn.")
    mode: str = key("reflect", "Values beyond the volume. They are its mirror image here, whatever is written.")
    order: Order | None = key(
        None, "Interpolation: 0 takes the nearest voxel, 1 is linear, 2 to 5 are splines. Left out: nearest for labels, linear for others."
    )

    def check(self) -> None:
        """See `Section.check`."""
        if any(a == b for a, b in self.axes):
            rule = "a plane has two different axes (0 is z, 1 is y, 2 is x), for example [2, 1]"
            raise OptionError("transform.axes", rule, key="axes")

    def augmentation(self) -> Rotate:
        """See `Transform.augmentation`."""
        about = tuple("zyx"[3 - a - b] for a, b in self.axes)  # the axis that is not in the plane
        return Rotate(RotateOptions.model_validate({"probability": 1.0, "degrees": self.angle_spectrum, "about": about}))

    def interpolation(self) -> int | None:
        """See `Transform.interpolation`."""
        return self.order


class ElasticDeformation(Transform):
    """Smooth random deformation."""

    role = "spatial"
    execution_probability: Share = key(0.1, CHANGED)
    spline_order: Order = key(..., "Interpolation: 0 takes the nearest voxel (for labels), 1 is linear, 2 to 5 are splines.")
    alpha: NotNegative = key(2000.0, "Factor of the smoothed noise that is the displacement.")
    sigma: Positive = key(50.0, "Standard deviation of the Gaussian that smooths it, in voxels.")
    apply_3d: bool = key(True, "Whether voxels move along z too.")

    def augmentation(self) -> ElasticNoise:
        """See `Transform.augmentation`."""
        axes: Literal["zyx", "yx"] = "zyx" if self.apply_3d else "yx"
        return ElasticNoise(ElasticNoiseOptions(alpha=self.alpha, sigma=self.sigma, axes=axes, probability=self.execution_probability))

    def interpolation(self) -> int | None:
        """See `Transform.interpolation`."""
        return self.spline_order


class CropToFixed(Transform):
    """Crop each plane to a fixed size; smaller planes are extended by their mirror image."""

    native_form = "`sampling.kind: random` or `centre`"
    role = "crop"
    size: tuple[PositiveInt, PositiveInt] = key((256, 256), "Edges (y, x) in voxels.")
    centered: bool = key(False, "Crop the middle instead of a random part.")


# --- random changes of intensities -------------------------------------------------------------------------------------------------------


class RandomIntensity(Transform):
    """Keys of every random change of intensities."""

    execution_probability: Share = key(0.1, CHANGED)


class RandomContrast(RandomIntensity):
    """Scale values about a fixed one, and clip to -1 ... 1."""

    alpha: Pair = key((0.5, 1.5), "Smallest and largest factor.")
    mean: float = key(0.0, "Value that stays as it is.")

    def augmentation(self) -> Contrast:
        """See `Transform.augmentation`."""
        low, high = self.alpha
        # the original assumes values that were normalised to -1 ... 1
        return Contrast(ContrastOptions(low=low, high=high, about=self.mean, clip=(-1, 1), probability=self.execution_probability))


class RandomGammaCorrection(RandomIntensity):
    """Scale to 0 ... 1 and raise to a power."""

    gamma: Pair = key((0.5, 1.5), "Smallest and largest exponent.")

    def augmentation(self) -> Gamma:
        """See `Transform.augmentation`."""
        low, high = self.gamma
        # powers are defined for values from 0 on
        return Gamma(GammaOptions(low=low, high=high, unit_range=True, probability=self.execution_probability))


class GaussianBlur3D(RandomIntensity):
    """Gaussian blur."""

    execution_probability: Share = key(0.5, CHANGED)
    sigma: Pair = key((0.1, 2.0), "Smallest and largest standard deviation, in voxels.")

    def augmentation(self) -> Blur:
        """See `Transform.augmentation`."""
        least, most = self.sigma
        # the original calls skimage.filters.gaussian, which repeats the border values
        return Blur(BlurOptions(least=least, sigma=most, border="nearest", probability=self.execution_probability))


class AdditiveGaussianNoise(RandomIntensity):
    """Add normally distributed noise."""

    scale: Pair = key((0.0, 1.0), "Smallest and largest standard deviation.")

    def augmentation(self) -> GaussianNoise:
        """See `Transform.augmentation`."""
        least, most = self.scale
        return GaussianNoise(GaussianNoiseOptions(least=least, sigma=most, probability=self.execution_probability))


class AdditivePoissonNoise(RandomIntensity):
    """Add Poisson distributed noise."""

    lam: Pair = key((0.0, 1.0), "Smallest and largest mean.")

    def augmentation(self) -> PoissonOffset:
        """See `Transform.augmentation`."""
        least, most = self.lam
        return PoissonOffset(PoissonOffsetOptions(least=least, mean=most, probability=self.execution_probability))


def augmentations(transforms: Sequence[Transform], records: Sequence[Record | None] = ()) -> list[AnyAugmentation]:
    """The transforms of a list that move voxels or change values, in order, as native augmentations; lengths are voxels.

    Args:
        transforms: the list.
        records: with ``global_normalization``, those of `records_of`.
    """
    found: list[AnyAugmentation] = []
    for transform, record in zip_longest(transforms, records):
        scale, random = scaling_of(transform) if record is None else record.apply, transform.augmentation()
        found += [] if scale is None else [Scaling(scale)]
        found += [] if random is None else [random]
    return found
