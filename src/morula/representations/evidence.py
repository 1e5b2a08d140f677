"""What a channel says about objects, as properties that decoders and methods ask for.

A decoder never asks which channel it has: it asks what the channel says. A new representation sets the properties that apply, and every
decoder that can use them accepts it. Values of a channel along a line through two touching objects, for some of the properties::

    objects                      . 1 1 1 1 1 2 2 2 2 2 .
    foreground_probability (F)   _/‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾\\_      high inside
    boundary_evidence (C)        /\\_______/‾\\________/\\     high where objects end
    seed_evidence (P)            ____/\\_________/\\______     high at the centre only
    depth "boundary" (Db)        _/ \\_______/  \\_______      rises from the boundary to the centre
    depth "centre" (Dc), inverted   \\_/       \\_/            rises from the centre to the boundary
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, TypeVar

Activation = Literal["sigmoid", "linear", "tanh", "softmax", "expected_class", "embedding"]
Boundary = Literal["outline", "contact", "proximity"]
Depth = Literal["boundary", "signed", "centre"]


class Evidence:
    """What one channel, or one plane computed from several channels, says about each voxel.

    Every property has a neutral default; a subclass sets those that apply, as class attributes or, where they depend on the options, as
    attributes of the instance.

    Examples:
        >>> from morula.representations.encode import build_channels
        >>> background = build_channels(["B"])[0]
        >>> background.foreground_probability, background.inverted, background.boundary_evidence
        (True, True, None)
    """

    code: str
    """Short name in job files and options."""
    activation: Activation = "sigmoid"
    """Activation of the network's output, the same in the loss, in validation and in prediction."""
    inverted: bool = False
    """Whether low values, not high ones, mark the middle of objects."""
    foreground_probability: bool = False
    """Whether the value is the probability that a voxel belongs to an object (`inverted`: that it does not)."""
    foreground_mask: bool = False
    """Whether the value marks objects together with their outlines: it limits objects but does not separate them."""
    boundary_evidence: Boundary | None = None
    """Where the value is high: on the `outline` of every object, at the `contact` of two objects, or in `proximity` of another object."""
    separates: bool = True
    """Whether the boundary runs between touching objects, too."""
    seed_evidence: bool = False
    """Whether the value is high at the centre of objects only, so that its peaks are seeds."""
    depth: Depth | None = None
    """Which distance the value grows with: to the `boundary` (0 in the background), the same `signed` (negative in the background), or to
    the `centre`."""
    full_scale: float | None = 1.0
    """Value that stands for a probability or depth of 1; `None` for lengths, whose largest value is not known in advance."""
    centre_offset_axis: int | None = None
    """Axis, counted from the last, along which the value is the offset to the object's centre."""
    normalised_offset: bool = False
    """Whether that offset is scaled to [-1, 1] per object."""
    affinities: bool = False
    """Whether the channels are affinities; see `Representation.affinity_offsets`."""
    long_range_affinities: bool = False
    """Whether affinities compare voxels that are not direct neighbours, too."""
    direct_affinities: bool = True
    """Whether any affinity compares direct neighbours."""
    star_rays: bool = False
    """Whether the channels are distances to the boundary along rays."""
    flow_vectors: bool = False
    """Whether the channels are vectors that lead to the object's centre or ridge."""
    to_ridges: bool = False
    """Whether these vectors lead to the ridge of the object, where they end side by side, rather than to one centre."""
    embedding: bool = False
    """Whether the channels are spatial embeddings with bandwidths and seediness, as of EmbedSeg."""
    rebalance: Literal["rarer", "background"] | None = None
    """Side of a binary channel whose weight in the loss is raised where a job does not say: the rarer one, or the background."""

    @property
    def defines_extent(self) -> bool:
        """Whether the channel says how far objects reach."""
        return (
            self.foreground_probability
            or self.foreground_mask
            or self.boundary_evidence == "outline"
            or self.depth in ("boundary", "signed")
        )

    @property
    def is_scalar(self) -> bool:
        """Whether a threshold of the value has a meaning for objects."""
        return bool(
            self.foreground_probability or self.foreground_mask or self.boundary_evidence or self.seed_evidence or self.depth is not None
        )


EvidenceType = TypeVar("EvidenceType", bound=Evidence)
Predicate = Callable[[Evidence], bool]


def is_foreground(channel: Evidence) -> bool:
    """Probability that a voxel belongs to an object."""
    return channel.foreground_probability and not channel.inverted


def is_background(channel: Evidence) -> bool:
    """Probability that a voxel belongs to no object."""
    return channel.foreground_probability and channel.inverted


def is_mask(channel: Evidence) -> bool:
    """Objects together with their outlines."""
    return channel.foreground_mask


def is_outline(channel: Evidence) -> bool:
    """Outline of every object."""
    return channel.boundary_evidence == "outline"


def is_contact(channel: Evidence) -> bool:
    """Contact of two objects."""
    return channel.boundary_evidence == "contact"


def is_proximity(channel: Evidence) -> bool:
    """Proximity of another object."""
    return channel.boundary_evidence == "proximity"


def is_seed(channel: Evidence) -> bool:
    """Centre of objects."""
    return channel.seed_evidence


def is_boundary_distance(channel: Evidence) -> bool:
    """Distance to the boundary, 0 in the background."""
    return channel.depth == "boundary"


def is_signed_distance(channel: Evidence) -> bool:
    """Distance to the boundary, negative in the background."""
    return channel.depth == "signed"


def is_centre_distance(channel: Evidence) -> bool:
    """Distance to the centre."""
    return channel.depth == "centre"


def is_affinity(channel: Evidence) -> bool:
    """Affinities of pairs of voxels."""
    return channel.affinities


def first_of(channels: Iterable[EvidenceType], *predicates: Predicate) -> EvidenceType | None:
    """The first channel that fulfils the first predicate, else the first that fulfils the second one, and so on.

    Examples:
        >>> from morula.representations.encode import build_channels
        >>> first_of(build_channels(["C", "B"]), is_foreground, is_background)
        Background()
    """
    listed = list(channels)
    return next((channel for predicate in predicates for channel in listed if predicate(channel)), None)


def foreground_reference(channels: Iterable[EvidenceType]) -> EvidenceType | None:
    """The channel that separates objects from background best; distance-like channels are scored inside objects where there is one.

    Examples:
        >>> from morula.representations.encode import build_channels
        >>> foreground_reference(build_channels(["Db", "B"])), foreground_reference(build_channels(["C"]))
        (Background(), None)
    """
    return first_of(channels, is_foreground, is_background, is_signed_distance, is_affinity, is_boundary_distance, is_centre_distance)
