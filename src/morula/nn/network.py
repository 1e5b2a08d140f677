"""Base class of all networks: named heads, inputs of any size, and the properties that tiling and training need."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from morula.core.errors import DataError, OptionError
from morula.nn.layers import crop_to, pad_to
from morula.nn.options import NetworkOptions


class Network(nn.Module, ABC):
    """A network that maps an image to logits per head.

    Args:
        options: options of the network.
        ndim: 2 or 3 spatial axes.
        in_channels: channels of the image.
        heads: number of channels per head, by name.

    Attributes:
        multiple: voxels (Z)YX; images are padded internally to multiples of it, and tiles must start at multiples of it.
        receptive_halo: radius of the receptive field in voxels (Z)YX (without `norm_over_space`).
        norm_over_space: whether a normalisation in evaluation mode depends on the whole tile, so that predictions depend on its size.
        of_patches: whether it computes patches of a training, rather than tiles that must fit each other.

    Raises:
        OptionError: for a number of axes other than 2 or 3, no head, or numbers of channels below 1.
    """

    kind: ClassVar[str]
    batch_inputs: ClassVar[tuple[str, ...]] = ()
    """Entries of a batch that `forward` takes by name in addition to the image."""
    multiple: tuple[int, ...]
    receptive_halo: tuple[int, ...]
    norm_over_space: bool
    of_patches: bool = False

    def __init__(self, options: NetworkOptions, *, ndim: int, in_channels: int, heads: Mapping[str, int]) -> None:
        super().__init__()
        if ndim not in (2, 3):
            raise OptionError("network.ndim", "must be 2 or 3 spatial axes", key="ndim", value=ndim)
        if in_channels < 1:
            raise OptionError("network.in_channels", "must be at least 1", key="in_channels", value=in_channels)
        if not heads or min(heads.values()) < 1:
            raise OptionError(
                "network.heads", "must be at least one head with at least one channel, for example {'F': 1}", key="heads", value=dict(heads)
            )
        for name in heads:
            # heads are entries of a ModuleDict, whose own attributes are reserved
            if not name.isidentifier() or name in dir(nn.ModuleDict()):
                rule = "must consist of letters, digits and underscores, and must not be a reserved name"
                raise OptionError("network.head_name", rule, key="heads", value=name)
        self.options = options
        self.ndim = ndim
        self.in_channels = in_channels
        self.heads = dict(heads)

    @abstractmethod
    def logits(self, x: Tensor) -> dict[str, Tensor]:
        """Logits NK(Z)YX per head for an image NC(Z)YX whose edges are multiples of `multiple`."""

    def for_prediction(self) -> Network:
        """The network without parts that only training needs; the network itself where there are none."""
        return self

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Logits NK(Z)YX per head for images NC(Z)YX of any size.

        Raises:
            DataError: when the number of axes or channels is not that of the network.
        """
        if x.ndim != self.ndim + 2 or x.shape[1] != self.in_channels:
            axes = "NCYX" if self.ndim == 2 else "NCZYX"
            raise DataError(
                "network.input_shape",
                f"the input must be {axes} with {self.in_channels} channel(s)",
                value=tuple(x.shape),
                remedy="Give images like those for which the network was built.",
            )
        shape = x.shape[2:]
        # pad at the end only: the pooling grid stays aligned with the first voxel
        padded = self.padded_shape(shape)
        outputs = self.logits(pad_to(x, padded))
        if tuple(shape) == padded:
            return outputs
        return {name: crop_to(output, shape) for name, output in outputs.items()}

    def padded_shape(self, shape: torch.Size | tuple[int, ...]) -> tuple[int, ...]:
        """Edges (Z)YX after internal padding: multiples of `multiple`, along X at least two of them.

        Normalisation statistics over a single voxel of the coarsest level would have no variance.
        """
        padded = [-(-n // m) * m for n, m in zip(shape, self.multiple, strict=True)]
        if all(n == m for n, m in zip(padded, self.multiple, strict=True)):
            padded[-1] *= 2
        return tuple(padded)
