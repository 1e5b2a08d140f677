"""Correct segmented objects, the most suspicious first, with one key each, and continue the training with them."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QCheckBox, QFormLayout, QGridLayout, QGroupBox, QHBoxLayout, QLabel, QSpinBox, QVBoxLayout, QWidget

from morula import workflows
from morula.core.errors import MorulaError
from morula.core.events import Epoch, Event
from morula.core.image import Image
from morula.viewer.layers import before_strokes, file_name, image_of_layer
from morula.viewer.stream import Failure, Outcome, duration
from morula.viewer.widgets.choose import LayerChoice, PathChoice, button
from morula.viewer.widgets.models import ModelChoice
from morula.viewer.widgets.progress import ProgressRow
from morula.viewer.widgets.table import ObjectTable
from morula.viewer.widgets.work import Work, prepare_drawing, report
from morula.workflows.corrections import Corrections
from morula.workflows.run_settings import free_folder

KEYS = {
    "accept": ("A", "The object is right"),
    "delete": ("D", "It is no object"),
    "merge": ("M", "It is one object with the one under the mouse, or else with the neighbour of the longest border"),
    "split": ("S", "It is two objects: cut at the neck"),
    "redraw": ("R", "Change its outline with the brush; the eraser and the other tools of the layer work, too"),
    "new": ("N", "Draw an object that was missed"),
    "next": ("J", "Jump to the next one without a decision"),
    "undo": ("U", "Take the last decision back"),
}
"""Actions with their key and help text."""
VIEW = 6.0
"""Width of the view in sizes of the object that is looked at."""


class CorrectWidget(QWidget):
    """The window `Correct`. It works on a layer of its own; the labels that it was made from stay as they are."""

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.work = Work("correction", self)
        self.labels, self.image = LayerChoice(napari_viewer, "labels"), LayerChoice(napari_viewer, "image", optional=True)
        self.start_button = button(
            "Start", "Sort the objects, the most suspicious first; the labels layer itself is not changed", self.start
        )
        self.open_button = button("Continue ...", "Continue a review that was saved: name its labels below", self.open)
        self.buttons = {name: button(f"{name.capitalize()}  ({key})", tip, partial(self.do, name)) for name, (key, tip) in KEYS.items()}
        self.state, self.slice_line, self.slice_done = QLabel(), QLabel(), QCheckBox("All of this slice is right")
        self.file = PathChoice("File for the labels", folder=False)
        self.save_button = button("Save", "Write the labels, the table of decisions and the mask of what was reviewed", self.save)
        self.model, self.epochs, self.output = ModelChoice(), QSpinBox(), PathChoice("Run folder", folder=True)
        self.retrain_button = button("Retrain from here", "Continue the training of the model with what was reviewed", self.retrain)
        self.progress = ProgressRow(self.work)
        self.corrections: Corrections | None = None
        self.layer: Any = None
        self.table: ObjectTable | None = None
        self._strokes: list[Any] = []
        self._place_widgets()
        self._enable(False)
        self.work.done.connect(self._finished)
        self.work.event.connect(self._show_event)
        self.work.ended.connect(lambda: self._enable(self.corrections is not None))
        napari_viewer.dims.events.current_step.connect(self._show_slice)

    def _place_widgets(self) -> None:
        self.state.setWordWrap(True)
        self.epochs.setRange(1, 1000)
        self.epochs.setValue(10)
        top, files, training = QFormLayout(), QFormLayout(), QFormLayout()
        top.addRow("Labels", self.labels)
        top.addRow("Image", self.image)
        top.addRow("", _row(self.start_button, self.open_button))
        grid = QGridLayout()
        for number, key_button in enumerate(self.buttons.values()):
            grid.addWidget(key_button, number // 2, number % 2)
        files.addRow("File", self.file)
        files.addRow("", self.save_button)
        training.addRow("Model", self.model)
        training.addRow("Epochs", self.epochs)
        training.addRow("Run folder", self.output)
        training.addRow("", self.retrain_button)
        self.review_box, self.training_box = QGroupBox("Review"), QGroupBox("Learn from the corrections")
        inner = QVBoxLayout()
        for part in (self.state, grid, self.slice_line, self.slice_done, files):
            (inner.addWidget if isinstance(part, QWidget) else inner.addLayout)(part)
        self.review_box.setLayout(inner)
        self.training_box.setLayout(training)
        self.setLayout(QVBoxLayout())
        self.layout().addLayout(top)
        for box in (self.review_box, self.training_box, self.progress):
            self.layout().addWidget(box)
        self.layout().addStretch(1)
        self.slice_done.clicked.connect(self._mark_slice)

    def _enable(self, on: bool) -> None:
        self.review_box.setEnabled(on)
        self.training_box.setEnabled(on)
        self.start_button.setEnabled(not self.work.running)

    # a review begins

    def start(self) -> None:
        """Begin with the labels layer."""
        layer, image = self.labels.layer, self.image.layer
        if layer is None:
            show_error("There is no labels layer. Segment an image first, or open labels.")
            return
        self._begin(lambda _: _sorted(layer, image), "sorting the objects ...")

    def open(self) -> None:
        """Continue a review that was saved."""
        if not self.file.path:
            show_error("No file is named. Name the labels that an earlier review has saved.")
            return
        file, image = self.file.path, self.image.layer
        self._begin(lambda _: _loaded(file, image), "opening the review ...")

    def _begin(self, make: Callable[[Callable[[], bool]], Generator[Event, None, Any]], text: str) -> None:
        if not self.work.running:
            self._enable(False)
            self.start_button.setEnabled(False)
            self.progress.begin(text)
        self.work.start(make)

    def _reviewed(self, corrections: Corrections, layer: Any, name: str) -> None:
        """Show the layer that is corrected, and its first object."""
        self.corrections = corrections
        like = {} if layer is None else {"translate": np.asarray(layer.translate)[-len(corrections.shape) :]}
        units = () if corrections.voxel_size is None else (corrections.voxel_size.unit,) * len(corrections.shape)
        self.layer_meta = {"name": f"{name} corrected", "scale": corrections.spacing, **like, **({"units": units} if units else {})}
        if layer is not None:
            layer.visible = False
            model = layer.metadata.get("morula", {}).get("model")
            if model:
                self.model.choose(model)
        self._add_layer()
        if not self.file.path:
            folder = Path.cwd() if corrections.source is None else Path(corrections.source).parent
            self.file.line.setText(str(workflows.review_files.free_file(folder, name)))
        self.progress.say(f"{len(corrections.objects)} objects, sorted by suspicion")
        self._go(corrections.next())

    def _add_layer(self) -> None:
        assert self.corrections is not None
        self.layer = self.viewer.add_labels(self.corrections.labels, opacity=0.6, **self.layer_meta)
        for name, (key, _) in KEYS.items():
            self.layer.bind_key(key, lambda _, name=name: self.do(name), overwrite=True)
        self.layer.bind_key("Control-Z", lambda _: self.do("undo"), overwrite=True)
        self.layer.events.paint.connect(self._painted)
        self.layer.events.selected_label.connect(lambda _: self._show_state())
        if self.table is None or self.table.parent() is None:
            self.table = ObjectTable(self.viewer)
            self.viewer.window.add_dock_widget(self.table, name="Review", area="bottom", tabify=True).raise_()
        self._show_table()

    # decisions

    def do(self, action: str) -> None:
        """One of the actions of `KEYS`, on the selected object. What is not possible is one notification."""
        found = self.corrections
        if found is None or self.work.running:
            return
        self._take_strokes()
        if self.layer not in self.viewer.layers:
            self._add_layer()
            self._go(found.next())
            show_info("The layer with the corrections had been removed. Nothing was lost; it is shown again.")
            return
        label = int(self.layer.selected_label)
        try:
            self._act(found, action, label)
        except MorulaError as error:
            report(Failure(error))

    def _act(self, found: Corrections, action: str, label: int) -> None:
        if action == "next":
            self._go(found.next(label))
        elif action in ("redraw", "new"):
            if action == "redraw":
                found.mask(label)  # there is such an object
            self.layer.selected_label = found.new_label if action == "new" else label
            self.layer.mode = "paint"
        elif action == "undo":
            self.layer.mode = "pan_zoom"
            back = found.undo()
            self._changed()
            if back:
                self._go(back[0])
        else:
            self._decide(found, action, label)
            self.layer.mode = "pan_zoom"
            self._changed()
            self._go(found.next(label))

    def _decide(self, found: Corrections, action: str, label: int) -> None:
        if action == "merge":
            other = self.layer.get_value(self.viewer.cursor.position, world=True) or label
            found.merge(label, *([int(other)] if int(other) != label else []))
        elif action == "accept":
            found.accept(label)
        else:
            (found.delete if action == "delete" else found.split)(label)

    def _painted(self, event: Any) -> None:
        """A stroke of the brush, the eraser, or another tool of the layer. napari tells of some before it changes the values."""
        self._strokes.append(event.value)
        QTimer.singleShot(0, self._take_strokes)

    def _take_strokes(self) -> None:
        """Note what was painted since the last time."""
        strokes, self._strokes = self._strokes, []
        if self.corrections is not None and strokes:
            for stroke in strokes:
                self.corrections.painted(*before_strokes(self.corrections.labels, stroke))
            self._show_table()
            self._show_state()

    def _changed(self) -> None:
        self.layer.refresh()
        self._show_table()
        self._show_state()

    def _go(self, label: int | None) -> None:
        """Select an object and bring it into view."""
        if label is None:
            self.state.setText("All objects are reviewed. Save, or retrain.")
            return
        assert self.table is not None
        self.layer.selected_label = label
        self.viewer.layers.selection.active = self.layer
        self.table.go_to(label)
        self._zoom(label)
        self._show_state()

    def _zoom(self, label: int) -> None:
        """Zoom so that the object takes a part of the view that shows its surroundings, too."""
        found = self.corrections
        if found is None or label not in found.objects or self.viewer.dims.ndisplay == 3:
            return
        box, _ = found.mask(label)
        # a fragment is seen beside objects of the usual size
        size = max(max(part.stop - part.start, found.usual_width) * step for part, step in zip(box[-2:], found.spacing[-2:], strict=True))
        pixels = min(self.window().width(), self.window().height()) / 2  # about the canvas
        getattr(self.viewer, "scene", self.viewer).camera.zoom = pixels / (VIEW * size)  # napari 0.9 moved the camera

    # what is shown

    def _show_table(self) -> None:
        assert self.corrections is not None
        assert self.table is not None
        self.table.show_table(self.corrections.review(), self.layer)

    def _show_state(self) -> None:
        found = self.corrections
        if found is None or self.layer is None:
            return
        label, total = int(self.layer.selected_label), len(found.objects)
        doubt, reason = found.suspicion.get(label, (0.0, ""))
        status = found.reviews[label].status if label in found.reviews else "not reviewed"
        words = f"{reason}, suspicion {doubt:.2f}" if reason else f"suspicion {doubt:.2f}"
        left = len(found.left)
        self.state.setText(
            f"Object {label}: {status} ({words})\n{total - left} of {total} objects reviewed, {duration(found.seconds)} spent on them"
        )
        self._show_slice()

    def _show_slice(self, _: Any = None) -> None:
        found = self.corrections
        if found is None:
            return
        row = found.slices().iloc[self._slice()]
        name = f"Slice {int(row['slice'])}" if len(found.shape) == 3 else "Image"
        self.slice_line.setText(f"{name}: {int(row['reviewed'])} of {int(row['objects'])} objects reviewed")
        self.slice_done.setChecked(bool(row["done"]))

    def _slice(self) -> int:
        """The slice along z that is shown; 0 in 2D."""
        assert self.corrections is not None
        if len(self.corrections.shape) < 3 or self.layer is None:
            return 0
        place = self.layer.world_to_data(self.viewer.dims.point)[-3]
        return int(np.clip(round(place), 0, self.corrections.shape[0] - 1))

    def _mark_slice(self, done: bool) -> None:
        if self.corrections is not None:
            self.corrections.mark_slice(self._slice(), done=done)

    # results

    def save(self) -> None:
        """Write labels, table and mask."""
        self._take_strokes()
        if self.corrections is not None:
            found, file = self.corrections.copy(), Path(self.file.path)
            self._begin(lambda _: _saved(found, file), "saving ...")

    def retrain(self) -> None:
        """Continue the training of the model."""
        found = self.corrections
        if found is None:
            return
        if not self.model.place:
            show_error("No model is chosen. Choose the one that made the labels.")
            return
        output = Path(self.output.path) if self.output.path else free_folder("corrected")
        self.output.line.setText(str(output))
        place, epochs, kept, name = self.model.place, self.epochs.value(), found.copy(), self.layer.name.removesuffix(" corrected")
        self._begin(lambda stop: _retraining(place, name, kept, output, epochs, stop), "preparing ...")

    def _show_event(self, event: Event) -> None:
        if isinstance(event, Epoch):
            self.state.setText(f"Epoch {event.epoch} of {event.epochs}: loss {event.figures.get('loss', float('nan')):.4g}")

    def _finished(self, outcome: Outcome[Any]) -> None:
        value = outcome.value
        if isinstance(value, tuple):
            self._reviewed(*value)
        elif isinstance(value, list):
            self.progress.say(f"saved: {', '.join(file.name for file in value)}")
            show_info(f"Saved to {value[0]}")
        elif outcome.stopped:
            self.progress.say(f"stopped; the weights are kept in {self.output.path}")
        else:
            self._trained(str(value))

    def _trained(self, run: str) -> None:
        """The next corrections continue from the new weights; the window `Segment` uses them at once."""
        self.model.choose(run)
        self.output.line.clear()
        if self.layer in self.viewer.layers:
            self.layer.visible = False
        self.progress.say(f"The model is in {run}.")
        if self.image.layer is not None and self.image.layer in self.viewer.layers:
            _, widget = self.viewer.window.add_plugin_dock_widget("morula", "Segment", tabify=True)
            widget.model.choose(run)
            widget.image.setCurrentIndex(widget.image.findText(self.image.layer.name))
            widget.segment()


def _row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    for widget in widgets:
        row.addWidget(widget)
    return row


def _image(layer: Any) -> Image | None:
    return None if layer is None else image_of_layer(layer)


def _sorted(layer: Any, image: Any) -> Generator[Event, None, tuple[Corrections, Any, str]]:
    yield from ()
    table = layer.metadata.get("morula", {}).get("table")
    made = Corrections(image_of_layer(layer), image=_image(image), table=table)
    prepare_drawing(made.labels)
    return made, layer, layer.name


def _loaded(file: str, image: Any) -> Generator[Event, None, tuple[Corrections, None, str]]:
    yield from ()
    made = workflows.review_files.load_review(file, image=_image(image))
    prepare_drawing(made.labels)
    return made, None, Path(file).stem


def _saved(corrections: Corrections, file: Path) -> Generator[Event, None, list[Path]]:
    yield from ()
    return workflows.review_files.save_review(corrections, file)


def _retraining(
    place: str, name: str, corrections: Corrections, output: Path, epochs: int, stop: Callable[[], bool]
) -> Generator[Event, None, Path]:
    yield from workflows.retrain.retrain(place, {file_name(name): corrections}, output=output, epochs=epochs, stop=stop)
    return output
