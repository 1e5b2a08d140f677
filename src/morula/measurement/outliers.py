"""Which objects are probably wrong, without ground truth: by their confidence, and by how unlike the others they are.

Most objects of an image are right, so that an object far from the quartiles of a measure is suspicious: several cells under one id are too
large, fragments too small, and parts of a cell are no ellipse. Each measure gives a doubt from 0 to 1; the doubts are combined as
independent evidence.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

FAR = 3.0
"""Interquartile ranges beyond the quartiles at which a value is far out (Tukey 1977), and its doubt 1."""
LEAST = 0.05
"""Interquartile ranges are at least this much, so that objects of equal shape are no outliers for a rounding."""
_ABOVE = {"voxels": "large", "aspect_ratio": "elongated"}
_BELOW = {"voxels": "small", "circularity": "shape", "sphericity": "shape", "ellipsoid_fit": "shape", "contrast": "contrast"}
"""Columns in which large or small values are suspicious, with the reason. A column that is absent is not used."""
_LOGARITHMIC = ("voxels", "aspect_ratio")
_CUT = ("small", "shape", "elongated")
"""What is no reason for doubt where the border of the image cuts the object."""


def suspicion(table: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """How suspicious each object of an image is.

    Args:
        table: columns of `morula.measure` as arrays; all objects of the image. With ``confidence`` and the columns of
            `morula.measurement.evidence.evidence` more wrong objects are found.

    Returns:
        ``suspicion`` (n,) from 0 to 1, higher is worse, and ``reason`` (n,): ``confidence``, ``small``, ``large``, ``shape``,
        ``elongated`` or ``contrast``, the one with the highest doubt; empty without doubt.

    Examples:
        >>> sizes = np.array([90, 95, 100, 105, 110, 400])
        >>> found = suspicion({"voxels": sizes, "aspect_ratio": np.ones(6)})
        >>> found["suspicion"].argmax(), found["reason"].tolist()
        (np.int64(5), ['small', 'small', '', '', 'large', 'large'])
    """
    rows = len(table["voxels"])
    cut = np.asarray(table["touches_border"], bool) if "touches_border" in table else np.zeros(rows, bool)
    doubts: list[tuple[str, np.ndarray]] = []
    if "confidence" in table:
        doubts.append(("confidence", 1 - np.clip(np.asarray(table["confidence"], np.float64), 0, 1)))
    for reasons, sign in ((_BELOW, -1), (_ABOVE, 1)):
        for name, reason in reasons.items():
            if name in table:
                doubt = _beyond(sign * _scaled(name, table[name]))
                doubts.append((reason, np.where(cut, 0, doubt) if reason in _CUT else doubt))
    values = np.nan_to_num(np.array([doubt for _, doubt in doubts]).reshape(len(doubts), rows), nan=0.0)
    names = np.array([*(reason for reason, _ in doubts), ""])
    worst = np.where(values.max(axis=0, initial=0) > 0, values.argmax(axis=0) if rows else 0, len(doubts))
    return {"suspicion": (1 - (1 - values).prod(axis=0)).astype(np.float32), "reason": names[worst]}


def _scaled(name: str, values: np.ndarray) -> np.ndarray:
    numbers = np.asarray(values, np.float64)
    return np.log(np.maximum(numbers, 1e-9)) if name in _LOGARITHMIC else numbers


def _beyond(values: np.ndarray) -> np.ndarray:
    """Distance above the upper quartile in interquartile ranges, over `FAR`, at most 1; NaN where the value is unknown."""
    known = values[np.isfinite(values)]
    if not len(known):
        return np.zeros(len(values))
    low, high = np.percentile(known, (25, 75))
    return np.clip((values - high) / (FAR * max(high - low, LEAST)), 0, 1)
