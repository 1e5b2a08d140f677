"""Small steps on a layer: crop, cubic voxels, threshold, kinds of labels, sizes; and pieces of a large layer as files."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

from napari.utils.notifications import show_error, show_info
from qtpy.QtWidgets import QComboBox, QFormLayout, QGroupBox, QLabel, QLineEdit, QVBoxLayout, QWidget

from morula import workflows
from morula.core.events import Event, FileWritten
from morula.core.image import Image
from morula.core.region import Region
from morula.viewer.layers import file_name, image_of_layer, size_meta
from morula.viewer.stream import Outcome, stoppable
from morula.viewer.utilities import UTILITIES, box_of, numbers_of, utility
from morula.viewer.widgets.choose import LayerChoice, PathChoice, button
from morula.viewer.widgets.progress import ProgressRow
from morula.viewer.widgets.segment import visible_region
from morula.viewer.widgets.work import Work


class UtilitiesWidget(QWidget):
    """The window `Utilities`. Layers are never changed: each step makes a new one."""

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.work = Work("utility", self)
        self.operation, self.words = QComboBox(), QLabel()
        self.image, self.labels = LayerChoice(napari_viewer, "image", optional=True), LayerChoice(napari_viewer, "labels", optional=True)
        self.setting_name, self.setting = QLabel(), QLineEdit()
        self.apply_button = button("Apply", "Make a new layer", self.apply)
        self.size, self.folder = QLineEdit("64"), PathChoice("Folder for the pieces", folder=True)
        self.fragment_button = button("Fragment", "Write the layer as pieces of this size, one file each", self.fragment)
        self.progress = ProgressRow(self.work)
        self._place_widgets()
        self.operation.currentTextChanged.connect(lambda _: self._chosen())
        self.operation.addItems([entry.name for entry in UTILITIES])
        self.work.done.connect(self._finished)

    def _place_widgets(self) -> None:
        self.words.setWordWrap(True)
        self.setting.setToolTip("Empty: what the field shows in grey")
        form, pieces = QFormLayout(), QFormLayout()
        form.addRow("Step", self.operation)
        form.addRow(self.words)
        form.addRow("Image", self.image)
        form.addRow("or labels", self.labels)
        form.addRow(self.setting_name, self.setting)
        form.addRow("", self.apply_button)
        pieces.addRow("Size", self.size)
        pieces.addRow("Folder", self.folder)
        pieces.addRow("", self.fragment_button)
        box = QGroupBox("Pieces of a large layer")
        box.setLayout(pieces)
        self.setLayout(QVBoxLayout())
        self.layout().addLayout(form)
        self.layout().addWidget(box)
        self.layout().addWidget(self.progress)
        self.layout().addStretch(1)

    def _chosen(self) -> None:
        """Show what the step needs."""
        step = utility(self.operation.currentText())
        self.words.setText(step.description)
        self.image.setEnabled("image" in step.kinds)
        self.labels.setEnabled("labels" in step.kinds)
        self.setting_name.setText(step.setting)
        self.setting_name.setVisible(bool(step.setting))
        self.setting.setVisible(bool(step.setting))
        self.setting.clear()
        self.setting.setPlaceholderText(step.example or "what is visible")

    def layer(self) -> Any:
        """The layer of the step: the image where one is chosen and taken, else the labels; without one it is said in a notification."""
        kinds = utility(self.operation.currentText()).kinds
        layer = (self.image.layer if "image" in kinds else None) or (self.labels.layer if "labels" in kinds else None)
        if layer is None:
            show_error(f"Choose a layer: this step takes {' or '.join(kinds)}.")
        return layer

    def apply(self) -> None:
        """Make a new layer."""
        if (layer := self.layer()) is None:
            return
        name, text = self.operation.currentText(), self.setting.text().strip()
        if name == "crop" and not text:
            text = _text_of(visible_region(self.viewer, layer, most=None))
        elif not text and utility(name).setting == "Voxels":
            text = utility(name).example
        self.progress.begin(f"{name} ...")
        self.work.start(lambda _: _made(layer, name, text))

    def fragment(self) -> None:
        """Write pieces of a layer."""
        layer = self.image.layer or self.labels.layer
        if layer is None or not self.folder.path:
            show_error("Choose a layer and a folder for the pieces.")
            return
        size, folder = self.size.text(), self.folder.path
        self.progress.begin("writing ...")
        self.work.start(lambda stopping: stoppable(_pieces(layer, size, folder), stopping))

    def _finished(self, outcome: Outcome[Any]) -> None:
        if isinstance(outcome.value, int):
            self.progress.say(f"{outcome.value} pieces in {self.folder.path}")
            show_info(f"{outcome.value} pieces were written to {self.folder.path}")
        elif outcome.value is not None:
            image, kind, title, moved = outcome.value
            meta = {"name": title, **size_meta(image), "translate": moved}
            add = self.viewer.add_labels if kind == "labels" else self.viewer.add_image
            axis = {"channel_axis": 0} if image.axes.startswith("C") and kind == "image" else {}
            add(image.data, **meta, **axis)
            self.progress.say(f"made the layer {title}")


def _text_of(box: Region) -> str:
    return ", ".join(f"{start}:{stop}" for start, stop in zip(box.start, box.stop, strict=True))


def _made(layer: Any, name: str, text: str) -> Generator[Event, None, tuple[Image, str, str, Any]]:
    yield from ()
    step, image = utility(name), image_of_layer(layer)
    labels = layer._type_string == "labels"
    made = step.run(image, labels, text)
    moved = layer.translate[-image.ndim_spatial :]
    if name == "crop":
        moved = moved + layer.scale[-image.ndim_spatial :] * box_of(text, image.ndim_spatial).start
    return made, step.makes or layer._type_string, f"{layer.name} {name}", moved


def _pieces(layer: Any, size: str, folder: str) -> Generator[Event, None, int]:
    image, written = image_of_layer(layer), 0
    edges = tuple(min(edge, n) for edge, n in zip(numbers_of(size, image.ndim_spatial), image.spatial_shape, strict=True))
    labels = layer._type_string == "labels"
    for event in workflows.utilities.write_fragments(image, edges, Path(folder), name=file_name(layer.name), labels=labels):
        written += isinstance(event, FileWritten)
        yield event
    return written
