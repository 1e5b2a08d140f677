"""How much memory is free, and how much a network needs."""

from __future__ import annotations

import math
import re
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from morula.core.errors import DataError, OptionError

if TYPE_CHECKING:
    import torch

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_SHARE = 0.7  # share of the free memory that is used by default: the rest is for the image, the result and other programs
_HEADROOM = 1.25  # factor on the counted tensors, for workspaces of convolutions and memory that the allocator cannot reuse


_PROGRAM = 750_000_000  # bytes of the process beside images: Python, torch, a network and compiled kernels
_WORKER = 400_000_000  # bytes of a worker process beside images: Python, torch and compiled kernels, no network
_DECODING = 42  # bytes per voxel in the decoders: labels, seeds, distances and queues, measured with the watershed


def parse_bytes(text: str | int) -> int:
    """Bytes from a number or a text such as ``8GB``, ``500 MB`` or ``2GiB``.

    Raises:
        OptionError: when the text has another form or the number is not positive.

    Examples:
        >>> parse_bytes("8GB"), parse_bytes("1.5 GiB")
        (8000000000, 1610612736)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([KMGT]?I?B?)\s*", str(text).upper())
    unit = _UNITS.get(match[2] + ("" if match[2][-1:] in ("", "B") else "B")) if match else None
    if match is None or unit is None or not 1 <= float(match[1]) * unit < 2**63:
        raise OptionError("memory.size", "must be a number of bytes or a text such as '8GB' or '500MB'", key="memory", value=text)
    return int(float(match[1]) * unit)


def used_memory() -> int:
    """Bytes that this process uses: on a CUDA GPU where one is in use, else of the main memory.

    Examples:
        >>> used_memory() > 10**7
        True
    """
    torch = sys.modules.get("torch")  # not imported for it: without torch no GPU is in use
    if torch is not None and torch.cuda.is_available() and (used := int(torch.cuda.memory_allocated())):
        return used
    import psutil

    return int(psutil.Process().memory_info().rss)


def available_memory(budget: str | int | None = None, device: str | torch.device = "cpu") -> int:
    """Bytes that a prediction may use: the given budget, else 70 % of the memory that is free on the device now.

    On a CPU the limits of control groups (containers, batch systems) are respected.

    Examples:
        >>> available_memory("8GB")
        8000000000
    """
    if budget is not None:
        return parse_bytes(budget)
    if str(device).startswith("cuda"):
        import torch

        return int(_SHARE * torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(_SHARE * min([psutil.virtual_memory().available, *_control_groups()]))


def _control_groups(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> Iterator[int]:
    """Free bytes of every control group (version 1 or 2) that limits this process."""
    if not own.is_file():
        return
    for line in own.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            base = root / controllers
            names = ("memory.max", "memory.current") if not controllers else ("memory.limit_in_bytes", "memory.usage_in_bytes")
            group = base / path.lstrip("/")
            # limits are inherited: the smallest of all enclosing groups applies
            for folder in [group, *group.parents]:
                if folder == base.parent:
                    break
                yield from _free(folder, *names)


def _free(folder: Path, limit_name: str, usage_name: str) -> Iterator[int]:
    limit, usage = folder / limit_name, folder / usage_name
    if not (limit.is_file() and usage.is_file()) or not limit.read_text().strip().isdigit():
        return
    statistics = folder / "memory.stat"
    figures = dict(line.split() for line in statistics.read_text().splitlines()) if statistics.is_file() else {}
    cache = int(figures.get("total_inactive_file", figures.get("inactive_file", 0)))  # freed by the system when needed
    yield max(0, int(limit.read_text()) - int(usage.read_text()) + cache)


def room_beside_program(memory: int) -> int:
    """Bytes of a limit for the process that are left for images: without the interpreter, the libraries and a model.

    It does not depend on what the process holds at the moment, so that the same limit gives the same tiles and blocks. Of a limit that is
    too small for the program, a quarter is left.

    Examples:
        >>> room_beside_program(2_000_000_000), room_beside_program(100_000_000)
        (1250000000, 25000000)
    """
    return max(memory - _PROGRAM, memory // 4)


def room_of_worker(memory: int, workers: int) -> int:
    """Bytes for images in each of several worker processes, so that they stay within a limit together with the process that started them.

    Examples:
        >>> room_of_worker(2_000_000_000, 1), room_of_worker(4_000_000_000, 2)
        (1250000000, 1225000000)
    """
    if workers == 1:
        return room_beside_program(memory)
    return max(memory - _PROGRAM - workers * _WORKER, memory // 4) // workers


def tile_memory(memory: int) -> int:
    """Bytes of a limit for the process that tiles may take; less than half of what is left beside the program.

    Freed memory is kept for the next tile, and the pieces do not always fit: prediction was measured to take about twice its tiles. Giving
    the memory back after each tile costs a quarter of the time of the network, which larger tiles do not save.

    Examples:
        >>> tile_memory(2_000_000_000)
        562500000
    """
    return room_beside_program(memory) * 9 // 20


def decoding_bytes(shape: Sequence[int], channels: int) -> int:
    """Bytes that the channels of a whole image and their decoding take; they are in memory at the same time."""
    return math.prod(shape) * (4 * channels + _DECODING)


def check_decoding(shape: Sequence[int], channels: int, budget: str | int | None, *, name: str, reason: str = "") -> str:
    """Reject an image whose decoding does not fit into the free memory; a warning where it needs more than the stated limit.

    `reason` says why it cannot be decoded in blocks.

    Raises:
        DataError: ``memory.image_too_large``, before the prediction, which would be lost.

    Examples:
        >>> check_decoding((64, 64), 2, "1GB", name="a.tif")
        ''
    """
    needed, free = decoding_bytes(shape, channels), int(available_memory() / _SHARE)
    why = f" as a whole ({reason})" if reason else ""
    if needed > free:
        rule = f"takes about {needed / 1e9:.1f} GB of memory to decode{why}; {free / 1e9:.1f} GB are free"
        remedy = "Segment parts of the image, or use a computer with more memory."
        raise DataError("memory.image_too_large", rule, file=name, remedy=remedy)
    if budget is not None and needed > room_beside_program(parse_bytes(budget)):
        return f"{name} takes about {needed / 1e9:.2g} GB of memory to decode{why}, more than the stated {budget} leaves for it."
    return ""


def measure_bytes_per_voxel(
    forward: Callable[[torch.Tensor], object], in_channels: int, multiple: Sequence[int], *, device: str | torch.device = "cpu"
) -> float:
    """Peak bytes of a forward pass per input voxel, measured with a small tile.

    Counts the tensors that are alive at the same time, including the input, and adds a quarter for workspaces. Weights are not counted,
    because they do not depend on the tile.

    Args:
        forward: the network, N C (Z)YX float32 to one or several tensors.
        in_channels: C.
        multiple: product of the network's poolings per axis.
        device: device of the network.
    """
    import torch

    edge = {2: 128, 3: 32}[len(multiple)]
    tile = [math.lcm(m, 2) * max(1, round(edge / math.lcm(m, 2))) for m in multiple]
    with torch.inference_mode(), _live_bytes(on_meta=str(device) == "meta") as counted:
        forward(torch.zeros(1, in_channels, *tile, device=device))
    return _HEADROOM * counted.peak / math.prod(tile)


def _live_bytes(*, on_meta: bool) -> Any:
    """A context that counts the bytes of all tensors alive that are made in it; the most at a time is its attribute `peak`."""
    import torch
    from torch.utils import _python_dispatch, _pytree

    from morula.nn.sizes import result_on_meta

    class LiveBytes(_python_dispatch.TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.now = self.peak = 0
            self.known: set[int] = set()

        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            return False  # else torch imports its compiler, for a second, to tell it that this class is none of its business

        def __torch_dispatch__(
            self, func: Callable[..., object], types: object, args: tuple[object, ...] = (), kwargs: dict[str, object] | None = None
        ) -> object:
            result = result_on_meta(func, args, kwargs or {}) if on_meta else func(*args, **(kwargs or {}))
            for leaf in _pytree.tree_leaves(result):
                if isinstance(leaf, torch.Tensor):
                    self.count(leaf.untyped_storage())
            return result

        def count(self, storage: torch.UntypedStorage) -> None:
            # views share a storage, which must be counted once
            address, size = storage._cdata, storage.nbytes()
            if address not in self.known:
                self.known.add(address)
                self.now += size
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self.forget, address, size)

        def forget(self, address: int, size: int) -> None:
            self.known.discard(address)
            self.now -= size

    return LiveBytes()
