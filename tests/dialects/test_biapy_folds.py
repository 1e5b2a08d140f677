"""Folds, validation images as test images, and arrays of one name in several containers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.dialects.test_biapy_versions import Keys, job, written

from morula.core.errors import JobError
from morula.dialects.biapy.folds import folds
from morula.dialects.verbs import check
from morula.io.write import write
from morula.testing.errors import raises

VAL = "DATA.VAL"


@given(st.integers(2, 40), st.integers(2, 8), st.none() | st.integers(0, 9))
def test_each_image_is_in_one_fold_of_almost_equal_size(images: int, count: int, seed: int | None) -> None:
    numbers = folds(images, count, seed)
    sizes = np.bincount(numbers, minlength=count)
    assert len(numbers) == images
    assert sizes.max() - sizes.min() <= 1
    assert seed is not None or numbers.tolist() == sorted(numbers)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    for number in range(5):
        for folder in ("x", "y"):
            write(tmp_path / folder / f"im_{number}.tif", np.full((8, 8), number, np.uint8), axes="YX")
    return {"DATA.TRAIN.PATH": str(tmp_path / "x"), "DATA.TRAIN.GT_PATH": str(tmp_path / "y"), f"{VAL}.CROSS_VAL": True}


def names(source: object) -> list[str]:
    assert isinstance(source, dict)
    assert [Path(path).name for path in source["raw"]] == [Path(path).name for path in source["labels"]]
    return [Path(path).name for path in source["raw"]]


def test_over_all_folds_each_image_validates_once(tmp_path: Path, keys: Keys) -> None:
    validated = []
    for fold in range(1, 6):
        stated = {f"{VAL}.CROSS_VAL_FOLD": fold, "TEST.ENABLE": True, "DATA.TEST.USE_VAL_AS_TEST": True}
        images = job(tmp_path, keys | stated).job["images"]
        assert isinstance(images, dict)
        train, held = names(images["train"]), names(images["validate"])
        assert not set(train) & set(held)
        assert len({*train, *held}) == 5
        assert images["test"] == images["validate"]
        validated += held
    assert sorted(validated) == [f"im_{number}.tif" for number in range(5)]
    # without shuffling, folds are neighbours
    neighbours = job(tmp_path, keys | {f"{VAL}.RANDOM": False, f"{VAL}.CROSS_VAL_NFOLD": 2, f"{VAL}.CROSS_VAL_FOLD": 2}).job["images"]
    assert isinstance(neighbours, dict)
    assert names(neighbours["validate"]) == ["im_3.tif", "im_4.tif"]


def test_the_last_images_validate_where_they_are_not_drawn(tmp_path: Path, keys: Keys) -> None:
    stated: Keys = {f"{VAL}.CROSS_VAL": False, f"{VAL}.RANDOM": False, f"{VAL}.SPLIT_TRAIN": 0.3}
    images = job(tmp_path, keys | stated).job["images"]
    assert isinstance(images, dict)
    assert names(images["validate"]) == ["im_3.tif", "im_4.tif"]


@pytest.mark.parametrize(
    ("stated", "key", "code"),
    [
        ({f"{VAL}.CROSS_VAL_NFOLD": 6}, f"{VAL}.CROSS_VAL", "biapy.too_few_images"),
        ({f"{VAL}.CROSS_VAL_NFOLD": 1}, f"{VAL}.CROSS_VAL_NFOLD", "biapy.out_of_range"),
        ({f"{VAL}.CROSS_VAL_FOLD": 9}, f"{VAL}.CROSS_VAL_FOLD", "biapy.out_of_range"),
        ({"DATA.TRAIN.PATH": "/none"}, "DATA.TRAIN.PATH", "file.missing"),
    ],
)
def test_folds_that_cannot_be_made(tmp_path: Path, keys: Keys, stated: Keys, key: str, code: str) -> None:
    with raises(code, key=key):
        job(tmp_path, keys | stated)


def test_arrays_of_one_name_in_each_file_of_a_folder(tmp_path: Path) -> None:
    for number in (1, 2, 10):
        for name in ("volumes/raw", "volumes/labels"):
            write(tmp_path / "z" / f"v{number}.zarr" / name, np.zeros((4, 8, 8), np.uint8), axes="ZYX")
    several = "DATA.TRAIN.INPUT_ZARR_MULTIPLE_DATA"
    keys: Keys = {"DATA.TRAIN.PATH": str(tmp_path / "z"), several: True, f"{several}_RAW_PATH": "volumes.raw"}
    keys[f"{several}_GT_PATH"] = "volumes.labels"
    images = job(tmp_path, keys).job["images"]
    assert isinstance(images, dict)
    assert isinstance(images["train"], dict)
    assert images["train"]["raw"] == [str(tmp_path / f"z/v{number}.zarr:/volumes/raw") for number in (1, 2, 10)]
    one = job(tmp_path, keys | {"DATA.TRAIN.PATH": str(tmp_path / "z/v1.zarr")}).job["images"]
    assert isinstance(one, dict)
    assert one["train"] == {kind: str(tmp_path / f"z/v1.zarr:/volumes/{name}") for kind, name in (("raw", "raw"), ("labels", "labels"))}
    with pytest.raises(JobError) as caught:
        job(tmp_path, {**keys, f"{several}_RAW_PATH": ""})
    assert (caught.value.problems[0].key, caught.value.problems[0].code) == (f"{several}_RAW_PATH", "biapy.missing_key")


def test_arrays_at_the_root_of_each_file_are_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number, folder in ((1, "train"), (2, "train"), (3, "test")):
        for name in ("raw", "gt"):
            write(tmp_path / folder / f"v{number}.zarr" / name, rng.integers(0, 9, (8, 16, 16)).astype(np.uint8), axes="ZYX")
    keys: Keys = {"PROBLEM.TYPE": "INSTANCE_SEG", "PROBLEM.NDIM": "3D", "DATA.PATCH_SIZE": "(8, 16, 16, 1)"}
    keys |= {"MODEL.FEATURE_MAPS": [2, 4], "MODEL.Z_DOWN": [1], "DATA.VAL.SPLIT_TRAIN": 0.5, "TRAIN.ENABLE": True}
    keys |= {"TEST.ENABLE": True, "DATA.TEST.LOAD_GT": True}
    for part in ("TRAIN", "TEST"):
        several = f"DATA.{part}.INPUT_ZARR_MULTIPLE_DATA"
        keys |= {f"DATA.{part}.PATH": str(tmp_path / part.lower()), several: True}
        keys |= {f"{several}_RAW_PATH": "raw", f"{several}_GT_PATH": "gt"}
    prepared = check(written(tmp_path, keys), prove=False).prepared
    assert prepared.validation is not None
    found = {source.title.rpartition("/")[2]: source for source in (*prepared.train.sources, *prepared.validation.sources)}
    assert len(found) == 2
    for source in found.values():
        assert source.labels is not None
        assert not np.array_equal(np.asarray(source.image.canonical()), np.asarray(source.labels.canonical()))
    assert prepared.test_shapes == ((8, 16, 16),)


def test_each_source_has_the_order_of_axes_that_is_stated_for_it(tmp_path: Path) -> None:
    chunks: Keys = {"TEST.ENABLE": True, "TEST.BY_CHUNKS.ENABLE": True, "TEST.BY_CHUNKS.INPUT_IMG_AXES_ORDER": "XYZ"}
    volumes: Keys = {"PROBLEM.NDIM": "3D", "DATA.PATCH_SIZE": "(8, 16, 16, 1)"}
    images = job(tmp_path, volumes | chunks | {"TEST.BY_CHUNKS.INPUT_MASK_AXES_ORDER": "XYZ"}).job["images"]
    assert isinstance(images, dict)
    assert images["test"]["axes"] == "XYZ"  # type: ignore[index, call-overload]
    assert "axes" not in images["train"]  # type: ignore[operator]
    with raises("biapy.contradiction", key="TEST.BY_CHUNKS.INPUT_MASK_AXES_ORDER"):
        job(tmp_path, volumes | chunks | {"TEST.BY_CHUNKS.INPUT_MASK_AXES_ORDER": "ZYX"})
