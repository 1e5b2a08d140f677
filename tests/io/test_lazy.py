"""Slicing reads what is asked for, as NumPy would, and only that; lazy arrays travel to other processes."""

import multiprocessing
import os
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as npst

from morula.core.axes import canonical
from morula.core.image import Image
from morula.io.lazy import LazyArray, View, take_channel
from morula.io.read import read
from morula.io.write import write
from morula.testing.errors import raises

ARRAY = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)


class Counted(LazyArray):
    """A lazy array that counts the values read."""

    def __init__(self, array):
        super().__init__(array.shape, array.dtype)
        self.array, self.count = array, 0

    def _open(self):
        return self.array, lambda: None

    def _read(self, box):
        block = super()._read(box)
        self.count += block.size
        return block


@given(npst.basic_indices((4, 5, 6), allow_newaxis=True))
def test_indexing_is_numpys(index):
    lazy = Counted(ARRAY)
    np.testing.assert_array_equal(lazy[index], ARRAY[index])
    assert lazy.count == np.asarray(ARRAY[index]).size


@given(npst.integer_array_indices((4, 5, 6), result_shape=npst.array_shapes(max_dims=2, max_side=3)))
def test_index_arrays(index):
    np.testing.assert_array_equal(Counted(ARRAY)[index], ARRAY[index])


@given(npst.basic_indices((5, 1, 6, 4), allow_newaxis=False))
def test_views_are_transposed_lazily(index):
    lazy = Counted(ARRAY)
    expected = ARRAY.transpose(1, 2, 0)[:, None]
    np.testing.assert_array_equal(View(lazy, (1, None, 2, 0))[index], expected[index])
    assert lazy.count == expected[index].size or expected[index].size == 0


def test_errors_are_numpys():
    lazy = Counted(ARRAY)
    with pytest.raises(IndexError):
        lazy[0, 0, 0, 0]
    with pytest.raises(IndexError):
        lazy[4]
    assert lazy[np.array([], int)].shape == (0, 5, 6)
    assert lazy[ARRAY[:, 0, 0] > 50].shape == (2, 5, 6)
    assert (len(lazy), lazy.ndim, lazy.size, lazy.nbytes) == (4, 3, 120, 240)


@pytest.mark.parametrize("axes", ["ZYX", "CYX", "YXC", "XYZ", "CXY"])
def test_canonical_view(axes):
    image = Image(Counted(ARRAY), axes)
    view = image.lazy()
    np.testing.assert_array_equal(view, canonical(ARRAY, axes))
    image.data.count = 0
    assert view[:, 1, 2:4].size == image.data.count
    np.testing.assert_array_equal(view[-1, ..., -2], canonical(ARRAY, axes)[-1, ..., -2])
    np.testing.assert_array_equal(view[0, ::-1], canonical(ARRAY, axes)[0, ::-1])


def test_canonical_view_of_time():
    np.testing.assert_array_equal(Image(ARRAY[None], "TZYX").lazy(), ARRAY[None])
    with raises("image.time_points"):
        Image(ARRAY, "TYX").lazy()


def test_one_channel():
    lazy = Counted(ARRAY)
    one = take_channel(Image(lazy, "YXC"), 2)
    np.testing.assert_array_equal(one.data[1:3], ARRAY[1:3, :, 2])
    assert lazy.count == 10
    assert take_channel(Image(ARRAY, "ZYX"), 0).axes == "ZYX"


def big(folder, suffix):
    array = np.arange(40 * 256 * 256, dtype=np.uint16).reshape(40, 256, 256)
    return array, write(folder / f"big{suffix}", array, axes="ZYX")


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif", ".h5", ".zarr", ".ome.zarr", ".npy", ".nii"])
def test_files_are_read_in_part(tmp_path, suffix):
    array, path = big(tmp_path, suffix)
    before = bytes_read()
    data = read(path).data
    np.testing.assert_array_equal(data[7, 10:20, ::50], array[7, 10:20, ::50])
    assert bytes_read() - before < (path.stat().st_size if path.is_file() else array.nbytes) / 2 + 100_000


def bytes_read() -> int:
    try:
        with open("/proc/self/io") as file:
            return int(file.readline().split()[1])
    except OSError:
        pytest.skip("needs /proc")


@pytest.mark.parametrize("suffix", [".tif", ".h5", ".zarr", ".ome.zarr", ".npy", ".nii.gz", ".png"])
def test_lazy_arrays_travel(tmp_path, suffix):
    array = ARRAY.astype(np.uint8)[0] if suffix == ".png" else ARRAY
    data = read(write(tmp_path / f"a{suffix}", array)).data
    first = np.asarray(data)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(data)), first)
    assert repr(data).startswith("<")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("suffix", [".tif", ".h5"])
def test_forked_readers_do_not_disturb_each_other(tmp_path, suffix):
    array, path = big(tmp_path, suffix)
    data = read(path).data
    assert data[0, 0, 1] == 1  # open in this process
    pipes = []
    for number in range(2):
        here, there = multiprocessing.get_context("fork").Pipe(duplex=False)
        child = multiprocessing.get_context("fork").Process(target=sums, args=(data, number, there))
        child.start()
        pipes.append((here, child))
    for here, child in pipes:
        assert here.poll(60)
        assert here.recv() == [int(array[z].sum(dtype=np.int64)) for z in range(0, 40, 4)]
        child.join()


def sums(data, number, pipe):
    pipe.send([int(data[z].sum(dtype=np.int64)) for z in range(0, 40, 4)])
    pipe.close()
