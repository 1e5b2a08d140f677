"""The native network for the tensors of a checkpoint.

Its options are read from the shapes of the tensors, and the rest from the settings that BiaPy stored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from morula.core.errors import ModelError
from morula.dialects.biapy.architectures import KINDS, family_of
from morula.dialects.biapy.names import before_convolution, earlier_names, interpolates, native_names
from morula.dialects.converted import Value
from morula.nn.build import build_network
from morula.nn.network import Network

_UNETS = ("classic_unet", "preactivation_unet", "attention_unet", "seunet", "resunet_se")
_OF_BIAPY = "Name a checkpoint of BiaPy 3.5 to 3.7."
_VIT_HEADS = {"vit_base_patch16": 12, "vit_large_patch16": 16}


def native_network(
    architecture: str, tensors: Mapping[str, Tensor], settings: Mapping[str, Any], *, version: str, heads: Sequence[str]
) -> Network:
    """The network with the checkpoint's weights, in evaluation mode.

    Args:
        architecture: what ``MODEL.ARCHITECTURE`` says.
        tensors: weights by their names in BiaPy 3.5 to 3.7.
        settings: what the tensors do not show, as the keywords that BiaPy builds the network with (`activation`, `z_down`, ...).
        version: version of BiaPy, for example ``"3.7.1"``.
        heads: native names of the heads: one whose channels are BiaPy's heads in their order, or one for each of them.

    Raises:
        ModelError: for networks that are not supported, or tensors that do not fit.
    """
    kind = KINDS.get(family_of(architecture))
    if kind is None:
        raise ModelError(
            "checkpoint.unknown_network", f"is not supported; known are {', '.join(KINDS)}", key="MODEL.ARCHITECTURE", value=architecture
        )
    # names of 3.5 to 3.6 first become those of 3.7, so that there is one table of names
    tensors = earlier_names(tensors)
    _refuse(kind, tensors, settings)
    try:
        options = _options(kind, tensors, settings, version)
        ndim, in_channels = _image(kind, tensors)
        channels = _channels(kind, tensors)
    except (KeyError, IndexError, StopIteration, ValueError) as error:  # the sizes are read from tensors that are not there
        rule = f"the tensors are not those of {architecture}: {error} is missing"
        raise ModelError("checkpoint.tensors", rule, key="MODEL.ARCHITECTURE", value=architecture, remedy=_OF_BIAPY) from error
    # a single native head has the channels of all of BiaPy's heads
    widths = [sum(channels)] if len(heads) == 1 else channels
    if len(widths) != len(heads):
        raise ModelError(
            "checkpoint.heads", f"the network has {len(channels)} heads but the stored settings say {len(heads)} ({', '.join(heads)})"
        )
    network = build_network({"kind": kind, **options}, ndim, in_channels, dict(zip(heads, widths, strict=True)))
    network.load_state_dict(_native(kind, tensors, network, list(heads)))
    return network.eval()


def _refuse(kind: str, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> None:
    # what BiaPy can build and no native network can represent
    reasons = {
        "decoders of its own for each head": kind not in _UNETS and any(name.startswith("up_paths.1.") for name in tensors),
        "larger kernels around the network (LARGER_IO)": any(name.startswith(("conv_in.", "conv_out.0.")) for name in tensors),
        "norms before convolutions (CONV_BLOCK_ORDER)": settings.get("conv_block_order") == "norm_act_conv"
        and not (kind == "preactivation_unet" and before_convolution(tensors)),
        "an output larger than its input": any(re.match(r"(pre|post)_upsampling|shuf", name) for name in tensors),
        "outputs or blocks of another kind (HEAD_TYPE, BLOCK_TYPE)": kind == "hrnet"
        and any(re.match(r"heads\.\d+\.(?!weight|bias)|stages\..*\.(conv3_block|layer_scale|gamma)", name) for name in tensors),
        "a contrast head": any(name.startswith("proj_head.") for name in tensors),
        "a sigmoid behind its output (DFCAN up to BiaPy 3.6)": kind == "dfcan" and "conv_sigmoid.0.weight" in tensors,
    }
    found = [reason for reason, there in reasons.items() if there]
    if found:
        raise ModelError(
            "checkpoint.unsupported_layers",
            f"the network has {' and '.join(found)}, which is not supported",
            remedy="Train a native network.",
        )


def _image(kind: str, tensors: Mapping[str, Tensor]) -> tuple[int, int]:
    """Spatial axes and channels of the image, from the first layer."""
    name = {"unetr": "patch_embed.proj.weight", "mae": "patch_embed.proj.weight", "wdsr": "body.0.weight_v"}.get(kind)
    first = tensors[name] if name else next(values for values in tensors.values() if values.ndim > 3)
    return first.ndim - 2, first.shape[1]


def _heads(kind: str, tensors: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Tensors of the outputs, in order, as ``{"weight": [...], "bias": [...]}``."""
    # BiaPy stores the upsampling layer of EDSR under the name of a head
    if kind == "edsr":
        return {}
    found = {
        part: sorted((name for name in tensors if re.fullmatch(rf"heads\.\d+\.{part}", name)), key=lambda name: int(name.split(".")[1]))
        for part in ("weight", "bias")
    }
    return {part: names for part, names in found.items() if names}


