"""Whether confidences are probabilities: the share of right objects over their confidence, on images with labels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from morula.measurement.calibration import calibration_error, share_of_errors
from morula.report.curves import Line, line_chart
from morula.report.panels import ObjectRow

FEWEST = 30
"""With fewer objects the shares say nothing."""
GROUP = 10
"""Fewest objects per point of the chart."""


def reliability(rows: Sequence[ObjectRow]) -> tuple[Markup, str] | None:
    """The reliability diagram and its figures in words; `None` without truth or confidence, or with few objects."""
    rated = [row for row in rows if row.tag in ("TP", "FP") and math.isfinite(row.confidence)]
    if len(rated) < FEWEST:
        return None
    confidence = np.array([row.confidence for row in rated])
    right = np.array([row.tag == "TP" for row in rated])
    # groups of equal size: most objects have confidences near 1
    groups = np.array_split(np.argsort(confidence, kind="stable"), min(10, len(rated) // GROUP))
    found = Line("objects", [float(confidence[group].mean()) for group in groups], [float(right[group].mean()) for group in groups])
    chart = line_chart(
        [found, Line("ideal", (0.0, 1.0), (0.0, 1.0))], title="Reliability of the confidence", x_label="confidence", y_range=(0.0, 1.0)
    )
    words = f"Share of right objects over their confidence. Expected calibration error {calibration_error(confidence, right):.3f}"
    share = share_of_errors(confidence, right)
    return chart, words + (f"; the least confident 20 % hold {share:.0%} of the wrong objects" if math.isfinite(share) else "")
