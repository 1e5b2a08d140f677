"""A job file of BiaPy as a native job, with every default that differs written out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from morula.core.errors import JobError
from morula.core.family import did_you_mean
from morula.core.location import natural_key
from morula.dialects.biapy.architectures import network_of
from morula.dialects.biapy.augmentor import augmentations_of
from morula.dialects.biapy.denoising import denoising_of
from morula.dialects.biapy.folds import Divided, divided_images, is_divided
from morula.dialects.biapy.image_axes import axes_of
from morula.dialects.biapy.image_to_image import regression_of
from morula.dialects.biapy.instances import method_of
from morula.dialects.biapy.normalisation import normalisation_of
from morula.dialects.biapy.objects import conditions_of, objects_of
from morula.dialects.biapy.origins import origins_of
from morula.dialects.biapy.pretraining import pretraining_of
from morula.dialects.biapy.raw_folders import has_raw_folders, raw_folders, source_of
from morula.dialects.biapy.semantic import semantic_of
from morula.dialects.biapy.settings import Settings, as_list, is_number, read_settings, whole_numbers
from morula.dialects.biapy.super_resolution import super_resolution_of, upscaling_of
from morula.dialects.biapy.table import POST
from morula.dialects.converted import Converted, Value
from morula.jobs.load import validate
from morula.jobs.yaml_lines import Document

_PARTS = ("TRAIN", "VAL", "TEST")
_CONTAINERS = (".zarr", ".n5", ".h5", ".hdf5")


def convert(path: str | Path) -> Converted:
    """The native job of a job file of BiaPy that trains; relative paths in it start at the current folder, as in BiaPy.

    Raises:
        MissingFileError: when there is no such file.
        JobError: with all problems at once, each with line, key, value and remedy.

    Examples:
        >>> print(convert("instances.yaml").text())  # doctest: +SKIP
    """
    return converted(read_settings(path))


def _nothing_to_train(settings: Settings) -> tuple[str, str]:
    if settings.flag("TEST.ENABLE"):
        rule = "has no native job: a native job trains"
        return rule, "Predict with `morula run` and this file, or with `morula segment IMAGES --model CHECKPOINT`."
    return "leaves nothing to do: TEST.ENABLE is not set either", "Set TRAIN.ENABLE, TEST.ENABLE or both to True."


def converted(settings: Settings) -> Converted:
    """The native job of settings that were read.

    Raises:
        JobError: with all problems at once.
    """
    if not settings.flag("TRAIN.ENABLE"):
        settings.wrong("biapy.nothing_to_train", "TRAIN.ENABLE", *_nothing_to_train(settings))
    workflow = settings.text("PROBLEM.TYPE")
    method = _METHODS[workflow](settings)
    network = network_of(settings)
    if len(as_list(method.get("heads", ""))) + ("classes" in method) == 1 and network.pop("separate_decoders", False):
        settings.remark("PROBLEM.INSTANCE_SEG.SEPARATED_DECODERS_PER_HEAD", "the network has one head, and one decoder for it")
    # the order is that of the reference page
    job: dict[str, Value] = {
        "images": _images(settings, labelled=workflow not in UNLABELLED),
        "method": method,
        "network": network,
        "sampling": _sampling(settings),
        "augment": augmentations_of(settings),
        "training": _training(settings),
        "prediction": prediction_of(settings),
        **({"objects": objects_of(settings)} if workflow == "INSTANCE_SEG" else {}),
    }
    check_native(settings, job)
    settings.remark_unread()
    remarks = tuple(sorted(settings.remarks, key=lambda problem: problem.line or 0))
    traced = partial(origins_of, settings)
    return Converted(job, tuple(settings.notes), remarks, settings.trace, partial(check_channels, settings), traced)


_METHODS: Mapping[str, Callable[[Settings], dict[str, Value]]] = {
    "INSTANCE_SEG": method_of,
    "SEMANTIC_SEG": semantic_of,
    "SELF_SUPERVISED": pretraining_of,
    "IMAGE_TO_IMAGE": regression_of,
    "DENOISING": denoising_of,
    "SUPER_RESOLUTION": super_resolution_of,
}
UNLABELLED = ("SELF_SUPERVISED", "DENOISING")
"""Workflows that learn from images alone."""


def check_channels(settings: Settings, in_channels: int) -> None:
    """Compare the channels in DATA.PATCH_SIZE, where it is stated, with those of the images.

    Raises:
        JobError: when they differ.
    """
    key = "DATA.PATCH_SIZE"
    stated = (settings.items(key) or [None])[-1]
    if key in settings and stated != in_channels:
        settings.wrong(
            "biapy.channel_count",
            key,
            f"ends with {stated} channel(s), but the training images have {in_channels}",
            f"Write {in_channels} as its last number, or name other images.",
        )
        raise JobError(settings.problems)


def check_native(settings: Settings, job: dict[str, Value]) -> None:
    """Raise everything that is wrong with the settings, or with the native job that they make.

    Raises:
        JobError: with all problems, in the order of the file.
    """
    problems = list(settings.problems)
    known = {problem.key for problem in problems}
    try:
        # rules of the native job hold for values that the table passes on unchanged
        validate(Document(job, {}, None))
    except JobError as error:
        traced = [settings.trace(problem) for problem in error.problems]
        # a key is reported once, with the more specific problem
        problems += [problem for problem in traced if problem.key not in known]
    if problems:
        raise JobError(sorted(problems, key=lambda problem: problem.line or 0))


def _images(settings: Settings, *, labelled: bool) -> dict[str, Value]:
    divided = divided_images(settings, labelled=labelled) if is_divided(settings) else None
    # a source that was divided has reported its problems already
    found: dict[str, Value] = {} if divided else {"train": _source(settings, "TRAIN", labels=labelled)}
    if divided is not None:
        axes = axes_of(settings, "TRAIN")
        found |= {"train": divided.train | axes, "validate": divided.validation | axes}
    elif not settings.flag("DATA.VAL.FROM_TRAIN"):
        found["validate"] = _source(settings, "VAL", labels=labelled)
    else:
        found["validate"] = settings.number("DATA.VAL.SPLIT_TRAIN") or None
        settings.note(
            "where there is one training image, a block of it is set aside for validation; BiaPy draws patches, which may overlap "
            "those of the training."
        )
    if test := images_to_predict(settings, labelled=labelled, divided=divided):
        found["test"] = test
    found["voxel_size"] = _voxel_size(settings)
    return found


def images_to_predict(settings: Settings, *, labelled: bool, divided: Divided | None = None) -> dict[str, Value] | None:
    """Images to predict, with their labels where they are to be scored; `None` where nothing is predicted."""
    if not settings.flag("TEST.ENABLE"):
        return None
    # clean images are no part of the training, but denoised ones are compared with them
    scored = settings.flag("DATA.TEST.LOAD_GT") and (labelled or settings.text("PROBLEM.TYPE") == "DENOISING")
    if settings.flag("DATA.TEST.USE_VAL_AS_TEST"):
        if settings.flag("DATA.VAL.FROM_TRAIN"):
            divided = divided or (None if settings.problems else divided_images(settings, labelled=labelled))
        if divided is not None:
            if scored and not labelled:
                reason = "the validation images are a part of the training images, which have no clean ones"
                settings.remark("DATA.TEST.LOAD_GT", reason)
            return divided.validation | axes_of(settings, "TRAIN")
        if settings.flag("DATA.VAL.FROM_TRAIN") and not settings.problems:
            settings.wrong(
                "biapy.not_supported",
                "DATA.TEST.USE_VAL_AS_TEST",
                "cannot be obeyed: the validation data are a part of the only training image",
                "Write DATA.VAL.FROM_TRAIN False and DATA.VAL.PATH, or DATA.TEST.PATH.",
            )
        return _source(settings, "VAL", labels=labelled or scored)
    return _source(settings, "TEST", labels=scored)


def _source(settings: Settings, part: str, *, labels: bool) -> dict[str, Value]:
    if has_raw_folders(settings) and (groups := raw_folders(settings, part, labelled=labels)):
        return source_of(pair for group in groups for pair in group) | axes_of(settings, part)
    keys = {"raw": "PATH", **({"labels": "GT_PATH"} if labels else {})}
    several = f"DATA.{part}.INPUT_ZARR_MULTIPLE_DATA"
    if settings.flag(several):  # images and labels are arrays of the same files
        names = {"raw": "RAW", "labels": "GT"}
        found = {native: _arrays(settings, f"DATA.{part}.PATH", f"{several}_{names[native]}_PATH") for native in keys}
    else:
        found = {native: str(_absolute(settings, f"DATA.{part}.{key}")) for native, key in keys.items()}
    return found | axes_of(settings, part)


def _absolute(settings: Settings, key: str) -> Path:
    return Path(settings.text(key)).expanduser().absolute()


def _arrays(settings: Settings, folder: str, name: str) -> Value:
    """Arrays of one name in each container of a folder, or in one container. BiaPy writes a.b for b in a."""
    inner = settings.text(name).replace(".", "/").strip("/")
    if not inner:
        settings.missing(name, "must be stated: the array in each file", "Write volumes.raw for raw in volumes.")
    place = _absolute(settings, folder)
    if place.suffix.lower() in _CONTAINERS:
        return f"{place}:/{inner}"
    found = sorted((path for path in place.glob("*") if path.suffix.lower() in _CONTAINERS), key=lambda path: natural_key(path.name))
    return [f"{path}:/{inner}" for path in found] or f"{place / '*.zarr'}:/{inner}"


def _voxel_size(settings: Settings) -> dict[str, Value]:
    """Voxel size of the images; pixels where the file states no resolution, whatever the images say: so does BiaPy."""
    stated = {key: lengths for part in _PARTS if -1 not in (lengths := settings.numbers(key := f"DATA.{part}.RESOLUTION"))}
    names = "zyx"[-settings.ndim :]
    if not stated:
        settings.note("no RESOLUTION is stated: lengths are in pixels, as in BiaPy, whatever the images state.")
        return {**dict.fromkeys(names, 1.0), "unit": "pixel"}
    first, lengths = next(iter(stated.items()))
    if any(other != lengths for other in stated.values()):
        settings.wrong(
            "biapy.contradiction",
            first,
            "differs from the resolution of the other images: all images of a job have one voxel size",
            "Resample the images, or predict the others in a job of their own.",
        )
    if len(lengths) != settings.ndim or min(lengths) <= 0:
        settings.wrong("biapy.wrong_length", first, f"is not a resolution: {settings.ndim} lengths are expected, {', '.join(names)}")
        lengths = [1.0] * settings.ndim
    settings.note("RESOLUTION is taken as micrometres, and all distances use it, in training, too.")
    return {**dict(zip(names, lengths, strict=True)), "unit": "um"}


def patch_of(settings: Settings) -> list[int]:
    """Edges of a patch in voxels of the targets, (Z)YX, without the channels."""
    key, ndim = "DATA.PATCH_SIZE", settings.ndim
    expected = "(Z, Y, X, channels)" if ndim == 3 else "(Y, X, channels)"
    size = whole_numbers(settings.items(key), least=1)
    if key not in settings and ndim == 3:
        settings.missing(key, "must be stated for 3D images", f"Write {expected}.")
    elif size is None or len(size) != ndim + 1:
        settings.wrong("biapy.wrong_length", key, f"has the wrong length: {ndim + 1} numbers are expected, {expected}")
    else:
        by = upscaling_of(settings) if settings.text("PROBLEM.TYPE") == "SUPER_RESOLUTION" else None
        return [edge * factor for edge, factor in zip(size[:-1], by or [1] * ndim, strict=True)]
    return [16, 64, 64][-ndim:]


def _sampling(settings: Settings) -> dict[str, Value]:
    patch = patch_of(settings)
    found: dict[str, Value] = {"patch": patch, **settings.native("sampling")}
    if settings.flag("DATA.TRAIN.EXTRACT_RANDOM_PATCH"):
        found |= {"kind": "random", "patches_per_epoch": "images"}
        if settings.flag("DATA.TRAIN.PROBABILITY_MAP"):
            found["foreground"] = settings.number("DATA.TRAIN.W_FOREGROUND")
    else:
        found |= {"kind": "grid", "patches_per_epoch": "grid"}
        # BiaPy states a share of the patch, per axis
        overlap = [round(share * edge) for share, edge in zip(settings.per_axis("DATA.TRAIN.OVERLAP"), patch, strict=True)]
        found["overlap"] = overlap if any(overlap) else 0.0
    return {**found, **_left_out(settings), "normalise": normalisation_of(settings)}


def _left_out(settings: Settings) -> dict[str, Value]:
    """Which patches, or images, are not used."""
    training = _conditions(settings, "TRAIN")
    from_train = settings.flag("DATA.VAL.FROM_TRAIN")
    validation = training if from_train else _conditions(settings, "VAL")
    if not (training or validation):
        return {}
    # without fixed patches there are only whole images to judge
    whole = settings.flag("DATA.FILTER_BY_IMAGE") or settings.flag("DATA.TRAIN.EXTRACT_RANDOM_PATCH")
    if whole and not settings.flag("DATA.FILTER_BY_IMAGE"):
        settings.note("patches are drawn at random: samples are left out by the values of whole images, as in BiaPy.")
    scaled = [settings.flag(f"DATA.{part}.FILTER_SAMPLES.NORM_BEFORE") for part in ("TRAIN", *(() if from_train else ("VAL",)))]
    if training and validation and len(set(scaled)) == 2:
        settings.wrong(
            "biapy.contradiction",
            "DATA.VAL.FILTER_SAMPLES.NORM_BEFORE",
            "differs from DATA.TRAIN.FILTER_SAMPLES.NORM_BEFORE: values are judged before or after the normalisation in both",
            "Write the same for both.",
        )
    found: dict[str, Value] = {"leave_out": training, "validation": {"leave_out": validation} if validation else {}}
    found |= {"leave_out_images": whole, "leave_out_normalised": any(scaled)}
    return {name: value for name, value in found.items() if value}


def _conditions(settings: Settings, part: str) -> list[Value]:
    """Lists of conditions; a patch of the training or validation images that meets all of one list is left out."""
    former, section = f"DATA.{part}.MINIMUM_FOREGROUND_PER", f"DATA.{part}.FILTER_SAMPLES"
    least = settings.number(former)
    if least != -1:
        if not 0 <= least <= 1:
            settings.wrong("biapy.out_of_range", former, "is not a share of a patch", "Write a number from 0 to 1, or -1 for all patches.")
        if settings.text("PROBLEM.TYPE") not in ("INSTANCE_SEG", "SEMANTIC_SEG"):
            settings.remark(former, "there are no labels with a foreground")
            return []
        return [[f"foreground < {least!r}"]]
    if not settings.flag(f"{section}.ENABLE"):
        return []
    known = ("mean", "min", "max", *(("foreground",) if settings.text("PROBLEM.TYPE") in ("INSTANCE_SEG", "SEMANTIC_SEG") else ()))
    names = [str(name) for group in settings.items(f"{section}.PROPS") for name in as_list(group)]
    unknown = [name for name in names if name not in known]
    for name in unknown:
        close = did_you_mean(name, list(known)).strip() or "Leave it out."
        rule = f"names {name!r}, which is not supported; known are {', '.join(known)}"
        settings.wrong("biapy.unknown_value", f"{section}.PROPS", rule, close)
    return [] if unknown else conditions_of(settings, section)


def _training(settings: Settings) -> dict[str, Value]:
    name, rate = str(_single_entry(settings, "TRAIN.OPTIMIZER")).lower(), _single_entry(settings, "TRAIN.LR")
    if name not in ("sgd", "adam", "adamw"):
        settings.wrong("biapy.unknown_value", "TRAIN.OPTIMIZER", "is not supported; known are SGD, ADAM, ADAMW")
        name = "adamw"
    settings.resolve("TRAIN.OPTIMIZER", name)
    rule: dict[str, Value] = {"kind": name, "lr": rate}
    if name == "sgd":
        # timm builds SGD with Nesterov momentum
        rule |= {"momentum": 0.9, "nesterov": True}
    else:
        rule["betas"] = as_list(_single_entry(settings, "TRAIN.OPT_BETAS"))
    rule["decay_all"] = True  # biases and the weights of normalisations, too
    if (patience := settings.whole("TRAIN.PATIENCE")) < -1 or patience == 0:
        settings.wrong(
            "biapy.out_of_range", "TRAIN.PATIENCE", "is not a number of epochs", "Write 1 or more, or -1 to train for all epochs."
        )
    native = settings.native("training")
    optimiser = native.pop("optimiser", {})
    assert isinstance(optimiser, dict)
    return {**native, "optimiser": rule | optimiser, "schedule": _schedule(settings, float(rate) if isinstance(rate, int | float) else 0.0)}


def _single_entry(settings: Settings, key: str) -> Value:
    """The entry of a list that has one entry per network."""
    items = settings.items(key)
    if len(items) != 1:
        settings.wrong("biapy.wrong_length", key, "has the wrong length: one entry is expected, because there is one network")
    return items[0] if items else None


def _schedule(settings: Settings, rate: float) -> Value:
    section = "TRAIN.LR_SCHEDULER"
    name = settings.text(f"{section}.NAME")
    if name not in ("reduceonplateau", "warmupcosine"):
        return {"onecycle": "one_cycle", "": "constant"}[name]
    lowest = _single_entry(settings, f"{section}.MIN_LR")
    floor = float(lowest) if isinstance(lowest, int | float) and is_number(lowest) else -1.0
    if floor < 0:
        settings.missing(f"{section}.MIN_LR", f"must be stated with {name}: the lowest learning rate")
    floor = max(floor, 0.0)
    if name == "reduceonplateau":
        patience = settings.whole(f"{section}.REDUCEONPLATEAU_PATIENCE")
        if patience < 0:
            settings.missing(f"{section}.REDUCEONPLATEAU_PATIENCE", f"must be stated with {name}: epochs without a lower loss")
        factor = settings.number(f"{section}.REDUCEONPLATEAU_FACTOR")
        return {"kind": "plateau", "factor": factor, "patience": max(patience, 0), "floor": floor}
    epochs, total = settings.whole(key := f"{section}.WARMUP_COSINE_DECAY_EPOCHS"), settings.whole("TRAIN.EPOCHS")
    if epochs < 0:
        settings.missing(key, f"must be stated with {name}: epochs in which the learning rate rises")
        epochs = 0
    if epochs > total:
        settings.note(f"all {total} epochs are a part of the warm-up of {epochs}; here the learning rate rises to TRAIN.LR within them.")
    return {"kind": "cosine", "warmup": min(1.0, epochs / max(total, 1)), "floor": floor / rate if rate else 0.0}


def prediction_of(settings: Settings) -> dict[str, Value]:
    """How images are predicted: overlap of tiles, test-time augmentation, median filters."""
    patch = (whole_numbers(settings.items("DATA.PATCH_SIZE"), least=1) or [1])[: settings.ndim]
    # padding is cut off a tile on both sides, so neighbouring tiles overlap by twice as much
    shares = [2 * pad / edge for pad, edge in zip(settings.per_axis("DATA.TEST.PADDING"), patch, strict=False)]
    overlap = round(min(0.5, max(*shares, *settings.per_axis("DATA.TEST.OVERLAP"))), 4)
    found: dict[str, Value] = {"overlap": overlap, **settings.native("prediction")}
    if settings.flag("TEST.AUGMENTATION"):
        group = settings.text("TEST.AUGMENTATION_GROUP")
        found["tta"] = {"auto": "all", "full": "all"}.get(group, group)
    filters = medians_of(settings)
    # of 2D images, only a stack has a z axis: see `morula.dialects.biapy.results.stack`
    kept: list[Value] = [condition for condition in filters if settings.ndim == 3 or "z" not in str(condition["axes"])]
    if len(kept) < len(filters) and not settings.flag("TEST.ANALIZE_2D_IMGS_AS_3D_STACK"):
        names = ("MEDIAN_FILTER", "Z_FILTERING", "YZ_FILTERING")
        stated = next(f"{POST}.{name}" for name in names if settings.flag(f"{POST}.{name}"))
        settings.remark(stated, "PROBLEM.NDIM is 2D: images have no z axis")
    if kept:
        found["median"] = kept
    return found


def medians_of(settings: Settings) -> list[dict[str, Value]]:
    """Axes and size of each median filter of the predicted channels."""
    found: list[dict[str, Value]] = []
    if settings.flag(f"{POST}.MEDIAN_FILTER"):
        axes, sizes = settings.texts(f"{POST}.MEDIAN_FILTER_AXIS"), settings.numbers(f"{POST}.MEDIAN_FILTER_SIZE")
        if not axes:
            settings.missing(
                f"{POST}.MEDIAN_FILTER_AXIS", "must be stated with MEDIAN_FILTER", "Write MEDIAN_FILTER_AXIS and MEDIAN_FILTER_SIZE."
            )
        if len(axes) != len(sizes):
            settings.wrong(
                "biapy.wrong_length",
                f"{POST}.MEDIAN_FILTER_SIZE",
                "has the wrong length: one size per entry of MEDIAN_FILTER_AXIS is expected",
            )
        found = [{"axes": axis, "size": int(size) | 1} for axis, size in zip(axes, sizes, strict=False)]
    former = (("z", "Z_FILTERING"), ("yz", "YZ_FILTERING"))
    return found + [
        {"axes": axis, "size": settings.whole(f"{POST}.{name}_SIZE") | 1} for axis, name in former if settings.flag(f"{POST}.{name}")
    ]