def _channels(kind: str, tensors: Mapping[str, Tensor]) -> list[int]:
    """Channels of each of BiaPy's heads."""
    heads = _heads(kind, tensors)
    if heads:
        return [tensors[name].shape[0] for name in heads["bias"]]
    match kind:
        case "mae":
            # each token predicts all voxels of its box, in all channels
            voxels = tensors["patch_embed.proj.weight"][0, 0].numel()
            return [tensors["decoder_pred.bias"].numel() // voxels]
        case "wdsr":
            return [tensors[_last(tensors, r"body\.(\d+)\.bias")].numel()]
        case "edsr":
            return [tensors["heads.1.bias"].numel()]
        case "rcan":
            return [tensors["conv2.bias"].numel()]
        case _:
            return [tensors["conv_out.bias"].numel()]


def _last(tensors: Mapping[str, Tensor], pattern: str) -> str:
    """The name with the highest number."""
    return max((name for name in tensors if re.fullmatch(pattern, name)), key=lambda name: int(re.fullmatch(pattern, name)[1]))  # type: ignore[index]


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """How many different numbers the group of the pattern matches."""
    return len({match[1] for name in tensors if (match := re.match(pattern, name))})


def _native(kind: str, tensors: Mapping[str, Tensor], network: Network, heads: list[str]) -> dict[str, Tensor]:
    """The tensors with native names and shapes.

    Raises:
        ModelError: naming tensors without a place, and parameters without a tensor.
    """
    own = network.state_dict()
    found: dict[str, Tensor] = {}
    for theirs, ours in native_names(kind, tensors).items():
        # positions are set below, with the class token apart
        if ours.startswith("UNUSED.") or theirs.endswith("pos_embed"):
            continue
        found[place_of_heads(ours, heads, separate=_separate(tensors))] = tensors[theirs]
    for part, names in _heads(kind, tensors).items():
        joined = [names] if len(heads) == 1 else [[name] for name in names]
        for head, group in zip(heads, joined, strict=True):
            found[f"outputs.{head}.{part}"] = torch.cat([tensors[name] for name in group])
    for theirs, ours in (("pos_embed", "encoder.positions"), ("decoder_pos_embed", "decoder_positions")):
        if theirs in tensors:
            found[f"{ours}.of_class"], found[f"{ours}.stored"] = tensors[theirs][:, :1], tensors[theirs][:, 1:]
    # stored tensors go before the neutral ones
    found = {**_plain_norms(network), **found}
    faults = [f"{name} has no place" for name in found if name not in own]
    faults += [f"{name} is missing" for name in own if name not in found]
    for name in found.keys() & own.keys():
        # some native layers are linear maps where BiaPy has convolutions with kernels of one voxel
        if [n for n in found[name].shape if n > 1] != [n for n in own[name].shape if n > 1]:
            faults.append(f"{name} has shape {tuple(found[name].shape)} instead of {tuple(own[name].shape)}")
    if faults:
        raise ModelError(
            "checkpoint.tensors",
            f"the tensors do not fit the network: {'; '.join(faults[:5])}",
            remedy=_OF_BIAPY,
        )
    return {name: values.reshape(own[name].shape) for name, values in found.items()}


def place_of_heads(name: str, heads: list[str], *, separate: bool) -> str:
    """A name with the native names of the heads."""
    name = re.sub(r"^decoders\.HEAD(\d+)\.", lambda match: f"decoders.{heads[int(match[1])] if separate else 'all'}.", name)
    return re.sub(r"^(outputs|skips)\.image\.", rf"\1.{heads[0]}.", name)


def _separate(tensors: Mapping[str, Tensor]) -> bool:
    """Whether each head has a decoder of its own."""
    return any(name.startswith("up_paths.1.") for name in tensors)


def _plain_norms(network: Network) -> dict[str, Tensor]:
    """Instance norms of BiaPy up to 3.6 have no weights: ones and zeros, by their names."""
    return {
        f"{name}.{part}": values
        for name, module in network.named_modules()
        if isinstance(module, nn.InstanceNorm2d | nn.InstanceNorm3d)
        for part, values in (("weight", torch.ones(module.num_features)), ("bias", torch.zeros(module.num_features)))
    }


# --- options -----------------------------------------------------------------------------------------------------------------------------


def _options(kind: str, tensors: Mapping[str, Tensor], settings: Mapping[str, Any], version: str) -> dict[str, Value]:
    if kind in _UNETS:
        options = _unet(kind, tensors, settings)
        if kind == "attention_unet":
            options["as_trained"] = True
        if kind == "resunet_se":
            # up to 3.6.5 the excitation was computed but not applied
            options["as_trained"] = _version(version) < (3, 6, 6)
        return options
    match kind:
        case "resunetpp":
            return _resunetpp(tensors, settings)
        case "multiresunet":
            pools = _pools(settings, 4, 3 if tensors["multiresblock1.conv_3x3.conv1.weight"].ndim == 5 else 2)
            return {"pools": [(pool[0], 2, 2) if len(pool) == 3 else (2, 2) for pool in pools]}
        case "hrnet":
            return _hrnet(tensors, settings, version)
        case "unext_v1" | "unext_v2":
            return _unext(kind, tensors, settings)
        case "unetr" | "mae":
            return _transformer(kind, tensors, settings)
        case _:
            return _restoration(kind, tensors)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def _style(tensors: Mapping[str, Tensor], settings: Mapping[str, Any], norm: str) -> dict[str, Value]:
    """Normalisation and activation; `norm` is a pattern of the names of a norm's weights, where the settings do not state it."""
    # only batch normalisation has running statistics
    batch = any(name.endswith("running_mean") for name in tensors)
    normed = any(re.search(norm, name) for name in tensors)
    stated = settings.get("normalization") or (("bn" if batch else "in") if normed else "none")
    names = {"bn": "batch", "sync_bn": "batch", "in": "instance", "gn": "group", "none": "none"}
    if stated not in names:
        raise ModelError(
            "checkpoint.unsupported_layers",
            f"is not a supported normalisation of layers; known are {', '.join(names)}",
            key="MODEL.NORMALIZATION",
            value=stated,
        )
    ndim = next(values for values in tensors.values() if values.ndim > 3).ndim - 2
    activation = str(settings.get("activation") or settings.get("decoder_activation") or "relu").lower()
    return {"norm": names[stated], "groups": 16 if ndim == 2 else 8, "activation": activation}


def _pools(settings: Mapping[str, Any], steps: int, ndim: int) -> list[tuple[int, ...]]:
    """Pooling factors of each step, from the settings."""

    def listed(name: str) -> list[int]:
        value = settings.get(name) or 2
        given = [value] * steps if isinstance(value, int) else list(value)
        return [int(factor) or 2 for factor in given] or [2] * steps

    across, along = listed("yx_down"), listed("z_down")
    return [((along[i],) if ndim == 3 else ()) + (across[i],) * 2 for i in range(steps)]


def _unet(kind: str, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Value]:
    levels = [f"down_path.{i}." for i in range(_count(tensors, r"down_path\.(\d+)\."))] + ["bottleneck."]
    convolutions = [
        [
            values
            for name, values in tensors.items()
            if re.match(rf"{re.escape(level)}(block|pre_conv)\.(\d+\.)?(block\.)?\d+\.weight", name)
        ]
        for level in levels
    ]
    # normalisations have vectors, convolutions 4 or 5 axes
    kernels = [[values for values in level if values.ndim > 3] for level in convolutions]
    counts = {len(level) for level in kernels}
    entry = {"preactivation_unet": 0, "resunet_se": 1}.get(kind)  # convolutions before the residual ones
    if len(counts) != 1 or (entry is not None and min(counts) - entry < 2):
        raise ModelError(
            "checkpoint.unsupported_layers",
            f"the network has {sorted(counts)} convolutions per level (CONV_LAYERS), which is not supported",
        )
    count = counts.pop()
    depth = count if entry is None else 1
    blocks: dict[str, Value] = {} if entry is None else {"block_convolutions": count - entry}
    if kind == "preactivation_unet":
        blocks["normalise_input"] = before_convolution(tensors)
    ndim = kernels[0][0].ndim - 2
    return {
        "features": [level[-1].shape[0] for level in kernels],
        "kernels": [tuple(level[0].shape[2:]) for level in kernels],
        "pools": _pools(settings, len(levels) - 1, ndim),
        "convolutions": depth,
        "decoder_convolutions": depth,
        **blocks,
        "upsample": "linear" if interpolates(tensors) else "transpose",
        "separate_decoders": _separate(tensors),
        **_style(tensors, settings, r"^down_path\.0\.((block|pre_conv)\.0\.block\.[12]|block\.1)\.weight$"),
    }


def _resunetpp(tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Value]:
    count = _count(tensors, r"down_path\.(\d+)\.")
    shortcuts = [tensors[f"down_path.{i}.shortcut.0.weight"] for i in range(count)]
    ndim = shortcuts[0].ndim - 2
    if interpolates(tensors):
        raise ModelError(
            "checkpoint.unsupported_layers", "the ResUNet++ upsamples by interpolation (UPSAMPLE_LAYER), which is not supported"
        )
    kernels = [tuple(values.shape[2:]) for values in shortcuts]
    return {
        "features": [*(values.shape[0] for values in shortcuts), tensors["aspp_bridge.output.weight"].shape[0]],
        "kernels": [*kernels, kernels[-1]],
        # the shapes of the tensors do not depend on the pooling, so the settings have to state it
        "pools": _pools(settings, count, ndim)[1:],  # the first level is not pooled
        **_style(tensors, settings, r"^down_path\.0\.shortcut\.1\."),
    }


def _hrnet(tensors: Mapping[str, Tensor], settings: Mapping[str, Any], version: str) -> dict[str, Value]:
    last = _count(tensors, r"stages\.(\d+)\.") - 1
    modules = [_count(tensors, rf"stages\.{stage}\.(\d+)\.") for stage in range(last + 1)]
    first = tensors["conv1_block.block.0.weight"]
    ndim, steps = first.ndim - 2, last + 1
    stated = settings.get("cfg")
    # the shapes of the tensors do not depend on the strides
    along = stated.get("Z_DOWN") if isinstance(stated, Mapping) else None
    if along is None or isinstance(along, bool):
        along = [2 if along or (along is None and _version(version) < (3, 7)) else 1] * steps
    pools = [(int(depth) or 1, 2, 2)[-ndim:] for depth in along]
    return {
        "features": [tensors[f"stages.{last}.0.branches.{branch}.0.conv1_block.block.0.weight"].shape[0] for branch in range(last + 2)],
        "modules": modules,
        "blocks": _count(tensors, r"stages\.0\.0\.branches\.0\.(\d+)\."),
        "stem_features": first.shape[0],
        "stem_blocks": _count(tensors, r"layer1\.(\d+)\."),
        "stem": pools[0],
        "pools": pools,
        "as_trained": True,
        **_style(tensors, settings, r"^conv1_block\.block\.1\.weight$"),
    }


def _unext(kind: str, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Value]:
    count = _count(tensors, r"downsample_layers\.(\d+)\.")
    stem = tensors["down_path.0.0.weight"]
    # down_path.0 is the stem
    stages = [f"down_path.{i}.0" for i in range(1, count + 1)] + ["bottleneck.0"]
    depthwise = [tensors[f"{stage}.block.0.weight"] for stage in stages]
    blocks = {_count(tensors, rf"{stage[:-2]}\.(\d+)\.block") for stage in stages}
    if len(blocks) != 1:
        raise ModelError(
            "checkpoint.unsupported_layers", f"the network has {sorted(blocks)} blocks per level (CONV_LAYERS), which is not supported"
        )
    options: dict[str, Value] = {
        "features": [values.shape[0] for values in depthwise],
        "kernels": [tuple(values.shape[2:]) for values in depthwise],
        "pools": [tuple(tensors[f"downsample_layers.{i}.3.weight"].shape[2:]) for i in range(count)],
        "blocks": blocks.pop(),
        "stem": tuple(stem.shape[2:]),
        "drop_blocks": float(settings.get("stochastic_depth_prob", 0.1)),
        "upsample_linear": "up_paths.0.0.up.2.weight" in tensors,
    }
    # in 3D, BiaPy's response normalisation takes the norm over z and y alone
    return options if kind == "unext_v1" else {**options, "as_trained": stem.ndim == 5}


def _transformer(kind: str, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Value]:
    embed = tensors["patch_embed.proj.weight"]
    ndim, width, token = embed.ndim - 2, embed.shape[0], embed.shape[2]
    layers = _count(tensors, r"blocks\.(\d+)\.")
    model = settings.get("vit_model", "custom")
    options: dict[str, Value] = {
        "token": token,
        "width": width,
        "layers": layers,
        "heads": _VIT_HEADS.get(model, settings.get("num_heads", 12)),
        "mlp_ratio": tensors["blocks.0.mlp.fc1.weight"].shape[0] / width,
        "position": "stored",
        "grid": _grid(tensors["pos_embed"].shape[1] - 1, ndim, settings, token),
    }
    if kind == "mae":
        inner = tensors["decoder_embed.weight"].shape[0]
        return {
            **options,
            "decoder_width": inner,
            "decoder_layers": _count(tensors, r"decoder_blocks\.(\d+)\."),
            "decoder_heads": settings.get("decoder_num_heads", 16),
            "decoder_mlp_ratio": tensors["decoder_blocks.0.mlp.fc1.weight"].shape[0] / inner,
        }
    # -1 leaves it to the number of layers
    every = int(settings.get("ViT_hidd_mult", -1))
    image = _count(tensors, r"up_green_layers\.(\d+)\.")
    first = tensors[f"two_yellow_layers.{image}.block.0.block.0.weight"]
    return {
        **options,
        "features": first.shape[0],
        "kernel": first.shape[2],
        "every": every if every > 0 else None,
        "as_trained": True,
        **_style(tensors, settings, r"^two_yellow_layers\.0\.block\.0\.block\.1\."),
    }


def _grid(tokens: int, ndim: int, settings: Mapping[str, Any], token: int) -> tuple[int, ...]:
    shape = settings.get("input_shape")
    # without a stated patch the grid is taken as a square or cube
    return tuple(int(n) // token for n in shape[:ndim]) if shape else (round(tokens ** (1 / ndim)),) * ndim


def _restoration(kind: str, tensors: Mapping[str, Tensor]) -> dict[str, Value]:
    match kind:
        case "edsr":
            width = tensors["first_conv_of_block.weight"].shape[0]
            return {"features": [width], "blocks": _count(tensors, r"resblock\.(\d+)\."), "as_trained": True}
        case "rcan":
            squeeze = tensors["rgs.0.module.0.module.3.module.1.weight"]
            return {
                "features": [squeeze.shape[1]],
                "groups": _count(tensors, r"rgs\.(\d+)\."),
                "blocks": _count(tensors, r"rgs\.0\.module\.(\d+)\.module\."),
                "reduction": squeeze.shape[1] // squeeze.shape[0],
                "activation": "relu" if "upscale.0.weight" in tensors else "silu",
                "as_trained": "upscale.0.weight" in tensors,
            }
        case "wdsr":
            wide = tensors["body.1.body.0.weight_v"]
            return {
                "features": [wide.shape[1]],
                "blocks": _count(tensors, r"body\.(\d+)\.body\."),
                "expansion": wide.shape[0] // wide.shape[1],
            }
        case _:
            return {
                "features": [tensors["input.0.weight"].shape[0]],
                "groups": _count(tensors, r"RGs\.(\d+)\."),
                "blocks": _count(tensors, r"RGs\.0\.RCABs\.(\d+)\."),
                "as_trained": tensors["input.0.weight"].ndim == 5,
            }
