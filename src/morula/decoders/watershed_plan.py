"""What the watershed decoder does where the user leaves it open: channels of each step, and thresholds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from morula.core.errors import OptionError
from morula.core.family import did_you_mean
from morula.decoders.search_space import choices
from morula.decoders.watershed_inputs import OFFSETS

Threshold = float | Literal["auto"]
Channels = Mapping[str, Any]
"""Representations, or planes derived of several (`morula.decoders.watershed_inputs`), by name."""

AGAINST = frozenset({"background", "contour", "touching", "neighbour", "centre_distance"})
"""Roles whose low values speak for a seed."""
DISTANCES = frozenset({"distance", "signed_distance", "centre_distance"})
"""Roles that measure depth."""
UNUSED = frozenset({"rays", "flow", "embedding"})
"""Roles that the watershed cannot read."""
SURFACES = ("contour", "touching", "distance", "signed_distance", "centre_distance", "neighbour", "interior", "background")
"""Roles that may be flooded, the steepest between touching objects first."""
_EXTENT = ("interior", "background", "distance", "signed_distance", "contour", "mask")


def codes(channels: Channels, *roles: str) -> list[str]:
    """Codes of the channels with one of these roles, in the order of the roles."""
    return [code for role in roles for code, channel in channels.items() if channel.role == role]


def check_plan(channels: Channels, seeds: Mapping[str, Any], growth: Mapping[str, Any], surface: str | None) -> None:
    """Check that objects can be made of these channels as the user states.

    Raises:
        OptionError: when no channel says how far objects reach, an option names a channel that is not there, or a threshold lies where
            no value of the channel can.
    """
    known = ", ".join(channels)
    if foreign := codes(channels, *UNUSED):
        raise OptionError(f"the watershed makes no use of the channel {foreign[0]}. Leave it out, or choose a decoder that does.")
    if not codes(channels, *_EXTENT):
        raise OptionError(f"the channels {known} do not say how far objects reach. Add one of F, B, C, Db or D.")
    for step, named in (("seeds", seeds), ("growth", growth), ("surface", [surface] if surface else [])):
        for code in named:
            if code not in channels:
                raise OptionError(f"{step} names the channel {code!r} but the prediction has {known}.{did_you_mean(code, list(channels))}")
    for step, thresholds in (("seeds", seeds), ("growth", growth)):
        for code, value in thresholds.items():
            if value != "auto" and getattr(channels[code], "activation", None) == "sigmoid" and not 0 <= value <= 1:
                raise OptionError(
                    f"the threshold of {code} in {step} is {value:g}, but {code} lies between 0 and 1. Give one within, or 'auto'."
                )


def planned_seeds(channels: Channels) -> dict[str, Threshold]:
    """Centres where they are predicted; else everything that tells inside from contour, and depth."""
    if centres := codes(channels, "centre"):
        return dict.fromkeys(centres, "auto")
    inside = codes(channels, "interior") or codes(channels, "background")
    depth = codes(channels, "distance") or codes(channels, "signed_distance")
    centres = codes(channels, "centre_distance") if not depth or OFFSETS in channels else []
    found = [*inside, *codes(channels, "contour", "touching", "neighbour"), *depth, *centres]
    return dict.fromkeys(found or codes(channels, "mask"), "auto")


def planned_growth(channels: Channels) -> dict[str, Threshold]:
    """The inside; without a channel for it the distance; with contours alone nothing limits objects but each other."""
    for role in ("interior", "background", "signed_distance", "distance", "mask"):
        if found := codes(channels, role):
            return dict.fromkeys(found[:1], "auto")
    return {}


def planned_surface(channels: Channels) -> str:
    """The channel that is steepest between touching objects."""
    contours = [code for code in codes(channels, "contour") if getattr(channels[code], "separates", True)]
    rest = ("distance", "signed_distance", "centre_distance", "neighbour", "interior", "background", "contour", "mask")
    return [*contours, *codes(channels, "touching", *rest)][0]


def planned_valley(channels: Channels, seeds: Mapping[str, Any]) -> float:
    """How deep a valley parts seeds: distances fall to 0 between objects, probabilities less so."""
    roles = {channels[code].role for code in seeds}
    if roles & {"distance", "signed_distance"}:
        return 0.45
    return 0.3 if "centre_distance" in roles else 0.25


def lowest_peak(channels: Channels, seeds: Mapping[str, Any], thresholds: Mapping[str, float | None]) -> float:
    """Depth that a seed reaches somewhere, or it is noise: probabilities and scaled distances are near 1 in the middle of each object.

    Distances in lengths, and centres (whose values say how sure the place is), are not judged.
    """
    if None in thresholds.values() or any(channels[code].role == "centre" for code in seeds):
        return 0.0
    roles = {channels[code].role for code in seeds}
    if roles & {"distance", "signed_distance"}:
        return 0.25 if "distance" in roles else 0.4  # the deepest voxel need not be the centre; noise around 0 makes signed peaks outside
    return 0.6 if roles & {"centre_distance", "neighbour"} else 0.25


def top(channel: Any, largest: float) -> float:
    """Value of a channel that stands for 1: 10 for discretised distances, the largest one predicted for lengths."""
    if channel.activation == "sigmoid":
        return 1.0
    if stated := getattr(channel.options, "top", None):
        return float(stated)
    return max(largest, 1e-6)


def auto_threshold(
    channels: Channels,
    code: str,
    otsu: Callable[..., float] | None,
    largest: float,
    *,
    step: Literal["seeds", "growth"],
    parted: bool,
) -> float | None:
    """Threshold of a channel for a step, by Otsu's method within the bounds that make sense for the channel.

    The bounds keep an image without objects empty, where Otsu's method would cut through the noise. Where seeds are parted by valleys,
    seed thresholds are lenient: the valleys do the work. `None` stands for half a voxel, for distances in lengths.

    Args:
        channels: all of them.
        code: the one in question.
        otsu: Otsu's threshold of its values (greater than `above`); `None` for derived planes, which take the middle.
        largest: its largest value.
        step: what the threshold is for.
        parted: whether valleys part seeds.
    """
    channel = channels[code]
    one = top(channel, largest)

    def split(above: float = -float("inf")) -> float:
        return one / 2 if otsu is None else otsu(above=above)

    if channel.role == "centre":
        return _within(split(above=0.1), 0.2, 0.5)  # centres are rare: most voxels say nothing of them
    if channel.role == "interior" and step == "seeds" and codes(channels, "centre_distance"):
        return 0.9  # distances to the centre fall to 0 in the background again: seeds keep off the rim
    if channel.role == "signed_distance" and (step == "growth" or (parted and getattr(channel.options, "top", None) is None)):
        return 0.0
    if channel.role not in DISTANCES:
        lenient = channel.role in ("contour", "touching", "neighbour") and parted and step == "seeds"
        return one * _within(split() / one, *((0.7, 0.8) if lenient else (0.3, 0.7)))
    if channel.role == "centre_distance":
        return one * _within(split(above=0.0) / one, *((0.7, 0.8) if parted else (0.4, 0.6)))
    if channel.activation != "sigmoid" and getattr(channel.options, "values", None) == "raw" and (parted or step == "growth"):
        return None
    share = split() / one
    if step == "growth":
        return one * _within(share / 4, 0.08, 0.12)
    return one * (_within(share / 3, 0.08, 0.15) if parted else _within(share, 0.3, 0.6))


def _within(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Thresholds of probabilities."""
DEPTHS = (0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65)
"""Thresholds of scaled distances."""
SIGNED = (-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.5)
"""Thresholds of signed distances."""


def threshold_choices(channel: Any, current: Any) -> tuple[Any, ...]:
    """Thresholds worth trying of a channel; of distances in lengths, whose scale is not known beforehand, only the one in force.

    Examples:
        >>> from morula.representations.encode import build_channels
        >>> threshold_choices(build_channels(["F"])[0], "auto")[:4]
        ('auto', 0.1, 0.2, 0.3)
    """
    if channel.role not in DISTANCES:
        return choices(current, ("auto", *SHARES))
    if getattr(channel.options, "values", None) == "raw" or (channel.activation == "linear" and top(channel, 0.0) < 1):
        return choices(current, ("auto",))
    if channel.role == "signed_distance":
        return choices(current, ("auto", *SIGNED))
    one = top(channel, 1.0)
    return choices(current, ("auto", *(round(one * (1 - share if channel.role in AGAINST else share), 3) for share in DEPTHS)))
