"""Laws of tiled prediction."""

from __future__ import annotations

import itertools
import math
import tracemalloc

import h5py
import numpy as np
import pytest
import torch
import zarr
from torch import nn

from morula.core.events import Progress
from morula.core.orientation import Orientation, orientations
from morula.inference.plan import TilePlan, plan_tiles
from morula.inference.predict import TiledNetwork, predict, predict_array
from morula.inference.stitch import layers
from morula.testing.errors import raises


def conv_net(ndim: int, channels: int = 1, out: int = 2, layers: int = 2) -> nn.Module:
    """Sees `layers` voxels on each side."""
    conv = nn.Conv2d if ndim == 2 else nn.Conv3d
    torch.manual_seed(0)
    widths = [channels, *[4] * (layers - 1), out]
    parts = [part for a, b in itertools.pairwise(widths) for part in (conv(a, b, 3, padding=1), nn.Tanh())]
    return nn.Sequential(*parts).eval()


class Pooling(nn.Module):
    """One level of a U-Net: the pooling grid matters. Sees at most 6 voxels on each side."""

    def __init__(self, ndim: int) -> None:
        super().__init__()
        torch.manual_seed(1)
        conv, self.pool = (nn.Conv2d, nn.MaxPool2d(2)) if ndim == 2 else (nn.Conv3d, nn.MaxPool3d(2))
        self.first, self.deep, self.last = conv(1, 3, 3, padding=1), conv(3, 3, 3, padding=1), conv(6, 1, 3, padding=1)
        self.up = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        fine = torch.relu(self.first(x))
        coarse = self.up(torch.relu(self.deep(self.pool(fine))))
        return self.last(torch.cat([fine, coarse], 1))


def image(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def untiled(net: nn.Module, array: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return net(torch.from_numpy(array)[None])[0].numpy()


def tiled_plan(shape: tuple[int, ...], halo: int, tile: int, multiple: int = 1, **options: object) -> TilePlan:
    n = len(shape)
    options = {"memory": 10**9, "bytes_per_voxel": 8, **options}
    return plan_tiles(shape, halo=(halo,) * n, multiple=(multiple,) * n, tile=(tile,) * n, **options)


@pytest.mark.parametrize(("shape", "channels"), [((37, 50), 1), ((64, 41), 3), ((19, 30, 23), 1), ((7, 33, 20), 2), ((5, 1, 400), 1)])
@pytest.mark.parametrize("overlap", [None, 0.5])
def test_tiled_equals_untiled(shape, channels, overlap):
    n, net, array = len(shape), conv_net(len(shape), channels), image((channels, *shape))
    plan = plan_tiles(shape, halo=(2,) * n, multiple=(1,) * n, memory=8 * 12**n, bytes_per_voxel=8, overlap=overlap)
    assert plan.n_tiles > 1
    assert plan.exact
    assert np.abs(predict_array(array, TiledNetwork(net, 2), plan) - untiled(net, array)).max() < 1e-5


@pytest.mark.parametrize("shape", [(37, 50), (33, 30, 35)])
@pytest.mark.parametrize("batch", [1, 3])
def test_tiles_share_the_pooling_grid(shape, batch):
    net, array = Pooling(len(shape)).eval(), image((1, *shape))
    plan = tiled_plan(shape, 6, 24, 2, max_batch=batch)
    whole = plan_tiles(shape, halo=plan.margin, multiple=(2,) * len(shape), memory=10**9, bytes_per_voxel=8)
    assert plan.n_tiles > 1 == whole.n_tiles
    assert plan.exact
    assert np.abs(predict_array(array, TiledNetwork(net, 1), plan) - predict_array(array, TiledNetwork(net, 1), whole)).max() < 1e-5


def test_even_shapes_need_no_padding():
    net, array = Pooling(2).eval(), image((1, 40, 52))
    assert np.abs(predict_array(array, TiledNetwork(net, 1), tiled_plan((40, 52), 6, 20, 2)) - untiled(net, array)).max() < 1e-5


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (3, 2), (1, 1, 1), (2, 5, 3)])
def test_small_images_are_reflect_padded(shape):
    seen = []

    def forward(x):
        seen.append(x.clone())
        return x

    array = image((1, *shape))
    assert np.array_equal(predict_array(array, TiledNetwork(forward, 1), tiled_plan(shape, 2, 16, 4)), array)
    pads = [(0, 0), *((0, 16 - n) for n in shape)]
    assert np.array_equal(seen[0][0].numpy(), np.pad(array, pads, mode="reflect"))


def test_blending_is_smooth_and_keeps_constants():
    position = iter(range(100))
    zeros, plan = np.zeros((1, 40, 40), np.float32), tiled_plan((40, 40), 0, 16, overlap=0.5, max_batch=1)
    result = predict_array(zeros, TiledNetwork(lambda x: x + next(position), 1), plan)
    assert result.min() >= 0
    assert result.max() <= plan.n_tiles - 1
    assert np.abs(np.diff(result, axis=1)).max() < 4 * 0.3
    ones = predict_array(zeros, TiledNetwork(torch.ones_like, 1), plan)
    assert np.abs(ones - 1).max() < 1e-6


