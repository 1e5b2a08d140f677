"""What counts as an image: arrays of other libraries with what they say about themselves, and clear errors for the rest."""

from __future__ import annotations

from pathlib import Path

import dask.array
import h5py
import numpy as np
import pytest
import torch
import xarray
import zarr

import morula
from morula.core import Image, VoxelSize
from morula.core.image_array import ImageArray
from morula.core.image_like import image_of, spatial_array
from morula.testing.errors import raises

VALUES = np.arange(2 * 5 * 6).reshape(2, 5, 6)


def test_arrays_of_other_libraries_hold_the_same_image(tmp_path: Path) -> None:
    stored = zarr.create_array(tmp_path / "a.zarr", shape=VALUES.shape, dtype=VALUES.dtype, dimension_names=("c", "y", "x"))
    stored[:] = VALUES
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = VALUES
        named = xarray.DataArray(VALUES, dims=("channel", "y", "x"))
        unnamed = [VALUES, dask.array.from_array(VALUES), torch.from_numpy(VALUES).requires_grad_(False), file["raw"], VALUES.tolist()]
        for values in [stored, named, *(Image(np.asarray(each), "CYX") for each in unnamed)]:
            image = image_of(values)
            assert image.axes == "CYX", values
            np.testing.assert_array_equal(image.canonical(), VALUES)
        for values in unnamed:
            np.testing.assert_array_equal(image_of(values, axes="CYX").canonical(), VALUES)


def test_chunks_follow_the_axes(tmp_path: Path) -> None:
    stored = zarr.create_array(tmp_path / "a.zarr", shape=(12, 10, 3), chunks=(6, 5, 3), dtype="u2")
    stored[:] = 1
    in_parts = dask.array.zeros((12, 10, 3), chunks=(6, 5, 3))
    for values in (stored, in_parts, morula.read(tmp_path / "a.zarr", axes="YXC").data):
        assert Image(values, "YXC").lazy().chunks == (3, 6, 5)
    assert Image(in_parts, "ZYX").lazy().chunks == (1, 6, 5, 3)
    assert Image(np.zeros((4, 4)), "YX").lazy().chunks is None


def test_tensors_that_numpy_cannot_hold_are_converted() -> None:
    tensor = torch.ones(4, 5, dtype=torch.bfloat16, requires_grad=True)
    assert image_of(tensor).dtype == np.float32


def test_dask_and_zarr_arrays_are_read_block_by_block(tmp_path: Path) -> None:
    read = []

    def block(info: object = None) -> np.ndarray:
        read.append(info)
        return np.ones((8, 8))

    lazy = dask.array.map_blocks(block, chunks=((8,) * 4, (8,) * 4), dtype=float, meta=np.ones((0, 0)))
    image = image_of(lazy)
    assert not read
    assert image.lazy()[0, :4, :4].shape == (4, 4)
    assert len(read) == 1
    stored = zarr.create_array(tmp_path / "a.zarr", shape=(64, 64), dtype="u2")
    assert image_of(stored).data is stored


def test_coordinates_of_xarray_with_units_are_the_voxel_size() -> None:
    coords = {"y": ("y", np.arange(5) * 500.0, {"units": "nm"}), "x": ("x", np.arange(6) * 250.0 + 7, {"units": "nm"})}
    array = xarray.DataArray(VALUES[0], dims=("y", "x"), coords=coords)
    assert image_of(array).voxel_size == VoxelSize(500, 250, unit="nm")
    assert image_of(array.T).axes == "XY"
    table = morula.measure(array.astype(int))
    assert "area_nm2" in table
    assert image_of(xarray.DataArray(VALUES[0], dims=("y", "x"))).voxel_size is None
    uneven = array.assign_coords(y=("y", np.arange(5.0) ** 2, {"units": "nm"}))
    assert image_of(uneven).voxel_size is None


def test_what_the_caller_states_overrides_the_object() -> None:
    array = ImageArray(VALUES, "ZYX", VoxelSize(1, 1, z=3))
    image = image_of(array, axes="CYX", voxel_size=0.5)
    assert (image.axes, image.voxel_size) == ("CYX", VoxelSize(0.5, 0.5))
    assert image_of(array).voxel_size == VoxelSize(1, 1, z=3)


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ("scan.tif", "image.path"),
        (Path("scan.tif"), "image.path"),
        ([np.zeros((4, 4)), np.zeros((5, 5))], "image.list"),
        (["a.tif", "b.tif"], "image.list"),
        ([[1, 2], [3]], "image.ragged"),
        (None, "image.not_an_array"),
        (3.0, "image.not_an_array"),
        ({"raw": np.zeros((4, 4))}, "image.several"),
        (xarray.Dataset({"raw": (("y", "x"), np.zeros((4, 4)))}), "image.several"),
        (np.zeros((4, 4), complex), "image.type"),
        (np.array([["a", "b"]]), "image.type"),
        (xarray.DataArray(np.zeros((4, 4)), dims=("y", "wavelength")), "image.dimension_names"),
        (np.zeros((1,) * 6), "image.dimensions"),
    ],
)
def test_each_misuse_has_its_error(values: object, code: str) -> None:
    with raises(code):
        image_of(values)


def test_errors_of_functions_name_their_argument() -> None:
    with raises("image.path", key="labels"):
        morula.measure("cells.tif")
    with raises("image.path", key="intensity"):
        morula.measure(np.ones((4, 4), int), intensity="raw.tif")
    with raises("image.list"):
        morula.match([np.ones((4, 4), int), np.ones((5, 5), int)], np.ones((4, 4), int))
    with raises("image.path"):
        morula.encode("cells.tif", ["F"])


def test_rgb_pictures_have_their_channels_last() -> None:
    labels = np.zeros((6, 7), int)
    labels[1:3, 1:4] = 1
    picture = np.random.default_rng(0).integers(0, 255, (6, 7, 3))
    last, first = morula.measure(labels, intensity=picture), morula.measure(labels, intensity=np.moveaxis(picture, -1, 0))
    assert last.equals(first)
    assert "c2_intensity_mean" in last


def test_spatial_arrays_keep_their_meaning() -> None:
    assert spatial_array(np.zeros((40, 50, 3)))[0].shape == (40, 50, 3)  # label images have no colours
