"""Options of the method `wnet3d`; needs no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from morula.core.errors import OptionError
from morula.kernels.crf import CRF
from morula.methods.options import MethodOptions

TOP = 100.0
"""Value of the high percentile of a normalised image; the widths of the loss are set for this scale."""


class Options(MethodOptions):
    """WNet3D (Achard et al. 2024, https://doi.org/10.7554/eLife.99848) and its losses."""

    kind: Literal["wnet3d"] = "wnet3d"
    """Name of the variant."""

    classes: int = Field(2, ge=2)
    """Number of classes. More classes separate more levels of brightness, for example halos or the rims of objects."""
    foreground: Literal["auto"] | NonNegativeInt | Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = "auto"
    """Class, or classes, of the foreground, counted from 0; `auto` chooses the brightest class of each image and logs it."""
    reconstruction: Literal["mse", "bce"] = "mse"
    """Loss of the reconstruction: `mse` on the scale of 0 to 100, more precise; `bce` on 0 to 1, more robust against outliers."""
    ncuts: Literal["class_mean", "pairwise"] = "class_mean"
    """Similarity of voxels in the cuts: by their distance to the mean of a class (WNet3D), or per pair (as in the W-Net, slower)."""
    intensity_sigma: PositiveFloat = 1.0
    """Width of the similarity in intensity, on the scale of 0 to 100. With `class_mean`, a voxel counts if its intensity is within about
    the square root of this value from the mean of a class. With 1 the border between bright and dim classes depends on chance. The square
    of a quarter of the step from background to objects places the border between them; with much more, classes become regions."""
    spatial_sigma: PositiveFloat = 4.0
    """Width of the similarity in space, in voxels."""
    smoothing: float = Field(0.0, ge=0)
    """Width of a Gaussian, in voxels of the finest axis, that smooths the image in the losses (not the input of the network), so that
    the noise of single voxels is not learned. WNet3D does not smooth."""
    radius: PositiveInt = 2
    """Radius in voxels of the neighbourhood in which voxels are compared."""
    ncuts_weight: float = Field(0.5, ge=0)
    """Weight of the soft normalised cuts."""
    reconstruction_weight: float = Field(5e-3, ge=0)
    """Weight of the reconstruction. Raise it if the classes separate bright from dim regions instead of objects from background; lower it
    if they become a texture of stripes or dots, by which the network encodes intensities."""
    part_by: Literal["probability", "brightness"] = "probability"
    """Image in which `voronoi_otsu` detects spots and which it floods: the foreground probability, or the brightness, which still
    increases towards the middle of objects where the probability is 1 everywhere."""
    crf: CRF | None = None
    """Refine the classes with a conditional random field on the image before decoding; off when left out, `{}` for the defaults."""
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
