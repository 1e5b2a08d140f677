"""Options of the networks; importable without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BeforeValidator, ConfigDict, Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from morula.core.errors import OptionError
from morula.core.variants import VariantOptions

Norm: TypeAlias = Literal["batch", "group", "instance", "none"]
Activation: TypeAlias = Literal["relu", "leaky_relu", "elu", "gelu", "silu"]
Upsampling: TypeAlias = Literal["transpose", "linear", "nearest"]
Probability: TypeAlias = Annotated[float, Field(ge=0, lt=1)]
Edge: TypeAlias = PositiveInt | tuple[PositiveInt, ...]
Features: TypeAlias = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
Block: TypeAlias = Literal["double", "residual", "residual_se"]
Resizing: TypeAlias = Literal["nearest", "linear", "area", "transpose", "stretch"]


AUTO = "auto"
"""The start of a network that is chosen by a trial."""


def _none(value: object) -> object:
    """The word for random weights."""
    return None if value == "none" else value


class NetworkOptions(VariantOptions):
    """Options of every network."""

    model_config = ConfigDict(populate_by_name=True)

    from_: Annotated[str | None, BeforeValidator(_none, json_schema_input_type=str | None)] = Field(
        default=None,
        alias="from",
        description="Weights to start from: a bundled model by its name (`morula models`), a run folder, `stage 1` of the same job file, "
        "or a checkpoint of BiaPy or (`wnet`) CellSeg3D. `auto`: the bundled model that fits, if it is better on the validation images "
        "after 40 steps than random weights; `none`, or left out: random weights. If features are left out, the network has those of the "
        "weights.",
    )

    any_patch: ClassVar[bool] = False
    """Whether the network is trained on patches whose edges are no multiples of the product of its poolings."""

    planned_preset: ClassVar[str | None] = None
    """Preset that is planned for a job that states neither preset nor sizes; `None` for networks without presets."""

    @property
    def level_features(self) -> tuple[int, ...] | None:
        """Channels of each resolution level, the finest first; `None` for networks that work on a single resolution."""
        return None

    @property
    def position_grid(self) -> tuple[int, ...] | None:
        """Tokens per axis for which the network stores positions; `None` where it stores none."""
        return None

    def pool_sizes(self, ndim: int) -> tuple[tuple[int, ...], ...]:
        """Pooling factors of each step down, one per axis; empty for networks without resolution levels."""
        return ()


class LevelOptions(NetworkOptions):
    """Options of networks with resolution levels: channels, kernels and poolings per level."""

    features: Features = (16, 32, 64, 128, 256)
    """Channels of each level from the finest to the coarsest."""

    kernels: PositiveInt | tuple[Edge, ...] = 3
    """Edge of the convolution kernels in voxels, odd: one number, or one entry per level, each a number or one number per axis."""

    pools: PositiveInt | tuple[Edge, ...] = 2
    """Factor between a level and the next: one number, or one entry per step, each a number or one number per axis."""

    @field_validator("kernels")
    @classmethod
    def _odd(cls, kernels: int | tuple[Edge, ...]) -> int | tuple[Edge, ...]:
        return odd_edges(kernels)

    @model_validator(mode="after")
    def _lengths(self) -> LevelOptions:
        check_lengths(self.levels, kernels=(self.kernels, self.levels), pools=(self.pools, self.levels - 1))
        return self

    @property
    def level_features(self) -> tuple[int, ...]:
        """Channels of each level, the finest first."""
        return self.features

    @property
    def levels(self) -> int:
        """Number of levels."""
        return len(self.features)

    def kernel_sizes(self, ndim: int) -> tuple[tuple[int, ...], ...]:
        """Kernel edges per level, one per axis."""
        return per_level("kernels", self.kernels, self.levels, ndim)

    def pool_sizes(self, ndim: int) -> tuple[tuple[int, ...], ...]:
        """Factors of each step down, one per axis."""
        return per_level("pools", self.pools, self.levels - 1, ndim)


class UNetOptions(LevelOptions):
    """U-Net (Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597) in 2D or 3D.

    Examples:
        >>> UNetOptions(features=(16, 32, 64), kernels=(3, (1, 3, 3), 3)).kernel_sizes(3)
        ((3, 3, 3), (1, 3, 3), (3, 3, 3))
        >>> UNetOptions(pools=((1, 2, 2), 2, 2)).pool_sizes(3)
        ((1, 2, 2), (2, 2, 2), (2, 2, 2))
    """

    kind: Literal["unet"] = "unet"
    """Name of the variant."""

    features: Features = (32, 64, 128, 256)
    """Channels of each level from the finest to the coarsest, which is the bottleneck. Their number is the number of levels."""

    convolutions: PositiveInt = 2
    """Convolutions per level of the encoder."""

    decoder_convolutions: PositiveInt = 2
    """Convolutions per level of the decoder."""

    norm: Norm = "batch"
    """Normalisation after each convolution. Group and instance normalisation make the result depend on the size of the tile."""

    groups: PositiveInt = 8
    """Groups of `group` normalisation; fewer where it does not divide the number of channels."""

    activation: Activation = "relu"
    """Non-linearity after each convolution."""

    dropout: Probability | tuple[Probability, ...] = 0.0
    """Share of the channels that are dropped in training at the end of each level: one number, or one per level."""

    upsample: Upsampling = "transpose"
    """Upsampling to the next finer level: transposed convolution, or interpolation after a 1-voxel convolution."""

    separate_decoders: bool = False
    """Give each head a decoder of its own; they share the encoder."""

    head_features: NonNegativeInt = 0
    """Channels of a further convolution in each head, before its output; 0 for none. A job is planned with 64 where a head has more outputs
    than the finest level has channels: what the many rays of a star share is too little to tell them apart. StarDist has 128 there."""

    @model_validator(mode="after")
    def _lengths(self) -> UNetOptions:
        check_lengths(
            self.levels, kernels=(self.kernels, self.levels), pools=(self.pools, self.levels - 1), dropout=(self.dropout, self.levels)
        )
        return self

    def dropouts(self) -> tuple[float, ...]:
        """Dropout of each level."""
        return self.dropout if isinstance(self.dropout, tuple) else (self.dropout,) * self.levels


class ResidualUNetOptions(UNetOptions):
    """U-Net of residual blocks (He et al. 2016, https://arxiv.org/abs/1603.05027): two convolutions and their input added."""

    kind: Literal["resunet"] = "resunet"  # type: ignore[assignment]
    """Name of the variant."""

    convolutions: PositiveInt = 1
    """Residual blocks of two convolutions per level of the encoder."""

    decoder_convolutions: PositiveInt = 1
    """Residual blocks of two convolutions per level of the decoder."""


class OrderedUNetOptions(LevelOptions):
    """U-Net with layers in any order, with the channels and skip connections of pytorch-3dunet (https://doi.org/10.7554/eLife.57613).

    Examples:
        >>> OrderedUNetOptions(features=(16, 32), order="cbl").layers()
        ('c', 'b', 'l')
        >>> OrderedUNetOptions(order="rc")
        Traceback (most recent call last):
        pydantic_core._pydantic_core.ValidationError: 1 validation error for OrderedUNetOptions
        order
          Value error, order = 'rc': must not begin with a non-linearity, which would change the image itself. Put g, b or c first. ...
    """

    any_patch: ClassVar[bool] = True

    kind: Literal["ordered_unet"] = "ordered_unet"
    """Name of the variant."""

    features: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (32, 64, 128, 256)
    """Channels of each level from the finest to the coarsest, which is the bottleneck. Their number is the number of levels."""

    block: Block = "double"
    """Block of a level: two convolutions, a residual block, or a residual block with squeeze and excitation of channels and voxels."""

    order: str = "gcr"
    """Layers of a convolution block: c convolution, g group and b batch norm, r ReLU, l leaky ReLU, e ELU, d dropout, D channel dropout."""

    groups: PositiveInt = 8
    """Groups of the layer g; one group where there are fewer channels, fewer groups where it does not divide the channels."""

    dropout: Probability | tuple[Probability, Probability] = 0.1
    """Share that the layers d and D drop in training: one number, or one for each of the two convolutions of a block."""

    widen: Literal["first", "second"] = "second"
    """Which convolution of a double block of the encoder increases the channels; with `second` the first has half of them."""

    upsample: Resizing = "nearest"
    """Upsampling to the next finer level: interpolation; transposed convolution; or `stretch`, a transposed convolution without bias
    whose result is one voxel too short and is interpolated to the size."""

    join: Literal["concatenate", "add"] = "concatenate"
    """How the encoder level and the upsampled level are joined; adding needs a transposed convolution."""

    @field_validator("order")
    @classmethod
    def _order(cls, order: str) -> str:
        unknown = sorted(set(order) - set("cgbrledD"))
        if unknown:
            raise OptionError(
                "network.order", f"contains {', '.join(unknown)}; layers are c, g, b, r, l, e, d and D", key="order", value=order
            )
        if "c" not in order:
            raise OptionError("network.order", "must contain a convolution", key="order", value=order, remedy="Add a c, for example 'gcr'.")
        if order[0] in "rle":
            rule = "must not begin with a non-linearity, which would change the image itself"
            raise OptionError("network.order", rule, key="order", value=order, remedy="Put g, b or c first.")
        return order

    @model_validator(mode="after")
    def _fitting(self) -> OrderedUNetOptions:
        transposed = self.upsample in ("transpose", "stretch")
        if self.join == "add" and not transposed:
            rule = f"needs equal channels, which upsample {self.upsample!r} does not give"
            raise OptionError("network.join", rule, key="join", value=self.join, remedy="Use upsample: transpose or stretch.")
        if transposed and max(_flat(self.pools)) > 2:
            rule = f"supports poolings by 1 or 2, not by {max(_flat(self.pools))}"
            raise OptionError("network.upsample", rule, key="upsample", value=self.upsample, remedy="Use nearest or linear.")
        return self

    def layers(self) -> tuple[str, ...]:
        """Layers of the order; of repeated ones only the first is used."""
        return tuple(dict.fromkeys(self.order))


WNET_PRESETS: Mapping[str, Mapping[str, Any]] = {
    "original": {"features": (64, 128, 256, 512), "dropout": 0.65, "norm": "group", "groups": 4, "separable": False},
    "light": {"features": (16, 32, 64), "dropout": 0.0, "norm": "batch", "groups": 4, "separable": True},
}
"""Options of `wnet` per preset: those of WNet3D, and smaller ones for a laptop."""


class WNetOptions(LevelOptions):
    """W-Net (Xia and Kulis 2017, https://arxiv.org/abs/1711.08506), as WNet3D has it (Achard et al. 2024, https://doi.org/10.7554/eLife.99848).

    Examples:
        >>> WNetOptions().features, WNetOptions(preset="light", groups=8).features
        ((64, 128, 256, 512), (16, 32, 64))
    """

    kind: Literal["wnet"] = "wnet"
    """Name of the variant."""

    planned_preset: ClassVar[str | None] = "light"

    preset: Literal["original", "light"] | None = None
    """Values for options that are left out: `original` (the defaults below) or `light`. A job with neither preset nor features is planned
    with `light`."""

    features: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (64, 128, 256, 512)
    """Channels of each level of both U-Nets, from the finest to the coarsest."""

    dropout: Probability = 0.65
    """Share of the values that are dropped in training after each convolution."""

    norm: Norm = "group"
    """Normalisation, after activation and dropout. Group and instance normalisation make the result depend on the size of the tile."""

    groups: PositiveInt = 4
    """Groups of `group` normalisation; fewer where it does not divide the number of channels."""

    separable: bool = False
    """Depthwise-separable convolutions below the finest level (Xia and Kulis 2017), for a fraction of the weights and the time."""

    checkpoint: bool = False
    """Compute each level again for the gradient instead of storing it: about half the memory for a third more time."""

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, values: object) -> object:
        if not isinstance(values, Mapping):
            return values
        preset = values.get("preset")
        return {**WNET_PRESETS[preset], **values} if isinstance(preset, str) and preset in WNET_PRESETS else values


