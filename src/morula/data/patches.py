"""Patches of images and their targets. A patch is a pure function of (seed, epoch, index), whoever asks for it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import Any, Protocol

import numpy as np

from morula.core.errors import DataError, OptionError
from morula.core.image import Image
from morula.core.reflect_pad import read_reflected
from morula.core.region import Region
from morula.data.augment.base import Augmentation, Draw, draw
from morula.data.augment.resample import Fetched, fetch_region
from morula.data.augment.warp import Warp
from morula.data.crop import cache_in_memory, check_region, crop
from morula.data.normalise import Normalisation
from morula.data.sampling import Grid, LabelledVoxels, Options, foreground_box, random_box, steps

CACHE = 2**31
"""Bytes of decoded images that are kept in memory."""


@dataclass(frozen=True, eq=False)
class Source:
    """An image to take patches from, with what is known about it. All parts have the same (Z)YX shape.

    `labels` are integers (objects or classes; nearest neighbour) or floats (an image to be predicted; linear); several channels are
    passed on together. `classes` is a second label image, `weights` an image of factors for the loss, `unlabelled` the label of
    voxels that nobody has looked at. Only voxels of `region` are ever read.
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
        """What messages call it."""
        return self.name or self.image.source or "an image"

    def check(self, ndim: int) -> None:
        """Refuse parts that do not fit each other or the patch.

        Raises:
            DataError: with both shapes.
        """
        name = self.title
        if self.image.ndim_spatial != ndim:
            raise DataError(
                f"{name} is {self.image.ndim_spatial}D (axes {self.image.axes}, shape {self.image.shape}) but the patch is {ndim}D. "
                f"Give a patch of {self.image.ndim_spatial} edges, or state the image's axes."
            )
        check_region(self.image, self.extent, name)
        shape = self.image.spatial_shape
        for what, part in (("labels", self.labels), ("classes", self.classes), ("weights", self.weights)):
            if part is not None and part.spatial_shape != shape:
                raise DataError(
                    f"{name}: the image has {shape} voxels but its {what} have {part.spatial_shape}. Both must have the same shape."
                )


class TargetsLike(Protocol):
    """What a network is trained towards: K(Z)YX channels, weights that broadcast to them, and perhaps the label image."""

    channels: np.ndarray
    weights: np.ndarray
    instances: np.ndarray | None


Pretext = Callable[[np.ndarray, np.random.Generator], Mapping[str, np.ndarray]]
"""``pretext(image, rng)`` of a patch C(Z)YX as the network would see it: entries of the sample to add or replace."""

Targets = Callable[..., Any]
"""``targets(labels)``, with ``classes=`` and ``unlabelled=`` where the source has them, giving `TargetsLike`; where there is a context also
with ``relevant=``, true in the image at unlabelled voxels and objects that reach the patch."""


@dataclass(frozen=True, eq=False)
class _Layer:
    """One image that is warped with the others: linearly, or by the nearest voxel. Labels carry a margin."""

    name: str
    image: Image
    linear: bool
    margin: bool = False
    normalisation: Normalisation | None = None

    def prepared(self, array: np.ndarray) -> np.ndarray:
        """The values as they are warped: on scale, and of a type that holds them."""
        if self.normalisation is not None:
            return self.normalisation.apply(array)
        return array.astype(np.float32 if self.linear else np.uint32, copy=False)


