"""A stored prediction, and its objects with other settings: the network does not run again.

Viewers predict what is visible once, and decode it again whenever a threshold, a depth of valleys or a size is changed.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from morula.core.axes import Axes
from morula.core.events import Event, Warned
from morula.core.image import Image
from morula.core.image_like import ImageLike
from morula.core.options import description_of
from morula.core.region import Region
from morula.data.crop import check_region, crop
from morula.io.check import check_image
from morula.jobs.tuning import REFINE, changed
from morula.methods import METHODS
from morula.methods.base import Method
from morula.models.by_slice import STITCH_THRESHOLD, SliceModel, by_slices
from morula.models.model import Model
from morula.models.scale import Fitted, estimate_diameter, fit_scale

if TYPE_CHECKING:
    import pandas as pd

SIZES, LEAST = 5.0, 100.0
"""Sizes may be set up to this multiple of the largest one that a search would try, and up to this many voxels at least."""


@dataclass(frozen=True)
class Setting:
    """A number between predicted channels and objects.

    Attributes:
        key: its key in a job, for example ``objects.decoder.seeds.F``.
        description: what it does.
        low: smallest value that is useful.
        high: largest value that is useful.
        whole: whether it is a whole number.
        value: the value in use, where it is known as a number.
    """

    key: str
    description: str
    low: float
    high: float
    whole: bool
    value: float | None


@dataclass(frozen=True, eq=False)
class Decoded:
    """Labels with the voxel size of their image, one row per object, and remarks for the log."""

    labels: Image
    table: pd.DataFrame
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predicted channels K(Z)YX of an image, with the model that made them.

    `region` is the box of the whole image that `image` was cut from, `fitted` the image at the scale of the model.
    """

    model: Model
    image: Image
    channels: np.ndarray
    region: Region
    fitted: Fitted

    def decode(self, values: Mapping[str, object] | None = None) -> Decoded:
        """Objects with some settings of the job replaced, for example ``{"objects.decoder.valley": 0.3}``; `None` leaves one as it is.

        Raises:
            JobError: when a value breaks its rule.
        """
        stated = {key: value for key, value in (values or {}).items() if value is not None}
        model = self._with(stated) if stated else self.model
        remarks: list[str] = []
        objects = self.fitted.objects(model.decode(self.channels, self.fitted.decoded, tell=remarks.append))
        labels, table = model.measured(objects, self.image)
        return Decoded(Image(labels, self.image.axes.spatial_axes, self.image.voxel_size), table, tuple(remarks))

    def _with(self, values: Mapping[str, object]) -> Model:
        # the thresholds of one step replace each other, so all of them are stated
        model = self.model.plane if isinstance(self.model, SliceModel) else self.model
        job = changed(model.job, {**self._current, **values})
        method: Method = METHODS.load(job.method.kind)(job.method, job.objects, ndim=model.ndim, spacing=model.method.spacing)
        made = replace(model, job=job, method=method)
        if not isinstance(self.model, SliceModel):
            return made
        return by_slices(made, self.model.axes, stitch_threshold=self.model.stitch_threshold or STITCH_THRESHOLD)

    @cached_property
    def _current(self) -> dict[str, object]:
        return {key: values[0] for key, values in self._space.items() if not key.startswith(REFINE)}

    @cached_property
    def _space(self) -> Mapping[str, tuple[object, ...]]:
        """Values that a search would try, around the sizes of the objects that the model finds."""
        method = self.model.method
        return method.search_space([self.decode().labels.canonical()[0]] if method.instances else [])

    @cached_property
    def settings(self) -> tuple[Setting, ...]:
        """The numbers that can be changed: those that a search on validation images varies."""
        fitted = self._fitted
        found = []
        for key, values in self._space.items():
            numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
            if len(numbers) < 2 or any(isinstance(value, bool) for value in values):
                continue
            high = max(numbers)
            if key.rsplit(".", 1)[-1].startswith(("remove_", "min_")):
                high = max(high * SIZES, LEAST)
            current = values[0] if isinstance(values[0], int | float) else fitted.get(key)
            whole = all(isinstance(number, int) for number in numbers)
            found.append(Setting(key, self._description(key), min(numbers), high, whole, current))
        return tuple(found)

    @cached_property
    def _fitted(self) -> dict[str, float]:
        """Values that the method chooses where the job leaves them open."""
        method = self.model.method
        parameters = method.fit(method.statistics(self.model.settled(self.channels, self.fitted.decoded)[0]))
        found: dict[str, float] = {}
        for name, value in parameters.items():
            if isinstance(value, Mapping):
                found |= {f"objects.decoder.{name}.{code}": number for code, number in value.items() if number is not None}
            elif isinstance(value, int | float):
                found[f"{'objects.decoder' if method.instances else 'method'}.{name}"] = value
        return found

    def _description(self, key: str) -> str:
        """What the field of a key says about itself."""
        if key.startswith(REFINE):
            from morula.labels.refine import REFINEMENTS

            return REFINEMENTS.member(key.removeprefix(REFINE)).summary
        options = getattr(self.model.method, "decoder", self.model.method).options
        return description_of(type(options), key.split(".")[2 if key.startswith("objects.") else 1]) or ""


