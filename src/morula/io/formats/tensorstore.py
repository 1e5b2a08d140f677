"""N5 and Neuroglancer precomputed through the optional package tensorstore; read only."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from morula.core.axes import LETTERS, Axes
from morula.core.errors import MissingExtraError
from morula.core.file_errors import unreadable_file
from morula.core.location import check_links
from morula.core.voxel_size import VoxelSize
from morula.io.formats.base import (
    FileContent,
    Format,
    Request,
    check_is_image,
    choose_dataset,
    lengths_to_voxel_size,
    pick_level,
    positive_length,
)
from morula.io.formats.chunks import check_files, check_n5_chunks
from morula.io.lazy import LazyArray, Opened, View
from morula.io.metadata import ignore_field

_N5_KEYS = {"dimensions", "blockSize", "dataType", "compression"}
"""What describes the blocks of an N5 data set."""


class TensorstoreArray(LazyArray):
    """An array that tensorstore opens from a specification, in its own order (x, y, z, ...)."""

    path: Path

    def __init__(self, spec: Mapping[str, object], path: Path) -> None:
        self.spec = spec
        self.path = path
        check_links(path)
        found = _open(spec, path)
        super().__init__(found.shape, found.dtype.numpy_dtype, path=path, chunks=found.chunk_layout.read_chunk.shape)

    def _open(self) -> Opened:
        return _Slices(_open(self.spec, self.path)), lambda: None


class _Slices:
    """tensorstore reads on request, not when sliced, and its domain may start elsewhere than at 0."""

    def __init__(self, store: Any) -> None:
        self.store = store

    def __getitem__(self, box: tuple[slice, ...]) -> np.ndarray:
        # tensorstore keeps the place of a strided slice in its own coordinates; NumPy takes the stride instead
        whole = tuple(slice(part.start, part.stop) for part in box)
        steps = tuple(slice(None, None, part.step) for part in box)
        return self.store[whole].read().result()[steps]


def _open(spec: Mapping[str, object], path: Path) -> Any:
    try:
        import tensorstore
    except ImportError:
        raise MissingExtraError(
            "extra.tensorstore",
            "is an N5 or precomputed volume, which needs the package tensorstore",
            file=path,
            remedy="Install it with: pip install 'morula[formats]'",
        ) from None
    try:
        store = tensorstore.open(spec, open=True, read=True, assume_metadata="metadata" in spec).result()
    except (ValueError, OSError, KeyError) as error:
        raise unreadable_file(path, error) from error
    return store[tensorstore.d[:].translate_to[0]]


class Tensorstore(Format):
    """Volumes of the electron microscopy world."""

    name: ClassVar[str] = "N5 or precomputed"
    suffixes: ClassVar[tuple[str, ...]] = (".n5", ".precomputed")
    folder: ClassVar[bool] = True
    writes: ClassVar[bool] = False

    def recognises(self, path: Path) -> bool:
        """Whether the folder has N5 attributes or a precomputed ``info``."""
        if not path.is_dir():
            return False
        return (path / "attributes.json").is_file() or "scales" in _json(path / "info")

    def read(self, path: Path, request: Request) -> FileContent:
        """Open an N5 data set, or a scale of a precomputed volume."""
        info = _json(path / "info")
        return self._precomputed(path, request, info) if "scales" in info else self._n5(path, request)

    def _precomputed(self, path: Path, request: Request, info: dict[str, Any]) -> FileContent:
        level = pick_level(path, request.level, len(info["scales"]))
        check_files(path)
        spec = {"driver": "neuroglancer_precomputed", "kvstore": _store(path), "scale_index": level}
        source = TensorstoreArray(spec, path)  # four axes, x y z channel, by the specification of the format
        check_is_image(path, source.shape, source.dtype)
        nanometres = info["scales"][level]["resolution"][::-1]
        size = lengths_to_voxel_size(nanometres, "zyx", "nm")
        if source.shape[3] == 1:
            return FileContent(View(source, (2, 1, 0), {3: 0}), Axes("ZYX"), size)
        return FileContent(View(source, (3, 2, 1, 0)), Axes("CZYX"), size)

    def _n5(self, path: Path, request: Request) -> FileContent:
        pick_level(path, request.level, 1)
        below = {name: _json(path / name / "attributes.json") for name in _n5_datasets(path)}
        name = choose_dataset(path, {inner: tuple(values["dimensions"][::-1]) for inner, values in below.items()}, request)
        # what the attributes say besides is not for tensorstore, which rejects an array for a resolution without meaning
        shape = {"metadata": {key: below[name][key] for key in _N5_KEYS}} if set(below[name]) >= _N5_KEYS else {}
        source = TensorstoreArray({"driver": "n5", "kvstore": _store(path / name), **shape}, path / name)
        check_is_image(path, source.shape, source.dtype)
        axes, data = _n5_axes(below[name], source.shape), View(source, range(source.ndim)[::-1])
        check_n5_chunks(path / name, data, below[name]["blockSize"][::-1], request)
        return FileContent(data, axes, _n5_size(below[name], axes))


def _store(path: Path) -> dict[str, str]:
    return {"driver": "file", "path": f"{path.resolve()}{os.sep}"}


def _json(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _n5_datasets(path: Path) -> list[str]:
    found = []
    for folder, below, files in os.walk(path):
        if "attributes.json" in files and "dimensions" in _json(Path(folder) / "attributes.json"):
            found.append(os.path.relpath(folder, path).replace(os.sep, "/"))
            below.clear()  # blocks of this data set
        below.sort()
    return found


def _n5_axes(attributes: Mapping[str, Any], shape: tuple[int, ...]) -> Axes:
    """Axes as the attributes state them, in the order of the file, x first."""
    names = attributes.get("axes", ())
    letters = "".join(str(name)[:1].upper() for name in names)[::-1]
    if len(letters) == len(shape) and not set(letters) - set(LETTERS) and len(set(letters)) == len(letters) and {"Y", "X"} <= set(letters):
        return Axes(letters)
    return Axes.guess(shape[::-1])


def _n5_size(attributes: Mapping[str, Any], axes: Axes) -> VoxelSize | None:
    """Voxel size from ``pixelResolution`` or ``resolution``, x first, and ``units``. What cannot be used is told."""
    field = "pixelResolution" if "pixelResolution" in attributes else "resolution"
    stated = attributes.get(field)
    described = stated if isinstance(stated, dict) else {"dimensions": stated}
    resolution, units = described.get("dimensions"), attributes.get("units")
    spatial = "".join(axes.spatial)[::-1]
    if not isinstance(resolution, list) or len(resolution) < len(spatial):
        if stated is not None:
            ignore_field(field, stated, f"must hold {len(spatial)} lengths")
        return None
    # one length per axis of the file, or per spatial axis
    letters = "".join(axes)[::-1] if len(resolution) == len(axes) else spatial
    of_axes = dict(zip(letters, units, strict=False)) if isinstance(units, list) else {}
    lengths = []
    for letter, value in zip(letters, resolution, strict=False):
        if letter in spatial and (length := positive_length(f"{field}.{letter}", value)) is not None:
            unit = str(of_axes.get(letter) or described.get("unit") or "nm")
            one = lengths_to_voxel_size([length] * 2, "yx", unit)
            if one is None or one.unit != "um":
                ignore_field(f"units.{letter}", unit, "must be a unit of length")
            else:
                lengths.append(one.x)
    return lengths_to_voxel_size(lengths[::-1], spatial[::-1])
