"""Options of the vision transformers; importable without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeAlias

from pydantic import Field, PositiveInt, model_validator

from morula.core.errors import OptionError
from morula.nn.options import Activation, Edge, NetworkOptions, Norm, Probability, odd_edges, per_level

Preset: TypeAlias = Literal["mini", "small", "base"]


class TransformerOptions(NetworkOptions):
    """A vision transformer (Dosovitskiy et al. 2021, https://arxiv.org/abs/2010.11929) as encoder.

    Examples:
        >>> small = TransformerOptions(preset="small", layers=6)
        >>> small.width, small.layers, small.token_size(3)
        (128, 6, (16, 16, 16))
        >>> TransformerOptions(width=100, heads=12)
        Traceback (most recent call last):
        pydantic_core._pydantic_core.ValidationError: 1 validation error for TransformerOptions
          Value error, heads = 12: must divide width (100), because every head has an equal share. Use another number of heads. ...
    """

    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        "mini": {"width": 64, "layers": 4, "heads": 4, "mlp_ratio": 4.0},
        "small": {"width": 128, "layers": 8, "heads": 8, "mlp_ratio": 4.0},
        "base": {"width": 256, "layers": 12, "heads": 8, "mlp_ratio": 3.0},
    }

    planned_preset: ClassVar[str | None] = "small"

    preset: Preset | None = None
    """Sizes by name; sizes that are given as well have priority. A job with neither preset nor sizes is planned with `small`."""

    token: Edge = 16
    """Edge of the boxes into which the image is divided (tokens), in voxels: one number, or one per axis."""

    width: PositiveInt = 768
    """Length of the vector of a token."""

    layers: PositiveInt = 12
    """Transformer blocks of the encoder."""

    heads: PositiveInt = 12
    """Attention heads of each block; divides the width."""

    mlp_ratio: float = Field(4.0, gt=0)
    """Width inside a block as a multiple of the width."""

    position: Literal["sincos", "stored"] = "sincos"
    """Encoding of the position of a token: sines and cosines, or learned values that are stored with the network."""

    grid: tuple[PositiveInt, ...] | None = None
    """Tokens per axis for which positions are stored; they are interpolated to other grids. Needed with `position: stored`."""

    @model_validator(mode="before")
    @classmethod
    def _sizes_of_the_preset(cls, values: object) -> object:
        if isinstance(values, Mapping) and values.get("preset") in cls.sizes:
            return {**cls.sizes[values["preset"]], **values}
        return values

    @model_validator(mode="after")
    def _fits(self) -> TransformerOptions:
        check_heads("heads", self.heads, "width", self.width)
        if (self.position == "stored") != (self.grid is not None):
            rule = f"must be given with position: stored (the patch divided by the token), and only then; position is {self.position!r}"
            raise OptionError("network.position_grid", rule, key="grid", value=self.grid)
        return self

    @property
    def position_grid(self) -> tuple[int, ...] | None:
        """Tokens per axis for which positions are stored; `None` where they are computed."""
        return self.grid

    def token_size(self, ndim: int) -> tuple[int, ...]:
        """Edges of a token, one per axis."""
        return per_level("token", (self.token,), 1, ndim)[0]


def check_heads(heads_name: str, heads: int, width_name: str, width: int) -> None:
    """Check that the number of heads divides the width.

    Raises:
        OptionError: when it does not.
    """
    if width % heads:
        rule = f"must divide {width_name} ({width}), because every head has an equal share"
        raise OptionError("network.attention_heads", rule, key=heads_name, value=heads, remedy="Use another number of heads.")


def _no_power_of_two(token: Edge) -> OptionError:
    rule = "must be a power of two, at least 2, because the decoder doubles the size per level"
    return OptionError("network.token", rule, key="token", value=token, remedy="Use 8 or 16.")


class UNETROptions(TransformerOptions):
    """UNETR: a vision transformer as encoder, a U-Net's decoder (Hatamizadeh et al. 2022, https://arxiv.org/abs/2103.10504).

    The presets are those of BiaPy, with 8 heads in `base` because 12 do not divide its width.

    Examples:
        >>> UNETROptions(token=12)
        Traceback (most recent call last):
        pydantic_core._pydantic_core.ValidationError: 1 validation error for UNETROptions
          Value error, token = 12: must be a power of two, at least 2, because the decoder doubles the size per level. Use 8 or 16. ...
        >>> UNETROptions(preset="mini").taken_after()
        (1, 2, 3)
    """

    kind: Literal["unetr"] = "unetr"
    """Name of the variant."""

    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        name: {**values, "every": every} for (name, values), every in zip(TransformerOptions.sizes.items(), (1, 2, 3), strict=True)
    }

    features: PositiveInt = 16
    """Channels of the decoder's finest level; each coarser one has twice as many."""

    every: PositiveInt | None = None
    """Distance in blocks between those whose results the decoder uses; evenly distributed when left out."""

    kernel: PositiveInt = 3
    """Edge of the decoder's kernels in voxels, odd."""

    norm: Norm = "batch"
    """Normalisation after each convolution of the decoder."""

    groups: PositiveInt = 8
    """Groups of `group` normalisation; fewer where it does not divide the number of channels."""

    activation: Activation = "relu"
    """Non-linearity after each convolution of the decoder."""

    dropout: Probability = 0.0
    """Share of the channels that are dropped in training after each block of the decoder."""

    as_trained: bool = False
    """Epsilon of the layer normalisations is 1e-5, as in networks trained with BiaPy. Only for such weights."""

    @model_validator(mode="after")
    def _decodable(self) -> UNETROptions:
        odd_edges(self.kernel)
        for edge in (self.token,) if isinstance(self.token, int) else self.token:
            if edge < 1 or edge & (edge - 1):
                raise _no_power_of_two(edge)
        if self.levels < 1:
            raise _no_power_of_two(self.token)
        taken = self.taken_after()
        if taken and taken[-1] > self.layers:
            most = self.layers // len(taken)
            remedy = f"Use every: {most} or less" if most else f"Give at least {len(taken)} layers, or a smaller token"
            rule = f"must be at least {taken[-1]}: the decoder uses the results of the blocks {', '.join(map(str, taken))}"
            raise OptionError("network.layers", rule, key="layers", value=self.layers, remedy=f"{remedy}.")
        return self

    @property
    def levels(self) -> int:
        """Number of doublings from tokens to voxels."""
        return max((self.token,) if isinstance(self.token, int) else self.token).bit_length() - 1

    def taken_after(self) -> tuple[int, ...]:
        """Numbers, from 1, of the blocks whose results the decoder uses in addition to the last one, for the finest level first."""
        every = self.every or max(1, self.layers // self.levels)
        return tuple(every * i for i in range(1, self.levels))


class MAEOptions(TransformerOptions):
    """Masked autoencoder: a vision transformer and a light decoder (He et al. 2022, https://arxiv.org/abs/2111.06377)."""

    kind: Literal["mae"] = "mae"
    """Name of the variant."""

    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        name: {**values, "decoder_width": width, "decoder_layers": layers, "decoder_heads": heads}
        for (name, values), (width, layers, heads) in zip(
            TransformerOptions.sizes.items(), ((64, 2, 4), (96, 4, 6), (128, 4, 8)), strict=True
        )
    }

    decoder_width: PositiveInt = 512
    """Length of the vector of a token in the decoder."""

    decoder_layers: PositiveInt = 8
    """Transformer blocks of the decoder."""

    decoder_heads: PositiveInt = 16
    """Attention heads of each block of the decoder; divides its width."""

    decoder_mlp_ratio: float = Field(4.0, gt=0)
    """Width inside a block of the decoder as a multiple of its width."""

    @model_validator(mode="after")
    def _decoder_fits(self) -> MAEOptions:
        check_heads("decoder_heads", self.decoder_heads, "decoder_width", self.decoder_width)
        return self
