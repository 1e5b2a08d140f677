"""The tensors of a native network under the names of BiaPy 3.7.

The names that BiaPy's networks have are generated from the sizes of the network; `morula.dialects.biapy.names` then gives the native name
of each, as for a checkpoint that is loaded. So there is one table of names, and what is written here can be loaded by it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from morula.core.errors import ModelError
from morula.dialects.biapy.names import native_names
from morula.dialects.biapy.networks import place_of_heads
from morula.nn.build import kind_of
from morula.nn.hrnet_options import HRNetOptions
from morula.nn.network import Network
from morula.nn.transformer import Positions, sincos_positions

_LEAVES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
_BLOCK = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")


def biapy_tensors(network: Network, patch: tuple[int, ...]) -> dict[str, Tensor]:
    """The tensors of a network by BiaPy's names, in BiaPy's order and shapes.

    Args:
        network: the native network.
        patch: edges (Z)YX of a training patch, for which BiaPy stores the positions of a transformer.

    Raises:
        ModelError: for a network that BiaPy does not have.
    """
    own = network.state_dict()
    places = biapy_names(network)
    found = {theirs: _shaped(theirs, own[ours], network.ndim) for theirs, ours in places.items()} | _positions(network, patch)
    return {name: values.detach().cpu().contiguous().clone() for name, values in found.items()}


def biapy_names(network: Network) -> dict[str, str]:
    """Native name of each of BiaPy's tensors, positions of transformers aside.

    Raises:
        ModelError: for a network that BiaPy does not have.
    """
    kind = kind_of(network.options)
    if kind not in _NAMES:
        raise ModelError("biapy.no_such_network", "is a network that BiaPy does not have", key="network", value=kind)
    own = network.state_dict()
    candidates = dict.fromkeys(_NAMES[kind](network), torch.zeros(1, 1, 1, 1))
    heads = list(network.heads)
    separate = any(name.startswith("up_paths.1.") for name in candidates)
    named = {theirs: place_of_heads(ours, heads, separate=separate) for theirs, ours in native_names(kind, candidates).items()}
    found = {theirs: ours for theirs, ours in named.items() if ours in own}
    known = set(found.values())
    for number, head in enumerate(heads):
        outputs = {f"heads.{number}.{part}": f"outputs.{head}.{part}" for part in ("weight", "bias")}
        found |= {theirs: ours for theirs, ours in outputs.items() if ours in own and ours not in known}
    known = set(found.values())
    missing = [name for name in own if name not in known and "positions" not in name]
    if missing:
        raise ModelError("biapy.no_place", f"has tensors that BiaPy's network does not have: {', '.join(missing[:3])}", value=kind)
    return found


def _shaped(name: str, values: Tensor, ndim: int) -> Tensor:
    """A tensor in BiaPy's shape, which has convolutions of one voxel where some native layers are linear maps."""
    if name.endswith(".layer_scale"):
        return values.reshape(-1, *[1] * ndim)
    if name.endswith((".gamma", ".beta")):
        return values.reshape(1, 1, 1, -1)
    if values.ndim == 2 and re.search(r"module\.3\.module\.|\.conv_(relu2|sigmoid)\.", name):
        return values.reshape(*values.shape, *[1] * ndim)
    return values


