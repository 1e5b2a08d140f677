"""A trained model of BiaPy 3.5 to 3.7 as one of ours."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from morula.core.errors import JobError, ModelError
from morula.core.voxel_size import VoxelSize
from morula.dialects.biapy.networks import native_network
from morula.jobs.load import validate
from morula.jobs.yaml_lines import Document
from morula.methods import METHODS
from morula.models.model import Model
from morula.nn.build import kind_of
from morula.nn.network import Network
from morula.nn.weights import read_checkpoint


class CheckpointWarning(UserWarning):
    """Something of a checkpoint that has no exact counterpart here."""


# the class that BiaPy up to 3.6 stores its settings in, a dictionary
_STAND_INS = {"yacs.config.CfgNode": OrderedDict}

# keywords that networks are built by, and where the settings hold them
_KEYWORDS = {
    "activation": "ACTIVATION",
    "normalization": "NORMALIZATION",
    "z_down": "Z_DOWN",
    "yx_down": "YX_DOWN",
    "num_heads": "VIT_NUM_HEADS",
    "ViT_hidd_mult": "UNETR_VIT_HIDD_MULT",
    "decoder_activation": "UNETR_DEC_ACTIVATION",
    "conv_block_order": "CONV_BLOCK_ORDER",
}
_OLD_CHANNELS = {"B": ("F",), "C": ("C",), "D": ("Db",), "P": ("P",), "M": ("M",), "A": ("A",), "F": ("H", "V", "Z")}


def load_biapy_checkpoint(path: str | Path) -> Model:
    """A ``.pth`` file of BiaPy 3.5 to 3.7, ready to predict, segment or be stored (`Model.save`).

    Weights are found by their names. Where BiaPy's arithmetic differs from what the network's paper says (Attention U-Net, UNETR,
    EDSR, DFCAN and U-NeXt V2 in 3D, ResUNet SE up to 3.6.5, RCAN of 3.5) the network is built with `as_trained`, which the
    model's description records. Only tensors and plain values are read from the file, never code.

    Args:
        path: the checkpoint.

    Raises:
        MissingFileError: when there is no such file.
        ModelError: when it is damaged, no checkpoint of BiaPy, or holds what cannot be represented here; the message names it.

    Warns:
        CheckpointWarning: for a normalisation that depends on the type of the images.

    Examples:
        >>> model = load_biapy_checkpoint("nuclei-checkpoint-best.pth")  # doctest: +SKIP
        >>> labels = model.segment(morula.read("scan.tif"))  # doctest: +SKIP
    """
    content = read_checkpoint(path, stand_ins=_STAND_INS)
    tensors, config = _parts(content, path)
    model, data, problem = (_section(config, name, path) for name in ("MODEL", "DATA", "PROBLEM"))
    patch = [int(n) for n in data["PATCH_SIZE"]]
    settings = {ours: model[theirs] for ours, theirs in _KEYWORDS.items() if theirs in model} | {"input_shape": patch}
    settings |= {name: value for name, value in (content.get("model_build_kwargs") or {}).items() if value is not None}
    ndim = 3 if str(problem.get("NDIM", "2D")).upper() == "3D" else 2
    try:
        method = _method(problem, model, settings)
        network = native_network(
            str(model.get("ARCHITECTURE", "")), tensors, settings, version=str(content.get("biapy_version", "")), heads=_heads(method)
        )
        described = {"kind": kind_of(network.options), **network.options.model_dump(mode="json", exclude={"kind"})}
        if method["kind"] == "semantic":
            method["classes"] = max(2, *network.heads.values())
        elif method["kind"] in ("masked_autoencoder", "crappify"):
            method["in_channels"] = network.in_channels
        if method["kind"] == "masked_autoencoder":
            method["token"] = list(network.multiple)
        job = {
            "images": {},
            "method": method,
            "network": described,
            "sampling": {"patch": patch[:ndim], "normalise": _normalise(data)},
        }
        validated: Any = validate(Document(job, {}, str(path)))
    except (ModelError, JobError) as error:
        raise ModelError(f"{path} cannot be used: {error}") from error
    voxel_size = VoxelSize.of(None, ndim)
    built = METHODS.load(validated.method.kind)(validated.method, validated.objects, ndim=ndim, spacing=voxel_size.spacing(ndim))
    if built.heads != network.heads:
        raise ModelError(
            f"{path} cannot be used: its network predicts {sum(network.heads.values())} channel(s) but its settings say {built.heads}."
        )
    return Model(validated, network, built, network.in_channels, voxel_size)


def is_biapy_checkpoint(path: str | Path) -> bool:
    """Whether a file holds weights with settings of BiaPy beside them.

    Raises:
        MissingFileError: when there is no such file.
        ModelError: when it is damaged.
    """
    content = read_checkpoint(path, stand_ins=_STAND_INS)
    return isinstance(content, Mapping) and isinstance(content.get("cfg"), Mapping)


def _parts(content: Any, path: str | Path) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """Tensors and settings.

    Raises:
        ModelError: when there are none.
    """
    if isinstance(content, Mapping):
        for key in ("model", "model_state_dict", "state_dict"):
            tensors = content.get(key)
            if isinstance(tensors, Mapping) and isinstance(content.get("cfg"), Mapping):
                named = {str(name): values for name, values in tensors.items() if isinstance(values, Tensor)}
                return named, content["cfg"]
    raise ModelError(
        f"{path} is no checkpoint of BiaPy 3.5 to 3.7: it must hold the weights (model) and the settings (cfg). Name such a file."
    )


def _section(config: Mapping[str, Any], name: str, path: str | Path) -> Mapping[str, Any]:
    section = config.get(name)
    if not isinstance(section, Mapping):
        raise ModelError(f"{path} is no checkpoint of BiaPy 3.5 to 3.7: its settings lack {name}. Name such a file.")
    return section


def _heads(method: Mapping[str, Any]) -> list[str]:
    """Names of the method's heads."""
    if method.get("heads"):
        return ["_".join(group) for group in method["heads"]]
    return [{"channels": "channels", "semantic": "classes"}.get(str(method["kind"]), "image")]


