"""A job file of BiaPy as a job of Morula, every default that differs written out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from morula.core.errors import JobError, Problem
from morula.dialects.biapy.architectures import network_of
from morula.dialects.biapy.augmentor import augmentations_of
from morula.dialects.biapy.instances import POST, SEG, decoder_keys, method_of, objects_of
from morula.dialects.biapy.keys import DEFAULTS
from morula.dialects.biapy.pretraining import pretraining_of
from morula.dialects.biapy.settings import Settings, read_settings
from morula.dialects.converted import Converted
from morula.jobs.load import validate
from morula.jobs.yaml_lines import Document

_ORIGINS = {
    "images.train.labels": "DATA.TRAIN.GT_PATH",
    "images.train": "DATA.TRAIN.PATH",
    "images.validate": "DATA.VAL.PATH",
    "images.test.labels": "DATA.TEST.GT_PATH",
    "images.test": "DATA.TEST.PATH",
    "images.voxel_size": "DATA.TRAIN.RESOLUTION",
    "images.axes": "DATA.TRAIN.INPUT_IMG_AXES_ORDER",
    "method.channels.": f"{SEG}.DATA_CHANNELS_EXTRA_OPTS.",
    "method.channels": f"{SEG}.DATA_CHANNELS",
    "method.losses": f"{SEG}.DATA_CHANNELS_LOSSES",
    "method.weights": f"{SEG}.DATA_CHANNEL_WEIGHTS",
    "method.thresholds": "TEST.MATCHING_STATS_THS",
    "method": "PROBLEM.TYPE",
    "network.features": "MODEL.FEATURE_MAPS",
    "network.from": "PATHS.CHECKPOINT_FILE",
    "network": "MODEL.ARCHITECTURE",
    "sampling.patch": "DATA.PATCH_SIZE",
    "sampling.batch": "TRAIN.BATCH_SIZE",
    "sampling.overlap": "DATA.TRAIN.OVERLAP",
    "sampling.normalise": "DATA.NORMALIZATION.TYPE",
    "augment": "AUGMENTOR.ENABLE",
    "training.epochs": "TRAIN.EPOCHS",
    "training.optimiser.rate": "TRAIN.LR",
    "training.optimiser.weight_decay": "TRAIN.W_DECAY",
    "training.optimiser": "TRAIN.OPTIMIZER",
    "training.schedule": "TRAIN.LR_SCHEDULER.NAME",
    "training.seed": "SYSTEM.SEED",
    "training": "TRAIN.ENABLE",
    "prediction.median": f"{POST}.MEDIAN_FILTER_AXIS",
    "prediction": "DATA.TEST.OVERLAP",
    "objects.refine": f"{POST}.INSTANCE_REFINEMENT.OPERATIONS",
    "objects.measure": f"{POST}.MEASURE_PROPERTIES.EXTRA_PROPS",
    "objects.filter": f"{POST}.MEASURE_PROPERTIES.REMOVE_BY_PROPERTIES.PROPS",
    "objects.colour": "TEST.MATCHING_STATS_THS_COLORED_IMG",
    "objects.process.growth_erosion": f"{SEG}.WATERSHED.FORE_EROSION_RADIUS",
    "objects.process.growth_dilation": f"{SEG}.WATERSHED.FORE_DILATION_RADIUS",
    "objects.process.seeds": f"{SEG}.WATERSHED.SEED_CHANNELS_THRESH",
    "objects.process.growth": f"{SEG}.WATERSHED.GROWTH_MASK_CHANNELS_THRESH",
    "objects.process.seed_morphology": f"{SEG}.WATERSHED.SEED_MORPH_SEQUENCE",
    "objects.process.surface": f"{SEG}.WATERSHED.TOPOGRAPHIC_SURFACE_CHANNEL",
    "objects.process.min_seed": f"{SEG}.WATERSHED.DATA_REMOVE_SMALL_OBJ_BEFORE",
    "objects": f"{SEG}.DATA_CHANNELS",
}
"""Where in BiaPy's file stands what a key of ours was made of; the first that fits."""


def convert(path: str | Path) -> Converted:
    """The native job of a job file of BiaPy; paths in it are meant from the current folder, as there.

    Raises:
        MissingFileError: when there is no such file.
        JobError: with all problems at once, each with line, key, value and remedy.

    Examples:
        >>> print(convert("instances.yaml").text())  # doctest: +SKIP
    """
    settings = read_settings(path)
    if not settings["TRAIN.ENABLE"]:
        said = "there is nothing to train. Set it to True; a trained model is used with `morula segment IMAGES --model RUN`."
        settings.wrong("TRAIN.ENABLE", said)
    pretrains = settings["PROBLEM.TYPE"] == "SELF_SUPERVISED"
    job: dict[str, Any] = {
        "images": _images(settings, labelled=not pretrains),
        "method": pretraining_of(settings) if pretrains else method_of(settings),
        "network": network_of(settings),
        "sampling": _sampling(settings),
        "augment": augmentations_of(settings),
        "training": _training(settings),
        "prediction": _prediction(settings),
        **({} if pretrains else {"objects": objects_of(settings)}),
    }
    _judge(settings, job)
    settings.remark_unread()
    remarks = tuple(sorted(settings.remarks, key=lambda each: each.line or 0))
    return Converted(job, tuple(settings.notes), remarks, lambda problem: _traced(problem, settings))


