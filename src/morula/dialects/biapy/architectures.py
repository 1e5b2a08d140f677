"""Networks of BiaPy's job files as native ones, with all sizes written out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from morula.core.family import did_you_mean
from morula.dialects.biapy.settings import Settings, as_list, is_number
from morula.dialects.converted import Value
from morula.nn.options import Activation

KINDS = {
    "unet": "classic_unet",
    "resunet": "preactivation_unet",
    "resunet++": "resunetpp",
    "attention_unet": "attention_unet",
    "seunet": "seunet",
    "resunet_se": "resunet_se",
    "multiresunet": "multiresunet",
    "unext_v1": "unext_v1",
    "unext_v2": "unext_v2",
    "hrnet": "hrnet",
    "unetr": "unetr",
    "mae": "mae",
    "edsr": "edsr",
    "rcan": "rcan",
    "wdsr": "wdsr",
    "dfcan": "dfcan",
}
"""Native names of BiaPy's architectures."""

_NOT_SUPPORTED = ("stunet", "nafnet", "vit", "efficientnet", "simple_cnn", "nnunet", "unet_cellpose", "cpnet")
"""Beginnings of the names of BiaPy's other networks."""

_NORMS = {"bn": "batch", "sync_bn": "batch", "in": "instance", "gn": "group", "none": "none"}
_BLOCKS = ("preactivation_unet", "resunet_se")
"""Networks of residual blocks."""
_PLANNED_HEADS = ("classic_unet", "attention_unet", "seunet", *_BLOCKS)
"""Networks whose heads get a further convolution by the plan of a native job."""


def network_of(settings: Settings) -> dict[str, Value]:
    """The value of ``network``."""
    name = _architecture(settings)
    settings.resolve("MODEL.ARCHITECTURE", name)
    kind = KINDS.get(name)
    if kind is None:
        exists = name.startswith(_NOT_SUPPORTED)
        close = "" if exists else did_you_mean(name, list(KINDS)).strip()
        close = close or "Write unet or resunet, the networks of BiaPy's templates."
        settings.wrong("biapy.unknown_value", "MODEL.ARCHITECTURE", f"is not supported; known are {', '.join(KINDS)}", close)
        return {"kind": "classic_unet"}
    if kind in ("unetr", "mae"):
        options = _transformer(kind, settings)
    elif kind == "hrnet":
        options = _hrnet(settings)
    elif kind in ("edsr", "wdsr", "dfcan", "rcan"):
        options = settings.native("network")
    else:
        options = settings.native("network") | _levels(kind, settings)
    # BiaPy's heads are one convolution each, however many rays they have; others could not be stored under its names
    heads: dict[str, Value] = {"head_features": 0} if kind in _PLANNED_HEADS else {}
    return {"kind": kind, **options, **heads, **_start(settings)}


def family_of(architecture: str) -> str:
    """Name of an architecture without its size: UNETR-Mini and the like of the documents are presets of unetr, hrnet48 is a width of hrnet.

    Examples:
        >>> family_of("UNETR-Mini"), family_of("hrnet48"), family_of("resunet++")
        ('unetr', 'hrnet', 'resunet++')
    """
    name = architecture.lower().replace("-", "_")
    return re.sub(r"^(unetr)_(mini|small|base)$|^(hrnet)(18|32|48|64)$", r"\1\3", name)


def _architecture(settings: Settings) -> str:
    return family_of(settings.text("MODEL.ARCHITECTURE"))


def preset_sizes(settings: Settings) -> tuple[str, dict[str, Value]]:
    """Name of the architecture in BiaPy 3.7, and the sizes that a preset of UNETR or a width of HRNet stands for, by BiaPy's keys."""
    name, preset = _architecture(settings), _preset(settings)
    if name == "hrnet":
        return name, _hrnet_in_todays_keys(settings)
    if name != "unetr" or not preset:
        return name, {}
    sizes = {**_PRESETS[preset], "UNETR_VIT_HIDD_MULT": _MULTIPLES[preset]}
    # sizes that are stated go before those of the preset
    kept: dict[str, Value] = {f"MODEL.{key}": value for key, value in sizes.items() if f"MODEL.{key}" not in settings}
    return name, {**kept, "MODEL.UNETR_VIT_MODEL": "custom", "MODEL.VIT_MODEL": "custom"}


