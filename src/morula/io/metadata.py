"""Warnings about fields of a file's metadata that are ignored because they are invalid.

Readers tell a warning with `ignore_field`; `open_image` adds the name of the file. Workflows collect the warnings of the images that they
open and pass them on as events, so that they are in the log and in the report. Elsewhere they are warnings of Python.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class MetadataWarning(UserWarning):
    """A field of a file's metadata is invalid and was ignored; the pixels are readable without it.

    Attributes:
        rule: what is wrong, as a sentence without the file.
        code: stable name of what is wrong, as for errors.
        file: the file.
        field: the name of the field.
        value: its value.
    """

    def __init__(
        self, rule: str, *, code: str = "metadata.ignored", file: str | None = None, field: str = "", value: object = None
    ) -> None:
        super().__init__(rule if file is None else f"{file}: {rule}")
        self.rule, self.code, self.file, self.field, self.value = rule, code, file, field, value


_collected: ContextVar[list[MetadataWarning] | None] = ContextVar("collected", default=None)


@contextmanager
def collected() -> Iterator[list[MetadataWarning]]:
    """The warnings that are told inside this context, each once; Python's `warnings` do not get them.

    Examples:
        >>> with collected() as found, naming("a.tif"):
        ...     ignore_field("unit", "stone", "is not a unit of length")
        >>> print(found[0])
        a.tif: the metadata field unit = 'stone' is ignored: it is not a unit of length
    """
    found: list[MetadataWarning] = []
    token = _collected.set(found)
    try:
        yield found
    finally:
        _collected.reset(token)
        texts: dict[str, MetadataWarning] = {}
        for warning in found:
            texts.setdefault(str(warning), warning)
        found[:] = texts.values()


@contextmanager
def naming(file: str) -> Iterator[None]:
    """Warnings that are told inside this context gain the name of the file."""
    with collected() as found:
        yield
    for warning in found:
        if warning.file is None:
            warning = MetadataWarning(warning.rule, code=warning.code, file=file, field=warning.field, value=warning.value)
        tell(warning, stacklevel=5)


def tell(warning: MetadataWarning, stacklevel: int = 2) -> None:
    """Hand a warning to whoever collects them, else to Python's `warnings`."""
    found = _collected.get()
    if found is None:
        warnings.warn(warning, stacklevel=stacklevel + 1)
    else:
        found.append(warning)


def ignore_field(field: str, value: object, rule: str) -> None:
    """Warn that a field of a file's metadata is ignored, with its value and the rule that it breaks."""
    shown = repr(value)
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    tell(MetadataWarning(f"the metadata field {field} = {shown} is ignored: it {rule}", field=field, value=value), stacklevel=3)
