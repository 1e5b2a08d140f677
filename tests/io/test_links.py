"""Files of others name other files: nothing outside of an image is read for it."""

import os

import h5py
import numpy as np
import pytest

from morula.io.metadata import MetadataWarning
from morula.io.read import read, read_labels
from morula.io.write import write
from morula.testing.errors import raises

PLANE = np.arange(64, dtype=np.uint8).reshape(8, 8)


@pytest.fixture
def image(tmp_path):
    path = write(tmp_path / "a.ome.zarr", PLANE, axes="YX")
    write(path, PLANE, axes="YX", labels=True)
    return path


def test_level_behind_a_link(image):
    os.rename(image / "0", image.parent / "elsewhere")
    (image / "0").symlink_to(image.parent / "elsewhere")
    with raises("container.link_outside", file=str(image / "0")):
        read(image)


def test_label_image_behind_a_link(image):
    os.rename(image / "labels/labels", image.parent / "elsewhere")
    (image / "labels/labels").symlink_to(image.parent / "elsewhere")
    with raises("container.link_outside"):
        read_labels(f"{image}/labels/labels")


def test_data_set_behind_a_link_is_not_listed(tmp_path):
    path = write(tmp_path / "a.zarr", PLANE, dataset="raw")
    write(tmp_path / "other.zarr", PLANE)
    (tmp_path / "a.zarr/more").symlink_to(tmp_path / "other.zarr")
    with pytest.warns(MetadataWarning) as caught:
        np.testing.assert_array_equal(read(tmp_path / "a.zarr"), PLANE)
    assert caught[0].message.field == "link"
    with raises("container.link_outside"):
        read(f"{tmp_path}/a.zarr/more")
    assert path.exists()


def test_chunk_behind_a_link(image):
    os.rename(image / "0/c/0/0", image.parent / "elsewhere")
    (image / "0/c/0/0").symlink_to(image.parent / "elsewhere")
    with raises("container.link_outside", file=str(image / "0/c/0/0")):
        read(image)


def test_chunk_that_is_no_file(image):
    (image / "0/c/0/0").unlink()
    os.mkfifo(image / "0/c/0/0")
    with raises("file.not_regular", file=str(image / "0/c/0/0")):
        read(image, missing="zeros")


def test_links_inside_and_to_an_image_are_followed(image):
    os.rename(image / "0", image / "level")
    (image / "0").symlink_to(image / "level")
    os.rename(image / "level/c/0/0", image / "level/stored")
    (image / "level/c/0/0").symlink_to(image / "level/stored")
    (image.parent / "b.ome.zarr").symlink_to(image)
    np.testing.assert_array_equal(read(image.parent / "b.ome.zarr"), PLANE)


def test_names_of_label_images_do_not_lead_out(image):
    file = image / "labels/zarr.json"
    file.write_text(file.read_text().replace('"labels"\n', '"../../other"\n').replace('["labels"]', '["../../other"]'))
    with pytest.warns(MetadataWarning) as caught:
        np.testing.assert_array_equal(read_labels(image), PLANE)
    assert caught[0].message.field == "labels"


def test_hdf5_pixels_in_other_files(tmp_path):
    with h5py.File(tmp_path / "external.h5", "w") as file:
        file.create_dataset("raw", (8, 8), np.uint8, external=[("/etc/passwd", 0, 64)])
    with raises("hdf5.outside", value="raw"):
        read(tmp_path / "external.h5")
    layout = h5py.VirtualLayout((8, 8), np.uint8)
    layout[:] = h5py.VirtualSource("part.h5", "raw", (8, 8))
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file.create_virtual_dataset("raw", layout)
    with raises("hdf5.missing_files"):
        read(tmp_path / "virtual.h5")
    write(tmp_path / "part.h5", PLANE, dataset="raw")
    np.testing.assert_array_equal(read(tmp_path / "virtual.h5"), PLANE)


def test_hdf5_chunks_that_were_never_written(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("raw", (24, 24), np.uint8, chunks=(8, 8))
    with raises("hdf5.missing_chunks"):
        read(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        data = file["raw"]
        for row in range(3):
            for column in range(3):
                if (row, column) != (1, 1):
                    data[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 1
    with raises("hdf5.missing_chunks") as caught:
        read(tmp_path / "a.h5")
    assert "(1, 1)" in caught.error.rule
    with pytest.warns(MetadataWarning):
        assert np.asarray(read(tmp_path / "a.h5", missing="zeros")).sum() == 8 * 64
