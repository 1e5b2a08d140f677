"""Unfinished results of an image that is segmented block by block, in a hidden folder beside its labels.

::

    .cells.tif.unfinished/
      signature.json     what decides the results; another command removes the folder and starts anew
      prediction.zarr    channels K(Z)YX float32
      predicted.json     finished layers of tiles
      decoding.json      parameters of the decoder and the blocks
      labels.zarr        labels of the cores, with the ids of their blocks
      block_12.npz       the objects of a finished block
      points             results of the time points of a series, each with a point_12.json when it is finished

The folder is removed when the labels have their final name. After a kill, the same command continues with the first unfinished layer or
block. Every file is written under another name, flushed to the disk and renamed, so that none is ever half written; what a file says is
finished is on the disk before that file.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from morula.core.array import ArraySource
from morula.core.durable import flush_changed, put_in_place
from morula.core.errors import FileWriteError
from morula.core.leftovers import remove_leftovers, temporary_name
from morula.core.region import Region
from morula.decoders.blockwise import BlockObjects
from morula.inference.median import Options as MedianOptions
from morula.inference.median import median
from morula.io.lazy import LazyArray, Opened

if TYPE_CHECKING:
    import zarr

_SIGNATURE = "signature.json"
_OWN = re.compile(r"(?:signature|predicted|decoding|point_\d+)\.json(?:\.new)?|(?:prediction|labels)\.zarr|block_\d+(?:\.new)?\.npz|points")


class BlockStore:
    """The folder of one image.

    Args:
        labels_file: the file that the labels will be written to.
        signature: what decides the results; plain values.

    Raises:
        FileWriteError: when the folder exists and Morula did not write it.
    """

    def __init__(self, labels_file: Path, signature: Mapping[str, object]) -> None:
        self.path = labels_file.with_name(f".{labels_file.name}.unfinished")
        self._flushed: dict[str, int] = {}
        self._check_own()
        if self._read(_SIGNATURE) != signature:
            self.remove()
            # under another name until it has a signature: a folder without one is taken for the user's
            remove_leftovers(self.path, "part")
            new = temporary_name(self.path, "part")
            new.mkdir(parents=True)
            (new / _SIGNATURE).write_text(json.dumps(signature), encoding="utf-8")
            put_in_place(new, self.path)

    def remove(self) -> None:
        """Remove the folder.

        Raises:
            FileWriteError: when it holds anything that Morula did not write.
        """
        if self.path.exists():
            self._check_own()
            shutil.rmtree(self.path)

    def _check_own(self) -> None:
        """Reject a folder, file or link of somebody else with this name."""
        if not (self.path.exists() or self.path.is_symlink()):
            return
        own = self.path.is_dir() and not self.path.is_symlink() and self._read(_SIGNATURE) is not None
        if not own or not all(_OWN.fullmatch(entry.name) for entry in self.path.iterdir()):
            rule = "exists, and holds something that Morula did not write"
            raise FileWriteError("blocks.foreign_folder", rule, file=self.path, remedy="Remove it, or choose another output.")

    def note(self, name: str, values: Mapping[str, object]) -> None:
        """Write a small JSON file; all values that were stored in arrays before are on the disk then."""
        self._put(f"{name}.json", json.dumps(values).encode())

    def noted(self, name: str) -> dict[str, Any] | None:
        """What `note` has written, or `None`."""
        return self._read(f"{name}.json")

    def array(self, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: np.dtype) -> zarr.Array:
        """An array of the folder, which is created where it does not exist."""
        import zarr
        from zarr.codecs import ZstdCodec

        path = self.path / f"{name}.zarr"
        if path.exists():
            return self.existing(name)
        # level 1 is faster than the disk, and the checksum makes a changed bit an error
        return zarr.create_array(str(path), shape=shape, chunks=chunks, dtype=dtype, compressors=ZstdCodec(level=1, checksum=True))

    def existing(self, name: str) -> zarr.Array:
        """An array that `array` has created."""
        import zarr

        return zarr.open_array(str(self.path / f"{name}.zarr"), mode="r+")

    def finished(self, number: int) -> bool:
        """Whether a block is finished."""
        return (self.path / f"block_{number}.npz").exists()

    def put_block(self, number: int, block: BlockObjects) -> None:
        """Record that a block is finished, with its objects; its labels have to be stored before."""
        self._flush_arrays()
        place = self.path / f"block_{number}.new.npz"
        block.save(place)
        put_in_place(place, self.path / f"block_{number}.npz")

    def block(self, number: int) -> BlockObjects:
        """The objects of a finished block."""
        return BlockObjects.load(self.path / f"block_{number}.npz")

    def _put(self, name: str, content: bytes) -> None:
        self._flush_arrays()
        new = self.path / f"{name}.new"
        new.write_bytes(content)
        put_in_place(new, self.path / name)

    def _flush_arrays(self) -> None:
        for array in sorted(self.path.glob("*.zarr")):
            flush_changed(array, self._flushed)

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            found = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None


class MergedLabels(LazyArray):
    """Labels (Z)YX of the whole image: those of the blocks, with the ids of merged objects; computed when they are read.

    Args:
        stored: labels of the cores, with the ids of their blocks.
        core: edge lengths of a core in voxels.
        tables: per block in C order, the value in the whole image of each id in the block.
    """

    def __init__(self, stored: zarr.Array, core: tuple[int, ...], tables: list[np.ndarray]) -> None:
        super().__init__(stored.shape, tables[0].dtype, chunks=stored.chunks)
        self.stored, self.core, self.tables = stored, core, tables

    def _open(self) -> Opened:
        return self.stored, lambda: None

    def _read(self, box: tuple[slice, ...]) -> np.ndarray:
        bounds = [part.indices(n) for part, n in zip(box, self.shape, strict=True)]
        low = [min(range(*bound), default=0) for bound in bounds]
        high = [max(range(*bound), default=-1) + 1 for bound in bounds]
        values = np.asarray(self.stored[tuple(slice(a, b) for a, b in zip(low, high, strict=True))])
        out = np.empty(values.shape, self.dtype)
        grid = [-(-n // size) for n, size in zip(self.shape, self.core, strict=True)]
        first = [a // size for a, size in zip(low, self.core, strict=True)]
        count = [max(0, -(-b // size) - f) for b, size, f in zip(high, self.core, first, strict=True)]
        for step in np.ndindex(*count):
            place = [f + s for f, s in zip(first, step, strict=True)]
            part = tuple(slice(max(p * size - a, 0), (p + 1) * size - a) for p, size, a in zip(place, self.core, low, strict=True))
            out[part] = self.tables[int(np.ravel_multi_index(place, grid))][values[part]]
        return out[
            tuple(slice(start - a, None if stop < a else stop - a, stride) for (start, stop, stride), a in zip(bounds, low, strict=True))
        ]


class MedianFiltered(LazyArray):
    """A prediction K(Z)YX with its channels filtered by medians one after the other; computed when it is read.

    Args:
        prediction: the stored prediction.
        filters: from the job.
    """

    def __init__(self, prediction: ArraySource, filters: Sequence[MedianOptions]) -> None:
        super().__init__(prediction.shape, prediction.dtype, chunks=getattr(prediction, "chunks", None))
        self.prediction, self.filters = prediction, tuple(filters)
        spatial = "zyx"[-len(self.shape) + 1 :]
        # what a filter reads wrongly at the border of a part lies outside of the box that the next ones need
        self.reach = tuple(sum(each.size // 2 for each in self.filters if axis in each.axes) for axis in spatial)

    def _open(self) -> Opened:
        return self.prediction, lambda: None

    def _read(self, box: tuple[slice, ...]) -> np.ndarray:
        channels, *spatial = box
        places = [range(*part.indices(n)) for part, n in zip(spatial, self.shape[1:], strict=True)]
        if not all(places):
            return np.empty((len(range(*channels.indices(self.shape[0]))), *map(len, places)), self.dtype)
        low, high = (tuple(function(place[0], place[-1]) for place in places) for function in (min, max))
        window = Region(low, tuple(last + 1 for last in high)).grow(self.reach, within=self.shape[1:])
        values = np.array(self.prediction[(channels, *window.slices)])
        for channel in values:
            for each in self.filters:
                channel[:] = median(channel, each.axes, each.size)
        picks: list[Any] = [np.asarray(place) - start for place, start in zip(places, window.start, strict=True)]
        return values[np.ix_(np.arange(len(values)), *picks)]
