"""Unfinished results of an image that is segmented block by block, in a hidden folder beside its labels.

::

    .cells.tif.unfinished/
      signature.json        what decides the results; another command removes the folder and starts anew
      tasks.json            number of tasks that share the blocks, where there are several
      scaling.json          normalisation of the image
      tiles.json            memory and device of the prediction
      prediction.zarr       channels K(Z)YX float32
      predicted_0_8.json    finished layers of tiles in rows 0 to 7 of its chunks
      statistics_0_8.npz    histograms of these rows
      decoding.json         parameters of the decoder and the blocks
      labels.zarr           labels of the cores, with the ids of their blocks
      block_12.npz          the objects of a finished block
      merged.npz            the objects of the whole image
      measured_5f0c.npz     the columns of a group of objects
      work_5f0c.pickle      what the workers of a cluster do
      points                results of the time points of a series, each with a point_12.json when it is finished

The folder is removed when the labels have their final name. After a kill, the same command continues with the first unfinished layer,
block or group. Every file is written under another name, flushed to the disk and renamed, so that none is ever half written; what a file
says is finished is on the disk before that file. Several processes, also on several computers, may work in the folder at the same time:
they write different chunks and files, and what they have to agree on is what the first one writes.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import secrets
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from morula.core.array import ArraySource
from morula.core.durable import flush, flush_folder, put_in_place
from morula.core.errors import FileWriteError, OptionError
from morula.core.leftovers import remove_leftovers, temporary_name
from morula.core.region import Region
from morula.decoders.blockwise import BlockObjects
from morula.inference.median import Options as MedianOptions
from morula.inference.median import median
from morula.io.lazy import LazyArray, Opened

if TYPE_CHECKING:
    import zarr

_SIGNATURE = "signature.json"
_OWN = re.compile(
    r"(?:(?:signature|tasks|scaling|tiles|decoding|point_\d+|predicted_\d+_\d+)\.json|(?:prediction|labels)\.zarr"
    r"|(?:merged|block_\d+|statistics_\d+_\d+|measured_[0-9a-f]+)\.npz)(?:\.[0-9a-f]{8}\.new)?|work_[0-9a-f]+\.pickle|points"
)


def store_path(labels_file: Path) -> Path:
    """The folder for the unfinished results of a label file."""
    return labels_file.with_name(f".{labels_file.name}.unfinished")


class BlockStore:
    """The folder of one image. It can be sent to other processes, which then work in the same folder.

    Args:
        labels_file: the file that the labels will be written to.
        signature: what decides the results; plain values.
        shared: whether other processes may be working in the folder, so that it is never started anew.

    Raises:
        FileWriteError: when the folder exists and Morula did not write it.
        OptionError: ``resume.other_command``, when the folder is shared and belongs to a command with other arguments.
    """

    def __init__(self, labels_file: Path, signature: Mapping[str, object], *, shared: bool = False) -> None:
        self.path = store_path(labels_file)
        self._check_own()
        found = self._read(_SIGNATURE)
        if found is not None and found != signature and shared:
            rule = f"does not fit: the command that began to write {labels_file.name} had other arguments, or its image has changed"
            remedy = f"Give the command as it was, or remove the folder {self.path.name} to begin anew."
            raise OptionError("resume.other_command", rule, key="shard", file=labels_file, remedy=remedy)
        if found != signature:
            self._begin(signature, shared=shared)

    def _begin(self, signature: Mapping[str, object], *, shared: bool) -> None:
        self.remove()
        # under another name until it has a signature: a folder without one is taken for the user's
        remove_leftovers(self.path, "part")
        new = temporary_name(self.path, "part")
        new.mkdir(parents=True)
        (new / _SIGNATURE).write_text(json.dumps(signature), encoding="utf-8")
        try:
            put_in_place(new, self.path)
        except OSError:
            if not shared or self._read(_SIGNATURE) != signature:
                raise
            shutil.rmtree(new)  # another task was faster

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
        """Write a small JSON file. What it says about an array has to be flushed before, see `flush`."""
        self._put(f"{name}.json", json.dumps(values).encode())

    def noted(self, name: str) -> dict[str, Any] | None:
        """What `note` has written, or `None`."""
        return self._read(f"{name}.json")

    def agreed(self, name: str, values: Mapping[str, object]) -> dict[str, Any]:
        """What the first process has noted under this name: these values, if it is this one."""
        new = self._new(f"{name}.json")
        new.write_text(json.dumps(values), encoding="utf-8")
        flush(new)
        target = self.path / f"{name}.json"
        try:
            os.link(new, target)  # unlike a rename, it replaces nothing
        except FileExistsError:
            pass
        except OSError:  # no hard links on this file system
            if not target.exists():
                os.replace(new, target)
        new.unlink(missing_ok=True)
        flush_folder(self.path)
        found = self.noted(name)
        assert found is not None
        return found

    def names(self, start: str, suffix: str) -> list[str]:
        """Names without suffix of all files that begin so."""
        return sorted(entry.stem for entry in self.path.glob(f"{start}*{suffix}"))

    def array(self, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: np.dtype) -> zarr.Array:
        """An array of the folder, which is created where it does not exist."""
        import zarr
        from zarr.codecs import ZstdCodec

        path = self.path / f"{name}.zarr"
        if not path.exists():
            new = self._new(path.name)
            # level 1 is faster than the disk, and the checksum makes a changed bit an error
            zarr.create_array(str(new), shape=shape, chunks=chunks, dtype=dtype, compressors=ZstdCodec(level=1, checksum=True))
            try:
                put_in_place(new, path)
            except OSError:
                if not path.exists():
                    raise
                shutil.rmtree(new)  # another process was faster
        return self.existing(name)

    def existing(self, name: str) -> zarr.Array:
        """An array that `array` has created."""
        import zarr

        return zarr.open_array(str(self.path / f"{name}.zarr"), mode="r+")

    def has(self, name: str) -> bool:
        """Whether there is an array of this name."""
        return (self.path / f"{name}.zarr").exists()

    def flush(self, name: str, box: Region) -> None:
        """Write the chunks of a box of an array (its last axes) from the memory of the system to the disk."""
        array, place = self.existing(name), self.path / f"{name}.zarr"
        first = len(array.shape) - len(box.start)
        bounds = [(0, n) for n in array.shape[:first]] + list(zip(box.start, box.stop, strict=True))
        grid = [range(a // size, -(-b // size)) for (a, b), size in zip(bounds, array.chunks, strict=True)]
        folders = set()
        for chunk in itertools.product(*grid):
            file = place / array.metadata.encode_chunk_key(chunk)
            with suppress(FileNotFoundError):  # a chunk of zeros is not stored
                flush(file)
                folders |= set(file.relative_to(place).parents)
        for folder in sorted(folders, key=lambda parent: -len(parent.parts)):
            flush_folder(place / folder)

    def finished(self, number: int) -> bool:
        """Whether a block is finished."""
        return (self.path / f"block_{number}.npz").exists()

    def put_block(self, number: int, block: BlockObjects, core: Region) -> None:
        """Record that a block is finished, with its objects; the labels of its core have to be stored before."""
        self.flush("labels", core)
        buffer = io.BytesIO()
        block.save(buffer)
        self._put(f"block_{number}.npz", buffer.getbuffer())

    def block(self, number: int) -> BlockObjects:
        """The objects of a finished block."""
        return BlockObjects.load(self.path / f"block_{number}.npz")

    def put_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Write small arrays; their names may be any text."""
        buffer = io.BytesIO()
        numbered = {f"array_{i}": array for i, array in enumerate(arrays.values())}
        np.savez_compressed(buffer, names=np.array(list(arrays), np.str_), **numbered)  # type: ignore[arg-type]
        self._put(f"{name}.npz", buffer.getbuffer())

    def arrays(self, name: str) -> dict[str, np.ndarray] | None:
        """What `put_arrays` has written, or `None`."""
        try:
            with np.load(self.path / f"{name}.npz") as stored:
                return {str(key): stored[f"array_{i}"] for i, key in enumerate(stored["names"])}
        except FileNotFoundError:
            return None

    def discard(self, start: str) -> None:
        """Remove all notes and small arrays whose names begin so."""
        for entry in self.path.glob(f"{start}*"):
            entry.unlink(missing_ok=True)

    def _new(self, name: str) -> Path:
        """A name for a file that is not finished; two processes never choose the same one."""
        return self.path / f"{name}.{secrets.token_hex(4)}.new"

    def _put(self, name: str, content: bytes | memoryview) -> None:
        new = self._new(name)
        new.write_bytes(content)
        put_in_place(new, self.path / name)

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
        self.reach = tuple(sum(median_filter.size // 2 for median_filter in self.filters if axis in median_filter.axes) for axis in spatial)

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
            for median_filter in self.filters:
                channel[:] = median(channel, median_filter.axes, median_filter.size)
        picks: list[Any] = [np.asarray(place) - start for place, start in zip(places, window.start, strict=True)]
        return values[np.ix_(np.arange(len(values)), *picks)]
