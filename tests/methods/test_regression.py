"""Images from images: what is learned, what a run writes, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from skimage.metrics import peak_signal_noise_ratio

import morula
from morula.io.read import read
from morula.io.write import write
from morula.jobs.load import load_job
from morula.measurement.csv_table import read_table
from morula.methods.object_options import ObjectOptions
from morula.methods.regression import Regression
from morula.methods.regression_options import Options
from morula.testing.errors import raises
from morula.workflows.prepare import prepare

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


def test_targets_on_the_scale_of_their_images(folder, tmp_path):
    for number in range(4):  # whole numbers of another brightness in each image
        image = read(folder / f"raw/{number}.tif").canonical()[0]
        write(folder / f"bright/{number}.tif", (1000 * (number + 1) + 50 * image).astype(np.int16), axes="YX", overwrite=True)
    method = "{kind: regression, units: image, losses: {mse: 0.5, ssim: 0.5}}"
    text = JOB.format(labels="bright", method=method, monitor="psnr").replace("normalise: fixed", "normalise: {kind: zscore}")
    job = {**yaml.safe_load(text.replace("raw: raw", "raw: bright")), "augment": [{"rotate": {"degrees": 30}}]}
    job["prediction"] = {"tta": "flips"}
    (folder / "units.yaml").write_text(yaml.safe_dump(job))
    prepared = prepare(load_job(folder / "units.yaml"))
    plain = replace(prepared.train, augmentations=())
    for index in range(8):  # without a warp: the target by its own mean and deviation
        number, box = plain.place(0, index)
        target, whole = plain.sample(0, index)["targets"], prepared.train.sources[number].labels.canonical().astype(np.float64)
        np.testing.assert_allclose(target, ((whole - whole.mean()) / whole.std())[(slice(None), *box.slices)], atol=1e-4)
    assert len(np.unique(prepared.train.sample(0, 0)["targets"])) > 900  # interpolated, though the values are whole numbers
    morula.run(folder / "units.yaml", output=tmp_path / "run")
    model, raw = morula.load(tmp_path / "run"), read(folder / "bright/2.tif").canonical().astype(np.float64)
    centre, spread = raw.mean(), raw.std()
    batch = torch.from_numpy((raw - centre) / spread)[None].float()
    with torch.inference_mode():
        flips = [model.forward(batch.flip(axes)).flip(axes) for axes in ((), (2,), (3,), (2, 3))]
    predicted = read(tmp_path / "run/predictions/2_predicted.tif").canonical()
    np.testing.assert_allclose(predicted, sum(flips)[0].numpy() / 4 * spread + centre, rtol=1e-4)
    np.testing.assert_allclose(predicted, model.predict(read(folder / "bright/2.tif")), rtol=1e-5)
    scores = read_table(tmp_path / "run/scores.csv")
    row = list(scores["image"]).index("2")
    assert scores["psnr"][row] == pytest.approx(peak_signal_noise_ratio(raw, predicted, data_range=np.ptp(raw)), abs=1e-3)
    assert scores["psnr"][row] > 20


def test_another_number_of_channels(folder, tmp_path):
    with raises("targets.channels", key="images.train.labels"):
        run(folder, tmp_path / "run", "masks", "regression", "mse")
    assert not (tmp_path / "run").exists()


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
        ({"units": "image", "offset": 1.0}, "regression.units"),
        ({"units": "image", "activation": "sigmoid"}, "regression.units"),
    ],
)
def test_losses_of_other_values(options, code):
    with raises(code):
        load_job({"images": {"train": {"raw": "a", "labels": "b"}}, "method": {"kind": "regression", **options}})


@pytest.mark.parametrize("key", ["normalise", "renormalise"])
def test_scales_that_cannot_be_found_again(folder, key):
    document = yaml.safe_load(JOB.format(labels="brighter", method="{kind: regression, units: image}", monitor="psnr"))
    document["sampling"][key] = {"kind": "zscore", "per": "patch"}
    (folder / "patch.yaml").write_text(yaml.safe_dump(document))
    with raises("restoring.not_invertible"):
        prepare(load_job(folder / "patch.yaml"))


def test_sides_are_values_of_the_image():
    """The same voxels count more whatever the offset and the scale of the output."""
    targets = torch.tensor([[[[90.0, 110.0]]]])
    for offset, scale in ((0.0, 1.0), (100.0, 5.0)):
        options = Options(losses={"l1": 1.0}, loss_options={"l1": {"sides": (100.0, 3.0, 1.0)}}, offset=offset, scale=scale)
        method = Regression(options, ObjectOptions(), ndim=2, spacing=(1.0, 1.0))
        batch = {"targets": targets, "weights": torch.ones_like(targets)}
        sums = method.loss({"image": (torch.full_like(targets, 100.0) - offset) / scale}, batch)["l1"]
        assert float(sums.total) * scale == pytest.approx((3 * 10 + 10) / 2)
