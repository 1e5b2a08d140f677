"""Weights that are counted from options alone: as many as the network has that torch builds."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from torch import nn

from morula.core.errors import OptionError
from morula.nn import NETWORKS
from morula.nn import weight_counts as counts
from morula.nn.build import plan_network
from morula.nn.options import NetworkOptions, UNetOptions
from morula.nn.weight_counts import MAX_MODULES, count_weights, known_weights

COUNTED = ("unet", "resunet", "classic_unet", "attention_unet", "seunet", "preactivation_unet", "resunet_se")
SHAPES: list[dict[str, Any]] = [
    {"features": [5]},
    {"features": [4, 9, 20], "pools": [2, 3]},
    {"features": [3, 32, 6], "kernels": [3, 5, 1], "norm": "none", "head_features": 7},
    {"features": [16, 8], "norm": "group", "separate_decoders": True, "dropout": [0.1, 0.2]},
    {"features": [1, 2], "norm": "instance", "convolutions": 3, "decoder_convolutions": 2},
    {"features": [4, 8, 8, 8], "upsample": "linear", "convolutions": 1, "pools": [1, 2, 2]},
    {"features": [4, 6], "upsample": "nearest", "separate_decoders": True, "head_features": 2, "activation": "elu"},
]
OWN: dict[str, list[dict[str, Any]]] = {
    "attention_unet": [{"as_trained": True}],
    "preactivation_unet": [{"normalise_input": True}, {"block_convolutions": 3}],
    "resunet_se": [{"as_trained": True}, {"block_convolutions": 4}],
}
HEADS = {2: {"channels": 3}, 3: {"F": 1, "C": 2, "classes": 4}}


@pytest.mark.parametrize("kind", COUNTED)
def test_as_many_weights_as_the_network_has(kind: str) -> None:
    for shape, own, (ndim, heads) in itertools.product(SHAPES, [{}, *OWN.get(kind, [])], HEADS.items()):
        options: NetworkOptions = NETWORKS.options(kind).model_validate({**shape, **own})
        built = plan_network({"kind": kind, **shape, **own}, ndim, 2, heads)
        counted = known_weights(options, ndim, 2, heads)
        assert counted == built.weights > 0, (shape, own, ndim, heads)
        assert counted == count_weights(options, ndim, 2, heads)
        # limits are compared with a bound, which must not be below the modules that there are
        assert counts._COUNTS[type(options)](options, ndim, 2, heads).most_modules() >= sum(1 for _ in built.network.modules())


@pytest.mark.parametrize("kind", sorted(set(NETWORKS.builtin) - set(COUNTED)))
def test_other_networks_are_built(kind: str) -> None:
    options = NETWORKS.options(kind)()
    stated = {name: getattr(options, name) for name in type(options).model_fields if name != "from_"}
    assert known_weights(options, 2, 1, {"channels": 2}) is None
    assert count_weights(options, 2, 1, {"channels": 2}) == plan_network(stated, 2, 1, {"channels": 2}).weights


@pytest.mark.parametrize(
    ("options", "ndim", "in_channels", "heads"),
    [
        (UNetOptions(features=(10**6, 10**6)), 2, 1, {"F": 1}),  # too many weights
        (UNetOptions(features=(1,) * 2, convolutions=MAX_MODULES), 2, 1, {"F": 1}),  # too many modules
        (UNetOptions(kernels=((1, 3, 3),) * 4), 2, 1, {"F": 1}),  # kernels of three axes
        (UNetOptions(), 4, 1, {"F": 1}),
        (UNetOptions(), 2, 0, {"F": 1}),
        (UNetOptions(), 2, 1, {}),
        (UNetOptions(), 2, 1, {"F": 0}),
        (UNetOptions(), 2, 1, {"pop": 1}),
        (UNetOptions(), 2, 1, {"T_destination": 1}),
        (UNetOptions(), 2, 1, {"F C": 1}),
    ],
)
def test_what_cannot_be_built_is_not_counted(options: UNetOptions, ndim: int, in_channels: int, heads: dict[str, int]) -> None:
    assert known_weights(options, ndim, in_channels, heads) is None
    with pytest.raises(OptionError):
        count_weights(options, ndim, in_channels, heads)


def test_options_of_a_third_party_are_not_counted() -> None:
    class Wider(UNetOptions):
        """A network that may build anything."""

    assert known_weights(Wider(), 2, 1, {"F": 1}) is None


def test_heads_that_are_counted_have_no_name_of_a_module() -> None:
    reserved = set(dir(nn.ModuleDict()))
    assert not {name for name in reserved if counts._usable((name, 1))}
