"""What a row yields, and the figures in it."""

from __future__ import annotations

from typing import Any

Result = dict[str, Any]
"""Title, note, whether the row is complete, and its figures or its table."""
Figure = dict[str, Any]


def figure(what: str, unit: str, runs: list[float], bar: float | None = None, *, value: float | None = None) -> Figure:
    """One line of a table. Its value is the minimum of the runs unless one is given; `bar` is the target."""
    return {"what": what, "unit": unit, "value": min(runs) if value is None else value, "runs": runs, "bar": bar}
