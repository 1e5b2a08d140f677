"""What is implausible in images and labels is said before the training, with a code, and nothing is said of sound ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import morula
from morula.core.errors import JobError
from morula.core.events import Warned
from morula.core.image import Image
from morula.core.remark import code_of
from morula.data.label_position import misplaced_labels
from morula.data.plausibility import background_with_id, images_that_hold_labels, repeated_images, single_voxels
from morula.data.summary import object_label_warnings
from morula.jobs.load import load_job
from morula.labels.class_values import as_classes
from morula.measurement.csv_table import read_table
from morula.testing.errors import raises
from morula.testing.simulate import simulate
from morula.workflows.measure import measure_file
from morula.workflows.prepare import prepare
from morula.workflows.reading import Reading

RNG = np.random.default_rng(0)


def discs(seed: int = 0, shape: tuple[int, ...] = (48, 48)) -> np.ndarray:
    """Labels of three discs or balls of different sizes, without any symmetry."""
    labels = np.zeros(shape, np.uint16)
    for label, (centre, radius) in enumerate([((9, 12), 7), ((30, 10 + seed), 5), ((14, 33), 4)], start=1):
        grid = np.indices(shape[-2:])
        labels[..., np.hypot(*(grid - np.reshape(centre, (2, 1, 1)))) < radius] = label
    return labels


def grey(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    return (100 * (labels > 0) + np.random.default_rng(seed).integers(0, 60, labels.shape)).astype(np.uint8)


def write(folder: Path, images: Mapping[str, np.ndarray], **options: Any) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in images.items():
        morula.write(folder / f"{name}.tif", array, **options)
    return str(folder)


def job(folder: Path, method: Any = "channels", *, labels: Any = discs, **sources: Any) -> dict[str, Any]:
    """A tiny data set of two images and its job; `labels` makes label images from seeds."""
    both = {f"im{seed}": labels(seed) for seed in (0, 1)}
    raw = write(folder / "raw", {name: grey(discs(seed, array.shape), seed) for seed, (name, array) in enumerate(both.items())})
    train = {"raw": raw, "labels": write(folder / "labels", both, labels=True)}
    sampling = {"patch": [16] * discs(0).ndim, "batch": 1, "patches_per_epoch": 2}
    kind = {"kind": "channels", "channels": ["F", "C"]} if method == "channels" else method
    network = {"kind": "unet", "features": [4, 8]}
    return {"images": {"train": train, "validate": 0.5, **sources}, "method": kind, "sampling": sampling, "network": network}


def codes(document: dict[str, Any]) -> list[str]:
    return [code_of(text, "other") for text in prepare(load_job(document)).warnings]


def test_sound_images_cause_no_remark(tmp_path: Path) -> None:
    assert codes(job(tmp_path)) == []


def test_test_images_that_were_learned_from(tmp_path: Path) -> None:
    document = job(tmp_path)
    write(tmp_path / "test", {"other_name": grey(discs(1), 1)})
    document["images"]["test"] = {"raw": str(tmp_path / "test")}
    assert codes(document) == ["images.duplicates"]
    same = Image(np.arange(64).reshape(8, 8), "YX")
    assert [remark.code for remark in repeated_images({"training": [same, same]})] == ["images.repeated"]
    blank = Image(np.zeros((8, 8)), "YX")
    assert repeated_images({"training": [blank], "test": [blank]}) == []


@pytest.mark.parametrize("move", [lambda a: a[::-1], lambda a: a[:, ::-1], lambda a: a.T, lambda a: np.roll(a, (9, 0), (0, 1))])
def test_labels_of_another_orientation(tmp_path: Path, move: Any) -> None:
    assert codes(job(tmp_path, labels=lambda seed: move(discs(seed)))) == ["labels.misplaced"]


def test_labels_in_place() -> None:
    for noise in (0, 400):  # weak contrast and textures are no reason to doubt the labels
        pairs = [(Image(grey(discs(seed)) + noise * RNG.random((48, 48)), "YX"), Image(discs(seed), "YX")) for seed in (0, 1)]
        assert misplaced_labels(pairs) == []
    volumes = [(Image(grey(discs(0, (4, 48, 48))), "ZYX"), Image(discs(0, (4, 48, 48)), "ZYX"))]
    assert misplaced_labels(volumes) == misplaced_labels([]) == []
    assert misplaced_labels([(image, Image(np.zeros((4, 48, 48), int), "ZYX")) for image, _ in volumes]) == []


def test_cells_without_background_are_placed_by_their_boundaries() -> None:
    y, x = np.mgrid[:64, :64]
    cells = np.argmin([np.hypot(y - a, x - b) for a, b in RNG.uniform(0, 64, (12, 2))], axis=0) + 1
    edges = (np.diff(cells, axis=0, prepend=cells[:1]) != 0) | (np.diff(cells, axis=1, prepend=cells[:, :1]) != 0)
    membranes = Image((50 + 100 * edges + RNG.integers(0, 30, cells.shape)).astype(np.uint8), "YX")
    assert misplaced_labels([(membranes, Image(cells, "YX"))]) == []
    assert misplaced_labels([(membranes, Image(cells[:, ::-1].copy(), "YX"))])[0].code == "labels.misplaced"


def test_background_with_an_id(tmp_path: Path) -> None:
    assert codes(job(tmp_path, labels=lambda seed: discs(seed) + 1)) == ["labels.background_id"]
    cells = np.kron(np.arange(1, 17).reshape(4, 4), np.ones((6, 6), int))  # cells without any background are none
    assert background_with_id([Image(cells, "YX")]) == background_with_id([Image(discs(), "YX")]) == []


def test_images_that_are_their_own_labels(tmp_path: Path) -> None:
    document = job(tmp_path)
    document["images"]["train"]["labels"] = document["images"]["train"]["raw"]
    assert {"images.own_labels", "labels.grey"} <= set(codes(document))


@pytest.mark.parametrize("made", [lambda labels: labels.astype(np.uint8), lambda labels: 255.0 * (labels > 0), lambda labels: 7 - labels])
def test_images_that_are_made_from_their_labels(tmp_path: Path, made: Callable[[np.ndarray], np.ndarray]) -> None:
    document = job(tmp_path)
    document["images"]["train"]["raw"] = write(tmp_path / "made", {f"im{seed}": made(discs(seed)) for seed in (0, 1)})
    assert codes(document) == ["images.hold_labels"]
    noise = np.stack([grey(discs()), 100 * discs()])
    assert images_that_hold_labels([(Image(noise, "CYX"), Image(discs(), "YX"))])  # one of several channels
    everywhere = Image(np.arange(48 * 48).reshape(48, 48), "YX")  # an image in place of labels
    constant = Image(np.full((48, 48), 3, np.uint8), "YX")
    assert not images_that_hold_labels([(Image(grey(discs()), "YX"), everywhere), (constant, Image(discs(), "YX"))])


def test_masks_in_place_of_objects(tmp_path: Path) -> None:
    assert "labels.mask" in codes(job(tmp_path, labels=lambda seed: 255 * (discs(seed) > 0).astype(np.uint8)))
    mask = Path(write(tmp_path / "mask", {"m": (255 * (discs() > 0)).astype(np.uint8)}, labels=True)) / "m.tif"
    events = list(measure_file(mask, tmp_path / "m.csv"))
    assert [event.code for event in events if isinstance(event, Warned)] == ["labels.mask"]


def test_each_component_of_a_mask_is_an_object(tmp_path: Path) -> None:
    document = job(tmp_path, labels=lambda seed: 255 * (discs(seed) > 0).astype(np.uint8))
    document["images"]["components"] = True
    assert codes(document) == []
    mask = Path(write(tmp_path / "mask", {"m": (255 * (discs() > 0)).astype(np.uint8)}, labels=True)) / "m.tif"
    events = list(measure_file(mask, tmp_path / "m.csv", reading=Reading(components=True)))
    assert not [event for event in events if isinstance(event, Warned)]
    assert read_table(tmp_path / "m.csv")["label"].tolist() == [1, 2, 3]
    document["images"]["ignore_label"] = 255
    with raises("images.components_and_ignore", key="images.ignore_label"):
        codes(document)


def test_volumes_without_voxel_size(tmp_path: Path) -> None:
    document = job(tmp_path, labels=lambda seed: discs(seed, (8, 48, 48)))
    document["sampling"]["patch"] = [8, 16, 16]
    assert codes(document) == ["voxel_size.missing"]
    document["images"]["voxel_size"] = {"z": 2, "y": 0.5, "x": 0.5}
    assert codes(document) == []


def test_voxel_sizes_that_differ(tmp_path: Path) -> None:
    document = job(tmp_path)
    write(tmp_path / "raw", {"im1": grey(discs(1), 1)}, voxel_size=0.5, overwrite=True)
    assert codes(document) == ["voxel_size.mixed"]


def mask(seed: int) -> np.ndarray:
    return (255 * (discs(seed) > 0)).astype(np.uint8)


def test_values_with_gaps_are_mapped(tmp_path: Path) -> None:
    prepared = prepare(load_job(job(tmp_path, {"kind": "semantic"}, labels=mask)))
    assert [code_of(text, "other") for text in prepared.warnings] == ["classes.mapped"]
    assert prepared.job.method.model_dump()["values"] == (0, 255)
    assert prepared.method.classes == 2  # type: ignore[attr-defined]
    targets = prepared.method.targets(mask(0))
    assert (targets.channels[0] == (mask(0) > 0)).all()
    assert as_classes(np.array([3, 9]), (0, 3), ignore=9).tolist() == [1, 2]
    with raises("labels.unknown_class", value=7):
        as_classes(np.array([7]), (0, 3))


def test_mapped_values_are_scored_as_classes(tmp_path: Path) -> None:
    document = job(tmp_path, {"kind": "semantic", "ignore": 7}, labels=lambda seed: np.where(discs(seed) == 3, 7, mask(seed)))
    document["images"]["test"] = document["images"]["train"]
    document |= {"training": {"epochs": 1}}
    list(morula.iter_run(document, output=tmp_path / "run"))
    scores = read_table(tmp_path / "run/scores.csv")
    assert set(scores["class"]) == {"foreground"}
    assert np.isfinite(scores["iou"]).all()
    assert (tmp_path / "run/report.html").is_file()


def test_classes_that_never_occur(tmp_path: Path) -> None:
    names = {"kind": "semantic", "names": ["background", "a", "b", "c", "d"]}
    assert codes(job(tmp_path, names)) == ["classes.absent"]
    with pytest.raises(JobError) as caught:
        codes(job(tmp_path / "few", {"kind": "semantic", "classes": 3}))
    assert [problem.code for problem in caught.value.problems] == ["labels.unknown_class"]


def test_stated_values() -> None:
    for stated in ({"values": [0, 0]}, {"values": [0, 255], "classes": 3}, {"values": [0, 255], "ignore": 255}):
        with pytest.raises(JobError):
            load_job({"images": {"train": {"raw": "a", "labels": "b"}}, "method": {"kind": "semantic", **stated}})


def test_copies_of_another_type_scale_or_orientation_are_found() -> None:
    values = np.random.default_rng(0).integers(0, 250, (40, 40), np.uint8)
    others = [values.astype(np.float32), 3.0 * values + 7, values[::-1], np.rot90(values), values.T.astype(np.uint16)]
    for other in others:
        (remark,) = repeated_images({"training": [Image(values, "YX")], "test": [Image(other, "YX")]})
        assert remark.code == "images.duplicates"
    assert not repeated_images({"training": [Image(values, "YX")], "test": [Image(values // 2, "YX")]})


def test_labels_of_one_image_that_are_flipped() -> None:
    random = np.random.default_rng(0)
    labels = [(random.random((8, 8)) < 0.3).repeat(8, 0).repeat(8, 1) for _ in range(4)]
    pairs = [
        (Image(random.normal(100.0 * each, 20), "YX"), Image(each[::-1] if n == 2 else each, "YX", source=f"{n}.tif"))
        for n, each in enumerate(labels)
    ]
    (remark,) = misplaced_labels(pairs)
    assert remark.code == "labels.misplaced"
    assert "2.tif" in remark


def blobs(count: int, size: int = 64) -> list[np.ndarray]:
    """Labels of some blobs, different in each image."""
    random = np.random.default_rng(1)
    grid = np.indices((size, size))
    images = []
    for _ in range(count):
        labels = np.zeros((size, size), np.uint16)
        for label, (y, x) in enumerate(random.uniform(8, size - 8, (9, 2)), start=1):
            labels[np.hypot(grid[0] - y, grid[1] - x) < random.uniform(3, 7)] = label
        images.append(labels)
    return images


def shown(labels: np.ndarray, seed: int = 0) -> Image:
    return Image(100.0 * (labels > 0) + np.random.default_rng(seed).normal(0, 15, labels.shape), "YX", source=f"image{seed}.tif")


def test_labels_of_exchanged_images_are_told() -> None:
    labels = blobs(5)
    order = [0, 3, 2, 1, 4]
    pairs = [(shown(each, n), Image(labels[order[n]], "YX", source=f"labels{n}.tif")) for n, each in enumerate(labels)]
    (remark,) = misplaced_labels(pairs)
    assert remark.code == "labels.exchanged"
    assert "labels3.tif" in remark
    assert "image1.tif" in remark
    sorted_differently = [(shown(each, n), Image(labels[n - 1], "YX")) for n, each in enumerate(labels)]
    assert [each.code for each in misplaced_labels(sorted_differently)] == ["labels.exchanged"]


@pytest.mark.parametrize(("move", "codes"), [((0, 0), []), ((1, 0), []), ((2, 0), ["labels.shifted"]), ((-3, 2), ["labels.shifted"])])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_labels_shifted_by_few_voxels_are_told(count: int, move: tuple[int, int], codes: list[str]) -> None:
    labels = blobs(count)
    pairs = [(shown(each, n), Image(np.roll(each, move, (0, 1)), "YX")) for n, each in enumerate(labels)]
    remarks = misplaced_labels(pairs)
    assert [each.code for each in remarks] == codes
    assert not remarks or f"shifted by {-move[0]} voxels along y and {-move[1]} along x" in remarks[0]


@pytest.mark.parametrize(
    ("move", "told"),
    [
        (lambda labels: labels, ""),
        (lambda labels: labels[::-1], "flipped along z"),
        (lambda labels: np.roll(labels, 3, 0), "shifted by -3 planes along z"),
        (lambda labels: np.roll(labels, -4, 0), "shifted by 4 planes along z"),
    ],
)
def test_labels_flipped_or_shifted_along_z_are_told(move: Callable[[np.ndarray], np.ndarray], told: str) -> None:
    made = simulate("nuclei", shape=(32, 64, 64), n_objects=25, rng=np.random.default_rng(2))
    remarks = misplaced_labels([(Image(made.image, "ZYX"), Image(move(made.labels), "ZYX"))])
    assert [each.code for each in remarks] == (["labels.misplaced"] if told else [])
    assert all(told in each for each in remarks)


def test_objects_of_one_voxel_are_told(tmp_path: Path) -> None:
    def specks(seed: int) -> np.ndarray:
        labels = discs(seed)
        labels[2:40:6, 45] = np.arange(4, 11)
        return labels

    assert codes(job(tmp_path, labels=specks)) == ["labels.single_voxels"]
    few = discs(0)
    few[2:8:3, 45] = [4, 5]
    assert single_voxels([Image(few, "YX")]) == []
    grey = np.random.default_rng(0).integers(0, 255, (64, 64))
    assert single_voxels([Image(grey.astype(np.uint16), "YX")]) == []  # labels that look like an image have a warning of their own


def test_classes_in_place_of_objects_are_masks() -> None:
    mask = np.kron(np.eye(6, dtype=np.uint8), np.ones((4, 4), np.uint8))
    mask[:12] *= 127
    (remark,) = object_label_warnings([(Image(mask, "YX"), None)])
    assert remark.code == "labels.mask"
    assert not object_label_warnings([(Image(np.kron(np.diag([1, 2, 3]), np.ones((4, 4), int)), "YX"), None)])
