"""The keys of a BiaPy job file from which each key of the native job comes."""

from __future__ import annotations

from morula.dialects.biapy.settings import Settings, without_index
from morula.dialects.biapy.table import KEYS, OBJECTS, SEG
from morula.jobs.yaml_lines import Place

_SECTIONS = {
    "images": "DATA.TRAIN.PATH",
    "sampling": "DATA.TRAIN.EXTRACT_RANDOM_PATCH",
    "prediction": "TEST.ENABLE",
    "objects.measure": f"{OBJECTS}.ENABLE",
    "objects": "PROBLEM.TYPE",
}
"""Where a native key without a row of its own comes from."""


def origins_of(settings: Settings, place: Place) -> list[str]:
    """The keys of the file that a native key comes from, as the file spells them; where none is stated, the key whose default it is.

    Examples:
        >>> origins_of(settings, ("training", "optimiser", "lr"))  # doctest: +SKIP
        ['TRAIN.LR']
    """
    key = without_index(".".join(map(str, place)))
    names = _rows_of(settings, key)
    if key.startswith("method.channels.") and len(place) == 3:  # without options, a channel comes from the list
        names = [f"{SEG}.DATA_CHANNELS", *names]
    stated = [name for name in names if name in settings]
    if stated:
        return list(dict.fromkeys(map(settings.spelling, stated)))
    return [f"{names[0]} by default"] if names else []


def _rows_of(settings: Settings, key: str) -> list[str]:
    """Keys whose target is this native key, or the nearest one above it."""
    rows = [row for row in KEYS.values() if row.target and _is_below(key, row.target) and not settings.unmet(row)]
    longest = max((len(row.target) for row in rows), default=0)
    found = [row.name for row in rows if len(row.target) == longest]
    return found or next(([name] for section, name in _SECTIONS.items() if _is_below(key, section)), [])


def _is_below(key: str, target: str) -> bool:
    return key == target or key.startswith(target if target.endswith(".") else f"{target}.")
