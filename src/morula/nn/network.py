"""What every network of the family has in common: named heads, any input size, and what it says about itself."""

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
    """A network from an image to logits, head by head.

    Args:
        options: its options.
        ndim: 2 or 3 spatial axes.
        in_channels: channels of the image.
        heads: channels of each head by its name.

    Attributes:
        multiple: voxels, (Z)YX; inside, images are padded to multiples of it, and tiles must start at multiples of it.
        receptive_halo: voxels, (Z)YX, beyond which nothing to either side can change an output voxel (`norm_over_space` aside).
        norm_over_space: whether a normalisation looks at all of the tile in prediction, so that the result depends on its size.

    Raises:
        OptionError: for a number of axes other than 2 or 3, no head, or channel numbers below 1.
    """

    kind: ClassVar[str]
    batch_inputs: ClassVar[tuple[str, ...]] = ()
    """Entries of a batch that `forward` takes by name beside the image."""
    multiple: tuple[int, ...]
    receptive_halo: tuple[int, ...]
    norm_over_space: bool

    def __init__(self, options: NetworkOptions, *, ndim: int, in_channels: int, heads: Mapping[str, int]) -> None:
        super().__init__()
        if ndim not in (2, 3):
            raise OptionError(f"ndim is {ndim}; networks are built for 2 or 3 spatial axes.")
        if in_channels < 1:
            raise OptionError(f"in_channels is {in_channels}; an image has at least one channel.")
        if not heads or min(heads.values()) < 1:
            raise OptionError(f"heads are {dict(heads)!r}; at least one is needed, each with at least one channel, for example {{'F': 1}}.")
        for name in heads:
            if not name.isidentifier() or hasattr(nn.ModuleDict(), name):
                raise OptionError(f"a head cannot be called {name!r}; use letters, digits and underscores, and no reserved name.")
        self.options = options
        self.ndim = ndim
        self.in_channels = in_channels
        self.heads = dict(heads)

    @abstractmethod
    def logits(self, x: Tensor) -> dict[str, Tensor]:
        """Logits of each head for an image whose edges are multiples of `multiple`."""

    def for_prediction(self) -> Network:
        """The network without the parts that only training needs; itself where there are none."""
        return self

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Logits of each head, NK(Z)YX, for images NC(Z)YX of any size.

        Raises:
            DataError: when the number of axes or channels is not the network's.
        """
        if x.ndim != self.ndim + 2 or x.shape[1] != self.in_channels:
            axes = "NCYX" if self.ndim == 2 else "NCZYX"
            raise DataError(
                f"the network takes {axes} with {self.in_channels} channel(s) but was given the shape {tuple(x.shape)}. "
                "Give it images like those that it was built for."
            )
        shape = x.shape[2:]
        padded = self.padded_shape(shape)
        outputs = self.logits(pad_to(x, padded))
        if tuple(shape) == padded:
            return outputs
        return {name: crop_to(output, shape) for name, output in outputs.items()}

    def padded_shape(self, shape: torch.Size | tuple[int, ...]) -> tuple[int, ...]:
        """(Z)YX edges in which the network computes: multiples of `multiple`, two of them along X at least.

        Statistics over a single voxel of the coarsest level would have no variance.
        """
        padded = [-(-n // m) * m for n, m in zip(shape, self.multiple, strict=True)]
        if all(n == m for n, m in zip(padded, self.multiple, strict=True)):
            padded[-1] *= 2
        return tuple(padded)
