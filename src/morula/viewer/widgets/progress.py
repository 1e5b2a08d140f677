"""The state of a piece of work: a bar, a line of text, and a button that stops it."""

from __future__ import annotations

from napari.utils.notifications import show_warning
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from morula.core.events import Event, Progress, Started, Warned
from morula.core.events import line as line_of
from morula.viewer.stream import Clock, duration
from morula.viewer.widgets.work import Work


class ProgressRow(QWidget):
    """Shows the events of a `Work`. Warnings become notifications."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        self.work = work
        self.bar, self.stop, self.line = QProgressBar(), QPushButton("Stop"), QLabel()
        self.line.setWordWrap(True)
        self.stop.setEnabled(False)
        self.stop.setToolTip("Stop after the current step. The weights so far are kept.")
        self.stop.clicked.connect(lambda _: self._stop())
        self.bar.setRange(0, 1)
        row = QHBoxLayout()
        row.addWidget(self.bar, 1)
        row.addWidget(self.stop)
        self.setLayout(QVBoxLayout())
        self.layout().setContentsMargins(0, 0, 0, 0)
        self.layout().addLayout(row)
        self.layout().addWidget(self.line)
        self._clock = Clock()
        work.event.connect(self._show)
        work.ended.connect(self._ended)

    def begin(self, text: str) -> None:
        """Show that the work has started."""
        self._clock = Clock()
        self.bar.setRange(0, 0)  # unknown length until the first event of progress
        self.stop.setEnabled(True)
        self.line.setText(text)

    def say(self, text: str) -> None:
        """Show a line of text."""
        self.line.setText(text)

    def _stop(self) -> None:
        self.work.stop()
        self.stop.setEnabled(False)
        self.line.setText("stopping ...")

    def _show(self, event: Event) -> None:
        if isinstance(event, Warned):
            show_warning(event.message)
        elif isinstance(event, Progress):
            left = self._clock.left(event)
            self.bar.setRange(0, event.total or 0)
            self.bar.setValue(event.done)
            if self.stop.isEnabled():
                self.line.setText(line_of(event) + ("" if left is None else f"   {duration(left)} left"))
        elif isinstance(event, Started) and event.message:
            self.line.setText(event.message)

    def _ended(self) -> None:
        self.bar.setRange(0, 1)
        self.bar.setValue(1)
        self.stop.setEnabled(False)
