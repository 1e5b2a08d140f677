"""Trained models of BiaPy 3.5 to 3.7 as native models."""

from __future__ import annotations

import re
import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from morula.core.errors import JobError, ModelError
from morula.core.voxel_size import VoxelSize
from morula.dialects.biapy.instances import FORMER_LETTERS
from morula.dialects.biapy.networks import native_network
from morula.dialects.biapy.results.weights import own_model
from morula.dialects.converted import Value
from morula.jobs.load import validate
from morula.jobs.yaml_lines import Document
from morula.methods import METHODS
from morula.models.model import Model
from morula.nn.build import kind_of
from morula.nn.network import Network
from morula.nn.weights import read_checkpoint
from morula.representations import REPRESENTATIONS


class CheckpointWarning(UserWarning):
    """Part of a checkpoint has no exact native counterpart."""


# class of the settings in checkpoints of BiaPy up to 3.6; it is a dictionary
_STAND_INS = {"yacs.config.CfgNode": OrderedDict}

# keywords that networks are built with, and their keys in the settings
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


def load_biapy_checkpoint(path: str | Path) -> Model:
    """A ``.pth`` file of BiaPy 3.5 to 3.7, ready to predict, segment or be stored (`Model.save`).

    Weights are found by their names. Where BiaPy's arithmetic differs from what the network's paper says (Attention U-Net, UNETR,
    EDSR, DFCAN and U-NeXt V2 in 3D, ResUNet SE up to 3.6.5, RCAN of 3.5) the network is built with `as_trained`, which
    `model.json` records. Only tensors and plain values are read from the file, never code.

    Args:
        path: the checkpoint.

    Raises:
        MissingFileError: when there is no such file.
        ModelError: when it is damaged, no checkpoint of BiaPy, or has a network or channels that are not supported.

    Warns:
        CheckpointWarning: for a normalisation that depends on the type of the images.

    Examples:
        >>> model = load_biapy_checkpoint("nuclei-checkpoint-best.pth")  # doctest: +SKIP
        >>> labels = model.segment(morula.read("scan.tif"))  # doctest: +SKIP
    """
    content = read_checkpoint(path, stand_ins=_STAND_INS)
    tensors, config = _parts(content, path)
    if isinstance(content.get("morula"), str):
        return own_model(content, str(path))
    sections = {name: _section(config, name, path) for name in ("MODEL", "DATA", "PROBLEM")}
    try:
        return _model(tensors, content, sections, str(path))
    except ModelError as error:
        raise ModelError(error.code, error.rule, key=error.key, value=error.value, remedy=error.remedy, file=path) from error
    except JobError as error:
        problem = error.problems[0]
        raise ModelError("checkpoint.settings", str(problem), key=problem.key, remedy=problem.remedy, file=path) from error


def _model(tensors: Mapping[str, Tensor], content: Mapping[str, Value], sections: Mapping[str, Mapping[str, Value]], path: str) -> Model:
    """The model of a checkpoint's parts."""
    model, data, problem = sections["MODEL"], sections["DATA"], sections["PROBLEM"]
    patch = [int(edge) for edge in _numbers(data.get("PATCH_SIZE"))]
    ndim = 3 if str(problem.get("NDIM", "2D")).upper() == "3D" else 2
    settings: dict[str, Value] = {ours: model[theirs] for ours, theirs in _KEYWORDS.items() if theirs in model}
    # strides of HRNet; up to 3.5 each width had a section
    hrnet = next((model[name] for name in model if name.startswith("HRNET") and name[5:] in ("", str(model.get("ARCHITECTURE"))[5:])), None)
    settings |= {"cfg": hrnet} if isinstance(hrnet, Mapping) else {}
    # positions of transformers are stored for this grid
    settings["input_shape"] = patch
    keywords = content.get("model_build_kwargs")
    if isinstance(keywords, Mapping):
        settings |= {name: value for name, value in keywords.items() if value is not None}
    method = _method(problem, model, settings)
    architecture, version = str(model.get("ARCHITECTURE", "")), str(content.get("biapy_version", ""))
    network = native_network(architecture, tensors, settings, version=version, heads=_heads(method))
    described = {"kind": kind_of(network.options), **network.options.model_dump(mode="json", exclude={"kind"})}
    # classes, channels and boxes follow from the tensors, which cannot be wrong
    if method["kind"] == "semantic":
        method["classes"] = max(2, *network.heads.values())
    elif method["kind"] == "regression":
        method |= {"in_channels": network.in_channels, "channels": sum(network.heads.values()), **_units(data)}
    elif method["kind"] in ("masked_autoencoder", "crappify", "noise2void"):
        method["in_channels"] = network.in_channels
    if method["kind"] == "masked_autoencoder":
        method["token"] = list(network.multiple)
    sampling: Value = {"patch": patch[:ndim], "normalise": _normalise(data)}
    job = validate(Document({"images": {}, "method": method, "network": described, "sampling": sampling}, {}, path))
    voxel_size = VoxelSize.of(None, ndim)
    built = METHODS.load(job.method.kind)(job.method, job.objects, ndim=ndim, spacing=voxel_size.spacing(ndim))
    # the settings can be edited, the tensors cannot: compare them before anything is predicted
    if built.heads != network.heads:
        raise ModelError(
            "checkpoint.heads", f"the network predicts {sum(network.heads.values())} channel(s) but the stored settings say {built.heads}"
        )
    return Model(job, network, built, network.in_channels, voxel_size)


