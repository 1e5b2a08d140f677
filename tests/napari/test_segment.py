"""The window Segment, used as a person does."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import morula


@pytest.fixture
def widget(viewer: Any, run2d: Path) -> Any:
    viewer.open_sample("morula", "nuclei_2d")
    _, made = viewer.window.add_plugin_dock_widget("morula", "Segment")
    made.model.choose(str(run2d))
    return made


def test_preview_sliders_segment(viewer: Any, widget: Any, wait: Any, run2d: Path, notifications: list[str]) -> None:
    widget.preview_button.click()
    assert not widget.segment_button.isEnabled()
    wait(lambda: not widget.work.running)
    preview = viewer.layers["nuclei preview"]
    assert preview.data.max() > 20
    np.testing.assert_allclose(preview.scale, (0.25, 0.25))
    assert len(widget.table.table) == preview.data.max()
    before = (preview.data > 0).sum()
    slider = widget.sliders["objects.decoder.growth.F"]
    slider.slider.setValue(slider.slider.maximum())
    wait(lambda: not widget.decoding.running)
    assert (viewer.layers["nuclei preview"].data > 0).sum() < before
    widget.segment_button.click()
    wait(lambda: not widget.work.running)
    whole = viewer.layers["nuclei objects"]
    np.testing.assert_array_equal(whole.data, np.asarray(morula.load(run2d).segment(viewer.layers["nuclei"].data)))
    assert whole.data.shape == (512, 512)
    assert not [text for text in notifications if text.startswith("error")]


def test_rows_and_objects_select_each_other(viewer: Any, widget: Any, wait: Any) -> None:
    widget.segment_button.click()
    wait(lambda: not widget.work.running)
    layer, table = viewer.layers["nuclei objects"], widget.table
    table.view.selectRow(5)
    label = int(table.table.iloc[5]["label"])
    assert layer.selected_label == label
    centre = layer.data_to_world([float(table.table.iloc[5][name]) for name in ("centroid_y", "centroid_x")])
    np.testing.assert_allclose(viewer.scene.camera.center[-2:], centre)
    layer.selected_label = 3
    assert int(table.table.iloc[table.view.currentIndex().row()]["label"]) == 3
    table.view.sortByColumn(list(table.table).index("voxels"), table.view.horizontalHeader().sortIndicatorOrder())
    assert table.table["voxels"].is_monotonic_increasing or table.table["voxels"].is_monotonic_decreasing


def test_stop_changes_nothing(viewer: Any, widget: Any, wait: Any) -> None:
    viewer.layers["nuclei"].data = np.tile(viewer.layers["nuclei"].data, (4, 4))
    layers = len(viewer.layers)
    widget.segment_button.click()
    widget.progress.stop.click()
    wait(lambda: not widget.work.running)
    assert len(viewer.layers) == layers
    assert "stopped" in widget.progress.line.text()
    assert widget.segment_button.isEnabled()


def test_files(viewer: Any, widget: Any, wait: Any, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    morula.write(tmp_path / "in/a.tif", viewer.layers["nuclei"].data, axes="YX", voxel_size=0.25)
    widget.pages.setCurrentIndex(1)
    widget.files.line.setText(str(tmp_path / "in"))
    widget.output.line.setText(str(tmp_path / "out"))
    widget.segment_button.click()
    wait(lambda: not widget.work.running)
    assert np.asarray(morula.read(tmp_path / "out/a.tif")).max() > 20
    assert (tmp_path / "out/a.csv").is_file()


def one_error(notifications: list[str], word: str) -> None:
    errors = [text for text in notifications if text.startswith("error")]
    assert len(errors) == 1
    assert word in errors[0]
    assert "Traceback" not in errors[0]


def test_output_equal_to_input_is_one_error(viewer: Any, widget: Any, wait: Any, tmp_path: Path, notifications: list[str]) -> None:
    (tmp_path / "in").mkdir()
    morula.write(tmp_path / "in/a.tif", viewer.layers["nuclei"].data, axes="YX")
    before = (tmp_path / "in/a.tif").read_bytes()
    widget.pages.setCurrentIndex(1)
    widget.files.line.setText(str(tmp_path / "in"))
    widget.output.line.setText(str(tmp_path / "in"))
    widget.segment_button.click()
    wait(lambda: not widget.work.running)
    one_error(notifications, "a.tif")
    assert (tmp_path / "in/a.tif").read_bytes() == before


def test_no_layer_is_one_error(viewer: Any, run2d: Path, notifications: list[str]) -> None:
    _, widget = viewer.window.add_plugin_dock_widget("morula", "Segment")
    widget.model.choose(str(run2d))
    widget.segment_button.click()
    one_error(notifications, "no image layer")


def test_wrong_dimensions_are_one_error(viewer: Any, widget: Any, wait: Any, notifications: list[str]) -> None:
    viewer.add_image(np.random.default_rng(0).random((3, 64, 64)), name="volume")
    widget.image.setCurrentText("volume")
    widget.segment_button.click()
    wait(lambda: not widget.work.running)
    one_error(notifications, "trained in 2D")


def test_a_label_layer_is_not_offered_as_an_image(viewer: Any, widget: Any) -> None:
    assert [widget.image.itemText(place) for place in range(widget.image.count())] == ["nuclei"]
    viewer.layers["nuclei"].name = "renamed"
    assert widget.image.currentText() == "renamed"
    viewer.layers.remove("renamed")
    assert widget.image.layer is None


def test_a_folder_without_model_is_one_error(viewer: Any, widget: Any, wait: Any, tmp_path: Path, notifications: list[str]) -> None:
    widget.model.choose(str(tmp_path))
    widget.preview_button.click()
    wait(lambda: not widget.work.running)
    one_error(notifications, "model.json")


def test_a_layer_may_be_deleted_meanwhile(viewer: Any, widget: Any, wait: Any, notifications: list[str]) -> None:
    widget.segment_button.click()
    viewer.layers.remove("nuclei")
    wait(lambda: not widget.work.running)
    assert viewer.layers["nuclei objects"].data.max() > 20
    assert not notifications


def test_a_2d_model_on_a_volume_and_channels_in_several_layers(viewer: Any, run2d: Path, wait: Any, notifications: list[str]) -> None:
    viewer.open_sample("morula", "nuclei_3d")
    _, widget = viewer.window.add_plugin_dock_widget("morula", "Segment")
    widget.model.choose(str(run2d))
    widget.slices.setCurrentText("along z, joined")
    widget.preview_button.click()
    wait(lambda: not widget.work.running)
    slider = widget.sliders["objects.decoder.growth.F"]
    before = int((viewer.layers["nuclei preview"].data > 0).sum())
    slider.slider.setValue(slider.slider.maximum())
    wait(lambda: not widget.decoding.running)
    assert (viewer.layers["nuclei preview"].data > 0).sum() < before
    widget.segment_button.click()
    wait(lambda: not widget.work.running)
    volume = viewer.layers["nuclei"].data
    expected = morula.by_slices(morula.load(run2d), "z").segment(morula.Image(volume, "ZYX", morula.VoxelSize(0.25, 0.25, z=1.0)))
    np.testing.assert_array_equal(viewer.layers["nuclei objects"].data, np.asarray(expected))
    assert not [text for text in notifications if text.startswith("error")]
    viewer.add_image(volume[0], name="red")
    viewer.add_image(volume[0], name="green")
    widget.slices.setCurrentText("off")
    widget.image.setCurrentText("red")
    widget.more[0].setCurrentText("green")
    widget.segment_button.click()
    wait(lambda: not widget.work.running)
    one_error(notifications, "2 channel(s)")  # both arrived at a model for one channel
    notifications.clear()
    widget.more[0].setCurrentText("nuclei")
    widget.segment_button.click()
    wait(lambda: not widget.work.running)
    one_error(notifications, "shapes")


def test_six_clicks_and_three_minutes_from_an_open_volume_to_objects(viewer: Any, wait: Any, notifications: list[str]) -> None:
    viewer.open_sample("morula", "nuclei_3d")
    wait(lambda: True)
    clicks, began = 0, time.monotonic()
    menu = viewer.window.plugins_menu  # the menu Plugins, its entry Morula, and Segment in it: three clicks
    for title in ("Plugins", "Morula", "Segment"):
        clicks += 1
        action = (
            None
            if title == "Plugins"
            else next(each for each in menu.actions() if each.text().replace("&", "") in (title, f"{title} (Morula)"))
        )
        if title == "Morula":
            menu = action.menu()
        elif title == "Segment":
            action.trigger()
    dock = next(each for name, each in viewer.window.dock_widgets.items() if name.startswith("Segment"))
    widget = dock.inner_widget() if hasattr(dock, "inner_widget") else dock
    opened = time.monotonic()
    clicks += 1
    widget.segment_button.click()  # the model is chosen by the image
    wait(lambda: "nuclei objects" in viewer.layers, 180)
    ended = time.monotonic()
    print(f"\n{clicks} clicks: window {opened - began:.1f} s, objects {ended - opened:.1f} s")
    assert clicks <= 6
    assert ended - began < 180
    assert "nuclei-3d" in widget.progress.line.text()
    assert viewer.layers["nuclei objects"].data.max() > 20
    np.testing.assert_allclose(viewer.layers["nuclei objects"].scale, viewer.layers["nuclei"].scale)
    assert not [text for text in notifications if text.startswith("error")]


def test_a_full_disk_is_one_error(
    viewer: Any, widget: Any, wait: Any, tmp_path: Path, notifications: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    morula.write(tmp_path / "in/a.tif", viewer.layers["nuclei"].data, axes="YX")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    widget.pages.setCurrentIndex(1)
    widget.files.line.setText(str(tmp_path / "in"))
    widget.output.line.setText(str(tmp_path / "out"))
    widget.segment_button.click()
    wait(lambda: not widget.work.running)
    one_error(notifications, "disk")
    assert not list((tmp_path / "out").glob("*.tif"))
