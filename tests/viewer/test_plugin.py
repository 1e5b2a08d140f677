"""Parts of the plugin that need no window."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

import morula
from morula.core.errors import JobError, Problem
from morula.core.events import Event, Logged, Progress
from morula.core.image import Image
from morula.core.region import Region
from morula.core.voxel_size import VoxelSize
from morula.io.metadata import MetadataWarning
from morula.jobs.starting_points import STARTING_POINTS, starting_point
from morula.methods import METHODS
from morula.testing.errors import raises
from morula.viewer import form_fields
from morula.viewer.files import get_reader, read_layers, write_image, write_labels
from morula.viewer.layers import before_strokes, image_of_array
from morula.viewer.samples import membranes, nuclei_2d, nuclei_3d
from morula.viewer.stream import Failure, Outcome, stoppable, thinned
from morula.viewer.utilities import UTILITIES, Utility, box_of, numbers_of, utility


@pytest.mark.parametrize("ending", [".tif", ".ome.zarr", ".h5", ".nii.gz"])
def test_labels_keep_values_and_voxel_size(tmp_path: Path, ending: str) -> None:
    labels = np.random.default_rng(0).integers(0, 70_000, (4, 8, 9)).astype(np.uint32)
    meta = {"scale": (2.0, 0.5, 0.5), "units": ("um",) * 3}
    (path,) = write_labels(str(tmp_path / f"cells_labels{ending}"), labels, meta)
    ((data, found, kind),) = read_layers(Path(path))
    np.testing.assert_array_equal(data, labels)
    assert kind == "labels"
    np.testing.assert_allclose(found["scale"], meta["scale"])
    assert found["units"] == meta["units"]


def test_an_image_keeps_values_and_voxel_size(tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((4, 8, 9)).astype(np.float32)
    (path,) = write_image(str(tmp_path / "scan.tif"), image, {"scale": (2.0, 0.5, 0.5)})
    ((data, found, kind),) = read_layers(Path(path))
    np.testing.assert_array_equal(data, image)
    assert (kind, found["name"]) == ("image", "scan")
    np.testing.assert_allclose(found["scale"], (2.0, 0.5, 0.5))


def test_labels_are_saved_whatever_the_scale_of_the_layer(tmp_path: Path) -> None:
    labels = np.eye(8, 9, dtype=np.uint16)
    for scale, unit in (((-1, 1), "um"), ((0.5,), "um"), ((np.nan, 1), "um"), ((2, 2), "second")):
        with pytest.warns(MetadataWarning, match="scale"):
            (path,) = write_labels(str(tmp_path / "Zellen µ 核.tif"), labels, {"scale": scale, "units": (unit,) * 2, "name": "核"})
        assert morula.read(path).voxel_size is None
    (path,) = write_labels(str(tmp_path / "a.tif"), [labels, labels[::2, ::2]], {"multiscale": True, "scale": (0.5, 0.5)})
    assert morula.read(path).shape == labels.shape


def test_saving_keeps_what_others_wrote(tmp_path: Path) -> None:
    labels, file = np.eye(8, 9, dtype=np.uint16), tmp_path / "mine.h5"
    with h5py.File(file, "w") as opened:
        opened["raw"] = opened["notes"] = labels
    before = file.read_bytes()
    with raises("output.not_own"):
        write_labels(str(file), labels, {})
    assert file.read_bytes() == before
    with raises("file.not_accessible"):
        write_labels(str(tmp_path / f"{'n' * 300}.tif"), labels, {})


def test_label_images_of_an_ome_zarr_are_layers_of_their_own(tmp_path: Path) -> None:
    image, labels = np.zeros((8, 9), np.uint16), np.eye(8, 9, dtype=np.uint16)
    morula.write(tmp_path / "scan.ome.zarr", image, axes="YX", voxel_size=0.5)
    morula.write(tmp_path / "scan.ome.zarr", labels, axes="YX", voxel_size=0.5, labels=True, dataset="cells")
    reader = get_reader(str(tmp_path / "scan.ome.zarr"))
    assert reader is not None
    layers = reader(str(tmp_path / "scan.ome.zarr"))
    assert [(meta["name"], kind) for _, meta, kind in layers] == [("scan", "image"), ("scan cells", "labels")]
    np.testing.assert_array_equal(layers[1][0], labels)


def test_only_what_morula_reads_gets_a_reader(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert get_reader(str(tmp_path / "run")) is None
    assert get_reader("notes.txt") is None
    (tmp_path / "run/job.yaml").write_text("method: wnet3d\n")
    assert get_reader(str(tmp_path / "run")) is not None


@pytest.mark.parametrize("sample", [nuclei_2d, nuclei_3d, membranes])
def test_samples_have_an_image_and_its_truth(sample) -> None:
    (image, meta, kind), (labels, _, other) = sample()
    assert (kind, other) == ("image", "labels")
    assert image.shape == labels.shape
    assert labels.max() > 20
    assert meta["units"][0] == "um"


def test_arrays_of_layers_are_images() -> None:
    assert image_of_array(np.zeros((8, 9, 3), np.uint8), rgb=True).axes == "YXC"
    assert image_of_array(np.zeros((2, 4, 8, 9)), (1, 2, 0.5, 0.5)).spacing == (2, 0.5, 0.5)
    assert image_of_array(np.zeros((8, 9))).voxel_size is None
    with raises("layer.dimensions"):
        image_of_array(np.zeros((2, 2, 4, 8, 9)))


@pytest.mark.parametrize("point", STARTING_POINTS, ids=lambda point: point.name)
def test_starting_points_state_what_their_methods_are(point) -> None:
    method = METHODS.load(str(point.method["kind"]))
    assert (point.labelled, point.segments) == (method.labelled, not method.restores)
    assert point.network == (method.network or "unet")


def test_wnet3d_has_exactly_the_parameters_of_its_document() -> None:
    advanced, others = form_fields.method_fields(starting_point("WNet3D"))
    assert {field.title: field.default for field in advanced} == {
        "Number of classes": 2,
        "Reconstruction loss": "mse",
        "Intensity sigma": 1.0,
        "Spatial sigma": 4.0,
        "Radius": 2,
        "NCuts weight": 0.5,
        "Reconstruction weight": 5e-3,
    }
    assert not {field.key for field in advanced} & {field.key for field in others}
    assert next(field for field in advanced if field.title == "Reconstruction loss").choices == ("mse", "bce")


@pytest.mark.parametrize("point", STARTING_POINTS, ids=lambda point: point.name)
def test_fields_have_help_and_bounds_of_the_schema(point) -> None:
    fields = [*form_fields.training_fields(), *form_fields.data_fields(), *form_fields.network_fields(point)]
    fields += [field for group in form_fields.method_fields(point) for field in group]
    keys = [field.key for field in fields]
    assert len(set(keys)) == len(keys)
    assert {"training.epochs", "training.optimiser.lr", "training.schedule.kind", "sampling.patch", "network.dropout"} <= set(keys)
    assert all(field.description for field in fields if not field.key.endswith(".decay_all"))
    (epochs,) = (field for field in fields if field.key == "training.epochs")
    assert (epochs.kind, epochs.low, epochs.default) == ("whole", 1, 100)


def test_what_was_painted_is_known_from_each_kind_of_stroke() -> None:
    before = np.random.default_rng(0).integers(0, 5, (20, 30)).astype(np.uint32)
    labels = before.copy()
    box = (slice(2, 6), slice(3, 9))
    mask = np.zeros((4, 6), bool)
    mask[1:3, 2:5] = True
    strokes: list[tuple] = [(box, mask, labels[box][mask].copy(), 9)]
    labels[box][mask] = 9
    strokes.append((box, None, labels[box].copy(), 7))  # all of the box
    labels[box] = 7
    places = (np.array([1, 15]), np.array([3, 20]))
    strokes.append((places, labels[places].copy(), 8))
    labels[places] = 8
    found, old = before_strokes(labels, strokes)
    assert found == (slice(1, 16), slice(3, 21))
    np.testing.assert_array_equal(old, before[found])


@pytest.mark.parametrize("step", UTILITIES, ids=lambda step: step.name)
def test_utilities_say_what_they_need(step: Utility) -> None:
    assert step.description
    assert utility(step.name) is step
    image = Image(np.random.default_rng(0).integers(0, 9, (4, 8, 8)).astype(np.uint16), "ZYX", VoxelSize(1, 1, z=2))
    made = step.run(image, "image" not in step.kinds, {"crop": "0:2, 0:4, 0:4", "threshold": ""}.get(step.name, step.example))
    assert made.ndim_spatial == 3
    assert made.voxel_size is not None


def test_texts_of_boxes_and_numbers() -> None:
    assert box_of(" 0:8,1:2", 2) == Region((0, 1), (8, 2))
    assert numbers_of("3", 2) == (3, 3)
    for text in ("", "1:2", "a:b, c:d", "1:2:3, 4:5:6"):
        with raises("utilities.box", key="box", value=text):
            box_of(text, 2)
    for text in ("", "1, 2, 3", "x"):
        with raises("utilities.numbers", key="setting", value=text):
            numbers_of(text, 2)


def work(ended: list[str]) -> Iterator[Event]:
    try:
        for step in range(1000):
            yield Progress(step + 1, 1000)
        yield Logged("last")
        return "result"
    finally:
        ended.append("closed")


def test_progress_is_thinned_and_the_result_comes_last() -> None:
    events = list(thinned(work([]), lambda: False))
    assert len(events) < 20
    assert events[-3:] == [Progress(1000, 1000), Logged("last"), Outcome("result")]


def test_stopped_work_is_closed_and_has_no_result() -> None:
    ended: list[str] = []
    events = list(thinned(stoppable(work(ended), lambda: True), lambda: True))
    assert events == [Progress(1, 1000), Outcome(None, stopped=True)]
    assert ended == ["closed"]


def test_errors_are_values_with_all_problems() -> None:
    def failing() -> Iterator[Event]:
        yield Logged("before")
        raise JobError([Problem("a", "is wrong"), Problem("b", "is wrong, too")])

    *_, failure = thinned(failing(), lambda: False)
    assert isinstance(failure, Failure)
    assert failure.message == "a  is wrong\nb  is wrong, too"


def test_the_parts_without_a_window_import_no_qt() -> None:
    code = (
        "import sys\n"
        "import morula.viewer, morula.viewer.files, morula.viewer.samples, morula.viewer.form_fields, morula.viewer.stream\n"
        "import morula.viewer.utilities, morula.workflows.corrections, morula.workflows.review_files\n"
        "sys.exit(bool({'napari', 'qtpy', 'PyQt6', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
