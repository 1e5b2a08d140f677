"""Plan a job by answering questions, the same ones as `morula new` asks; write it, run it here, or get the command for a cluster."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_info
from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtGui import QFontDatabase
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QLineEdit, QPlainTextEdit, QScrollArea, QSpinBox, QVBoxLayout, QWidget

from morula import workflows
from morula.core.errors import MorulaError
from morula.core.events import Event
from morula.viewer.stream import Failure, Outcome, stoppable
from morula.viewer.widgets.choose import PathChoice, button
from morula.viewer.widgets.progress import ProgressRow
from morula.viewer.widgets.work import Latest, Work, report
from morula.workflows.interview import Interview, Question
from morula.workflows.questions import QUESTIONS, WHERE, Asked, answers_of, checked, segment_command

if TYPE_CHECKING:
    from morula.workflows.new_plan import Plan

PAUSE = 300
"""Milliseconds without a change after which the answers are checked."""
SECONDS = 60
"""Seconds of each trial that are proposed, as by `morula new`."""


class Row(QWidget):
    """One question with its input, and below it what the answer leads to, or its error."""

    changed = Signal()

    def __init__(self, question: Question) -> None:
        super().__init__()
        self.question = question
        self.title, self.said = QLabel(f"<b>{question.text}</b>"), QLabel()
        self.input: QWidget = _input(question)
        for label in (self.title, self.said):
            label.setWordWrap(True)
        self.said.setContentsMargins(8, 0, 0, 4)
        self.setToolTip(question.help)
        self.setLayout(QVBoxLayout())
        self.layout().setContentsMargins(0, 0, 0, 0)
        self.layout().setSpacing(2)
        for widget in (self.title, self.input, self.said):
            self.layout().addWidget(widget)
        self._connect()

    def _connect(self) -> None:
        if isinstance(self.input, QComboBox):
            self.input.activated.connect(lambda _: self.changed.emit())  # by a person, not when the choices change
        elif isinstance(self.input, PathChoice):
            self.input.changed.connect(self.changed.emit)
        else:
            self.input.textChanged.connect(lambda _: self.changed.emit())

    @property
    def answer(self) -> str:
        """What is entered or chosen."""
        if isinstance(self.input, QComboBox):
            return str(self.input.currentData() or "")
        return self.input.path if isinstance(self.input, PathChoice) else str(self.input.text()).strip()

    def enter(self, answer: str) -> None:
        """Enter an answer as a person does."""
        if isinstance(self.input, QComboBox):
            self.input.setCurrentIndex(self.input.findData(answer))
            self.changed.emit()
        else:
            (self.input.line if isinstance(self.input, PathChoice) else self.input).setText(answer)

    def show_found(self, found: Asked) -> None:
        """Show the possible answers, and what the answer leads to. What is not answered yet gets its help, not an error."""
        if isinstance(self.input, QComboBox) and [choice.value for choice in found.choices] != self._values():
            self.input.clear()
            for choice in found.choices:
                self.input.addItem(choice.title, choice.value)
            known = self.input.findData(found.answer)
            self.input.setCurrentIndex(max(known, 0))
            if known < 0:  # what was chosen is not offered any more
                self.changed.emit()
        waiting = found.error is not None and found.error.code == "question.not_answered"
        self.said.setText(self.question.help if waiting else str(found.error or found.consequence))
        self.said.setStyleSheet("color: #ff8a65" if found.error is not None and not waiting else "color: #9e9e9e")

    def _values(self) -> list[str]:
        return [self.input.itemData(place) for place in range(self.input.count())]


def _input(question: Question) -> QWidget:
    if question.check is None:
        return QComboBox()
    if question.kind in ("images", "path"):
        return PathChoice(question.text, folder=True, file=True, placeholder="" if question.empty else "needed")
    return QLineEdit()


class WizardWidget(QWidget):
    """The window `Wizard`."""

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.work, self.checking = Work("plan", self), Latest("answers", self, quiet=True)
        self.rows = {question.key: Row(question) for question in QUESTIONS if question.key != "where"}
        self.job, self.seconds = PathChoice("Job file", folder=False, save=True), QSpinBox()
        self.progress, self.text = ProgressRow(self.work), QPlainTextEdit()
        self.plan_button = button("Plan", "Look at the images, try the best plans out, and measure memory and time", self.make_plan)
        self.write_button = button("Write", WHERE[0].consequence, self.write)
        self.run_button = button("Run here", WHERE[1].consequence, self.run)
        self.cluster_button = button("For a cluster", WHERE[2].consequence, self.show_cluster)
        self.plan: Plan | None = None
        self._asked = Interview()
        self._timer = QTimer(self)
        self._place_widgets()
        self._connect()
        self._show(checked(self.interview))  # without files nothing is read, so it takes no time

    def _place_widgets(self) -> None:
        questions, area = QWidget(), QScrollArea()
        questions.setLayout(QVBoxLayout())
        for row in self.rows.values():
            questions.layout().addWidget(row)
        questions.layout().addStretch(1)
        area.setWidgetResizable(True)
        area.setMinimumWidth(400)  # the titles of the choices are read without scrolling
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(questions)
        self.job.line.setText(str(_free_file()))
        self.seconds.setRange(0, 3600)
        self.seconds.setValue(SECONDS)
        self.seconds.setSuffix(" s per trial")
        self.seconds.setToolTip("Each of the best plans trains for so long, and the validation images decide. 0: no trial.")
        self.text.setReadOnly(True)
        self.text.setVisible(False)  # until there is a plan, the questions have its place
        self.text.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        self.setLayout(QVBoxLayout())
        self.layout().addWidget(area, 3)
        self.layout().addLayout(_line(QLabel("Job file"), self.job))
        self.layout().addLayout(_line(self.seconds, self.plan_button))
        self.layout().addWidget(self.progress)
        self.layout().addWidget(self.text, 2)
        self.layout().addLayout(_line(self.write_button, self.run_button, self.cluster_button))

    def _connect(self) -> None:
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._check)
        for row in self.rows.values():
            row.changed.connect(self._changed)
        self.job.changed.connect(self._forget_plan)
        self.checking.done.connect(self._show)
        self.work.done.connect(self._planned)
        self.work.failed.connect(lambda _: self.progress.say("Nothing was planned."))
        self.work.ended.connect(self._enable)

    @property
    def interview(self) -> Interview:
        """The answers to the questions that are shown."""
        return Interview({key: row.answer for key, row in self.rows.items() if not row.isHidden()})

    @property
    def file(self) -> Path:
        """The job file."""
        return Path(self.job.path or _free_file()).expanduser()

    def _changed(self) -> None:
        self._forget_plan()
        self._timer.start(PAUSE)

    def _forget_plan(self) -> None:
        """A plan is that of the answers it was made of."""
        self.plan = None
        self._tell("")
        self._enable()

    def _tell(self, text: str) -> None:
        """Show the job, or a command."""
        self.text.setPlainText(text)
        self.text.setVisible(bool(text))

    def _check(self) -> None:
        interview = self.interview
        self.checking.ask(lambda: checked(interview))

    def _show(self, found: Sequence[Asked]) -> None:
        """Show the questions that these answers lead to."""
        asked = {problem.question.key: problem for problem in found}
        for key, row in self.rows.items():
            if key in asked:
                row.show_found(asked[key])
            row.setVisible(key in asked)
        self._enable()

    def _enable(self) -> None:
        trained, ready = self.interview.trained, self.plan is not None and not self.work.running
        self.plan_button.setText("Plan" if trained else "Segment")
        self.plan_button.setEnabled(not self.work.running)
        for control in (self.write_button, self.run_button, self.cluster_button):
            control.setEnabled(ready)

    def make_plan(self) -> None:
        """Plan the job; where no job is needed, open the window `Segment`."""
        interview = self.interview
        if not interview.trained:
            self._open_segment(interview)
            return
        self._asked = interview
        file, seconds = self.file, float(self.seconds.value())
        self.progress.begin("checking the answers ...")
        self.work.start(lambda stop: stoppable(_planning(file, interview, seconds, stop), stop))
        self._enable()

    def _planned(self, outcome: Outcome[Any]) -> None:
        if outcome.value is None:
            self.progress.say("Stopped; nothing was planned.")
            return
        if self.interview != self._asked or outcome.value.path != self.file:
            self.progress.say("The answers have changed meanwhile. Plan again.")
            return
        self.plan = outcome.value
        self._tell(self.plan.text())
        self.progress.say("\n".join([*self.plan.plan_lines()[2:], *self.plan.notes]))
        self._enable()

    def write(self) -> None:
        """Write the job file."""
        self._written()

    def _written(self) -> bool:
        """Write the job file; whether it is there now. A file of other content is kept, with a notification."""
        if self.plan is None:
            return False
        try:
            if not (self.file.is_file() and self.file.read_text(encoding="utf-8") == self.plan.text()):
                self.plan.write()
        except (MorulaError, OSError) as error:
            report(Failure(error))
            return False
        show_info(f"The job is in {self.file}.")
        return True

    def run(self) -> None:
        """Write the job, and run it in the window `Run`."""
        if self._written():
            _, window = self.viewer.window.add_plugin_dock_widget("morula", "Run", tabify=True)
            window.job.line.setText(str(self.file))
            window.parent().raise_()
            window.start()

    def show_cluster(self) -> None:
        """Write the job, and show the command that runs it on a cluster."""
        if self._written() and self.plan is not None:
            self._tell(self.plan.cluster_command())

    def _open_segment(self, interview: Interview) -> None:
        """Choose model and images in the window `Segment`, and show the command that does the same."""
        _, window = self.viewer.window.add_plugin_dock_widget("morula", "Segment", tabify=True)
        if interview.answer("model"):
            window.model.choose(interview.answer("model"))
        window.pages.setCurrentIndex(1)
        window.files.line.setText(interview.answer("images"))
        self._tell(segment_command(interview))


def _planning(file: Path, interview: Interview, seconds: float, stop: Callable[[], bool]) -> Generator[Event, None, Plan]:
    # a generator of its own, so that files are opened and PyTorch is imported in the thread
    answers = answers_of(interview)
    return (yield from workflows.new.plan_steps(file, answers, trial=seconds, minutes=answers.minutes, stop=stop))


def _free_file() -> Path:
    """A job file that does not exist yet, in the current folder."""
    numbers = (Path(f"job-{number}.yaml" if number > 1 else "job.yaml") for number in range(1, 10_000))
    return next(file for file in numbers if not file.exists()).absolute()


def _line(*widgets: QWidget) -> QHBoxLayout:
    layout = QHBoxLayout()
    for widget in widgets:
        layout.addWidget(widget)
    return layout