def odd_edges(kernels: int | tuple[Edge, ...]) -> int | tuple[Edge, ...]:
    """The kernel edges, all odd.

    Raises:
        OptionError: for an even edge.
    """
    for edge in _flat(kernels):
        if edge % 2 == 0:
            remedy = f"Use {edge - 1} or {edge + 1}."
            raise OptionError("network.even_kernel", "kernel edges must be odd to keep the grid", key="kernels", value=edge, remedy=remedy)
    return kernels


def check_lengths(levels: int, **entries: tuple[object, int]) -> None:
    """Check ``name=(value, required number of entries)`` for a network with this number of levels.

    Raises:
        OptionError: for the first one with another number of entries.
    """
    for name, (value, expected) in entries.items():
        if isinstance(value, tuple) and len(value) != expected:
            rule = f"must have {expected} entries for {levels} features, not {len(value)}"
            raise OptionError("network.entries", rule, key=name, value=value, remedy=f"Give {expected} entries or one number.")


def _flat(value: int | tuple[Edge, ...]) -> list[int]:
    if isinstance(value, int):
        return [value]
    return [edge for entry in value for edge in (entry if isinstance(entry, tuple) else (entry,))]


def per_level(name: str, value: int | tuple[Edge, ...], levels: int, ndim: int) -> tuple[tuple[int, ...], ...]:
    """Sizes per level, one number per axis.

    Raises:
        OptionError: for an entry with another number of axes.
    """
    # one number stands for all levels, and within an entry for all axes
    entries = value if isinstance(value, tuple) else (value,) * levels
    sizes = tuple(entry if isinstance(entry, tuple) else (entry,) * ndim for entry in entries)
    for size in sizes:
        if len(size) != ndim:
            raise OptionError("network.axes", f"must have one number per axis ({ndim})", key=name, value=size)
    return sizes
