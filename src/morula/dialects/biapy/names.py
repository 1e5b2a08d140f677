"""Native names of the tensors of BiaPy 3.5 to 3.7."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

from torch import Tensor

Rule: TypeAlias = tuple[str, str | Callable[[re.Match[str]], str]]

# timm names the parts of a transformer block norm1, attn, norm2, mlp; UNETR and the masked autoencoder share them
_ATTENTION = (
    (r"\.norm1\.", ".norm_attention."),
    (r"\.norm2\.", ".norm_mlp."),
    (r"\.attn\.qkv\.", ".query_key_value."),
    (r"\.attn\.proj\.", ".project."),
    (r"\.mlp\.fc1\.", ".widen."),
    (r"\.mlp\.fc2\.", ".narrow."),
    (r"^patch_embed\.proj\.", "encoder.embed."),
    (r"^cls_token$", "encoder.class_token"),
    (r"^blocks\.", "encoder.blocks."),
)


def earlier_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of any of these versions, with the names of the latest.

    Examples:
        >>> import torch
        >>> list(earlier_names({"up_path.0.up.weight": torch.zeros(1), "last_block.bias": torch.zeros(1)}))
        ['up_paths.0.0.up.weight', 'heads.0.bias']
    """
    rules = (
        # wrappers of DistributedDataParallel and torch.compile
        (r"^(module|_orig_mod)\.", ""),
        # up to 3.5 there was one decoder, later a list of them, one per head
        (r"^up_path\.", "up_paths.0."),
        (r"^attentions\.(\d+)\.conv", r"attentions.0.\1.conv"),
        (r"^aspp_out\.(?!\d)", "aspp_out.0."),
        (r"^last_block\.(\d)\.", r"heads.\1."),  # EDSR: enlarging, output
        (r"^last_block\.(?=weight|bias)", "heads.0."),
        (r"^last_block\.", "heads.0."),
        (r"^last_class_head\.", "heads.1."),
        # HRNet counted its stages from 2, because the first is a single branch
        (r"^stage(\d)\.", lambda match: f"stages.{int(match[1]) - 2}."),
        (r"^transition(\d)\.", lambda match: f"transitions.{int(match[1]) - 1}."),
    )
    found = {_renamed(name, rules): values for name, values in tensors.items()}
    return _without_last_norm(found)


