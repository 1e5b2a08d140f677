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
from morula import dialects
from morula.core.errors import MorulaError
from morula.core.events import Artefact, Epoch, Event, FileWritten, Preview, Progress
from morula.core.events import line as line_of
from morula.dialects.pytorch3dunet.places import run_folder_of
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
        self.job = PathChoice("Job file", folder=False, placeholder="job.yaml, also of BiaPy or pytorch-3dunet")
        self.output = PathChoice("Run folder", folder=True)
        self.progress, self.log, self.curves = ProgressRow(self.work), QPlainTextEdit(), Curves()
        self.log.setReadOnly(True)
        self.log.setMaximumBlockCount(5000)
        self.start_button = button("Start", "Train, predict, score and report, as the job says", self.start)
        self.resume_button = button("Resume", "Continue the run in the run folder where it was stopped", self.resume)
        self.report_button = button("Report", "Open the report of the run in a browser", self.open_report)
        self.live = LiveLayers(napari_viewer, None, self)
        self._written: Path | None = None
        form, buttons = QFormLayout(), QHBoxLayout()
        form.addRow("Job file", self.job)
        form.addRow("Run folder", self.output)
        for control in (self.start_button, self.resume_button, self.report_button):
            buttons.addWidget(control)
        self.setLayout(QVBoxLayout())
        self.layout().addLayout(form)
        self.layout().addLayout(buttons)
        self.layout().addWidget(self.progress)
        self.layout().addWidget(self.curves)
        self.layout().addWidget(self.log, 1)
        self.job.changed.connect(self._job_chosen)
        self.work.event.connect(self._show)
        self.work.done.connect(self._finished)
        self.work.ended.connect(lambda: self._enable(True))

    @property
    def folder(self) -> Path:
        """The run folder that is entered or planned; of a job of pytorch-3dunet that of its file."""
        return Path(self.output.path or self.output.line.placeholderText()).expanduser()

    def _job_chosen(self) -> None:
        """Show the run folder of the job. Jobs of pytorch-3dunet state theirs."""
        try:
            folder = run_folder_of(self.job.path) if self._of_pytorch3dunet() else None
        except MorulaError:  # its problems are shown when it is started
            folder = None
        self.output.setEnabled(not self._of_pytorch3dunet())
        self.output.line.setPlaceholderText(str((folder or default_output(self.job.path or "job")).absolute()))

    def _of_pytorch3dunet(self) -> bool:
        path = Path(self.job.path).expanduser()
        try:
            return path.is_file() and dialects.program_of(path) == "pytorch-3dunet"
        except MorulaError:
            return False

    def start(self) -> None:
        """Run the job."""
        if not self.job.path:
            show_error("No job file is chosen. The window Wizard writes one for your images.")
            return
        self._begin(resume=False)

    def resume(self) -> None:
        """Continue the run."""
        if not (self.folder / "job.yaml").is_file():
            show_error(f"{self.folder} holds no run that could be resumed. Choose its folder.")
            return
        self._begin(resume=True)

    def _begin(self, *, resume: bool) -> None:
        job, output = self.job.path or str(self.folder / "job.yaml"), None if self._of_pytorch3dunet() else self.folder
        if not self.work.running:
            self._enable(False)
            self.curves.clear_all()
            self.log.clear()
            self._written = None
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
        elif isinstance(event, FileWritten) and event.kind is Artefact.REPORT:
            self._written = event.path
        if not isinstance(event, Preview | Progress):
            self.log.appendPlainText(line_of(event))

    def _finished(self, outcome: Outcome[Any]) -> None:
        if outcome.stopped:
            self.progress.say(f"Stopped. Resume continues in {self.folder}.")
        else:
            place = self.folder if self._written is None else self._written.parent
            self.progress.say(f"The run is in {place}.")
            show_info(f"The run has ended: {place}")

    def open_report(self) -> None:
        """Open the report of the run."""
        file = self._written or self.folder / "report.html"
        if file.is_file():
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(file)))
        else:
            show_error(f"{self.folder} has no report yet. It is written at the end of a run.")


def _running(job: str, output: Path | None, stop: Callable[[], bool], *, resume: bool) -> Generator[Event, None, None]:
    # a generator of its own, so that PyTorch is imported in the thread
    events = morula.iter_run(job, output=output, resume=resume, stop=stop)
    for event in events:
        yield event
        if stop() and "train" not in event.task:  # a training ends by itself, with its state saved; nothing else has one
            events.close()
            return