def _start(settings: Settings) -> dict[str, Value]:
    """Weights to start from."""
    if not settings.flag("MODEL.LOAD_CHECKPOINT"):
        return {}
    path = settings.text("PATHS.CHECKPOINT_FILE")
    if not path:
        settings.missing(
            "PATHS.CHECKPOINT_FILE",
            "must be stated with MODEL.LOAD_CHECKPOINT, unless name and number are those of a finished run",
            "Write the path of the checkpoint, or run `morula run --config JOB --result_dir DIR --name NAME` with the name of that run.",
        )
    return {"from": str(Path(path).expanduser().absolute())}


def _levels(kind: str, settings: Settings) -> dict[str, Value]:
    """U-Nets and their relatives."""
    features = [32, 64, 128, 256, 512] if kind == "multiresunet" else [int(width) for width in settings.numbers("MODEL.FEATURE_MAPS")]
    pools = _pools(kind, settings, len(features))
    # its sizes are fixed by the paper
    if kind == "multiresunet":
        return {"features": features, "pools": pools, "kernels": 3, "norm": "batch", "activation": "relu"}
    # ConvNeXt blocks have depthwise kernels of 7
    edge = 7 if kind.startswith("unext") else settings.whole("MODEL.KERNEL_SIZE")
    isotropy = _per_level(settings, "MODEL.ISOTROPY", len(features)) if settings.ndim == 3 else [True] * len(features)
    kernels: list[Value] = [[edge if same else 1, edge, edge][-settings.ndim :] for same in isotropy]
    options: dict[str, Value] = {"features": features, "kernels": kernels, "pools": pools}
    linear = settings.text("MODEL.UPSAMPLE_LAYER") == "upsampling"
    if kind.startswith("unext"):
        return {**options, "blocks": _convolutions(kind, settings, len(features)), "upsample_linear": linear}
    dropouts = _per_level(settings, "MODEL.DROPOUT_VALUES", len(features))
    options |= _style(settings)
    if kind == "resunetpp":
        if linear:
            settings.wrong(
                "biapy.not_supported",
                "MODEL.UPSAMPLE_LAYER",
                "cannot be obeyed: this network has transposed convolutions",
                "Write convtranspose.",
            )
        return {**options, "dropout": _single_dropout(settings)}
    separate: dict[str, Value] = {"separate_decoders": True} if settings.flag("PROBLEM.INSTANCE_SEG.SEPARATED_DECODERS_PER_HEAD") else {}
    upsample = "linear" if linear else "transpose"
    counts = _counts(kind, settings, len(features)) | _order(kind, settings)
    return {**options, **counts, "dropout": dropouts, "upsample": upsample, **separate}


def _pools(kind: str, settings: Settings, levels: int) -> list[Value]:
    """Factors between levels, per axis; 0 stands for 2."""
    skipped = 1 if kind == "resunetpp" else 0  # BiaPy states a factor for its first level, which is not pooled
    steps = levels - 1 - skipped
    across = _factors(settings, "MODEL.YX_DOWN", steps + skipped)[skipped:]
    if settings.ndim == 2:
        return [[factor, factor] for factor in across]
    along = _factors(settings, "MODEL.Z_DOWN", steps + skipped)[skipped:]
    return [[depth, factor, factor] for depth, factor in zip(along, across, strict=True)]


def _factors(settings: Settings, key: str, count: int) -> list[int]:
    return [int(factor) or 2 if isinstance(factor, int | float) else 2 for factor in _per_level(settings, key, count)]


def _convolutions(kind: str, settings: Settings, levels: int) -> int:
    """Convolutions, or blocks, of each level."""
    key = "MODEL.CONV_LAYERS"
    counts = [count for count in _per_level(settings, key, levels) if isinstance(count, int)]
    first = (counts or [2])[0]
    if len(set(counts)) > 1:
        settings.wrong(
            "biapy.not_supported",
            key,
            "cannot be obeyed: all levels have the same number of convolutions",
            "Write one number for all levels.",
        )
    least = 2 if kind in _BLOCKS else 1
    if first < least:
        settings.wrong("biapy.out_of_range", key, f"is too few: a level has {least} or more convolutions", f"Write {least} or more.")
    return max(first, least)


def _counts(kind: str, settings: Settings, levels: int) -> dict[str, Value]:
    """Convolutions of each level: of a residual network they are in one block, which has one shortcut."""
    count = _convolutions(kind, settings, levels)
    if kind in _BLOCKS:
        return {"convolutions": 1, "decoder_convolutions": 1, **({"block_convolutions": count} if count != 2 else {})}
    return {"convolutions": count, "decoder_convolutions": count}


