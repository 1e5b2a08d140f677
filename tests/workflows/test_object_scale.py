"""Training that starts from a model for objects of one size: images get its scale, results have the size of the images."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import morula
from morula.core.events import Logged, Warned
from morula.core.voxel_size import VoxelSize
from morula.jobs.load import load_job
from morula.metrics.matching import match, pool
from morula.models.rescaled_view import Rescaled
from morula.models.scale import equivalent_diameter
from morula.testing.errors import raises
from morula.workflows.check import check
from morula.workflows.in_memory_images import plan_for_layers
from morula.workflows.prepare import Prepared, prepare, validation_parts

TRAINED, LARGE = 14.0, 24.0


@pytest.fixture(scope="session")
def start(run2d: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model for objects of 14 voxels."""
    folder = tmp_path_factory.mktemp("start") / "model"
    replace(morula.load(run2d), diameter=TRAINED).save(folder, torch.rand(1, 1, 8, 8))
    return folder


def discs(diameters: dict[str, int], folder: Path, *, shape: tuple[int, int] = (72, 90), count: int = 8, size: object = None) -> Path:
    """Images with discs of one diameter each, and their labels."""
    for name, diameter in diameters.items():
        step, (y, x) = diameter + 3, np.indices(shape)
        rows, columns = y // step, x // step
        inside = (y % step - diameter / 2 - 1) ** 2 + (x % step - diameter / 2 - 1) ** 2 < (diameter / 2) ** 2
        number = rows * (shape[1] // step) + columns + 1
        whole = ((rows + 1) * step <= shape[0]) & ((columns + 1) * step <= shape[1])
        labels = np.where(inside & whole & (number <= count), number, 0).astype(np.uint16)
        for part, values in (("images", 200 * (labels > 0)), ("labels", labels)):
            morula.write(folder / part / f"{name}.tif", values.astype(np.uint16), axes="YX", labels=part == "labels", voxel_size=size)
    return folder


def job_of(folder: Path, start: Path, **images: Any) -> dict[str, Any]:
    return {
        "images": {"train": {"raw": str(folder / "images"), "labels": str(folder / "labels")}, "validate": None, **images},
        "method": {"kind": "channels", "channels": ["F", "C", "Db"]},
        "network": {"from": str(start)},
        "sampling": {"patch": [32, 32], "batch": 2, "patches_per_epoch": 4},
        "training": {"epochs": 1},
    }


def scales(prepared: Prepared, folder: Path) -> dict[str, list[float]]:
    """Factors of the axes by which the training images were rescaled, by name."""
    own = {source.name: morula.read(folder / "images" / f"{source.name}.tif").spatial_shape for source in prepared.train.sources}
    found = {source.name: source.image.spatial_shape for source in prepared.train.sources}
    return {name: [m / n for m, n in zip(found[name], own[name], strict=True)] for name in own}


def medians(prepared: Prepared) -> list[float]:
    """Median diameters of the objects as the network sees them."""
    counts = [np.bincount(np.asarray(source.labels).ravel())[1:] for source in prepared.train.sources]
    return [float(np.median(equivalent_diameter(count[count > 0], prepared.facts.ndim))) for count in counts]


def test_objects_get_the_size_of_the_model(start: Path, tmp_path: Path) -> None:
    folder = discs({"small": 7, "same": 15, "large": 22}, tmp_path, count=6)
    prepared = prepare(load_job(job_of(folder, start)))
    assert medians(prepared) == pytest.approx([TRAINED] * 3, rel=0.12)
    assert scales(prepared, folder)["same"] == [1, 1]  # as in prediction: small differences do not matter
    assert prepared.model(torch.nn.Identity()).diameter == TRAINED  # type: ignore[arg-type]
    for source in prepared.train.sources:
        assert source.labels is not None
        assert source.image.spatial_shape == source.labels.spatial_shape
        assert len(np.unique(np.asarray(source.labels))) == 7
    assert "objects of 14 voxels, those of the images have 15" in prepared.notes[0]
    assert "rescaled by 0.64 to 2" in prepared.notes[0]


def test_the_job_wins(start: Path, tmp_path: Path) -> None:
    folder = discs({"a": 7, "b": 22}, tmp_path)
    own = prepare(load_job(job_of(folder, start, diameter=None)))
    assert scales(own, folder) == {"a": [1, 1], "b": [1, 1]}
    assert (own.diameter, own.notes) == (None, ())
    stated = prepare(load_job(job_of(folder, start, diameter=28)))
    assert scales(stated, folder) == {"a": [0.5, 0.5], "b": [0.5, 0.5]}


def test_jobs_that_start_otherwise_keep_their_scale(run2d: Path, start: Path, tmp_path: Path) -> None:
    folder = discs({"a": 7, "b": 22}, tmp_path)
    other = job_of(folder, run2d)
    for network in (other["network"], {}):
        assert scales(prepare(load_job({**other, "network": network})), folder) == {"a": [1, 1], "b": [1, 1]}
        with raises("images.no_diameter", key="images.diameter", value=9.0):
            prepare(load_job({**job_of(folder, run2d, diameter=9), "network": network}))
    classes = {**job_of(folder, start, diameter=9), "method": {"kind": "semantic"}}
    with raises("images.no_diameter"):
        prepare(load_job(classes))


def test_an_image_with_few_objects_takes_the_usual_scale(start: Path, tmp_path: Path) -> None:
    discs({"a": 7, "b": 7}, tmp_path)
    discs({"empty": 7}, tmp_path, count=0)
    discs({"remnant": 22}, tmp_path, count=1)
    found = scales(prepare(load_job(job_of(tmp_path, start))), tmp_path)
    assert found["empty"] == found["remnant"] == found["a"]


def test_images_without_objects_keep_their_scale(start: Path, tmp_path: Path) -> None:
    assert prepare(load_job(job_of(discs({"a": 7}, tmp_path, count=0), start))).diameter is None


def test_tiny_objects_are_enlarged_within_limits_and_read_by_boxes(start: Path, tmp_path: Path) -> None:
    folder = discs({"a": 2}, tmp_path)
    prepared = prepare(load_job(job_of(folder, start)))
    assert scales(prepared, folder) == {"a": [4, 4]}
    assert isinstance(prepared.train.sources[0].image.data.source, Rescaled)  # type: ignore[attr-defined]
    assert prepared.train.sample(0, 0)["image"].shape == (1, 32, 32)


def test_unannotated_voxels_have_no_size(start: Path, tmp_path: Path) -> None:
    folder = discs({"a": 7}, tmp_path)
    file = folder / "labels/a.tif"
    labels = np.array(morula.read(file))
    labels[50:] = 255
    morula.write(file, labels, axes="YX", labels=True, overwrite=True)
    prepared = prepare(load_job(job_of(folder, start, ignore_label=255)))
    assert scales(prepared, folder)["a"] == pytest.approx([2, 2], rel=0.12)
    assert (np.asarray(prepared.train.sources[0].labels)[112:] == 255).all()


def test_volumes_of_any_voxel_size_get_the_voxels_of_the_model(tmp_path: Path) -> None:
    folder, start, former = tmp_path / "data", tmp_path / "start", tmp_path / "former"
    for name, spacing in (("a", (2.0, 0.5, 0.5)), ("b", (1.0, 1.0, 1.0))):
        shape = tuple(round(30 / step) for step in spacing)
        places = [(np.arange(n) + 0.5) * step for n, step in zip(shape, spacing, strict=True)]
        labels = np.zeros(shape, np.uint16)
        for number, centre in enumerate(np.ndindex(2, 2, 2), start=1):
            axes = np.ix_(*((along - 8 - 14 * at) ** 2 for along, at in zip(places, centre, strict=True)))
            labels[axes[0] + axes[1] + axes[2] < 6**2] = number
        for part, values in (("images", 99 * (labels > 0)), ("labels", labels)):
            target = folder / part / f"{name}.tif"
            morula.write(target, values.astype(np.uint16), axes="ZYX", labels=part == "labels", voxel_size=spacing)
    job = {**job_of(folder, start), "sampling": {"patch": [8, 16, 16], "batch": 1, "patches_per_epoch": 2}}
    list(morula.train({**job, "network": {"features": [4, 8]}}, output=former))
    replace(morula.load(former), diameter=10.0, voxel_size=VoxelSize(1, 1, 1, "pixel")).save(start, torch.rand(1, 1, 8, 8, 8))
    prepared = prepare(load_job(job))
    for source in prepared.train.sources:
        assert source.image.spacing == pytest.approx((1.2, 1.2, 1.2), rel=0.1)
        assert source.image.spatial_shape == pytest.approx((25, 25, 25), abs=2)
    assert medians(prepared) == pytest.approx([10, 10], rel=0.12)
    assert prepared.facts.spacing == pytest.approx((1.2, 1.2, 1.2), rel=0.1)
    assert not any("voxel sizes" in text for text in prepared.warnings)


@pytest.fixture(scope="module")
def tuned(start: Path, data2d: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[object]]:
    """A run with test images and tuning on images of their own."""
    folder = tmp_path_factory.mktemp("tuned")
    replace(morula.load(start), diameter=LARGE).save(folder / "start", torch.rand(1, 1, 8, 8))
    run = folder / "run"
    parts = {key: {"raw": str(data2d / name / "images"), "labels": str(data2d / name / "labels")} for key, name in PARTS.items()}
    job = job_of(data2d, folder / "start", **parts)
    events = list(morula.iter_run({**job, "objects": {"tune": {"thresholds": [0.5]}}}, output=run))
    return run, events


PARTS = {"train": "train", "validate": "test", "test": "test"}


def test_results_have_the_size_of_the_images(tuned: tuple[Path, list[object]], data2d: Path) -> None:
    run, events = tuned
    for file in (data2d / "test/images").iterdir():
        assert morula.read(run / "objects" / file.name).shape == morula.read(file).shape
    told = [event.message for event in events if isinstance(event, Logged)]
    assert any("the training images are rescaled by" in text for text in told)
    assert any("(estimated), scale" in text for text in told)
    assert not any("trained at" in event.message for event in events if isinstance(event, Warned))
    assert "rescaled by" in json.loads((run / "provenance.json").read_text())["scale"]
    assert "rescaled by" in (run / "report.html").read_text()
    model = morula.load(run)
    assert model.diameter == LARGE
    image = morula.read(next((data2d / "test/images").iterdir()))
    assert (model.segment(image, diameter=LARGE) == replace(model, diameter=None).segment(image)).all()


def test_the_tuned_score_is_that_of_the_model(tuned: tuple[Path, list[object]]) -> None:
    run, _ = tuned
    model, scores = morula.load(run), []
    record = model.job.objects.tuned
    assert record is not None
    for source, fitted in validation_parts(model):
        assert source.image.spatial_shape == fitted.original.spatial_shape != fitted.image.spatial_shape
        truth = np.asarray(source.labels)
        diameter = LARGE * truth.shape[-1] / fitted.image.spatial_shape[-1]
        scores.append(match(truth, np.asarray(model.segment(source.image, diameter=diameter)), thresholds=(0.5,)))
    assert record.score_after == pytest.approx(pool(scores)[0].f1)


def test_a_stated_diameter_is_that_of_the_test_images(start: Path, data2d: Path, tmp_path: Path) -> None:
    test = {"raw": str(data2d / "test/images")}
    events = list(morula.iter_run(job_of(data2d / "train", start, test=test, diameter=9), output=tmp_path / "run"))
    told = [event.message for event in events if isinstance(event, Logged)]
    assert sum("objects of about 9 voxels (stated)" in text for text in told) == 2


def test_parts_of_one_image_are_apart_at_every_scale(start: Path, tmp_path: Path) -> None:
    folder = discs({"a": 7}, tmp_path, shape=(64, 200), count=100)
    job = {**job_of(folder, start, validate=0.2), "sampling": {"patch": [32, 32], "batch": 1, "patches_per_epoch": 2}}
    list(morula.train(job, output=tmp_path / "run"))
    prepared, (part,) = prepare(load_job(job)), validation_parts(morula.load(tmp_path / "run"))
    source, fitted = part
    assert prepared.train.sources[0].region is not None
    assert source.region is not None
    learned, factor = prepared.train.sources[0].region.stop[1], prepared.train.sources[0].image.spatial_shape[1] / 200
    assert source.region.start[1] * factor >= learned + 31
    assert source.region.stop == (64, 200)
    assert fitted.original.spatial_shape == source.region.shape
    assert fitted.image.spatial_shape == pytest.approx([n * factor for n in source.region.shape], abs=1)


def test_check_says_the_scale(start: Path, tmp_path: Path) -> None:
    folder = discs({"a": 7, "b": 7}, tmp_path)
    checked = check(job_of(folder, start), prove=False)
    assert "the training images are rescaled by 2.2" in checked.prepared.notes[0]
    assert checked.planned["images.diameter"] == "auto"


def test_the_plan_for_layers_is_that_of_the_training(start: Path, tmp_path: Path) -> None:
    folder = discs({"a": 7}, tmp_path)
    layer = (morula.read(folder / "images/a.tif"), morula.read(folder / "labels/a.tif"))
    job = {name: value for name, value in job_of(folder, start).items() if name not in ("images", "sampling")}
    planned = plan_for_layers(job, {"a": layer})
    assert planned.sampling.patch == prepare(load_job(job_of(folder, start) | {"sampling": {}})).job.sampling.patch
    assert planned.sampling.patch != prepare(load_job(job_of(folder, start, diameter=None) | {"sampling": {}})).job.sampling.patch
