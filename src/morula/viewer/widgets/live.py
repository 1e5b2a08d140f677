"""The live view of a training: what the network makes of a patch as layers, and its losses as curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyqtgraph
from qtpy.QtCore import QObject, QTimer
from qtpy.QtWidgets import QWidget

from morula.core.events import Epoch, Preview

MOST_CHANNELS = 4
"""Layers of one array: more would fill the layer list."""
MAPS = ("turbo", "viridis", "magma", "cyan")
COLOURS = ("#4ec9b0", "#f28e2b", "#b07aa1", "#e15759", "#59a14f", "#edc948")


class LiveLayers(QObject):
    """Layers beside the image, refreshed by each preview. A layer that the user deletes stays deleted.

    Layers are added one by one, so that the window is not blocked while they are drawn for the first time.
    """

    def __init__(self, viewer: Any, beside: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.viewer, self.beside = viewer, beside
        self.layers: dict[str, Any] = {}
        self._waiting: list[tuple[str, np.ndarray]] = []
        self._right: float | None = None
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._add_next)

    def show(self, preview: Preview) -> None:
        """Show the arrays of a preview."""
        self._waiting = []
        for name, array in channels_of(preview.arrays).items():
            layer = self.layers.get(name)
            if layer is None:
                self._waiting.append((name, array))
            elif layer in self.viewer.layers:
                _refresh(layer, array)
        if self._waiting:
            self._timer.start(0)

    def _add_next(self) -> None:
        if not self._waiting:
            self._timer.stop()
            return
        name, array = self._waiting.pop(0)
        title = f"live {name}"
        if title in self.viewer.layers and self.viewer.layers[title].ndim == array.ndim:  # of a training before
            self.layers[name] = self.viewer.layers[title]
            _refresh(self.layers[name], array)
        else:
            self.layers[name] = self._added(name, title, array)
        if not self._waiting:
            self.viewer.reset_view()

    def _added(self, name: str, title: str, array: np.ndarray) -> Any:
        meta = {"name": title, **self._place(array)}
        if array.dtype.kind in "iu":
            return self.viewer.add_labels(_shown(array), **meta)
        colormap = "gray" if name in ("input", "truth", "original") else MAPS[len(self.layers) % len(MAPS)]
        return self.viewer.add_image(array, contrast_limits=_limits(array), colormap=colormap, **meta)

    def _place(self, array: np.ndarray) -> dict[str, Any]:
        """To the right of the image and of the layers before, with the voxel size of the image."""
        ndim, beside = array.ndim, self.beside
        if beside is None or beside.ndim < ndim:
            scale, place, more = np.ones(ndim), np.zeros(ndim), {}
            self._right = 0.0 if self._right is None else self._right
        else:
            low, high = beside.extent.world
            scale, place, more = np.asarray(beside.scale)[-ndim:], low[-ndim:].copy(), {"units": beside.units[-ndim:]}
            self._right = float(high[-1]) if self._right is None else self._right
        width = array.shape[-1] * scale[-1]
        place[-1] = self._right + 0.05 * width
        self._right = place[-1] + width
        return {"scale": scale, "translate": place, **more}


def channels_of(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays of one patch with the same dimensions: those with several channels are divided.

    Examples:
        >>> sorted(channels_of({"input": np.zeros((8, 8)), "encoder output": np.zeros((2, 8, 8))}))
        ['encoder output 1', 'encoder output 2', 'input']
    """
    ndim = min(array.ndim for array in arrays.values()) if arrays else 0
    found: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        if array.ndim == ndim:
            found[name] = array
        else:
            found |= {f"{name} {number + 1}": channel for number, channel in enumerate(array[:MOST_CHANNELS])}
    return found


def _shown(classes: np.ndarray) -> np.ndarray:
    """Classes from 1 on: 0 would not be drawn. napari draws uint8 as it is; for other types it compiles a function at the first layer."""
    return classes.astype(np.uint8 if classes.max(initial=0) < 255 else np.uint16) + 1


def _limits(array: np.ndarray) -> tuple[float, float]:
    low, high = (float(value) for value in np.percentile(array, (0.5, 99.8)))
    return low, max(high, low + 1e-6)


def _refresh(layer: Any, array: np.ndarray) -> None:
    if array.dtype.kind in "iu":
        layer.data = _shown(array)
    else:
        layer.data = array
        layer.contrast_limits = _limits(array)


class Curves(pyqtgraph.GraphicsLayoutWidget):
    """One plot per loss, training and validation together, and one for the balance of the losses.

    Plots are made one by one, so that the window is not blocked.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setMinimumHeight(160)
        self.epochs: list[Epoch] = []
        self.plots: dict[str, Any] = {}
        self.lines: dict[str, Any] = {}
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._make_next)

    def clear_all(self) -> None:
        """Begin again."""
        self.clear()
        self.epochs, self.plots, self.lines = [], {}, {}

    def add(self, epoch: Epoch) -> None:
        """Draw one epoch more."""
        self.epochs.append(epoch)
        for title in self.plots:
            self._draw(title)
        if self._missing():
            self._timer.start(0)

    def _missing(self) -> list[str]:
        titles = [plot_of(name) for epoch in self.epochs for name in epoch.figures]
        return [title for title in dict.fromkeys(titles) if title is not None and title not in self.plots]

    def _make_next(self) -> None:
        missing = self._missing()
        if not missing:
            self._timer.stop()
            return
        plot = self.plots[missing[0]] = self.addPlot(title=missing[0])
        plot.setLabel("bottom", "epoch")
        if len(names := self._names(missing[0])) > 1:  # one line has the name of the plot
            plot.addLegend(offset=(-5, 1), colCount=len(names))
        self._draw(missing[0])

    def _names(self, title: str) -> list[str]:
        """The figures that a plot shows."""
        return list(dict.fromkeys(name for epoch in self.epochs for name in epoch.figures if plot_of(name) == title))

    def _draw(self, title: str) -> None:
        """The lines of a plot."""
        for name in self._names(title):
            if name not in self.lines:
                pen = pyqtgraph.mkPen(COLOURS[len(self.plots[title].listDataItems()) % len(COLOURS)], width=2)
                dots = {"symbol": "o", "symbolSize": 4, "symbolBrush": pen.color(), "symbolPen": None}
                self.lines[name] = self.plots[title].plot(pen=pen, name=name, **dots)
            drawn = [epoch for epoch in self.epochs if name in epoch.figures]
            self.lines[name].setData([epoch.epoch for epoch in drawn], [epoch.figures[name] for epoch in drawn])


def plot_of(name: str) -> str | None:
    """The plot that a figure belongs to; `None` for figures that are not drawn.

    Examples:
        >>> plot_of("validation_loss"), plot_of("loss_F"), plot_of("ncuts"), plot_of("validation_iou"), plot_of("lr")
        ('loss', 'parts of the loss', 'ncuts', 'iou', None)
    """
    plain = name.removeprefix("validation_")
    if plain in ("loss", "ncuts", "reconstruction", "balance", "score") or name in ("validation_iou", "validation_dice"):
        return plain
    if plain in ("loss_ncuts", "loss_reconstruction") or not plain.startswith("loss_"):
        return None  # drawn without their weights
    return "parts of the loss"
