"""Build networks from names or options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import psutil
import torch
from torch import nn

from morula.core.errors import OptionError
from morula.core.options import Options
from morula.nn import NETWORKS
from morula.nn.blueprint import Blueprint, blueprint, check_fits
from morula.nn.network import Network

Module = TypeVar("Module", bound=nn.Module)


def plan_network(options: Mapping[str, object], ndim: int, in_channels: int, heads: Mapping[str, int]) -> Blueprint:
    """The blueprint of a network: what it will need, before it is built. Arguments and errors as of `build_network`.

    Examples:
        >>> plan_network({"kind": "unet", "features": [4, 8]}, 2, 1, {"F": 1}).weights
        1677
    """
    settings = dict(options)
    kind = str(settings.pop("kind", "unet"))
    return blueprint(NETWORKS.load(kind), NETWORKS.options(kind).model_validate(settings), ndim, in_channels, heads)


def build_network(options: str | Options | Mapping[str, object], ndim: int, in_channels: int, heads: Mapping[str, int]) -> Network:
    """A network with new weights, drawn from the global generator of torch.

    Args:
        options: name of a network, its options, or a mapping of options with the name under ``kind``.
        ndim: 2 or 3 spatial axes.
        in_channels: channels of the image.
        heads: number of channels per head, by name.

    Raises:
        UnknownNameError: for an unknown network.
        OptionError: for options of no network, axes, channels or heads that are not supported, or a network that does not fit into
            the memory.
        pydantic.ValidationError: for invalid values in a mapping.

    Examples:
        >>> network = build_network({"kind": "unet", "features": [4, 8]}, 2, 1, {"F": 1})
        >>> network.multiple
        (2, 2)
    """
    if isinstance(options, str):
        options = {"kind": options}
    if isinstance(options, Mapping):
        settings = dict(options)
        kind = str(settings.pop("kind", "unet"))
        chosen = NETWORKS.options(kind).model_validate(settings)
    else:
        chosen, kind = options, kind_of(options)
    network_type: type[Network] = NETWORKS.load(kind)
    # the sizes first: options of a few digits can ask for more memory than there is
    check_fits(blueprint(network_type, chosen, ndim, in_channels, heads), psutil.virtual_memory().available)
    network: Network = network_type(chosen, ndim=ndim, in_channels=in_channels, heads=heads)
    return network


def kind_of(options: Options) -> str:
    """Name of the network to which options belong.

    Raises:
        OptionError: when they belong to none.

    Examples:
        >>> from morula.nn.options import ResidualUNetOptions
        >>> kind_of(ResidualUNetOptions())
        'resunet'
    """
    stated = getattr(options, "kind", None)
    if stated is not None:
        return str(stated)
    fitting = [name for name in NETWORKS.names if type(options) is NETWORKS.options(name)]
    if not fitting:
        rule = f"must be options of a network; networks are {', '.join(NETWORKS.names)}"
        raise OptionError("network.options", rule, key="options", value=type(options).__name__)
    return fitting[0]


def to_channels_last(module: Module) -> Module:
    """Convert the weights of a module in place to the channels-last layout, in which convolutions are faster; results are equal.

    Outputs have the layout of the weights, so inputs need no conversion.
    """
    # the data are replaced, not the parameters, which an optimiser may already hold
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        elif parameter.ndim == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    return module