@pytest.mark.parametrize("spacing", [(1, 1), (1, 1, 1), (2, 1, 1)])
def test_tta_does_not_change_symmetric_networks(spacing):
    shape = (11, 20, 15)[-len(spacing) :]
    array = image((1, *shape))
    plan = plan_tiles(shape, halo=(1,) * len(shape), multiple=(1,) * len(shape), memory=8 * 6 * 8 ** len(shape), bytes_per_voxel=8)
    conv = nn.Conv2d(1, 1, 3, padding=1) if len(shape) == 2 else nn.Conv3d(1, 1, 3, padding=1)
    nn.init.constant_(conv.weight, 0.1)
    turned = predict_array(array, TiledNetwork(conv, 1, orientations=orientations(spacing)), plan)
    assert np.abs(turned - predict_array(array, TiledNetwork(conv, 1), plan)).max() < 1e-5


def test_tta_is_invariant_on_non_square_tiles():
    net, array, turns = conv_net(2, out=1), image((1, 24, 40)), orientations((1, 1))
    plan = plan_tiles((24, 40), halo=(2, 2), multiple=(1, 1), memory=8 * 24 * 16, bytes_per_voxel=8)
    assert plan.tile[0] != plan.tile[1]
    result = predict_array(array, TiledNetwork(net, 1, orientations=turns), plan)
    turn = Orientation((1, 0), (True, False))
    other = predict_array(turn.apply(array), TiledNetwork(net, 1, orientations=turns), tiled_plan((40, 24), 2, 12))
    assert np.abs(turn.inverse.apply(other) - result).max() < 1e-5


def test_tta_reorients_directional_channels():
    """The gradient of the image, as two channels, averages to itself only where its vectors are turned back."""

    def gradient(x):
        return torch.cat([torch.roll(x, -1, axis) - torch.roll(x, 1, axis) for axis in (2, 3)], 1)

    def reorient(array, orientation):
        moved = orientation.apply(array)
        signs = [-1 if flip else 1 for flip in orientation.flips]
        return torch.stack([sign * moved[:, axis] for axis, sign in zip(orientation.permutation, signs, strict=True)], 1)

    array, plan = image((1, 12, 12)), tiled_plan((12, 12), 1, 12)
    options = {"channels": 2, "orientations": orientations((1, 1))}
    expected = predict_array(array, TiledNetwork(gradient, 2), plan)
    assert np.abs(predict_array(array, TiledNetwork(gradient, reorient=reorient, **options), plan) - expected).max() < 1e-5
    assert np.abs(predict_array(array, TiledNetwork(gradient, **options), plan) - expected).max() > 0.1


@pytest.mark.parametrize("kind", ["zarr", "hdf5", "memmap"])
def test_output_on_disk_is_written_once(kind, tmp_path):
    net, array = conv_net(3), image((1, 20, 24, 28))
    plan = plan_tiles(array.shape[1:], halo=(2,) * 3, multiple=(1,) * 3, memory=8 * 12**3, bytes_per_voxel=8, overlap=0.5)
    shape = (2, *plan.shape)
    if kind == "zarr":
        out = zarr.create_array(tmp_path / "a.zarr", shape=shape, chunks=(1, 8, 8, 8), dtype="float32")
        array = zarr.create_array(tmp_path / "b.zarr", data=array, chunks=(1, 9, 9, 9))
    elif kind == "hdf5":
        out = h5py.File(tmp_path / "a.h5", "w").create_dataset("x", shape, "float32", chunks=(1, 8, 8, 8))
    else:
        out = np.memmap(tmp_path / "a.raw", np.float32, "w+", shape=shape)
    written = np.zeros(shape, int)

    class Once:
        def __init__(self):
            self.shape = shape

        def __setitem__(self, box, values):
            written[box] += 1
            out[box] = values

    events = list(predict(array, TiledNetwork(net, 2), plan, out=Once()))
    assert (written == 1).all()
    assert events[-1] == Progress(plan.n_tiles, plan.n_tiles, "tile", task=("tiles",))
    assert np.abs(out[...] - untiled(net, np.asarray(array[...]))).max() < 1e-5
    if kind == "hdf5":
        out.file.close()


class Lazy:
    """A volume that is made when it is read."""

    dtype = np.dtype(np.uint8)

    def __init__(self, *shape: int) -> None:
        self.shape = shape

    def __getitem__(self, box: tuple[slice, ...]) -> np.ndarray:
        return np.full([len(range(*part.indices(n))) for part, n in zip(box, self.shape, strict=True)], 7, np.uint8)


