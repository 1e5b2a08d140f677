from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from morula.core import MissingExtraError, MissingFileError, UnknownNameError
from morula.viewer import layers, show


@pytest.fixture
def run(tmp_path: Path) -> Path:
    raw = np.random.default_rng(0).integers(0, 4000, (4, 2, 16, 20)).astype(np.uint16)
    labels = np.zeros((4, 16, 20), np.uint16)
    labels[1:3, 4:9, 5:11] = 70
    resolution = {"resolution": (10.0, 10.0), "metadata": {"spacing": 0.5, "unit": "um"}}
    tifffile.imwrite(tmp_path / "a.tif", raw, imagej=True, metadata={"axes": "ZCYX", "spacing": 0.5, "unit": "um"}, resolution=(10.0, 10.0))
    for name in ("truth", "prediction"):
        meta = {"axes": "ZYX", **resolution["metadata"]}  # type: ignore[dict-item]
        tifffile.imwrite(tmp_path / f"{name}.tif", labels, imagej=True, metadata=meta, resolution=(10.0, 10.0))
    (tmp_path / "report").mkdir()
    entries = [
        {"name": "a", "raw": str(tmp_path / "a.tif"), "truth": str(tmp_path / "truth.tif"), "prediction": str(tmp_path / "prediction.tif")},
        {"name": "b", "raw": str(tmp_path / "a.tif"), "truth": None, "prediction": str(tmp_path / "prediction.tif")},
    ]
    (tmp_path / "report" / "images.json").write_text(json.dumps(entries))
    return tmp_path


def test_an_image_becomes_a_layer_a_channel_and_two_of_labels(run: Path) -> None:
    found = layers(run, "a")
    assert [(meta["name"], kind, data.shape) for data, meta, kind in found] == [
        ("raw 0", "image", (4, 16, 20)),
        ("raw 1", "image", (4, 16, 20)),
        ("truth", "labels", (4, 16, 20)),
        ("prediction", "labels", (4, 16, 20)),
    ]
    assert all(meta["scale"] == pytest.approx((0.5, 0.1, 0.1)) for _, meta, _ in found)
    assert found[-1][0].max() == 70


def test_without_truth_there_is_no_such_layer(run: Path) -> None:
    assert [meta["name"] for _, meta, _ in layers(run, "b")] == ["raw 0", "raw 1", "prediction"]


def test_an_unknown_image_is_named_with_those_that_there_are(run: Path) -> None:
    with pytest.raises(UnknownNameError, match="has no image 'c'; it has a, b"):
        layers(run, "c")
    with pytest.raises(MissingFileError, match="is not a run folder"):
        layers(run / "nowhere", "a")


def test_showing_without_napari_says_how_to_get_it(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "napari", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'morula\[napari\]'"):
        show(run, "a")
