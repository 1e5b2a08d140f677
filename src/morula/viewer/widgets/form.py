"""A form made of fields of the job schema. It states only what the user changed; everything else stays planned."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QDoubleSpinBox, QFormLayout, QLabel, QLineEdit, QSpinBox, QWidget

from morula.viewer.form_fields import FormField, value_of

_LARGEST = 2**31 - 1


class Form(QWidget):
    """One row per field, with its help text as a tool tip."""

    changed = Signal()

    def __init__(self, fields: Iterable[FormField], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setLayout(QFormLayout())
        self.layout().setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        self.layout().setContentsMargins(4, 4, 4, 4)
        self.fields = {field.key: field for field in fields}
        self.inputs: dict[str, QWidget] = {}
        self._labels: dict[str, QLabel] = {}
        self._stated: set[str] = set()
        for field in self.fields.values():
            self._add(field)

    def _add(self, field: FormField) -> None:
        widget = _MAKERS[field.kind](field, lambda: self._edited(field.key))
        widget.setToolTip(f"{field.description}\n\n{field.key}")
        label = QLabel(field.title)
        label.setToolTip(widget.toolTip())
        self.inputs[field.key], self._labels[field.key] = widget, label
        self.layout().addRow(label, widget)
        self._show(field, field.default)

    def _edited(self, key: str) -> None:
        widget = self.inputs[key]
        if isinstance(widget, QLineEdit) and not widget.text().strip():
            self._stated.discard(key)  # an emptied field is planned again
        else:
            self._stated.add(key)
        font = self._labels[key].font()
        font.setBold(key in self._stated)
        self._labels[key].setFont(font)
        self.changed.emit()

    def overrides(self) -> list[str]:
        """What the user changed, as ``key=value``."""
        return [f"{key}={_entered(self.inputs[key])}" for key in self.fields if key in self._stated]

    def show_planned(self, job: Mapping[str, Any]) -> None:
        """Show the values of a planned job wherever the user has stated none."""
        for key, field in self.fields.items():
            if key not in self._stated:
                self._show(field, value_of(job, key))

    def _show(self, field: FormField, value: object) -> None:
        widget = self.inputs[field.key]
        widget.blockSignals(True)
        if isinstance(widget, QCheckBox):
            widget.setChecked(bool(value))
        elif isinstance(widget, QComboBox):
            widget.setCurrentText(str(value))
        elif isinstance(widget, QLineEdit):
            widget.setPlaceholderText("none" if value is None else json.dumps(value))
        elif isinstance(value, int | float):
            widget.setValue(value)
        widget.blockSignals(False)


def _entered(widget: QWidget) -> str:
    if isinstance(widget, QCheckBox):
        return str(widget.isChecked()).lower()
    if isinstance(widget, QComboBox):
        return str(widget.currentText())
    return str(widget.text())


class _Number(QDoubleSpinBox):
    """Shows numbers of any size without trailing zeros."""

    def textFromValue(self, value: float) -> str:
        return f"{value:g}"


def _whole(field: FormField, edited: Callable[[], None]) -> QWidget:
    widget = QSpinBox()
    widget.setRange(round(field.low or 0), _LARGEST if field.high is None else round(field.high))
    return _connected(widget, widget.valueChanged, edited)


def _number(field: FormField, edited: Callable[[], None]) -> QWidget:
    widget = _Number()
    widget.setDecimals(8)
    widget.setRange(-1e9 if field.low is None else field.low, 1e9 if field.high is None else field.high)
    widget.setStepType(QDoubleSpinBox.StepType.AdaptiveDecimalStepType)
    return _connected(widget, widget.valueChanged, edited)


def _switch(field: FormField, edited: Callable[[], None]) -> QWidget:
    del field
    widget = QCheckBox()
    widget.toggled.connect(lambda _: edited())
    return widget


def _choice(field: FormField, edited: Callable[[], None]) -> QWidget:
    widget = QComboBox()
    widget.addItems(field.choices)
    return _connected(widget, widget.currentTextChanged, edited)


def _text(field: FormField, edited: Callable[[], None]) -> QWidget:
    del field
    widget = QLineEdit()
    widget.editingFinished.connect(edited)
    return widget


def _connected(widget: QWidget, signal: Any, edited: Callable[[], None]) -> QWidget:
    signal.connect(lambda _: edited())
    widget.setFocusPolicy(Qt.FocusPolicy.StrongFocus)  # the wheel scrolls the form; it must not change a value on its way
    widget.wheelEvent = lambda event: event.ignore()
    return widget


_MAKERS: Mapping[str, Callable[[FormField, Callable[[], None]], QWidget]] = {
    "whole": _whole,
    "number": _number,
    "switch": _switch,
    "choice": _choice,
    "text": _text,
}
