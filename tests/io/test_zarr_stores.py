"""Zarr in zip files and on servers is read like Zarr in a folder."""

from __future__ import annotations

import functools
import http.server
import pickle
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr

from morula.core.image import Image
from morula.core.voxel_size import VoxelSize
from morula.io.pairs import list_images, names_of
from morula.io.read import read, read_labels
from morula.io.write import write
from morula.testing.errors import raises
from morula.workflows.reading import Reading

VALUES = np.random.default_rng(0).integers(0, 200, (2, 20, 300, 310)).astype(np.uint16)
LABELS = (VALUES[0] > 100).astype(np.uint8)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    write(folder / "scan.ome.zarr", Image(VALUES, "CZYX", VoxelSize(0.5, 0.5, 2.0)))
    write(folder / "scan.ome.zarr", LABELS, axes="ZYX", labels=True)
    shutil.make_archive(str(folder / "scan.ome.zarr"), "zip", folder / "scan.ome.zarr")
    zarr.save(str(folder / "plain.zarr"), VALUES[0])
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture(params=["zip", "http"])
def place(request: pytest.FixtureRequest, folder: Path) -> str:
    if request.param == "zip":
        return str(folder / "scan.ome.zarr.zip")
    return f"{request.getfixturevalue('server')}/scan.ome.zarr"


def test_the_image_is_that_of_the_folder(place: str, folder: Path) -> None:
    (path,) = list_images(place)
    assert names_of([path]) == ["scan"]
    image, stored = read(path), read(folder / "scan.ome.zarr")
    assert (image.axes, image.shape, image.voxel_size) == (stored.axes, stored.shape, stored.voxel_size)
    np.testing.assert_array_equal(image.data[1, 3:9, ::7, 40:60], VALUES[1, 3:9, ::7, 40:60])
    coarse, part = read(path, level=1), Reading(level=1, region="0:4,:,10:20", channel=0).open(path)
    assert coarse.spacing == read(folder / "scan.ome.zarr", level=1).spacing
    np.testing.assert_array_equal(part, coarse.data[0, 0:4, :, 10:20])
    assert part.origin == (0.0, 0.25, 10.25)
    with raises("level.missing"):
        read(path, level=9)


def test_labels_are_found(place: str) -> None:
    np.testing.assert_array_equal(read_labels(place), LABELS)


def test_arrays_travel_to_other_processes(place: str) -> None:
    data = pickle.loads(pickle.dumps(read(place).data))
    np.testing.assert_array_equal(data[0, 2], VALUES[0, 2])


def test_plain_arrays_and_wrong_addresses(server: str, tmp_path: Path) -> None:
    np.testing.assert_array_equal(read(f"{server}/plain.zarr"), VALUES[0])
    for address in (f"{server}/nothing.ome.zarr", f"{server}/scan.ome.zarr/7"):
        with raises("zarr.no_node"):
            read(address)
