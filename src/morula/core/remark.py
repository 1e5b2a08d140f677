"""A warning as text with its code."""

from __future__ import annotations


class Remark(str):
    """Text of a warning that knows its stable `code`, ``area.problem`` as errors have; everything that takes a text takes it.

    Examples:
        >>> remark = Remark("images.duplicates", "a.tif is b.tif.")
        >>> remark, remark.code, code_of("another text", "job.doubtful")
        ('a.tif is b.tif.', 'images.duplicates', 'job.doubtful')
    """

    __slots__ = ("code",)
    code: str

    def __new__(cls, code: str, text: str) -> Remark:
        """A text with its code."""
        remark = super().__new__(cls, text)
        remark.code = code
        return remark

    def __reduce__(self) -> tuple[type[Remark], tuple[str, str]]:
        return Remark, (self.code, str(self))


def code_of(text: str, default: str) -> str:
    """The code of a warning; `default` for a plain text."""
    return text.code if isinstance(text, Remark) else default
