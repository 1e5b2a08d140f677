"""Networks of BiaPy's job files as ours, written out with all sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from morula.core.family import did_you_mean
from morula.dialects.biapy.settings import Settings
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
    "unetr": "unetr",
    "mae": "mae",
    "edsr": "edsr",
    "rcan": "rcan",
    "wdsr": "wdsr",
    "dfcan": "dfcan",
}
"""Our names of BiaPy's architectures."""

_NORMS = {"bn": "batch", "sync_bn": "batch", "in": "instance", "gn": "group", "none": "none"}
_USUAL = {"preactivation_unet": 2, "resunet_se": 2}


def network_of(settings: Settings) -> dict[str, Any]:
    """The network."""
    name = str(settings["MODEL.ARCHITECTURE"]).lower()
    kind = KINDS.get(name)
    if kind is None:
        settings.wrong("MODEL.ARCHITECTURE", f"is not known here; it is one of {', '.join(KINDS)}.{did_you_mean(name, list(KINDS))}")
        return {"kind": "classic_unet"}
    match kind:
        case "unetr" | "mae":
            options = _transformer(kind, settings)
        case "edsr" | "wdsr" | "dfcan":
            options = {}
        case "rcan":
            options = {
                "features": [settings["MODEL.RCAN_CONV_FILTERS"]],
                "groups": settings["MODEL.RCAN_RG_BLOCK_NUM"],
                "blocks": settings["MODEL.RCAN_RCAB_BLOCK_NUM"],
                "reduction": settings["MODEL.RCAN_REDUCTION_RATIO"],
            }
        case _:
            options = _levels(kind, settings)
    return {"kind": kind, **options, **_start(settings)}


def _start(settings: Settings) -> dict[str, Any]:
    if not settings["MODEL.LOAD_CHECKPOINT"]:
        return {}
    if not settings["PATHS.CHECKPOINT_FILE"]:
        settings.wrong("MODEL.LOAD_CHECKPOINT", "no file is named. Write the checkpoint under PATHS.CHECKPOINT_FILE.")
    return {"from": str(Path(settings["PATHS.CHECKPOINT_FILE"]).expanduser().absolute())}


def _levels(kind: str, settings: Settings) -> dict[str, Any]:
    """U-Nets and their relatives."""
    features = [32, 64, 128, 256, 512] if kind == "multiresunet" else list(settings["MODEL.FEATURE_MAPS"])
    steps = len(features) - (2 if kind == "resunetpp" else 1)
    skipped = 1 if kind == "resunetpp" else 0  # BiaPy names a factor for the first level, which is not pooled
    across = _per_step(settings, "MODEL.YX_DOWN", steps + skipped)[skipped:]
    along = _per_step(settings, "MODEL.Z_DOWN", steps + skipped)[skipped:] if settings.ndim == 3 else []
    pools = [([along[i]] if settings.ndim == 3 else []) + [across[i]] * 2 for i in range(steps)]
    if kind == "multiresunet":
        _passed_over(settings, "MODEL.FEATURE_MAPS", "MODEL.DROPOUT_VALUES", "MODEL.ACTIVATION", "MODEL.NORMALIZATION", "MODEL.KERNEL_SIZE")
        return {"features": features, "pools": pools, "kernels": 3, "norm": "batch", "activation": "relu"}
    edge = 7 if kind.startswith("unext") else settings["MODEL.KERNEL_SIZE"]
    isotropy = _per_level(settings, "MODEL.ISOTROPY", len(features)) if settings.ndim == 3 else [True] * len(features)
    kernels = [[edge if same else 1, edge, edge][-settings.ndim :] for same in isotropy]
    options: dict[str, Any] = {"features": features, "kernels": kernels, "pools": pools}
    if kind.startswith("unext"):
        stem = settings["MODEL.CONVNEXT_STEM_K_SIZE"]
        scale = {"layer_scale": settings["MODEL.CONVNEXT_LAYER_SCALE"]} if kind == "unext_v1" else {}
        blocks = {"blocks": _convolutions(kind, settings, len(features)), "drop_blocks": settings["MODEL.CONVNEXT_SD_PROB"]}
        return {**options, **blocks, "stem": stem, "upsample_linear": settings["MODEL.UPSAMPLE_LAYER"] == "upsampling", **scale}
    dropouts = _per_level(settings, "MODEL.DROPOUT_VALUES", len(features))
    options |= _style(settings)
    if kind == "resunetpp":
        if len(set(dropouts)) > 1:
            settings.wrong("MODEL.DROPOUT_VALUES", "cannot be honoured: this network has one share for all levels.")
        if settings["MODEL.UPSAMPLE_LAYER"] == "upsampling":
            settings.wrong("MODEL.UPSAMPLE_LAYER", "cannot be honoured: this network has transposed convolutions. Write convtranspose.")
        return {**options, "dropout": dropouts[0]}
    count = _convolutions(kind, settings, len(features))
    upsample = {"convtranspose": "transpose", "upsampling": "linear"}[settings["MODEL.UPSAMPLE_LAYER"]]
    more = {"convolutions": count, "decoder_convolutions": count, "dropout": dropouts, "upsample": upsample}
    if settings["PROBLEM.INSTANCE_SEG.SEPARATED_DECODERS_PER_HEAD"]:
        more["separate_decoders"] = True
    return {**options, **more}


