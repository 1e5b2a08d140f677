"""A table of objects that is linked with a labels layer: a row selects its object, and an object its row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt, Signal
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView, QVBoxLayout, QWidget


class Rows(QAbstractTableModel):
    """Rows of a data frame, as Qt shows them."""

    def __init__(self, table: pd.DataFrame | None = None) -> None:
        super().__init__()
        self.table = pd.DataFrame() if table is None else table

    def rowCount(self, parent: QModelIndex | None = None) -> int:  # noqa: D102 - of Qt
        return len(self.table)

    def columnCount(self, parent: QModelIndex | None = None) -> int:  # noqa: D102 - of Qt
        return self.table.shape[1]

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:  # noqa: D102 - of Qt
        if role != Qt.ItemDataRole.DisplayRole:
            return None
        value = self.table.iat[index.row(), index.column()]
        return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)

    def headerData(self, section: int, orientation: Any, role: int = Qt.ItemDataRole.DisplayRole) -> Any:  # noqa: D102 - of Qt
        if role != Qt.ItemDataRole.DisplayRole:
            return None
        return str(self.table.columns[section]) if orientation == Qt.Orientation.Horizontal else None

    def sort(self, column: int, order: Any = Qt.SortOrder.AscendingOrder) -> None:  # noqa: D102 - of Qt
        if not 0 <= column < self.table.shape[1]:  # the order that the objects came in
            return
        self.layoutAboutToBeChanged.emit()
        name = self.table.columns[column]
        self.table = self.table.sort_values(name, ascending=order == Qt.SortOrder.AscendingOrder, kind="stable")
        self.layoutChanged.emit()

    def replace(self, table: pd.DataFrame) -> None:
        """Show another table."""
        self.beginResetModel()
        self.table = table
        self.endResetModel()


class ObjectTable(QWidget):
    """The table, and the link to its layer."""

    selected = Signal(int)

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.viewer = viewer
        self.layer: Any = None
        self.rows, self.view = Rows(), QTableView()
        self.view.setModel(self.rows)
        self.view.setSortingEnabled(True)
        self.view.horizontalHeader().setResizeContentsPrecision(20)  # rows that decide about the width of a column
        self.view.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.view.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setLayout(QVBoxLayout())
        self.layout().setContentsMargins(0, 0, 0, 0)
        self.layout().addWidget(self.view)
        self._following = False
        self.view.selectionModel().currentRowChanged.connect(self._row_chosen)

    @property
    def table(self) -> pd.DataFrame:
        """The rows in the order that is shown."""
        return self.rows.table

    def show_table(self, table: pd.DataFrame, layer: Any) -> None:
        """Show the objects of a labels layer."""
        with self._quiet():
            self.rows.replace(table)
            self.view.sortByColumn(-1, Qt.SortOrder.AscendingOrder)
        if layer is self.layer:
            return
        self.unlink()
        self.layer = layer
        layer.events.selected_label.connect(self._object_chosen)
        layer.mouse_drag_callbacks.append(self._clicked)

    def unlink(self) -> None:
        """Let go of the layer."""
        if self.layer is not None:
            self.layer.events.selected_label.disconnect(self._object_chosen)
            if self._clicked in self.layer.mouse_drag_callbacks:
                self.layer.mouse_drag_callbacks.remove(self._clicked)
        self.layer = None

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        before, self._following = self._following, True
        try:
            yield
        finally:
            self._following = before

    def _row_chosen(self, current: QModelIndex, _: QModelIndex) -> None:
        """A row was chosen: its object is selected and brought into view."""
        if self._following or not current.isValid() or self.layer is None:
            return
        row = self.table.iloc[current.row()]
        with self._quiet():
            self.layer.selected_label = int(row["label"])
            go_to(self.viewer, self.layer, row)
        self.selected.emit(int(row["label"]))

    def _object_chosen(self, _: Any = None) -> None:
        """An object was chosen in the layer: its row is selected."""
        if not self._following and self.layer is not None:
            self.choose(int(self.layer.selected_label))

    def choose(self, label: int) -> None:
        """Select the row of an object without moving the view."""
        places = np.flatnonzero(self.table["label"].to_numpy() == label) if "label" in self.table else np.zeros(0, int)
        if len(places):
            with self._quiet():
                self.view.selectRow(int(places[0]))
            self.selected.emit(label)

    def go_to(self, label: int) -> None:
        """Select the row of an object, and bring the object into view."""
        self.choose(label)
        rows = self.table[self.table["label"] == label] if "label" in self.table else self.table[:0]
        if len(rows) and self.layer is not None:
            go_to(self.viewer, self.layer, rows.iloc[0])

    def _clicked(self, layer: Any, event: Any) -> None:
        """A click on an object in the normal mode of the layer."""
        if str(layer.mode) == "pan_zoom":
            value = layer.get_value(event.position, view_direction=event.view_direction, dims_displayed=event.dims_displayed, world=True)
            if value:
                layer.selected_label = int(value)


def go_to(viewer: Any, layer: Any, row: pd.Series) -> None:
    """Centre the view on an object: its slice first, then the camera."""
    centre = [float(row[f"centroid_{axis}"]) for axis in "zyx"[-layer.ndim :]]
    world = layer.data_to_world(centre)
    shown = viewer.dims.displayed
    for axis in range(viewer.dims.ndim):
        if axis not in shown:
            viewer.dims.set_point(axis, world[axis - viewer.dims.ndim])
    # napari 0.9 moved the camera
    getattr(viewer, "scene", viewer).camera.center = tuple(world[axis - viewer.dims.ndim] for axis in shown)
