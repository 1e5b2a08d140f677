"""The scale at which a model sees an image: objects get the size that the model was trained on, and results return to the image.

Sizes are estimated by looking: the part of the image with most detail is segmented at several scales, and the objects that are found tell
their size. A network recognises objects of about 0.6 to 1.7 times its own size, so four scales cover a range of ten and overlap::

    diameter in the image     7        16   20     28        45        90 voxels, for a trained size of 24
    scale 2.1                 |----------------|
    scale 0.9                          |---------------------|
    scale 0.58                                     |------------------|
    scale 0.36                                               |---------|

Diameters and scales are those of the last axis. The other axes are scaled so that voxels get the proportions that the model was trained on.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import Protocol

import numpy as np

from morula.core.errors import ModelError
from morula.core.events import Event, Logged
from morula.core.image import Image
from morula.core.region import Region
from morula.core.voxel_size import VoxelSize
from morula.data.crop import crop
from morula.data.normalise import Normalisation
from morula.inference.rescale import rescaled
from morula.io.lazy import take_channel
from morula.labels.objects import DECODED, Objects
from morula.labels.on_grid import nearest, on_grid
from morula.models.rescaled_view import Rescaled

SCALES = {2: (2.1, 0.9, 0.58, 0.36), 3: (2.0, 1.25, 0.8, 0.5, 0.31)}
"""Scales of the search in images and volumes, from the smallest objects to the largest. Volumes are noisier: enlarged noise looks like
objects, and closer scales tell it from them by the confidence."""
WINDOW = {2: 256, 3: 64}
"""Edge in voxels of what the network sees at each scale."""
LIMITS = (0.15, 4.0)
"""Factors beyond these are not applied."""
SAME = 0.12
"""Images within this share of the trained size are not rescaled."""


class Scalable(Protocol):
    """What is needed of a model."""

    @property
    def diameter(self) -> float | None:
        """Diameter that it was trained on."""
        ...

    @property
    def ndim(self) -> int:
        """2 or 3."""
        ...

    def factors(self, image: Image, scale: float) -> tuple[float, ...]:
        """Factor of each axis (Z)YX of an image for a scale of the last axis."""
        ...

    def sample(self, image: Image) -> tuple[Scalable, Image]:
        """The model and the image by which the size of the objects is estimated."""
        ...

    def scaling(self, image: Image) -> Normalisation:
        """The normalisation of an image."""
        ...

    def predict_steps(
        self, image: Image, *, memory: int | str | None = None, device: str = "auto", scaling: Normalisation | None = None
    ) -> Generator[Event, None, np.ndarray]:
        """Predict channels."""
        ...

    def decode(self, prediction: np.ndarray) -> Objects:
        """Objects of predicted channels."""
        ...


@dataclass(frozen=True, eq=False)
class Fitted:
    """An image as the model sees it, and how its objects return to the grid of the image."""

    image: Image
    original: Image

    @property
    def decoded(self) -> Image:
        """The image on the grid on which objects are decoded: its own where that is the finer one, else that of the model.

        Objects that are decoded on a coarser grid than that of the image have steps in their outlines there.
        """
        return max(self.original, self.image, key=lambda candidate: prod(candidate.spatial_shape))

    def channels(self, predicted: np.ndarray) -> np.ndarray:
        """Predicted channels K(Z)YX on that grid, linearly interpolated."""
        shape = self.decoded.spatial_shape
        return predicted if predicted.shape[1:] == shape else rescaled(predicted, shape)

    def objects(self, found: Objects) -> Objects:
        """Objects on the grid of the original image; none is lost."""
        if found.labels.shape == self.original.spatial_shape:
            return found
        shape, size = self.original.spatial_shape, found.labels.shape
        inner = {name: nearest(stage, shape) for name, stage in found.intermediates.items() if stage.shape == size}
        if DECODED in inner:
            inner[DECODED] = on_grid(found.intermediates[DECODED], shape)
        return with_labels(replace(found, intermediates=inner), on_grid(found.labels, shape))


def with_labels(objects: Objects, labels: np.ndarray) -> Objects:
    """Objects with other labels of the same ids; those that these lack are left out, and the others get the ids 1..n."""
    ids = np.unique(labels)
    ids = ids[ids > 0].astype(np.intp)
    if len(ids) == len(objects):
        return replace(objects, labels=labels)
    numbers = np.zeros(len(objects) + 1, labels.dtype)
    numbers[ids] = np.arange(1, len(ids) + 1)
    kept = ids - 1
    return replace(
        objects,
        labels=numbers[labels],
        confidence=objects.confidence[kept],
        classes=None if objects.classes is None else objects.classes[kept],
        class_confidence=None if objects.class_confidence is None else objects.class_confidence[kept],
    )


@dataclass(frozen=True)
class Estimate:
    """Estimated diameter of the objects in voxels of the image, and their number in the parts that were segmented."""

    diameter: float
    objects: int


def fit_scale(
    model: Scalable, image: Image, diameter: float | None, *, memory: int | str | None = None, device: str = "auto"
) -> Generator[Event, None, Fitted]:
    """The image at the scale of the model; objects of `diameter` voxels get its trained size.

    Raises:
        ModelError: when a diameter is given for a model that does not rescale images, or it is not positive.
    """
    trained = model.diameter
    if diameter is not None:
        check_diameter(model, diameter)
    if trained is None:
        return Fitted(image, image)
    stated = diameter is not None
    if diameter is None:
        estimate = yield from estimate_diameter(*model.sample(image), memory=memory, device=device)
        diameter = trained if estimate is None else estimate.diameter
        if estimate is None:
            yield Logged("no object was found to estimate the size of objects by; the image is used at its own scale")
    scale = scale_for(trained, diameter)
    factors = model.factors(image, scale)
    same = is_same(factors)
    if not stated or not same:
        how = "stated" if stated else "estimated"
        yield Logged(f"objects of about {diameter:.0f} voxels ({how}), scale {1 if same else scale:.2f}")
    return Fitted(image if same else at_scale(image, factors), image)


def check_diameter(model: Scalable, diameter: float) -> None:
    """Check a diameter that a user states.

    Raises:
        ModelError: when the model does not rescale images, or the diameter is not positive.
    """
    if model.diameter is None:
        rule = "cannot be used: this model was trained on images at their own scale"
        raise ModelError("model.no_diameter", rule, key="diameter", value=diameter, remedy="Leave it out.")
    if not 0 < diameter < float("inf"):
        rule = "must be a positive number of voxels"
        raise ModelError("model.diameter", rule, key="diameter", value=diameter, remedy="Leave it out, and it is estimated.")


def at_scale(image: Image, factors: Sequence[float]) -> Image:
    """An image with `factors` times as many voxels along each axis, C(Z)YX float32."""
    shape, size = _grid(image, factors)
    return Image(rescaled(image.canonical(), shape), f"C{image.axes.spatial_axes}", size, image.source)  # type: ignore[arg-type]


def view_at_scale(image: Image, factors: Sequence[float], *, labels: bool = False) -> Image:
    """The same as `at_scale`, but lazy: only the boxes that are read are rescaled. Of labels the nearest voxels are taken."""
    shape, size = _grid(image, factors)
    view = Image(Rescaled(image, shape, labels=labels), f"C{image.axes.spatial_axes}", size, image.source)  # type: ignore[arg-type]
    return view if "C" in image.axes else take_channel(view, 0)


def _grid(image: Image, factors: Sequence[float]) -> tuple[tuple[int, ...], VoxelSize | None]:
    """Shape and voxel size of an image with `factors` times as many voxels."""
    shape = tuple(max(1, round(n * factor)) for n, factor in zip(image.spatial_shape, factors, strict=True))
    size = image.voxel_size
    if size is None:
        return shape, None
    lengths = dict(zip("zyx"[-len(shape) :], (step / factor for step, factor in zip(image.spacing, factors, strict=True)), strict=True))
    return shape, VoxelSize(**lengths, unit=size.unit)


def factors_of(image: Image, trained: VoxelSize, scale: float) -> tuple[float, ...]:
    """Factor of each axis (Z)YX for a scale of the last axis, by which voxels get the proportions of a model's voxels."""
    own, target = image.spacing, trained.spacing(image.ndim_spatial)
    return tuple(scale * (a / own[-1]) / (b / target[-1]) for a, b in zip(own, target, strict=True))