def is_biapy_checkpoint(path: str | Path) -> bool:
    """Whether a file holds weights with settings of BiaPy beside them.

    Raises:
        MissingFileError: when there is no such file.
        ModelError: when it is damaged.
    """
    content = read_checkpoint(path, stand_ins=_STAND_INS)
    return isinstance(content, Mapping) and isinstance(content.get("cfg"), Mapping)


def _parts(content: object, path: str | Path) -> tuple[dict[str, Tensor], Mapping[str, Value]]:
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
        "checkpoint.not_biapy",
        "is not a checkpoint of BiaPy 3.5 to 3.7: it must contain weights (model) and settings (cfg)",
        remedy="Name a file NAME-checkpoint-best.pth that BiaPy wrote.",
        file=path,
    )


def _section(config: Mapping[str, Value], name: str, path: str | Path) -> Mapping[str, Value]:
    section = config.get(name)
    if not isinstance(section, Mapping):
        raise ModelError(
            "checkpoint.not_biapy",
            f"is not a checkpoint of BiaPy 3.5 to 3.7: its settings lack {name}",
            remedy="Name a file NAME-checkpoint-best.pth that BiaPy wrote.",
            file=path,
        )
    return section


def _heads(method: Mapping[str, Value]) -> list[str]:
    """Names of the method's heads."""
    heads = method.get("heads")
    if isinstance(heads, list):
        return ["_".join(group) for group in heads]
    return [{"channels": "channels", "semantic": "classes"}.get(str(method["kind"]), "image")]


def _method(problem: Mapping[str, Value], model: Mapping[str, Value], settings: Mapping[str, Value]) -> dict[str, Value]:
    """The method that BiaPy's kind of problem is here."""
    kind = str(problem.get("TYPE", ""))
    match kind:
        case "INSTANCE_SEG":
            return _instances(_inner(problem, "INSTANCE_SEG"), settings)
        case "SEMANTIC_SEG":
            return {"kind": "semantic"}
        case "IMAGE_TO_IMAGE":
            _check_linear(settings)
            return {"kind": "regression"}
        case "DENOISING":
            return {"kind": "noise2void"}
        case "SELF_SUPERVISED":
            section = _inner(problem, "SELF_SUPERVISED")
            if section.get("PRETEXT_TASK") == "masking":
                mask = str(model.get("MAE_MASK_TYPE", "grid"))
                return {"kind": "masked_autoencoder", "mask": mask, **({"ratio": model["MAE_MASK_RATIO"]} if mask == "random" else {})}
            # BiaPy states by how much the voxels of a plane become fewer, the native factor is that of an edge
            factor = _numbers(section.get("RESIZING_FACTOR", 4))[0] ** 0.5
            return {"kind": "crappify", "noise": _numbers(section.get("NOISE", 0.2))[0], "factor": factor}
        case _:
            raise ModelError(
                "checkpoint.workflow",
                "networks of this workflow are not supported",
                key="PROBLEM.TYPE",
                value=kind,
                remedy="Networks for INSTANCE_SEG, SEMANTIC_SEG, SELF_SUPERVISED, IMAGE_TO_IMAGE and DENOISING can be loaded.",
            )


