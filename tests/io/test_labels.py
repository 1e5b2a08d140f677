"""Label ids are whole numbers from 0 to 2**32 - 1, and what is not is refused in words."""

import numpy as np
import PIL.Image
import pytest

from morula.io import blocks
from morula.io.read import read, read_labels
from morula.io.write import write
from morula.testing.errors import raises

IDS = np.arange(12, dtype=np.uint16).reshape(3, 4)


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint64, np.float16, np.float32, np.float64])
def test_whole_numbers_of_any_type_become_ids(tmp_path, dtype):
    found = read_labels(write(tmp_path / "a.npy", IDS.astype(dtype)))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, IDS)
    assert found.data[1, 2] == 6


@pytest.mark.parametrize(
    ("value", "dtype", "code"),
    [
        (1.5, np.float32, "labels.fraction"),
        (np.nan, np.float32, "labels.not_finite"),
        (np.inf, np.float64, "labels.not_finite"),
        (-1, np.int32, "labels.negative_id"),
        (2**32, np.int64, "labels.large_id"),
        (2**63, np.uint64, "labels.large_id"),
        (2**24 + 2, np.float32, "labels.inexact"),
    ],
)
@pytest.mark.parametrize("suffix", [".npy", ".h5"])
def test_invalid_ids_are_rejected(tmp_path, value, dtype, code, suffix, monkeypatch):
    array = IDS.astype(dtype)
    array[-1, -1] = value
    monkeypatch.setattr(blocks, "block_shape", lambda shape, *_: tuple(min(2, n) for n in shape))  # several blocks
    with raises(code) as caught:
        read_labels(write(tmp_path / f"a{suffix}", array))
    assert caught.error.file == str(tmp_path / f"a{suffix}")
    assert code == "labels.not_finite" or caught.error.value == value


def test_ids_at_the_limit(tmp_path):
    array = IDS.astype(np.float64)
    array[0, 0] = 2**32 - 1
    assert read_labels(write(tmp_path / "a.npy", array)).data[0, 0] == 2**32 - 1


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_colours_are_refused(tmp_path, suffix):
    with raises("labels.channels"):
        read_labels(write(tmp_path / f"a{suffix}", np.zeros((9, 9, 3), np.uint8), axes="YXC"))


def test_a_channel_may_be_named_and_a_single_one_is_dropped(tmp_path):
    path = write(tmp_path / "a.h5", np.stack([IDS, IDS * 2]), axes="CYX")
    with raises("labels.channels"):
        read_labels(path)
    np.testing.assert_array_equal(read_labels(path, channel=1), IDS * 2)
    assert read_labels(write(tmp_path / "b.h5", IDS[None], axes="CYX")).axes == "YX"


def test_palettes_are_ids_for_labels_and_colours_for_images(tmp_path):
    picture = PIL.Image.fromarray(IDS.astype(np.uint8))
    picture.putpalette([255 - i for i in range(256) for _ in range(3)])
    picture.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), IDS)
    assert read(tmp_path / "a.png").shape == (3, 4, 3)


def test_jpeg_labels_are_refused(tmp_path):
    PIL.Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.jpg")
    with raises("labels.jpeg"):
        read_labels(tmp_path / "a.jpg")


def test_unsigned_labels_are_not_read_to_be_checked(tmp_path, monkeypatch):
    path = write(tmp_path / "a.ome.zarr", IDS, labels=True)
    monkeypatch.setattr("morula.io.read.iterate_blocks", lambda data: pytest.fail("was read"))
    assert read_labels(path).dtype == np.uint16
