from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from morula.testing.errors import raises
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


def test_layers_of_an_image(run: Path) -> None:
    found = layers(run, "a")
    assert [(meta["name"], kind, data.shape) for data, meta, kind in found] == [
        ("raw 0", "image", (4, 16, 20)),
        ("raw 1", "image", (4, 16, 20)),
        ("truth", "labels", (4, 16, 20)),
        ("prediction", "labels", (4, 16, 20)),
    ]
    assert all(meta["scale"] == pytest.approx((0.5, 0.1, 0.1)) for _, meta, _ in found)
    assert found[-1][0].max() == 70


def test_no_truth_no_layer(run: Path) -> None:
    assert [meta["name"] for _, meta, _ in layers(run, "b")] == ["raw 0", "raw 1", "prediction"]


def test_unknown_image(run: Path) -> None:
    with raises("run.unknown_image", key="name", value="c"):
        layers(run, "c")
    with raises("run_folder.missing", file=str(run / "nowhere")):
        layers(run / "nowhere", "a")


def test_missing_napari(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "napari", None)
    with raises("extra.napari"):
        show(run, "a")
