"""Options of the method `wnet3d`; needs no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from morula.core.errors import OptionError
from morula.kernels.crf import CRF
from morula.methods.options import MethodOptions


class Options(MethodOptions):
    """WNet3D (Achard et al. 2024, https://doi.org/10.7554/eLife.99848) and its losses."""

    kind: Literal["wnet3d"] = "wnet3d"
    """Name of the variant."""

    classes: int = Field(2, ge=2)
    """Classes of voxels. More of them part the image more finely by brightness: halos, or the rims of objects."""
    foreground: Literal["auto"] | NonNegativeInt | Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = "auto"
    """Class (or classes, from 0 on) that objects are made of; `auto` takes the brightest one of each image, and says so."""
    reconstruction: Literal["mse", "bce"] = "mse"
    """Loss of the image rebuilt: `mse` on the scale of 0 to 100, more precise; `bce` on 0 to 1, more robust against outliers."""
    ncuts: Literal["class_mean", "pairwise"] = "class_mean"
    """How voxels are found alike: by their distance to the mean of a class (WNet3D), or pair by pair (the W-Net's own, slower)."""
    intensity_sigma: PositiveFloat = 1.0
    """How far intensities may lie apart, on the scale of 0 to 100. With `class_mean`, voxels count whose intensity is within about its
    square root of the mean of a class: 1 leaves it to chance where between bright and dim the classes end. What places their border is a
    quarter of the step from background to objects, squared; with far more the classes become regions rather than objects."""
    spatial_sigma: PositiveFloat = 4.0
    """How far voxels may lie apart, in voxels."""
    smoothing: float = Field(0.0, ge=0)
    """Width of the Gaussian, in voxels of the finest axis, by which the image is smoothed before the losses see it, not the network:
    then it does not learn the noise of single voxels. WNet3D has none."""
    radius: PositiveInt = 2
    """Voxels around each one that are compared with it."""
    ncuts_weight: float = Field(0.5, ge=0)
    """Weight of the soft normalised cuts."""
    reconstruction_weight: float = Field(5e-3, ge=0)
    """Weight of the reconstruction. Raise it where the classes part bright from dim regions instead of objects from background; lower it
    where they become a texture of stripes or dots, which tells the decoder how bright dim places are."""
    part_by: Literal["probability", "brightness"] = "probability"
    """What `voronoi_otsu` looks for spots in and floods: the probability of the foreground, or the image, whose brightness still rises
    towards the middle of objects where the probability is 1 all over."""
    crf: CRF | None = None
    """Refine the classes by the image with a conditional random field before objects are made; off when left out, `{}` for the defaults."""
    thresholds: tuple[float, ...] = (0.5, 0.75, 0.9)
    """Intersection over union from which an object counts as found, in the scores."""

    @model_validator(mode="after")
    def _consistent(self) -> Options:
        named = self.foreground if isinstance(self.foreground, tuple) else (self.foreground,)
        for number in named:
            if isinstance(number, int) and number >= self.classes:
                rule = f"there are {self.classes} classes, from 0 to {self.classes - 1}"
                raise OptionError("wnet3d.unknown_class", rule, key="foreground", value=number)
        if self.ncuts_weight == self.reconstruction_weight == 0:
            rule = "ncuts_weight and reconstruction_weight are both 0, so nothing would be learned"
            raise OptionError("wnet3d.no_loss", rule, key="ncuts_weight", value=0, remedy="Raise one of them.")
        return self

    @property
    def matching_thresholds(self) -> tuple[float, ...]:
        """The thresholds of the options."""
        return self.thresholds
