"""Sizes of results without torch's compiler."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from morula.nn.build import build_network
from morula.nn.sizes import _RULES, result_on_meta

ALLOCATING = {torch.ops.aten.detach.default, torch.ops.aten.empty.memory_format, torch.ops.aten.view.default}
"""Operations whose result on the meta device torch computes in C++."""


def without_values(value):
    if not isinstance(value, torch.Tensor):
        return value
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")


class Recorded(TorchDispatchMode):
    """Keeps each operation with its arguments and its result."""

    def __init__(self):
        super().__init__()
        self.calls = []

    @classmethod
    def _should_skip_dynamo(cls):
        return False  # else torch imports its compiler for this class

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        on_meta = tree_map(without_values, args)
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, on_meta, kwargs or {}, result))
        return result


def calls_of(options, ndim):
    network = build_network(options, ndim, 2, {"F": 1, "C": 2})
    image = torch.zeros(2, 2, *[max(8, 2 * each) for each in network.multiple])
    with Recorded() as recorded:
        network(image)
    return recorded.calls


NETWORKS = [
    {"kind": "unet", "features": [4, 8], "upsample": "linear"},
    {"kind": "unet", "features": [4, 8], "norm": "instance", "activation": "elu"},
    {"kind": "resunet", "features": [4, 8], "norm": "group", "groups": 2},
    {"kind": "resunet_se", "features": [4, 8], "activation": "leaky_relu"},
    {"kind": "attention_unet", "features": [4, 8], "activation": "silu"},
]


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("options", NETWORKS, ids=lambda options: options["kind"])
def test_sizes_are_those_of_real_results(options, ndim):
    known = 0
    for operation, arguments, keywords, real in calls_of(options, ndim):
        if operation in _RULES and not keywords:
            known += 1
            found = result_on_meta(operation, arguments, keywords)
            for ours, theirs in zip(tree_leaves(found), tree_leaves(real), strict=True):
                assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype), operation
    assert known


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("options", [NETWORKS[0], {"kind": "resunet", "features": [4, 8]}], ids=lambda options: options["kind"])
def test_common_networks_need_no_compiler(options, ndim):
    assert not {operation for operation, *_ in calls_of(options, ndim)} - set(_RULES) - ALLOCATING


def test_what_has_no_rule_is_left_to_torch(monkeypatch):
    def operation(*arguments, **keywords):
        return "left to torch"

    image = torch.zeros(1, 2, 6, 6, device="meta")
    assert result_on_meta(operation, (image,), {}) == "left to torch"
    monkeypatch.setitem(_RULES, operation, lambda *arguments: "known")
    assert result_on_meta(operation, (image, image), {}) == "known"
    for arguments in [(image.permute(0, 2, 3, 1),), (image, image.double()), (image.int(),), ([image, image.double()],)]:
        assert result_on_meta(operation, arguments, {}) == "left to torch"
    assert result_on_meta(operation, (image,), {"alpha": 2}) == "left to torch"
    pool = _RULES[torch.ops.aten.max_pool2d_with_indices.default]
    assert pool(image, [9, 9]) is NotImplemented  # larger than the image
    assert pool(image, [3, 3], [2, 2], [0, 0], [1, 1], True) is NotImplemented
