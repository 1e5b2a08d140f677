"""The table of BiaPy's keys: one row per key, former spellings included.

Defaults, types, accepted values, the places of errors, the reasons why a key has no effect, and the reference table of the documentation
are derived from it. A new key is one new row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from morula.dialects.biapy.table.augmentor import AUGMENTOR, OBEYED
from morula.dialects.biapy.table.data import DATA, SYSTEM
from morula.dialects.biapy.table.key import Conversion, Former, Key
from morula.dialects.biapy.table.model import LOSS, MODEL, PATHS
from morula.dialects.biapy.table.problem import PROBLEM, PROCESS, SEG
from morula.dialects.biapy.table.test import FILTER, OBJECTS, POST, REFINEMENT, TEST
from morula.dialects.biapy.table.training import LOG, TRAIN

__all__ = [
    "FILTER",
    "FORMER",
    "KEYS",
    "OBEYED",
    "OBJECTS",
    "POST",
    "PROCESS",
    "REFINEMENT",
    "SECTIONS",
    "SEG",
    "Former",
    "Key",
    "documentation",
]

KEYS: dict[str, Key] = {row.name: row for row in (*SYSTEM, *PROBLEM, *DATA, *AUGMENTOR, *MODEL, *LOSS, *TRAIN, *TEST, *PATHS, *LOG)}
"""Rows by the name of the key."""

SECTIONS: Mapping[str, str] = {
    "PROBLEM.INSTANCE_SEG.": "PROBLEM.TYPE=INSTANCE_SEG",
    "PROBLEM.SELF_SUPERVISED.": "PROBLEM.TYPE=SELF_SUPERVISED",
    "DATA.TEST.": "TEST.ENABLE",
    "PROBLEM.SEMANTIC_SEG.": "PROBLEM.TYPE=SEMANTIC_SEG",
    "PROBLEM.IMAGE_TO_IMAGE.": "PROBLEM.TYPE=IMAGE_TO_IMAGE",
    "PROBLEM.DENOISING.": "PROBLEM.TYPE=DENOISING",
    "PROBLEM.SUPER_RESOLUTION.": "PROBLEM.TYPE=SUPER_RESOLUTION",
    "DATA.NORMALIZATION.TARGET.": "PROBLEM.TYPE=IMAGE_TO_IMAGE",
    # flows are either those of Cellpose or those of Omnipose
    f"{SEG}.OMNIPOSE.": f"{SEG}.CELLPOSE.TYPE=omnipose",
    **{f"{SEG}.CELLPOSE.{name}": f"{SEG}.CELLPOSE.TYPE=cellpose" for name in ("FG_THRESH", "FLOW_THRESHOLD", "N_STEPS", "DIAM")},
    # of post-processing, all but the median filters is for objects
    **{
        f"{POST}.{name}": "PROBLEM.TYPE=INSTANCE_SEG"
        for name in (
            *("INSTANCE_REFINEMENT.", "MEASURE_PROPERTIES.", "REMOVE_BY_PROPERTIES", "CLEAR_BORDER", "FILL_HOLES", "APPLY_MASK"),
            *("REPARE_LARGE_BLOBS_SIZE", "VORONOI_"),
        )
    },
}
"""Conditions of all keys of a section."""


def _former() -> dict[str, list[tuple[str, Conversion]]]:
    spellings: dict[str, list[tuple[str, Conversion]]] = {}
    for row in KEYS.values():
        for former in row.former_spellings:
            # a list, because former versions had one key where the present one has several, such as AUGMENTOR.DA_PROB
            spellings.setdefault(former.name, []).append((row.name, former.convert))
    return spellings


FORMER: Mapping[str, list[tuple[str, Conversion]]] = _former()
"""Keys, each with its conversion, that a former spelling stands for. One spelling may stand for several keys."""


def documentation() -> Iterator[str]:
    """The table of keys as Markdown, one row per key: native key or reason, default, former spellings.

    Examples:
        >>> rows = list(documentation())
        >>> next(row for row in rows if row.startswith("| `TRAIN.EPOCHS`"))
        '| `TRAIN.EPOCHS` | `360` | `training.epochs` |  |'
    """
    section = ""
    for row in KEYS.values():
        top = row.name.split(".")[0]
        if top != section:
            section = top
            yield f"\n### `{section}`\n\n| key | default | here | former spellings |\n|---|---|---|---|"
        meaning = _meaning(row)
        former = ", ".join(f"`{spelling.name}`" for spelling in row.former_spellings)
        yield f"| `{row.name}` | `{row.default!r}` | {meaning} | {former} |"


def _meaning(row: Key) -> str:
    """What a key becomes, or why it does nothing."""
    if row.refuse is not None:
        return f"other values are refused: {row.refuse[0].removeprefix('cannot be obeyed: ')}. {row.refuse[1]}"
    if row.of_tree:
        return f"results tree; in a native run no effect: {row.no_effect}"
    meaning = f"`{row.target.rstrip('.')}`" if row.target else f"no effect: {row.no_effect}" if row.no_effect else "obeyed"
    meaning = f"{meaning} (3.0 to 3.6)" if row.former else meaning
    return f"{meaning}. {row.note}" if row.note else meaning
