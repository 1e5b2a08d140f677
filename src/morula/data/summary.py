"""Summary of images and labels: what planning needs to know, and what a user should check before training."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from morula.core.errors import DataError
from morula.core.image import Image
from morula.core.label_image import check_labels, compact_ids
from morula.core.region import Region
from morula.core.remark import Remark
from morula.data.crop import crop
from morula.data.intensity import LIMIT, Distribution, distributions
from morula.kernels.geometry import geometry

_VOXELS = 2**26  # of a larger label image only a central block is read
SHARES = (5, 25, 50, 75, 95)
"""Percentiles of object sizes that are reported."""


@dataclass(frozen=True)
class Intensity:
    """Intensities of one channel over all images. `saturated` is the share of clipped voxels at the highest value, else 0."""

    low: float
    percentile_1: float
    median: float
    percentile_99_8: float
    high: float
    saturated: float


@dataclass(frozen=True)
class Objects:
    """Objects of all label images together. Sizes are the 5th, 25th, 50th, 75th and 95th percentile of objects that no border cuts.

    Attributes:
        count: number of objects.
        per_image: number of objects per image.
        foreground: share of voxels in objects.
        largest_label: highest label.
        voxels: sizes in voxels, one per percentile.
        diameters: diameters of discs or balls of equal size, in the unit of the spacing, one per percentile.
        edges: edges of bounding boxes (Z)YX in voxels, one tuple per percentile.
    """

    count: int
    per_image: tuple[int, ...]
    foreground: float
    largest_label: int
    voxels: tuple[float, ...] = ()
    diameters: tuple[float, ...] = ()
    edges: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class DataSummary:
    """Result of `describe`. `shapes` maps spatial shapes (Z)YX to numbers of images; `constant` names images with a single value."""

    images: int
    ndim: int
    shapes: dict[tuple[int, ...], int]
    dtype: str
    spacings: dict[tuple[float, ...], int]
    unit: str
    intensities: tuple[Intensity, ...]
    constant: tuple[str, ...] = ()
    objects: Objects | None = None

    @property
    def warnings(self) -> list[str]:
        """What a user should check before training, as sentences."""
        found = [f"{name} is constant: every voxel has the same value. Check the file." for name in self.constant]
        for number, channel in enumerate(self.intensities):
            if channel.saturated:
                found.append(
                    f"{channel.saturated:.1%} of the voxels{f' of channel {number}' if len(self.intensities) > 1 else ''} are saturated at "
                    f"{channel.high:g}. Shorten the exposure if you can acquire the images again."
                )
        if len(self.spacings) > 1:
            found.append(f"the images have {len(self.spacings)} different voxel sizes, so objects differ in size. Resample them.")
        if self.objects is not None and self.objects.count == 0:
            found.append("the labels contain no object. Check that they are the right files.")
        return found

    def lines(self) -> list[str]:
        """The summary as lines of text, warnings last."""
        lines = [f"{self.images} image{'s' * (self.images != 1)} in {self.ndim}D, {self.dtype}, {_spread(self.shapes)} voxels"]
        stated = self.unit != "pixel" or set(self.spacings) != {(1.0,) * self.ndim}
        lines.append(f"voxel size {_spread(self.spacings)} {self.unit}" if stated else "voxel size unknown: lengths are in voxels")
        for number, channel in enumerate(self.intensities):
            name = f"channel {number} " if len(self.intensities) > 1 else ""
            lines.append(
                f"{name}intensity {channel.low:g} to {channel.high:g}, median {channel.median:g}, "
                f"1st and 99.8th percentile {channel.percentile_1:g} and {channel.percentile_99_8:g}"
            )
        if self.objects is not None:
            lines += _object_lines(self.objects, self.unit)
        return lines + [f"warning: {text}" for text in self.warnings]


def _spread(found: dict[tuple[int, ...], int] | dict[tuple[float, ...], int]) -> str:
    """The tuple, or the smallest and the largest value per axis."""
    low, high = (tuple(pick(axis) for axis in zip(*found, strict=True)) for pick in (min, max))
    words = [" x ".join(f"{n:g}" for n in lengths) for lengths in (low, high)]
    return words[0] if low == high else f"{words[0]} to {words[1]}"


def _object_lines(objects: Objects, unit: str) -> list[str]:
    lines = [
        f"{objects.count} objects, {min(objects.per_image)} to {max(objects.per_image)} per image, {objects.foreground:.1%} foreground"
    ]
    if objects.voxels:
        box = " x ".join(f"{edge:g}" for edge in objects.edges[2])
        lines.append(
            f"object size: median {objects.voxels[2]:.4g} voxels (5 to 95 %: {objects.voxels[0]:.4g} to {objects.voxels[-1]:.4g}), "
            f"diameter {objects.diameters[2]:.3g} {unit} ({objects.diameters[0]:.3g} to {objects.diameters[-1]:.3g}), box {box} voxels"
        )
    return lines


def describe(images: Sequence[Image], labels: Sequence[Image] = ()) -> DataSummary:
    """Summarise images and label images; of very large ones, parts are read.

    Raises:
        DataError: without images, for empty ones, values that are not finite, or label values that are no labels.

    Examples:
        >>> image = np.arange(64, dtype=np.uint8).reshape(8, 8)
        >>> print("\\n".join(describe([Image(image, "YX")], [Image(image // 40, "YX")]).lines()[:3]))
        1 image in 2D, uint8, 8 x 8 voxels
        voxel size unknown: lengths are in voxels
        intensity 0 to 63, median 31.5, 1st and 99.8th percentile 0.63 and 62.874
    """
    if not images:
        raise DataError("images.none", "there is no image to summarise", remedy="Give at least one.")
    limit = max(LIMIT // len(images), 2**18)
    per_image = [distributions(image, limit) for image in images]
    n_channels = max(map(len, per_image))
    channels = [Distribution.merge([parts[c] for parts in per_image if c < len(parts)]) for c in range(n_channels)]
    constant = tuple(
        image.source or f"image {i + 1}"
        for i, (image, parts) in enumerate(zip(images, per_image, strict=True))
        if all(p.low == p.high for p in parts)
    )
    units = [image.voxel_size.unit for image in images if image.voxel_size is not None]
    return DataSummary(
        images=len(images),
        ndim=images[0].ndim_spatial,
        shapes=dict(Counter(image.spatial_shape for image in images)),
        dtype="/".join(dict.fromkeys(str(image.dtype) for image in images)),
        spacings=dict(Counter(image.spacing for image in images)),
        unit=units[0] if units else "pixel",
        intensities=tuple(map(_intensity, channels)),
        constant=constant,
        objects=_objects(labels) if labels else None,
    )


def _intensity(channel: Distribution) -> Intensity:
    top, share = channel.counts[-1], float(channel.counts[-1] / channel.n)
    # images with few values are masks or drawings; in others counts decrease towards the highest value unless values were clipped
    saturated = share if len(channel.values) > 16 and share > 1e-3 and top > 4 * channel.counts[-2] else 0.0
    return Intensity(channel.low, channel.percentile(1), channel.percentile(50), channel.percentile(99.8), channel.high, saturated)


def middle(shape: Sequence[int], limit: int) -> Region:
    """A central block of at most about `limit` voxels with the proportions of the image."""
    share = min(1.0, (limit / math.prod(shape)) ** (1 / len(shape)))
    edges = [max(1, int(n * share)) for n in shape]
    start = tuple((n - edge) // 2 for n, edge in zip(shape, edges, strict=True))
    return Region(start, tuple(a + edge for a, edge in zip(start, edges, strict=True)))


def looks_grey(array: np.ndarray) -> bool:
    """Whether an array (Z)YX looks like a grey image and not like labels: most neighbouring voxels have different values.

    Objects are of one value each, so that in labels neighbours differ at the borders of objects alone.

    Examples:
        >>> looks_grey(np.random.default_rng(0).integers(500, 1500, (32, 32))), looks_grey(np.kron(np.eye(4, dtype=int), np.ones((8, 8))))
        (True, False)
    """
    if array.ndim < 2 or min(array.shape[-2:]) < 8:
        return False
    values = array if array.ndim == 2 else array[len(array) // 2]
    differ = float(np.mean(values[:, 1:] != values[:, :-1]))
    return differ > GREY and np.unique(values).size > 16


_FEW = 4
"""Most ids of a label image that may be one of classes, not of objects."""
GREY = 0.5
"""Share of neighbours with different values from which labels count as a grey image; objects of 4 pixels edge length reach 0.25."""


def object_label_warnings(labels: Iterable[tuple[Image, int | None]], limit: int = 2**22) -> list[Remark]:
    """Warnings about label images that do not look like labels of objects: no object, or a single id in many pieces, as in masks.

    Args:
        labels: label images (Z)YX, each with the value of its unannotated voxels.
        limit: about the number of voxels that are read per image: a central block.

    Examples:
        >>> mask = np.kron(np.eye(4, dtype=np.uint8), np.ones((3, 3), np.uint8))
        >>> object_label_warnings([(Image(255 * mask, "YX"), None)])[0][:55]
        'the label images contain a single id, such as 255, in 4'
    """
    inspected = with_objects = pieces = 0
    only: set[int] = set()
    labels = list(labels)
    if grey := [image.source or "an image" for image, _ in labels if looks_grey(crop(image, middle(image.spatial_shape, limit))[0])]:
        text = (
            f"{len(grey)} of {len(labels)} label images, such as {grey[0]}, look like grey images: almost every voxel differs from its "
            "neighbours. Check that these are the label images and not the raw ones."
        )
        return [Remark("labels.grey", text)]
    for image, unlabelled in labels:
        block = crop(image, middle(image.spatial_shape, limit))[0]
        inspected += 1
        values = np.unique(block).tolist()
        ids = [value for value in values if value not in (0, unlabelled)]
        if len(ids) > _FEW or (len(ids) > 1 and unlabelled is not None):
            return []
        if ids and len(values) > 1:
            only.update(ids)
            with_objects += len(ids)
            # annotated slices divide one object
            pieces += sum(int(scipy.ndimage.label(block == label)[1]) for label in ids) if unlabelled is None else 1
    if inspected and not with_objects:
        text = "the label images contain no object, or one without background (only the centre of large ones was read). Check the files."
        return [Remark("labels.empty", text)]
    if pieces >= 3 * with_objects > 0:
        ids_text = f"a single id, such as {min(only)}," if len(only) == 1 else f"only the ids {', '.join(map(str, sorted(only)))}"
        text = (
            f"the label images contain {ids_text} in {pieces} pieces. They look like masks, in which touching objects are one. Give every "
            "object its own id, make one of each connected component (images.components: true; --components), or use method: semantic for "
            "masks."
        )
        return [Remark("labels.mask", text)]
    return []


def _objects(labels: Iterable[Image]) -> Objects:
    counts, inside, total, largest = [], 0, 0, 0
    rows: list[np.ndarray] = []  # columns: cut by a border, voxels, diameter, edges (Z)YX; one row per object
    for image in labels:
        block = check_labels(crop(image, middle(image.spatial_shape, _VOXELS))[0])
        largest = max(largest, int(block.max(initial=0)))
        table = _measured(block, image.spacing)
        counts.append(len(table))
        inside += int(table[:, 1].sum())
        total += block.size
        rows.append(table)
    if not sum(counts):
        return Objects(0, tuple(counts), 0.0, largest)
    objects = np.concatenate(rows)
    whole = objects[objects[:, 0] == 0]  # objects cut by a border look smaller than they are
    shares = np.percentile(whole if len(whole) else objects, SHARES, axis=0)
    return Objects(
        count=sum(counts),
        per_image=tuple(counts),
        foreground=inside / total,
        largest_label=largest,
        voxels=tuple(shares[:, 1].tolist()),
        diameters=tuple(shares[:, 2].tolist()),
        edges=tuple(map(tuple, shares[:, 3:].tolist())),
    )


def _measured(block: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    shapes = geometry(*compact_ids(block))
    ids = shapes.ids
    # objects that touch a border may continue outside of the image
    touching = (shapes.starts[ids] == 0) | (shapes.stops[ids] == block.shape)
    touching[:, [n == 1 for n in block.shape]] = False  # in a volume of one plane, objects are not cut along z
    volume = shapes.sizes[ids] * math.prod(spacing)
    diameter = 2 * np.sqrt(volume / np.pi) if block.ndim == 2 else np.cbrt(6 * volume / np.pi)
    return np.column_stack([touching.any(axis=1), shapes.sizes[ids], diameter, shapes.stops[ids] - shapes.starts[ids]])
