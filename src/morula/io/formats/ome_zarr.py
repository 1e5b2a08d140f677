"""OME-Zarr: pyramids with axes, units and labels. Reads 0.1 to 0.5; writes 0.5, and 0.4 labels into a 0.4 image."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import fastremap
import numpy as np
from numpy.typing import DTypeLike

from morula.core.array import ArraySource, ArrayTarget
from morula.core.axes import Axes
from morula.core.errors import DataError, FileReadError, OptionError
from morula.core.location import stem_of
from morula.core.outputs import MARKER
from morula.core.palette import colours_of
from morula.core.voxel_size import VoxelSize
from morula.io import ngff
from morula.io.blocks import block_shape, iterate_blocks
from morula.io.formats.base import FileContent, Format, Request, Target, check_is_image, choose_dataset, pick_level
from morula.io.formats.chunks import check_zarr_chunks
from morula.io.formats.zarr import (
    ZarrArray,
    attributes_of,
    create_array,
    create_groups,
    fill,
    node_kind,
    nodes_below,
    open_array,
    put_attributes,
    read_array,
    waiting_for_writes,
)
from morula.io.lazy import View
from morula.io.pyramid import level_shape, plan_levels, shrink_mean, shrink_nearest

UNFINISHED = "morula_unfinished"
_MOST_COLOURS = 4096
# the name of an image must not be that of the hidden folder in which it is written
_TEMPORARY = re.compile(r"^\.(.+?)\.(?:part-[0-9a-f]{8}(?:-p\d+-h[0-9a-f]{4})?|unfinished)(?:\..*)?$")


class OmeZarr(Format):
    """Images and label images as pyramids."""

    name: ClassVar[str] = "OME-Zarr"
    suffixes: ClassVar[tuple[str, ...]] = (".ome.zarr",)
    folder: ClassVar[bool] = True

    def recognises(self, path: Path) -> bool:
        """Whether this folder, or a group in it, has multiscale metadata."""
        if not path.is_dir() or node_kind(path) != "group":
            return False
        return (
            UNFINISHED in attributes_of(path) or _is_image(path) or any(_is_image(node) for node in nodes_below(path, _is_image).values())
        )

    def read(self, path: Path, request: Request) -> FileContent:
        """Open one level of the image; of a label image in ``labels/`` when labels are wanted and the image has some."""
        attributes = attributes_of(path)
        if UNFINISHED in attributes:
            raise FileReadError(
                "ome_zarr.unfinished",
                "was not finished by the run that wrote it",
                file=path,
                remedy="Run that again, or finish it with finish_pyramid.",
            )
        if request.labels and not ngff.is_label(attributes) and (path / "labels").is_dir():
            found = _read_label(path, request)
            if found is not None:
                return found
        if request.dataset is None and _is_image(path):
            return read_level(path, request)
        below = nodes_below(path, _is_image)
        name = choose_dataset(path, {name: _shape(node) for name, node in below.items()}, request)
        return read_level(below[name], request) if _is_image(below[name]) else read_array(below[name], request)

    def place(self, path: Path, target: Target) -> Path:
        """Labels go to ``labels/NAME`` of an image that exists (NAME is `dataset` or ``labels``), all else to the path or data set."""
        if target.labels and _is_image(path) and not ngff.is_label(attributes_of(path)):
            return path / "labels" / (target.dataset or "labels")
        return path / target.dataset if target.dataset else path

    def write(self, path: Path, data: ArraySource, target: Target) -> None:
        """Write level 0 and build the pyramid from it, both block by block."""
        axes = Axes("".join(letter for letter in "TCZYX" if letter in target.axes))
        if axes != target.axes:
            data = View(data, [target.axes.index(letter) for letter in axes])
        with waiting_for_writes():
            fill(start(path, data.shape, data.dtype, axes, target.voxel_size, labels=target.labels, origin=target.origin), data)
            finish(path)

    def finished(self, path: Path, target: Target) -> None:
        """Make the folders above groups, and list a label image in its image."""
        place = self.place(path, target)
        if place.parent.name == "labels":
            list_label_image(place)
        elif place != path:
            create_groups(path, place)


def _is_image(path: Path) -> bool:
    # a group whose levels are not named is read like a plain Zarr group
    return bool(ngff.level_paths(attributes_of(path)))


def _shape(path: Path) -> tuple[int, ...]:
    return read_level(path, Request(missing="unchecked")).data.shape if _is_image(path) else open_array(path).shape


def _zarr_version(path: Path) -> int:
    return 3 if (path / "zarr.json").is_file() or not (path / ".zgroup").is_file() else 2


def _read_label(path: Path, request: Request) -> FileContent | None:
    names = ngff.label_names(attributes_of(path / "labels")) or list(nodes_below(path / "labels", _is_image))
    known = {name: path / "labels" / name for name in names if _is_image(path / "labels" / name)}
    if not known or (request.dataset is not None and request.dataset not in known and request.dataset.startswith("labels/")):
        return None
    shapes = {name: _shape(node) for name, node in known.items()}
    return read_level(known[choose_dataset(path, shapes, request, prefix="labels/")], request)


def read_level(path: Path, request: Request) -> FileContent:
    """One level of the multiscale image at a group.

    Raises:
        FileReadError: when its metadata are damaged or the level is not there.
    """
    attributes = attributes_of(path)
    paths = ngff.level_paths(attributes)
    level = pick_level(path, request.level, len(paths))
    data = ZarrArray(path / paths[level])
    check_is_image(path, data.shape, data.dtype)
    check_zarr_chunks(path / paths[level], open_array(path / paths[level]), request)
    described = ngff.parse(attributes, data.ndim)
    assert described is not None  # it names levels
    return FileContent(data, described.axes, described.voxel_size(level), described.origin(level))


def start(
    path: Path,
    shape: Sequence[int],
    dtype: DTypeLike,
    axes: Axes,
    voxel_size: VoxelSize | None,
    *,
    labels: bool = False,
    origin: Sequence[float] | None = None,
) -> ArrayTarget:
    """The writable level 0 of a new pyramid, marked as unfinished until `finish`.

    Raises:
        OptionError: for axes out of the order TCZYX, or labels that are no integers.
        DataError: for labels of another size than the image that they are put into.
    """
    dtype = np.dtype(dtype)
    if axes != "".join(letter for letter in "TCZYX" if letter in axes):
        raise OptionError(
            "ome_zarr.axis_order", "must be in the order TCZYX for OME-Zarr", key="axes", value=str(axes), remedy="Transpose the array."
        )
    # the specification allows integers only for labels
    if labels and dtype.kind not in "ui":
        raise OptionError(
            "ome_zarr.label_type", f"ids are integers, not {dtype}", key="labels", remedy="Convert them, for example to uint32."
        )
    image = _image_above(path) if labels else None
    version = 3
    if image is not None:
        version = _zarr_version(image)  # one store is of one version: other programs read no mixture
        of_image = _check_fits(image, shape, axes)
        voxel_size = of_image if voxel_size is None else voxel_size
    state: dict[str, object] = {"axes": str(axes), "voxel_size": None if voxel_size is None else voxel_size.asdict(), "labels": labels}
    state |= {} if origin is None else {"origin": list(origin)}
    path.mkdir(parents=True, exist_ok=True)
    # in the store itself, so that another process can finish it after an interruption
    put_attributes(path, {UNFINISHED: state}, version)
    return create_array(path / "0", shape, dtype, axes, version=version)


def finish(path: Path) -> None:
    """Build the levels above level 0, block by block, and write the metadata. Labels get the levels of the image that they are part of.

    Raises:
        DataError: when nothing unfinished lies there.
    """
    state = attributes_of(path).get(UNFINISHED)
    if state is None:
        raise DataError("output.not_unfinished", "is not an unfinished output", file=path, remedy="Start one with open_output.")
    axes, labels = Axes(state["axes"]), bool(state["labels"])
    voxel_size = None if state["voxel_size"] is None else VoxelSize(**state["voxel_size"])
    image, version = (_image_above(path) if labels else None), _zarr_version(path)
    source = open_array(path / "0")
    shapes, factors = _image_levels(image, axes, source.shape) if image is not None else _own_levels(source.shape, axes, voxel_size)
    for level, shape in enumerate(shapes[1:], start=1):
        target = create_array(path / str(level), shape, source.dtype, axes, version=version)
        # 16: the source has up to 8 voxels per voxel of the block, and their mean is computed in wider floats
        block = block_shape(shape, source.dtype.itemsize * 16, target.chunks)
        if labels or source.dtype == bool:
            shrink_nearest(source, target, block, level)
        else:
            shrink_mean(source, target, block)
        source = target
    name = stem_of(_TEMPORARY.sub(r"\1", path.name))
    of_image = ("../../" if image is not None else "") if labels else None
    attributes = ngff.compose(
        name, axes, voxel_size, factors, labels=of_image, version="0.5" if version == 3 else "0.4", origin=state.get("origin")
    )
    if labels:
        described = attributes["ome"] if version == 3 else attributes
        described["image-label"] |= _colours(open_array(path / "0"))
    put_attributes(path, {**attributes, MARKER: "labels" if labels else "image"}, version)


def _colours(labels: ArraySource) -> dict[str, object]:
    """A colour for each id, as viewers show it; none where there are too many ids for metadata."""
    ids: set[int] = set()
    for block in iterate_blocks(labels):
        ids.update(fastremap.unique(np.asarray(block)).tolist())
        if len(ids) > _MOST_COLOURS:
            return {}
    known = np.array(sorted(ids - {0}), np.int64)
    shown = zip(known.tolist(), colours_of(known).tolist(), strict=True)
    return {"colors": [{"label-value": label, "rgba": [*colour, 255]} for label, colour in shown]}


def list_label_image(place: Path) -> None:
    """Add a label image to the list that its ``labels`` group keeps, for an image that has one."""
    group, image = place.parent, _image_above(place)
    if image is None:
        return
    version = _zarr_version(image)
    names = ngff.label_names(attributes_of(group))
    listed = {"labels": [*names, *([] if place.name in names else [place.name])]}
    put_attributes(group, listed if version == 2 else {"ome": {"version": "0.5", **listed}}, version)


def _image_above(path: Path) -> Path | None:
    image = path.parent.parent
    return image if path.parent.name == "labels" and _is_image(image) else None


def _check_fits(image: Path, shape: Sequence[int], axes: Axes) -> VoxelSize | None:
    """The image's voxel size, when the labels are of its size."""
    found = read_level(image, Request(missing="unchecked"))
    assert found.axes is not None
    # axes of length 1 do not count: 2D labels fit an image of one plane
    of_image = [n for n, letter in zip(found.data.shape, found.axes, strict=True) if letter in "ZYX" and (letter in axes or n > 1)]
    of_labels = [n for n, letter in zip(shape, axes, strict=True) if letter in "ZYX"]
    if of_image != of_labels:
        raise DataError(
            "ome_zarr.label_shape",
            f"labels of shape {tuple(shape)} ({axes}) do not fit the image of shape {found.data.shape} ({found.axes})",
            file=image,
        )
    return found.voxel_size


