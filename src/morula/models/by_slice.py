"""2D models on volumes, for users who have no 3D model.

Along one axis, every slice is segmented by itself, and the objects of neighbouring slices are joined where they overlap. Along three axes,
the channels of all slices that contain a voxel are averaged, and a 3D decoder makes objects of the averages. The ideas are those of
Cellpose (Stringer et al. 2021, https://doi.org/10.1038/s41592-020-01018-x)::

    axes z      objects of each xy slice              ->  joined along z
    axes zyx    channels of each xy, xz and yz slice  ->  mean  ->  3D decoder
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np

from morula.core.axes import Axes
from morula.core.errors import ModelError, OptionError
from morula.core.events import Event, Progress, Warned
from morula.core.image import Image
from morula.core.orientation import Orientation
from morula.core.voxel_size import VoxelSize
from morula.data.normalise import Normalisation
from morula.inference.predict import Array
from morula.labels.objects import Objects
from morula.labels.stitch import stitch
from morula.methods import METHODS
from morula.methods.base import Method
from morula.methods.channels import Channels
from morula.models.model import Model

SliceAxes: TypeAlias = Literal["z", "zyx"]
AXES: tuple[SliceAxes, ...] = ("z", "zyx")
STITCH_THRESHOLD = 0.25
"""Least intersection over union of the parts of an object in neighbouring slices."""
SLICES = ("slices",)
"""Task of the progress events, below that of the caller."""


def by_slices(model: Model, axes: SliceAxes = "z", *, stitch_threshold: float = STITCH_THRESHOLD) -> Model:
    """A model for volumes that applies a 2D model to their slices.

    Args:
        model: a 2D model.
        axes: ``"z"`` (xy slices, whose objects are joined) or ``"zyx"`` (xy, xz and yz slices, whose channels are averaged; for channels
            without directions, and for flows). With ``"zyx"`` the volume is resampled to cubic voxels first.
        stitch_threshold: least intersection over union of two parts of an object in neighbouring slices; with ``"z"`` only.

    Raises:
        ModelError: for a 3D model, or with ``"zyx"`` a model whose channels cannot be averaged.
        OptionError: for other axes, or a threshold outside 0 to 1.

    Examples:
        >>> import morula
        >>> labels = by_slices(morula.load("runs/nuclei")).segment(morula.read("volume.tif"))  # doctest: +SKIP
    """
    if axes not in AXES:
        raise OptionError("slices.axes", f"must be one of {', '.join(AXES)}", key="slices", value=axes)
    if not 0 < stitch_threshold <= 1:
        raise OptionError("stitch.threshold", "must be above 0 and at most 1", key="stitch_threshold", value=stitch_threshold)
    if model.ndim != 2:
        rule = "works with 2D models, and this model is 3D"
        raise ModelError("slices.model", rule, key="slices", value=axes, file=model.source, remedy="Leave it out, or name a 2D model.")
    size = VoxelSize(model.voxel_size.y, model.voxel_size.x, z=model.voxel_size.x, unit=model.voxel_size.unit)
    method = METHODS.load(model.job.method.kind)(model.job.method, model.job.objects, ndim=3, spacing=size.spacing(3))
    if axes == "zyx" and (reason := _cannot_average(method)):
        remedy = "Use the axis z alone."
        raise ModelError("slices.channels", reason, key="slices", value=axes, file=model.source, remedy=remedy)
    stitched = axes == "z" and method.instances
    shared = {field.name: getattr(model, field.name) for field in fields(Model)}
    shared |= {"method": model.method if stitched else method, "voxel_size": size}
    return SliceModel(**shared, plane=model, axes=axes, stitch_threshold=stitch_threshold if stitched else None)


@dataclass(frozen=True, eq=False, kw_only=True)
class SliceModel(Model):
    """A 2D model that is applied to the slices of volumes; made by `by_slices`."""

    plane: Model
    """The 2D model."""
    axes: SliceAxes
    stitch_threshold: float | None
    """Least intersection over union of parts that are joined; `None` where a 3D decoder makes the objects."""

    @property
    def ndim(self) -> int:
        """3: it takes volumes, although its network takes slices."""
        return 3

    def warnings(self, image: Image) -> list[str]:
        """As those of the 2D model for a slice."""
        return self.plane.warnings(_slice(image, 0))

    def factors(self, image: Image, scale: float) -> tuple[float, ...]:
        """Along one axis, slices are scaled and their number stays."""
        return (1.0, *self.plane.factors(_slice(image, 0), scale)) if self.axes == "z" else super().factors(image, scale)

    def sample(self, image: Image) -> tuple[Model, Image]:
        """The 2D model and the slice in the middle of the bright ones."""
        planes = image.canonical().mean(axis=(0, 2, 3), dtype=np.float64)
        bright = np.flatnonzero(planes >= planes.mean())
        return replace(self.plane, normalisation=self.scaling(image)), _slice(image, int(bright[len(bright) // 2]))

    def orientations(self) -> list[Orientation]:
        """Those of the slices."""
        return self.plane.orientations()

    @cached_property
    def _scaled_plane(self) -> Model:
        """The 2D model for slices whose intensities are on the common scale already."""
        scale = Normalisation((0.0,) * self.in_channels, (1.0,) * self.in_channels)
        return replace(self.plane, normalisation=scale, orientation=self.orientation)

    def block_problem(self) -> str:
        """The slices are predicted in memory."""
        return "a 2D model holds all slices in memory"

    def predict_steps(
        self,
        image: Image,
        *,
        memory: int | str | None = None,
        device: str = "auto",
        out: Array = None,
        scaling: Normalisation | None = None,
    ) -> Generator[Event, None, Array]:
        """Predict all slices; along three axes their mean on the grid of the image."""
        # one scale for the volume: an empty slice has none of its own
        volume, shape = (scaling or self.scaling(image)).apply(image.canonical()), image.spatial_shape
        if self.axes == "zyx":
            fine = min(image.spacing)
            volume = _resized(volume, tuple(max(1, round(n * step / fine)) for n, step in zip(shape, image.spacing, strict=True)))
        total, done = sum(volume.shape[1 + "zyx".index(axis)] for axis in self.axes), 0
        mean = np.zeros((len(self.method.channels), *volume.shape[1:]), np.float32)
        counts = np.zeros((len(mean), 1, 1, 1), np.float32)
        for axis in ("zyx".index(letter) for letter in self.axes):
            rows = self._rows(axis)
            counts[rows] += 1
            for target, part in zip(np.moveaxis(mean, 1 + axis, 0), np.moveaxis(volume, 1 + axis, 0), strict=True):
                steps = self._scaled_plane.predict_steps(Image(part, Axes("CYX")), memory=memory, device=device)
                target[rows] += yield from _warnings_of(steps, first=done == 0)
                done += 1
                yield Progress(done, total, "slice", task=SLICES)
        mean /= counts
        result = _resized(mean, shape) if self.axes == "zyx" else mean
        if out is None:
            return result
        out[...] = result
        return out

    def _rows(self, axis: int) -> list[int]:
        """Where each predicted channel of slices across an axis belongs in the channels of the volume."""
        if self.stitch_threshold is not None or not isinstance(self.method, Channels):
            return list(range(len(self.method.channels)))
        rows: list[int] = []
        start = 0
        for representation in self.method.representations:
            width = representation.width(3)
            # the vectors of a slice have no component along the axis that it is cut across
            rows += [start + i for i in range(width) if not (representation.flow_vectors and i == axis)]
            start += width
        return rows + list(range(start, len(self.method.channels)))

    def decode(self, prediction: np.ndarray, image: Image | None = None, *, tell: Callable[[str], None] = lambda _: None) -> Objects:
        """Objects of the slices, joined; along three axes those of the 3D decoder."""
        if self.stitch_threshold is None:
            return super().decode(prediction, image, tell=tell)
        method = self.plane.method
        parameters = method.fit(method.statistics(prediction))  # those of the whole volume: an empty slice has no threshold of its own
        planes = [method.decode(np.ascontiguousarray(prediction[:, z]), parameters) for z in range(prediction.shape[1])]
        return joined(planes, self.stitch_threshold)


def joined(planes: Sequence[Objects], threshold: float) -> Objects:
    """The objects of slices as 3D objects; their confidence (and that of a class) is the mean over their voxels.

    Examples:
        >>> slices = [Objects(np.array([[1, 1]]), np.array([0.5], np.float32)), Objects(np.array([[1, 0]]), np.array([0.8], np.float32))]
        >>> both = joined(slices, 0.5)
        >>> both.labels.tolist(), both.confidence.astype(float).round(2).tolist()
        ([[[1, 1]], [[1, 0]]], [0.6])
    """
    labels = stitch(np.stack([plane.labels for plane in planes]), threshold)
    count = int(labels.max())
    sizes, confidence = np.zeros(count + 1), np.zeros(count + 1)
    classed = planes[0].classes is not None
    votes = np.zeros((count + 1, 1 + max((int(plane.classes.max(initial=0)) for plane in planes if plane.classes is not None), default=0)))
    for plane, result in zip(planes, labels, strict=True):
        voxels = np.bincount(plane.labels.ravel(), minlength=len(plane) + 1)[1:]
        owner = np.zeros(len(plane) + 1, np.int64)
        owner[plane.labels.ravel()] = result.ravel()
        np.add.at(sizes, owner[1:], voxels)
        np.add.at(confidence, owner[1:], voxels * plane.confidence)
        if plane.classes is not None and plane.class_confidence is not None:
            np.add.at(votes, (owner[1:], plane.classes), voxels * plane.class_confidence)
    mean = (confidence[1:] / np.maximum(sizes[1:], 1)).astype(np.float32)
    if not classed:
        return Objects(labels, mean)
    share = votes[1:].max(axis=1) / np.maximum(sizes[1:], 1)
    return Objects(labels, mean, classes=votes[1:].argmax(axis=1), class_confidence=share.astype(np.float32))


def _cannot_average(method: Method) -> str | None:
    """Why channels of slices along three axes have no mean, or `None` where they have one."""
    if not isinstance(method, Channels):
        return None
    directed = [channel.code for channel in method.representations if channel.width(2) != 1 and not channel.flow_vectors]
    directed += [channel.code for channel in method.representations if channel.centre_offset_axis is not None]
    if directed:
        return f"cannot average {', '.join(directed)}, which depend on the direction, over slices along three axes"
    problems = method.dimension_problems()
    return f"cannot decode in 3D: {problems[0].rule}" if problems else None


def _slice(image: Image, position: int) -> Image:
    """The xy slice of a volume at a position along z."""
    size = image.voxel_size
    flat = None if size is None else VoxelSize(size.y, size.x, unit=size.unit)
    return Image(image.lazy()[:, position], Axes("CYX"), flat, image.source)


def _warnings_of(steps: Generator[Event, None, Array], *, first: bool) -> Generator[Event, None, Array]:
    """Of the events of a slice only the warnings of the first one: they are the same for all."""
    while True:
        try:
            event = next(steps)
        except StopIteration as end:
            return end.value
        if first and isinstance(event, Warned):
            yield event


def _resized(channels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Channels K ZYX on a grid of another shape over the same space, linearly interpolated."""
    from scipy.ndimage import zoom

    factors = [new / old for new, old in zip(shape, channels.shape[1:], strict=True)]
    return np.stack([zoom(channel, factors, order=1, mode="nearest", grid_mode=True) for channel in channels])
