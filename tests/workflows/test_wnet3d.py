"""WNet3D from a folder without labels to objects, scores and a report."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import morula
from morula.core.events import Epoch, Finished, Logged, Preview, Progress, Warned
from morula.jobs.load import load_job
from morula.jobs.run_folder import RunFolder
from morula.jobs.tuning import changed
from morula.measurement.csv_table import read_table
from morula.metrics.matching import pool
from morula.nn.weights import update_sidecar
from morula.testing.errors import raises
from morula.workflows.prepare import prepare, validation_parts

JOB = """\
images:
  train: {{raw: data/train/images}}
  validate: {validate}
  test: {{raw: data/test/images, labels: data/test/labels}}
method: {method}
network: {{kind: wnet, preset: light, features: [4, 8]}}
sampling: {{patch: {patch}, batch: 1, patches_per_epoch: {patches}}}
training: {{epochs: 2, optimiser: {{kind: adamw, lr: 5e-3}}}}
"""


def written(
    folder: Path, *, method: str = "wnet3d", patch: str = "[16, 32, 32]", patches: int = 6, validate: str = "null", name: str = "wnet"
) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(JOB.format(method=method, patch=patch, patches=patches, validate=validate))
    return path


@pytest.fixture(scope="module")
def trained(data3d: Path) -> tuple[Path, list]:
    folder = data3d.parent / "wnet"
    # a worker may set the fixture up twice when tests of this module are moved between workers
    return folder, list(morula.iter_run(written(data3d.parent), output=folder, overwrite=True))


def test_a_run_needs_no_label(trained: tuple[Path, list]) -> None:
    folder, events = trained
    for name in ("report.html", "scores.csv", "model/weights.safetensors", "objects/nuclei_000.tif", "objects/nuclei_000.csv"):
        assert (folder / name).is_file(), name
    statistics = read_table(folder / "objects/nuclei_000_statistics.csv")
    assert {"Volume", "Centroid x", "Sphericity (axes)", "Volume (um3)", "Filling ratio"} <= set(statistics)
    assert {"f1", "slice_f1", "foreground_dice"} <= set(read_table(folder / "scores.csv"))
    messages = [event.message for event in events if isinstance(event, Logged)]
    assert any("is the foreground because it is the brightest" in text for text in messages)


def test_every_epoch_shows_a_strip_and_both_losses(trained: tuple[Path, list]) -> None:
    folder, events = trained
    assert [event.epoch for event in events if isinstance(event, Preview)] == [1, 2]
    assert len(list((folder / "logs/previews").glob("wnet3d_*.png"))) == 2
    epochs = [event for event in events if isinstance(event, Epoch)]
    assert all({"ncuts", "reconstruction", "balance"} <= set(event.figures) for event in epochs)
    columns = (folder / "logs/training.csv").read_text().splitlines()[0].split(",")
    assert {"ncuts", "reconstruction", "balance"} <= set(columns)


def test_intensity_range_is_the_same_in_prediction(trained: tuple[Path, list], data3d: Path) -> None:
    model = morula.load(trained[0])
    image = morula.read(data3d / "test/images/nuclei_000.tif")
    low, high = np.percentile(image.canonical(), (0.5, 99.8))
    scaled = model.scaling(image).apply(image.canonical())
    np.testing.assert_allclose(scaled, np.clip((image.canonical() - low) / (high - low) * 100, 0, 100), atol=1e-3)
    batch = prepare(load_job(trained[0] / "job.yaml")).train.sample(0, 0)["image"]
    assert 0 <= batch.min() < 5
    assert 50 < batch.max() <= 100


def test_percentiles_are_settable_and_the_scale_stays(data3d: Path) -> None:
    job = load_job(written(data3d.parent, name="percentiles"), overrides=["sampling.normalise={low: 2, high: 98}"])
    normalise = prepare(job).job.sampling.normalise
    assert (normalise.low, normalise.high, normalise.top, normalise.clip) == (2, 98, 100, True)


def test_a_constant_image_trains_and_predicts(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / "data" / split / "images").mkdir(parents=True)
        morula.write(tmp_path / "data" / split / "images/flat.tif", np.full((16, 32, 32), 7, np.uint16))
    job = written(tmp_path, patches=3)
    job.write_text(job.read_text().replace(", labels: data/test/labels", ""))
    events = list(morula.iter_run(job, output=tmp_path / "run"))
    losses = [event.figures["loss"] for event in events if isinstance(event, Epoch)]
    assert np.isfinite(losses).all()
    assert (tmp_path / "run/objects/flat.tif").is_file()


def test_same_seed_same_weights(data3d: Path, tmp_path: Path) -> None:
    job = written(data3d.parent, name="again", patches=3)
    list(morula.train(job, output=tmp_path / "whole"))
    asked = iter([False] * 4 + [True] * 9)
    list(morula.train(job, output=tmp_path / "stopped", stop=lambda: next(asked)))
    assert not (tmp_path / "stopped/model").exists()
    list(morula.train(job, output=tmp_path / "stopped", resume=True))
    list(morula.train(job, output=tmp_path / "second"))
    one, *others = ((tmp_path / name / "model/weights.safetensors").read_bytes() for name in ("whole", "stopped", "second"))
    assert others == [one, one]


def killed(job: Path, output: Path) -> None:
    """Train until the fifth step, then end without a word."""
    for event in morula.train(job, output=output):
        if isinstance(event, Progress) and event.task == ("train",) and event.done == 5:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="a forked process is killed")
def test_killed_training_resumes_to_the_same_weights(data3d: Path, tmp_path: Path) -> None:
    job = written(data3d.parent, name="killed", patches=3)
    job.write_text(job.read_text().replace("epochs: 2", "epochs: 3, checkpoint_every: 2 steps"))
    list(morula.train(job, output=tmp_path / "whole"))
    process = multiprocessing.get_context("fork").Process(target=killed, args=(job, tmp_path / "killed"))
    process.start()
    process.join(300)
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "killed/model").exists()
    told = [event.message for event in morula.train(job, output=tmp_path / "killed", resume=True) if isinstance(event, Logged)]
    assert any("resumed after step 4 of 9" in text for text in told)
    one, other = ((tmp_path / name / "model/weights.safetensors").read_bytes() for name in ("whole", "killed"))
    assert one == other


def test_it_trains_in_2d_too(data2d: Path, tmp_path: Path) -> None:
    job = written(data2d.parent, patch="[32, 32]", patches=3, name="flat", method="{kind: wnet3d, classes: 3, reconstruction: bce}")
    list(morula.iter_run(job, output=tmp_path / "run"))
    assert morula.load(tmp_path / "run").method.channels == ("class 0", "class 1", "class 2")


def test_the_network_is_planned_and_others_are_refused(data3d: Path) -> None:
    path = written(data3d.parent, name="planned")
    path.write_text("\n".join(line for line in path.read_text().splitlines() if not line.startswith("network")))
    network = prepare(load_job(path)).job.network
    assert (network.kind, network.preset, network.separable) == ("wnet", "light", True)
    with raises("network.method", value="unet"):
        prepare(load_job(path, overrides=["network=unet"]))
    with raises("network.method", value="wnet"):
        prepare(load_job(path, overrides=["network=wnet", "method=semantic", "images.train.labels=" + str(data3d / "train/labels")]))


def test_what_makes_nothing_of_a_foreground_is_refused(data3d: Path) -> None:
    with raises("decoder.seed_below_foreground"):
        load_job(written(data3d.parent, name="seeds"), overrides=["objects.decoder={kind: seeded_watershed, seed: 0.4}"])


def test_brightness_parts_objects_of_voronoi_otsu_alone(data3d: Path) -> None:
    path = written(data3d.parent, name="parted", method="{kind: wnet3d, part_by: brightness}")
    prepare(load_job(path))
    with raises("wnet3d.brightness_unused", key="method.part_by"):
        prepare(load_job(path, overrides=["objects.decoder=connected_components"]))


def test_plain_methods_are_scored_beside_it(trained: tuple[Path, list]) -> None:
    folder, events = trained
    rows = read_table(folder / "baselines.csv")
    assert set(rows["method"].tolist()) == {"Otsu + Voronoi", "Otsu + watershed"}
    assert any(isinstance(event, Warned) and event.code == "scores.below_baseline" for event in events)  # trained for 12 steps
    page = (folder / "report.html").read_text()
    assert "Compared with plain methods" in page
    assert "does not beat Otsu" in page


def test_the_report_shows_the_epochs_as_a_film_strip(trained: tuple[Path, list]) -> None:
    page = (trained[0] / "report.html").read_text()
    assert page.count("<b>epoch ") == 2
    assert "ncuts" in page[page.index("<b>epoch 2</b>") :][:200]
    assert page.count('alt="Epoch ') == 2


def test_training_from_weights_of_a_run(trained: tuple[Path, list], data3d: Path, tmp_path: Path) -> None:
    path = written(data3d.parent, name="from")
    overrides = ["network={kind: wnet, from: " + str(trained[0]) + "}", "training={epochs: 1}"]
    prepared = prepare(load_job(path, overrides=overrides))
    assert prepared.job.network.features == (4, 8)
    assert prepared.job.training.optimiser.lr == 1e-4
    events = list(morula.train(path, output=tmp_path / "run", overrides=[*overrides, "training.optimiser={kind: sgd, lr: 1e-12}"]))
    told = [event.message for event in events if isinstance(event, Logged)]
    assert any(text.startswith("started from") and "initialised randomly" not in text for text in told)
    before, after = (morula.load(folder).network.encoder.output.weight for folder in (trained[0], tmp_path / "run"))
    np.testing.assert_allclose(before.detach(), after.detach(), atol=1e-6)


def test_cellseg3d_checkpoint_with_other_classes(data3d: Path, tmp_path: Path) -> None:
    import torch

    from morula.dialects.cellseg3d import names
    from morula.nn.options import WNetOptions
    from morula.nn.wnet import WNet
    from morula.workflows.transfer import start_from

    theirs = WNet(WNetOptions(features=(4, 4, 8, 8)), ndim=3, in_channels=1, heads={"classes": 2})
    torch.save({name: theirs.state_dict()[own] for name, own in names()}, tmp_path / "wnet_latest.pth")
    path = written(data3d.parent, name="checkpoint", method="{kind: wnet3d, classes: 3}")
    prepared = prepare(load_job(path, overrides=["network={kind: wnet, from: " + str(tmp_path / "wnet_latest.pth") + "}"]))
    assert (prepared.job.network.features, prepared.job.network.dropout) == ((4, 4, 8, 8), 0.65)
    network = WNet(prepared.job.network, ndim=3, in_channels=1, heads=prepared.method.heads)
    transfer = start_from(network, tmp_path / "wnet_latest.pth")
    assert "165 of 168 tensors taken" in transfer.lines(path)[0]
    assert sorted(transfer.skipped) == ["decoder.down.0.0.convolution.weight", "encoder.output.bias", "encoder.output.weight"]
    torch.testing.assert_close(network.encoder.down[0][0].convolution.weight, theirs.encoder.down[0][0].convolution.weight)


def test_missing_weights(data3d: Path) -> None:
    from morula.workflows.check import check

    path = written(data3d.parent, name="absent")
    path.write_text(path.read_text().replace("preset: light, features: [4, 8]", "from: nowhere.pth"))
    with raises("checkpoint.missing", key="network.from"):
        check(path, prove=False)


@pytest.mark.parametrize("kind", ["voronoi_otsu", "seeded_watershed", "connected_components"])
def test_labelled_validation_images_tune_the_decoder(kind: str, trained: tuple[Path, list], data3d: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained[0], tmp_path / "run"))
    with raises("tune.no_validation"):
        list(morula.tune(run))
    images = {"raw": str(data3d / "test/images"), "labels": None}
    job = changed(load_job(run / "job.yaml"), {"images.validate": images, "objects.decoder": {"kind": kind, "min_size": 10**9}})
    rewrite(run, job)
    with raises("tune.no_labels", key="images.validate"):
        list(morula.tune(run))
    rewrite(run, changed(job, {"images.validate": images | {"labels": str(data3d / "test/labels")}}))
    *_, last = morula.tune(run, thresholds=[0.1])  # a dozen steps separate few touching nuclei
    assert isinstance(last, Finished)
    record = load_job(run / "job.yaml").objects.tuned
    assert record.score_after == last.figures["f1"] > record.score_before == 0
    assert record.before["objects.decoder.min_size"] == 10**9
    model = morula.load(run)
    scores = [
        morula.match(np.asarray(source.labels), np.asarray(model.segment(source.image)), thresholds=(0.1,))
        for source, _ in validation_parts(model)
    ]
    np.testing.assert_allclose(last.figures["f1"], pool(scores)[0].f1)


def rewrite(run: Path, job: Any) -> None:
    """Another job for a run that was trained already."""
    RunFolder.existing(run).write_job(job)
    update_sidecar(run / "model", job=job.model_dump(mode="json", by_alias=True))


def test_tuning_needs_validation_labels(data3d: Path, tmp_path: Path) -> None:
    path = written(data3d.parent, name="bare", validate="{raw: data/test/images}")
    path.write_text(path.read_text() + "objects: {tune: true}\n")
    with raises("tune.no_labels", key="objects.tune"):
        list(morula.train(path, output=tmp_path / "none"))


def test_best_epoch_is_chosen_by_labels(data3d: Path, tmp_path: Path) -> None:
    path = written(data3d.parent, name="judged", patches=3, validate="{raw: data/test/images, labels: data/test/labels}")
    events = list(morula.train(path, output=tmp_path / "run"))
    epochs = [event for event in events if isinstance(event, Epoch)]
    assert all({"dice", "f1@0.5", "score", "validation_loss"} <= set(event.figures) for event in epochs)
    assert all(event.figures["score"] == event.figures["dice"] for event in epochs)
    best = max(event.figures["dice"] for event in epochs)
    assert [event.figures["dice"] for event in epochs if event.best][-1] == best
