"""Corrections of objects: decisions, undo, files, and the training that continues with them."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

import morula
from morula.core.events import Finished
from morula.core.voxel_size import VoxelSize
from morula.jobs.load import load_job
from morula.testing.errors import raises
from morula.testing.simulate import simulate
from morula.workflows.corrections import Corrections
from morula.workflows.retrain import retrain
from morula.workflows.review_files import files_beside, free_file, load_review, save_review
from morula.workflows.simulated_review import review_by_truth


def scene(seed: int = 0, shape: tuple[int, ...] = (96, 96), number: int = 12) -> tuple[np.ndarray, np.ndarray]:
    made = simulate("nuclei", shape=shape, n_objects=number, rng=np.random.default_rng(seed))
    return made.image, made.labels


class Clock:
    """A clock that each look moves on by two seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 2.0
        return self.now


@pytest.fixture
def corrections() -> Corrections:
    image, labels = scene()
    return Corrections(labels, image=image, clock=Clock())


def state(corrections: Corrections) -> tuple[object, ...]:
    return corrections.labels.tobytes(), corrections.objects, dict(corrections.reviews), corrections.review().to_csv()


def test_every_decision_is_undone(corrections: Corrections) -> None:
    first, *others = sorted(corrections.objects)
    mask = np.zeros(corrections.shape, bool)
    mask[2:7, 2:9] = True
    decisions = [
        lambda: corrections.accept(first, others[0]),
        lambda: corrections.delete(others[1]),
        lambda: corrections.merge(next(label for label in corrections.left if corrections.neighbours(label))),
        lambda: corrections.split(corrections.left[0]),
        lambda: corrections.redraw(corrections.left[0], mask),
        lambda: corrections.add(mask),
    ]
    states = []
    for decide in decisions:
        states.append(state(corrections))
        decide()
        assert state(corrections) != states[-1]
    assert corrections.steps == len(decisions)
    for before in reversed(states):
        corrections.undo()
        assert state(corrections) == before
    assert corrections.undo() == ()
    np.testing.assert_array_equal(corrections.labels, corrections.original)


def test_what_decisions_do_to_the_labels(corrections: Corrections) -> None:
    labels = corrections.original
    touching = next(label for label in sorted(corrections.objects) if corrections.neighbours(label))
    other = corrections.neighbours(touching)[0]
    assert corrections.merge(touching) == touching
    np.testing.assert_array_equal(corrections.labels == touching, (labels == touching) | (labels == other))
    assert other not in corrections.objects
    parts = corrections.split(touching, points=[np.argwhere(labels == each).mean(axis=0) for each in (touching, other)])
    assert len(parts) == 2
    assert touching in parts
    np.testing.assert_array_equal(np.isin(corrections.labels, parts), (labels == touching) | (labels == other))
    sizes = [(corrections.labels == part).sum() for part in (touching, max(parts))]
    assert sizes[0] >= sizes[1]  # the largest part keeps the id
    untouched = ~np.isin(labels, (touching, other))
    np.testing.assert_array_equal(corrections.labels[untouched], labels[untouched])


def test_an_object_that_is_painted_over_is_gone_and_comes_back(corrections: Corrections) -> None:
    first, second = sorted(corrections.objects)[:2]
    corrections.redraw(first, np.isin(corrections.labels, (first, second)))
    assert second not in corrections.objects
    with raises("corrections.no_object", key="label", value=second):
        corrections.mask(second)
    corrections.undo()
    assert second in corrections.objects


def test_painting_by_other_means(corrections: Corrections) -> None:
    label = sorted(corrections.objects)[0]
    box, inside = corrections.mask(label)
    before = corrections.labels[box].copy()
    corrections.labels[box][inside] = corrections.new_label
    assert corrections.painted(box, before) == (corrections.new_label - 1,)
    assert label not in corrections.objects
    assert corrections.review().set_index("label").loc[corrections.new_label - 1, "status"] == "added"
    corrections.undo()
    corrections.labels[box] = 0  # the eraser
    assert label in corrections.painted(box, before)
    corrections.undo()
    np.testing.assert_array_equal(corrections.labels, corrections.original)


def test_the_queue_goes_from_the_worst_to_the_best_and_skips_what_is_reviewed(corrections: Corrections) -> None:
    doubts = [corrections.suspicion[label][0] for label in corrections.queue]
    assert doubts == sorted(doubts, reverse=True)
    assert corrections.next() == corrections.queue[0]
    corrections.accept(corrections.queue[0])
    assert corrections.next() == corrections.queue[1]
    assert corrections.next(corrections.queue[1]) == corrections.queue[2]
    assert corrections.next(corrections.queue[-1]) == corrections.queue[1]  # from the last one to the first that is left
    corrections.accept(*corrections.left)
    assert corrections.next() is None