@dataclass(frozen=True, eq=False)
class PatchDataset:
    """Patches of sources: where they lie, how they are warped, brought to scale and encoded.

    `patch` is (Z)YX. `normalisation` is one record for all sources or one each. `targets` is the method's and is called after
    warping on the labels of the patch plus a margin of `context` voxels, which is cut off its result, so that targets such as
    distances know what lies just outside the patch. The margin ends with the image, so that a patch has the targets of the whole image: in
    a mirror objects would be doubled. `pretext` makes a task of the patch itself, such as hiding or degrading a part.

    Raises:
        DataError: for sources that do not fit each other, or targets without labels.
        OptionError: for a patch that is not positive.
    """

    sources: Sequence[Source]
    patch: tuple[int, ...]
    normalisation: Normalisation | Sequence[Normalisation]
    sampling: Options = field(default_factory=Options)
    augmentations: Sequence[Augmentation[Any]] = ()
    targets: Targets | None = None
    context: tuple[int, ...] | None = None
    seed: int = 0
    pretext: Pretext | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "patch", tuple(self.patch))
        if not self.sources:
            raise DataError("there is no image to take patches from. Give at least one.")
        if min(self.patch) < 1:
            raise OptionError(f"patch {self.patch} is not valid; every edge is at least 1 voxel.")
        for source in self.sources:
            source.check(len(self.patch))
            if self.targets is not None and source.labels is None:
                raise DataError(f"{source.title} has no labels, which this method needs. Give it labels or leave it out.")
        if not isinstance(self.normalisation, Normalisation) and len(self.normalisation) != len(self.sources):
            raise DataError(
                f"{len(self.normalisation)} normalisations were given for {len(self.sources)} images. Give one each, or one for all."
            )

    @property
    def warnings(self) -> list[str]:
        """What the user should know about the images."""
        said = []
        for source in self.sources:
            shape = source.extent.shape
            if any(n < p for n, p in zip(shape, self.patch, strict=True)):
                said.append(
                    f"{source.title} has {shape} voxels, fewer than the patch {self.patch}: it is padded with its "
                    "mirror image, which is not scored. Choose a smaller patch to avoid this."
                )
        sparse = [known for known in self._labelled if known is not None]
        if sparse and all(known.all for known in sparse):
            value = next(source.unlabelled for source in self.sources if source.unlabelled is not None)
            said.append(
                f"every voxel of the label images counts as labelled: none has the value {value} of unlabelled ones, or lies outside a "
                "mask. State the value that your images have as images.ignore_label, or leave it out."
            )
        return said

    @cached_property
    def _grids(self) -> list[Grid | list[Region]]:
        step = steps(self.patch, self.sampling.overlap)
        grids = [Grid(source.extent, self.patch, step) for source in self.sources]
        if self.sampling.kind == "random":
            return [*grids]
        # patches without a labelled voxel teach and score nothing
        return [
            grid if known is None else [box for box in map(grid.__getitem__, range(len(grid))) if known.touches(box)]
            for grid, known in zip(grids, self._labelled, strict=True)
        ]

    @cached_property
    def _labelled(self) -> list[LabelledVoxels | None]:
        """Where the labelled voxels of each source lie; `None` where all are.

        Raises:
            DataError: when a source has none.
        """
        found: list[LabelledVoxels | None] = []
        for number, source in enumerate(self.sources):
            labels = next((layer.image for layer in self._layers[number] if layer.name == "labels"), None)
            if labels is None or source.unlabelled is None:
                found.append(None)
            else:
                found.append(LabelledVoxels(labels, source.extent, source.unlabelled, source.title))
        return found

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(len(grid) for grid in self._grids))

    def __len__(self) -> int:
        return self.sampling.patches_per_epoch or self._ends[-1]

    def place(self, epoch: int, index: int) -> tuple[int, Region]:
        """Number of the source and box of a patch, before augmentation.

        Over epochs, each box of the grid has its turn once before any has it twice. A random patch takes from it only the source.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        total = self._ends[-1]
        turn, position = divmod(epoch * len(self) + index, total)
        if len(self) != total:
            position = int(_permutation(self.seed, turn, total)[position])
        number = bisect_right(self._ends, position)
        source, grid = self.sources[number], self._grids[number]
        if self.sampling.kind == "grid":
            return number, grid[position - (self._ends[number] - len(grid))]
        rng = self._rng(epoch, index, 0)
        if source.labels is not None and rng.random() < self.sampling.foreground:
            labels = next(layer.image for layer in self._layers[number] if layer.name == "labels")
            return number, foreground_box(labels, source.extent, self.patch, rng, unlabelled=source.unlabelled)
        if (labelled := self._labelled[number]) is not None:
            return number, labelled.box(self.patch, rng)
        return number, random_box(source.extent, self.patch, rng)

    def _rng(self, epoch: int, index: int, stream: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, epoch, index, stream))

    def draw(self, epoch: int, index: int) -> Draw:
        """What the augmentations do to a patch."""
        number, _ = self.place(epoch, index)
        return draw(self.augmentations, self._rng(epoch, index, 1), self.patch, self.sources[number].image.spacing)

    def sample(self, epoch: int, index: int) -> dict[str, np.ndarray]:
        """A patch: ``image`` C(Z)YX float32, ``weights`` (0 outside the image), with targets ``targets`` and perhaps ``instances``.

        ``name`` says which image it is from.
        """
        number, region = self.place(epoch, index)
        source = self.sources[number]
        drawn = draw(self.augmentations, self._rng(epoch, index, 1), self.patch, source.image.spacing)
        layers, there = _read(source, self._layers[number], region, drawn, self._margin(drawn))
        inside = there[self._inner.slices]
        image = drawn.apply_intensity(layers["image"], source.image.spacing)
        sample = {"image": np.ascontiguousarray(image, np.float32), "name": np.array(source.title)}
        weights = inside[None].astype(np.float32)
        if "weights" in layers:
            weights = weights * layers["weights"]
        if self.targets is not None:
            sample |= self._encoded(source, layers, weights, there)
        else:
            sample["weights"] = weights
        if self.pretext is not None:
            sample |= self.pretext(sample["image"], self._rng(epoch, index, 2))
        return sample

    def _encoded(self, source: Source, layers: Mapping[str, np.ndarray], weights: np.ndarray, there: np.ndarray) -> dict[str, np.ndarray]:
        assert self.targets is not None
        around = any(self._inner.start)
        box = _bounds(there) if around and there[self._inner.slices].any() else Region.whole(there.shape)
        labels = np.ascontiguousarray(layers["labels"][(slice(None), *box.slices)])
        extra: dict[str, np.ndarray] = {}
        if source.unlabelled is not None:
            value = source.unlabelled if labels.dtype.kind == "f" else source.unlabelled % 2**32  # -1 has become the largest label
            unlabelled = (labels == value).any(axis=0)
            labels = np.where(unlabelled[None], labels.dtype.type(0), labels)
            extra["unlabelled"] = unlabelled
            weights = weights * ~self._cut(unlabelled, box)[None]
        if around:
            reaching = np.isin(labels[0], np.unique(self._cut(labels[0], box))) if len(labels) == 1 else True
            extra["relevant"] = there[box.slices] & (reaching | extra.get("unlabelled", False))
        if "classes" in layers:
            extra["classes"] = _single(layers["classes"][(slice(None), *box.slices)])
        made = self.targets(_single(labels), **extra)
        result = {
            "targets": np.ascontiguousarray(self._cut(made.channels, box), np.float32),
            "weights": np.ascontiguousarray(self._cut(made.weights, box) * weights, np.float32),
        }
        if made.instances is not None:
            instances = self._cut(made.instances, box)
            result["instances"] = np.where(weights.any(axis=0), instances, instances.dtype.type(0))
        return result

    def _margin(self, drawn: Draw) -> tuple[int, ...]:
        """The context before the patch is turned into its orientation."""
        context = self._inner.start
        return tuple(context[drawn.orientation.permutation.index(axis)] for axis in range(len(context)))

    @cached_property
    def _inner(self) -> Region:
        """The patch in its context."""
        context = self.context or (0,) * len(self.patch)
        return Region(tuple(context), tuple(m + p for m, p in zip(context, self.patch, strict=True)))

    def _cut(self, array: np.ndarray, box: Region) -> np.ndarray:
        """The patch (..., (Z)YX) out of the part `box` of its context, 0 where that does not reach."""
        common = self._inner.intersect(box)
        assert common is not None
        source: tuple[Any, ...] = (..., *common.shift([-a for a in box.start]).slices)
        part: np.ndarray = array[source]
        if common == self._inner:
            return part
        out = np.zeros((*part.shape[: -len(self.patch)], *self.patch), part.dtype)
        target: tuple[Any, ...] = (..., *common.shift([-a for a in self._inner.start]).slices)
        out[target] = part
        return out

    @cached_property
    def _layers(self) -> list[list[_Layer]]:
        """The images of each source, decoded in memory where they fit."""
        records = self.normalisation
        layers = []
        for number, source in enumerate(self.sources):
            record = records if isinstance(records, Normalisation) else records[number]
            parts = [_Layer("image", source.image, True, normalisation=record)]
            if source.labels is not None:
                parts.append(_Layer("labels", source.labels, source.labels.dtype.kind == "f", margin=True))
            if source.classes is not None:
                parts.append(_Layer("classes", source.classes, False, margin=True))
            if source.weights is not None:
                parts.append(_Layer("weights", source.weights, True))
            layers.append(parts)
        images = iter(cache_in_memory([layer.image for parts in layers for layer in parts], CACHE))
        return [[replace(layer, image=next(images)) for layer in parts] for parts in layers]

    def preload(self) -> None:
        """Decode the images that fit into memory now, so that processes started later share them."""
        _ = self._layers


def _bounds(mask: np.ndarray) -> Region:
    """The smallest box that holds all that is true; something is."""
    places = [np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis))) for axis in range(mask.ndim)]
    return Region(tuple(int(place[0]) for place in places), tuple(int(place[-1]) + 1 for place in places))


def _single(labels: np.ndarray) -> np.ndarray:
    """(Z)YX where there is one channel, C(Z)YX otherwise."""
    return labels[0] if len(labels) == 1 else labels


@lru_cache(maxsize=4)
def _permutation(seed: int, turn: int, total: int) -> np.ndarray:
    return np.random.default_rng((seed, turn, total)).permutation(total)


def _read(
    source: Source, layers: Sequence[_Layer], region: Region, drawn: Draw, margin: Sequence[int]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """All layers of a patch, warped and oriented, C(Z)YX, labels and classes with the margin; and the mask (Z)YX of the image, with it."""
    read = _plain if drawn.warp is None else _warped
    arrays, there = read(source, layers, region, drawn.warp, margin)
    turn = drawn.orientation.apply
    return {name: np.ascontiguousarray(turn(array)) for name, array in arrays.items()}, np.ascontiguousarray(turn(there))


def _plain(
    source: Source, layers: Sequence[_Layer], region: Region, warp: Warp | None, margin: Sequence[int]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    arrays = {}
    for layer in layers:
        where = region.grow(margin) if layer.margin else region
        arrays[layer.name] = layer.prepared(read_reflected(layer.image.lazy(), where, source.extent))
    outer = region.grow(margin)
    there = np.zeros(outer.shape, bool)
    common = outer.intersect(source.extent)
    assert common is not None
    there[common.shift([-a for a in outer.start]).slices] = True
    return arrays, there


def _warped(
    source: Source, layers: Sequence[_Layer], region: Region, warp: Warp | None, margin: Sequence[int]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    assert warp is not None
    spacing = source.image.spacing
    outer = region.grow(margin)
    centre = (np.array(region.start) + np.array(region.stop) - 1) / 2
    reach = warp.region(outer.shape, spacing, centre)
    wide = warp.map(outer.shape, spacing, centre)
    inner = wide.inner(margin)
    arrays = {}
    for layer in layers:
        box = fetch_region(reach, source.extent)
        fetched = Fetched(layer.prepared(crop(layer.image, box)), box.start, source.extent)
        where = wide if layer.margin else inner
        arrays[layer.name] = fetched.linear(where) if layer.linear else fetched.did_you_mean(where)
    return arrays, wide.inside(source.extent)
