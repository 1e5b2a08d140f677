"""A job of pytorch-3dunet as a job of Morula's own, and what of it has no counterpart there."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from morula.core.errors import OptionError
from morula.dialects.pytorch3dunet import transforms as kinds
from morula.dialects.pytorch3dunet.ignored_keys import IgnoredKeyWarning
from morula.dialects.pytorch3dunet.job import Job, TrainerOptions
from morula.dialects.pytorch3dunet.loaders import LoadersOptions, PhaseOptions
from morula.dialects.pytorch3dunet.networks import network_options
from morula.dialects.pytorch3dunet.patches import parse_lists
from morula.dialects.pytorch3dunet.transforms import Lists

_CLASS_LOSSES = ("CrossEntropyLoss", "WeightedCrossEntropyLoss", "PixelWiseCrossEntropyLoss")
_REGRESSION = ("MSELoss", "L1Loss", "SmoothL1Loss", "WeightedSmoothL1Loss")
_LOSSES = {"BCEWithLogitsLoss": "bce", "DiceLoss": "dice", "BCEDiceLoss": "bce_dice", "GeneralizedDiceLoss": "generalized_dice"}


class Converted(NamedTuple):
    """A native job, and what of the original it leaves out or does otherwise."""

    job: dict[str, Any]
    notes: list[str]

    def text(self) -> str:
        """As a job file, the notes as comments above it."""
        lines = "".join(f"# {note}\n" for note in self.notes)
        return lines + yaml.safe_dump(self.job, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)


def convert(job: Job) -> Converted:
    """The native job that comes nearest to a training job of pytorch-3dunet.

    Raises:
        OptionError: for jobs that only `morula train3dunet` can run: regression, and targets that no native channel holds.
    """
    loaders, trainer = job.loaders, job.trainer
    if trainer is None or loaders.train is None:
        raise OptionError("only jobs that train can be converted; a job that predicts runs with morula predict3dunet --config.")
    notes: list[str] = []
    lists = parse_lists(loaders.train.transformer)
    document = {
        "images": _images(loaders, notes),
        "method": _method(job, lists, notes),
        "network": _network(job, notes),
        "sampling": _sampling(loaders, lists, notes),
        "augment": _augmentations(lists, notes) or "none",
        "training": _training(job, trainer, notes),
    }
    return Converted(document, notes)


def _images(loaders: LoadersOptions, notes: list[str]) -> dict[str, Any]:
    assert loaders.train is not None
    found: dict[str, Any] = {"train": _source(loaders, loaders.train)}
    if loaders.val is not None:
        found["validate"] = _source(loaders, loaders.val)
    if loaders.test is not None:
        found["test"] = {"raw": _source(loaders, loaders.test)["raw"]}
    several = [name for name in ("train", "val", "test") if (phase := getattr(loaders, name)) is not None and len(phase.file_paths) > 1]
    for name in several:
        notes.append(f"loaders.{name} names several files; a native job takes a folder or a pattern, here only the first is named.")
    if loaders.weight_internal_path is not None:
        notes.append("weights of voxels are left out: native jobs know masks of what is labelled, not weights.")
    return found


def _source(loaders: LoadersOptions, phase: PhaseOptions) -> dict[str, str]:
    first = phase.file_paths[0]
    if not isinstance(first, str):
        return {"raw": str(Path(first.raw).absolute()), **({"labels": str(Path(first.label).absolute())} if first.label else {})}
    place = Path(first).expanduser().absolute()
    if loaders.dataset == "DSB2018Dataset":
        return {"raw": str(place / "images"), "labels": str(place / "masks")}
    raw, label = (names if isinstance(names, str) else names[0] for names in (loaders.raw_internal_path, loaders.label_internal_path))
    if place.is_dir():
        files = sorted(entry for entry in place.iterdir() if entry.suffix.lower() in (".h5", ".hdf", ".hdf5", ".hd5"))
        place = files[0] if files else place
    if place.suffix.lower() in (".h5", ".hdf", ".hdf5", ".hd5"):
        return {"raw": f"{place}:/{raw}", "labels": f"{place}:/{label}"}
    return {"raw": str(place), "labels": str(place.parent.parent / label)}


def _method(job: Job, lists: Lists, notes: list[str]) -> dict[str, Any]:
    loss, model = job.config["loss"], job.config["model"]
    if not model.get("is_segmentation", True) or loss["name"] in _REGRESSION:
        raise OptionError(f"{loss['name']} predicts values, for which there is no native method. Run it with morula train3dunet --config.")
    if loss["name"] in _CLASS_LOSSES or model.get("final_sigmoid", True) is False:
        found: dict[str, Any] = {"kind": "semantic", "classes": max(2, int(model["out_channels"]))}
        if loss.get("ignore_index") is not None and loss["ignore_index"] >= 0:
            found["ignore"] = int(loss["ignore_index"])
        if loss.get("weight"):
            notes.append("loss.weight is left out: native classes are weighed alike.")
        return {**found, "losses": {"ce": 1.0}}
    channels = _channels(lists, notes)
    name = _LOSSES[loss["name"]]
    codes = [each if isinstance(each, str) else next(iter(each)) for each in channels]
    if loss["name"] == "BCEDiceLoss" and {"alpha", "beta", "alphs"} & set(loss):
        notes.append("the shares of BCEDiceLoss are left out: bce_dice weighs both alike.")
    notes.append("the native loss of a channel is averaged over channels, the original's over all voxels; figures differ slightly.")
    return {"kind": "channels", "channels": channels, "losses": dict.fromkeys(codes, name)}


def _channels(lists: Lists, notes: list[str]) -> list[Any]:
    """Native channels of the targets that a label list makes."""
    for each in lists.label:
        match each:
            case kinds.StandardLabelToBoundary():
                notes.append("boundaries reach across faces here, across edges too in the original: the native line is a little thinner.")
                return [*(["F"] if each.foreground else []), {"C": {"mode": each.mode}}]
            case kinds.BlobsToMask():
                return ["F", {"C": {"mode": "outer"}}] if each.boundary else ["F"]
            case kinds.LabelToAffinities() | kinds.LabelToZAffinities():
                notes.append("affinities compare the voxel itself with one before it here, two voxels around it in the original.")
                return [{"A": {"offsets": _offsets(each)}}]
            case kinds.LabelToBoundaryAndAffinities() | kinds.LabelToMaskAndAffinities() | kinds.RandomLabelToAffinities():
                raise OptionError(f"{each.name} has no native channel. Run the job with morula train3dunet --config.")
    return ["F"]


def _offsets(each: kinds.LabelToAffinities | kinds.LabelToZAffinities) -> list[list[int]]:
    if isinstance(each, kinds.LabelToZAffinities):
        return [[-distance, 0, 0] for distance in each.offsets]
    pairs = zip(each.offsets, each.z_offsets or each.offsets, strict=True)
    return [offset for plane, depth in pairs for offset in ([0, 0, -plane], [0, -plane, 0], [-depth, 0, 0])]


def _network(job: Job, notes: list[str]) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IgnoredKeyWarning)
        options = network_options(job.config["model"])
    if job.config["model"].get("conv_padding", 1) not in (1, [1, 1, 1], [1, 1]):
        notes.append("model.conv_padding is left out: native networks keep the size.")
    return {"kind": "ordered_unet", **options.model_dump(mode="json", exclude_defaults=True)}


def _sampling(loaders: LoadersOptions, lists: Lists, notes: list[str]) -> dict[str, Any]:
    assert loaders.train is not None
    builder = loaders.train.slice_builder
    found: dict[str, Any] = {"batch": loaders.batch_size}
    crop = next((each for each in lists.raw if isinstance(each, kinds.CropToFixed)), None)
    if builder is not None:
        patch, stride = list(builder.patch_shape), list(builder.stride_shape)
        found |= {"patch": patch, "kind": "grid", "overlap": [max(0, p - s) for p, s in zip(patch, stride, strict=True)]}
        if builder.name == "FilterSliceBuilder":
            notes.append("FilterSliceBuilder has no counterpart; patches lie at random, most of them on labels (sampling.foreground).")
            found = {"batch": loaders.batch_size, "patch": patch, "kind": "random", "foreground": 0.9}
    if crop is not None:
        found |= {"patch": list(crop.size), "kind": "random"}
        found.pop("overlap", None)
    per = "data_set" if loaders.global_normalization and len(loaders.train.file_paths) == 1 else "image"
    if not loaders.global_normalization:
        notes.append("intensities are brought to scale image by image, not patch by patch: the same voxel always has the same value.")
    for each in lists.raw:
        match each:
            case kinds.Standardize():
                found["normalise"] = {"kind": "zscore", "per": per}
            case kinds.PercentileNormalizer():
                found["normalise"] = {"kind": "percentile", "low": each.pmin, "high": each.pmax, "per": per}
            case kinds.Normalize():
                found["normalise"] = {"kind": "minmax", "per": per}
    return found


def _augmentations(lists: Lists, notes: list[str]) -> list[Any]:
    found = [entry for each in lists.raw if (entry := _augmentation(each)) is not None]
    if any(isinstance(each, kinds.RandomContrast) for each in lists.raw):
        notes.append("contrast turns about the patch's mean and cuts nothing off here.")
    if any(isinstance(each, kinds.AdditivePoissonNoise) for each in lists.raw):
        notes.append("AdditivePoissonNoise is left out: native Poisson noise is that of counted photons.")
    return found


def _augmentation(each: kinds.Transform) -> Any:
    match each:
        case kinds.RandomFlip():
            return {"flip": {"probability": 1 - each.axis_prob}}
        case kinds.RandomRotate90():
            return "rotate90"
        case kinds.RandomRotate():
            about = sorted({"zyx"[3 - a - b] for a, b in each.axes})
            return {"rotate": {"degrees": float(each.angle_spectrum), "about": about, "probability": 1.0}}
        case kinds.ElasticDeformation():
            spread = each.alpha / (2 * math.sqrt(math.pi) * each.sigma) ** 1.5  # of white noise after the Gaussian filter, far from borders
            return {"elastic": {"alpha": round(spread, 3), "sigma": math.sqrt(3) * each.sigma, "probability": each.execution_probability}}
        case kinds.RandomContrast():
            return {"contrast": {"low": each.alpha[0], "high": each.alpha[1], "probability": each.execution_probability}}
        case kinds.RandomGammaCorrection():
            return {"gamma": {"low": each.gamma[0], "high": each.gamma[1], "probability": each.execution_probability}}
        case kinds.GaussianBlur3D():
            return {"blur": {"sigma": each.sigma[1], "probability": each.execution_probability}}
        case kinds.AdditiveGaussianNoise():
            return {"gaussian_noise": {"sigma": each.scale[1], "probability": each.execution_probability}}
    return None


def _training(job: Job, trainer: TrainerOptions, notes: list[str]) -> dict[str, Any]:
    optimizer = job.config["optimizer"]
    name = str(optimizer.get("name", "Adam"))
    kind = {"Adam": "adam", "AdamW": "adamw", "SGD": "sgd"}.get(name, "adamw")
    if kind != name.lower():
        notes.append(f"optimizer {name} has no counterpart; AdamW stands in its place.")
    rule: dict[str, Any] = {"kind": kind, "lr": float(optimizer.get("learning_rate", 1e-3))}
    rule["weight_decay"] = float(optimizer.get("weight_decay", 0.0))
    if kind == "sgd":
        rule |= {"momentum": float(optimizer.get("momentum", 0.0)), "nesterov": bool(optimizer.get("nesterov", False))}
    notes.append("biases and norms are not decayed; the best weights are those of the lowest validation loss, whatever eval_metric is.")
    return {
        "epochs": trainer.max_num_epochs,
        "steps": trainer.max_num_iterations,
        "optimiser": rule,
        "schedule": _schedule(job.config.get("lr_scheduler"), notes),
        "validate_every": f"{trainer.validate_after_iters} steps",
        "checkpoint_every": f"{trainer.validate_after_iters} steps",
        "seed": job.plain.manual_seed or 0,
        "workers": job.loaders.num_workers,
        **({} if job.plain.device is None else {"device": job.plain.device}),
    }


def _schedule(config: Mapping[str, Any] | None, notes: list[str]) -> Any:
    if not config:
        return "constant"
    if config.get("name") == "ReduceLROnPlateau":
        names: Sequence[tuple[str, str]] = (("factor", "factor"), ("patience", "patience"), ("threshold", "threshold"), ("min_lr", "floor"))
        return {"kind": "plateau", "factor": 0.1, **{own: config[theirs] for theirs, own in names if theirs in config}}
    notes.append(f"lr_scheduler {config.get('name')} has no counterpart; the rate falls along a cosine.")
    return "cosine"
