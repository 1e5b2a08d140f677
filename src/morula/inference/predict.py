"""Predict images of any size tile by tile. See `morula.inference` for how tiles are blended."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch

from morula.core.errors import DataError, ModelError, OptionError
from morula.core.events import Progress
from morula.core.orientation import Orientation
from morula.core.reflect_pad import read_reflected
from morula.core.region import Region
from morula.inference.plan import Tiles
from morula.inference.stitch import Index, blended_layer, layer_size, stitch, tile_order

Array: TypeAlias = Any
"""A NumPy, HDF5, Zarr or Dask array: an object with `shape` that is read, or written, by slices."""

Forward = Callable[[torch.Tensor], torch.Tensor]
Reorient = Callable[[torch.Tensor, Orientation], torch.Tensor]
Normalise = Callable[[np.ndarray], np.ndarray]
TILES = ("tiles",)
"""Task of the progress events, below that of the caller."""
Precision = Literal["fp32", "bf16", "fp16"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def _move(array: torch.Tensor, orientation: Orientation) -> torch.Tensor:
    return orientation.apply(array)


@dataclass(frozen=True)
class TiledNetwork:
    """A network as tiles are predicted with it.

    Args:
        forward: network with its activation, N C (Z)YX float32 to N K (Z)YX of the same spatial shape.
        channels: K.
        orientations: flips and rotations by 90 degrees over which the prediction is averaged (test-time augmentation).
        reorient: applies an orientation to predicted channels N K (Z)YX, called with (tensor, orientation), for channels that contain
            directions; by default voxels are moved and values stay.
        device: device of the network.
        precision: arithmetic of the network (autocast); blending is in float32.
    """

    forward: Forward
    channels: int
    orientations: Sequence[Orientation] = ()
    reorient: Reorient = _move
    device: str | torch.device = "cpu"
    precision: Precision = "fp32"

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """N C (Z)YX float32 to N K (Z)YX float32."""
        device, dtype = torch.device(self.device), _DTYPES[self.precision]
        first, *more = self.orientations or (Orientation.identity(batch.ndim - 2),)
        # entered per batch: between two steps of a generator the mode would stay on in the caller
        with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            tensor = torch.from_numpy(batch).to(device)
            total = self._turned(tensor, first)
            for orientation in more:
                total = total + self._turned(tensor, orientation)
            return (total / (1 + len(more))).cpu().numpy()

    def _turned(self, tensor: torch.Tensor, orientation: Orientation) -> torch.Tensor:
        turned = orientation.apply(tensor)
        # channels last: convolutions on CPUs and on tensor cores are faster in this order of memory
        layout = torch.channels_last_3d if turned.ndim == 5 else torch.channels_last
        result = self.forward(turned.contiguous(memory_format=layout))
        expected = (len(turned), self.channels, *turned.shape[2:])
        if tuple(result.shape) != expected:
            raise ModelError(
                "prediction.network_shape",
                f"the output of the network must have the shape {expected} (batch, channels, voxels)",
                value=tuple(result.shape),
                remedy="Use the model with the channels for which it was trained.",
            )
        # float32 again before the sum over orientations: half precision would round it
        return self.reorient(result.float(), orientation.inverse)


def predict(
    source: Array, network: TiledNetwork, plan: Tiles, *, normalise: Normalise | None = None, out: Array = None, first_layer: int = 0
) -> Generator[Progress, None, Array]:
    """Predict an image tile by tile, blend the tiles and write each voxel once.

    Memory holds a batch of tiles, the next batch (read at the same time) and the zones in which tiles are blended, for every size of the
    image. Closing the generator stops after the current batch; `out` then contains the finished boxes.

    Args:
        source: C(Z)YX array, may be lazy; only the voxels of tiles are read.
        network: the network, with its device and test-time augmentation.
        plan: from `morula.inference.plan.plan_tiles`, or `morula.inference.patches.PatchPlan`.
        normalise: maps a C(Z)YX array as read to float32, voxel by voxel.
        out: array K(Z)YX that is written by slices, in memory or on disk; a new float32 array when left out.
        first_layer: layer of tiles, counted along the longest axis, from which on `out` is written, to continue an interrupted prediction
            with the same values; see `morula.inference.stitch.layers`.

    Yields:
        Progress in tiles.

    Returns:
        `out` (the value of `yield from`).

    Raises:
        OptionError: when the image, `out` or the orientations do not fit the plan.
        ModelError: when the output of the network has another shape than stated.
        DataError: when a tile of the image contains NaN or infinity.
    """
    if tuple(source.shape[1:]) != plan.shape:
        raise OptionError(
            "tile.other_image",
            f"the plan is for an image of shape {plan.shape}, without the channel axis",
            key="source",
            value=tuple(source.shape),
            remedy="Plan tiles for this image.",
        )
    shape = (network.channels, *plan.shape)
    if out is None:
        out = np.empty(shape, np.float32)
    elif tuple(out.shape) != shape:
        raise OptionError("prediction.output_shape", f"must have the shape {shape} of the prediction", key="out", value=tuple(out.shape))
    other = next((orientation.ndim for orientation in network.orientations if orientation.ndim != plan.ndim), None)
    if other is not None:
        raise OptionError("prediction.orientations", f"must have the {plan.ndim} axes of the image", key="orientations", value=other)
    first = first_layer * layer_size(plan)
    yield Progress(first, plan.n_tiles, "tile", task=TILES)
    for done, (start, values) in enumerate(stitch(plan, _tiles(source, plan, normalise, network, first_layer), first_layer), first + 1):
        out[(slice(None), *(slice(a, a + n) for a, n in zip(start, values.shape[1:], strict=True)))] = values
        yield Progress(done, plan.n_tiles, "tile", task=TILES)
    return out


def predict_array(source: Array, network: TiledNetwork, plan: Tiles, *, normalise: Normalise | None = None) -> np.ndarray:
    """The prediction of an image as an array K(Z)YX float32; arguments and errors as in `predict`.

    Examples:
        >>> from morula.inference.plan import plan_tiles
        >>> image = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
        >>> plan = plan_tiles((3, 4), halo=(0, 0), multiple=(1, 1), memory=10**6, bytes_per_voxel=8)
        >>> predict_array(image, TiledNetwork(lambda x: 2 * x, channels=1), plan)[0, 2]
        array([16., 18., 20., 22.], dtype=float32)
    """
    out = np.empty((network.channels, *plan.shape), np.float32)
    for _ in predict(source, network, plan, normalise=normalise, out=out):
        pass  # nobody reads the progress of an array that fits into memory
    return out


def _tiles(
    source: Array, plan: Tiles, normalise: Normalise | None, network: TiledNetwork, first_layer: int
) -> Iterator[tuple[Index, np.ndarray]]:
    """Predicted tiles in the order of `tile_order`, from the first one on that is blended with a tile of `first_layer`.

    While one batch is computed, the next one is read.
    """
    needed = blended_layer(plan, first_layer) * layer_size(plan)
    # the batches of an uninterrupted prediction: convolutions may round differently in a batch of another size
    batches = list(batched(tile_order(plan), plan.batch))[needed // plan.batch :]
    skipped = needed % plan.batch
    # reading and decompressing release the GIL, so one thread hides most of the time for input
    with ThreadPoolExecutor(1, "read tiles") as reader:
        following = reader.submit(_read, source, plan, batches[0], normalise)
        for number, indices in enumerate(batches, 1):
            batch = following.result()
            if number < len(batches):
                following = reader.submit(_read, source, plan, batches[number], normalise)
            yield from itertools.islice(zip(indices, network(batch), strict=True), skipped, None)
            skipped = 0


def batched(items: Sequence[Index], size: int) -> Iterator[Sequence[Index]]:
    """Consecutive groups of at most `size` items (`itertools.batched` needs Python 3.12)."""
    return (items[start : start + size] for start in range(0, len(items), size))


def _read(source: Array, plan: Tiles, indices: Sequence[Index], normalise: Normalise | None) -> np.ndarray:
    """Tiles N C (Z)YX float32, reflect-padded beyond the ends of the image."""
    tiles = []
    for index in indices:
        start = tuple(starts[i] for starts, i in zip(plan.starts, index, strict=True))
        tiles.append(_tile(source, Region(start, tuple(a + n for a, n in zip(start, plan.tile, strict=True))), normalise))
    return np.stack(tiles)


def _tile(source: Array, region: Region, normalise: Normalise | None) -> np.ndarray:
    values = read_reflected(source, region)
    values = np.asarray(values if normalise is None else normalise(values), np.float32)
    # a single NaN would spread over the whole receptive field without a message
    if not np.isfinite(values).all():
        place = ", ".join(f"{a}:{min(b, n)}" for a, b, n in zip(region.start, region.stop, source.shape[1:], strict=True))
        raise DataError(
            "image.not_finite",
            f"the image contains NaN or infinity in [{place}]",
            remedy="Replace these voxels first, for example by 0.",
        )
    return values
