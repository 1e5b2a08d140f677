"""A network without its memory: names, shapes and sizes of its weights, known before anything is allocated.

Options may come from a file of somebody else, and ten digits in them can ask for more memory than any computer has. Torch builds the
network on its meta device, where tensors have a shape and no values (https://docs.pytorch.org/docs/stable/meta.html), and hooks count
while it is built, so that options that would take forever end early.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook, register_module_parameter_registration_hook

from morula.core.errors import OptionError
from morula.nn.network import Network
from morula.nn.weight_counts import MAX_MODULES, MAX_WEIGHTS


@dataclass(frozen=True)
class Blueprint:
    """Shapes of the weights and buffers of a network by name, and the network itself on torch's meta device."""

    network: Network
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def weights(self) -> int:
        """Number of weights."""
        return sum(weight.numel() for weight in self.network.parameters())


def blueprint(kind: type[Network], options: object, ndim: int, in_channels: int, heads: Mapping[str, int]) -> Blueprint:
    """The blueprint of a network.

    Raises:
        OptionError: when the network would have more than `MAX_MODULES` modules or `MAX_WEIGHTS` weights, or cannot be built.
    """
    try:
        with _counted(), torch.device("meta"):
            network = kind(options, ndim=ndim, in_channels=in_channels, heads=heads)  # type: ignore[arg-type]
    # torch rejects sizes beyond 64 bits with these, and recursive builders end in the last
    except (RuntimeError, OverflowError, MemoryError, RecursionError, TypeError) as error:
        rule = f"the network cannot be built ({(str(error).splitlines() or [type(error).__name__])[0][:120]})"
        raise OptionError("network.not_buildable", rule, key="network", remedy="Use fewer features, levels or smaller kernels.") from error
    return Blueprint(network, {name: tuple(values.shape) for name, values in network.state_dict().items()})


@contextmanager
def _counted() -> Iterator[None]:
    """Count modules and weights as they are registered, and stop at the limits."""
    modules = weights = 0

    def count_module(*_: object) -> None:
        nonlocal modules
        modules += 1
        if modules > MAX_MODULES:
            raise _too_large(f"has more than {MAX_MODULES:,} modules")

    def count_weights(_: object, name: str, weight: nn.Parameter | None) -> None:
        nonlocal weights
        weights += 0 if weight is None else weight.numel()
        if weights > MAX_WEIGHTS:
            raise _too_large(f"has more than {MAX_WEIGHTS:,} weights")

    hooks = [register_module_module_registration_hook(count_module), register_module_parameter_registration_hook(count_weights)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _too_large(rule: str) -> OptionError:
    return OptionError("network.too_large", f"the network {rule}", key="network", remedy="Use fewer features, levels or smaller kernels.")


def check_fits(plan: Blueprint, available: int) -> None:
    """Reject a network whose weights alone take more than the memory that is free.

    Raises:
        OptionError: when they do.
    """
    needed = 4 * sum(weight.numel() for weight in plan.network.parameters())
    if needed > available:
        raise _too_large(f"has {plan.weights:,} weights, which take {needed / 1e9:.1f} GB; {available / 1e9:.1f} GB are free")
