"""Semantic segmentation in job files of BiaPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.dialects.test_biapy_results import keys_of, run
from tests.dialects.test_biapy_versions import Keys, job

import morula
from morula.core.errors import JobError
from morula.measurement.csv_table import read_table
from morula.testing.errors import raises

CLASSES: Keys = {"PROBLEM.TYPE": "SEMANTIC_SEG"}


def method(folder: Path, keys: Keys) -> dict[str, object]:
    found = job(folder, CLASSES | keys).job["method"]
    assert isinstance(found, dict)
    return dict(found)


def test_losses_and_classes(tmp_path: Path) -> None:
    assert method(tmp_path, {}) == {"kind": "semantic", "classes": 2, "losses": {"bce": 1.0}}
    # one class was the foreground with its background
    assert method(tmp_path, {"MODEL.N_CLASSES": 1})["classes"] == 2
    with raises("biapy.out_of_range", key="DATA.N_CLASSES"):
        method(tmp_path, {"DATA.N_CLASSES": 0})
    both: Keys = {"DATA.N_CLASSES": 3, "LOSS.TYPE": ["CE", "DICE"], "LOSS.WEIGHTS": [0.7, 0.3], "LOSS.IGNORE_INDEX": 255}
    assert method(tmp_path, both) == {"kind": "semantic", "classes": 3, "losses": {"ce": 0.7, "dice": 0.3}, "ignore": 255}
    weights: Keys = {"DATA.N_CLASSES": 3, "LOSS.CLASS_REBALANCE": "manual", "LOSS.CLASS_WEIGHTS": [1, 2, 3]}
    assert method(tmp_path, weights)["class_weights"] == [1.0, 2.0, 3.0]
    with pytest.raises(JobError) as caught:
        method(tmp_path, weights | {"LOSS.CLASS_WEIGHTS": [1, 2], "LOSS.TYPE": "DISE"})
    found = {problem.key: problem.code for problem in caught.value.problems}
    assert found == {"LOSS.CLASS_WEIGHTS": "biapy.wrong_length", "LOSS.TYPE": "biapy.unknown_value"}


def test_keys_of_objects_have_no_effect(tmp_path: Path) -> None:
    keys: Keys = {"TEST.POST_PROCESSING.FILL_HOLES": True, "PROBLEM.INSTANCE_SEG.DATA_CHANNELS": "BC", "TEST.ENABLE": True}
    keys |= {"TEST.POST_PROCESSING.MEDIAN_FILTER": True, "TEST.POST_PROCESSING.MEDIAN_FILTER_AXIS": ["xy"]}
    keys |= {"TEST.POST_PROCESSING.MEDIAN_FILTER_SIZE": [3]}
    made = job(tmp_path, CLASSES | keys)
    assert {remark.key for remark in made.remarks} >= {"TEST.POST_PROCESSING.FILL_HOLES", "PROBLEM.INSTANCE_SEG.DATA_CHANNELS"}
    assert "median" in made.job["prediction"]  # type: ignore[operator]


def test_results_of_classes(tmp_path: Path) -> None:
    keys = keys_of(tmp_path) | CLASSES | {"AUGMENTOR.AUG_SAMPLES": False, "TRAIN.EPOCHS": 1, "PROBLEM.INSTANCE_SEG.DATA_CHANNELS": None}
    for part in ("train", "test"):
        for file in (tmp_path / "data" / part / "labels").glob("*.tif"):
            labels = np.asarray(morula.read(file))
            morula.write(file, (labels > 0).astype(np.uint8) * 255, axes="YX", overwrite=True)
    run(tmp_path, {key: value for key, value in keys.items() if value is not None}, name="classes")
    out = tmp_path / "out/classes/results/classes_1"
    assert np.asarray(morula.read(out / "per_image/nuclei_000.tif")).dtype == np.float32
    assert set(np.unique(np.asarray(morula.read(out / "per_image_binarized/nuclei_000.tif")))) <= {0, 1}
    metrics = read_table(out / "test_results_metrics.csv")
    assert list(metrics)[:2] == ["file", "iou"]
    assert morula.load(tmp_path / "out/classes/checkpoints/classes_1-checkpoint-best.pth").job.method.kind == "semantic"
