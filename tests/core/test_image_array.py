"""Arrays that carry axes and voxel size: they stay NumPy arrays, and lose what an operation makes untrue."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from skimage.measure import regionprops, regionprops_table

from morula.core import Axes, VoxelSize
from morula.core.image_array import ImageArray
from morula.testing.errors import raises

SIZE = VoxelSize(0.5, 0.25, z=2.0)


def labels() -> ImageArray:
    values = np.zeros((4, 6, 6), np.uint16)
    values[1:3, 1:3, 1:5], values[2, 4:, 4:] = 1, 2
    return ImageArray(values, "ZYX", SIZE, "scan.tif")


@pytest.mark.parametrize(
    "same",
    [
        lambda array: array + 1,
        lambda array: array > 0,
        lambda array: np.where(array > 1, array, 0) * array,
        lambda array: array.astype(np.float32),
        lambda array: array.copy(),
        lambda array: np.array(array, subok=True),
        copy.copy,
        copy.deepcopy,
        lambda array: pickle.loads(pickle.dumps(array)),
        lambda array: array[...],
        lambda array: array[::-1],
        lambda array: np.flip(array, 1),
    ],
)
def test_arithmetic_copies_and_conversions_keep_axes_and_voxel_size(same) -> None:
    result = same(labels())
    assert isinstance(result, ImageArray)
    assert (result.axes, result.voxel_size, result.source) == ("ZYX", SIZE, "scan.tif")


def test_slices_change_the_voxel_size_as_they_change_the_voxels() -> None:
    assert labels()[:, ::2, 1:5:2].voxel_size == VoxelSize(1.0, 0.5, z=2.0)
    plane = labels()[2]
    assert (plane.axes, plane.voxel_size, plane.spacing) == ("YX", VoxelSize(0.5, 0.25), (0.5, 0.25))
    assert labels()[..., 1:].axes == "ZYX"


@pytest.mark.parametrize(
    "moved",
    [
        lambda array: array.T,
        lambda array: array.swapaxes(1, 2),
        lambda array: array.mT,
        lambda array: np.rot90(array, axes=(1, 2)),
        lambda array: np.moveaxis(array, 0, -1),
        lambda array: array.reshape(6, 4, 6),
        lambda array: array[:, 2],
        lambda array: array[[1, 0]],
        lambda array: array[:, None],
        lambda array: array.max(axis=0),
    ],
)
def test_operations_that_move_axes_keep_no_voxel_size(moved) -> None:
    result = moved(labels())
    assert result.axes is None
    assert result.voxel_size is None
    assert result.spacing == (1.0, 1.0)


def test_single_values_are_numbers() -> None:
    array = labels()
    assert type(array.max()) is np.uint16
    assert type(array[2, 5, 5]) is np.uint16
    assert type(array.mean()) is np.float64
    assert array.sum() == np.asarray(array).sum()
    assert type(np.asarray(array)) is np.ndarray
    assert array[array > 1].tolist() == [2] * 4


def test_scikit_image_takes_it_as_an_array() -> None:
    array = labels()
    plain = regionprops_table(np.asarray(array), spacing=SIZE.spacing(3), properties=("label", "area", "centroid", "bbox"))
    carried = regionprops_table(array, spacing=array.spacing, properties=("label", "area", "centroid", "bbox"))
    for name, values in plain.items():
        np.testing.assert_array_equal(values, carried[name])
    assert [region.area for region in regionprops(array)] == [16, 4]


def test_axes_and_values_belong_together() -> None:
    with raises("axes.count"):
        ImageArray(np.zeros((3, 4)), "ZYX")
    assert ImageArray([[1, 2]], "YX").axes == Axes("YX")
