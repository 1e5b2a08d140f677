"""Options of variants of the U-Net; importable without torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from morula.core.errors import OptionError
from morula.nn.options import (
    Activation,
    Edge,
    Features,
    LevelOptions,
    Norm,
    Probability,
    UNetOptions,
    check_lengths,
    per_level,
)


class ClassicUNetOptions(UNetOptions):
    """U-Net with biases and normalised upsampling, as in BiaPy (Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597)."""

    kind: Literal["classic_unet"] = "classic_unet"  # type: ignore[assignment]
    """Name of the variant."""

    features: Features = (16, 32, 64, 128, 256)
    """Channels of each level from the finest to the coarsest, which is the bottleneck. Their number is the number of levels."""


class AttentionUNetOptions(ClassicUNetOptions):
    """U-Net whose skips pass attention gates (Oktay et al. 2018, https://arxiv.org/abs/1804.03999)."""

    kind: Literal["attention_unet"] = "attention_unet"  # type: ignore[assignment]
    """Name of the variant."""

    as_trained: bool = False
    """Do not normalise the encoder's side of the gates, as in networks that BiaPy trained. Only for such weights."""


class SEUNetOptions(ClassicUNetOptions):
    """U-Net with squeeze and excitation of the channels (Hu et al. 2018, https://arxiv.org/abs/1709.01507)."""

    kind: Literal["seunet"] = "seunet"  # type: ignore[assignment]
    """Name of the variant."""


class PreactivationUNetOptions(UNetOptions):
    """Residual U-Net of pre-activation blocks, as in BiaPy (Zhang et al. 2018, https://arxiv.org/abs/1711.10684)."""

    kind: Literal["preactivation_unet"] = "preactivation_unet"  # type: ignore[assignment]
    """Name of the variant."""

    features: Features = (16, 32, 64, 128, 256)
    """Channels of each level from the finest to the coarsest, which is the bottleneck. Their number is the number of levels."""

    convolutions: PositiveInt = 1
    """Residual blocks of two convolutions per level of the encoder."""

    decoder_convolutions: PositiveInt = 1
    """Residual blocks of two convolutions per level of the decoder."""

    block_convolutions: Annotated[int, Field(ge=2)] = 2
    """Convolutions of a residual block, between its input and the sum with its shortcut."""

    normalise_input: bool = False
    """Normalise and activate the image, too, before the first convolution: its absolute intensities are then lost."""


class ResUNetSEOptions(PreactivationUNetOptions):
    """Residual U-Net with squeeze and excitation of each block (Hu et al. 2018, https://arxiv.org/abs/1709.01507)."""

    kind: Literal["resunet_se"] = "resunet_se"  # type: ignore[assignment]
    """Name of the variant."""

    convolutions: PositiveInt = 1
    """Residual blocks of three convolutions per level of the encoder."""

    decoder_convolutions: PositiveInt = 1
    """Residual blocks of three convolutions per level of the decoder."""

    normalise_input: Literal[False] = False
    """The image is not normalised."""

    as_trained: bool = False
    """Leave the excitation out, as networks that BiaPy trained up to 3.6.5. Only for such weights."""


class ResUNetPlusOptions(LevelOptions):
    """ResUNet++ (Jha et al. 2019, https://arxiv.org/abs/1911.07067). The last of the features is the width of the bridge.

    Examples:
        >>> ResUNetPlusOptions(features=(8, 16))
        Traceback (most recent call last):
        pydantic_core._pydantic_core.ValidationError: 1 validation error for ResUNetPlusOptions
        features
          Tuple should have at least 3 items after validation, not 2 ...
    """

    kind: Literal["resunetpp"] = "resunetpp"
    """Name of the variant."""

    features: Annotated[tuple[PositiveInt, ...], Field(min_length=3)] = (16, 32, 64, 128, 256)
    """Channels of each level from the finest to the coarsest; the last is that of the bridge, which is on the grid of the one before."""

    pools: PositiveInt | tuple[Edge, ...] = 2
    """Factor between a level and the next (none to the bridge): one number, or one entry per step."""

    norm: Norm = "batch"
    """Normalisation around the convolutions."""

    groups: PositiveInt = 8
    """Groups of `group` normalisation; fewer where it does not divide the number of channels."""

    activation: Activation = "relu"
    """Non-linearity of the residual blocks."""

    dropout: Probability = 0.0
    """Share of the channels that are dropped in training at the end of each level."""

    rates: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (6, 12, 18)
    """Dilations, in voxels, of the pyramids of the bridge and of the output."""

    @model_validator(mode="after")
    def _lengths(self) -> ResUNetPlusOptions:
        check_lengths(self.levels, kernels=(self.kernels, self.levels), pools=(self.pools, self.levels - 2))
        return self

    def pool_sizes(self, ndim: int) -> tuple[tuple[int, ...], ...]:
        """Factors of each step down, one per axis."""
        return per_level("pools", self.pools, self.levels - 2, ndim)


class MultiResUNetOptions(LevelOptions):
    """MultiResUNet (Ibtehaz and Rahman 2020, https://arxiv.org/abs/1902.04049)."""

    kind: Literal["multiresunet"] = "multiresunet"
    """Name of the variant."""

    features: Features = (32, 64, 128, 256, 512)
    """Width of each level from the finest to the coarsest; three convolutions share `scale` times as many channels."""

    scale: float = Field(1.67, gt=0)
    """Channels of a block as a multiple of the level's width."""

    norm: Norm = "batch"
    """Normalisation after each convolution."""

    groups: PositiveInt = 8
    """Groups of `group` normalisation; fewer where it does not divide the number of channels."""

    activation: Activation = "relu"
    """Non-linearity after each convolution."""

    @model_validator(mode="after")
    def _some_of_each(self) -> MultiResUNetOptions:
        if int(min(self.features) * self.scale * 0.167) < 1:
            rule = f"{min(self.features)} features times scale {self.scale:g} leave no channel for the first convolution of a block"
            raise OptionError("network.features", rule, key="features", value=self.features, remedy="Use at least 6 / scale features.")
        return self


class UNeXtOptions(LevelOptions):
    """U-Net of ConvNeXt blocks (Liu et al. 2022, https://arxiv.org/abs/2201.03545)."""

    kernels: PositiveInt | tuple[Edge, ...] = 7
    """Edge of the depthwise kernels in voxels, odd: one number, or one entry per level, each a number or one number per axis."""

    blocks: PositiveInt = 2
    """Blocks at each level, down and up."""

    stem: Edge = 2
    """Factor by which the image is reduced before the first level: one number, or one per axis."""

    upsample_linear: bool = False
    """Bring levels up by linear interpolation and a 1-voxel convolution instead of a transposed convolution."""

    drop_blocks: Probability = 0.1
    """Share of the samples for which the last block before the way up is skipped in training; earlier blocks less, in even steps."""

    def stem_size(self, ndim: int) -> tuple[int, ...]:
        """Factor of the stem, one per axis."""
        return per_level("stem", (self.stem,), 1, ndim)[0]


class UNeXtV1Options(UNeXtOptions):
    """U-Net of ConvNeXt blocks (Liu et al. 2022, https://arxiv.org/abs/2201.03545)."""

    kind: Literal["unext_v1"] = "unext_v1"
    """Name of the variant."""

    layer_scale: float = Field(1e-6, gt=0)
    """Initial factor of each residual block; learned."""


class UNeXtV2Options(UNeXtOptions):
    """U-Net of ConvNeXt V2 blocks with response normalisation (Woo et al. 2023, https://arxiv.org/abs/2301.00808)."""

    kind: Literal["unext_v2"] = "unext_v2"
    """Name of the variant."""

    as_trained: bool = False
    """Normalise responses over Z and Y alone in 3D, as in networks that BiaPy trained. Only for such weights."""


class ResidualEncoderUNetOptions(LevelOptions):
    """Residual-encoder U-Net in the manner of nnU-Net (Isensee et al. 2024, https://arxiv.org/abs/2404.09556)."""

    kind: Literal["residual_encoder_unet"] = "residual_encoder_unet"
    """Name of the variant."""

    features: Features = (32, 64, 128, 256, 320)
    """Channels of each level from the finest to the coarsest."""

    blocks: PositiveInt | tuple[PositiveInt, ...] = (1, 3, 4, 6, 6)
    """Residual blocks per level of the encoder: one number, or one per level."""

    decoder_convolutions: PositiveInt = 1
    """Convolutions per level of the decoder."""

    norm: Norm = "instance"
    """Normalisation after each convolution. Group and instance normalisation make the result depend on the size of the tile."""

    groups: PositiveInt = 8
    """Groups of `group` normalisation; fewer where it does not divide the number of channels."""

    activation: Activation = "leaky_relu"
    """Non-linearity after each convolution."""

    drop_blocks: Probability = 0.0
    """Share of the samples for which a residual block is skipped in training."""

    @model_validator(mode="before")
    @classmethod
    def _as_many_blocks(cls, values: dict[str, object]) -> dict[str, object]:
        features = values.get("features")
        if isinstance(features, list | tuple) and "blocks" not in values:
            usual = (1, 3, 4, 6, 6, 6, 6, 6)
            values = {**values, "blocks": [usual[min(i, 7)] for i in range(len(features))]}
        return values

    @model_validator(mode="after")
    def _block_count(self) -> ResidualEncoderUNetOptions:
        check_lengths(self.levels, blocks=(self.blocks, self.levels))
        return self

    def block_counts(self) -> tuple[int, ...]:
        """Residual blocks of each level."""
        return self.blocks if isinstance(self.blocks, tuple) else (self.blocks,) * self.levels
