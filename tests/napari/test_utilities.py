"""The window Utilities, used as a person does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import morula


@pytest.fixture
def widget(viewer: Any) -> Any:
    viewer.open_sample("morula", "nuclei_3d")
    _, made = viewer.window.add_plugin_dock_widget("morula", "Utilities")
    made.labels.setCurrentText("nuclei truth")
    return made


def test_each_step_makes_a_layer(viewer: Any, widget: Any, wait: Any) -> None:
    raw, truth = viewer.layers["nuclei"], viewer.layers["nuclei truth"].data.copy()

    def applied(step: str, image: str, setting: str = "") -> Any:
        widget.image.setCurrentText(image)
        widget.operation.setCurrentText(step)
        widget.setting.setText(setting)
        widget.apply_button.click()
        wait(lambda: not widget.work.running)
        return viewer.layers[-1]

    cubic = applied("correct anisotropy", "nuclei")
    assert cubic.data.shape == (96, 128, 128)
    np.testing.assert_allclose(cubic.scale, 0.25)
    assert applied("correct anisotropy", "none").data.dtype.kind == "u"
    part = applied("crop", "nuclei", "2:10, 0:64, 32:96")
    np.testing.assert_array_equal(part.data, raw.data[2:10, :64, 32:96])
    np.testing.assert_allclose(part.translate, (2.0, 0.0, 8.0))
    assert applied("crop", "nuclei").data.shape[0] == 24  # what is visible
    mask = applied("threshold", "nuclei")
    assert (mask._type_string, mask.data.max()) == ("labels", 1)
    assert applied("to semantic", "none").data.max() == 1
    widget.labels.setCurrentText("nuclei truth to semantic")
    pieces = applied("to instances", "none")
    assert pieces.data.max() > 3
    widget.labels.setCurrentText("nuclei truth")
    sizes = np.bincount(truth.ravel())[1:]
    assert (np.bincount(applied("remove small", "none", str(int(np.median(sizes)))).data.ravel())[1:] > 0).sum() < len(sizes)
    assert applied("remove large", "none", "1").data.max() == 0
    np.testing.assert_array_equal(viewer.layers["nuclei truth"].data, truth)


def test_pieces_of_a_layer(widget: Any, wait: Any, tmp_path: Path) -> None:
    widget.image.setCurrentText("nuclei")
    widget.size.setText("64")
    widget.folder.line.setText(str(tmp_path / "pieces"))
    widget.fragment_button.click()
    wait(lambda: not widget.work.running)
    files = sorted((tmp_path / "pieces").glob("*.tif"))
    assert [file.name for file in files] == [f"nuclei_z0000_y{y:04d}_x{x:04d}.tif" for y in (0, 64) for x in (0, 64)]
    assert morula.read(files[0]).spacing == pytest.approx((1.0, 0.25, 0.25))


def test_what_is_wrong_is_one_error(viewer: Any, widget: Any, wait: Any, notifications: list[str]) -> None:
    def one_error(word: str) -> None:
        wait(lambda: not widget.work.running)
        errors = [text for text in notifications if text.startswith("error")]
        assert len(errors) == 1
        assert word in errors[0]
        notifications.clear()

    widget.image.setCurrentText("nuclei")
    widget.operation.setCurrentText("crop")
    widget.setting.setText("1:2")
    widget.apply_button.click()
    one_error("box")
    widget.operation.setCurrentText("threshold")
    widget.setting.setText("bright")
    widget.apply_button.click()
    one_error("threshold")
    viewer.add_image(np.zeros((8, 8)), name="without size")
    widget.image.setCurrentText("without size")
    widget.operation.setCurrentText("correct anisotropy")
    widget.apply_button.click()
    one_error("voxel_size")
    widget.fragment_button.click()
    one_error("folder")
    viewer.layers.clear()
    widget.apply_button.click()
    one_error("Choose a layer")