def predict_region(
    model: Model,
    image: ImageLike,
    region: Region | None = None,
    *,
    diameter: float | None = None,
    memory: str | None = None,
    device: str = "auto",
) -> Generator[Event, None, Prediction]:
    """Predict an image, or a box of it, and report the progress.

    A box is predicted as in the whole image: with its surroundings, and normalised by the values of the whole image. A model that rescales
    images sees the box without its surroundings, at the scale of the whole image.

    Args:
        model: the trained model.
        image: an `Image` or an array, as `Model.predict` takes it.
        region: the box; the whole image when left out.
        diameter: diameter of the objects in voxels, for a model that rescales images; estimated where it is left out.
        memory: limit for tiles, for example ``"8GB"``.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Raises:
        ModelError: when the image has other dimensions or channels than the model was trained with.
        DataError: when the box is not inside the image.

    Examples:
        >>> import morula
        >>> from morula.core.events import drained
        >>> model = morula.load("runs/nuclei")  # doctest: +SKIP
        >>> predicted = drained(predict_region(model, morula.read("scan.tif"), Region((0, 0), (512, 512))))  # doctest: +SKIP
        >>> predicted.decode({"objects.decoder.valley": 0.3}).labels  # doctest: +SKIP
    """
    image = model.as_image(image)
    yield from (Warned("images.unlike_training", text) for text in model.warnings(image))
    yield from (Warned("images.values", text) for text in check_image(image))
    whole = Region.whole(image.spatial_shape)
    if region is None or region == whole:
        fitted = yield from fit_scale(model, image, diameter, memory=memory, device=device)
        channels = fitted.channels((yield from model.predict_steps(fitted.image, memory=memory, device=device)))
        return Prediction(model, image, channels, whole, fitted)
    check_region(image, region, image.source or "the image")
    model = replace(model, normalisation=model.scaling(image))
    cut = _part(image, region)
    if model.diameter is not None:
        if diameter is None and (estimate := (yield from estimate_diameter(*model.sample(image), memory=memory, device=device))):
            diameter = estimate.diameter
        fitted = yield from fit_scale(model, cut, diameter or model.diameter, memory=memory, device=device)
        channels = fitted.channels((yield from model.predict_steps(fitted.image, memory=memory, device=device)))
        return Prediction(model, cut, channels, region, fitted)
    more = _surroundings(region, model, image.spatial_shape)
    channels = yield from model.predict_steps(_part(image, more), memory=memory, device=device)
    inside = region.shift([-start for start in more.start])
    return Prediction(model, cut, np.ascontiguousarray(channels[(slice(None), *inside.slices)]), region, Fitted(cut, cut))


def _part(image: Image, region: Region) -> Image:
    return Image(crop(image, region), Axes(f"C{image.axes.spatial_axes}"), image.voxel_size, image.source)


def _surroundings(region: Region, model: Model, shape: tuple[int, ...]) -> Region:
    """What the network sees around a box, from a multiple of its pooling on: poolings then group the voxels as in the whole image."""
    halo, multiple = model.network.receptive_halo, model.network.multiple
    if isinstance(model, SliceModel):  # across the slices a 2D network sees nothing, or as much as along the others
        halo, multiple = (max(halo) if model.axes == "zyx" else 0, *halo), (1, *multiple)
    more = region.grow(halo, within=shape)
    start = tuple(first // step * step for first, step in zip(more.start, multiple, strict=True))
    return Region(start, more.stop)
