"""The mask of a prediction that objects may cover, for operations that divide it among the objects.

Any channel that says how far objects reach gives a mask: a foreground probability by its threshold, outlines by filling them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from morula.core.errors import OptionError
from morula.decoders.statistics import ChannelStatistics
from morula.decoders.watershed_inputs import channel_slices
from morula.labels.holes import fill_holes
from morula.labels.morphology import erode
from morula.representations.base import Representation
from morula.representations.evidence import first_of, is_background, is_foreground, is_mask, is_outline

_USABLE = (is_mask, is_foreground, is_background, is_outline)
"""What gives a mask, the best first."""


def foreground_channel(representations: Sequence[Representation[Any]], code: str | None = None) -> str:
    """Code of the channel that the mask is made of: the named one, or the first of M, F, B and C that is predicted.

    Raises:
        OptionError: when it is not predicted, or none is.
    """
    usable = [channel for channel in representations if channel.code in foreground_codes(representations)]
    chosen = first_of(usable, *_USABLE) if code is None else next((channel for channel in usable if channel.code == code), None)
    if chosen is None:
        raise OptionError(
            "refinement.no_mask_channel",
            f"voronoi needs the channel {code or 'M, F, B or C'}",
            key="channels",
            value=", ".join(channel.code for channel in representations),
            remedy="Add the channel, or leave voronoi out.",
        )
    return chosen.code


def foreground_codes(representations: Sequence[Representation[Any]]) -> list[str]:
    """Codes of the channels that a mask can be made of; `fit_foreground` reads their histograms."""
    return [channel.code for channel in representations if any(predicate(channel) for predicate in _USABLE)]


def fit_foreground(representations: Sequence[Representation[Any]], statistics: ChannelStatistics) -> dict[str, float]:
    """Otsu's threshold of each channel that a mask can be made of, by its code."""
    rows = channel_slices(representations, len(statistics.maximum))
    return {code: float(statistics.otsu(rows[code].start)) for code in foreground_codes(representations)}


def foreground_mask(
    prediction: np.ndarray,
    representations: Sequence[Representation[Any]],
    thresholds: Mapping[str, float],
    *,
    code: str | None = None,
    threshold: float | Literal["auto"] = "auto",
) -> np.ndarray:
    """Where objects may be, (Z)YX bool.

    Args:
        prediction: channels C(Z)YX.
        representations: in the order of the prediction.
        thresholds: from `fit_foreground`.
        code: channel that the mask is made of; see `foreground_channel`.
        threshold: replaces the fitted one.

    Raises:
        OptionError: when no predicted channel gives a mask.

    Examples:
        >>> from morula.representations.encode import build_channels
        >>> foreground_mask(np.array([[[0.1, 0.9]]]), build_channels(["F"]), {"F": 0.5})
        array([[False,  True]])
    """
    chosen = foreground_channel(representations, code)
    # a stated threshold replaces the fitted one
    limit = thresholds[chosen] if threshold == "auto" else float(threshold)
    values = prediction[channel_slices(representations, len(prediction))[chosen]][0]
    channel = next(channel for channel in representations if channel.code == chosen)
    if is_outline(channel):
        # a filled outline contains the voxel outside objects that thick outlines cover; the erosion removes it again
        return erode(fill_holes((values > limit).astype(np.uint8)) > 0, (1,) * values.ndim)
    return values < limit if channel.inverted else values > limit