def test_confidences_of_a_table_decide(corrections: Corrections) -> None:
    table = morula.measure(corrections.original, confidence=np.linspace(1, 0.01, corrections.original.max()))
    assert Corrections(corrections.original, table=table).queue[0] != corrections.queue[0]
    assert Corrections(corrections.original, table=table).suspicion[int(corrections.original.max())][1] == "confidence"


def test_time_is_counted_per_object() -> None:
    clock = Clock()
    corrections = Corrections(scene()[1], clock=clock)
    first, second = corrections.queue[:2]
    corrections.next()
    clock.now += 10
    corrections.accept(first)
    clock.now += 1000  # something else was done
    corrections.accept(second)
    rows = corrections.review().set_index("label")["seconds"]
    assert (rows[first], rows[second]) == (12, 60)
    assert corrections.seconds == 72


def test_slices_count_objects_and_reviews() -> None:
    labels = np.zeros((4, 8, 8), np.uint8)
    labels[0:2, :3, :3], labels[1:4, 5:, 5:] = 1, 2
    corrections = Corrections(labels)
    corrections.accept(2)
    corrections.mark_slice(0)
    rows = corrections.slices()
    assert rows["objects"].tolist() == [1, 2, 1, 1]
    assert rows["reviewed"].tolist() == [0, 1, 1, 1]
    assert rows["done"].tolist() == [True, False, False, False]
    assert corrections.known(reach=0)[0].all()
    corrections.mark_slice(0, done=False)
    assert not corrections.known(reach=0)[0].any()
    flat = Corrections(labels[0])
    assert flat.slices()["objects"].tolist() == [1]
    flat.mark_slice()
    assert flat.known().all()


def test_only_what_was_reviewed_is_learned_from(corrections: Corrections) -> None:
    with raises("corrections.none"):
        corrections.training_labels()
    right, wrong = corrections.queue[:2]
    corrections.accept(right)
    corrections.delete(wrong)
    labels, ignored = corrections.training_labels(reach=2)
    values = np.asarray(labels)
    assert (values[corrections.original == right] == right).all()
    assert (values[corrections.original == wrong] == 0).all()
    known = values != ignored
    far = ~morula.labels.morphology.dilate_mask(np.isin(corrections.original, (right, wrong)), (3, 3))
    assert not known[far].any()
    assert (values[known] == corrections.labels[known]).all()


def test_a_review_is_saved_loaded_and_continued(corrections: Corrections, tmp_path: Path) -> None:
    image, labels = scene()
    corrections = Corrections(morula.Image(labels, "YX", VoxelSize(0.5, 0.5)), image=image)
    corrections.accept(corrections.queue[0])
    corrections.delete(corrections.queue[1])
    file = free_file(tmp_path, "cells")
    save_review(corrections, file)
    found = load_review(file, image=morula.Image(image, "YX"))
    np.testing.assert_array_equal(found.labels, corrections.labels)
    np.testing.assert_array_equal(found.known(), corrections.known())
    assert found.voxel_size == corrections.voxel_size
    columns = ["label", "status", "related", "seconds"]
    assert found.review()[columns].values.tolist() == corrections.review()[columns].values.tolist()
    found.accept(found.queue[-1])
    save_review(found, file)  # of its own
    assert free_file(tmp_path, "cells").name == "cells_corrected-2.tif"


def test_files_of_the_user_are_never_replaced(corrections: Corrections, tmp_path: Path) -> None:
    corrections.accept(corrections.queue[0])
    own = tmp_path / "labels.tif"
    morula.write(own, corrections.original, labels=True)
    before = own.read_bytes()
    with raises("output.not_own"):
        save_review(corrections, own)
    with raises("output.is_input"):
        save_review(Corrections(morula.read(own)), own)
    assert own.read_bytes() == before
    table = files_beside(tmp_path / "other.tif")[0]
    table.write_text("mine")
    with raises("output.not_own"):
        save_review(corrections, tmp_path / "other.tif")
    assert table.read_text() == "mine"
    assert not (tmp_path / "other.tif").exists()
    with raises("review.missing"):
        load_review(own)


def test_input_that_does_not_fit_is_one_error() -> None:
    image, labels = scene()
    with raises("corrections.image", key="image"):
        Corrections(labels, image=image[:-1])
    corrections = Corrections(labels)
    with raises("corrections.mask", key="mask"):
        corrections.add(np.zeros((3, 3), bool))
    with raises("corrections.no_object", key="label"):
        corrections.accept(10_000)
    alone = np.zeros((9, 9), np.uint8)
    alone[2:4, 2:4] = 1
    with raises("corrections.no_neighbour", key="label"):
        Corrections(alone).merge(1)
    assert Corrections(np.zeros((4, 4), np.uint8)).next() is None
    flat = Corrections(np.ones((1, 4, 4), np.uint8))  # a volume of one plane
    assert flat.mask(1)[1].all()
    large = Corrections(np.array([[0, 2**31, 7]], np.uint32), image=np.zeros((1, 3)))
    assert large.objects == {7, 2**31}