def _judge(settings: Settings, job: dict[str, Any]) -> None:
    """Raise everything that was found wrong, on the way or in the native job."""
    problems = list(settings.problems)
    told = {problem.key for problem in problems}
    try:
        validate(Document(job, {}, None))
    except JobError as error:
        traced = [_traced(problem, settings) for problem in error.problems]
        problems += [problem for problem in traced if problem.key not in told]
    if problems:
        raise JobError(sorted(problems, key=lambda each: each.line or 0))


def _traced(problem: Problem, settings: Settings) -> Problem:
    """A problem of the native job at the key that it comes from."""
    origins = {f"objects.process.{ours}": theirs for ours, theirs in decoder_keys(settings).items()}
    for ours, theirs in (origins | _ORIGINS).items():
        if problem.key.startswith(ours):
            rest = problem.key[len(ours) :] if ours.endswith(".") else ""
            return settings.at(theirs + rest, problem.message)
    return problem


def _images(settings: Settings, *, labelled: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"train": _source(settings, "TRAIN", labels=labelled)}
    if not settings["DATA.VAL.FROM_TRAIN"]:
        found["validate"] = _source(settings, "VAL", labels=labelled)
    else:
        found["validate"] = settings["DATA.VAL.SPLIT_TRAIN"] or None
        settings.note("of a single image a block of its own is validated on; BiaPy draws patches, which may overlap those of the training.")
    if settings["TEST.ENABLE"] and settings["DATA.TEST.USE_VAL_AS_TEST"]:
        if settings["DATA.VAL.FROM_TRAIN"]:
            settings.wrong("DATA.TEST.USE_VAL_AS_TEST", "cannot be honoured with drawn images: name DATA.VAL.PATH, or DATA.TEST.PATH.")
        found["test"] = _source(settings, "VAL", labels=labelled)
    elif settings["TEST.ENABLE"]:
        found["test"] = _source(settings, "TEST", labels=labelled and settings["DATA.TEST.LOAD_GT"])
    found["voxel_size"] = _voxel_size(settings)
    if axes := _axes(settings):
        found["axes"] = axes
    return found


def _source(settings: Settings, part: str, *, labels: bool) -> dict[str, str]:
    places = {"raw": "PATH", **({"labels": "GT_PATH"} if labels else {})}
    return {ours: str(Path(settings[f"DATA.{part}.{theirs}"]).expanduser().absolute()) for ours, theirs in places.items()}


def _voxel_size(settings: Settings) -> dict[str, Any]:
    """Edge lengths; pixels where none are stated, whatever the files say: so BiaPy takes them."""
    stated = {key: settings[key] for part in ("TRAIN", "VAL", "TEST") if -1 not in settings[key := f"DATA.{part}.RESOLUTION"]}
    names = "zyx"[-settings.ndim :]
    if not stated:
        settings.note("no RESOLUTION is stated: lengths are in pixels, as there. Drop images.voxel_size for what the files state.")
        return {**dict.fromkeys(names, 1.0), "unit": "pixel"}
    first = next(iter(stated))
    if any(lengths != stated[first] for lengths in stated.values()):
        settings.wrong(
            first, "differs from the others: all images of a job have one voxel size. Resample them, or predict in a job of its own."
        )
    lengths = stated[first]
    if len(lengths) != settings.ndim or min(lengths) <= 0:
        settings.wrong(first, f"{settings.ndim} lengths are expected, {', '.join(names)}.")
        lengths = [1.0] * settings.ndim
    settings.note("RESOLUTION is taken for micrometres, and obeyed by all distances, also while training.")
    return {**dict(zip(names, lengths, strict=True)), "unit": "um"}


def _axes(settings: Settings) -> str | None:
    orders = {settings[f"DATA.{part}.INPUT_IMG_AXES_ORDER"] for part in ("TRAIN", "VAL", "TEST")} - {"TZCYX"}
    if len(orders) > 1:
        settings.wrong("DATA.TRAIN.INPUT_IMG_AXES_ORDER", "differs from the others: all images of a job have the same axes.")
    order = next(iter(orders), None)
    for part in ("TRAIN", "VAL", "TEST"):
        stated = settings[key := f"DATA.{part}.INPUT_MASK_AXES_ORDER"]
        if stated != "TZCYX" and stated.replace("C", "") != (order or "TZCYX").replace("C", ""):
            settings.wrong(key, "cannot be honoured: labels have the axes of their images, channels aside. Write the axes in one order.")
    return order


