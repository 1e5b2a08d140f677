"""Options of HRNet; importable without torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from morula.nn.options import Activation, Edge, NetworkOptions, Norm, check_lengths, per_level


class HRNetOptions(NetworkOptions):
    """HRNet (Wang et al. 2020, https://arxiv.org/abs/1908.07919) in 2D or 3D.

    Examples:
        >>> HRNetOptions(features=(18, 36, 72), modules=2, stem=(1, 2, 2)).module_counts()
        (2, 2)
        >>> HRNetOptions(stem=(1, 2, 2)).stem_size(3)
        (1, 2, 2)
    """

    kind: Literal["hrnet"] = "hrnet"
    """Name of the variant."""

    features: Annotated[tuple[PositiveInt, ...], Field(min_length=2)] = (32, 64, 128, 256)
    """Channels of each branch from the finest to the coarsest. HRNet-W18, -W32, -W48 and -W64 have 18, 32, 48 and 64 in the finest one, and
    twice as many in each coarser one."""

    modules: PositiveInt | tuple[PositiveInt, ...] = (1, 4, 3)
    """How often the branches exchange their results before the next branch begins: one number, or one for each number of branches from 2
    on."""

    blocks: PositiveInt = 4
    """Residual blocks of a branch between two exchanges."""

    stem: Edge = 2
    """Factor of each of the two strided convolutions at the start: one number, or one per axis."""

    stem_features: PositiveInt = 64
    """Channels of the strided convolutions at the start; the blocks that follow have four times as many."""

    stem_blocks: PositiveInt = 4
    """Residual blocks of the single branch at the start."""

    pools: PositiveInt | tuple[Edge, ...] = 2
    """Factor between a branch and the next: one number, or one entry per step, each a number or one number per axis."""

    norm: Norm = "batch"
    """Normalisation after each convolution. Group and instance normalisation make the result depend on the size of the tile."""

    groups: PositiveInt = 8
    """Groups of `group` normalisation; fewer where it does not divide the number of channels."""

    activation: Activation = "relu"
    """Non-linearity after each convolution and each sum."""

    as_trained: bool = False
    """As BiaPy has it, for its weights: no non-linearity after the first convolution and inside blocks, ReLU after these, and coarse
    branches interpolated from corner to corner of the tile."""

    @model_validator(mode="before")
    @classmethod
    def _usual_modules(cls, values: dict[str, object]) -> dict[str, object]:
        features = values.get("features")
        if isinstance(features, list | tuple) and "modules" not in values:
            usual = (1, 4, 3)
            values = {**values, "modules": [usual[min(i, 2)] for i in range(len(features) - 1)]}
        return values

    @model_validator(mode="after")
    def _lengths(self) -> HRNetOptions:
        steps = len(self.features) - 1
        check_lengths(len(self.features), modules=(self.modules, steps), pools=(self.pools, steps))
        return self

    @property
    def level_features(self) -> tuple[int, ...]:
        """Channels of each branch, the finest first."""
        return self.features

    def pool_sizes(self, ndim: int) -> tuple[tuple[int, ...], ...]:
        """Factors between the branches, one per axis."""
        return per_level("pools", self.pools, len(self.features) - 1, ndim)

    def stem_size(self, ndim: int) -> tuple[int, ...]:
        """Factor of each convolution at the start, one per axis."""
        return per_level("stem", (self.stem,), 1, ndim)[0]

    def module_counts(self) -> tuple[int, ...]:
        """Exchanges for each number of branches from 2 on."""
        return self.modules if isinstance(self.modules, tuple) else (self.modules,) * (len(self.features) - 1)
