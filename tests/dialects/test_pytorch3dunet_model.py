"""A checkpoint of pytorch-3dunet with its YAML beside it is a model: `morula.load`, `morula segment`."""

import shutil

import numpy as np
import pytest
import yaml
from unet3d_jobs import CLASSES, changed, small_job, written

import morula
from morula.dialects.pytorch3dunet import train3dunet
from morula.testing.errors import raises

FIVE = {"loss.name": "CrossEntropyLoss", "model.out_channels": 5, "loaders.*.transformer": CLASSES, "eval_metric.name": "MeanIoU"}
"""Changes that make a job of five classes."""


@pytest.mark.parametrize("changes", [{}, FIVE])
def test_a_checkpoint_with_its_job_predicts_and_segments(tmp_path, changes):
    job = written(tmp_path, changed(small_job(tmp_path), changes))
    list(train3dunet(job))
    path = tmp_path / "out" / "best_checkpoint.pytorch"
    for file in path.parent.glob("*.y*ml"):
        file.unlink()
    with raises("checkpoint.weights_only", file=str(path)):
        morula.load(path)
    shutil.copyfile(job, path.parent / "train.yml")
    model = morula.load(path)
    image = np.random.default_rng(0).normal(size=(8, 16, 16)).astype(np.float32)
    predicted = model.predict(image)
    assert predicted.shape == (changes.get("model.out_channels", 1), 8, 16, 16)
    assert np.isfinite(predicted).all()
    assert model.segment(image).shape == image.shape


def test_a_job_of_other_channels_is_refused(tmp_path):
    job = written(tmp_path, small_job(tmp_path))
    list(train3dunet(job))
    path = tmp_path / "out" / "best_checkpoint.pytorch"
    for file in path.parent.glob("*.y*ml"):
        file.unlink()
    (path.parent / "train.yml").write_text(yaml.safe_dump(changed(small_job(tmp_path), FIVE)))
    with raises("checkpoint.heads", file=str(path)):
        morula.load(path)
