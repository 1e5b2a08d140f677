"""Text of unknown origin, made safe to print on a terminal and to write into tables."""

from __future__ import annotations

import re

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tab and line feed (terminal escapes begin with one), marks that reverse the direction of text, lone surrogates."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def unprintable(text: str) -> bool:
    r"""Whether a text contains characters that control a terminal, or that UTF-8 cannot encode.

    Examples:
        >>> unprintable("nuclei\n"), unprintable("\x1b[31mred")
        (False, True)
    """
    return _CONTROL.search(text) is not None


def printable(text: str) -> str:
    r"""A text with its control characters written as escapes; line feeds and tabs are kept.

    Examples:
        >>> printable("a\x1b[2Jb")
        'a\\x1b[2Jb'
    """
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


def as_cell(text: str) -> str:
    """A text as the cell of a table that spreadsheets open: a leading apostrophe keeps them from running it as a formula.

    See OWASP, https://owasp.org/www-community/attacks/CSV_Injection. Texts that are numbers stay as they are.

    Examples:
        >>> as_cell("=1+1"), as_cell("nucleus"), as_cell("-0.5")
        ("'=1+1", 'nucleus', '-0.5')
    """
    return f"'{text}" if text.startswith(_FORMULA) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
