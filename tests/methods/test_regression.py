"""Images from images: what is learned, what a run writes, and what is refused."""

import numpy as np
import pytest

import morula
from morula.io.read import read
from morula.io.write import write
from morula.jobs.load import load_job
from morula.measurement.csv_table import read_table
from morula.methods.regression import Regression
from morula.methods.regression_options import Options
from morula.testing.errors import raises

JOB = """\
images:
  train: {{raw: raw, labels: {labels}}}
  validate: 0.25
  test: {{raw: raw, labels: {labels}}}
method: {method}
network: {{kind: unet, features: [4, 8]}}
sampling: {{patch: [32, 32], batch: 2, patches_per_epoch: 16, normalise: fixed}}
augment: none
training: {{epochs: 15, monitor: {monitor}, optimiser: {{kind: adam, lr: 0.02}}}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images, the images with twice the values and 5 more, and two masks of each."""
    place, rng = tmp_path_factory.mktemp("regression"), np.random.default_rng(0)
    for number in range(4):
        image = rng.normal(size=(48, 40)).cumsum(axis=0).astype(np.float32)
        write(place / f"raw/{number}.tif", image, axes="YX")
        write(place / f"brighter/{number}.tif", 2 * image + 5, axes="YX")
        write(place / f"masks/{number}.tif", np.stack([image > 0, image > 3, image < 1]).astype(np.uint8), axes="CYX")
    return place


def run(folder, output, labels, method, monitor):
    (folder / "job.yaml").write_text(JOB.format(labels=labels, method=method, monitor=monitor))
    morula.run(folder / "job.yaml", output=output)
    return read_table(output / "scores.csv"), read_table(output / "logs/training.csv")


@pytest.mark.parametrize(
    ("labels", "method", "monitor", "figure"),
    [("brighter", "regression", "psnr", "psnr"), ("masks", "{kind: regression, channels: 3, activation: sigmoid}", "iou", "iou")],
)
def test_a_run(folder, tmp_path, labels, method, monitor, figure):
    scores, curve = run(folder, tmp_path / "run", labels, method, monitor)
    predicted, target = (read(place).canonical() for place in (tmp_path / "run/predictions/1_predicted.tif", folder / labels / "1.tif"))
    assert predicted.dtype == np.float32
    assert predicted.shape == target.shape == ((3, 48, 40) if labels == "masks" else (1, 48, 40))
    assert np.square(predicted - target).mean() < 0.6 * target.astype(np.float64).var(axis=(1, 2)).mean()  # better than the mean alone
    assert scores["mse"][list(scores["image"]).index("1")] == pytest.approx(
        np.square(predicted - target.astype(np.float64)).mean(), rel=1e-5
    )
    best = int(np.flatnonzero(curve["best"])[-1])
    assert curve[f"validation_{figure}"][best] == max(curve[f"validation_{figure}"])
    np.testing.assert_allclose(morula.load(tmp_path / "run").predict(read(folder / "raw/1.tif")), predicted, atol=1e-4)
    with raises("model.finds_no_objects"):
        morula.load(tmp_path / "run").segment(read(folder / "raw/1.tif"))


def test_targets_of_any_unit_are_learned_alike(folder, tmp_path):
    for number in range(4):
        write(folder / f"counts/{number}.tif", 1000 * read(folder / f"brighter/{number}.tif").canonical()[0], axes="YX", overwrite=True)
    errors = []
    for labels in ("brighter", "counts"):
        run(folder, tmp_path / labels, labels, "regression", "mse")
        predicted = read(tmp_path / labels / "predictions/1_predicted.tif").canonical()
        errors.append(predicted / (1000 if labels == "counts" else 1))
    np.testing.assert_allclose(*errors, rtol=1e-2, atol=1e-2)


def test_another_number_of_channels(folder, tmp_path):
    with raises("targets.channels"):
        run(folder, tmp_path / "run", "masks", "regression", "mse")


def test_unannotated_voxels_have_no_weight():
    method = Regression(Options(channels=2), None, ndim=2, spacing=(1.0, 1.0))
    targets = method.targets(np.ones((2, 3, 4)), unlabelled=np.eye(3, 4, dtype=bool))
    assert targets.weights.sum() == 2 * (12 - 3)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"losses": {"dice": 1.0}}, "loss.not_a_probability"),
        ({"losses": {"ce": 1.0}}, "loss.unknown"),
        ({"activation": "sigmoid", "scale": 2.0}, "regression.scaled_probability"),
        ({"losses": {"bce": 1.0}, "activation": "softmax"}, "loss.of_each_mask"),
    ],
)
def test_losses_of_other_values(options, code):
    with raises(code):
        load_job({"images": {"train": {"raw": "a", "labels": "b"}}, "method": {"kind": "regression", **options}})
