"""Choice of a trained model: a bundled one, a run folder, or a checkpoint of another program."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QMenu, QToolButton, QWidget

from morula.jobs.bundled import bundled_names

AUTOMATIC = "chosen by the image"
"""The entry for the bundled model that fits the image."""


class ModelChoice(QWidget):
    """Models by name or path: those that were found, and a menu to choose others; with `automatic` also `AUTOMATIC`, the first entry."""

    changed = Signal()

    def __init__(self, *, automatic: bool = False) -> None:
        super().__init__()
        self.box, more = QComboBox(), QToolButton()
        self.box.setEditable(True)
        self.box.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.box.lineEdit().setPlaceholderText("run folder or checkpoint")
        self.box.setToolTip("A bundled model by its name, a run folder whose training has finished, or a checkpoint of BiaPy or CellSeg3D")
        self.box.currentTextChanged.connect(lambda _: self.changed.emit())
        self.offer(*([AUTOMATIC] if automatic else []), *bundled_names(), *(str(folder) for folder in finished_runs()))
        menu = QMenu(self)
        menu.addAction("Run folder ...", self._ask_folder)
        menu.addAction("Checkpoint ...", self._ask_file)
        more.setText("...")
        more.setMenu(menu)
        more.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.setLayout(QHBoxLayout())
        self.layout().setContentsMargins(0, 0, 0, 0)
        self.layout().addWidget(self.box, 1)
        self.layout().addWidget(more)

    @property
    def place(self) -> str:
        """The name or path of the model; empty where none is chosen."""
        return str(self.box.currentText()).strip()

    def offer(self, *places: str) -> None:
        """Add models to the list."""
        known = {self.box.itemText(place) for place in range(self.box.count())}
        self.box.addItems([place for place in places if place not in known])

    def choose(self, place: str) -> None:
        """Add a model and choose it."""
        self.offer(place)
        self.box.setCurrentText(place)

    def _ask_folder(self) -> None:
        if found := QFileDialog.getExistingDirectory(self, "Run folder"):
            self.choose(found)

    def _ask_file(self) -> None:
        if found := QFileDialog.getOpenFileName(self, "Checkpoint", "", "Checkpoints (*.pth *.pt *.pytorch *.safetensors);;All files (*)")[
            0
        ]:
            self.choose(found)


def finished_runs() -> list[Path]:
    """Run folders in ``runs`` of the current folder that hold a model, the newest first."""
    files = sorted(Path("runs").glob("*/model/model.json"), key=lambda file: file.stat().st_mtime, reverse=True)
    return [file.parent.parent for file in files]
