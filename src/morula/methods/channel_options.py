"""Options of the method `channels`: which channels are predicted, and how each is scored while training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from morula.core.errors import OptionError
from morula.core.variants import ManyOf
from morula.losses import LOSSES
from morula.methods.class_options import Classes, ObjectClasses
from morula.methods.loss_options import OF_CLASSES, LossArguments, check_loss_options, check_losses, unknown_loss
from morula.methods.options import MethodOptions
from morula.representations import REPRESENTATIONS
from morula.representations.options import RepresentationOptions

ChannelList = Annotated[tuple[RepresentationOptions, ...], ManyOf(REPRESENTATIONS)]

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "stardist": {"channels": {"Db": {}, "R": {}}, "losses": {"Db": "bce"}},
    "embedseg": {"channels": {"E": {}}},
    "affinities": {"channels": {"A": {"reach": (1, 3, 9)}}},
    "flows": {"channels": {"F": {}, "G": {}}},
}
"""Channels and losses of published methods. The decoder follows from the channels."""


class Options(MethodOptions):
    """Channels to be predicted, and how each is scored while training."""

    kind: Literal["channels"] = "channels"
    """Name of the variant."""

    preset: Literal["stardist", "embedseg", "affinities", "flows"] | None = None
    """Channels and losses of a published method: Db and R as in StarDist, E as in EmbedSeg, A with long-range affinities, F and G as in
    Cellpose. Options that are stated too override it; channels must then have the same codes."""
    channels: ChannelList = Field(
        default=("F", "C", "Db"),  # type: ignore[arg-type]  # names become options when the default is validated
        min_length=1,
        description="Channels by code, each with its options, in the order of the network's outputs.",
    )
    heads: tuple[tuple[str, ...], ...] = ()
    """Groups of channels by code; each group has an output layer of its own. Left out: one output layer for all channels. With the
    network's `separate_decoders` each group has a decoder of its own."""
    classes: ObjectClasses | None = None
    """Classes of the objects, by number, names, or both: a further head predicts a class for each voxel, and the voxels of an object vote.
    The classes come from the second channel of the labels, or from class images (`images.train.classes`)."""
    losses: dict[str, str] = Field({})
    """Loss of a channel by its code; the default loss of the representation where left out."""
    loss_options: dict[str, LossArguments] = Field({})
    """Further arguments of losses by name, for example `{bce_dice: {squared: true, smooth: 0, shares: [1, 0.5]}}` or
    `{bce: {positive_weights: 3}}`."""
    weights: dict[str, Annotated[float, Field(ge=0)]] = Field({})
    """Weight of a channel's loss by its code; where left out 1, for R 0.25; 0 for a channel that is not learned."""
    joint_loss: bool = False
    """Whether one loss compares the channels of all representations together, instead of one loss for each. They must have the same loss
    and be probabilities; `loss_options` may then state a number for each channel."""
    rebalance: bool | None = None
    """Give the rarer class of a binary channel the same weight as the common one, batch by batch; the network then predicts
    it too large. Left out: applied to P, because a network that never predicts a centre would be right almost everywhere, and to A where
    voxels between objects are the rarer ones, as in tissue without background."""
    extrapolate: bool = True
    """Continue objects into unannotated voxels where targets beside these depend on them. Otherwise all unannotated voxels of a patch are
    one more object, whose border is a boundary. In neither case anything is scored in them."""
    thresholds: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field((0.5, 0.75, 0.9), min_length=1)
    """Intersection over union from which an object counts as found, in the scores."""

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, values: object) -> object:
        if not isinstance(values, Mapping):
            return values
        preset = values.get("preset")
        return {**PRESETS[preset], **values} if isinstance(preset, str) and preset in PRESETS else values

    @property
    def object_classes(self) -> Classes | None:
        """The classes of the options."""
        return self.classes

    @property
    def matching_thresholds(self) -> tuple[float, ...]:
        """The thresholds of the options."""
        return self.thresholds

    @field_validator("losses")
    @classmethod
    def _losses_exist(cls, value: dict[str, str]) -> dict[str, str]:
        for code, name in value.items():
            if name not in LOSSES.names and (code, name) != ("E", "embedseg"):
                raise unknown_loss(name, LOSSES.names)
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Options:
        check_loss_options(self.loss_options)
        codes = [channel.kind for channel in self.channels]
        self._check_preset(codes)
        if len(set(codes)) != len(codes):
            raise OptionError("channels.twice", "each channel can be named only once", key="channels", value=codes)
        if self.heads and sorted(code for group in self.heads for code in group) != sorted(codes):
            rule = f"each of the channels {', '.join(codes)} must be in exactly one group"
            raise OptionError("heads.channels", rule, key="heads", value=[list(group) for group in self.heads])
        for option, codes_given in (("losses", self.losses), ("weights", self.weights)):
            surplus = sorted(set(codes_given) - set(codes))
            if surplus:
                rule = f"names {', '.join(surplus)}, which is not among the channels {', '.join(codes)}"
                raise OptionError("channels.not_predicted", rule, key=option, value=surplus)
        self._check_losses()
        return self

    def _check_preset(self, codes: list[str]) -> None:
        expected = list(PRESETS[self.preset]["channels"]) if self.preset else codes
        if codes != expected:
            rule = f"must be {', '.join(expected)}, as in the preset {self.preset!r}"
            raise OptionError("channels.preset", rule, key="channels", value=codes, remedy="Leave out the preset or the channels.")

    def _check_losses(self) -> None:
        stated = {code: name for code, name in self.losses.items() if (code, name) != ("E", "embedseg")}
        if "E" in stated:
            remedy = "The weights of its parts are options of E."
            raise OptionError("loss.embedding", "the loss of E must be 'embedseg'", key="losses", value=stated["E"], remedy=remedy)
        self._check_joint_loss()
        for channel in self.channels:  # `ce` needs classes that exclude each other, which only discretised distances are
            names = [stated[channel.kind]] if channel.kind in stated else ()
            check_losses(names, without=() if channel.holds_classes else OF_CLASSES)

    def _check_joint_loss(self) -> None:
        stated = {(self.losses.get(channel.kind), self.weights.get(channel.kind, 1.0)) for channel in self.channels}
        surplus = [name for name in ("classes", "rebalance") if getattr(self, name)]
        if self.joint_loss and (surplus or len(stated) > 1 or None in next(iter(stated))):
            rule = f"cannot be combined with {surplus[0]}" if surplus else "needs the same loss and weight for each channel"
            remedy = "State them under losses and weights for each channel, or leave joint_loss out."
            raise OptionError("loss.joint", rule, key="joint_loss", value=True, remedy=remedy)
