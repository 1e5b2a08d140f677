"""Patches of images and their targets. A patch is a pure function of (seed, epoch, index), in every process.

Labels are read with a margin, `context`, because targets such as distances depend on objects just outside of the patch::

    +-----------------------+      read and warped: image without, labels with the margin
    |  context              |      encoded: labels with the margin (cut at the end of the image)
    |    +-------------+    |      used: the patch
    |    |    patch    |    |
    |    +-------------+    |
    +-----------------------+
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike

from morula.core.errors import DataError, OptionError
from morula.core.image import Image
from morula.core.region import Region
from morula.data.augment.base import AnyAugmentation, Draw, Spatial, draw
from morula.data.components import separate_parts
from morula.data.crop import cache_in_memory, check_region
from morula.data.labelled_voxels import LabelledVoxels, annotated_voxels, foreground
from morula.data.layers import Layer, read_layers
from morula.data.left_out import used_boxes
from morula.data.normalise import Normalisation, PatchNormalisation
from morula.data.placement import change_of_scale, turned
from morula.data.sampling import Boxes, Grid, Options, box_around, middle_box, random_box, steps

CACHE = 2**30
"""Bytes of decoded images that are held in memory."""


@dataclass(frozen=True, eq=False)
class Source:
    """An image to take patches from, with its labels. All images have the same spatial shape (Z)YX.

    Attributes:
        image: the image.
        labels: integers (objects or classes, resampled to the nearest neighbour) or floats (an image to be predicted, resampled linearly);
            several channels are passed on together.
        name: name in messages.
        classes: second label image, of classes.
        weights: image of factors for the loss, interpolated as the image is.
        unlabelled: label of unannotated voxels.
        region: the box that may be read; the whole image when left out.
    """

    image: Image
    labels: Image | None = None
    name: str = ""
    classes: Image | None = None
    weights: Image | None = None
    unlabelled: int | None = None
    region: Region | None = None

    @property
    def extent(self) -> Region:
        """The box that may be read."""
        return self.region or Region.whole(self.image.spatial_shape)

    @property
    def title(self) -> str:
        """Name for messages."""
        return self.name or self.image.source or "an image"

    def check(self, ndim: int) -> None:
        """Check that the images fit each other and the patch.

        Raises:
            DataError: when they do not.
        """
        name = self.title
        if self.image.ndim_spatial != ndim:
            raise DataError(
                "patch.dimensions",
                f"the image is {self.image.ndim_spatial}D (axes {self.image.axes}, shape {self.image.shape}) but the patch is {ndim}D",
                file=name,
                remedy=f"Give a patch of {self.image.ndim_spatial} edges, or state the axes of the image.",
            )
        check_region(self.image, self.extent, name)
        shape = self.image.spatial_shape
        for what, part in (("labels", self.labels), ("classes", self.classes), ("weights", self.weights)):
            if part is not None and part.spatial_shape != shape:
                raise DataError(
                    "labels.shape", f"the {what} must have the shape of the image, {shape}", key=what, value=part.spatial_shape, file=name
                )


class TargetsLike(Protocol):
    """Targets of the training: channels K(Z)YX, weights that broadcast to them, and optionally the label image."""

    channels: np.ndarray
    weights: np.ndarray
    instances: np.ndarray | None


Pretext = Callable[[np.ndarray, np.random.Generator], Mapping[str, np.ndarray]]
"""``pretext(image, rng)`` gets the final patch C(Z)YX and returns entries of the sample to add or replace."""

Targets = Callable[..., Any]
"""``targets(labels)``, with ``classes=`` and ``unlabelled=`` where the source has them, returns `TargetsLike`; with a context also
``relevant=``, a mask of unannotated voxels and of objects that reach into the patch, and with `PatchDataset.random_targets` ``rng=``."""


@dataclass(frozen=True, eq=False)
class PatchDataset:
    """Patches of sources: sampled, normalised, augmented and encoded.

    Attributes:
        sources: images to take patches from.
        patch: edges (Z)YX in voxels; `None` where `grids` has patches of several shapes.
        normalisation: one record for all sources, or one per source.
        sampling: how patches are positioned.
        augmentations: in the order in which they are drawn.
        targets: encodes the warped labels of the patch with a margin of `context` voxels, which is then cut off. The margin ends at
            the end of the image: targets are those of the whole image, and reflect padding would duplicate objects.
        context: width of the margin (Z)YX in voxels.
        seed: seed of all random numbers.
        pretext: makes a task from the image of the patch itself, for example by hiding or degrading a part of it.
        grids: positions of the patches in each source, instead of those of `sampling`.
        orders: order of the interpolation of ``image``, ``labels`` or ``weights``, where it is not that of `sampling` or of their type.
        label_type: type of integer labels. In unsigned types the label -1 is the largest value.
        label_scales: normalisation of the labels of each source, where these are images.
        target_type: type of the targets; `None` for that which `targets` gives.
        random_targets: whether `targets` draws random numbers.
        renormalisation: of each patch, after its augmentations.
        with_labels: whether samples hold their labels, 0 where they are not annotated.
        cache: bytes of decoded images that are held in memory.

    Raises:
        DataError: for sources that do not fit each other, or targets without labels.
        OptionError: for a patch with an edge below 1.
    """

    sources: Sequence[Source]
    patch: tuple[int, ...] | None
    normalisation: Normalisation | Sequence[Normalisation]
    sampling: Options = field(default_factory=Options)
    augmentations: Sequence[AnyAugmentation] = ()
    targets: Targets | None = None
    context: tuple[int, ...] | None = None
    seed: int = 0
    pretext: Pretext | None = None
    grids: Sequence[Boxes] | None = None
    orders: Mapping[str, int] = field(default_factory=dict)
    label_type: DTypeLike = np.uint32
    label_scales: Sequence[Normalisation] = ()
    target_type: DTypeLike | None = np.float32
    random_targets: bool = False
    renormalisation: PatchNormalisation | None = None
    with_labels: bool = False
    cache: int = CACHE

    def __post_init__(self) -> None:
        object.__setattr__(self, "patch", None if self.patch is None else tuple(self.patch))
        if not self.sources:
            raise DataError("images.none", "there is no image to take patches from", remedy="Give at least one.")
        if self.patch is not None and min(self.patch) < 1:
            raise OptionError("patch.too_small", "every edge must be at least 1 voxel", key="patch", value=self.patch)
        for source in self.sources:
            source.check(self.sources[0].image.ndim_spatial if self.patch is None else len(self.patch))
            if self.targets is not None and source.labels is None:
                raise DataError(
                    "labels.missing", "the method needs labels of the image", file=source.title, remedy="Give it labels, or leave it out."
                )
        if not isinstance(self.normalisation, Normalisation) and len(self.normalisation) != len(self.sources):
            raise DataError(
                "normalisation.count",
                f"must be one, or one for each of {len(self.sources)} images",
                key="normalisation",
                value=len(self.normalisation),
            )

    @property
    def warnings(self) -> list[str]:
        """What a user should know about the images, as sentences."""
        found = []
        for source in self.sources if self.patch is not None else ():
            shape = source.extent.shape
            assert self.patch is not None
            if any(n < p for n, p in zip(shape, self.patch, strict=True)):
                found.append(
                    f"{source.title} has {shape} voxels and is smaller than the patch {self.patch}: it is reflect-padded, and the padding "
                    "has no weight in the loss. Choose a smaller patch to avoid this."
                )
        sparse = [known for known in self._labelled if known is not None]
        if sparse and all(known.all for known in sparse):
            value = next(source.unlabelled for source in self.sources if source.unlabelled is not None)
            found.append(
                f"every voxel of the label images is annotated: none has the value {value} of unannotated voxels or is outside a mask. "
                "Set images.ignore_label to the value in your images, or leave it out."
            )
        return found

    @cached_property
    def _grids(self) -> Sequence[Boxes]:
        if self.grids is not None:
            return self.grids
        assert self.patch is not None
        cell = self.sampling.cell
        patch, step = cell or self.patch, steps(cell or self.patch, self.sampling.overlap)
        if self.sampling.kind == "centre" and cell is None:
            grids = [Grid(middle_box(source.extent, patch), patch, patch) for source in self.sources]
        else:
            grids = [Grid(source.extent, patch, step) for source in self.sources]
        records = self.normalisation
        scales = [records] * len(grids) if isinstance(records, Normalisation) else list(records)
        chosen = used_boxes(self.sources, grids, self.sampling, scales)
        if self.sampling.kind == "random":
            return chosen
        # a patch without annotated voxels has no weight in the loss
        return [
            grid if known is None else [box for box in map(grid.__getitem__, range(len(grid))) if known.touches(box)]
            for grid, known in zip(chosen, self._labelled, strict=True)
        ]

    @cached_property
    def _labelled(self) -> list[LabelledVoxels | None]:
        """Annotated voxels of each source; `None` where all voxels are annotated.

        Raises:
            DataError: when a source has no annotated voxel.
        """
        annotated: list[LabelledVoxels | None] = []
        for number, source in enumerate(self.sources):
            # the images are not read where nothing asks for their labels
            if source.labels is None or source.unlabelled is None or not self.sampling.only_annotated:
                annotated.append(None)
            else:
                annotated.append(annotated_voxels(self._label_image(number), source.extent, source.unlabelled, source.title))
        return annotated

    @cached_property
    def _foreground(self) -> list[LabelledVoxels | None]:
        """Foreground of each source; `None` where there is none, and where no patch is centred on it."""
        wanted = self.sampling.kind == "random" and self.sampling.foreground > 0
        found = [
            LabelledVoxels(self._label_image(number), source.extent, foreground(source.unlabelled))
            if wanted and source.labels is not None
            else None
            for number, source in enumerate(self.sources)
        ]
        return [voxels or None for voxels in found]

    def _label_image(self, number: int) -> Image:
        """The label image of a source, in memory where it fits."""
        return next(layer.image for layer in self._layers[number] if layer.name == "labels")

    @cached_property
    def counts(self) -> np.ndarray:
        """Number of boxes of each source that are used."""
        return np.array([len(grid) for grid in self._grids])

    @cached_property
    def _ends(self) -> list[int]:
        return list(map(int, np.cumsum(self.counts)))

    def __len__(self) -> int:
        stated = self.sampling.patches_per_epoch
        if stated == "images":
            return int(np.count_nonzero(self.counts))
        return stated if isinstance(stated, int) else self._ends[-1]

    def place(self, epoch: int, index: int) -> tuple[int, Region]:
        """Number of the source and box of a patch, before augmentation.

        Over epochs, every box of the grid is used once before any is used twice. Of a random patch this only determines the source.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        total = self._ends[-1]
        turn, position = divmod(epoch * len(self) + index, total)
        if self.sampling.patches_per_epoch == "images":  # in each image one box after the other
            image = int(np.flatnonzero(self.counts)[index])
            position = self._ends[image] - 1 - epoch % int(self.counts[image])
        elif len(self) != total:
            position = int(_permutation(self.seed, turn, total)[position])
        # patches of all sources are numbered consecutively
        number = bisect_right(self._ends, position)
        source, grid = self.sources[number], self._grids[number]
        if self.sampling.kind != "random":
            box = grid[position - (self._ends[number] - len(grid))]
            return number, box if self.sampling.cell is None else self._in_cell(box, epoch, index)
        assert self.patch is not None
        rng = self._rng(epoch, index, 0)
        # the number is drawn for images without foreground, too: random positions depend on the seed and the presence of labels alone
        centred = source.labels is not None and rng.random() < self.sampling.foreground
        if centred and (voxels := self._foreground[number]) is not None:
            return number, box_around(voxels.voxel(rng), source.extent, self.patch)
        if (labelled := self._labelled[number]) is not None:
            return number, labelled.box(self.patch, rng)
        return number, random_box(source.extent, self.patch, rng)

    def _in_cell(self, cell: Region, epoch: int, index: int) -> Region:
        """The patch in a cell."""
        assert self.patch is not None
        if self.sampling.kind == "centre":
            return middle_box(cell, self.patch)
        rng = self._rng(epoch, index, 0)
        rng.random()  # the number that decides between random and labelled positions in whole images
        return random_box(cell, self.patch, rng)

    def _rng(self, epoch: int, index: int, stream: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, epoch, index, stream))

    def augmentations_of(self, number: int) -> Sequence[AnyAugmentation]:
        """The augmentations of the patches of a source."""
        del number
        return self.augmentations

    def draw(self, epoch: int, index: int) -> Draw:
        """The record of the augmentations of a patch."""
        return self._drawn(*self.place(epoch, index), epoch, index)[1]

    def _drawn(self, number: int, region: Region, epoch: int, index: int) -> tuple[Region, Draw]:
        """The box that is read for a patch, and the record of its augmentations."""
        source, augmentations = self.sources[number], self.augmentations_of(number)
        spacing = source.image.spacing
        drawn = draw(augmentations, self._rng(epoch, index, 1), region.shape, spacing)
        box = turned(region, drawn.orientation, source.extent)
        if drawn.warp is not None and box.shape != region.shape:
            # a field of displacements has the shape of the box
            moves = [augmentation for augmentation in augmentations if isinstance(augmentation, Spatial)]
            drawn = replace(drawn, warp=draw(moves, self._rng(epoch, index, 0), box.shape, spacing).warp)
        most, share = self.sampling.scale_voxels, self.sampling.scale_probability
        if most is not None and self._rng(epoch, index, 3).random() < share:
            rescaling = change_of_scale(box, source.extent, most, self._rng(epoch, index, 4), spacing)
            drawn = replace(drawn, warp=rescaling if drawn.warp is None else drawn.warp.then(rescaling))
        return box, drawn

    def sample(self, epoch: int, index: int) -> dict[str, np.ndarray]:
        """The patch of this number as a mapping.

        ``image`` C(Z)YX float32, ``weights`` (0 in the padding), ``name`` of the source, and for labelled sources ``targets`` K(Z)YX
        and, for methods with objects, ``instances`` (Z)YX; ``labels`` (Z)YX where they are wanted.
        """
        number, region = self.place(epoch, index)
        region, drawn = self._drawn(number, region, epoch, index)
        source = self.sources[number]
        layers, there = read_layers(self._layers[number], source.extent, source.image.spacing, region, drawn, self._margin(drawn))
        inner = self._inner(there)
        inside = there[inner.slices]
        record = self.normalisation if isinstance(self.normalisation, Normalisation) else self.normalisation[number]
        scaled = record.apply(layers["image"]) if isinstance(record, PatchNormalisation) else layers["image"]
        image = drawn.apply_intensity(scaled, source.image.spacing)
        image = image if self.renormalisation is None else self.renormalisation.apply(image)
        sample = {"image": np.ascontiguousarray(image, np.float32), "name": np.array(source.title)}
        weights = (np.ones_like(inside) if self.sampling.score_padding else inside)[None].astype(np.float32)
        if "weights" in layers:
            weights = weights * layers["weights"]
        if self.targets is not None:
            sample |= self._encoded(number, layers, weights, there, self._rng(epoch, index, 2))
        else:
            sample["weights"] = weights
        if self.pretext is not None:
            sample |= self.pretext(sample["image"], self._rng(epoch, index, 2))
        return sample

    def _encoded(
        self, number: int, layers: Mapping[str, np.ndarray], weights: np.ndarray, there: np.ndarray, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        assert self.targets is not None
        source = self.sources[number]
        inner = self._inner(there)
        around = any(inner.start)
        box = _bounds(there) if around and there[inner.slices].any() else Region.whole(there.shape)
        # cut the padding off before encoding: reflected labels would be additional objects
        labels = np.ascontiguousarray(layers["labels"][(slice(None), *box.slices)])
        extra: dict[str, Any] = {"rng": rng} if self.random_targets else {}
        if source.unlabelled is not None:
            value = source.unlabelled if labels.dtype.kind == "f" else source.unlabelled % 2**32  # -1 was stored as the largest label
            unlabelled = (labels == value).any(axis=0)
            labels = np.where(unlabelled[None], labels.dtype.type(0), labels)
            extra["unlabelled"] = unlabelled
            # unannotated voxels have no weight in the loss
            weights = weights * ~_cut(unlabelled, box, inner)[None]
        if self.label_scales:
            labels = self.label_scales[number].apply(labels)
        if self.sampling.separate_parts:
            labels = np.stack([separate_parts(channel) for channel in labels])
        if around:
            reaching = np.isin(labels[0], np.unique(_cut(labels[0], box, inner))) if len(labels) == 1 else True
            extra["relevant"] = there[box.slices] & (reaching | extra.get("unlabelled", False))
        if "classes" in layers:
            extra["classes"] = _single(layers["classes"][(slice(None), *box.slices)])
        made = self.targets(_single(labels), **extra)
        result = {"labels": _cut(labels[0], box, inner)} if self.with_labels else {}
        result |= {
            "targets": np.ascontiguousarray(_cut(made.channels, box, inner), self.target_type),
            "weights": np.ascontiguousarray(_cut(made.weights, box, inner) * weights, np.float32),
        }
        if made.instances is not None:
            instances = _cut(made.instances, box, inner)
            result["instances"] = np.where(weights.any(axis=0), instances, instances.dtype.type(0))
        return result

    def _margin(self, drawn: Draw) -> tuple[int, ...]:
        """The context in the axis order before the orientation is applied."""
        permutation = drawn.orientation.permutation
        context = self.context or (0,) * len(permutation)
        return tuple(context[permutation.index(axis)] for axis in range(len(context)))

    def _inner(self, there: np.ndarray) -> Region:
        """The patch as a box in its context."""
        context = self.context or (0,) * there.ndim
        return Region(tuple(context), tuple(n - m for n, m in zip(there.shape, context, strict=True)))

    @cached_property
    def _layers(self) -> list[list[Layer]]:
        """The images of each source, in memory where they fit."""
        records = self.normalisation
        layers = []
        for number, source in enumerate(self.sources):
            record = records if isinstance(records, Normalisation) else records[number]
            per_patch = isinstance(record, PatchNormalisation)  # measured after the warp
            order = self.orders.get("image", self.sampling.spline_order)
            parts = [Layer("image", source.image, order, normalisation=None if per_patch else record)]
            if source.labels is not None:
                linear = source.labels.dtype.kind == "f"
                order = self.orders.get("labels", int(linear))
                parts.append(Layer("labels", source.labels, order, np.float32 if linear else self.label_type, margin=True))
            if source.classes is not None:
                parts.append(Layer("classes", source.classes, 0, np.uint32, margin=True))
            if source.weights is not None:
                parts.append(Layer("weights", source.weights, self.orders.get("weights", self.sampling.spline_order)))
            layers.append(parts)
        # one budget for the images of all sources, in order
        images = iter(cache_in_memory([layer.image for parts in layers for layer in parts], self.cache))
        return [[replace(layer, image=next(images)) for layer in parts] for parts in layers]

    def preload(self) -> None:
        """Load the images that fit into memory and search the labelled voxels now, so that worker processes share them."""
        _ = self._layers, self._labelled, self._foreground


def _bounds(mask: np.ndarray) -> Region:
    """Bounding box of the true voxels, of which there is at least one."""
    places = [np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis))) for axis in range(mask.ndim)]
    return Region(tuple(int(place[0]) for place in places), tuple(int(place[-1]) + 1 for place in places))


def _cut(array: np.ndarray, box: Region, inner: Region) -> np.ndarray:
    """The patch (..., (Z)YX) of an array that covers the part `box` of the context; 0 outside of that part."""
    common = inner.intersect(box)
    assert common is not None
    source: tuple[Any, ...] = (..., *common.shift([-a for a in box.start]).slices)
    part: np.ndarray = array[source]
    if common == inner:
        return part
    out = np.zeros((*part.shape[: -len(inner.shape)], *inner.shape), part.dtype)
    target: tuple[Any, ...] = (..., *common.shift([-a for a in inner.start]).slices)
    out[target] = part
    return out


def _single(labels: np.ndarray) -> np.ndarray:
    """Labels (Z)YX if there is one channel, C(Z)YX otherwise."""
    return labels[0] if len(labels) == 1 else labels


@lru_cache(maxsize=4)
def _permutation(seed: int, turn: int, total: int) -> np.ndarray:
    return np.random.default_rng((seed, turn, total)).permutation(total)
