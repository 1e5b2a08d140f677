"""Segment a layer or files with a trained model; sliders decode again without running the network."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from napari.utils.notifications import show_error, show_info
from qtpy.QtWidgets import QComboBox, QFormLayout, QGroupBox, QHBoxLayout, QLabel, QTabWidget, QVBoxLayout, QWidget

import morula
from morula import workflows
from morula.core.events import Event, FileWritten
from morula.core.region import Region
from morula.jobs.bundled import place_of
from morula.viewer.layers import image_of_layers
from morula.viewer.stream import Outcome, stoppable
from morula.viewer.widgets.choose import LayerChoice, PathChoice, SettingSlider, button
from morula.viewer.widgets.models import AUTOMATIC, ModelChoice
from morula.viewer.widgets.progress import ProgressRow
from morula.viewer.widgets.table import ObjectTable
from morula.viewer.widgets.work import Latest, Work, prepare_drawing

if TYPE_CHECKING:
    import pandas as pd

    from morula.models.by_slice import SliceAxes
    from morula.models.model import Model
    from morula.workflows.adjust import Decoded, Prediction, Setting

Chosen: TypeAlias = "tuple[str, SliceAxes | None]"
"""The place of a model, and whether it is used slice by slice."""
PREVIEW_VOXELS = 512 * 512
"""Largest preview: seconds on two cores."""


SLICES = {"off": None, "along z, joined": "z", "along three axes": "zyx"}
"""How a 2D model is used on volumes, and what `morula.by_slices` calls it."""


@dataclass(frozen=True, eq=False)
class Segmented:
    """A prediction, its objects and its settings, and the layer that it was made of."""

    prediction: Prediction
    decoded: Decoded
    settings: tuple[Setting, ...]
    preview: bool
    source: Any
    place: str


class SegmentWidget(QWidget):
    """The window `Segment`. PyTorch is imported by its first work, in a thread, so that the window opens at once."""

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.work, self.decoding = Work("segmentation", self), Latest("objects", self)
        self.model, self.image = ModelChoice(automatic=True), LayerChoice(napari_viewer, "image")
        self.more = [LayerChoice(napari_viewer, "image", optional=True) for _ in range(2)]
        self.slices = QComboBox()
        self.files, self.output = (PathChoice(title, folder=True) for title in ("Folder of images", "Folder for the results"))
        self.progress = ProgressRow(self.work)
        self.preview_button = button("Preview", "Segment what is visible: seconds, to find the settings", self.preview)
        self.segment_button = button("Segment", "Segment the whole layer, or all images of the folder", self.segment)
        self.sliders: dict[str, SettingSlider] = {}
        self.settings = QGroupBox("Settings")
        self.settings.setLayout(QFormLayout())
        self.settings.setVisible(False)
        self.table: ObjectTable | None = None
        self.shown: Segmented | None = None
        self.result: Any = None
        self._loaded: dict[str, Model] = {}
        self._place_widgets()
        self.work.done.connect(self._finished)
        self.work.ended.connect(lambda: self._enable(True))
        self.decoding.done.connect(self._decoded)

    def _place_widgets(self) -> None:
        layer_page, file_page = QWidget(), QWidget()
        layer_page.setLayout(QFormLayout())
        layer_page.layout().addRow("Image", self.image)
        for number, choice in enumerate(self.more, start=2):
            choice.setToolTip("For models of images with several channels, each of which is a layer of its own")
            layer_page.layout().addRow(f"Channel {number}", choice)
        file_page.setLayout(QFormLayout())
        file_page.layout().addRow("Images", self.files)
        file_page.layout().addRow("Results", self.output)
        self.pages = QTabWidget()
        self.pages.addTab(layer_page, "Layer")
        self.pages.addTab(file_page, "Files")
        self.pages.currentChanged.connect(lambda page: self.preview_button.setEnabled(page == 0))
        top, buttons = QFormLayout(), QHBoxLayout()
        top.addRow("Model", self.model)
        top.addRow("Slices", self.slices)
        for text, axes in SLICES.items():
            self.slices.addItem(text, axes)
        self.slices.setToolTip("A 2D model segments a volume slice by slice; a 3D model does not need it")
        buttons.addWidget(self.preview_button)
        buttons.addWidget(self.segment_button)
        self.setLayout(QVBoxLayout())
        self.layout().addLayout(top)
        self.layout().addWidget(self.pages)
        self.layout().addLayout(buttons)
        self.layout().addWidget(self.progress)
        self.layout().addWidget(self.settings)
        self.layout().addStretch(1)

    def preview(self) -> None:
        """Segment the visible part of the layer."""
        if (layer := self._layer()) is not None:
            self._start_layer(layer, visible_region(self.viewer, layer), "predicting what is visible ...")

    def segment(self) -> None:
        """Segment the whole layer, or the files of the folder."""
        if self.pages.currentIndex() == 1:
            self._segment_files()
        elif (layer := self._layer()) is not None:
            self._start_layer(layer, None, "predicting the layer ...")

    def _start_layer(self, layer: Any, region: Region | None, text: str) -> None:
        place, axes = self.model.place, self.slices.currentData()
        layers = [layer, *(choice.layer for choice in self.more if choice.layer is not None)]
        self._start(lambda stopping: self._layer_steps(layers, (place, axes), region, stopping), text)

    def _layer(self) -> Any:
        """The layer to segment. What is missing is said in one notification."""
        if not self.model.place:
            show_error("No model is chosen. Choose a run folder whose training has finished, or a checkpoint.")
            return None
        if self.image.layer is None:
            show_error("There is no image layer. Open an image, or take a sample: File > Open Sample > Morula.")
        return self.image.layer

    def _segment_files(self) -> None:
        missing = [
            name for name, path in (("model", self.model.place), ("images", self.files.path), ("results", self.output.path)) if not path
        ]
        if missing:
            show_error(f"Still missing: {', '.join(missing)}.")
            return
        images, output, place, axes = self.files.path, self.output.path, self.model.place, self.slices.currentData()
        self._start(lambda stopping: stoppable(self._file_steps(images, output, (place, axes)), stopping), "segmenting files ...")

    def _file_steps(self, images: str, output: str, model: Chosen) -> Generator[Event, None, int]:
        written = 0
        loaded = None if model == (AUTOMATIC, None) else self._load(*model)
        for event in workflows.segment.segment(images, model=loaded, output=output):
            written += isinstance(event, FileWritten)
            yield event
        return written

    def _start(self, make: Callable[[Callable[[], bool]], Generator[Event, None, Any]], text: str) -> None:
        if not self.work.running:
            self._enable(False)
            self.progress.begin(text)
        self.work.start(make)

    def _enable(self, on: bool) -> None:
        self.segment_button.setEnabled(on)
        self.preview_button.setEnabled(on and self.pages.currentIndex() == 0)

    def _load(self, place: str, axes: SliceAxes | None) -> Model:
        """A model, loaded once while its files stay the same."""
        stamp = f"{place} {_changed(place_of(place))}"
        if stamp not in self._loaded:
            self._loaded = {stamp: morula.load(place)}
        model = self._loaded[stamp]
        return model if axes is None else morula.by_slices(model, axes)

    def _layer_steps(
        self, layers: list[Any], model: Chosen, region: Region | None, stopping: Callable[[], bool]
    ) -> Generator[Event, None, Segmented | None]:
        image, (place, axes) = image_of_layers(layers), model
        if place == AUTOMATIC:
            place, image = workflows.choose_model.chosen_for(image, slices=axes is not None)
        prediction = yield from stoppable(workflows.adjust.predict_region(self._load(place, axes), image, region), stopping)
        if prediction is None:
            return None
        decoded = prediction.decode()
        prepare_drawing(np.asarray(decoded.labels))
        return Segmented(prediction, decoded, prediction.settings, region is not None, layers[0], place)

    def _finished(self, outcome: Outcome[Any]) -> None:
        if outcome.value is None:
            self.progress.say("stopped; nothing was changed")
        elif isinstance(outcome.value, int):
            self.progress.say(f"{outcome.value} files were written to {self.output.path}")
            show_info(f"Segmented into {self.output.path}")
        else:
            self._show_result(outcome.value)

    def _show_result(self, found: Segmented) -> None:
        self.shown = found
        self._show_sliders(found.settings)
        name = f"{found.source.name} {'preview' if found.preview else 'objects'}"
        scale = np.asarray(found.source.scale)[-len(found.prediction.region.start) :]
        translate = np.asarray(found.source.translate)[-len(scale) :] + scale * found.prediction.region.start
        labels = np.asarray(found.decoded.labels)
        if name in self.viewer.layers and self.viewer.layers[name].ndim == labels.ndim:
            self.result = self.viewer.layers[name]
            self.result.data, self.result.translate = labels, translate
        else:
            units = found.source.units[-len(scale) :]
            self.result = self.viewer.add_labels(labels, name=name, scale=scale, translate=translate, units=units, opacity=0.6)
        self.result.visible = True
        self._show_table(found.decoded)
        if self.table is not None and self.table.parent() is not None:
            self.table.parent().raise_()

    def _note(self, table: pd.DataFrame) -> None:
        """What the window Correct reads: the confidences of the objects, and the model that found them."""
        if self.shown is not None:
            self.result.metadata["morula"] = {"table": table, "model": self.shown.place}

    def _show_sliders(self, settings: tuple[Setting, ...]) -> None:
        if [slider.setting for slider in self.sliders.values()] == list(settings):
            return
        form = self.settings.layout()
        while form.rowCount():
            form.removeRow(0)
        self.sliders = {setting.key: SettingSlider(setting) for setting in settings}
        for key, slider in self.sliders.items():
            label = QLabel(_words(key))
            label.setToolTip(slider.toolTip())
            form.addRow(label, slider)
            slider.moved.connect(self._decode)
        self.settings.setVisible(bool(settings))

    def _decode(self) -> None:
        """Decode the stored channels again; of several moves only the last one counts."""
        found = self.shown
        if found is None or self.result not in self.viewer.layers:
            return
        values = {key: slider.value for key, slider in self.sliders.items()}
        self.decoding.ask(lambda: found.prediction.decode(values))

    def _decoded(self, decoded: Decoded) -> None:
        if self.result in self.viewer.layers:
            self.result.data = np.asarray(decoded.labels)
            self._show_table(decoded)

    def _show_table(self, decoded: Decoded) -> None:
        if self.table is None or self.table.parent() is None:
            self.table = ObjectTable(self.viewer)
            self.viewer.window.add_dock_widget(self.table, name="Objects", area="bottom", tabify=True).raise_()
        self.table.show_table(decoded.table, self.result)
        self._note(decoded.table)
        count, model = len(decoded.table), Path(self.shown.place).name if self.shown is not None else ""
        self.progress.say(
            f"{count} objects, found by the model {model}" if count else "no objects: lower the thresholds, or choose another model"
        )


def visible_region(viewer: Any, layer: Any, most: int | None = PREVIEW_VOXELS) -> Region:
    """The visible box of a layer, cut to `most` voxels, the size of a preview, around its middle and the current slice."""
    rgb = bool(getattr(layer, "rgb", False))
    shape = layer.data.shape[: layer.data.ndim - rgb][-3:]
    ndim = len(shape)
    start, stop = [0] * ndim, list(shape)
    shown = [axis - viewer.dims.ndim + ndim for axis in viewer.dims.displayed]
    low, high = layer.corner_pixels[:, -ndim:]
    for axis in shown if viewer.dims.ndisplay == 2 else []:
        start[axis] = int(np.clip(low[axis], 0, shape[axis] - 1))
        stop[axis] = int(np.clip(high[axis] + 1, start[axis] + 1, shape[axis]))
    point = np.asarray(layer.world_to_data(viewer.dims.point))[-ndim:]
    centre = [(start[axis] + stop[axis]) // 2 if axis in shown else int(np.clip(point[axis], 0, shape[axis] - 1)) for axis in range(ndim)]
    box = Region(tuple(start), tuple(stop))
    return box if most is None else box.around(centre, most)


def _words(key: str) -> str:
    """The last names of a key.

    Examples:
        >>> _words("objects.decoder.seeds.F"), _words("objects.refine.remove_small")
        ('seeds F', 'remove small')
    """
    return " ".join(key.split(".")[2:] or key.split(".")[1:]).replace("_", " ")


def _changed(place: Path) -> float:
    """When the weights of a run folder, or a checkpoint, were written; 0 for the name of a bundled model."""
    candidates = (place / "model" / "model.json", place / "model.json", place)
    return next((file.stat().st_mtime for file in candidates if file.exists()), 0.0)
