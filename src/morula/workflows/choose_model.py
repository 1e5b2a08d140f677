"""The bundled model that fits images, for a user who names none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from morula.core.errors import DataError
from morula.core.image import Image
from morula.data.crop import crop
from morula.data.summary import middle
from morula.io.lazy import without_z
from morula.jobs.bundled import Bundled, bundled_models
from morula.workflows.sources import Opened

LOOKED_AT = 2**20
"""Pixels of each image that are examined."""
BRIGHT = (0.6, 0.3)
"""Place of the median in the range of the values above which a background is bright, for grey and for colour images. On the images of
BBBC038 it is at most 0.19 in fluorescence, at least 0.82 in brightfield, and at least 0.39 in stained tissue."""
_NAME_ONE = "Name one with --model (model='...'); `morula models` lists them."


@dataclass(frozen=True)
class Kind:
    """What decides about the model: dimensions, channels, and whether the background is darker or brighter than the objects."""

    dimensions: int
    channels: int
    background: str

    def words(self) -> str:
        """The kind in words."""
        colours = {1: "one channel", 3: "three channels"}.get(self.channels, f"{self.channels} channels")
        return f"{self.dimensions}D, {colours}, {self.background} background"


def choose(opened: Sequence[Opened]) -> tuple[Bundled, Sequence[Opened], str]:
    """The bundled model for images, the images as it takes them, and the reason.

    Raises:
        DataError: when no model fits, or the images need different models.
    """
    images = [replace(image, raw=grey(image.raw)) for image in opened]
    kinds = {kind_of(image.raw): image.name for image in images}
    chosen = {model.name: (model, kind) for kind in kinds for model in fitting(kind)[:1]}
    missing = next((kind for kind in kinds if not fitting(kind)), None)
    if missing is not None:
        rule = f"fits no bundled model: {missing.words()}"
        remedy = "Select the channel with the objects (--channel 0), or name a model (--model)."
        raise DataError("models.none_fits", rule, file=kinds[missing], remedy=remedy)
    if len(chosen) > 1:
        rule = f"need different models: {', '.join(sorted(chosen))}"
        raise DataError("models.several_fit", rule, key="images", value=list(kinds.values()), remedy=_NAME_ONE)
    model, kind = next(iter(chosen.values()))
    return model, images, f"model {model.name}, because the image is {kind.words()}. {_NAME_ONE}"


def chosen_for(image: Image, *, slices: bool = False) -> tuple[str, Image]:
    """The name of the bundled model for one image, and the image as it takes it; with `slices` a 2D model for the slices of a volume.

    Raises:
        DataError: as `choose`.
    """
    looked_at = image
    if slices and image.ndim_spatial == 3:
        planes = image.canonical()
        looked_at = Image(planes[:, planes.shape[1] // 2], "CYX", source=image.source)  # type: ignore[arg-type]
    model, (opened,), _ = choose([Opened("image", looked_at, None)])
    return model.name, opened.raw if looked_at is image else image


def fitting(kind: Kind) -> list[Bundled]:
    """The bundled models for a kind of image; shipped and nearest ones first.

    A grey image with a bright background fits a model for stained images, which takes it as three equal channels.
    """
    models = [model for model in bundled_models() if model.facts.suited.dimensions == kind.dimensions]
    if kind.dimensions == 3:
        return [model for model in models if model.facts.suited.channels == kind.channels]
    models = [model for model in models if model.facts.suited.background == kind.background]
    grey_too = kind.channels == 1 and kind.background == "bright"
    return [model for model in models if model.facts.suited.channels == kind.channels or (grey_too and model.facts.suited.channels == 3)]


def kind_of(image: Image) -> Kind:
    """The kind of an image; its middle is examined."""
    flat = without_z(image)
    pixels = crop(flat, middle(flat.spatial_shape, LOOKED_AT))
    channels = 3 if len(pixels) == 4 and pixels.dtype == np.uint8 else len(pixels)
    return Kind(flat.ndim_spatial, channels, background_of(pixels[:channels]))


def background_of(pixels: np.ndarray) -> str:
    """Whether the background of an image CYX is dark or bright: where most of its pixels lie in the range of its values.

    Examples:
        >>> background_of(np.array([[0, 0, 0, 9]])), background_of(np.array([[9, 9, 9, 0]]))
        ('dark', 'bright')
    """
    values = pixels.mean(axis=0, dtype=np.float64)
    low, median, high = np.percentile(values, [1, 50, 99.8])
    # stained tissue may fill a colour image; a grey one may be full of bright nuclei
    return "bright" if median - low > BRIGHT[len(pixels) > 1] * (high - low) else "dark"


def grey(image: Image) -> Image:
    """The first channel of a colour image whose three colours are equal, as many programs store grey images; others as they are."""
    flat = without_z(image)
    if flat.n_channels not in (3, 4) or flat.ndim_spatial != 2:
        return image
    pixels = flat.canonical()
    if not (np.array_equal(pixels[0], pixels[1]) and np.array_equal(pixels[0], pixels[2])):
        return image
    return replace(flat, data=pixels[0], axes=flat.axes.spatial_axes)