def _convolutions(kind: str, settings: Settings, levels: int) -> int:
    """Convolutions, or blocks, of each level."""
    counts = _per_level(settings, "MODEL.CONV_LAYERS", levels)
    usual = _USUAL.get(kind)
    if len(set(counts)) > 1 or (usual is not None and counts[0] != usual):
        rule = f"this network has {usual} at each level" if usual else "levels have as many convolutions each"
        settings.wrong("MODEL.CONV_LAYERS", f"cannot be honoured: {rule}.")
    return 1 if usual is not None else int(counts[0])


def _style(settings: Settings) -> dict[str, Any]:
    activation = str(settings["MODEL.ACTIVATION"]).lower()
    known = get_args(Activation)
    if activation not in known:
        settings.wrong("MODEL.ACTIVATION", f"is not known here; it is one of {', '.join(known)}.{did_you_mean(activation, list(known))}")
    return {
        "norm": _NORMS[settings["MODEL.NORMALIZATION"]],
        "groups": 16 if settings.ndim == 2 else 8,
        "activation": activation,
    }


def _transformer(kind: str, settings: Settings) -> dict[str, Any]:
    options: dict[str, Any] = {
        "token": settings["MODEL.VIT_TOKEN_SIZE"],
        "width": settings["MODEL.VIT_EMBED_DIM"],
        "layers": settings["MODEL.VIT_NUM_LAYERS"],
        "heads": settings["MODEL.VIT_NUM_HEADS"],
        "mlp_ratio": settings["MODEL.VIT_MLP_RATIO"],
    }
    if kind == "mae":
        return {**options, "decoder_mlp_ratio": settings["MODEL.VIT_MLP_RATIO"]}
    every = settings["MODEL.UNETR_VIT_HIDD_MULT"]
    if len(set(settings["MODEL.DROPOUT_VALUES"])) > 1:
        settings.wrong("MODEL.DROPOUT_VALUES", "cannot be honoured: this network has one share for all levels.")
    more = {"features": settings["MODEL.UNETR_VIT_NUM_FILTERS"], "kernel": settings["MODEL.KERNEL_SIZE"], **_style(settings)}
    return {**options, **more, "dropout": settings["MODEL.DROPOUT_VALUES"][0], **({"every": every} if every > 0 else {})}


def _per_step(settings: Settings, key: str, steps: int) -> list[int]:
    """Factors between levels; 0 stands for 2."""
    return [int(each) or 2 for each in _per_level(settings, key, steps)]


def _per_level(settings: Settings, key: str, count: int) -> list[Any]:
    """One value a level; values that are all the same hold for any number of levels."""
    given = list(settings[key])
    if len(set(given)) == 1:
        return given[:1] * count
    if len(given) != count:
        settings.wrong(key, f"cannot be honoured: {count} values are needed, as MODEL.FEATURE_MAPS says.")
    return (given + given[-1:] * count)[:count] if given else [0] * count


def _passed_over(settings: Settings, *keys: str) -> None:
    for key in keys:
        if key in settings:
            settings.remark(key, "this architecture has sizes of its own.")
