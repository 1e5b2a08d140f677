"""Train a network on open layers or folders, and watch it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QHBoxLayout, QLabel, QScrollArea, QTabWidget, QVBoxLayout, QWidget

import morula
from morula import workflows
from morula.core.events import Epoch, Event, Preview
from morula.inference.memory import used_memory
from morula.jobs.starting_points import STARTING_POINTS, StartingPoint, starting_point
from morula.viewer.form_fields import data_fields, method_fields, network_fields, training_fields
from morula.viewer.layers import file_name, image_of_layer
from morula.viewer.stream import Failure, Outcome
from morula.viewer.widgets.choose import LayerChoice, PathChoice, button
from morula.viewer.widgets.form import Form
from morula.viewer.widgets.live import Curves, LiveLayers
from morula.viewer.widgets.progress import ProgressRow
from morula.viewer.widgets.work import Latest, Work
from morula.workflows.run_settings import free_folder

PAUSE = 400
"""Milliseconds without a change after which the job is planned again."""


class TrainWidget(QWidget):
    """The window `Train`."""

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.work, self.planning = Work("training", self), Latest("plan", self, quiet=True)
        self.method, self.words = QComboBox(), QLabel()
        self.image, self.labels = LayerChoice(napari_viewer, "image"), LayerChoice(napari_viewer, "labels", optional=True)
        self.raw, self.truth = (PathChoice(title, folder=True) for title in ("Folder of images", "Folder of labels"))
        self.output = PathChoice("Run folder", folder=True)
        self.pretrained = QCheckBox("Use pre-trained weights")
        self.weights = PathChoice("Weights", folder=True, placeholder="run folder, or a checkpoint of CellSeg3D or BiaPy")
        self.follow = QCheckBox("Segment the layer when the training has ended")
        self.plan_line, self.state = QLabel(), QLabel()
        self.progress = ProgressRow(self.work)
        self.start_button = button("Start", "Train into the run folder", self.start)
        self.resume_button = button("Resume", "Continue the training in the run folder where it was stopped", self.resume)
        self.forms: dict[str, Form] = {}
        self.curves: Curves | None = None
        self.live: LiveLayers | None = None
        self._timer = QTimer(self)
        self._place_widgets()
        self._connect()
        self.method.addItems([point.name for point in STARTING_POINTS])

    @property
    def point(self) -> StartingPoint:
        """The method that is chosen."""
        return starting_point(self.method.currentText())

    def _place_widgets(self) -> None:
        for label in (self.words, self.plan_line, self.state):
            label.setWordWrap(True)
        self.follow.setChecked(True)
        self.weights.setVisible(False)
        self.sources = QTabWidget()
        self.sources.addTab(_rows(("Image", self.image), ("Labels", self.labels)), "Layers")
        self.sources.addTab(_rows(("Images", self.raw), ("Labels", self.truth)), "Folders")
        self.tabs = QTabWidget()
        self.pages = {title: QWidget() for title in ("Model", "Data", "Training", "Advanced")}
        for title, page in self.pages.items():
            page.setLayout(QVBoxLayout())
            area = QScrollArea()
            area.setWidgetResizable(True)
            area.setWidget(page)
            self.tabs.addTab(area, title)
        for widget in (self.pretrained, self.weights):
            self.pages["Model"].layout().addWidget(widget)
        for widget in (self.sources, _rows(("Run folder", self.output))):
            self.pages["Data"].layout().addWidget(widget)
        buttons = QHBoxLayout()
        buttons.addWidget(self.start_button)
        buttons.addWidget(self.resume_button)
        self.setLayout(QVBoxLayout())
        self.layout().addLayout(_form(("Method", self.method)))
        self.layout().addWidget(self.words)
        self.layout().addWidget(self.tabs, 1)
        self.layout().addWidget(self.plan_line)
        self.layout().addWidget(self.follow)
        self.layout().addLayout(buttons)
        self.layout().addWidget(self.progress)
        self.layout().addWidget(self.state)

    def _connect(self) -> None:
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._plan)
        self.method.currentTextChanged.connect(lambda _: self._method_chosen())
        self.pretrained.toggled.connect(self.weights.setVisible)
        for signal in (
            self.image.currentIndexChanged,
            self.labels.currentIndexChanged,
            self.sources.currentChanged,
            self.pretrained.toggled,
        ):
            signal.connect(lambda _: self._changed())
        for path in (self.raw, self.truth, self.weights):
            path.changed.connect(self._changed)
        self.planning.done.connect(self._planned)
        self.planning.failed.connect(self._plan_failed)
        self.work.event.connect(self._show)
        self.work.done.connect(self._finished)
        self.work.ended.connect(lambda: self._enable(True))

    def _method_chosen(self) -> None:
        """Make the tabs of a method."""
        point = self.point
        advanced, others = method_fields(point)
        self.words.setText(point.description)
        self.labels.setEnabled(point.labelled)
        self.truth.setEnabled(point.labelled)
        self.follow.setVisible(point.segments)
        fields = {"Model": [*others, *network_fields(point)], "Data": data_fields(), "Training": training_fields(), "Advanced": advanced}
        for title, listed in fields.items():
            if title in self.forms:
                self.forms[title].setParent(None)
            self.forms[title] = Form(listed)
            self.forms[title].changed.connect(self._changed)
            self.pages[title].layout().addWidget(self.forms[title], 1)
        self._changed()

    def _changed(self) -> None:
        self._timer.start(PAUSE)
        if not self.work.running:
            self.output.line.setPlaceholderText(str(self._free_folder()))

    def job(self) -> dict[str, Any]:
        """The job that the window states, as a mapping; what the user changed in the forms is in `overrides`."""
        # a share of one image must be a block with a gap around it, which small images have no room for
        images: dict[str, Any] = {} if self.sources.currentIndex() == 1 else {"validate": None}
        if self.sources.currentIndex() == 1:
            images["train"] = {"raw": self.raw.path} | ({"labels": self.truth.path} if self.point.labelled and self.truth.path else {})
        document: dict[str, Any] = {"images": images, "method": dict(self.point.method)}
        network: dict[str, Any] = {"from": self.weights.path} if self.pretrained.isChecked() and self.weights.path else {}
        if network or any(text.startswith("network.") for text in self.overrides()):
            document["network"] = {"kind": self.point.network, **network}
        return document

    def overrides(self) -> list[str]:
        """What the user changed in the forms, as ``key=value``."""
        return [text for form in self.forms.values() for text in form.overrides()]

    def layers(self) -> dict[str, Any] | None:
        """The chosen layers by name; `None` where folders are chosen, empty where there is no layer."""
        if self.sources.currentIndex() == 1:
            return None
        image, labels = self.image.layer, self.labels.layer if self.point.labelled else None
        if image is None:
            return {}
        raw = image_of_layer(image)
        return {file_name(image.name): raw if labels is None else (raw, image_of_layer(labels))}

    def _plan(self) -> None:
        """Plan what the job leaves open, in a thread, and show it in the forms."""
        if self.work.running or (self.sources.currentIndex() == 0 and self.image.layer is None):
            return
        if self.sources.currentIndex() == 1 and not self.raw.path:
            return
        job, overrides, layers = self.job(), self.overrides(), self.layers()
        self.planning.ask(lambda: planned(job, overrides, layers))

    def _planned(self, job: Mapping[str, Any]) -> None:
        for form in self.forms.values():
            form.show_planned(job)
        patch = " x ".join(map(str, job["sampling"]["patch"]))
        training = job["training"]
        self.plan_line.setText(
            f"Planned: patches of {patch} voxels, {job['sampling']['batch']} per step, {training['epochs']} epochs of "
            f"{job['sampling']['patches_per_epoch']} patches, learning rate {training['optimiser'].get('lr', '')}"
        )

    def _plan_failed(self, failure: Failure) -> None:
        self.plan_line.setText(failure.message)

    def start(self) -> None:
        """Train."""
        layers = self.layers()
        if layers is not None and not layers:
            show_error("There is no image layer. Open an image, or take a sample: File > Open Sample > Morula.")
            return
        if self.point.labelled and layers is not None and self.labels.layer is None:
            show_error(f"{self.point.name} learns from labels, but no labels layer is chosen on the tab Data. WNet3D needs none.")
            return
        if self._timer.isActive():  # the values were changed just now: the line tells what is started
            self._timer.stop()
            self._plan()
        job, overrides, output = self.job(), self.overrides(), self._folder()
        self._begin(lambda stop: _training(job, output, stop, layers=layers, overrides=overrides), output)

    def resume(self) -> None:
        """Continue the training of the run folder."""
        output = self._folder()
        if not (output / "job.yaml").is_file():
            show_error(f"{output} holds no training that could be resumed. Choose its run folder on the tab Data.")
            return
        self._begin(lambda stop: _training(str(output / "job.yaml"), output, stop, resume=True), output)

    def _folder(self) -> Path:
        return Path(self.output.path or self.output.line.placeholderText()).expanduser()

    def _free_folder(self) -> Path:
        """A run folder that does not exist yet."""
        layer = self.image.layer
        name = file_name(f"{self.point.name} {'' if layer is None or self.sources.currentIndex() else layer.name}".strip().lower())
        return free_folder(name)

    def _begin(self, make: Callable[[Callable[[], bool]], Generator[Event, None, Any]], output: Path) -> None:
        if self.work.running:
            self.work.start(make)  # refused with a notification
            return
        self.output.line.setText(str(output))
        self._enable(False)
        self.progress.begin("preparing ...")
        self.state.setText("")
        self.live = LiveLayers(self.viewer, self.image.layer if self.sources.currentIndex() == 0 else None, self)
        self._show_curves()
        self.work.start(make)

    def _enable(self, on: bool) -> None:
        for widget in (self.start_button, self.resume_button, self.method, self.tabs):
            widget.setEnabled(on)

    def _show_curves(self) -> None:
        if self.curves is None or self.curves.parent() is None:
            self.curves = Curves()
            self.viewer.window.add_dock_widget(self.curves, name="Losses", area="bottom", tabify=True)
        self.curves.parent().raise_()
        self.curves.clear_all()

    def _show(self, event: Event) -> None:
        if isinstance(event, Preview) and self.live is not None:
            self.live.show(event)
        elif isinstance(event, Epoch) and self.curves is not None:
            self.curves.add(event)
            figures = "  ".join(f"{name} {value:.4g}" for name, value in event.figures.items() if name in ("loss", "validation_loss", "lr"))
            best = ", the best so far" if event.best else ""
            self.state.setText(f"Epoch {event.epoch} of {event.epochs}{best}: {figures}\n{used_memory() / 1e9:.1f} GB in use")

    def _finished(self, outcome: Outcome[Any]) -> None:
        output = self._folder()
        if outcome.stopped and not (output / "model" / "model.json").is_file():
            self.progress.say(f"Stopped; the weights are kept in {output}. Resume continues there.")
            return
        self.progress.say(f"The model is in {output}.")
        show_info(f"The training has ended: {output}")
        if self.follow.isChecked() and self.point.segments and self.sources.currentIndex() == 0 and self.image.layer is not None:
            self._segment(output)

    def _segment(self, output: Path) -> None:
        """Segment the layer with the new model, in the window `Segment`."""
        _, widget = self.viewer.window.add_plugin_dock_widget("morula", "Segment", tabify=True)
        widget.model.choose(str(output))
        widget.image.setCurrentIndex(widget.image.findText(self.image.layer.name))
        widget.segment()


def planned(job: dict[str, Any], overrides: list[str], layers: dict[str, Any] | None) -> dict[str, Any]:
    """The planned job as a mapping."""
    found = workflows.check.check(job, overrides=overrides, prove=False).prepared.job if layers is None else None
    if found is None:
        found = workflows.in_memory_images.plan_for_layers(job, layers or {}, overrides=overrides)
    return found.model_dump(mode="json", by_alias=True)


def _training(
    job: Mapping[str, Any] | str,
    output: Path,
    stop: Callable[[], bool],
    *,
    layers: dict[str, Any] | None = None,
    overrides: list[str] | None = None,
    resume: bool = False,
) -> Generator[Event, None, None]:
    # a generator of its own, so that PyTorch is imported in the thread
    if resume:
        yield from (event for event in workflows.log.read_events(output) if isinstance(event, Epoch))  # for the curves
    yield from morula.train(job, layers=layers, output=output, overrides=overrides or [], resume=resume, stop=stop)


def _form(*rows: tuple[str, QWidget]) -> QFormLayout:
    layout = QFormLayout()
    layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
    for title, widget in rows:
        layout.addRow(title, widget)
    return layout


def _rows(*rows: tuple[str, QWidget]) -> QWidget:
    page = QWidget()
    page.setLayout(_form(*rows))
    return page
