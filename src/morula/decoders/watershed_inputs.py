"""Planes that the watershed reads out of channels that speak together: offsets and affinities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from morula.core.errors import DataError
from morula.representations.base import Activation, Representation, Role

OFFSETS, JOINED, PARTED = "offsets", "joined", "parted"


@dataclass(frozen=True)
class Derived:
    """A plane that stands for several channels: its name, and role and activation as those of a representation."""

    code: str
    role: Role
    activation: Activation = "sigmoid"
    options: None = None


def plane_roles(representations: Sequence[Representation[Any]]) -> dict[str, Any]:
    """What each plane says, by its name: representations of one channel by their code, the others by what is derived of them.

    Offsets H, V and Z become `offsets`, high where objects end: far from the centre, and where neighbours point away from each other.
    Affinities become `joined`, the inside (a voxel goes with one of its neighbours), and `parted`, the contour (it is cut off from one).
    """
    found: dict[str, Any] = {each.code: each for each in representations if each.role not in ("offset", "affinity")}
    roles = {each.role for each in representations}
    if "offset" in roles:
        found[OFFSETS] = Derived(OFFSETS, "centre_distance")
    if "affinity" in roles:
        found[JOINED], found[PARTED] = Derived(JOINED, "interior"), Derived(PARTED, "contour")
    return found


def plane_of(code: str, representations: Sequence[Representation[Any]]) -> list[str]:
    """Names of the planes that a channel's code stands for in the options: its own, or those derived of it."""
    role = next((each.role for each in representations if each.code == code), None)
    return {"offset": [OFFSETS], "affinity": [JOINED, PARTED]}.get(str(role), [code])


def rows_of(representations: Sequence[Representation[Any]], count: int) -> dict[str, slice]:
    """Where each representation's channels lie among `count` physical ones.

    Raises:
        DataError: when they are not as many as the representations have.
    """
    for ndim in (2, 3):
        widths = [_width(each, ndim) for each in representations]
        if sum(widths) == count:
            ends = np.cumsum(widths).tolist()
            return {each.code: slice(end - width, end) for each, end, width in zip(representations, ends, widths, strict=True)}
    wanted = ", ".join(each.code for each in representations)
    raise DataError(f"the prediction has {count} channels but {wanted} are {sum(widths)}. Give C(Z)YX.")


def _width(each: Any, ndim: int) -> int:
    offsets = getattr(each.options, "offsets", ()) if each.role == "affinity" else ()
    if offsets:
        return len(offsets)
    if each.role == "affinity" and each.options.reach:
        return len(each.options.reach) * ndim
    if each.role == "affinity" and each.options.neighborhood:
        ndim = 2 if each.options.neighborhood in ("4-connectivity", "8-connectivity") else 3
    return int(each.width(ndim))


def planes(representations: Sequence[Representation[Any]], prediction: np.ndarray, largest: Mapping[str, float]) -> dict[str, np.ndarray]:
    """Planes (Z)YX float32 by name.

    Args:
        representations: in the order of the prediction.
        prediction: channels C(Z)YX float32.
        largest: largest size of each channel in the whole image, which stands for 1 where offsets are lengths.
    """
    rows = rows_of(representations, len(prediction))
    found: dict[str, np.ndarray] = {}
    ways: list[tuple[int, np.ndarray, float]] = []
    for each in representations:
        values = prediction[rows[each.code]]
        if each.role == "offset":
            if -each.axis <= prediction.ndim - 1:  # type: ignore[attr-defined]
                one = 1.0 if each.options.norm else max(largest[each.code], 1e-6)
                ways.append((each.axis, values[0], one))  # type: ignore[attr-defined]
        elif each.role == "affinity":
            found[JOINED], found[PARTED] = joined(values, each.options.steps(prediction.ndim - 1))
        else:
            found[each.code] = values[0]
    if ways:
        found[OFFSETS] = _ends(ways)
    return found


def _ends(ways: list[tuple[int, np.ndarray, float]]) -> np.ndarray:
    """How much objects end at each voxel, 0 to 1, from the ways to the centre along some axes and what stands for 1 in each.

    Far from the centre ways are long. Across a contact of two objects they turn from pointing back to pointing on: a rise along their
    own axis, where inside an object they fall. A network's blurred ways pass 0 there; the rise tells that it is no centre.
    """
    free: np.ndarray | None = None
    size = np.zeros(ways[0][1].shape, np.float32)
    for axis, values, one in ways:
        way = values if one == 1 else values / np.float32(one)
        np.maximum(size, np.abs(way), out=size)
        flat = np.gradient(way, axis=axis) if way.shape[axis] > 1 else np.zeros_like(way)
        np.subtract(1, np.clip(flat, 0, 1, out=flat), out=flat)
        free = flat if free is None else np.multiply(free, flat, out=free)
    assert free is not None
    np.clip(np.subtract(1, size, out=size), 0, 1, out=size)
    size *= free
    return np.subtract(1, size, out=size)


def joined(values: np.ndarray, steps: Sequence[tuple[int, ...]]) -> tuple[np.ndarray, np.ndarray]:
    """The highest affinity of each voxel to any neighbour, and 1 minus the lowest, among the pairs that lie in the image."""
    high, low = np.zeros(values.shape[1:], np.float32), np.ones(values.shape[1:], np.float32)
    short = [i for i, step in enumerate(steps) if max(map(abs, step)) == 1] or list(range(len(steps)))
    for i in short:
        sides: list[tuple[int, int]] = list(zip(steps[i], high.shape, strict=True))
        here = tuple(slice(max(0, -s), n - max(0, s)) for s, n in sides)
        there = tuple(slice(max(0, s), n - max(0, -s)) for s, n in sides)
        pairs = values[i][here]
        for end in (here, there):
            np.maximum(high[end], pairs, out=high[end])
            np.minimum(low[end], pairs, out=low[end])
    return high, 1 - low
