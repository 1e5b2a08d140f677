"""From a name or options to a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import nn

from morula.core.errors import OptionError
from morula.core.options import Options
from morula.nn import NETWORKS
from morula.nn.network import Network

Module = TypeVar("Module", bound=nn.Module)


def build_network(options: str | Options | Mapping[str, object], ndim: int, in_channels: int, heads: Mapping[str, int]) -> Network:
    """A network with fresh weights, drawn from torch's global generator.

    Args:
        options: a network's name, its options, or a mapping of them with the name under ``kind``.
        ndim: 2 or 3 spatial axes.
        in_channels: channels of the image.
        heads: channels of each head by its name.

    Raises:
        UnknownNameError: for a name that is no network.
        OptionError: for options that belong to no network, or axes, channels or heads that cannot be built.
        pydantic.ValidationError: for a mapping that breaks an option's rule.

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
    network: Network = NETWORKS.load(kind)(chosen, ndim=ndim, in_channels=in_channels, heads=heads)
    return network


def kind_of(options: Options) -> str:
    """Name of the network that these options belong to.

    Raises:
        OptionError: when there is none.

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
        raise OptionError(f"{type(options).__name__} are options of no network; known networks are {', '.join(NETWORKS.names)}.")
    return fitting[0]


def to_channels_last(module: Module) -> Module:
    """The module itself with its weights laid out channels-last, which convolutions compute faster in; results stay the same.

    Outputs follow the weights' layout, so inputs need no conversion.
    """
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        elif parameter.ndim == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    return module
