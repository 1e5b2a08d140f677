"""Warnings about fields of a file's metadata that are ignored because they are invalid."""

from __future__ import annotations

import warnings


class MetadataWarning(UserWarning):
    """A field of a file's metadata is invalid and was ignored; the pixels are readable without it.

    Attributes:
        code: stable name of what is wrong, as for errors.
        field: the name of the field.
        value: its value.
    """

    def __init__(self, message: str, *, code: str = "metadata.ignored", field: str = "", value: object = None) -> None:
        super().__init__(message)
        self.code, self.field, self.value = code, field, value


def ignore_field(field: str, value: object, rule: str) -> None:
    """Warn that a field of a file's metadata is ignored, with its value and the rule that it breaks."""
    shown = repr(value)
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    message = f"the metadata field {field} = {shown} is ignored: it {rule}"
    warnings.warn(MetadataWarning(message, field=field, value=value), stacklevel=3)
