"""The window Measure, used as a person does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from morula.io.read import read_labels
from morula.measurement.csv_table import read_table
from morula.measurement.measure import measure


@pytest.fixture
def widget(viewer: Any, wait: Any) -> Any:
    viewer.open_sample("morula", "nuclei_2d")
    _, made = viewer.window.add_plugin_dock_widget("morula", "Measure")
    made.image.setCurrentText("nuclei")
    made.measure_button.click()
    wait(lambda: not made.work.running)
    return made


def test_table_and_plot_are_linked_with_the_layer(viewer: Any, widget: Any) -> None:
    truth = viewer.layers["nuclei truth"]
    expected = measure(truth.data, (0.25, 0.25), viewer.layers["nuclei"].data)
    np.testing.assert_allclose(widget.table.table["area_um2"], expected["area_um2"])
    np.testing.assert_allclose(widget.table.table["intensity_mean"], expected["intensity_mean"])
    widget.x.setCurrentText("area_um2")
    widget.y.setCurrentText("intensity_mean")
    widget.plot.chosen.emit(7)  # as a click on its point does
    assert truth.selected_label == 7
    assert int(widget.table.table.iloc[widget.table.view.currentIndex().row()]["label"]) == 7
    (marked,) = widget.plot._marked.points()
    assert marked.pos().x() == pytest.approx(expected["area_um2"][6])
    widget.table.view.selectRow(2)
    assert truth.selected_label == 3


def test_filter_and_operations_make_new_layers(viewer: Any, widget: Any, wait: Any) -> None:
    truth = viewer.layers["nuclei truth"].data.copy()
    middle = float(widget.table.table["area_um2"].median())
    widget.condition.setText(f"area < {middle}")
    widget.filter_button.click()
    wait(lambda: not widget.work.running)
    kept = viewer.layers["nuclei truth filtered"]
    np.testing.assert_array_equal(viewer.layers["nuclei truth"].data, truth)
    assert set(np.unique(kept.data)) == {0, *widget.table.table["label"]}
    assert widget.table.table["area_um2"].min() >= middle
    widget.labels.setCurrentText("nuclei truth")
    widget.operation.setCurrentText("remove_small")
    widget.setting.setText("700")
    widget.apply_button.click()
    wait(lambda: not widget.work.running)
    sizes = np.bincount(viewer.layers["nuclei truth remove_small"].data.ravel())[1:]
    assert sizes[sizes > 0].min() >= 700


def test_a_range_of_the_plot_is_kept(viewer: Any, widget: Any, wait: Any, notifications: list[str]) -> None:
    table = widget.table.table
    widget.x.setCurrentText("area_um2")
    widget.range_button.click()
    assert len([text for text in notifications if text.startswith("error")]) == 1
    widget.range_box.click()
    assert widget.plot.interval.isVisible()
    low, high = (float(value) for value in table["area_um2"].quantile([0.25, 0.75]))
    widget.plot.interval.setRegion((low, high))
    widget.range_button.click()
    wait(lambda: not widget.work.running)
    kept = set(table["label"][table["area_um2"].between(low, high)])
    assert set(np.unique(viewer.layers["nuclei truth filtered"].data)) == {0, *kept}
    assert 0 < len(kept) < len(table)


@pytest.mark.parametrize(("kind", "ending"), [("CSV table", ".csv"), ("ROIs of ImageJ", ".zip"), ("GeoJSON of QuPath", ".geojson")])
def test_export(viewer: Any, widget: Any, wait: Any, tmp_path: Path, kind: str, ending: str) -> None:
    widget.export_kind.setCurrentText(kind)
    widget.export(str(tmp_path / "cells"))
    wait(lambda: not widget.work.running)
    file = tmp_path / f"cells{ending}"
    if ending == ".csv":
        np.testing.assert_array_equal(read_table(file)["label"], widget.table.table["label"])
    else:
        found = np.asarray(read_labels(file))
        assert len(np.unique(found)) - 1 == len(widget.table.table)


def test_a_text_that_is_no_condition_is_one_error(viewer: Any, widget: Any, wait: Any, notifications: list[str]) -> None:
    widget.condition.setText("large ones")
    widget.filter_button.click()
    wait(lambda: not widget.work.running)
    errors = [text for text in notifications if text.startswith("error")]
    assert len(errors) == 1
    assert "condition" in errors[0]
    assert "nuclei truth filtered" not in viewer.layers
