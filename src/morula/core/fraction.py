"""Fractions as users write them."""

from __future__ import annotations

from morula.core.errors import OptionError


def fraction(value: float | str) -> float:
    """A fraction from 0 to below 1, from ``0.1`` or ``"10%"``.

    Raises:
        OptionError: for anything else.

    Examples:
        >>> fraction("25%"), fraction(0.1)
        (0.25, 0.1)
    """
    try:
        number = float(value[:-1]) / 100 if isinstance(value, str) and value.endswith("%") else float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1:
        raise OptionError("fraction.invalid", "must be a percentage such as '10%', or a number from 0 to below 1", value=value)
    return number
