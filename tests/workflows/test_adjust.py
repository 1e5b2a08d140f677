"""Prediction of a part of an image, and its objects with other settings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import morula
from morula.core.events import Preview, Progress, drained
from morula.core.region import Region
from morula.testing.errors import raises
from morula.workflows.adjust import Prediction, predict_region


@pytest.fixture(scope="module")
def image(data2d: Path) -> morula.Image:
    return morula.read(sorted((data2d / "test" / "images").glob("*.tif"))[0])


@pytest.fixture(scope="module")
def whole(run2d: Path, image: morula.Image) -> Prediction:
    return drained(predict_region(morula.load(run2d), image))


def test_without_changes_the_objects_are_those_of_the_model(run2d: Path, image: morula.Image, whole: Prediction) -> None:
    decoded = whole.decode()
    np.testing.assert_array_equal(np.asarray(decoded.labels), np.asarray(morula.load(run2d).segment(image)))
    assert len(decoded.table) == np.asarray(decoded.labels).max()
    np.testing.assert_array_equal(np.asarray(whole.decode({"objects.decoder.valley": None}).labels), np.asarray(decoded.labels))


def test_a_box_is_predicted_as_in_the_whole_image(run2d: Path, image: morula.Image, whole: Prediction) -> None:
    box = Region((10, 20), (42, 60))
    part = drained(predict_region(morula.load(run2d), image, box))
    assert part.image.spatial_shape == box.shape
    np.testing.assert_allclose(part.channels, whole.channels[(slice(None), *box.slices)], atol=1e-4)


def test_progress_is_reported_and_a_box_outside_is_rejected(run2d: Path, image: morula.Image) -> None:
    events = list(predict_region(morula.load(run2d), image, Region((0, 0), (32, 32))))
    assert any(isinstance(event, Progress) for event in events)
    with raises("region.outside"):
        drained(predict_region(morula.load(run2d), image, Region((0, 0), (32, 320))))


def test_settings_are_numbers_with_bounds_and_a_description(whole: Prediction) -> None:
    settings = {setting.key: setting for setting in whole.settings}
    assert {"objects.decoder.seeds.F", "objects.decoder.growth.F", "objects.decoder.valley", "objects.refine.remove_small"} <= set(settings)
    for setting in settings.values():
        assert setting.low < setting.high
        assert setting.description
    threshold = settings["objects.decoder.seeds.F"].value
    assert threshold is not None
    # the value in use changes nothing when it is stated
    stated = whole.decode({"objects.decoder.seeds.F": threshold})
    np.testing.assert_array_equal(np.asarray(stated.labels), np.asarray(whole.decode().labels))


def test_each_setting_has_an_effect(whole: Prediction) -> None:
    settings = {setting.key: setting for setting in whole.settings}
    before = np.asarray(whole.decode({"objects.decoder.growth.F": 0.3}).labels)
    assert (np.asarray(whole.decode({"objects.decoder.growth.F": 0.5}).labels) > 0).sum() < (before > 0).sum()
    sizes = np.bincount(before.ravel())[1:]
    removed = whole.decode({"objects.decoder.growth.F": 0.3, "objects.refine.remove_small": int(np.median(sizes)) + 1})
    assert 0 < len(removed.table) < len(sizes)
    assert settings["objects.refine.remove_small"].high > np.median(sizes)


def test_the_threshold_of_two_classes(tmp_path: Path, image: morula.Image) -> None:
    job = {
        "images": {"validate": None},
        "method": "semantic",
        "network": {"kind": "unet", "features": [4, 8]},
        "sampling": {"patch": [32, 32], "batch": 1, "patches_per_epoch": 2},
        "training": {"epochs": 1},
    }
    values = np.asarray(image)
    list(morula.train(job, layers={"one": (values, (values > np.median(values)).astype(np.uint8))}, output=tmp_path / "run"))
    predicted = drained(predict_region(morula.load(tmp_path / "run"), image))
    (setting,) = predicted.settings
    assert (setting.key, setting.value) == ("method.threshold", 0.5)
    low, high = (np.asarray(predicted.decode({setting.key: value}).labels).sum() for value in (0.1, 0.9))
    assert low > high


def test_previews_hold_the_arrays_that_they_were_drawn_from(run2d: Path, tmp_path: Path) -> None:
    events = list(morula.train(run2d / "job.yaml", output=tmp_path / "run", overrides=["training.epochs=1"]))
    (preview,) = (event for event in events if isinstance(event, Preview))
    assert {name: array.shape for name, array in preview.arrays.items()} == {
        "input": (32, 32),
        "prediction": (3, 32, 32),
        "truth": (3, 32, 32),
    }
