"""Run a job file, native or of another program, and watch it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QFormLayout, QHBoxLayout, QPlainTextEdit, QVBoxLayout, QWidget

import morula
from morula.core.events import Epoch, Event, Preview, Progress
from morula.core.events import line as line_of
from morula.viewer.stream import Outcome
from morula.viewer.widgets.choose import PathChoice, button
from morula.viewer.widgets.live import Curves, LiveLayers
from morula.viewer.widgets.progress import ProgressRow
from morula.viewer.widgets.work import Work
from morula.workflows.run_settings import default_output


class RunWidget(QWidget):
    """The window `Run`: what `morula run` does, with log, curves, live layers and the report."""

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.work = Work("job", self)
        self.job = PathChoice("Job file", folder=False, placeholder="job.yaml, also of BiaPy")
        self.output = PathChoice("Run folder", folder=True)
        self.progress, self.log, self.curves = ProgressRow(self.work), QPlainTextEdit(), Curves()
        self.log.setReadOnly(True)
        self.log.setMaximumBlockCount(5000)
        self.start_button = button("Start", "Train, predict, score and report, as the job says", self.start)
        self.resume_button = button("Resume", "Continue the run in the run folder where it was stopped", self.resume)
        self.report_button = button("Report", "Open the report of the run in a browser", self.open_report)
        self.live = LiveLayers(napari_viewer, None, self)
        form, buttons = QFormLayout(), QHBoxLayout()
        form.addRow("Job file", self.job)
        form.addRow("Run folder", self.output)
        for each in (self.start_button, self.resume_button, self.report_button):
            buttons.addWidget(each)
        self.setLayout(QVBoxLayout())
        self.layout().addLayout(form)
        self.layout().addLayout(buttons)
        self.layout().addWidget(self.progress)
        self.layout().addWidget(self.curves)
        self.layout().addWidget(self.log, 1)
        self.job.changed.connect(lambda: self.output.line.setPlaceholderText(str(default_output(self.job.path or "job").absolute())))
        self.work.event.connect(self._show)
        self.work.done.connect(self._finished)
        self.work.ended.connect(lambda: self._enable(True))

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.output.path or self.output.line.placeholderText()).expanduser()

    def start(self) -> None:
        """Run the job."""
        if not self.job.path:
            show_error("No job file is chosen. `morula new` writes one for your images.")
            return
        self._begin(resume=False)

    def resume(self) -> None:
        """Continue the run."""
        if not (self.folder / "job.yaml").is_file():
            show_error(f"{self.folder} holds no run that could be resumed. Choose its folder.")
            return
        self._begin(resume=True)

    def _begin(self, *, resume: bool) -> None:
        job, output = self.job.path or str(self.folder / "job.yaml"), self.folder
        if not self.work.running:
            self._enable(False)
            self.curves.clear_all()
            self.log.clear()
            self.live = LiveLayers(self.viewer, None, self)
            self.progress.begin("preparing ...")
        self.work.start(lambda stop: _running(job, output, stop, resume=resume))

    def _enable(self, on: bool) -> None:
        self.start_button.setEnabled(on)
        self.resume_button.setEnabled(on)

    def _show(self, event: Event) -> None:
        if isinstance(event, Preview):
            self.live.show(event)
        elif isinstance(event, Epoch):
            self.curves.add(event)
        if not isinstance(event, Preview | Progress):
            self.log.appendPlainText(line_of(event))

    def _finished(self, outcome: Outcome[Any]) -> None:
        if outcome.stopped:
            self.progress.say(f"Stopped. Resume continues in {self.folder}.")
        else:
            self.progress.say(f"The run is in {self.folder}.")
            show_info(f"The run has ended: {self.folder}")

    def open_report(self) -> None:
        """Open the report of the run."""
        file = self.folder / "report.html"
        if file.is_file():
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(file)))
        else:
            show_error(f"{self.folder} has no report yet. It is written at the end of a run.")


def _running(job: str, output: Path, stop: Callable[[], bool], *, resume: bool) -> Generator[Event, None, None]:
    # a generator of its own, so that PyTorch is imported in the thread
    yield from morula.iter_run(job, output=output, resume=resume, stop=stop)