JOB = {
    "images": {"validate": None},
    "method": {"kind": "channels", "channels": ["F", "Db"]},
    "network": {"kind": "unet", "features": [8, 16]},
    "sampling": {"patch": [64, 64], "batch": 4, "patches_per_epoch": 64},
    "training": {"epochs": 5, "optimiser": {"kind": "adamw", "lr": 1e-2}},
}


@pytest.fixture(scope="module")
def poor_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of a short training on other images: it finds most nuclei, and makes mistakes."""
    folder = tmp_path_factory.mktemp("poor") / "run"
    list(morula.train(JOB, layers={f"n{seed}": scene(seed) for seed in (11, 12, 13, 14)}, output=folder))
    return folder


def test_segment_correct_retrain(poor_run: Path, tmp_path: Path) -> None:
    image, truth = scene(3, (128, 128), 24)
    began = time.process_time()
    model = morula.load(poor_run)
    labels = model.segment(image)
    corrections = Corrections(labels, image=image)
    decided = review_by_truth(corrections, truth, 10)
    assert len(decided) == 10
    *_, last = retrain(poor_run, {"cells": corrections}, output=tmp_path / "better", epochs=2)
    assert isinstance(last, Finished)
    job = load_job(tmp_path / "better/job.yaml")
    assert job.network.from_ == str(poor_run)
    assert job.training.optimiser.lr == pytest.approx(JOB["training"]["optimiser"]["lr"] * 0.25)  # type: ignore[index]
    assert job.images.ignore_label == 65535
    better = morula.load(tmp_path / "better").segment(image)
    assert time.process_time() - began < 180  # on a larger image and with more epochs, too: see docs/how-to/napari.md
    before, corrected, after = (morula.match(truth, np.asarray(found))[0].f1 for found in (labels, corrections.labels, better))
    print(f"F1 {before:.3f}, corrected {corrected:.3f}, retrained {after:.3f}")
    assert before + 0.2 < corrected
    assert before < after


@pytest.mark.parametrize("name", ["nuclei", "nuclei-stained"])
def test_a_model_keeps_its_scale_and_colours_also_when_it_is_resumed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("morula.workflows.retrain.PATCHES", 4)
    made = simulate("nuclei", shape=(96, 96), n_objects=6, rng=np.random.default_rng(1), spacing=(0.25, 0.25))
    corrections = Corrections(made.labels, image=made.image)
    corrections.accept(*corrections.queue[:3])
    list(retrain(name, {"cells": corrections}, output=tmp_path / "run", epochs=1, stop=lambda: True))
    assert not (tmp_path / "run/model").exists()
    list(morula.train(tmp_path / "run/job.yaml", output=tmp_path / "run", resume=True))
    again, bundled = morula.load(tmp_path / "run"), morula.load(name)
    assert (again.diameter, again.colour) == (bundled.diameter, bundled.colour)
    assert (again.job.training.precision, bundled.job.training.precision) == ("auto", "bf16")


def test_a_2d_model_learns_from_the_slices_of_a_volume(poor_run: Path, tmp_path: Path) -> None:
    image, truth = scene(5, (6, 64, 64), 8)
    corrections = Corrections(truth, image=image)
    corrections.accept(corrections.queue[0])
    list(retrain(poor_run, {"stack": corrections}, output=tmp_path / "run", epochs=1))
    known = np.asarray(corrections.training_labels()[0]) != 65535
    names = sorted(file.stem for file in (tmp_path / "run/layers/labels").glob("*.tif"))
    assert names == [f"stack_z{z:04d}" for z in np.flatnonzero(known.any(axis=(1, 2)))]


def test_models_that_cannot_learn_from_corrections_are_refused(tmp_path: Path, poor_run: Path) -> None:
    image, truth = scene()
    corrections = Corrections(truth, image=image)
    wnet = {"method": "wnet3d", "network": {"kind": "wnet", "features": [4, 8]}, "sampling": {"patch": [16, 16], "patches_per_epoch": 1}}
    list(morula.train({**wnet, "images": {"validate": None}, "training": {"epochs": 1}}, layers={"a": image}, output=tmp_path / "wnet"))
    corrections.accept(1)
    with raises("retrain.method", key="model"):
        list(retrain(tmp_path / "wnet", {"cells": corrections}, output=tmp_path / "out"))
    without = Corrections(truth)
    without.accept(1)
    with raises("retrain.no_image", key="images"):
        list(retrain(poor_run, {"cells": without}, output=tmp_path / "out"))
    with raises("corrections.none"):
        list(retrain(poor_run, {"cells": Corrections(truth, image=image)}, output=tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    with raises("run_folder.not_empty"):
        list(retrain(poor_run, {"cells": corrections}, output=poor_run))
