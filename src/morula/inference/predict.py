"""Predictions of images of any size, tile by tile."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from morula.core.errors import DataError, ModelError, OptionError
from morula.core.events import Progress
from morula.core.orientation import Orientation
from morula.core.reflect_pad import read_reflected
from morula.core.region import Region
from morula.inference.plan import Tiles
from morula.inference.stitch import Index, stitch, walk

Forward = Callable[[torch.Tensor], torch.Tensor]
Reorient = Callable[[torch.Tensor, Orientation], torch.Tensor]
Normalise = Callable[[np.ndarray], np.ndarray]
TILES = ("tiles",)
"""Task of the progress events, below that of the caller."""
Precision = Literal["fp32", "bf16", "fp16"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def predict(  # noqa: PLR0913 - the six after `channels` have defaults that most callers keep
    source: Any,
    forward: Forward,
    plan: Tiles,
    *,
    channels: int,
    normalise: Normalise | None = None,
    orientations: Sequence[Orientation] = (),
    reorient: Reorient | None = None,
    out: Any = None,
    device: str | torch.device = "cpu",
    precision: Precision = "fp32",
) -> Generator[Progress, None, Any]:
    """Predict an image tile by tile, blend the tiles and write each voxel once.

    Memory holds a batch of tiles, the next one (read meanwhile) and the zones in which tiles are blended, whatever the size of the image.
    Closing the generator stops after the current batch; `out` then holds what was finished.

    Args:
        source: C(Z)YX array or array-like with NumPy slicing; only the tiles' voxels are read.
        forward: network with its activation, N C (Z)YX float32 to N K (Z)YX of the same spatial shape.
        plan: from `morula.inference.plan.plan_tiles`, or `morula.inference.patches.PatchPlan`.
        channels: K.
        normalise: C(Z)YX array as read to float32, voxel by voxel.
        orientations: for test-time augmentation: the flips and quarter turns over which the prediction is averaged; empty for none.
        reorient: turns predicted channels N K (Z)YX, as `(tensor, orientation)`, for channels that hold directions; by default their voxels
            move and their values stay.
        out: array-like K(Z)YX with slice assignment, in memory or on disk; by default a new float32 array.
        device: of the network.
        precision: of the network's arithmetic (autocast); blending is in float32.

    Yields:
        Progress in tiles.

    Returns:
        `out` (the value of `yield from`).

    Raises:
        OptionError: when the image, `out` or the orientations do not fit the plan.
        ModelError: when the network returns another shape than said.
        DataError: when a tile of the image holds NaN or infinity.
    """
    if tuple(source.shape[1:]) != plan.shape:
        raise OptionError(f"the plan is for an image of shape {plan.shape} but this one has {tuple(source.shape)}. Plan it anew.")
    shape = (channels, *plan.shape)
    if out is None:
        out = np.empty(shape, np.float32)
    elif tuple(out.shape) != shape:
        raise OptionError(f"the output has shape {tuple(out.shape)} but the prediction has {shape}. Create it with that shape.")
    turns = tuple(orientations) or (Orientation.identity(plan.ndim),)
    if any(turn.ndim != plan.ndim for turn in turns):
        raise OptionError(f"the orientations have {turns[0].ndim} axes but the image has {plan.ndim}. Make them for this image.")
    network = _Network(forward, channels, turns, reorient or _move, torch.device(device), _DTYPES[precision])
    yield Progress(0, plan.n_tiles, "tile", task=TILES)
    for done, (start, values) in enumerate(stitch(plan, _tiles(source, plan, normalise, network)), 1):
        out[(slice(None), *(slice(a, a + n) for a, n in zip(start, values.shape[1:], strict=True)))] = values
        yield Progress(done, plan.n_tiles, "tile", task=TILES)
    return out


def predict_array(  # noqa: PLR0913 - the parameters of `predict`
    source: Any,
    forward: Forward,
    plan: Tiles,
    *,
    channels: int,
    normalise: Normalise | None = None,
    orientations: Sequence[Orientation] = (),
    reorient: Reorient | None = None,
    device: str | torch.device = "cpu",
    precision: Precision = "fp32",
) -> np.ndarray:
    """The prediction of an image as an array K(Z)YX float32; parameters and errors as in `predict`.

    Examples:
        >>> from morula.inference.plan import plan_tiles
        >>> image = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
        >>> plan = plan_tiles((3, 4), halo=(0, 0), multiple=(1, 1), memory=10**6, bytes_per_voxel=8)
        >>> predict_array(image, lambda x: 2 * x, plan, channels=1)[0, 2]
        array([16., 18., 20., 22.], dtype=float32)
    """
    out = np.empty((channels, *plan.shape), np.float32)
    steps = predict(
        source,
        forward,
        plan,
        channels=channels,
        normalise=normalise,
        orientations=orientations,
        reorient=reorient,
        out=out,
        device=device,
        precision=precision,
    )
    for _ in steps:
        pass
    return out


@dataclass(frozen=True)
class _Network:
    """The network as it is applied: in every orientation, on its device, averaged."""

    forward: Forward
    channels: int
    orientations: tuple[Orientation, ...]
    reorient: Reorient
    device: torch.device
    dtype: torch.dtype

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """N C (Z)YX float32 to N K (Z)YX float32."""
        # entered here and not around the tiles: a mode must not stay on in the caller between two steps of the generator
        with torch.inference_mode(), torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            tensor = torch.from_numpy(batch).to(self.device)
            total = self._turned(tensor, self.orientations[0])
            for orientation in self.orientations[1:]:
                total = total + self._turned(tensor, orientation)
            return (total / len(self.orientations)).cpu().numpy()

    def _turned(self, tensor: torch.Tensor, orientation: Orientation) -> torch.Tensor:
        turned = orientation.apply(tensor)
        layout = torch.channels_last_3d if turned.ndim == 5 else torch.channels_last
        result = self.forward(turned.contiguous(memory_format=layout))
        expected = (len(turned), self.channels, *turned.shape[2:])
        if tuple(result.shape) != expected:
            raise ModelError(
                f"the network made {tuple(result.shape)} (batch, channels, voxels) out of a tile of which {expected} is expected. "
                "Use the model with the channels that it was trained for."
            )
        return self.reorient(result.float(), orientation.inverse)


def _move(array: torch.Tensor, orientation: Orientation) -> torch.Tensor:
    return orientation.apply(array)


def _tiles(source: Any, plan: Tiles, normalise: Normalise | None, network: _Network) -> Iterator[tuple[Index, np.ndarray]]:
    """All tiles predicted, in the order of `walk`; while one batch is computed the next is read."""
    batches = list(batched(walk(plan), plan.batch))
    with ThreadPoolExecutor(1, "read tiles") as reader:
        following = reader.submit(_read, source, plan, batches[0], normalise)
        for number, indices in enumerate(batches, 1):
            batch = following.result()
            if number < len(batches):
                following = reader.submit(_read, source, plan, batches[number], normalise)
            yield from zip(indices, network(batch), strict=True)


def batched(items: Sequence[Index], size: int) -> Iterator[Sequence[Index]]:
    """Runs of at most `size` items (itertools.batched is younger than Python 3.11)."""
    return (items[start : start + size] for start in range(0, len(items), size))


def _read(source: Any, plan: Tiles, indices: Sequence[Index], normalise: Normalise | None) -> np.ndarray:
    """Tiles N C (Z)YX float32, mirrored beyond the end of the image."""
    tiles = []
    for index in indices:
        start = tuple(starts[i] for starts, i in zip(plan.starts, index, strict=True))
        tiles.append(_tile(source, Region(start, tuple(a + n for a, n in zip(start, plan.tile, strict=True))), normalise))
    return np.stack(tiles)


def _tile(source: Any, region: Region, normalise: Normalise | None) -> np.ndarray:
    values = read_reflected(source, region)
    values = np.asarray(values if normalise is None else normalise(values), np.float32)
    if not np.isfinite(values).all():
        place = ", ".join(f"{a}:{min(b, n)}" for a, b, n in zip(region.start, region.stop, source.shape[1:], strict=True))
        raise DataError(f"the image holds NaN or infinity in [{place}]; a prediction from it would be wrong. Replace these voxels first.")
    return values