class Sink:
    """An output that keeps nothing."""

    def __init__(self, *shape: int) -> None:
        self.shape, self.voxels, self.total = shape, 0, 0.0

    def __setitem__(self, box: tuple[slice, ...], values: np.ndarray) -> None:
        self.voxels += values.size
        self.total += float(values.sum(dtype=np.float64))


@pytest.mark.parametrize("overlap", [None, (32, 32, 32)])
def test_memory_is_independent_of_the_volume(overlap):
    shape = (320, 256, 320)
    plan = plan_tiles(shape, halo=(8,) * 3, multiple=(8,) * 3, memory=16 * 80**3, bytes_per_voxel=16, overlap=overlap)
    assert plan.n_tiles > 40
    sink = Sink(1, *shape)
    tracemalloc.start()
    try:
        for _ in predict(Lazy(1, *shape), TiledNetwork(lambda x: x, 1), plan, out=sink):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sink.voxels == math.prod(shape)
    assert sink.total == pytest.approx(7 * math.prod(shape))
    assert peak < 0.3 * 4 * math.prod(shape)


def test_closing_keeps_finished_boxes():
    out = np.full((1, 40, 40), np.nan, np.float32)
    steps = predict(np.ones((1, 40, 40), np.float32), TiledNetwork(lambda x: x, 1), tiled_plan((40, 40), 0, 10, max_batch=1), out=out)
    for _, event in zip(range(4), steps, strict=False):
        assert event.total == 16
    steps.close()
    assert np.nansum(out) == 300


def test_grad_mode_of_the_caller_is_kept():
    for _ in predict(np.ones((1, 20, 20), np.float32), TiledNetwork(conv_net(2), 2), tiled_plan((20, 20), 2, 10)):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()


def test_normalise_and_precision():
    array = np.arange(400, dtype=np.uint16).reshape(1, 20, 20)
    plan = tiled_plan((20, 20), 0, 10)
    result = predict_array(array, TiledNetwork(lambda x: x, 1), plan, normalise=lambda a: a.astype(np.float32) / 400)
    assert np.array_equal(result, array.astype(np.float32) / 400)
    net = conv_net(2)
    exact = predict_array(array, TiledNetwork(net, 2), plan, normalise=lambda a: a.astype(np.float32) / 400)
    half = predict_array(array, TiledNetwork(net, 2, precision="bf16"), plan, normalise=lambda a: a.astype(np.float32) / 400)
    assert half.dtype == np.float32
    assert 0 < np.abs(half - exact).max() < 0.05


def test_errors():
    plan, array = tiled_plan((20, 20), 0, 10), np.ones((1, 20, 20), np.float32)
    with raises("tile.other_image", key="source"):
        predict_array(array[:, :10], TiledNetwork(torch.sigmoid, 1), plan)
    with raises("prediction.output_shape", key="out", value=(2, 20, 20)):
        next(predict(array, TiledNetwork(torch.sigmoid, 1), plan, out=np.zeros((2, 20, 20))))
    with raises("prediction.orientations", value=3):
        next(predict(array, TiledNetwork(torch.sigmoid, 1, orientations=[Orientation.identity(3)]), plan))
    with raises("prediction.network_shape", value=(4, 1, 10, 10)):
        predict_array(array, TiledNetwork(torch.sigmoid, 3), plan)
    array = array.copy()
    array[0, 15, 3] = np.nan
    with raises("image.not_finite") as caught:
        predict_array(array, TiledNetwork(torch.sigmoid, 1), plan)
    assert "[10:20, 0:10]" in caught.error.rule


@pytest.mark.parametrize(("shape", "overlap"), [((70, 33), None), ((24, 40, 20), None), ((70, 33), 0.6)])
def test_interrupted_prediction_continues_with_the_same_values(shape: tuple[int, ...], overlap: float | None) -> None:
    ndim = len(shape)
    network, source = Pooling(ndim), np.random.default_rng(0).random((1, *shape), np.float32)
    tile = None if overlap is None else (16,) * ndim
    plan = plan_tiles(
        shape,
        halo=(6,) * ndim,
        multiple=(2,) * ndim,
        memory={2: 44_000, 3: 180_000}[ndim],
        bytes_per_voxel=40,
        tile=tile,
        overlap=overlap,
        max_batch=3,
    )
    whole = predict_array(source, TiledNetwork(network, 1), plan)
    assert layers(plan) >= 3
    for first in range(layers(plan)):
        axis = int(np.argmax(shape)) + 1
        out = np.full_like(whole, np.nan)
        events = list(predict(source, TiledNetwork(network, 1), plan, out=out, first_layer=first))
        written = np.moveaxis(~np.isnan(out), axis, 0).reshape(shape[axis - 1], -1)
        begin = plan.weights(axis - 1)[first][0] if first else 0
        assert written[begin:].all()
        assert not written[:begin].any()
        assert np.array_equal(out[~np.isnan(out)], whole[~np.isnan(out)])
        assert (events[0].done, events[-1].done) == (first * plan.n_tiles // layers(plan), plan.n_tiles)