def _check_linear(settings: Mapping[str, Value]) -> None:
    """Refuse predicted images with an activation.

    Raises:
        ModelError: for another activation than linear.
    """
    stated = settings.get("head_activations")
    others = {str(name) for name in stated if str(name) != "linear"} if isinstance(stated, Sequence) and not isinstance(stated, str) else ()
    if others:
        rule = "is an activation of the predicted image, which is not supported"
        raise ModelError("checkpoint.activation", rule, key="PROBLEM.IMAGE_TO_IMAGE.OUTPUT_CHANNEL_ACT", value=sorted(others))


def _units(data: Mapping[str, Value]) -> dict[str, Value]:
    """What the values of a predicted image are: on the scale of its image, or of all targets (3.7)."""
    norm = _inner(data, "NORMALIZATION")
    target = _inner(norm, "TARGET")
    if not target.get("ENABLE"):
        return {"units": "image"}
    kind = target.get("TYPE") or norm.get("TYPE", "zero_mean_unit_variance")
    standard = kind == "zero_mean_unit_variance"
    section = _inner(target, "ZERO_MEAN_UNIT_VAR" if standard else "PERC_CLIP")
    low, high = (_numbers(section.get(name, -1.0)) for name in (("MEAN_VAL", "STD_VAL") if standard else ("LOWER_VALUE", "UPPER_VALUE")))
    if len(set(low)) != 1 or len(set(high)) != 1:
        rule = "has a scale for each channel of the targets, which is not supported"
        raise ModelError("checkpoint.normalisation", rule, key="DATA.NORMALIZATION.TARGET", value=kind)
    return {"offset": low[0], "scale": high[0] if standard else high[0] - low[0]}


def _inner(section: Mapping[str, Value], name: str) -> Mapping[str, Value]:
    inner = section.get(name)
    return inner if isinstance(inner, Mapping) else {}


def _instances(section: Mapping[str, Value], settings: Mapping[str, Value]) -> dict[str, Value]:
    """The method `channels`; with a decoder for each head, the channels of each."""
    channels = _channels(section, settings)
    method: dict[str, Value] = {"kind": "channels", "channels": [options for options, _ in channels]}
    sizes = [int(size) for size in _numbers(settings.get("output_channels") or ())]
    if not settings.get("separated_decoders") or len(sizes) < 2:
        return method
    # fill the heads in order, each up to its number of outputs
    groups: list[list[str]] = [[]]
    room = sizes.pop(0)
    for options, width in channels:
        if room == 0 and sizes:
            groups.append([])
            room = sizes.pop(0)
        groups[-1].append(str(options["kind"]))
        room -= width
    return {**method, "heads": groups}


def _channels(section: Mapping[str, Value], settings: Mapping[str, Value]) -> list[tuple[dict[str, Value], int]]:
    """The channels with those options that mean the same here and the activations that the network was trained with, and their widths."""
    dims = len(_numbers(settings["input_shape"])) - 1
    codes = [code for code in _codes(section.get("DATA_CHANNELS", section.get("DATA_CHANNELS_MODE", "BC"))) if dims == 3 or code != "Z"]
    stated = section.get("DATA_CHANNELS_EXTRA_OPTS")
    extra = stated[0] if isinstance(stated, Sequence) and not isinstance(stated, str) and stated else stated
    stated_activations = settings.get("head_activations")
    # ce_sigmoid is a sigmoid that BiaPy leaves to the loss while training
    activations = [
        str(activation).lower().removeprefix("ce_")
        for activation in (stated_activations if isinstance(stated_activations, Sequence) else ())
    ]
    found, position = [], 0
    for code in codes:
        options, width = _representation(code, _inner(extra if isinstance(extra, Mapping) else {}, code), activations[position:][:1], dims)
        found.append((options, width))
        position += width
    return found


def _codes(stated: Value) -> list[str]:
    """Codes of the channels; a text is in the letters of versions up to 3.5."""
    if isinstance(stated, str):
        return [code for letter in re.findall(r"Dv2|.", stated) for code in FORMER_LETTERS.get(letter, (letter,))]
    return [str(code) for code in stated] if isinstance(stated, Sequence) else []