def _sampling(settings: Settings) -> dict[str, Any]:
    key = "DATA.PATCH_SIZE"
    size = settings[key]
    if key not in settings and settings.ndim == 3:
        settings.wrong(key, "is not stated, and this is for 2D images. Write (Z, Y, X, channels).")
        size = [16, 64, 64, 1]
    elif len(size) != settings.ndim + 1 or min(size) < 1:
        settings.wrong(
            key, f"{settings.ndim + 1} numbers are expected, {'(Z, Y, X, channels)' if settings.ndim == 3 else '(Y, X, channels)'}."
        )
        size = [16, 64, 64, 1][-settings.ndim - 1 :]
    patch = list(size[:-1])
    found: dict[str, Any] = {"patch": patch, "batch": settings["TRAIN.BATCH_SIZE"]}
    if settings["DATA.TRAIN.EXTRACT_RANDOM_PATCH"]:
        found["kind"] = "random"
        if settings["DATA.TRAIN.PROBABILITY_MAP"]:
            found["foreground"] = settings["DATA.TRAIN.W_FOREGROUND"]
    else:
        found["kind"] = "grid"
        overlap = [round(share * edge) for share, edge in zip(settings.per_axis("DATA.TRAIN.OVERLAP"), patch, strict=True)]
        found["overlap"] = overlap if any(overlap) else 0.0
    settings.note("an epoch has 40 steps at least; state sampling.patches_per_epoch for another length.")
    return {**found, "normalise": _normalise(settings)}


def _normalise(settings: Settings) -> dict[str, Any]:
    of = "DATA.NORMALIZATION"
    kind, clips = settings[f"{of}.TYPE"], settings[f"{of}.PERC_CLIP.ENABLE"]
    if kind == "div":
        if clips:
            settings.wrong(f"{of}.PERC_CLIP.ENABLE", "cannot be honoured with TYPE div. Write scale_range.")
        settings.note("images are divided by 255; for 16-bit images write sampling.normalise {kind: fixed, scale: 65535}.")
        return {"kind": "fixed", "scale": 255.0}
    if clips:
        if kind == "zero_mean_unit_variance":
            settings.note("images that are cut at percentiles lie between 0 and 1 here; BiaPy then brings them to mean 0 and deviation 1.")
        low, high = settings[f"{of}.PERC_CLIP.LOWER_PERC"], settings[f"{of}.PERC_CLIP.UPPER_PERC"]
        if low >= 0 and high >= 0:
            return {"kind": "percentile", "per": "image", "low": low, "high": high, "clip": True}
        bottom, top = settings[f"{of}.PERC_CLIP.LOWER_VALUE"], settings[f"{of}.PERC_CLIP.UPPER_VALUE"]
        if -1.0 in (*bottom, *top):
            settings.wrong(f"{of}.PERC_CLIP.ENABLE", "state LOWER_PERC and UPPER_PERC, or LOWER_VALUE and UPPER_VALUE, beside it.")
            return {"kind": "minmax", "per": "image"}
        scale = [b - a for a, b in zip(bottom, top, strict=False)]
        return {"kind": "fixed", "offset": _single(bottom), "scale": _single(scale), "clip": [0.0, 1.0]}
    if kind == "scale_range":
        return {"kind": "minmax", "per": "image"}
    mean, deviation = (settings[f"{of}.ZERO_MEAN_UNIT_VAR.{name}"] for name in ("MEAN_VAL", "STD_VAL"))
    if -1.0 in (*mean, *deviation):
        if [-1.0] not in (mean, deviation) or mean != deviation:
            settings.wrong(
                f"{of}.ZERO_MEAN_UNIT_VAR.{'STD' if mean != [-1.0] else 'MEAN'}_VAL", "state both, MEAN_VAL and STD_VAL, or none."
            )
        return {"kind": "zscore", "per": "image"}
    return {"kind": "fixed", "offset": _single(mean), "scale": _single(deviation)}


def _single(values: list[float]) -> Any:
    return values[0] if len(values) == 1 else list(values)


