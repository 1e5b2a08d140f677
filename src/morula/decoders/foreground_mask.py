"""The mask of a prediction that objects may cover."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from morula.core.errors import OptionError
from morula.decoders.statistics import ChannelStatistics
from morula.decoders.watershed_inputs import rows_of
from morula.labels.holes import fill_holes
from morula.labels.morphology import erode
from morula.representations.base import Representation

_ROLES = ("mask", "interior", "background", "contour")


def foreground_channel(representations: Sequence[Representation[Any]], code: str | None = None) -> str:
    """Code of the channel that tells the inside: the named one, or the first of M, F, B and C that is there.

    Raises:
        OptionError: when it is not there, or none is.
    """
    found = {each.code: _ROLES.index(each.role) for each in representations if each.role in _ROLES}
    if code is None and found:
        return min(found, key=lambda each: found[each])
    if code not in found:
        given = ", ".join(each.code for each in representations)
        raise OptionError(f"voronoi needs the channel {code or 'M, F, B or C'} but there is {given}. Add it, or leave voronoi out.")
    return code


def foreground_codes(representations: Sequence[Representation[Any]]) -> list[str]:
    """Codes of the channels that may tell the inside, which `fit_foreground` reads the histograms of."""
    return [each.code for each in representations if each.role in _ROLES]


def fit_foreground(representations: Sequence[Representation[Any]], statistics: ChannelStatistics) -> dict[str, float]:
    """Otsu's threshold of each channel that may tell the inside, by its code."""
    rows = rows_of(representations, len(statistics.maximum))
    return {code: float(statistics.otsu(rows[code].start)) for code in foreground_codes(representations)}


def foreground_mask(
    prediction: np.ndarray,
    representations: Sequence[Representation[Any]],
    fitted: Mapping[str, float],
    *,
    code: str | None = None,
    threshold: float | Literal["auto"] = "auto",
) -> np.ndarray:
    """Where objects may be, (Z)YX bool. Contours are filled, and the voxel around objects that they take is given back.

    Args:
        prediction: channels C(Z)YX.
        representations: in the order of the prediction.
        fitted: from `fit_foreground`.
        code: channel that tells the inside; see `foreground_channel`.
        threshold: instead of the fitted one.

    Raises:
        OptionError: when no channel tells the inside.
    """
    chosen = foreground_channel(representations, code)
    limit = fitted[chosen] if threshold == "auto" else float(threshold)
    plane = prediction[rows_of(representations, len(prediction))[chosen]][0]
    role = next(each.role for each in representations if each.code == chosen)
    if role == "background":
        return plane < limit
    if role == "contour":
        return erode(fill_holes((plane > limit).astype(np.uint8)) > 0, (1,) * plane.ndim)
    return plane > limit
