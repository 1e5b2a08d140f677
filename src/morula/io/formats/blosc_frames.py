"""Chunks of Zarr that Blosc packed, compared with the length that their header states.

Blosc unpacks a chunk whose end was lost, in a copy that was stopped, without an error: the lost bytes become other values. Each packed
chunk begins with a header of 16 bytes, of which the last four are the length of the whole chunk, little-endian::

    02 01 21 01  50 00 00 00  50 00 00 00  5a 00 00 00   ...
    version,     bytes when   bytes of a   bytes of
    flags        unpacked     block        this chunk
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zarr.abc.store import Store
from zarr.codecs import BloscCodec
from zarr.storage import WrapperStore

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

_HEADER = 16


class _CheckedStore(WrapperStore[Store]):
    """A store whose chunks must be as long as their header states."""

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """The value of a key.

        Raises:
            ValueError: for a chunk of another length.
        """
        found = await super().get(key, prototype, byte_range)
        name = key.rpartition("/")[2]
        if found is None or byte_range is not None or name == "zarr.json" or name.startswith("."):
            return found
        stated = int.from_bytes(found[12:_HEADER].to_bytes(), "little") if len(found) >= _HEADER else _HEADER
        if stated != len(found):
            raise ValueError(f"chunk {key} has {len(found)} bytes, but {stated} were written")
        return found


def checked(array: Any) -> Any:
    """A Zarr array that is open for reading, with the lengths of its chunks checked where Blosc packed them.

    Chunks in shards are not checked: a shard without its end is an error anyway, because the table of its chunks is there.
    """
    import zarr

    if array.shards is not None or not array.compressors or not _is_blosc(array.compressors[-1]):
        return array
    return zarr.open_array(_CheckedStore(array.store), path=array.path, mode="r")


def _is_blosc(codec: Any) -> bool:
    return isinstance(codec, BloscCodec) or getattr(codec, "codec_id", "") == "blosc"