def scale_for(trained: float, diameter: float) -> float:
    """The scale at which objects of a diameter get the trained one."""
    return float(np.clip(trained / diameter, *LIMITS))


def is_same(factors: Sequence[float]) -> bool:
    """Whether an image is used as it is instead of with these factors."""
    return all(abs(factor - 1) < SAME for factor in factors)


def estimate_diameter(
    model: Scalable, image: Image, *, memory: int | str | None = None, device: str = "auto"
) -> Generator[Event, None, Estimate | None]:
    """Diameter of the objects in an image, `None` if none is found.

    At each scale the window with most detail is segmented. The scale that `judged` trusts most decides.
    """
    assert model.diameter is not None
    scaling = model.scaling(image)
    found = []
    for scale in SCALES[model.ndim]:
        factors = model.factors(image, scale)
        place = detailed_window(image, [WINDOW[model.ndim] / factor for factor in factors])
        part = Image(crop(image, place), f"C{image.axes.spatial_axes}", image.voxel_size, image.source)  # type: ignore[arg-type]
        prediction = yield from model.predict_steps(at_scale(part, factors), memory=memory, device=device, scaling=scaling)
        objects = model.decode(prediction)
        areas = np.bincount(objects.labels.ravel(), minlength=1)[1:]
        if len(areas):
            found.append(judged(areas, objects.confidence, scale, model))
    if not found:
        return None
    _, estimate = min(found, key=lambda entry: entry[0])
    return estimate


