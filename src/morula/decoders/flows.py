"""Objects by following flows: voxels whose ways end together are one object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from morula.core.errors import OptionError
from morula.decoders.options import DecoderOptions
from morula.decoders.search_space import Space, choices
from morula.decoders.statistics import ChannelStatistics
from morula.decoders.watershed_inputs import rows_of
from morula.kernels.flow_fields import flow_field
from morula.kernels.flow_tracking import arrivals, flow_errors, follow, take_from_ends
from morula.kernels.geometry import sizes_of
from morula.kernels.object_tables import numbered, object_means, select
from morula.kernels.relative_h_maxima import relative_h_maxima
from morula.kernels.smoothing import gaussian_smooth
from morula.labels.objects import Objects
from morula.representations.base import Representation

TELLS = ("interior", "background", "signed_distance")
"""Roles of channels that tell which voxels belong to objects, the best first."""

Share = Annotated[float, Field(ge=0, le=1)]


class Options(DecoderOptions):
    """Options of the flows decoder."""

    kind: Literal["flows"] = "flows"
    """Name of the variant."""

    threshold: float | Literal["auto"] = "auto"
    """Value of the channel that tells the inside from which a voxel belongs to an object (below it for B). `auto`: Otsu's threshold of F
    or B within 0.3 and 0.6, 0 for D."""
    steps: int = Field(200, ge=1)
    """Most steps that a voxel is followed; those at rest are left earlier."""
    valley: Share = 0.5
    """Ends of ways belong to two objects where there are less between them than this share below the lower of their peaks."""
    flow_error: Annotated[float, Field(ge=0)] | None = 0.4
    """Objects whose predicted flow differs by more than this from the flow of their shape go (mean squared difference, summed over the
    axes). Null: none is checked."""
    min_size: int = Field(15, ge=0)
    """Objects of fewer voxels go."""


class Flows:
    """Objects from the channel G and one that tells the inside: F, B or D.

    Every voxel inside follows the flow; where many ways end there is an object. The confidence is the mean of the inside's channel, less
    by the flow's error. After Stringer et al., Cellpose (Nature Methods 18, 2021).

    Args:
        options: what the user states.
        representations: the channels, in the order of the prediction.

    Raises:
        OptionError: when the channels do not suffice, or one of them is of no use here.
    """

    channel_sets: ClassVar[tuple[tuple[str, ...], ...]] = (("F", "G"), ("B", "G"), ("D", "G"))
    """Sets of which decoding gives back exactly what was encoded."""

    def __init__(self, options: Options | None, representations: Sequence[Representation[Any]]) -> None:
        self.options = options or Options()
        self.representations = tuple(representations)
        _check(self.representations)
        self.flow = next(each for each in self.representations if each.role == "flow")
        self.inside = next(each for each in self.representations if each.role in TELLS)
        threshold = self.options.threshold
        if threshold != "auto" and self.inside.role != "signed_distance" and not 0 <= threshold <= 1:
            raise OptionError(f"the threshold is {threshold:g}, but {self.inside.code} lies between 0 and 1. Give one within, or 'auto'.")
        self.counted = () if self.inside.role == "signed_distance" else (self.inside.code,)
        """Codes of the channels whose histograms `fit` reads."""

    @staticmethod
    def accepts(representations: Sequence[Representation[Any]]) -> bool:
        """Whether objects can be made of these channels."""
        try:
            _check(representations)
        except OptionError:
            return False
        return True

    def search_space(self) -> Space:
        """Values worth trying of the options, the one in force first."""
        return {
            "threshold": choices(self.options.threshold, ("auto", 0.3, 0.4, 0.5, 0.6)),
            "flow_error": choices(self.options.flow_error, (0.2, 0.4, 0.6, 0.8, None)),
            "min_size": choices(self.options.min_size, (0, 15, 50)),
        }

    def fit(self, statistics: ChannelStatistics) -> dict[str, Any]:
        """The threshold, from statistics of the whole prediction. JSON-able."""
        if self.options.threshold != "auto":
            return {"threshold": self.options.threshold}
        if self.inside.role == "signed_distance":
            return {"threshold": 0.0}
        row = rows_of(self.representations, len(statistics.maximum))[self.inside.code].start
        return {"threshold": min(max(statistics.otsu(row), 0.3), 0.6)}

    def decode(self, prediction: np.ndarray, parameters: Mapping[str, Any], spacing: Sequence[float]) -> Objects:
        """Objects of predicted channels C(Z)YX.

        Args:
            prediction: channels C(Z)YX float32.
            parameters: from `fit`.
            spacing: edge lengths of a voxel.

        Raises:
            DataError: when the prediction does not fit the channels.
        """
        rows = rows_of(self.representations, len(prediction))
        flow, inside = prediction[rows[self.flow.code]], prediction[rows[self.inside.code].start]
        mask = inside < parameters["threshold"] if self.inside.role == "background" else inside > parameters["threshold"]
        labels, ends, n = self._gathered(flow, mask, spacing)
        means = object_means(labels, inside, n)
        sure = 1 - means if self.inside.role == "background" else means
        errors = flow_errors(labels, flow, flow_field(labels, spacing), n) if self.options.flow_error is not None else np.zeros(n)
        kept = np.ones(n + 1, np.bool_)
        kept[1:] = (errors <= (self.options.flow_error or np.inf)) & (sizes_of(labels, n)[1:] >= self.options.min_size)
        if not kept.all():
            chosen = np.zeros_like(labels)
            select(labels.ravel(), labels.ravel(), kept, chosen.ravel())
            labels = chosen
        found, old = numbered(labels, n)
        confidence = np.clip(sure[old - 1] * np.clip(1 - errors[old - 1], 0, 1), 0, 1).astype(np.float32)
        return Objects(found, confidence, {"foreground": mask, "ends": ends})

    def _gathered(self, flow: np.ndarray, mask: np.ndarray, spacing: Sequence[float]) -> tuple[np.ndarray, np.ndarray, int]:
        """Labels by the ends of the ways, how many ways end at each voxel, and the largest id."""
        ways = follow(flow, mask, spacing, self.options.steps)
        counts = np.zeros(mask.shape, np.float32)
        arrivals(ways.ravel(), counts.ravel())
        hills = gaussian_smooth(counts, 1.0, spacing)
        ids, n = relative_h_maxima(hills, hills > 0.1, self.options.valley, connectivity=mask.ndim)
        labels = np.zeros(mask.shape, np.uint32)
        take_from_ends(ways.ravel(), ids.ravel(), labels.ravel())
        return labels, counts, n


def _check(representations: Sequence[Representation[Any]]) -> None:
    """Raise an `OptionError` unless there are flows, one channel that tells the inside, and none besides."""
    roles = {each.code: each.role for each in representations}
    if "flow" not in roles.values():
        raise OptionError(
            f"the decoder flows needs the channel G but the channels are {', '.join(roles)}. Add G, or choose another decoder."
        )
    if not set(roles.values()) & set(TELLS):
        raise OptionError(f"the channels {', '.join(roles)} do not tell the inside of objects. Add one of F, B or D to G.")
    if len(roles) > 2:
        surplus = [code for code, role in roles.items() if role != "flow"][1]
        raise OptionError(f"the decoder flows reads G and one channel that tells the inside; it makes no use of {surplus}. Leave it out.")
