"""Nothing half-written is left, nothing is replaced unasked, and the reason is said; large outputs are finished block by block."""

import errno
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
import yaozarrs

from morula.core.atomic import atomic
from morula.core.errors import FileReadError, FileWriteError
from morula.core.region import blocks
from morula.core.voxel_size import VoxelSize
from morula.io import output as output_module
from morula.io.formats import hdf5, ome_zarr, zarr
from morula.io.output import finish_pyramid, open_output
from morula.io.read import read, read_labels
from morula.io.write import write
from morula.measurement.csv_table import read_table, write_table
from morula.testing.errors import raises

ARRAY = np.arange(6 * 40 * 50, dtype=np.uint16).reshape(6, 40, 50)
SUFFIXES = [".tif", ".ome.tif", ".h5", ".zarr", ".ome.zarr", ".npy", ".nii.gz"]


class Broken:
    """An array whose reading ends with an error half-way."""

    shape, dtype, chunks = (6, 40, 50), np.dtype(np.uint16), (1, 40, 50)

    def __init__(self, error):
        self.error = error

    def __getitem__(self, key):
        raise self.error

    def transpose(self, order):
        return self

    def __array__(self, dtype=None, copy=None):
        raise self.error


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EROFS, "the disk is read-only"),
        (errno.EACCES, "permission denied"),
        (errno.EIO, "Input/output"),
    ],
)
def test_errors_of_the_system(tmp_path, suffix, number, message):
    path = tmp_path / f"a{suffix}"
    with raises("file.not_written", file=str(path)) as caught:
        write(path, Broken(OSError(number, os.strerror(number))), axes="ZYX")
    assert isinstance(caught.error, OSError)
    assert caught.error.errno == number
    assert message in caught.error.rule
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_interrupted_write_keeps_the_former_file(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", ARRAY, axes="ZYX")
    with raises("file.exists"):
        write(path, ARRAY[::-1], axes="ZYX")
    for error in (KeyboardInterrupt(), OSError(errno.ENOSPC, "full"), FileReadError("source")):
        with pytest.raises((KeyboardInterrupt, FileWriteError, FileReadError)):
            write(path, Broken(error), axes="ZYX", overwrite=True)
        assert list(tmp_path.iterdir()) == [path]
        np.testing.assert_array_equal(read(path).canonical()[0], ARRAY)
    write(path, ARRAY[::-1].copy(), axes="ZYX", overwrite=True)
    np.testing.assert_array_equal(read(path).canonical()[0], ARRAY[::-1])


FULL = """
import resource, signal, sys
import numpy as np
from morula.io.write import write
from morula.io.output import open_output
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
array = np.random.default_rng(0).integers(0, 60000, (20, 256, 256)).astype(np.uint16)
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))
for suffix in sys.argv[2:]:
    try:
        if suffix.startswith("blocks"):
            with open_output(sys.argv[1] + suffix, array.shape, array.dtype, "ZYX") as output:
                for z in range(20):
                    output[z] = array[z]
        else:
            write(sys.argv[1] + suffix, array, axes="ZYX")
    except OSError as error:
        print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on file sizes")
def test_a_real_limit_ends_in_words_and_not_the_process(tmp_path):
    suffixes = [*SUFFIXES, "blocks.h5", "blocks.ome.zarr"]
    done = subprocess.run([sys.executable, "-c", FULL, f"{tmp_path}/a", *suffixes], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    said = done.stdout.splitlines()
    assert len(said) == len(suffixes)
    for line in said:
        assert line.startswith("FileWriteError")
        assert "larger than the disk or your account allows" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the administrator may write anywhere")
def test_folders_that_may_not_be_written_to(tmp_path):
    tmp_path.chmod(0o555)
    with raises("file.not_written"):
        write(tmp_path / "a.tif", ARRAY)


def test_a_file_in_place_of_a_folder(tmp_path):
    (tmp_path / "x").write_text("a file")
    with raises("file.not_written"):
        write(tmp_path / "x" / "a.tif", ARRAY)


def test_missing_folders_are_made(tmp_path):
    assert write(tmp_path / "a" / "b" / "c.tif", ARRAY).exists()


def test_folders_step_aside_and_back(tmp_path, monkeypatch):
    target = tmp_path / "folder"
    target.mkdir()
    own = '{"attributes": {"morula": "image"}}'
    (target / "zarr.json").write_text(own)
    with atomic(target) as temporary:
        temporary.mkdir()
        (temporary / "zarr.json").write_text(own)
        (temporary / "0").write_text("new")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["0", "folder", "zarr.json"]

    def refuse(*_):
        raise OSError(errno.EIO, "device")

    monkeypatch.setattr("morula.core.atomic.put_in_place", refuse)
    with raises("file.not_written"), atomic(target) as temporary:
        temporary.mkdir()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["0", "folder", "zarr.json"]


def test_writing_that_fails_in_a_library(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError("Can't synchronously write data (file write failed: errno = 28, error message = 'No space left on device')")

    for module, name in ((zarr, "create_array"), (ome_zarr, "create_array"), (hdf5, "create")):
        monkeypatch.setattr(module, name, full)
    for suffix in (".zarr", ".ome.zarr", ".h5"):
        with raises("file.not_written"):
            write(tmp_path / f"a{suffix}", ARRAY)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".ome.zarr", ".h5"])
def test_blockwise_output_equals_whole(tmp_path, suffix):
    rng = np.random.default_rng(0)
    array = rng.random((2, 9, 300, 270)).astype(np.float32)
    size = VoxelSize(0.2, 0.2, 1.0)
    with open_output(tmp_path / f"a{suffix}", array.shape, array.dtype, "CZYX", size) as output:
        assert (output.shape, output.dtype, output.ndim) == (array.shape, array.dtype, 4)
        for box in blocks(array.shape, (1, 5, 100, 100)):
            output[box.slices] = array[box.slices]
        np.testing.assert_array_equal(output[1, 2:4], array[1, 2:4])
        assert not (tmp_path / f"a{suffix}").exists()
    whole = write(tmp_path / f"b{suffix}", array, axes="CZYX", voxel_size=size)
    for level in range(2 if suffix == ".ome.zarr" else 1):
        one, other = read(tmp_path / f"a{suffix}", level=level), read(whole, level=level)
        np.testing.assert_array_equal(one, other)
        assert (one.axes, one.voxel_size) == (other.axes, other.voxel_size)
    assert len(list(tmp_path.iterdir())) == 2
    if suffix == ".ome.zarr":
        yaozarrs.validate_zarr_store(str(tmp_path / "a.ome.zarr"))


def test_labels_blockwise_into_an_image(tmp_path):
    image = write(tmp_path / "a.ome.zarr", np.zeros((4, 600, 300), np.uint8), voxel_size=[2, 1, 1])
    output = open_output(f"{image}/labels/nuclei", (4, 600, 300), np.uint32, "ZYX", labels=True)
    output[2, 5:9] = 2**31
    assert finish_pyramid(output.path) == image / "labels" / "nuclei"
    found = read_labels(image, level=1)
    assert found.spacing == (2, 2, 2)
    assert found.data[2, 3, 0] == 2**31
    yaozarrs.validate_zarr_store(str(image / "labels"))
    with raises("output.not_started"):
        finish_pyramid(output.path)
    with raises("file.exists"):
        open_output(f"{image}/labels/nuclei", (4, 600, 300), np.uint32, "ZYX", labels=True)


@pytest.mark.parametrize("suffix", [".ome.zarr", ".h5"])
def test_an_interrupted_output_leaves_nothing(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"

    def interrupted():
        with open_output(path, (4, 5), np.uint8, "YX") as output:
            output[0] = 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_at_the_end(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(output_module, "replace", full)
    for suffix in (".ome.zarr", ".h5"):
        with raises("file.not_written"), open_output(tmp_path / f"a{suffix}", (4, 5), np.uint8, "YX"):
            pass
        assert list(tmp_path.iterdir()) == []


def test_an_unfinished_output_is_no_image(tmp_path):
    output = open_output(tmp_path / "a.ome.zarr", (4, 5), np.uint8, "YX")
    hidden = next(tmp_path.iterdir())
    with raises("ome_zarr.unfinished"):
        read(hidden)
    output.discard()


def test_outputs_that_cannot_be(tmp_path):
    with raises("output.not_blockwise"):
        open_output(tmp_path / "a.tif", (4, 5), np.uint8, "YX")
    with raises("output.shape"):
        open_output(tmp_path / "a.h5", (4, 5), np.uint8, "ZYX")
    with raises("dataset.invalid_name", value="../x"):
        write(tmp_path / "a.h5", ARRAY, dataset="../x")
    with raises("output.not_unfinished"):
        ome_zarr.finish(tmp_path)


def test_tables(tmp_path):
    columns = {
        "label": np.array([1, 2**40], np.int64), "volume_um3": np.array([0.1 + 0.2, np.nan]), "float32": np.array([0.1, 2], np.float32),
        "name": ["a,b", 'c "d"'], "touches": [True, False], "score": [None, 0.5],
    }  # fmt: skip
    table = read_table(write_table(tmp_path / "t.csv", columns))
    assert list(table) == list(columns)
    np.testing.assert_array_equal(table["label"], columns["label"])
    np.testing.assert_array_equal(table["volume_um3"], columns["volume_um3"])
    np.testing.assert_array_equal(table["float32"].astype(np.float32), columns["float32"])
    assert list(table["name"]) == columns["name"]
    assert np.isnan(table["score"][0])
    assert table["label"].dtype == np.int64


def test_tables_without_rows(tmp_path):
    table = read_table(write_table(tmp_path / "t.csv", {"label": [], "volume_um3": []}))
    assert {name: len(values) for name, values in table.items()} == {"label": 0, "volume_um3": 0}


def test_tables_that_are_wrong(tmp_path):
    with raises("table.unequal_columns"):
        write_table(tmp_path / "t.csv", {"a": [1], "b": [1, 2]})
    write_table(tmp_path / "t.csv", {"a": [1]})
    with raises("file.exists"):
        write_table(tmp_path / "t.csv", {"a": [1]}, overwrite=False)
    (tmp_path / "u.csv").write_text("a,b\n1,2\n3\n")
    with raises("file.unreadable"):
        read_table(tmp_path / "u.csv")
    (tmp_path / "v.csv").write_text("")
    with raises("file.unreadable"):
        read_table(tmp_path / "v.csv")

    with raises("file.missing"):
        read_table(tmp_path / "tt.csv")


def test_hdf5_outputs_state_their_axes(tmp_path):
    with open_output(f"{tmp_path}/a.h5:/probabilities", (2, 6, 40, 50), np.float32, "CZYX", [2, 1, 1]) as output:
        output[:] = 1
    with h5py.File(tmp_path / "a.h5") as file:
        assert list(file["probabilities"].attrs["element_size_um"]) == [2, 1, 1]
    assert read(tmp_path / "a.h5").axes == "CZYX"