def _method(problem: Mapping[str, Any], model: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The method that BiaPy's kind of problem is here."""
    kind = str(problem.get("TYPE", ""))
    match kind:
        case "INSTANCE_SEG":
            return _instances(problem["INSTANCE_SEG"], settings)
        case "SEMANTIC_SEG":
            return {"kind": "semantic"}
        case "SELF_SUPERVISED":
            section = problem.get("SELF_SUPERVISED") or {}
            if section.get("PRETEXT_TASK") == "masking":
                mask = str(model.get("MAE_MASK_TYPE", "grid"))
                return {"kind": "masked_autoencoder", "mask": mask, **({"ratio": model["MAE_MASK_RATIO"]} if mask == "random" else {})}
            # BiaPy states the factor of the number of voxels of a plane
            factor = float(section.get("RESIZING_FACTOR", 4)) ** 0.5
            return {"kind": "crappify", "noise": float(section.get("NOISE", 0.2)), "factor": factor}
        case _:
            raise ModelError(f"a network for {kind} cannot be loaded; those for INSTANCE_SEG, SEMANTIC_SEG and SELF_SUPERVISED can.")


def _instances(section: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The method `channels`; with a decoder for each head, the channels of each."""
    channels = _channels(section, settings)
    method: dict[str, Any] = {"kind": "channels", "channels": [options for options, _ in channels]}
    sizes = list(settings.get("output_channels") or ())
    if not settings.get("separated_decoders") or len(sizes) < 2:
        return method
    groups: list[list[str]] = [[]]
    room = sizes.pop(0)
    for options, width in channels:
        if room == 0 and sizes:
            groups.append([])
            room = sizes.pop(0)
        groups[-1].append(options["kind"])
        room -= width
    return {**method, "heads": groups}


def _channels(section: Mapping[str, Any], settings: Mapping[str, Any]) -> list[tuple[dict[str, Any], int]]:
    """The channels with those options that mean the same here and the activations that the network was trained with, and their widths."""
    stated = section.get("DATA_CHANNELS", section.get("DATA_CHANNELS_MODE", "BC"))
    dims = 2 if len(settings["input_shape"]) == 3 else 3
    codes = [c for letter in stated for c in _OLD_CHANNELS.get(letter, (letter,))] if isinstance(stated, str) else list(stated)
    if dims == 2:
        codes = [code for code in codes if code != "Z"]
    extra = (section.get("DATA_CHANNELS_EXTRA_OPTS") or [{}])[0]
    activations = [str(each).lower().removeprefix("ce_") for each in settings.get("head_activations") or ()]
    found, position = [], 0
    for code in codes:
        options, width = _representation(code, dict(extra.get(code) or {}), activations[position : position + 1], dims)
        found.append((options, width))
        position += width
    return found


def _representation(code: str, extra: dict[str, Any], activations: list[str], dims: int) -> tuple[dict[str, Any], int]:
    """One channel: its options, and how many outputs it has.

    Raises:
        ModelError: for a channel that is not known here, or one with another activation.
    """
    from morula.representations import REPRESENTATIONS

    if code not in REPRESENTATIONS.names:
        raise ModelError(f"the channel {code!r} is not known here; known are {', '.join(REPRESENTATIONS.names)}.")
    fields = REPRESENTATIONS.options(code).model_fields if REPRESENTATIONS.options(code) else {}
    kept = {name: value for name, value in extra.items() if name in fields}
    activation = activations[0] if activations else None
    if activation is not None and "activation" in fields:
        kept["activation"] = activation
    elif activation is not None and "norm" in fields and "norm" not in kept and code != "R":
        kept["norm"] = activation == "sigmoid"
    elif code == "R":
        kept |= {"norm": False, "unit": 1.0}  # rays are lengths there, in voxels
    try:
        built = REPRESENTATIONS.load(code)(REPRESENTATIONS.options(code).model_validate(kept) if fields else None)
    except ValueError as error:
        raise ModelError(f"the channel {code} was trained with options {kept} that cannot be used here: {error}") from error
    if activation is not None and built.activation != activation:
        raise ModelError(f"the channel {code} was trained with the activation {activation} but has {built.activation} here.")
    return {"kind": code, **kept}, built.width(dims)


def _normalise(data: Mapping[str, Any]) -> dict[str, Any]:
    """The normalisation in force."""
    section = data.get("NORMALIZATION", {})
    clip = section.get("PERC_CLIP") or {}
    clips = bool(clip.get("ENABLE")) if isinstance(clip, Mapping) else bool(clip)
    match str(section.get("TYPE", "zero_mean_unit_variance")):
        case "zero_mean_unit_variance" | "custom" if not clips:
            stated = section.get("ZERO_MEAN_UNIT_VAR") or {}
            mean, deviation = (_numbers(stated.get(name, -1.0)) for name in ("MEAN_VAL", "STD_VAL"))
            if -1.0 in mean + deviation:
                return {"kind": "zscore", "per": "image"}
            return {"kind": "fixed", "offset": mean, "scale": deviation}
        case "scale_range" if clips and isinstance(clip, Mapping):
            return {"kind": "percentile", "per": "image", "low": clip["LOWER_PERC"], "high": clip["UPPER_PERC"], "clip": True}
        case "scale_range":
            return {"kind": "minmax", "per": "image"}
        case "div" if not clips:
            warnings.warn(
                "the network's images were divided by 255 or 65535, whichever their type asks for; 255 is used. "
                "State sampling.normalise for 16-bit images.",
                CheckpointWarning,
                stacklevel=3,
            )
            return {"kind": "fixed", "scale": 255.0}
        case other:
            raise ModelError(
                f"images were normalised by {other!r}{' after cutting percentiles' if clips else ''}, which cannot be repeated here."
            )


def _numbers(value: Any) -> list[float]:
    return [float(each) for each in (value if isinstance(value, list | tuple) else [value])]


class BiapyCheckpoint:
    """The `morula.models.checkpoint_formats.CheckpointFormat` of BiaPy's ``.pth`` files."""

    @staticmethod
    def recognises(path: Path) -> bool:
        """Whether the file holds weights with settings of BiaPy beside them."""
        return is_biapy_checkpoint(path)

    @staticmethod
    def network_options(path: Path) -> tuple[str, dict[str, Any]]:
        """Kind and options of the network."""
        options = _network(path).options
        return kind_of(options), options.model_dump(exclude={"kind", "from_"})

    @staticmethod
    def tensors(path: Path) -> dict[str, Tensor]:
        """Weights by the names of the native network."""
        return _network(path).state_dict()


def _network(path: Path) -> Network:
    with warnings.catch_warnings(action="ignore", category=CheckpointWarning):  # about the images, which are the new job's own
        return load_biapy_checkpoint(path).network
