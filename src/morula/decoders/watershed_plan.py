"""Choices of the watershed decoder where the user leaves them open: the channels of each step, and their thresholds.

The choices follow from what channels say (`morula.representations.evidence`), never from which channels they are. The constants were
chosen on predictions of trained networks (docs/benchmarks.md); each has its reason beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from morula.core.errors import OptionError
from morula.core.family import did_you_mean
from morula.decoders.search_space import Space, choices
from morula.decoders.watershed_inputs import OFFSETS
from morula.representations.evidence import (
    Evidence,
    Predicate,
    is_background,
    is_boundary_distance,
    is_centre_distance,
    is_contact,
    is_foreground,
    is_mask,
    is_outline,
    is_proximity,
    is_seed,
    is_signed_distance,
)

Threshold = float | Literal["auto"]
Channels = Mapping[str, Evidence]
"""What each image says, by name: representations, or images derived from several (`morula.decoders.watershed_inputs`)."""

SURFACES: tuple[Predicate, ...] = (
    is_outline, is_contact, is_boundary_distance, is_signed_distance, is_centre_distance, is_proximity, is_foreground, is_background,
)  # fmt: skip
"""Channels that can be flooded, the steepest between touching objects first."""


def names_of(channels: Channels, *predicates: Predicate) -> list[str]:
    """Names of the channels that fulfil one of the predicates, in the order of the predicates."""
    return [name for predicate in predicates for name, channel in channels.items() if predicate(channel)]


def plan_problem(
    channels: Channels, seeds: Mapping[str, Threshold], growth: Mapping[str, Threshold], surface: str | None
) -> OptionError | None:
    """The error that explains why the watershed cannot work as the user asks, or `None` where it can.

    It cannot when a channel is of no use, none says how far objects reach, an option names a channel that is not predicted, or a threshold
    is outside the channel's values.
    """
    known = ", ".join(channels)
    unused = [name for name, channel in channels.items() if not channel.is_scalar]
    if unused:
        return OptionError(
            "decoder.unusable_channels",
            f"the watershed makes no use of the channel {unused[0]}",
            key="channels",
            value=known,
            remedy="Leave it out, or choose a decoder that uses it.",
        )
    if not any(channel.defines_extent for channel in channels.values()):
        return OptionError(
            "decoder.unusable_channels",
            "these channels do not say how far objects reach (decoder watershed)",
            key="channels",
            value=known,
            remedy="Add one of F, B, C, Db or D.",
        )
    for step, names in (("seeds", list(seeds)), ("growth", list(growth)), ("surface", [surface] if surface else [])):
        for name in names:
            if name not in channels:
                remedy = did_you_mean(name, list(channels)).strip() or f"Use one of {known}."
                return OptionError("decoder.unknown_channel", "is not predicted", key=step, value=name, remedy=remedy)
    for step, thresholds in (("seeds", seeds), ("growth", growth)):
        for name, value in thresholds.items():
            if value != "auto" and channels[name].activation == "sigmoid" and not 0 <= value <= 1:
                remedy = "Give a number within, or 'auto'."
                rule = f"must be from 0 to 1, the values of {name}"
                return OptionError("decoder.threshold_range", rule, key=f"{step}.{name}", value=value, remedy=remedy)
    return None


def planned_seeds(channels: Channels) -> dict[str, Threshold]:
    """Centres where they are predicted; else every channel that separates the inside from boundaries, and depth."""
    # predicted centres are one per object already; other channels would split or merge them
    if centres := names_of(channels, is_seed):
        return dict.fromkeys(centres, "auto")
    inside = names_of(channels, is_foreground) or names_of(channels, is_background)
    depth = names_of(channels, is_boundary_distance) or names_of(channels, is_signed_distance)
    centres = names_of(channels, is_centre_distance) if not depth or OFFSETS in channels else []
    chosen = [*inside, *names_of(channels, is_outline, is_contact, is_proximity), *depth, *centres]
    return dict.fromkeys(chosen or names_of(channels, is_mask), "auto")


def planned_growth(channels: Channels) -> dict[str, Threshold]:
    """The foreground; without one the distance; with boundaries alone objects are limited only by each other."""
    for predicate in (is_foreground, is_background, is_signed_distance, is_boundary_distance, is_mask):
        if names := names_of(channels, predicate):
            return dict.fromkeys(names[:1], "auto")
    return {}


def planned_surface(channels: Channels) -> str:
    """The channel that is steepest between touching objects."""
    separating = [name for name in names_of(channels, is_outline) if channels[name].separates]
    others = (
        is_contact, is_boundary_distance, is_signed_distance, is_centre_distance, is_proximity, is_foreground, is_background, is_outline,
        is_mask,
    )  # fmt: skip
    return [*separating, *names_of(channels, *others)][0]


def planned_valley(channels: Channels, seeds: Mapping[str, Threshold]) -> float:
    """Relative depth of the valley between two seeds: distances fall to 0 between objects, probabilities fall less."""
    depths = {channels[name].depth for name in seeds}
    if depths & {"boundary", "signed"}:
        return 0.45
    return 0.3 if "centre" in depths else 0.25


def lowest_peak(channels: Channels, seeds: Mapping[str, Threshold], thresholds: Mapping[str, float | None]) -> float:
    """Depth that a seed must reach somewhere; lower ones are noise, since depth is near 1 in the middle of every object.

    0, so that every seed counts, for distances in lengths, and for centres, whose values say how certain their position is.
    """
    if None in thresholds.values() or any(channels[name].seed_evidence for name in seeds):
        return 0.0
    depths = {channels[name].depth for name in seeds}
    if "boundary" in depths:
        return 0.25  # the deepest voxel need not be the centre that the other channels predict
    if "signed" in depths:
        return 0.4  # noise around 0 makes peaks outside objects
    return 0.6 if "centre" in depths or any(is_proximity(channels[name]) for name in seeds) else 0.25


def full_scale(channel: Evidence, largest: float) -> float:
    """Value of a channel that stands for 1: stated by the representation, or for lengths the largest predicted one."""
    return max(largest, 1e-6) if channel.full_scale is None else channel.full_scale


def auto_threshold(
    channels: Channels,
    name: str,
    otsu: Callable[..., float] | None,
    largest: float,
    *,
    step: Literal["seeds", "growth"],
    valleys: bool,
) -> float | None:
    """Threshold of a channel by Otsu's method, within bounds that make sense for what the channel says.

    The bounds keep an image without objects empty, where Otsu's method would cut through the noise. Where valleys separate seeds, seed
    thresholds are lenient: the valleys do the work.

    Args:
        channels: all of them.
        name: the channel in question.
        otsu: Otsu's threshold of its values (of those greater than `above`); `None` for derived images, which use half of the scale.
        largest: its largest value.
        step: what the threshold is for.
        valleys: whether valleys separate seeds.

    Returns:
        The threshold; `None` stands for half a voxel, for distances in lengths.
    """
    channel = channels[name]
    scale = full_scale(channel, largest)

    def split(above: float = -float("inf")) -> float:
        return scale / 2 if otsu is None else otsu(above=above)

    if channel.seed_evidence:
        return _clip(split(above=0.1), 0.2, 0.5)  # centres are rare: almost all voxels are near 0
    if is_foreground(channel) and step == "seeds" and names_of(channels, is_centre_distance):
        return 0.9  # distances to the centre are 0 in the background, too: seeds must avoid the rim of objects
    if channel.depth == "signed" and (step == "growth" or (valleys and channel.full_scale is None)):
        return 0.0
    if channel.depth is None:
        lenient = channel.boundary_evidence is not None and valleys and step == "seeds"
        return scale * _clip(split() / scale, *((0.7, 0.8) if lenient else (0.3, 0.7)))
    if channel.depth == "centre":
        return scale * _clip(split(above=0.0) / scale, *((0.7, 0.8) if valleys else (0.4, 0.6)))
    if channel.depth == "boundary" and channel.full_scale is None and (valleys or step == "growth"):
        return None
    share = split() / scale
    if step == "growth":
        return scale * _clip(share / 4, 0.08, 0.12)
    return scale * (_clip(share / 3, 0.08, 0.15) if valleys else _clip(share, 0.3, 0.6))


def _clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


PROBABILITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Thresholds of probabilities to try."""
DEPTHS = (0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65)
"""Thresholds of scaled distances to try."""
SIGNED_DEPTHS = (-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.5)
"""Thresholds of signed distances to try."""


def threshold_choices(channel: Evidence, current: Threshold) -> tuple[object, ...]:
    """Thresholds to try of a channel; for distances in lengths, whose scale is not known in advance, only the current one and `auto`.

    Examples:
        >>> from morula.representations.encode import build_channels
        >>> threshold_choices(build_channels(["F"])[0], "auto")[:4]
        ('auto', 0.1, 0.2, 0.3)
    """
    if channel.depth is None:
        return choices(current, ("auto", *PROBABILITIES))
    if channel.full_scale is None and channel.activation == "linear":
        return choices(current, ("auto",))
    if channel.depth == "signed":
        return choices(current, ("auto", *SIGNED_DEPTHS))
    scale = full_scale(channel, 1.0)
    return choices(current, ("auto", *(round(scale * (1 - share if channel.inverted else share), 3) for share in DEPTHS)))


def surface_choices(channels: Channels, current: str | None, codes: set[str]) -> Space:
    """Surfaces to try: the planned one, and every predicted channel that can be flooded."""
    return {"surface": choices(current, (None, *(name for name in names_of(channels, *SURFACES) if name in codes)))}
