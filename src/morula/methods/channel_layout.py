"""Which outputs of the network and which predicted channels belong to which representation."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from morula.methods.channel_options import Options
from morula.methods.configured import Configured
from morula.representations import REPRESENTATIONS
from morula.representations.base import Representation
from morula.representations.options import RepresentationOptions


class ChannelLayout(Configured):
    """The representations of the options, in their order.

    The network has one output layer (head) or several; each carries the outputs of some representations. A representation has one physical
    channel or several; usually an output of the network becomes a channel through an activation::

        head        channels               head = all representations unless the options group them
        outputs     F | C | Db             discretised distances have 11 outputs for one channel
        channels    F | C | Db | class 1   predicted channels, then the classes of objects
    """

    options: Options

    @cached_property
    def representations(self) -> list[Representation[RepresentationOptions]]:
        """One object per channel, in order."""
        return [REPRESENTATIONS.load(channel.kind)(channel) for channel in self.options.channels]

    @cached_property
    def codes(self) -> list[str]:
        """Codes of the channels, in order."""
        return [representation.code for representation in self.representations]

    @cached_property
    def _spans(self) -> list[slice]:
        """Physical channels of each representation."""
        # the position of a channel in the prediction follows from the widths of those before it
        ends = np.cumsum([representation.width(self.ndim) for representation in self.representations])
        return [slice(int(end) - representation.width(self.ndim), int(end)) for end, representation in zip(ends, self.representations)]

    @cached_property
    def _outputs(self) -> list[int]:
        """Number of the network's outputs for each representation."""
        return [representation.outputs(self.ndim) for representation in self.representations]

    @cached_property
    def _groups(self) -> dict[str, list[int]]:
        """Numbers of the representations in each head, in the head's order."""
        if not self.options.heads:
            return {"channels": list(range(len(self.codes)))}
        return {"_".join(group): [self.codes.index(code) for code in group] for group in self.options.heads}

    @cached_property
    def _units(self) -> dict[str, float]:
        """Value of the channel for a network output of 1, by code."""
        return {representation.code: representation.unit(self.spacing) for representation in self.representations}

    @property
    def _width(self) -> int:
        """Number of physical channels, classes aside."""
        return self._spans[-1].stop

    @cached_property
    def channels(self) -> tuple[str, ...]:
        """Codes, numbered where a representation has several channels; then the classes of objects."""
        # a code alone names a channel where it is unique, so that job files and tables need no numbers
        own = tuple(
            code if span.stop - span.start == 1 else f"{code}{i}"
            for code, span in zip(self.codes, self._spans)
            for i in range(span.stop - span.start)
        )
        return own if self.options.classes is None else (*own, *self.options.classes.titles)