def _own_levels(shape: Sequence[int], axes: Axes, voxel_size: VoxelSize | None) -> tuple[list[tuple[int, ...]], list[tuple[float, ...]]]:
    spacing = dict(zip("ZYX"[-axes.ndim_spatial :], VoxelSize.of(voxel_size, axes.ndim_spatial).spacing(axes.ndim_spatial), strict=True))
    factors = plan_levels(shape, axes, [spacing[letter] for letter in axes.spatial])
    return [level_shape(shape, factor) for factor in factors], [tuple(map(float, factor)) for factor in factors]


def _image_levels(image: Path, axes: Axes, shape: Sequence[int]) -> tuple[list[tuple[int, ...]], list[tuple[float, ...]]]:
    described = ngff.parse(attributes_of(image))
    assert described is not None
    shapes: list[tuple[int, ...]] = []
    factors: list[tuple[float, ...]] = []
    for level, name in enumerate(described.paths):
        lengths = dict(zip(described.axes, open_array(image / name).shape, strict=True))
        shapes.append(tuple(lengths[letter] if letter in "ZYX" else n for n, letter in zip(shape, axes, strict=True)))
        scale, finest = described.scales[level], described.scales[0]
        if scale is None or finest is None:
            factors.append(tuple(n / m for n, m in zip(shape, shapes[-1], strict=True)))
        else:
            ratio = {letter: a / b for letter, a, b in zip(described.axes, scale, finest, strict=True)}
            factors.append(tuple(ratio[letter] if letter in "ZYX" else 1.0 for letter in axes))
    return shapes, factors
