"""The files of a folder as the planes of one volume."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

import morula
from morula.io.pairs import list_images, pair_images
from morula.io.read import read_labels
from morula.testing.errors import raises


def planes(folder: Path, volume: np.ndarray, suffix: str = ".tif") -> Path:
    for z, plane in enumerate(volume):
        morula.write(folder / f"z{z}{suffix}", plane, axes="YX")
    return folder


VOLUME = np.arange(12 * 6 * 5).reshape(12, 6, 5).astype(np.uint8)  # z10 comes after z9


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_a_folder_of_planes_is_read_as_a_volume(tmp_path: Path, suffix: str) -> None:
    image = morula.read(f"{planes(tmp_path / 'a', VOLUME, suffix)}:/planes")
    assert image.axes == "ZYX"
    assert image.voxel_size is None
    assert np.array_equal(np.asarray(image), VOLUME)
    for key in (np.s_[3:11:4, 2, 1:4], np.s_[5], np.s_[4:4], np.s_[::-1, :, 0]):
        assert np.array_equal(pickle.loads(pickle.dumps(image.data))[key], VOLUME[key])
    assert np.array_equal(np.asarray(read_labels(f"{tmp_path / 'a'}:/planes")), VOLUME)


def test_folders_of_planes_are_paired(tmp_path: Path) -> None:
    for kind in ("raw", "labels"):
        for name in ("one", "two"):
            planes(tmp_path / kind / name, VOLUME)
    pairs, warnings = pair_images(*(f"{tmp_path / kind / '*'}:/planes" for kind in ("raw", "labels")))
    assert [(pair.name, str(pair.labels)) for pair in pairs] == [(name, f"{tmp_path / 'labels' / name}:/planes") for name in ("one", "two")]
    assert not warnings
    # the way to name them is offered where they are named as images
    with raises("images.none_in_folder") as caught:
        list_images(tmp_path / "raw")
    assert ":/planes" in str(caught.error.remedy)


def test_what_are_no_planes_of_one_volume(tmp_path: Path) -> None:
    folder = planes(tmp_path / "a", VOLUME)
    morula.write(folder / "z12.tif", VOLUME[0, :3], axes="YX")
    with raises("planes.differ", file=str(folder / "z12.tif")):
        morula.read(f"{folder}:/planes")
    morula.write(tmp_path / "b" / "z0.tif", VOLUME, axes="ZYX")
    with raises("planes.volume"):
        morula.read(f"{tmp_path / 'b'}:/planes")
    (tmp_path / "c").mkdir()
    with raises("planes.none"):
        morula.read(f"{tmp_path / 'c'}:/planes")
    with raises("file.missing"):
        morula.read(f"{tmp_path / 'd'}:/planes")