def _training(settings: Settings) -> dict[str, Any]:
    for key in ("TRAIN.OPTIMIZER", "TRAIN.LR"):
        _one_entry(settings, key)
    name, rate = str(settings["TRAIN.OPTIMIZER"][0]).lower(), settings["TRAIN.LR"][0]
    if name not in ("sgd", "adam", "adamw"):
        settings.wrong("TRAIN.OPTIMIZER", "is not known here; it is one of SGD, ADAM, ADAMW.")
        name = "adamw"
    rule: dict[str, Any] = {"kind": name, "rate": rate, "weight_decay": settings["TRAIN.W_DECAY"]}
    if name == "sgd":
        rule |= {"momentum": 0.9, "nesterov": True}
    else:
        rule["betas"] = list(_one_entry(settings, "TRAIN.OPT_BETAS"))
    settings.note("biases and norms are not decayed; of what BiaPy decays they are a small part.")
    found: dict[str, Any] = {"epochs": settings["TRAIN.EPOCHS"], "optimiser": rule, "schedule": _schedule(settings, rate)}
    if (patience := settings["TRAIN.PATIENCE"]) > 0:
        found["patience"] = patience
    elif patience != -1:
        settings.wrong("TRAIN.PATIENCE", "is no number of epochs to wait for. Write 1 or more, or -1 to train for all of them.")
    if (batches := settings["TRAIN.ACCUM_ITER"]) != 1:
        found["accumulate"] = batches
    if (clip := settings["TRAIN.GRADIENT_CLIP_NORM"]) > 0:
        found["clip"] = clip
    if (workers := settings["SYSTEM.NUM_WORKERS"]) >= 0:
        found["workers"] = workers
    return {**found, "seed": settings["SYSTEM.SEED"]}


def _one_entry(settings: Settings, key: str) -> Any:
    """The entry of a list that has one a network."""
    if len(settings[key]) != 1:
        settings.wrong(key, "one entry is expected: there is one network.")
    return (settings[key] or DEFAULTS[key])[0]


def _schedule(settings: Settings, rate: float) -> Any:
    of = "TRAIN.LR_SCHEDULER"
    name = settings[f"{of}.NAME"]
    if name not in ("reduceonplateau", "warmupcosine"):
        return {"onecycle": "one_cycle", "": "constant"}[name]
    lowest = _one_entry(settings, f"{of}.MIN_LR")
    if lowest < 0:
        settings.wrong(f"{of}.MIN_LR", f"must be stated with {name}: the lowest rate.")
    if name == "reduceonplateau":
        patience = settings[f"{of}.REDUCEONPLATEAU_PATIENCE"]
        if patience < 0:
            settings.wrong(f"{of}.REDUCEONPLATEAU_PATIENCE", f"must be stated with {name}: epochs without a lower loss.")
        factor = settings[f"{of}.REDUCEONPLATEAU_FACTOR"]
        return {"kind": "plateau", "factor": factor, "patience": max(patience, 0), "floor": max(lowest, 0.0)}
    epochs = settings[f"{of}.WARMUP_COSINE_DECAY_EPOCHS"]
    if not 0 <= epochs < settings["TRAIN.EPOCHS"]:
        settings.wrong(f"{of}.WARMUP_COSINE_DECAY_EPOCHS", f"must be stated with {name}, and be fewer than TRAIN.EPOCHS.")
        epochs = 0
    return {"kind": "cosine", "warmup": epochs / settings["TRAIN.EPOCHS"], "floor": max(lowest, 0.0) / rate if rate else 0.0}


def _prediction(settings: Settings) -> dict[str, Any]:
    patch = [edge for edge in settings["DATA.PATCH_SIZE"][: settings.ndim] if edge] or [1]
    shares = [2 * pad / edge for pad, edge in zip(settings.per_axis("DATA.TEST.PADDING"), patch, strict=False)]
    found: dict[str, Any] = {"overlap": round(min(0.5, max(*shares, *settings.per_axis("DATA.TEST.OVERLAP"))), 4)}
    if settings["TEST.AUGMENTATION"]:
        found["augment"] = {"auto": "all", "full": "all"}.get(settings["TEST.AUGMENTATION_GROUP"], settings["TEST.AUGMENTATION_GROUP"])
    if filters := _medians(settings):
        found["median"] = filters
    return found


def _medians(settings: Settings) -> list[Mapping[str, Any]]:
    found = []
    if settings[f"{POST}.MEDIAN_FILTER"]:
        axes, sizes = (settings[f"{POST}.MEDIAN_FILTER_{name}"] for name in ("AXIS", "SIZE"))
        if not axes:
            settings.wrong(f"{POST}.MEDIAN_FILTER", "names no axes. Write MEDIAN_FILTER_AXIS and MEDIAN_FILTER_SIZE beside it.")
        if len(axes) != len(sizes):
            settings.wrong(f"{POST}.MEDIAN_FILTER_SIZE", "one size an entry of MEDIAN_FILTER_AXIS is expected.")
        found = [{"axes": axis, "size": size | 1} for axis, size in zip(axes, sizes, strict=False)]
    former = (("z", "Z_FILTERING"), ("yz", "YZ_FILTERING"))
    return found + [{"axes": axis, "size": settings[f"{POST}.{name}_SIZE"] | 1} for axis, name in former if settings[f"{POST}.{name}"]]