def judged(areas: np.ndarray, confidence: np.ndarray, scale: float, model: Scalable) -> tuple[float, Estimate]:
    """How little a scale is to be trusted, and the diameter that it gives, that of the median object.

    A scale is trusted where objects have the trained size, are found with confidence, and are many: groups of small objects look like a few
    large ones. The weights of the three were chosen on validation images.
    """
    assert model.diameter is not None
    median = float(np.median(equivalent_diameter(areas, model.ndim)))
    doubt = abs(np.log(median / model.diameter)) + 5 * (1 - confidence.mean()) + 1 / np.sqrt(len(areas))
    return float(doubt), Estimate(median / scale, len(areas))


def equivalent_diameter(sizes: np.ndarray, ndim: int) -> np.ndarray:
    """Diameter of the disk or ball with each number of voxels.

    Examples:
        >>> equivalent_diameter(np.array([np.pi]), 2), equivalent_diameter(np.array([np.pi / 6]), 3)
        (array([2.]), array([1.]))
    """
    return 2 * np.sqrt(sizes / np.pi) if ndim == 2 else np.cbrt(6 * sizes / np.pi)


def detailed_window(image: Image, edges: Sequence[float]) -> Region:
    """The window of these edges with the steepest intensities, among windows that overlap by a half."""
    shape = image.spatial_shape
    size = tuple(min(n, max(1, round(edge))) for n, edge in zip(shape, edges, strict=True))
    windows = [
        Region(tuple(start), tuple(a + n for a, n in zip(start, size, strict=True)))
        for start in product(*(_starts(n, k) for n, k in zip(shape, size, strict=True)))
    ]
    if len(windows) == 1:
        return windows[0]
    return max(windows, key=lambda window: _steepness(crop(image, window)))


def _starts(length: int, edge: int) -> list[int]:
    """Starts of windows that overlap by at least a half and cover a length.

    Examples:
        >>> _starts(10, 4), _starts(4, 4)
        ([0, 2, 4, 6], [0])
    """
    steps = int(np.ceil(2 * (length - edge) / edge))
    return [round(float(start)) for start in np.linspace(0, length - edge, steps + 1)]


def _steepness(block: np.ndarray) -> float:
    """Mean absolute difference of neighbours in C(Z)YX."""
    values = block.astype(np.float32)
    return float(sum(np.abs(np.diff(values, axis=axis)).mean() for axis in range(1, values.ndim) if values.shape[axis] > 1))
