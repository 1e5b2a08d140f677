"""Exponential moving average (EMA) of a network's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

_Tensors: TypeAlias = tuple[Tensor, ...] | list[Tensor]


class MovingAverage(AveragedModel):
    """EMA of the weights over about the last ``1 / (1 - decay)`` steps (Polyak averaging), on torch's `AveragedModel`.

    The decay of step n is ``min(decay, (1 + n) / (10 + n))``: short at first, so that the initial weights are forgotten. Buffers
    (running statistics of normalisations) are copied from the network, not averaged.

    Args:
        network: the network whose weights are averaged; it is copied.
        decay: final decay per step, between 0 and 1, for example 0.999.

    Examples:
        >>> network = nn.Linear(1, 1, bias=False)
        >>> with torch.no_grad(): _ = network.weight.fill_(0.0)
        >>> average = MovingAverage(network, 0.5)
        >>> with torch.no_grad(): _ = network.weight.fill_(11.0)
        >>> average.update(network)  # the first step has the decay 2 / 11
        >>> round(average.module.weight.item(), 5)
        9.0
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        def blend(averaged: _Tensors, current: _Tensors, updates: Tensor | int) -> None:
            step = int(updates)
            get_ema_multi_avg_fn(min(decay, (1 + step) / (10 + step)))(averaged, current, updates)

        super().__init__(network, multi_avg_fn=blend)
        # torch replaces the average by the weights in its first update; the initial weights are the first value already
        self.n_averaged.fill_(1)

    def update(self, network: nn.Module) -> None:
        """Add the weights after a step of the optimiser."""
        self.update_parameters(network)

    @contextmanager
    def swapped_in(self, network: nn.Module) -> Iterator[None]:
        """Inside the context the network has the averaged weights; afterwards its own."""
        own = {name: value.detach().clone() for name, value in network.state_dict().items()}
        network.load_state_dict(self.module.state_dict())
        try:
            yield
        finally:
            network.load_state_dict(own)

    def restore(self, state: Mapping[str, Tensor | int | Mapping[str, Tensor]]) -> None:
        """Continue from a stored `state_dict`, also one of the form that was stored before version 1.1 ("steps", "values")."""
        if isinstance(values := state.get("values"), Mapping):
            state = {"n_averaged": torch.as_tensor(state["steps"]) + 1, **{f"module.{name}": value for name, value in values.items()}}
        self.load_state_dict(dict(state))