def _without_last_norm(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Fold the batch normalisation after the output of MultiResUNet up to 3.6 into the convolution before it."""
    if "heads.0.batchnorm.running_mean" not in tensors:
        return tensors
    parts = {name.rsplit(".", 1)[1]: tensors[name] for name in tensors if name.startswith("heads.0.batchnorm.")}
    # y = (conv(x) - mean) / sqrt(var + eps) * weight + bias is again a convolution: scale its kernel, shift its bias
    scale = parts["weight"] / (parts["running_var"] + 1e-5).sqrt()
    weight, bias = tensors["heads.0.conv1.weight"], tensors["heads.0.conv1.bias"]
    kept = {name: values for name, values in tensors.items() if not name.startswith("heads.0.")}
    kept["heads.0.weight"] = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
    kept["heads.0.bias"] = (bias - parts["running_mean"]) * scale + parts["bias"]
    return kept


def native_names(kind: str, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Native name of each tensor of a network of this kind, without the heads.

    Args:
        kind: member of `morula.nn.NETWORKS`.
        tensors: result of `earlier_names`.
    """
    # dropout and activations shift the numbers in a Sequential, so blocks are counted by rank
    ranked = _ranked(tensors)
    rules = _RULES[kind](tensors)
    return {name: _renamed(ranked[name], rules) for name in tensors if not name.startswith("heads.") or kind == "edsr"}


def _renamed(name: str, rules: tuple[Rule, ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _ranked(names: Mapping[str, Tensor]) -> dict[str, str]:
    """Names with nested blocks numbered from 0, whatever comes before them in their sequence."""
    nested = re.compile(r"^(.*?)\.block\.(\d+)\.block\.")
    found: dict[str, set[int]] = {}
    for name in names:
        if match := nested.match(name):
            found.setdefault(match[1], set()).add(int(match[2]))

    def number(match: re.Match[str]) -> str:
        return f"{match[1]}.nested.{sorted(found[match[1]]).index(int(match[2]))}."

    return {name: nested.sub(number, name) for name in names}


def interpolates(tensors: Mapping[str, Tensor]) -> bool:
    """Whether levels are upsampled by interpolation; a convolution then follows, if there is one."""
    # upsampling: Sequential(Upsample, conv, ...), so the kernel has number 1 or 2; a transposed convolution has number 0
    ups = [(name, values) for name, values in tensors.items() if re.match(r"up_paths\.0\.0\.up\b", name) and values.ndim > 1]
    return not ups or ups[0][0].endswith(("up.1.weight", "up.2.weight"))


def _highest(pattern: str, names: Mapping[str, Tensor]) -> int:
    return max((int(match[1]) for name in names if (match := re.match(pattern, name))), default=-1)


def _levels(tensors: Mapping[str, Tensor]) -> tuple[Rule, ...]:
    """Levels of an encoder and of decoders; natively the finest level comes first. `HEAD0` stands for the decoder of the first head."""
    # the bottleneck is the last level of the native encoder; BiaPy numbers decoder levels from the coarsest
    last = _highest(r"down_path\.(\d+)\.", tensors) + 1

    def up(match: re.Match[str]) -> str:
        return f"decoders.HEAD{match[1]}.UP.{last - 1 - int(match[2])}."

    return (
        (r"^down_path\.", "encoder."),
        (r"^bottleneck\.", f"encoder.{last}."),
        (r"^up_paths\.(\d+)\.(\d+)\.", up),
        (r"\.UP\.(\d+)\.conv_block\.", r".levels.\1."),
        (r"\.UP\.(\d+)\.attention_gate\.", r".gates.\1."),
        (r"\.UP\.(\d+)\.up\.", r".enlarge.\1.up."),
    )


_CONVOLUTION: tuple[Rule, ...] = ((r"\.0\.(?=weight|bias)", ".convolution."), (r"\.1\.(?=\w+$)", ".norm."))


def _classic(tensors: Mapping[str, Tensor]) -> tuple[Rule, ...]:
    # squeeze-and-excitation wraps each convolution, which is one level deeper in the names
    excited = any(".excitation." in name for name in tensors)
    inner = r".\1.block." if excited else r".\1."
    convolution, norm = ("1", "2") if interpolates(tensors) else ("0", "1")
    return (
        *_levels(tensors),
        (rf"\.up\.{convolution}\.", ".enlarge.convolution."),
        (rf"\.up\.{norm}\.", ".norm."),
        (r"\.w_g\.", ".below."),
        (r"\.w_x\.", ".skip."),
        (r"\.psi\.", ".weight."),
        (r"\.nested\.(\d+)\.\d+\.excitation\.0\.", r".\1.excitation.squeeze."),
        (r"\.nested\.(\d+)\.\d+\.excitation\.2\.", r".\1.excitation.excite."),
        (r"\.nested\.(\d+)\.0\.", rf"{inner}convolution."),
        (r"\.nested\.(\d+)\.1\.", rf"{inner}norm."),
        # a single convolution is not nested
        (r"\.block\.\d+\.excitation\.0\.", ".0.excitation.squeeze."),
        (r"\.block\.\d+\.excitation\.2\.", ".0.excitation.excite."),
        (r"(?<=\d)\.block\.0\.(?=weight$|bias$)", ".0.block.convolution." if excited else ".0.convolution."),
        (r"(?<=\d)\.block\.1\.(?=\w+$)", ".0.block.norm." if excited else ".0.norm."),
    )


def _residual(tensors: Mapping[str, Tensor], prefix: str = "") -> tuple[Rule, ...]:
    """A residual block; `prefix` is put before its parts.

    Convolutions are ``nested.N.0`` with the norm behind each, ``nested.N.1``, but behind the last; in the order norm_act_conv
    ``nested.N.2`` with the norm before each, ``nested.N.0``.
    """
    last = _highest(r"down_path\.0\.block\.(\d+)\.block\.", tensors)

    def convolution(match: re.Match[str]) -> str:
        number = int(match[1])
        # the last convolution has no normalisation of its own: the next block begins with it
        return f".{prefix}convolutions.{number}.{'' if number == last else 'convolution.'}"

    def norm_before(match: re.Match[str]) -> str:
        number = int(match[1])
        return f".{prefix}convolutions.{number - 1}.norm." if number else f".{prefix}norm."

    if before_convolution(tensors):
        order: tuple[Rule, ...] = ((r"\.nested\.(\d+)\.2\.", convolution), (r"\.nested\.(\d+)\.0\.", norm_before))
    else:
        order = ((r"\.nested\.(\d+)\.0\.", convolution), (r"\.nested\.(\d+)\.1\.", rf".{prefix}convolutions.\1.norm."))
    return (
        # the block that ResUNet SE adds before the residual block
        (r"\.pre_conv\.\d+\.block\.0\.", f".{prefix}entry.convolution."),
        (r"\.pre_conv\.\d+\.block\.1\.", f".{prefix}entry.norm."),
        (r"\.pre_conv\.0\.(?=\w+$)", f".{prefix}norm."),
        (r"\.se_block\.excitation\.0\.", f".{prefix}excitation.squeeze."),
        (r"\.se_block\.excitation\.2\.", f".{prefix}excitation.excite."),
        *order,
        (r"\.block\.0\.(?=\w+$)", f".{prefix}norm."),
        (r"\.shortcut\.(\d)\.", rf".{prefix}shortcut.\1."),
    )


def before_convolution(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the blocks of a residual U-Net have norms before their convolutions (CONV_BLOCK_ORDER norm_act_conv)."""
    names = [f"down_path.0.block.0.block.{place}.weight" for place in (0, 1, 2)]
    there = [name in tensors and tensors[name].ndim > 1 for name in names]
    return "down_path.0.shortcut.0.weight" in tensors and (there[2] or (there[1] and not there[0]))


def _preactivation(tensors: Mapping[str, Tensor]) -> tuple[Rule, ...]:
    return (*_levels(tensors), *_residual(tensors, "0."), (r"\.up\.(?=\w+$)", ".convolution."))


def _pyramid(prefix: str, name: str) -> tuple[Rule, ...]:
    def branch(match: re.Match[str]) -> str:
        return f"{name}.branches.{int(match[1]) - 1}."

    return ((rf"^{prefix}\.aspp_block(\d)\.", branch), (rf"^{prefix}\.output\.", f"{name}.output."))


def _resunetpp(tensors: Mapping[str, Tensor]) -> tuple[Rule, ...]:
    # the first level is not pooled, and the bridge takes the place of the last decoder level
    last = _highest(r"down_path\.(\d+)\.", tensors) - 1

    def at(match: re.Match[str]) -> str:
        what = {"up": "enlarge", "conv_block": "decoder"}[match[2]]
        return f"{what}.{last - int(match[1])}."

    def gate(match: re.Match[str]) -> str:
        part = {"encoder": "skip", "decoder": "below", "attn": "weight"}[match[2]]
        return f"gates.{last - int(match[1])}.{part}."

    return (
        (r"^down_path\.", "encoder."),
        (r"^sqex_blocks\.(\d+)\.excitation\.0\.", r"excitations.\1.squeeze."),
        (r"^sqex_blocks\.(\d+)\.excitation\.2\.", r"excitations.\1.excite."),
        (r"^up_paths\.0\.(\d+)\.(up|conv_block)\.", at),
        (r"^attentions\.0\.(\d+)\.conv_(encoder|decoder|attn)\.", gate),
        *_pyramid("aspp_bridge", "bridge"),
        *_pyramid(r"aspp_out\.0", "pyramid"),
        *_residual(tensors, "0."),
    )


def _multiresunet(tensors: Mapping[str, Tensor]) -> tuple[Rule, ...]:
    del tensors
    # the 5x5 and 7x7 branches are chains of 3x3 convolutions
    inner = {"conv_3x3": "convolutions.0", "conv_5x5": "convolutions.1", "conv_7x7": "convolutions.2"}

    def block(match: re.Match[str]) -> str:
        number = int(match[1])
        return f"encoder.{number - 1}." if number <= 5 else f"decoder.{9 - number}."

    return (
        (r"^multiresblock(\d)\.", block),
        (r"^upsample(\d)\.", lambda match: f"enlarge.{9 - int(match[1])}."),
        (r"^respath(\d)\.", lambda match: f"paths.{int(match[1]) - 1}."),
        (r"\.(conv_\dx\d)\.", lambda match: f".{inner[match[1]]}."),
        (r"\.batch_norm1\.", ".norm_joined."),
        (r"\.batch_norm2\.", ".norm_sum."),
        (r"\.convs\.", ".convolutions."),
        (r"\.bns\.", ".norms."),
        (r"\.conv1\.", ".convolution."),
        (r"\.batchnorm\.", ".norm."),
    )


def _hrnet(tensors: Mapping[str, Tensor]) -> tuple[Rule, ...]:
    del tensors
    return (
        (r"^conv([12])_block\.", lambda match: f"stem.{int(match[1]) - 1}."),
        (r"^layer1\.(\d+)\.conv1_block\.", r"start.\1.narrow."),
        (r"^layer1\.(\d+)\.conv2_block\.", r"start.\1.middle."),
        (r"^layer1\.(\d+)\.conv3_block\.", r"start.\1.widen."),
        (r"^layer1\.(\d+)\.downsample\.0\.", r"start.\1.shortcut.convolution."),
        (r"^layer1\.(\d+)\.downsample\.1\.", r"start.\1.shortcut.norm."),
        # the branch that begins has a sequence of one block
        (r"^(transitions\.\d+\.\d+)\.0\.block\.", r"\1.block."),
        (r"\.conv1_block\.", ".first."),
        (r"\.conv2_block\.", ".second."),
        (r"\.fuse_layers\.", ".links."),
        (r"\.block\.0\.", ".convolution."),
        (r"\.block\.1\.", ".norm."),
    )


def _unext(tensors: Mapping[str, Tensor]) -> tuple[Rule, ...]:
    last = _highest(r"downsample_layers\.(\d+)\.", tensors)
    # version 2 has a global response normalisation, with gamma and beta, between the two linear layers
    second = any(name.endswith(".gamma") for name in tensors)

    def up(match: re.Match[str]) -> str:
        return f"UP.{last - int(match[1])}."

    return (
        (r"^down_path\.0\.0\.", "stem.0."),
        (r"^down_path\.0\.2\.", "stem.1."),
        (r"^down_path\.(\d+)\.", lambda match: f"encoder.{int(match[1]) - 1}."),
        (r"^bottleneck\.", f"encoder.{last + 1}."),
        (r"^downsample_layers\.(\d+)\.1\.", r"reduce.\1.0."),
        (r"^downsample_layers\.(\d+)\.3\.", r"reduce.\1.1."),
        (rf"^up_paths\.0\.{last + 1}\.0\.", "unstem.0."),
        (rf"^up_paths\.0\.{last + 1}\.2\.", "unstem.1."),
        (r"^up_paths\.0\.(\d+)\.", up),
        (r"^UP\.(\d+)\.up\.0\.1\.", r"enlarge.\1.0."),
        (r"^UP\.(\d+)\.up\.[12]\.", r"enlarge.\1.1.convolution."),
        (r"^UP\.(\d+)\.conv_block\.block\.0\.", r"join.\1."),
        (r"^UP\.(\d+)\.cn_block\.", r"decoder.\1."),
        (r"\.layer_scale$", ".scale"),
        (r"\.block\.0\.", ".convolution."),
        (r"\.block\.2\.", ".norm."),
        (r"\.block\.3\.", ".widen."),
        (r"\.block\.5\.", ".response." if second else ".narrow."),
        (r"\.block\.6\.", ".narrow."),
    )


def _unetr(tensors: Mapping[str, Tensor]) -> tuple[Rule, ...]:
    last = _highest(r"up_green_layers\.(\d+)\.", tensors)  # of the levels above the image's own

    def yellow(match: re.Match[str]) -> str:
        number = int(match[1])
        return {last + 1: "image.", last + 2: "last."}.get(number, f"joins.{last - number}.")

    return (
        *_ATTENTION,
        # UNETR stores the last normalisation of its encoder but never applies it
        (r"^norm\.", "UNUSED."),
        (r"^bottleneck\.", "bottom."),
        (r"^mid_blue_block\.(\d+)\.", lambda match: f"skips.{last - int(match[1])}."),
        (r"^up_green_layers\.(\d+)\.", lambda match: f"enlarge.{last - int(match[1])}."),
        (r"^two_yellow_layers\.(\d+)\.", yellow),
        (r"^(skips\.\d+\.\d+)\.block\.0\.", r"\1.0.convolution."),
        (r"^(skips\.\d+\.\d+)\.block\.1\.", r"\1.0.norm."),
        (r"\.nested\.(\d)\.0\.", r".\1.0.convolution."),
        (r"\.nested\.(\d)\.1\.", r".\1.0.norm."),
    )


def _mae(tensors: Mapping[str, Tensor]) -> tuple[Rule, ...]:
    del tensors
    return (
        *_ATTENTION,
        (r"^decoder_blocks\.", "decoder."),
        (r"^decoder_embed\.", "to_decoder."),
        (r"^decoder_pred\.", "outputs.image."),
    )


def _edsr(tensors: Mapping[str, Tensor]) -> tuple[Rule, ...]:
    del tensors
    return (
        (r"^first_conv_of_block\.", "first."),
        (r"^resblock\.(\d+)\.conv1\.", r"blocks.\1.first."),
        (r"^resblock\.(\d+)\.conv2\.", r"blocks.\1.second."),
        (r"^last_conv_of_block\.", "last."),
        (r"^heads\.0\.conv1\.", "enlarge."),
        (r"^heads\.1\.", "outputs.image."),
    )


def _rcan(tensors: Mapping[str, Tensor]) -> tuple[Rule, ...]:
    del tensors
    inner = r"^rgs\.(\d+)\.module\.(\d+)\.module\."
    return (
        (r"^sf\.", "first."),
        (rf"{inner}0\.", r"groups.\1.blocks.\2.first."),
        (rf"{inner}2\.", r"groups.\1.blocks.\2.second."),
        # channel attention: global mean, squeeze, activation, excite, sigmoid
        (rf"{inner}3\.module\.1\.", r"groups.\1.blocks.\2.attention.squeeze."),
        (rf"{inner}3\.module\.3\.", r"groups.\1.blocks.\2.attention.excite."),
        (r"^rgs\.(\d+)\.module\.\d+\.", r"groups.\1.last."),
        (r"^conv1\.", "last."),
        (r"^upscale\.0\.", "extra."),
        (r"^conv2\.", "outputs.image."),
    )


def _wdsr(tensors: Mapping[str, Tensor]) -> tuple[Rule, ...]:
    last = _highest(r"body\.(\d+)\.", tensors)
    return (
        (r"^body\.0\.", "first."),
        (rf"^body\.{last}\.", "outputs.image."),
        (r"^body\.(\d+)\.body\.0\.", lambda match: f"blocks.{int(match[1]) - 1}.widen."),
        (r"^body\.(\d+)\.body\.2\.", lambda match: f"blocks.{int(match[1]) - 1}.narrow."),
        (r"^skip\.0\.", "skips.image."),
        # weight normalisation: length and direction, in the names of torch.nn.utils.parametrizations
        (r"\.weight_g$", ".parametrizations.weight.original0"),
        (r"\.weight_v$", ".parametrizations.weight.original1"),
    )


def _dfcan(tensors: Mapping[str, Tensor]) -> tuple[Rule, ...]:
    del tensors
    return (
        (r"^input\.0\.", "first."),
        (r"^RGs\.(\d+)\.RCABs\.(\d+)\.", r"groups.\1.blocks.\2."),
        (r"\.conv_gelu1\.0\.", ".first."),
        (r"\.conv_gelu2\.0\.", ".second."),
        (r"\.conv_relu1\.0\.", ".spectrum."),
        (r"\.conv_relu2\.0\.", ".squeeze."),
        (r"\.conv_sigmoid\.0\.", ".excite."),
        (r"^conv_gelu\.0\.", "last."),
        (r"^conv_out\.", "outputs.image."),
    )


_RULES: dict[str, Callable[[Mapping[str, Tensor]], tuple[Rule, ...]]] = {
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
