"""Options of networks for image restoration; importable without torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from morula.nn.options import Activation, NetworkOptions


class EDSROptions(NetworkOptions):
    """EDSR: plain residual blocks (Lim et al. 2017, https://arxiv.org/abs/1707.02921), on the image's own grid."""

    kind: Literal["edsr"] = "edsr"
    """Name of the variant."""

    features: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=1)] = (64,)
    """Channels, one number; there is one level."""

    blocks: PositiveInt = 16
    """Residual blocks."""

    as_trained: bool = False
    """Without any non-linearity, and through a grid of half the voxel's edge, as BiaPy has it. Only for such weights; 2D."""


class RCANOptions(NetworkOptions):
    """RCAN: residual groups with channel attention (Zhang et al. 2018, https://arxiv.org/abs/1807.02758), on the image's own grid."""

    kind: Literal["rcan"] = "rcan"
    """Name of the variant."""

    features: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=1)] = (16,)
    """Channels, one number; there is one level."""

    groups: PositiveInt = 10
    """Residual groups."""

    blocks: PositiveInt = 20
    """Blocks of a group."""

    reduction: PositiveInt = 16
    """Channels per hidden unit of the attention."""

    activation: Activation = "silu"
    """Non-linearity between the two convolutions of a block, and in the attention."""

    as_trained: bool = False
    """With one convolution more before the last, as in networks trained with BiaPy up to 3.5. Only for such weights."""


class WDSROptions(NetworkOptions):
    """WDSR: wide activations and normalised weights (Yu et al. 2018, https://arxiv.org/abs/1808.08718), on the image's own grid."""

    kind: Literal["wdsr"] = "wdsr"
    """Name of the variant."""

    features: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=1)] = (32,)
    """Channels between blocks, one number; there is one level."""

    blocks: PositiveInt = 8
    """Residual blocks."""

    expansion: PositiveInt = 6
    """Channels inside a block as a multiple of those between blocks."""


class DFCANOptions(NetworkOptions):
    """DFCAN: channel attention in the Fourier domain (Qiao et al. 2021, https://doi.org/10.1038/s41592-020-01048-5).

    Works on the image's own grid.
    """

    kind: Literal["dfcan"] = "dfcan"
    """Name of the variant."""

    features: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=1)] = (64,)
    """Channels, one number; there is one level."""

    groups: PositiveInt = 4
    """Residual groups."""

    blocks: PositiveInt = 4
    """Blocks of a group."""

    as_trained: bool = False
    """Transform over Z and Y alone in 3D, as in networks trained with BiaPy. Only for such weights."""
