"""A job file of BiaPy as a native job, with every default that differs written out."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from morula.core.errors import JobError
from morula.dialects.biapy.architectures import network_of
from morula.dialects.biapy.augmentor import augmentations_of
from morula.dialects.biapy.instances import method_of
from morula.dialects.biapy.normalisation import normalisation_of
from morula.dialects.biapy.objects import objects_of
from morula.dialects.biapy.origins import origins_of
from morula.dialects.biapy.pretraining import pretraining_of
from morula.dialects.biapy.settings import Settings, as_list, is_number, read_settings, whole_numbers
from morula.dialects.biapy.table import POST
from morula.dialects.converted import Converted, Value
from morula.jobs.load import validate
from morula.jobs.yaml_lines import Document

_PARTS = ("TRAIN", "VAL", "TEST")


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
    pretrains = settings.text("PROBLEM.TYPE") == "SELF_SUPERVISED"
    method = pretraining_of(settings) if pretrains else method_of(settings)
    # the order is that of the reference page
    job: dict[str, Value] = {
        "images": _images(settings, labelled=not pretrains),
        "method": method,
        "network": network_of(settings),
        "sampling": _sampling(settings),
        "augment": augmentations_of(settings),
        "training": _training(settings),
        "prediction": prediction_of(settings),
        **({} if pretrains else {"objects": objects_of(settings)}),
    }
    check_native(settings, job)
    settings.remark_unread()
    remarks = tuple(sorted(settings.remarks, key=lambda problem: problem.line or 0))
    traced = partial(origins_of, settings)
    return Converted(job, tuple(settings.notes), remarks, settings.trace, partial(check_channels, settings), traced)


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
    found: dict[str, Value] = {"train": _source(settings, "TRAIN", labels=labelled)}
    if not settings.flag("DATA.VAL.FROM_TRAIN"):
        found["validate"] = _source(settings, "VAL", labels=labelled)
    else:
        found["validate"] = settings.number("DATA.VAL.SPLIT_TRAIN") or None
        settings.note(
            "where there is one training image, a block of it is set aside for validation; BiaPy draws patches, which may overlap "
            "those of the training."
        )
    if test := test_images_of(settings, labelled=labelled):
        found["test"] = test
    found["voxel_size"] = _voxel_size(settings)
    if axes := _axes(settings):
        found["axes"] = axes
    return found


def test_images_of(settings: Settings, *, labelled: bool) -> dict[str, Value] | None:
    """Images to predict, with their labels where they are to be scored; `None` where nothing is predicted."""
    if not settings.flag("TEST.ENABLE"):
        return None
    if settings.flag("DATA.TEST.USE_VAL_AS_TEST"):
        if settings.flag("DATA.VAL.FROM_TRAIN"):
            settings.wrong(
                "biapy.not_supported",
                "DATA.TEST.USE_VAL_AS_TEST",
                "cannot be obeyed: validation images are drawn from the training images",
                "Write DATA.VAL.FROM_TRAIN False and DATA.VAL.PATH, or DATA.TEST.PATH.",
            )
        return _source(settings, "VAL", labels=labelled)
    return _source(settings, "TEST", labels=labelled and settings.flag("DATA.TEST.LOAD_GT"))


def _source(settings: Settings, part: str, *, labels: bool) -> dict[str, Value]:
    keys = {"raw": "PATH", **({"labels": "GT_PATH"} if labels else {})}
    return {native: str(Path(settings.text(f"DATA.{part}.{key}")).expanduser().absolute()) for native, key in keys.items()}


def _voxel_size(settings: Settings) -> dict[str, Value]:
    """Voxel size of the images; pixels where the file states no resolution, whatever the images say: so does BiaPy."""
    stated = {key: lengths for part in _PARTS if -1 not in (lengths := settings.numbers(key := f"DATA.{part}.RESOLUTION"))}
    names = "zyx"[-settings.ndim :]
    if not stated:
        settings.note("no RESOLUTION is stated: lengths are in pixels, as in BiaPy. Remove images.voxel_size to use what the images state.")
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


def _axes(settings: Settings) -> str | None:
    orders = {settings.text(f"DATA.{part}.INPUT_IMG_AXES_ORDER") for part in _PARTS} - {"TZCYX"}
    if len(orders) > 1:
        settings.wrong(
            "biapy.contradiction",
            next(key for part in _PARTS if (key := f"DATA.{part}.INPUT_IMG_AXES_ORDER") in settings),
            "differs from the order of the other images: all images of a job have the same axes",
            "Write the images in one order.",
        )
    order = next(iter(orders), None)
    for part in _PARTS:
        stated = settings.text(key := f"DATA.{part}.INPUT_MASK_AXES_ORDER")
        if stated != "TZCYX" and stated.replace("C", "") != (order or "TZCYX").replace("C", ""):
            settings.wrong(
                "biapy.contradiction",
                key,
                "cannot be obeyed: labels have the axes of their images, channels aside",
                "Write images and labels in one order.",
            )
    return order


def patch_of(settings: Settings) -> list[int]:
    """Edges of a patch in voxels, (Z)YX, without the channels."""
    key, ndim = "DATA.PATCH_SIZE", settings.ndim
    expected = "(Z, Y, X, channels)" if ndim == 3 else "(Y, X, channels)"
    size = whole_numbers(settings.items(key), least=1)
    if key not in settings and ndim == 3:
        settings.missing(key, "must be stated for 3D images", f"Write {expected}.")
    elif size is None or len(size) != ndim + 1:
        settings.wrong("biapy.wrong_length", key, f"has the wrong length: {ndim + 1} numbers are expected, {expected}")
    else:
        return size[:-1]
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
    if (least := _least_labelled(settings)) is not None:
        found["least_labelled"] = least
    return {**found, "normalise": normalisation_of(settings)}


def _least_labelled(settings: Settings) -> float | None:
    """Share of labelled voxels above which a patch is used; `None` for all patches."""
    section = "DATA.TRAIN.FILTER_SAMPLES"
    former, switch = "DATA.TRAIN.MINIMUM_FOREGROUND_PER", f"{section}.ENABLE"
    stated = former if settings.number(former) != -1 else switch if settings.flag(switch) else ""
    if not stated:
        return None
    if settings.text("PROBLEM.TYPE") == "SELF_SUPERVISED" or settings.flag("DATA.TRAIN.EXTRACT_RANDOM_PATCH"):
        rule = "cannot be obeyed: only patches of a grid, with labels, are left out"
        settings.wrong(
            "biapy.not_supported", stated, rule, "Leave it out, or write DATA.TRAIN.EXTRACT_RANDOM_PATCH False for labelled images."
        )
        return None
    if stated == former:
        if not 0 <= settings.number(former) <= 1:
            settings.wrong("biapy.out_of_range", former, "is not a share of a patch", "Write a number from 0 to 1, or -1 for all patches.")
        return settings.number(former)
    names, values, signs = (settings.items(f"{section}.{name}") for name in ("PROPS", "VALUES", "SIGNS"))
    share = as_list(values[0])[0] if len(values) == 1 and as_list(values[0]) else None
    if names == [["foreground"]] and signs in ([["lt"]], [["le"]]) and is_number(share):
        return float(share) if isinstance(share, int | float) else None
    rule = "cannot be obeyed: patches are left out by their share of labelled voxels alone"
    settings.wrong(
        "biapy.not_supported", switch, rule, "Write PROPS [[foreground]] with SIGNS [[lt]], or take such images out of the folder."
    )
    return None


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
    settings.note("biases and the weights of normalisations are not decayed; BiaPy decays all weights.")
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
    if not 0 <= epochs < total:
        settings.missing(key, f"must be stated with {name}, and be smaller than TRAIN.EPOCHS")
        epochs = 0
    return {"kind": "cosine", "warmup": epochs / max(total, 1), "floor": floor / rate if rate else 0.0}


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
    kept: list[Value] = [each for each in filters if settings.ndim == 3 or "z" not in str(each["axes"])]
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
