"""A class for every object, from files to the table and the scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import morula
from morula.jobs.load import load_job
from morula.measurement.csv_table import read_table
from morula.testing.errors import raises
from morula.testing.simulate import simulate
from morula.workflows.prepare import prepare

METHOD = "{kind: channels, channels: [F, C], classes: {names: [plain, spotted]}}"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of two kinds of nuclei: those of odd ids are spotted; the class of the last one is not known. Classes in files of their
    own, and as the second channel of the labels."""
    folder = tmp_path_factory.mktemp("classes") / "data"
    for split, n, seed in (("train", 4, 0), ("test", 2, 50)):
        for part in ("images", "labels", "classes", "both"):
            (folder / split / part).mkdir(parents=True)
        for number in range(n):
            made = simulate(shape=(64, 64), n_objects=8, rng=np.random.default_rng(seed + number))
            rows, columns = np.indices(made.labels.shape)
            spotted = (made.labels % 2 == 1) & ((rows + columns) % 3 == 0)
            classes = np.where(made.labels > 0, 1 + made.labels % 2, 0).astype(np.uint16)
            classes[made.labels == made.labels.max()] = 255
            image = np.where(spotted, made.image // 4, made.image).astype(made.image.dtype)
            name, labels = f"n{number}.tif", made.labels.astype(np.uint16)
            morula.write(folder / split / "images" / name, image, axes="YX")
            morula.write(folder / split / "labels" / name, labels, axes="YX", labels=True)
            morula.write(folder / split / "classes" / name, classes, axes="YX", labels=True)
            morula.write(folder / split / "both" / name, np.stack([labels, classes]), axes="CYX")
    return folder


def _job(job_text: Callable[..., str], data: Path, place: Path, *, both: bool = False, method: str = METHOD) -> Path:
    text = job_text(method).replace("data/", f"{data}/")
    for split in ("train", "test"):
        source = f"{data}/{split}/labels"
        text = text.replace(source, f"{data}/{split}/both" if both else f"{source}, classes: {data}/{split}/classes")
    job = place / "job.yaml"
    job.write_text(text)
    return job


def test_two_channels_and_a_folder_give_the_same_patches(job_text: Callable[..., str], data: Path, tmp_path: Path) -> None:
    one, two = (prepare(load_job(_job(job_text, data, tmp_path, both=both))).train for both in (False, True))
    for index in range(3):
        for name in ("image", "targets", "weights"):
            np.testing.assert_array_equal(one.sample(0, index)[name], two.sample(0, index)[name])


def test_classes_are_learned_in_annotated_objects(job_text: Callable[..., str], data: Path, tmp_path: Path) -> None:
    prepared = prepare(load_job(_job(job_text, data, tmp_path), overrides=["augment=none", "sampling.patch=[64,64]"]))
    assert prepared.method.channels == ("F", "C", "plain", "spotted")
    assert prepared.method.heads == {"channels": 2, "classes": 2}
    sample = prepared.train.sample(0, 0)
    known = sample["weights"][2] > 0
    np.testing.assert_array_equal(sample["targets"][2:].sum(axis=0), known)
    inside = sample["targets"][0] > 0
    assert known[inside].any()
    assert not known[~inside].any()
    assert (inside & ~known).any()  # the object whose class is not known
    assert sample["weights"][0].all()


def test_classes_in_a_second_channel(job_text: Callable[..., str], data: Path, tmp_path: Path) -> None:
    settings = ["training.epochs=1", "sampling.patches_per_epoch=4", "network.features=[4,8]"]
    list(morula.iter_run(_job(job_text, data, tmp_path, both=True), output=tmp_path / "run", overrides=settings))
    assert "Classes of objects, all test images together" in (tmp_path / "run/report.html").read_text()


@pytest.mark.slow
def test_classes_of_objects_are_predicted_and_scored(job_text: Callable[..., str], data: Path, tmp_path: Path) -> None:
    settings = ["training.epochs=8", "sampling.patches_per_epoch=32", "training.optimiser.lr=1e-2", "network.features=[8,16]"]
    list(morula.iter_run(_job(job_text, data, tmp_path), output=tmp_path / "run", overrides=settings))
    right = total = 0
    for name in ("n0", "n1"):
        table = read_table(tmp_path / f"run/objects/{name}.csv")
        labels, shown, truth = (
            np.asarray(morula.read(file))
            for file in (
                tmp_path / f"run/objects/{name}.tif",
                tmp_path / f"run/objects/classes/{name}.tif",
                data / f"test/classes/{name}.tif",
            )
        )
        for label, number, title, share in zip(table["label"], table["class"], table["class_name"], table["class_confidence"], strict=True):
            assert set(np.unique(shown[labels == label])) == {number}
            assert title == ("plain", "spotted")[number - 1]
            assert 0.5 <= share <= 1
            true = np.bincount(truth[labels == label], minlength=256)[1:3]
            if true.sum() > 20:
                right, total = right + (true.argmax() + 1 == number), total + 1
    assert right > 0.8 * total
    scores = read_table(tmp_path / "run/scores.csv")
    assert scores["class_accuracy"][(scores["image"] == "pooled") & (scores["threshold"] == 0.5)][0] > 0.8
    classes = read_table(tmp_path / "run/class_scores.csv")
    pooled = (classes["image"] == "pooled") & (classes["threshold"] == 0.5)
    assert classes["class"][pooled].tolist() == ["plain", "spotted"]
    each = [classes["n_true"][(classes["image"] == f"n{number}") & (classes["threshold"] == 0.5)] for number in range(2)]
    np.testing.assert_array_equal(classes["n_true"][pooled], sum(each))
    page = (tmp_path / "run/report.html").read_text()
    assert "Classes of objects, all test images together" in page


@pytest.mark.parametrize(
    ("method", "code"),
    [
        ("{kind: channels, classes: 1}", "option.range"),
        ("{kind: channels, classes: {names: [a, b], ignore: 2}}", "classes.ignore"),
        ("{kind: channels, classes: {count: 3, names: [a, b]}}", "classes.names"),
    ],
)
def test_wrong_sets_of_classes_are_rejected(job_text: Callable[..., str], data: Path, tmp_path: Path, method: str, code: str) -> None:
    with raises(code):
        load_job(_job(job_text, data, tmp_path, method=method))


def test_missing_class_images_are_named(job_text: Callable[..., str], data: Path, tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(job_text(METHOD).replace("data/", f"{data}/"))
    with raises("classes.missing", key="images.train.classes"):
        prepare(load_job(job))


def test_a_class_above_the_number_is_named(job_text: Callable[..., str], data: Path, tmp_path: Path) -> None:
    prepared = prepare(load_job(_job(job_text, data, tmp_path, method="{kind: channels, classes: {count: 2, ignore: 0}}")))
    with raises("classes.unknown", value=255):
        _ = [prepared.train.sample(0, index) for index in range(16)]
