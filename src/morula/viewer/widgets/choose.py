"""Small inputs that several windows share: a layer, a file or folder, a slider with its number."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QLabel, QLineEdit, QMenu, QPushButton, QSlider, QToolButton, QWidget

if TYPE_CHECKING:
    from morula.workflows.adjust import Setting

STEPS = 200
"""Positions of a slider."""


class LayerChoice(QComboBox):
    """The layers of one kind, the topmost first. It follows the layer list: added, removed, renamed, moved."""

    def __init__(self, viewer: Any, kind: str, *, optional: bool = False) -> None:
        super().__init__()
        self.viewer, self.kind, self.optional = viewer, kind, optional
        events = viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered):
            event.connect(self.refresh)
        for layer in viewer.layers:
            layer.events.name.connect(self.refresh)
        self.refresh()

    def refresh(self, event: Any = None) -> None:
        """Read the layer list again; the choice stays where its layer is still there."""
        if event is not None and event.type == "inserted":
            event.value.events.name.connect(self.refresh)
        before = self.layer
        self.blockSignals(True)
        self.clear()
        if self.optional:
            self.addItem("none", None)
        for layer in reversed(self.viewer.layers):
            if layer._type_string == self.kind:
                self.addItem(layer.name, layer)
        place = next((place for place in range(self.count()) if before is not None and self.itemData(place) is before), 0)
        self.setCurrentIndex(place)
        self.blockSignals(False)
        if self.layer is not before:
            self.currentIndexChanged.emit(self.currentIndex())

    @property
    def layer(self) -> Any:
        """The chosen layer, `None` where there is none."""
        return self.currentData()


class PathChoice(QWidget):
    """A line for a path, with a button that opens a dialog; where folders and files are possible, a menu with one for each."""

    changed = Signal()

    def __init__(self, title: str, *, folder: bool, file: bool = False, save: bool = False, placeholder: str = "") -> None:
        super().__init__()
        self.title, self.save = title, save
        self.line, button = QLineEdit(), QToolButton()
        button.setText("...")
        self.line.setPlaceholderText(placeholder)
        self.line.textChanged.connect(lambda _: self.changed.emit())
        button.setFixedWidth(32)
        button.setToolTip(f"Choose: {title}")
        if folder and file:
            menu = QMenu(self)
            menu.addAction("Folder ...", lambda: self._ask(folder=True))
            menu.addAction("File ...", lambda: self._ask(folder=False))
            button.setMenu(menu)
            button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        else:
            button.clicked.connect(lambda _: self._ask(folder=folder))
        self.setLayout(QHBoxLayout())
        self.layout().setContentsMargins(0, 0, 0, 0)
        self.layout().addWidget(self.line)
        self.layout().addWidget(button)

    @property
    def path(self) -> str:
        """What is entered, without spaces around it."""
        return str(self.line.text()).strip()

    def _ask(self, *, folder: bool) -> None:
        if folder:
            found = QFileDialog.getExistingDirectory(self, self.title)
        else:
            found = (QFileDialog.getSaveFileName if self.save else QFileDialog.getOpenFileName)(self, self.title)[0]
        if found:
            self.line.setText(found)


class SettingSlider(QWidget):
    """A number between bounds. Until it is moved, the value stays the one that the model uses."""

    moved = Signal()

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.setting, self.stated = setting, False
        self.slider, self.number = QSlider(Qt.Orientation.Horizontal), QLabel()
        self.slider.setRange(0, STEPS if not setting.whole else round(setting.high - setting.low))
        self.slider.setMinimumWidth(120)
        self.number.setMinimumWidth(48)
        self.setLayout(QHBoxLayout())
        self.layout().setContentsMargins(0, 0, 0, 0)
        self.layout().addWidget(self.slider)
        self.layout().addWidget(self.number)
        self.setToolTip(f"{setting.description}\n\n{setting.key}")
        self.slider.setValue(self._place(setting.low if setting.value is None else setting.value))
        self._show()
        self.slider.valueChanged.connect(self._moved)

    @property
    def value(self) -> float | None:
        """The number, `None` where the slider was not moved."""
        if not self.stated:
            return None
        share = self.slider.value() / max(self.slider.maximum(), 1)
        number = self.setting.low + share * (self.setting.high - self.setting.low)
        return round(number) if self.setting.whole else round(number, 4)

    def _place(self, value: float) -> int:
        return round((value - self.setting.low) / (self.setting.high - self.setting.low) * self.slider.maximum())

    def _moved(self, _: int) -> None:
        self.stated = True
        self._show()
        self.moved.emit()

    def _show(self) -> None:
        if self.value is not None:
            self.number.setText(f"{self.value:g}")
        else:
            self.number.setText("auto" if self.setting.value is None else f"{self.setting.value:.3g}")


def button(text: str, tip: str, clicked: Callable[[], None]) -> QPushButton:
    """A button with a help text."""
    made = QPushButton(text)
    made.setToolTip(tip)
    made.clicked.connect(lambda _: clicked())
    return made