def _representation(code: str, extra: Mapping[str, Value], activations: list[str], dims: int) -> tuple[dict[str, Value], int]:
    """One channel: its options, and how many outputs it has.

    Raises:
        ModelError: for a channel that is not known, or one that was trained with another activation.
    """
    if code not in REPRESENTATIONS.names:
        raise ModelError(
            "checkpoint.unknown_channel", f"is not known; known are {', '.join(REPRESENTATIONS.names)}", key="DATA_CHANNELS", value=code
        )
    fields = REPRESENTATIONS.options(code).model_fields if REPRESENTATIONS.options(code) else {}
    kept = {name: value for name, value in extra.items() if name in fields}
    activation = activations[0] if activations else None
    if activation is not None and "activation" in fields:
        kept["activation"] = activation
    # a sigmoid means that distances were scaled to 0 to 1
    elif activation is not None and "norm" in fields and "norm" not in kept and code != "R":
        kept["norm"] = activation == "sigmoid"
    elif code == "R":
        kept |= {"norm": False, "unit": 1.0}  # rays are lengths there, in voxels
    try:
        built = REPRESENTATIONS.load(code)(REPRESENTATIONS.options(code).model_validate(kept) if fields else None)
    except ValueError as error:
        raise ModelError("checkpoint.channel_options", f"the channel {code} cannot have these options: {error}", value=kept) from error
    if activation is not None and built.activation != activation:
        raise ModelError(
            "checkpoint.activation",
            f"is the activation that the channel {code} was trained with; natively it has {built.activation}",
            value=activation,
        )
    return {"kind": code, **kept}, built.width(dims)


def _normalise(data: Mapping[str, Value]) -> dict[str, Value]:
    """The normalisation that the network was trained with."""
    section = _inner(data, "NORMALIZATION")
    clip = section.get("PERC_CLIP")
    bounds = clip if isinstance(clip, Mapping) else {}
    clips = bool(bounds.get("ENABLE")) if isinstance(clip, Mapping) else bool(clip)
    match str(section.get("TYPE", "zero_mean_unit_variance")):
        case "zero_mean_unit_variance" | "custom" if not clips:
            stated = _inner(section, "ZERO_MEAN_UNIT_VAR")
            mean, deviation = (_numbers(stated.get(name, -1.0)) for name in ("MEAN_VAL", "STD_VAL"))
            if -1.0 in mean + deviation:
                return {"kind": "zscore", "per": "image"}
            return {"kind": "fixed", "offset": mean, "scale": deviation}
        # percentiles are computed for each image, as in training
        case "scale_range" if clips and bounds:
            return {"kind": "percentile", "per": "image", "low": bounds["LOWER_PERC"], "high": bounds["UPPER_PERC"], "clip": True}
        case "scale_range":
            return {"kind": "minmax", "per": "image"}
        case "div" if not clips:
            warnings.warn(
                "the network was trained on images divided by 255 or 65535, by their type; 255 is used. "
                "State sampling.normalise for 16-bit images.",
                CheckpointWarning,
                stacklevel=4,
            )
            return {"kind": "fixed", "scale": 255.0}
        case other:
            raise ModelError(
                "checkpoint.normalisation",
                f"is the normalisation of the training images{' after cutting percentiles' if clips else ''}, which is not supported",
                key="DATA.NORMALIZATION.TYPE",
                value=other,
            )


def _numbers(value: Value) -> list[float]:
    """A number, or a list of numbers, as a list."""
    items = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    return [float(item) for item in items if isinstance(item, int | float)]


class BiapyCheckpoint:
    """The `morula.models.checkpoint_formats.CheckpointFormat` of BiaPy's ``.pth`` files."""

    @staticmethod
    def recognises(path: Path) -> bool:
        """Whether the file holds weights with settings of BiaPy beside them."""
        return is_biapy_checkpoint(path)

    @staticmethod
    def model(path: Path) -> Model:
        """The trained model."""
        return load_biapy_checkpoint(path)

    @staticmethod
    def network_options(path: Path) -> tuple[str, dict[str, Value]]:
        """Kind and options of the network."""
        options = _network(path).options
        return kind_of(options), options.model_dump(exclude={"kind", "from_"})

    @staticmethod
    def tensors(path: Path) -> dict[str, Tensor]:
        """Weights by the names of the native network."""
        return _network(path).state_dict()


def _network(path: Path) -> Network:
    with warnings.catch_warnings(
        action="ignore", category=CheckpointWarning
    ):  # it is about the images; the new job states its own normalisation
        return load_biapy_checkpoint(path).network
