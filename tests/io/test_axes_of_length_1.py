"""Axes of length 1 mean the same in every format: Z of length 1 is 2D, T and C of length 1 are no axes at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import morula
from morula.core.image import Image
from morula.io.lazy import is_flat, like, without_time, without_z
from morula.measurement.csv_table import read_table
from morula.workflows.measure import measure_file
from morula.workflows.sources import Opened, flattened

LABELS = np.kron(np.array([[1, 0], [0, 2]]), np.ones((8, 8), int)).astype(np.uint16)
FORMATS = ("tif", "ome.tif", "zarr", "ome.zarr", "h5", "nii.gz")


@pytest.fixture(params=FORMATS)
def plane(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A volume of one plane."""
    size = morula.VoxelSize(0.5, 0.5, z=2.0)
    return morula.write(tmp_path / f"plane.{request.param}", LABELS[None], axes="ZYX", voxel_size=size, labels=True)


def test_a_volume_of_one_plane_is_read_as_2d(plane: Path) -> None:
    image = morula.read(plane)
    assert is_flat(image)
    flat = without_z(image)
    assert flat.axes.spatial_axes == "YX"
    assert flat.spacing == pytest.approx((0.5, 0.5))
    assert (flat.canonical()[0] == LABELS).all()
    (opened,) = flattened([Opened("plane", image)])
    assert opened.raw.ndim_spatial == 2


def test_it_is_measured_in_2d_beside_images_of_either_kind(plane: Path, tmp_path: Path) -> None:
    morula.write(tmp_path / "flat.tif", LABELS, axes="YX", voxel_size=0.5)
    for number, raw in enumerate((plane, tmp_path / "flat.tif")):
        list(measure_file(plane, tmp_path / f"{number}.csv", intensity=raw))
        table = read_table(tmp_path / f"{number}.csv")
        assert table["area_um2"].tolist() == [16.0, 16.0]
        assert table["intensity_mean"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(("axes", "shape"), [("TYX", (1, 16, 16)), ("CYX", (1, 16, 16)), ("TCZYX", (1, 1, 1, 16, 16))])
def test_other_axes_of_length_1(axes: str, shape: tuple[int, ...]) -> None:
    image = without_z(without_time(Image(LABELS.reshape(shape), axes)))
    assert (image.ndim_spatial, image.n_channels) == (2, 1)
    assert (image.canonical()[0] == LABELS).all()
    assert like(image, Image(LABELS[None], "ZYX")).spatial_shape == (1, 16, 16)