def _order(kind: str, settings: Settings) -> dict[str, Value]:
    """With convolutions after normalisation and activation, a residual network normalises its image, too; otherwise it is the same."""
    if settings.text("MODEL.CONV_BLOCK_ORDER") != "norm_act_conv":
        return {}
    if kind == "preactivation_unet":
        return {"normalise_input": True}
    settings.wrong(
        "biapy.not_supported",
        "MODEL.CONV_BLOCK_ORDER",
        "cannot be obeyed: convolutions come before normalisation and activation",
        "Leave it out; MODEL.ARCHITECTURE resunet can normalise before its convolutions.",
    )
    return {}


def _style(settings: Settings) -> dict[str, Value]:
    """Normalisation and activation."""
    activation = settings.text("MODEL.ACTIVATION").lower()
    known = get_args(Activation)
    if activation not in known:
        close = did_you_mean(activation, list(known)).strip()
        settings.wrong("biapy.unknown_value", "MODEL.ACTIVATION", f"is not supported; known are {', '.join(known)}", close)
    return {"norm": _NORMS[settings.text("MODEL.NORMALIZATION")], "groups": 16 if settings.ndim == 2 else 8, "activation": activation}


def _hrnet(settings: Settings) -> dict[str, Value]:
    """HRNet by its width, or by the lists of a custom one."""
    options = _style(settings)
    if "MODEL.ACTIVATION" not in settings:
        options["activation"] = "relu"  # of the paper, and of BiaPy's blocks
    if settings.text("MODEL.HRNET.VARIANT") == "custom":
        return {**options, **_custom_hrnet(settings)}
    factor: Value = [2 if _halves_z(settings) else 1, 2, 2][-settings.ndim :]
    if settings.ndim == 3:
        settings.note(f"HRNet {'halves' if _halves_z(settings) else 'keeps'} the resolution along z, as in the version of its spelling.")
    return {**options, "features": _hrnet_features(settings), "modules": [1, 4, 3], "blocks": 4, "stem": factor, "pools": [factor] * 3}


def _hrnet_features(settings: Settings) -> list[Value]:
    # hrnet48 of 3.5 and 3.6 is hrnet with VARIANT W48 of 3.7
    _, _, width = settings.text("MODEL.ARCHITECTURE").lower().partition("hrnet")
    return [int(width or settings.text("MODEL.HRNET.VARIANT").removeprefix("W")) * factor for factor in (1, 2, 4, 8)]


def _halves_z(settings: Settings) -> bool:
    """Whether steps reduce z, too: by default in 3.5 and 3.6, never in 3.7 for the widths that have names."""
    return settings.text("MODEL.ARCHITECTURE").lower() != "hrnet" and settings.flag("MODEL.HRNET_48.Z_DOWN")


def _custom_hrnet(settings: Settings) -> dict[str, Value]:
    channels, blocks = settings.items("MODEL.HRNET.NUM_CHANNELS"), settings.items("MODEL.HRNET.NUM_BLOCKS")
    features = as_list(channels[-1])
    counts = [count for stage in blocks for count in as_list(stage)]
    for key, value, fits, rule in (
        (
            "NUM_CHANNELS",
            channels,
            [features[: step + 2] for step in range(len(features) - 1)],
            "each stage has one branch more than before",
        ),
        ("NUM_BLOCKS", blocks, [counts[:1] * (step + 2) for step in range(len(features) - 1)], "all branches have as many blocks"),
    ):
        if value != fits:
            settings.wrong(
                "biapy.not_supported", f"MODEL.HRNET.{key}", f"cannot be obeyed: {rule}", "Write [18, 36], [18, 36, 72] and so on."
            )
    steps = max(1, len(features) - 1)
    across = _factors(settings, "MODEL.HRNET.YX_DOWN", steps)
    along = [int(factor) or 1 if isinstance(factor, int) else 1 for factor in _per_level(settings, "MODEL.HRNET.Z_DOWN", steps)]
    if set(across) != {2}:
        settings.wrong("biapy.not_supported", "MODEL.HRNET.YX_DOWN", "cannot be obeyed: each step halves y and x", "Write 2 for each step.")
    pools: list[Value] = [[depth, 2, 2][-settings.ndim :] for depth in along]
    modules = _per_level(settings, "MODEL.HRNET.NUM_MODULES", steps)
    return {"features": features, "modules": modules, "blocks": counts[0], "stem": pools[0], "pools": pools}


