"""Measure the objects of a labels layer: table, histogram and scatter, filters, operations on objects, export."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyqtgraph
from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QFileDialog, QFormLayout, QHBoxLayout, QLineEdit, QVBoxLayout, QWidget

from morula.core.events import Event, Logged
from morula.core.image import Image
from morula.core.voxel_size import VoxelSize
from morula.labels.refine import REFINEMENTS, refine
from morula.measurement.csv_table import write_table
from morula.measurement.filter import filter_objects
from morula.measurement.measure import measure
from morula.viewer.layers import image_of_layer
from morula.viewer.stream import Outcome
from morula.viewer.widgets.choose import LayerChoice, button
from morula.viewer.widgets.progress import ProgressRow
from morula.viewer.widgets.table import ObjectTable
from morula.viewer.widgets.work import Work
from morula.workflows.exports import check_exports, write_exports

HISTOGRAM = "(histogram)"
EXPORTS = {"CSV table": (".csv", None), "ROIs of ImageJ": (".zip", "rois"), "GeoJSON of QuPath": (".geojson", "geojson")}
"""Name, suffix and kind of what can be exported."""


class MeasureWidget(QWidget):
    """The window `Measure`. Layers are never changed: filters and operations make new ones."""

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.work = Work("measurement", self)
        self.labels, self.image = LayerChoice(napari_viewer, "labels"), LayerChoice(napari_viewer, "image", optional=True)
        self.progress, self.plot = ProgressRow(self.work), Plot()
        self.x, self.y = QComboBox(), QComboBox()
        self.condition, self.operation, self.setting = QLineEdit(), QComboBox(), QLineEdit()
        self.measure_button = button("Measure", "One row per object", self.measure)
        self.filter_button = button("Remove", "A new layer without the objects that satisfy the condition", self.filter)
        self.apply_button = button("Apply", "A new layer with the operation applied to all objects", self.apply)
        self.range_box = QCheckBox("choose in the plot")
        self.range_button = button("Keep", "A new layer with the objects whose value on the x axis is in the range", self.keep_range)
        self.export_kind = QComboBox()
        self.export_button = button("Export ...", "Write the table or the outlines to a file", self.ask_export)
        self.table: ObjectTable | None = None
        self.measured: tuple[Any, pd.DataFrame] | None = None
        self._place_widgets()
        self.work.done.connect(self._finished)

    def _place_widgets(self) -> None:
        self.condition.setPlaceholderText("area < 5 and circularity <= 0.7")
        self.setting.setPlaceholderText("setting")
        self.setting.setMinimumWidth(84)
        self.operation.addItems(sorted(name for name in REFINEMENTS.names if name != "voronoi"))  # which needs a predicted foreground
        self.operation.setToolTip("\n".join(f"{name}: {REFINEMENTS.member(name).summary}" for name in sorted(REFINEMENTS.names)))
        self.export_kind.addItems(list(EXPORTS))
        form = QFormLayout()
        for title, widgets in (
            ("Labels", [self.labels]),
            ("Intensities of", [self.image]),
            ("", [self.measure_button]),
            ("Plot", [self.x, self.y]),
            ("Range", [self.range_box, self.range_button]),
            ("Filter", [self.condition, self.filter_button]),
            ("Operation", [self.operation, self.setting, self.apply_button]),
            ("Export", [self.export_kind, self.export_button]),
        ):
            row = QHBoxLayout()
            for widget in widgets:
                row.addWidget(widget)
            form.addRow(title, row)
        self.setLayout(QVBoxLayout())
        self.layout().addLayout(form)
        self.layout().addWidget(self.plot, 1)
        self.layout().addWidget(self.progress)
        for box in (self.x, self.y):
            box.currentTextChanged.connect(lambda _: self._draw())
        self.plot.chosen.connect(self._point_chosen)
        self.range_box.setToolTip("Move the borders of the shaded part of the plot")
        self.range_box.toggled.connect(self.plot.show_range)

    def measure(self) -> None:
        """Measure the labels layer."""
        layer, image = self.labels.layer, self.image.layer
        if layer is None:
            show_error("There is no labels layer. Segment an image first, or open labels.")
            return
        self.progress.begin("measuring ...")
        self.work.start(lambda _: _measured(layer, image))

    def filter(self) -> None:
        """Make a layer without the objects that satisfy the condition."""
        if self._is_measured():
            self._remove([self.condition.text()])

    def keep_range(self) -> None:
        """Make a layer with the objects whose value of the column on the x axis is in the range of the plot."""
        if not self._is_measured():
            return
        if not self.range_box.isChecked():
            show_error("No range is chosen. Tick the box, and move the borders of the shaded part of the plot.")
            return
        (low, high), name = self.plot.interval.getRegion(), self.x.currentText()
        self._remove([f"{name} < {low!r}", f"{name} > {high!r}"])

    def _remove(self, conditions: list[str]) -> None:
        layer, table = self.measured  # type: ignore[misc]
        self.progress.begin("removing ...")
        self.work.start(lambda _: _filtered(layer, table, conditions))

    def apply(self) -> None:
        """Make a layer with an operation applied."""
        if self.labels.layer is None:
            show_error("There is no labels layer. Segment an image first, or open labels.")
            return
        name, text, layer, image = self.operation.currentText(), self.setting.text().strip(), self.labels.layer, self.image.layer
        self.progress.begin(f"{name} ...")
        self.work.start(lambda _: _refined(layer, name, text, image))

    def _is_measured(self) -> bool:
        if self.measured is None:
            show_error("Nothing is measured yet. Click Measure first.")
        return self.measured is not None

    def ask_export(self) -> None:
        """Ask for a file and export."""
        if self._is_measured():
            suffix = EXPORTS[self.export_kind.currentText()][0]
            if found := QFileDialog.getSaveFileName(self, "Export", f"objects{suffix}", f"*{suffix}")[0]:
                self.export(found)

    def export(self, path: str) -> None:
        """Write the table or the outlines."""
        layer, table = self.measured  # type: ignore[misc]
        suffix, kind = EXPORTS[self.export_kind.currentText()]
        file = Path(path) if path.endswith(suffix) else Path(f"{path}{suffix}")
        self.progress.begin("exporting ...")
        self.work.start(lambda _: _exported(layer, table, file, kind))

    def _finished(self, outcome: Outcome[Any]) -> None:
        if isinstance(outcome.value, Path):
            show_info(f"Exported to {outcome.value}")
            self.progress.say(f"exported to {outcome.value}")
            return
        labels, table, name, source = outcome.value
        layer = source if labels is None else self._added(labels, name, source)
        self.measured = (layer, table)
        self.progress.say(f"{len(table)} objects")
        if self.table is None or self.table.parent() is None:
            self.table = ObjectTable(self.viewer)
            self.table.selected.connect(self.plot.mark)
            self.viewer.window.add_dock_widget(self.table, name="Measurements", area="bottom", tabify=True).raise_()
        self.table.show_table(table, layer)
        self._offer_columns(table)

    def _added(self, labels: np.ndarray, name: str, source: Any) -> Any:
        source.visible = False
        return self.viewer.add_labels(labels, name=name, scale=source.scale, translate=source.translate, units=source.units)

    def _offer_columns(self, table: pd.DataFrame) -> None:
        names = [str(name) for name in table if table[name].dtype.kind in "iuf" and name != "label"]
        before = (self.x.currentText(), self.y.currentText())
        for box, listed, chosen in ((self.x, names, before[0] or _size_of(names)), (self.y, [HISTOGRAM, *names], before[1])):
            box.blockSignals(True)
            box.clear()
            box.addItems(listed)
            box.setCurrentText(chosen)
            box.blockSignals(False)
        self._draw()

    def _draw(self) -> None:
        if self.measured is not None and self.x.currentText():
            self.plot.draw(self.measured[1], self.x.currentText(), self.y.currentText())

    def _point_chosen(self, label: int) -> None:
        """A point of the scatter: its object and its row are selected."""
        if self.measured is not None and self.measured[0] in self.viewer.layers:
            self.measured[0].selected_label = label


class Plot(pyqtgraph.PlotWidget):
    """Histogram of one column, or scatter of two; a click on a point chooses its object."""

    chosen = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.setMinimumHeight(180)
        self.points = pyqtgraph.ScatterPlotItem(size=7, pen=None, brush="#4ec9b0", hoverable=True)
        self.points.sigClicked.connect(lambda _, points, *__: self.chosen.emit(int(points[0].data())) if len(points) else None)
        self._marked = pyqtgraph.ScatterPlotItem(size=13, pen=pyqtgraph.mkPen("#f28e2b", width=2), brush=None)
        self._values: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
        self.interval = pyqtgraph.LinearRegionItem(brush=(78, 201, 176, 40))
        self.interval.setVisible(False)

    def show_range(self, on: bool) -> None:
        """Show or hide the range of the x axis that can be chosen."""
        self.interval.setVisible(on)

    def draw(self, table: pd.DataFrame, x: str, y: str) -> None:
        """Draw one or two columns."""
        self.clear()
        self.setLabel("bottom", x)
        values = table[x].to_numpy(float)
        self._values = None
        finite = values[np.isfinite(values)]
        if y in ("", HISTOGRAM):
            counts, edges = np.histogram(finite, bins="auto" if len(finite) else 1)
            self.addItem(pyqtgraph.BarGraphItem(x0=edges[:-1], x1=edges[1:], height=counts, brush="#4ec9b0"))
            self.setLabel("left", "objects")
        else:
            self._values = (values, table[y].to_numpy(float), table["label"].to_numpy())
            self.points.setData(x=values, y=self._values[1], data=self._values[2])
            self._marked.setData([], [])
            self.addItem(self.points)
            self.addItem(self._marked)
            self.setLabel("left", y)
        self.autoRange()
        if len(finite):
            self.interval.setRegion((float(finite.min()), float(finite.max())))
            self.addItem(self.interval, ignoreBounds=True)

    def mark(self, label: int) -> None:
        """Ring the point of an object."""
        if self._values is not None:
            x, y, ids = self._values
            self._marked.setData(x[ids == label], y[ids == label])


def _size_of(names: list[str]) -> str:
    return next((name for name in names if name.startswith(("area", "volume"))), names[0] if names else "")


def _table(labels: np.ndarray, source: Any, image: Any) -> pd.DataFrame:
    described = image_of_layer(source)
    size: VoxelSize | None = described.voxel_size
    return measure(labels, size, None if image is None else image_of_layer(image))


def _measured(layer: Any, image: Any) -> Generator[Event, None, tuple[None, pd.DataFrame, str, Any]]:
    yield from ()
    return None, _table(np.asarray(layer.data), layer, image), layer.name, layer


def _filtered(layer: Any, table: pd.DataFrame, conditions: list[str]) -> Generator[Event, None, tuple[np.ndarray, pd.DataFrame, str, Any]]:
    plain = table.drop(columns=[name for name in ("comment", "conditions") if name in table])
    labels, verdicts = filter_objects(np.asarray(layer.data), plain, conditions)
    kept = verdicts[verdicts["comment"] == "Correct"].drop(columns=["comment", "conditions"])
    yield Logged(f"{len(plain) - len(kept)} objects removed")
    return labels, kept, f"{layer.name} filtered", layer


def _refined(layer: Any, name: str, text: str, image: Any) -> Generator[Event, None, tuple[np.ndarray, pd.DataFrame, str, Any]]:
    yield from ()
    setting: Any = name if not text else {name: float(text) if "." in text else int(text) if text.lstrip("-").isdigit() else text}
    labels = refine(image_of_layer(layer), [setting])
    return labels, _table(labels, layer, image), f"{layer.name} {name}", layer


def _exported(layer: Any, table: pd.DataFrame, file: Path, kind: Any) -> Generator[Event, None, Path]:
    if kind is None:
        yield Logged(f"wrote {write_table(file, table)}")
        return file
    labels: Image = image_of_layer(layer)
    check_exports([kind], labels.ndim_spatial, key="export")
    yield from write_exports(np.asarray(labels), table, labels, {kind: file})
    return file
