"""The window Correct, used as a person does: with the keys, the brush, the files and the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import morula
from morula.jobs.load import load_job
from morula.measurement.csv_table import read_table
from morula.testing.simulate import simulate


@pytest.fixture
def press(viewer: Any) -> Any:
    """Press a key in the canvas."""
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    canvas = viewer.window._qt_viewer.canvas.native
    return lambda key: QTest.keyClick(canvas, getattr(Qt.Key, f"Key_{key}"))


@pytest.fixture
def widget(viewer: Any, wait: Any) -> Any:
    made = simulate("nuclei", shape=(128, 128), n_objects=14, rng=np.random.default_rng(9), spacing=(0.25, 0.25))
    viewer.add_image(made.image, name="nuclei", scale=(0.25, 0.25), units=("um", "um"))
    viewer.add_labels(made.labels, name="objects", scale=(0.25, 0.25), units=("um", "um"))
    _, widget = viewer.window.add_plugin_dock_widget("morula", "Correct")
    widget.image.setCurrentText("nuclei")
    widget.start_button.click()
    wait(lambda: not widget.work.running and widget.corrections is not None)
    return widget


def status(widget: Any, label: int) -> str:
    return str(widget.corrections.review().set_index("label").loc[label, "status"])


def one_error(notifications: list[str], word: str) -> None:
    errors = [text for text in notifications if text.startswith("error")]
    assert len(errors) == 1
    assert word in errors[0]
    assert "Traceback" not in errors[0]


def test_one_key_each(viewer: Any, widget: Any, press: Any, wait: Any) -> None:
    found, layer, original = widget.corrections, widget.layer, viewer.layers["objects"].data.copy()
    assert layer.name == "objects corrected"
    np.testing.assert_allclose(layer.scale, (0.25, 0.25))
    first, second, third = found.queue[:3]
    assert layer.selected_label == first  # the worst object is shown
    np.testing.assert_allclose(viewer.scene.camera.center[-2:], layer.data_to_world(found.centre(first)))
    press("A")
    assert (status(widget, first), layer.selected_label) == ("accepted", second)
    press("D")
    assert not (layer.data == second).any()
    press("U")
    assert (status(widget, second), layer.selected_label) == ("", second)
    press("J")
    assert layer.selected_label == third
    press("S")
    assert status(widget, third) == "split"
    touching = next(label for label in found.left if found.neighbours(label))
    other = found.neighbours(touching)[0]
    layer.selected_label = touching
    press("M")
    assert (status(widget, touching), status(widget, other)) == ("merged", "merged")
    press("U")
    viewer.cursor.position = layer.data_to_world(found.centre(found.queue[-1]))  # with the object under the mouse
    layer.selected_label = touching
    press("M")
    assert status(widget, found.queue[-1]) == "merged"
    np.testing.assert_array_equal(viewer.layers["objects"].data, original)
    assert "objects reviewed" in widget.state.text()


def test_redraw_new_and_undo(widget: Any, press: Any, wait: Any) -> None:
    found, layer = widget.corrections, widget.layer
    label = found.queue[0]
    before, place = found.labels.copy(), np.argwhere(found.labels == 0)[0]
    press("R")
    assert (layer.mode, layer.selected_label) == ("paint", label)
    layer.brush_size = 3
    layer.paint(tuple(place), label)
    wait(lambda: not widget._strokes)
    assert status(widget, label) == "redrawn"
    press("N")
    fresh = int(layer.selected_label)
    assert fresh not in found.objects
    layer.paint(tuple(np.argwhere(found.labels == 0)[-1]), fresh)
    wait(lambda: not widget._strokes)
    assert status(widget, fresh) == "added"
    assert int(widget.table.table.iloc[-1]["label"]) == fresh
    press("U")
    assert fresh not in found.objects
    press("U")
    np.testing.assert_array_equal(layer.data, before)
    layer.fill(tuple(np.argwhere(before == label)[0]), 0)  # another tool of the layer
    wait(lambda: not widget._strokes)
    assert label not in found.objects
    press("U")
    np.testing.assert_array_equal(layer.data, before)


def test_save_continue_and_done(viewer: Any, widget: Any, press: Any, wait: Any, tmp_path: Path) -> None:
    for key in "ADA":
        press(key)
    widget.slice_done.click()
    assert "3 of" in widget.slice_line.text() or "2 of" in widget.slice_line.text()
    widget.save_button.click()
    wait(lambda: not widget.work.running)
    file = Path(widget.file.path)
    assert file.name == "objects_corrected.tif"
    rows = read_table(file.with_name("objects_corrected_review.csv"))
    assert sorted(set(rows["status"])) == ["", "accepted", "deleted"]
    labels = morula.read(file)
    np.testing.assert_array_equal(np.asarray(labels), widget.corrections.labels)
    assert labels.spacing == pytest.approx((0.25, 0.25))
    reviewed = dict(widget.corrections.reviews)
    widget.open_button.click()
    wait(lambda: not widget.work.running)
    assert {label: each.status for label, each in widget.corrections.reviews.items()} == {
        label: each.status for label, each in reviewed.items()
    }
    assert widget.slice_done.isChecked()
    press("A")
    widget.save_button.click()
    wait(lambda: not widget.work.running)
    assert len(widget.corrections.reviews) == 4


def test_the_window_learns_from_corrections(viewer: Any, widget: Any, press: Any, wait: Any, run2d: Path, tmp_path: Path) -> None:
    for _ in range(4):
        press("A")
    widget.model.choose(str(run2d))
    widget.epochs.setValue(1)
    widget.output.line.setText(str(tmp_path / "better"))
    widget.retrain_button.click()
    assert not widget.review_box.isEnabled()
    wait(lambda: not widget.work.running)
    assert load_job(tmp_path / "better/job.yaml").network.from_ == str(run2d)
    assert widget.model.place == str(tmp_path / "better")  # the next round continues from here
    wait(lambda: "nuclei objects" in viewer.layers)
    expected = morula.load(tmp_path / "better").segment(viewer.layers["nuclei"].data)
    np.testing.assert_array_equal(viewer.layers["nuclei objects"].data, np.asarray(expected))


def test_nothing_is_lost_when_the_layer_is_deleted(viewer: Any, widget: Any, press: Any, wait: Any, notifications: list[str]) -> None:
    press("A")
    kept = widget.corrections.labels
    viewer.layers.remove(widget.layer)
    widget.buttons["accept"].click()
    assert len(widget.corrections.reviews) == 1
    assert widget.layer.data is kept
    assert widget.layer in viewer.layers
    widget.buttons["accept"].click()
    assert len(widget.corrections.reviews) == 2
    viewer.layers.clear()
    widget.save_button.click()
    wait(lambda: not widget.work.running)
    assert Path(widget.file.path).is_file()
    assert not [text for text in notifications if text.startswith("error")]


def test_what_is_not_possible_is_one_error(viewer: Any, widget: Any, press: Any, wait: Any, notifications: list[str]) -> None:
    widget.layer.selected_label = 9999
    press("D")
    one_error(notifications, "9999")
    notifications.clear()
    viewer.add_image(np.zeros((8, 8)), name="other")
    widget.image.setCurrentText("other")
    widget.labels.setCurrentText("objects")
    widget.start_button.click()
    wait(lambda: not widget.work.running)
    one_error(notifications, "shape")
    notifications.clear()
    own = Path(widget.file.path)
    own.write_text("mine")
    widget.save_button.click()
    wait(lambda: not widget.work.running)
    one_error(notifications, own.name)
    assert own.read_text() == "mine"
    notifications.clear()
    widget.model.box.setCurrentText("")
    widget.retrain_button.click()
    one_error(notifications, "No model")
    notifications.clear()
    viewer.layers.clear()
    widget.start_button.click()
    one_error(notifications, "no labels layer")


def test_slices_of_a_volume(viewer: Any, wait: Any, press: Any) -> None:
    labels = np.zeros((5, 32, 32), np.uint16)
    labels[0:3, 2:10, 2:10], labels[2:5, 15:25, 15:25] = 1, 2
    viewer.add_labels(labels, name="cells", scale=(2, 0.5, 0.5))
    _, widget = viewer.window.add_plugin_dock_widget("morula", "Correct")
    widget.start_button.click()
    wait(lambda: not widget.work.running and widget.corrections is not None)
    viewer.dims.set_point(0, 8.0)
    assert widget.slice_line.text() == "Slice 4: 0 of 1 objects reviewed"
    widget.layer.selected_label = 2
    press("A")
    viewer.dims.set_point(0, 4.0)
    assert widget.slice_line.text() == "Slice 2: 1 of 2 objects reviewed"
    widget.slice_done.click()
    assert widget.corrections.slices()["done"].tolist() == [False, False, True, False, False]
    viewer.dims.set_point(0, 0.0)
    assert not widget.slice_done.isChecked()
