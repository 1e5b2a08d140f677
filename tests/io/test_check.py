"""Values that spoil a training are found before it."""

import subprocess
import sys

import numpy as np
import pytest

from morula.core.image import Image
from morula.core.voxel_size import VoxelSize
from morula.io import FORMATS
from morula.io.blocks import block_shape, chunk_shape, iterate_blocks
from morula.io.check import check_image
from morula.io.pairs import pair_images
from morula.io.read import read, read_labels
from morula.testing.errors import raises


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(value):
    array = np.ones((4, 5, 6), np.float32)
    array[3, 4, 5] = value
    with raises("image.not_finite"):
        check_image(Image(array, "ZYX", source="x.tif"))


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_constant_and_empty(dtype):
    assert check_image(Image(np.eye(4).astype(dtype), "YX")) == []
    (warning,) = check_image(Image(np.ones((4, 4), dtype), "YX"))
    assert warning == "the image is constant: every value is 1. Check that it is the right file and channel."
    with raises("image.empty"):
        check_image(Image(np.ones((0, 4), dtype), "YX"))


def test_blocks_cover_once():
    array = np.arange(7 * 8 * 9).reshape(7, 8, 9)
    parts = list(iterate_blocks(array, limit=500))
    assert len(parts) > 3
    assert max(part.nbytes for part in parts) <= 500
    np.testing.assert_array_equal(np.sort(np.concatenate([part.ravel() for part in parts])), array.ravel())
    assert block_shape((1000, 1000), 8, (300, 300), limit=1) == (300, 300)
    assert chunk_shape((3, 1000, 2000, 3), "CYXZ") == (1, 128, 128, 3)


def test_reading_needs_no_torch_scipy_or_napari():
    code = "import sys, morula.io.read, morula.io.write, morula.io.pairs; from morula.io.select import formats; formats(); "
    code += "print([m for m in ('torch', 'scipy', 'napari', 'zarr', 'nibabel', 'skimage') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_every_format_is_described():
    for name in FORMATS.names:
        kind = FORMATS.load(name)
        assert kind.suffixes or kind.folder
        assert FORMATS.member(name).summary
        assert kind.__doc__


@pytest.mark.data
@pytest.mark.parametrize("name", ["nuclei2d", "nuclei3d_embryo", "em2d", "histology2d", "cells3d_ovule"])
def test_real_images(data_folder, name):
    folder = data_folder / name / "train"
    if not folder.is_dir():
        pytest.skip(f"no {name}")
    pairs, warnings = pair_images(folder / "images", folder / "labels")
    assert warnings == []
    image, labels = read(pairs[0].raw), read_labels(pairs[0].labels)
    assert image.spatial_shape == labels.spatial_shape
    assert check_image(image) == []
    assert np.asarray(labels).max() > 0


@pytest.mark.parametrize(
    ("size", "doubtful"),
    [
        (VoxelSize(0.2, 0.2, 1), False),
        (VoxelSize(1, 1, 1, "mm"), False),
        (VoxelSize(0.5, 0.5, 0.5, "Å"), False),
        (VoxelSize(1e9, 1e9, 1e9, "pixel"), False),
        (None, False),
        (VoxelSize(0.2, 0.2, 1e9), True),
        (VoxelSize(0.2, 0.2, 1, "m"), True),
        (VoxelSize(1e-6, 1e-6, 1e-6), True),
    ],
)
def test_voxels_that_no_microscope_has(size, doubtful):
    assert bool(check_image(Image(np.arange(8, dtype=np.uint8).reshape(2, 2, 2), "ZYX", size))) is doubtful