def _hrnet_in_todays_keys(settings: Settings) -> dict[str, Value]:
    if settings.text("MODEL.HRNET.VARIANT") == "custom":
        return {}
    features = _hrnet_features(settings)
    if settings.ndim == 2 or not _halves_z(settings):
        return {"MODEL.HRNET.VARIANT": f"W{features[0]}"}
    sizes: dict[str, Value] = {
        "VARIANT": "custom",
        "Z_DOWN": [2, 2, 2],
        "YX_DOWN": [2, 2, 2],
        "NUM_MODULES": [1, 4, 3],
        "NUM_BLOCKS": [[4] * count for count in (2, 3, 4)],
        "NUM_CHANNELS": [features[:count] for count in (2, 3, 4)],
    }
    return {f"MODEL.HRNET.{name}": value for name, value in sizes.items()}


_SIZES = {"VIT_EMBED_DIM": "width", "VIT_NUM_LAYERS": "layers", "VIT_NUM_HEADS": "heads", "VIT_MLP_RATIO": "mlp_ratio"}
_MULTIPLES = {"mini": 1, "small": 2, "base": 3}
"""Every how many blocks of UNETR's presets have a skip connection."""
_PRESETS: dict[str, dict[str, Value]] = {
    "mini": {"VIT_EMBED_DIM": 64, "VIT_NUM_LAYERS": 4, "VIT_NUM_HEADS": 4, "VIT_MLP_RATIO": 4.0},
    "small": {"VIT_EMBED_DIM": 128, "VIT_NUM_LAYERS": 8, "VIT_NUM_HEADS": 8, "VIT_MLP_RATIO": 4.0},
    "base": {"VIT_EMBED_DIM": 256, "VIT_NUM_LAYERS": 12, "VIT_NUM_HEADS": 8, "VIT_MLP_RATIO": 3.0},
}
"""Sizes of UNETR's presets, by BiaPy's keys."""


def _transformer(kind: str, settings: Settings) -> dict[str, Value]:
    options = settings.native("network")
    preset = _preset(settings)
    sizes: dict[str, Value] = {"preset": preset} if preset else {}
    for key, native in _SIZES.items():
        # sizes that are stated go before those of the preset
        if not preset or f"MODEL.{key}" in settings:
            sizes[native] = settings.value(f"MODEL.{key}")
    if preset == "base" and sizes.get("heads") == 12:
        settings.note("UNETR-Base has 8 heads: its width of 256 is no multiple of 12, which BiaPy rejects.")
        del sizes["heads"]
    if kind == "mae":
        return {**options, **sizes, **({} if preset else {"decoder_mlp_ratio": settings.value("MODEL.VIT_MLP_RATIO")})}
    every = settings.whole("MODEL.UNETR_VIT_HIDD_MULT")
    if preset and every < 1:
        every = _MULTIPLES[preset]
    skips: dict[str, Value] = {"every": every} if every > 0 else {}
    kernel = settings.whole("MODEL.KERNEL_SIZE")
    return {**options, **sizes, "kernel": kernel, **_style(settings), "dropout": _single_dropout(settings), **skips}


def _preset(settings: Settings) -> str:
    """Mini, small or base, as MODEL.ARCHITECTURE UNETR-Mini or as the kind of the transformer; empty for sizes of one's own."""
    _, _, named = settings.text("MODEL.ARCHITECTURE").lower().replace("-", "_").partition("_")
    stated = (named, settings.text("MODEL.UNETR_VIT_MODEL"), settings.text("MODEL.VIT_MODEL"))
    return next((name for name in stated if name in _MULTIPLES), "")


def _single_dropout(settings: Settings) -> float:
    """The share of dropout of a network that has one for all levels."""
    values = settings.numbers("MODEL.DROPOUT_VALUES") or [0.0]
    if len(set(values)) > 1:
        settings.wrong(
            "biapy.not_supported",
            "MODEL.DROPOUT_VALUES",
            "cannot be obeyed: this network has one share of dropout for all levels",
            "Write one number.",
        )
    return values[0]


def _per_level(settings: Settings, key: str, count: int) -> list[Value]:
    """One value per level; values that are all the same hold for any number of levels."""
    given = settings.items(key)
    if given and all(value == given[0] and is_number(value) == is_number(given[0]) for value in given):
        return given[:1] * count
    if len(given) != count:
        settings.wrong("biapy.wrong_length", key, f"has the wrong length: {count} values are expected, by MODEL.FEATURE_MAPS")
    return (given + given[-1:] * count)[:count] if given else [0] * count
