"""Removal of objects by conditions on their measured properties.

An object is removed when it satisfies all conditions of at least one group: ``[["area > 500"], ["npixels < 100", "circularity <= 0.7"]]``
removes objects that are larger than 500, and objects that are both small and not round.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from morula.core.errors import OptionError
from morula.core.family import did_you_mean
from morula.core.image_like import ImageLike, spatial_array
from morula.core.label_image import check_labels, compact_ids
from morula.core.voxel_size import VoxelSize
from morula.kernels.object_tables import select_objects
from morula.measurement.conditions import parse_conditions
from morula.measurement.measure import measured_columns
from morula.measurement.table import Columns, column, find_column, without_unit

if TYPE_CHECKING:
    import pandas as pd


def satisfied_conditions(table: Columns, remove: object) -> np.ndarray:
    """Whether each object (row) satisfies each list of conditions. An unknown value (NaN) satisfies none.

    Args:
        table: table of objects.
        remove: lists of conditions in any of their spellings, see `filter_objects`.

    Returns:
        bool, shape (rows, lists).

    Raises:
        OptionError: for a property that is not in the table.

    Examples:
        >>> table = {"label": np.array([1, 2]), "voxels": np.array([50, 900])}
        >>> satisfied_conditions(table, [["npixels < 100"], ["npixels > 10", "npixels < 1000"]])
        array([[ True,  True],
               [False,  True]])
    """
    groups = parse_conditions(remove)
    names = [str(name) for name in table]
    rows = len(table[names[0]]) if names else 0
    satisfied = np.ones((rows, len(groups)), np.bool_)
    for index, group in enumerate(groups):
        for condition in group:
            if find_column(names, condition.property) is None:
                raise OptionError(
                    "condition.unknown_property",
                    f"names a property that is not measured; there are {', '.join(names)}",
                    key="condition",
                    value=str(condition),
                    remedy=f"{did_you_mean(condition.property, names)} Measure further properties with `extra`.",
                )
            satisfied[:, index] &= getattr(operator, condition.sign)(column(table, condition.property), condition.value)
    return satisfied


def check_conditions(
    remove: object, ndim: int, *, channels: int = 0, extra: Sequence[str] = (), unit: str = "", also: Sequence[str] = ()
) -> None:
    """Reject conditions on properties that images of `ndim` dimensions and `channels` channels will not have.

    Args:
        remove: conditions in any of their spellings.
        ndim: 2 or 3.
        channels: number of channels in which intensities are measured; 0 where none are.
        extra: further properties that are measured.
        unit: unit of the images' voxel size; if empty, a property may be named with any unit.
        also: further columns that the table will have.

    Raises:
        OptionError: for an unknown property; the message lists the known ones.

    Examples:
        >>> check_conditions("sphericity < 0.5", 3)
        >>> check_conditions("volume_um3 < 0.5", 3, unit="um")
        >>> check_conditions("circularty < 0.5", 2)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        morula.core.errors.OptionError: condition = 'circularty < 0.5': names a property ... Did you mean 'circularity'? ...
    """
    # a tiny label image shows which columns the real ones will have
    probe = np.ones((4,) * ndim, np.uint8)
    intensity = np.ones((channels, *probe.shape), np.float32) if channels else None
    voxel_size = VoxelSize(1, 1, 1, unit) if unit else None
    columns = measured_columns(probe, voxel_size=voxel_size, intensity=intensity, extra=extra, confidence=[1.0])
    columns |= {name: np.ones(1) for name in also}
    if not unit:
        columns = {without_unit(name): values for name, values in columns.items()}
    for group in parse_conditions(remove):
        for condition in group:
            name = condition.property if unit else without_unit(condition.property)
            satisfied_conditions(columns, [[condition.model_copy(update={"property": name})]])


def with_verdicts(table: pd.DataFrame, remove: object) -> pd.DataFrame:
    """The table with two more columns: `comment` (``Removed`` or ``Correct``) and `conditions` (which lists each object satisfies).

    An object satisfies a list when it satisfies all conditions of the list; it is removed when it satisfies at least one list.

    Raises:
        OptionError: as `filter_objects`.

    Examples:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"label": [1, 2], "voxels": [50, 900]})
        >>> table = with_verdicts(table, [["npixels < 100"], ["npixels > 10", "npixels < 60"]])
        >>> table["comment"].tolist(), table["conditions"].tolist()[1]
        (['Removed', 'Correct'], "['No satisfied', 'No satisfied']")
    """
    satisfied = satisfied_conditions(table, remove)
    comment = np.where(satisfied.any(axis=1), "Removed", "Correct")
    words = [str(["Satisfied" if holds else "No satisfied" for holds in row]) for row in satisfied.tolist()]
    return table.assign(comment=comment, conditions=np.array(words, dtype=str))


def filter_objects(labels: ImageLike, table: pd.DataFrame, remove: object) -> tuple[np.ndarray, pd.DataFrame]:
    """Remove the objects that satisfy one of several lists of conditions.

    Args:
        labels: ids (Z)YX, an array or `Image`.
        table: what `morula.measure` returned for them.
        remove: lists of conditions, for example ``[["area > 500"], ["npixels < 100", "circularity <= 0.7"]]``: removes objects that are
            larger than 500, and objects that are both small and not round. A condition is a text, or a mapping
            ``{"property": ..., "sign": ..., "value": ...}``. ``{"props": [[...]], "values": [[...]], "signs": [[...]]}`` is the same in
            three lists of lists.

    Returns:
        The remaining labels, ids and type unchanged, and the table of all objects with the columns `comment` (``Removed`` or ``Correct``)
        and `conditions` (which lists each object satisfies).

    Raises:
        OptionError: for a text that is not a condition, or a property that was not measured.

    Examples:
        >>> from morula.measurement.measure import measure
        >>> labels = np.array([[1, 1, 1, 0, 7]], np.uint16)
        >>> filter_objects(labels, measure(labels), ["npixels < 2"])[0]
        array([[1, 1, 1, 0, 0]], dtype=uint16)
    """
    verdicts = with_verdicts(table, remove)
    return remove_ids(spatial_array(labels)[0], removed_ids(verdicts)), verdicts


def removed_ids(table: pd.DataFrame) -> np.ndarray:
    """Ids of the objects that a table of `with_verdicts` says are removed."""
    # ids are the link between table and image: the table may be sorted or cut by the caller
    return table["label"][table["comment"] == "Removed"].to_numpy()


def remove_ids(labels: np.ndarray, removed: Sequence[int] | np.ndarray) -> np.ndarray:
    """A copy of a label image in which some ids are background.

    Args:
        labels: integer label image of any shape.
        removed: ids to remove.

    Returns:
        Labels of the same shape and type.

    Examples:
        >>> remove_ids(np.array([[1, 2, 3]], np.uint16), [1, 3])
        array([[0, 2, 0]], dtype=uint16)
    """
    array = np.ascontiguousarray(labels)
    ids, largest = compact_ids(check_labels(array))
    kept = np.ones(largest + 1, np.bool_)
    kept[np.unique(ids[np.isin(array, removed)])] = False  # `ids` may be renumbered, `removed` names the original ones
    out = np.zeros_like(array)
    select_objects(array.ravel(), ids.ravel(), kept, out.ravel())
    return out