def _positions(network: Network, patch: tuple[int, ...]) -> dict[str, Tensor]:
    """Positions of the tokens, with that of the class token in front."""
    found = {}
    for theirs, ours in (("pos_embed", "encoder.positions"), ("decoder_pos_embed", "decoder_positions")):
        try:
            positions = network.get_submodule(ours)
        except AttributeError:
            continue
        token = network.multiple
        grid = tuple(edge // side for edge, side in zip(patch, token, strict=True))
        if not isinstance(positions, Positions):
            continue
        stored, of_class = positions.stored, positions.of_class
        tokens = sincos_positions(grid, positions.width)[None] if stored is None else stored
        first = torch.zeros_like(tokens[:, :1]) if of_class is None else of_class
        found[theirs] = torch.cat([first, tokens], dim=1).float()
    return found


# --- names of each network ---------------------------------------------------------------------------------------------------------------


def _leaves(prefixes: Iterator[str]) -> Iterator[str]:
    for prefix in prefixes:
        yield from (f"{prefix}.{leaf}" for leaf in _LEAVES)


def _option(network: Network, name: str, default: object = None) -> object:
    return getattr(network.options, name, default)


def _levels(network: Network) -> int:
    return len(network.options.features)  # type: ignore[attr-defined]


def _decoders(network: Network) -> int:
    return len(network.heads) if _option(network, "separate_decoders", False) else 1


def _dropouts(network: Network) -> list[float]:
    value = _option(network, "dropout", 0.0)
    return [float(item) for item in value] if isinstance(value, list | tuple) else [float(value)] * _levels(network)  # type: ignore[arg-type]


def _classic(network: Network) -> Iterator[str]:
    count, normed = int(_option(network, "convolutions", 2)), _option(network, "norm") != "none"  # type: ignore[call-overload]
    excited, gated = kind_of(network.options) == "seunet", kind_of(network.options) == "attention_unet"
    dropouts, last = _dropouts(network), _levels(network) - 1

    def block(prefix: str, level: int) -> Iterator[str]:
        for number in range(count):
            # a single convolution is not nested
            inner = f"{prefix}.block.{number}.block" if count > 1 else f"{prefix}.block"
            yield from (f"{inner}.0", f"{inner}.1")
            if excited:
                place = 2 + normed + (dropouts[level] > 0)
                yield from (f"{inner}.{place}.excitation.0", f"{inner}.{place}.excitation.2")

    def prefixes() -> Iterator[str]:
        for level in range(last):
            yield from block(f"down_path.{level}", level)
        yield from block("bottleneck", last)
        start = 1 if _option(network, "upsample") == "linear" else 0
        for decoder in range(_decoders(network)):
            for step in range(last):
                path = f"up_paths.{decoder}.{step}"
                yield from (f"{path}.up.{start}", f"{path}.up.{start + 1}")
                if gated:
                    yield from (f"{path}.attention_gate.{part}.{place}" for part in ("w_g", "w_x", "psi") for place in (0, 1))
                yield from block(f"{path}.conv_block", last - 1 - step)

    yield from _leaves(prefixes())


def _residual(prefix: str, *, first: bool, excited: bool, normed: bool, count: int = 2) -> Iterator[str]:
    """A residual block: norm and activation (but in the first one), convolutions with both, a plain convolution, a shortcut."""
    start = 0 if first else normed + 1
    if excited:
        if not first and normed:
            yield f"{prefix}.pre_conv.0"
        yield from (f"{prefix}.pre_conv.{start}.block.0", f"{prefix}.pre_conv.{start}.block.1")
        start = 0
    elif not first and normed:
        yield f"{prefix}.block.0"
    for number in range(start, start + count):
        yield f"{prefix}.block.{number}.block.0"
        if number < start + count - 1:
            yield f"{prefix}.block.{number}.block.1"
    if excited:
        yield from (f"{prefix}.se_block.excitation.0", f"{prefix}.se_block.excitation.2")
    yield from (f"{prefix}.shortcut.0", f"{prefix}.shortcut.1")


def _norm_first(prefix: str, *, normed: bool, count: int) -> Iterator[str]:
    """A residual block of norm, activation and convolution, several times, and a shortcut."""
    for number in range(count):
        yield from (f"{prefix}.block.{number}.block.{place}" for place in ((0, 2) if normed else (1,)))
    yield f"{prefix}.shortcut.0"


def _preactivation(network: Network) -> Iterator[str]:
    excited, normed = kind_of(network.options) == "resunet_se", _option(network, "norm") != "none"
    last, count = _levels(network) - 1, int(_option(network, "block_convolutions", 2))  # type: ignore[call-overload]

    def block(prefix: str, *, first: bool = False) -> Iterator[str]:
        if _option(network, "normalise_input", False):  # CONV_BLOCK_ORDER norm_act_conv
            return _norm_first(prefix, normed=normed, count=count)
        return _residual(prefix, first=first, excited=excited, normed=normed, count=count)

    def prefixes() -> Iterator[str]:
        for level in range(last):
            yield from block(f"down_path.{level}", first=level == 0)
        yield from block("bottleneck")
        for decoder in range(_decoders(network)):
            for step in range(last):
                yield f"up_paths.{decoder}.{step}.up"
                yield from block(f"up_paths.{decoder}.{step}.conv_block")

    yield from _leaves(prefixes())


def _resunetpp(network: Network) -> Iterator[str]:
    levels, normed = _levels(network) - 1, _option(network, "norm") != "none"

    def pyramid(prefix: str) -> Iterator[str]:
        yield from (f"{prefix}.aspp_block{number}.{place}" for number in (1, 2, 3) for place in (0, 2))
        yield f"{prefix}.output"

    def prefixes() -> Iterator[str]:
        for level in range(levels):
            yield from _residual(f"down_path.{level}", first=level == 0, excited=False, normed=normed)
        yield from (f"sqex_blocks.{level}.excitation.{place}" for level in range(levels - 1) for place in (0, 2))
        yield from pyramid("aspp_bridge")
        for step in range(levels - 1):
            yield f"up_paths.0.{step}.up"
            yield from _residual(f"up_paths.0.{step}.conv_block", first=False, excited=False, normed=normed)
        for step in range(levels - 1):
            yield from (f"attentions.0.{step}.conv_{part}.{place}" for part in ("encoder", "decoder", "attn") for place in (0, 2))
        yield from pyramid("aspp_out.0")

    yield from _leaves(prefixes())


def _multiresunet(network: Network) -> Iterator[str]:
    del network

    def block(number: int) -> Iterator[str]:
        name = f"multiresblock{number}"
        yield from (
            f"{name}.{part}.{layer}" for part in ("shortcut", "conv_3x3", "conv_5x5", "conv_7x7") for layer in ("conv1", "batchnorm")
        )
        yield from (f"{name}.batch_norm1", f"{name}.batch_norm2")

    def prefixes() -> Iterator[str]:
        for number in range(1, 6):
            yield from block(number)
            for part in ("shortcuts", "convs") if number < 5 else ():
                yield from (f"respath{number}.{part}.{step}.{layer}" for step in range(5 - number) for layer in ("conv1", "batchnorm"))
            yield from (f"respath{number}.bns.{step}" for step in range(5 - number))
        for number in range(6, 10):
            yield f"upsample{number}"
            yield from block(number)

    yield from _leaves(prefixes())


def _unext(network: Network) -> Iterator[str]:
    blocks, count = int(_option(network, "blocks", 2)), _levels(network) - 1  # type: ignore[call-overload]
    second = kind_of(network.options) == "unext_v2"

    def block(prefix: str) -> Iterator[str]:
        yield from () if second else (f"{prefix}.layer_scale",)
        yield from _leaves(f"{prefix}.block.{place}" for place in ((0, 2, 3, 6) if second else (0, 2, 3, 5)))
        yield from (f"{prefix}.block.5.gamma", f"{prefix}.block.5.beta") if second else ()

    yield from _leaves(iter(("down_path.0.0", "down_path.0.2")))
    for level in range(count):
        for number in range(blocks):
            yield from block(f"down_path.{level + 1}.{number}")
    yield from _leaves(f"downsample_layers.{level}.{place}" for level in range(count) for place in (1, 3))
    for number in range(blocks):
        yield from block(f"bottleneck.{number}")
    for step in range(count):
        path = f"up_paths.0.{step}"
        up = 2 if _option(network, "upsample_linear", False) else 1
        yield from _leaves(iter((f"{path}.up.0.1", f"{path}.up.{up}", f"{path}.conv_block.block.0")))
        for number in range(blocks):
            yield from block(f"{path}.cn_block.{number}")
    yield from _leaves(iter((f"up_paths.0.{count}.0", f"up_paths.0.{count}.2")))


def _encoder(network: Network) -> Iterator[str]:
    yield "cls_token"
    layers = int(_option(network, "layers", 0))  # type: ignore[call-overload]
    yield from _leaves(iter(("patch_embed.proj", *(f"blocks.{number}.{part}" for number in range(layers) for part in _BLOCK))))


def _unetr(network: Network) -> Iterator[str]:
    yield from _encoder(network)
    # each level halves the token: the first by the bottleneck, the others by an enlarging layer
    levels = round(math.log2(network.multiple[-1])) - 1

    def prefixes() -> Iterator[str]:
        yield "bottleneck"
        for level in range(levels):
            for place in range(level + 1):
                yield from (f"mid_blue_block.{level}.{2 * place}", f"mid_blue_block.{level}.{2 * place + 1}.block.0")
                yield f"mid_blue_block.{level}.{2 * place + 1}.block.1"
        for number in range(levels + 2):
            yield from (f"two_yellow_layers.{number}.block.{step}.block.{place}" for step in (0, 1) for place in (0, 1))
        yield from (f"up_green_layers.{level}" for level in range(levels))

    yield from _leaves(prefixes())


def _mae(network: Network) -> Iterator[str]:
    yield from _encoder(network)
    yield "mask_token"
    layers = int(_option(network, "decoder_layers", 0))  # type: ignore[call-overload]
    blocks = (f"decoder_blocks.{number}.{part}" for number in range(layers) for part in _BLOCK)
    yield from _leaves(iter(("norm", "decoder_embed", *blocks, "decoder_norm", "decoder_pred")))


def _edsr(network: Network) -> Iterator[str]:
    blocks = int(_option(network, "blocks", 0))  # type: ignore[call-overload]
    inner = (f"resblock.{number}.conv{layer}" for number in range(blocks) for layer in (1, 2))
    yield from _leaves(iter(("first_conv_of_block", *inner, "last_conv_of_block", "heads.0.conv1", "heads.1")))


def _rcan(network: Network) -> Iterator[str]:
    groups, blocks = int(_option(network, "groups", 0)), int(_option(network, "blocks", 0))  # type: ignore[call-overload]
    layers = ("0", "2", "3.module.1", "3.module.3")

    def prefixes() -> Iterator[str]:
        yield "sf"
        for group in range(groups):
            yield from (f"rgs.{group}.module.{block}.module.{layer}" for block in range(blocks) for layer in layers)
            yield f"rgs.{group}.module.{blocks}"
        yield from ("conv1", "upscale.0", "conv2")

    yield from _leaves(prefixes())


def _wdsr(network: Network) -> Iterator[str]:
    blocks = int(_option(network, "blocks", 0))  # type: ignore[call-overload]
    inner = (f"body.{number + 1}.body.{place}" for number in range(blocks) for place in (0, 2))
    for prefix in ("body.0", *inner, f"body.{blocks + 1}", "skip.0"):
        yield from (f"{prefix}.{leaf}" for leaf in ("bias", "weight_g", "weight_v"))


def _dfcan(network: Network) -> Iterator[str]:
    groups, blocks = int(_option(network, "groups", 0)), int(_option(network, "blocks", 0))  # type: ignore[call-overload]
    layers = ("conv_gelu1", "conv_gelu2", "conv_relu1", "conv_relu2", "conv_sigmoid")
    inner = (f"RGs.{group}.RCABs.{block}.{layer}.0" for group in range(groups) for block in range(blocks) for layer in layers)
    yield from _leaves(iter(("input.0", *inner, "conv_gelu.0", "conv_out")))


def _hrnet(network: Network) -> Iterator[str]:
    options = network.options
    assert isinstance(options, HRNetOptions)
    branches, blocks = range(len(options.features)), range(options.blocks)

    def prefixes() -> Iterator[str]:
        yield from ("conv1_block.block", "conv2_block.block")
        yield from (f"layer1.{block}.conv{number}_block.block" for block in range(options.stem_blocks) for number in (1, 2, 3))
        yield "layer1.0.downsample"
        for stage, modules in enumerate(options.module_counts()):
            yield from (f"transitions.{stage}.{branch}.block" for branch in range(stage + 1))
            yield f"transitions.{stage}.{stage + 1}.0.block"  # the branch that begins
            for place in (f"stages.{stage}.{module}" for module in range(modules)):
                yield from (
                    f"{place}.branches.{branch}.{block}.conv{number}_block.block"
                    for branch in branches
                    for block in blocks
                    for number in (1, 2)
                )
                yield from (
                    f"{place}.fuse_layers.{target}.{source}{step}.block"
                    for target in branches
                    for source in branches
                    # to a coarser branch there is one step for each branch between them
                    for step in ([""] if source > target else [f".{step}" for step in range(target - source)])
                )

    yield from _leaves(f"{prefix}.{layer}" for prefix in prefixes() for layer in (0, 1))


_NAMES: dict[str, Callable[[Network], Iterator[str]]] = {
    "classic_unet": _classic,
    "attention_unet": _classic,
    "seunet": _classic,
    "preactivation_unet": _preactivation,
    "resunet_se": _preactivation,
    "resunetpp": _resunetpp,
    "multiresunet": _multiresunet,
    "hrnet": _hrnet,
    "unext_v1": _unext,
    "unext_v2": _unext,
    "unetr": _unetr,
    "mae": _mae,
    "edsr": _edsr,
    "rcan": _rcan,
    "wdsr": _wdsr,
    "dfcan": _dfcan,
}
