"""Keys under ``DATA`` and ``SYSTEM``."""

from __future__ import annotations

from collections.abc import Iterator

from morula.dialects.biapy.table.key import Key, not_negative, same, unused
from morula.dialects.converted import Value

# refused instead of ignored: results would be those of other images than the job describes
_PREPROCESS = ("cannot be obeyed: images are not changed before training", "Change the images first, or rely on the normalisation.")
_NORM = "DATA.NORMALIZATION"
_CLIP, _TARGET = f"{_NORM}.PERC_CLIP", f"{_NORM}.TARGET"
_SYNAPSES = "it belongs to PROBLEM.INSTANCE_SEG.TYPE synapses, which is not supported"


def _images(part: str) -> Iterator[Key]:
    """Rows that training, validation and test images have alike."""
    section, folder, native = f"DATA.{part}", part.lower(), {"TRAIN": "train", "VAL": "validate", "TEST": "test"}[part]
    # folders that BiaPy does not read in this job need not exist
    condition = {"TRAIN": "", "VAL": "DATA.VAL.FROM_TRAIN=False", "TEST": "DATA.TEST.USE_VAL_AS_TEST=False"}[part]
    yield Key(f"{section}.PATH", f"user_data/{folder}/x", target=f"images.{native}", condition=condition)
    yield Key(
        f"{section}.GT_PATH",
        f"user_data/{folder}/y",
        target=f"images.{native}.labels",
        condition="DATA.TEST.LOAD_GT" if part == "TEST" else condition,
        earlier_names=(f"{section}.MASK_PATH",),
    )
    yield Key(f"{section}.RESOLUTION", [-1.0], target="images.voxel_size")
    # former versions stated the axes only for predictions by chunks
    by_chunks = ("TEST.BY_CHUNKS.INPUT_IMG_AXES_ORDER",) if part == "TEST" else ()
    yield Key(f"{section}.INPUT_IMG_AXES_ORDER", "TZCYX", target=f"images.{native}.axes", condition=condition, earlier_names=by_chunks)
    by_chunks = ("TEST.BY_CHUNKS.INPUT_MASK_AXES_ORDER",) if part == "TEST" else ()
    yield Key(f"{section}.INPUT_MASK_AXES_ORDER", "TZCYX", target=f"images.{native}.axes", condition=condition, earlier_names=by_chunks)
    several = f"{section}.INPUT_ZARR_MULTIPLE_DATA"
    earlier = ("TEST.BY_CHUNKS.INPUT_ZARR_MULTIPLE_DATA",) if part == "TEST" else ()
    yield Key(several, False, target=f"images.{native}", condition=condition, earlier_names=earlier)
    for name, key in (("RAW", f"images.{native}"), ("GT", f"images.{native}.labels")):
        former = tuple(f"{spelling}_{name}_PATH" for spelling in earlier)
        yield Key(f"{several}_{name}_PATH", "", target=key, condition=several, earlier_names=former)
    yield from unused(
        several,
        {
            "ID_PATH": "annotations.ids",
            "PARTNERS_PATH": "annotations.presynaptic_site.partners",
            "LOCATIONS_PATH": "annotations.locations",
            "RESOLUTION_PATH": "volumes.raw",
        },
        _SYNAPSES,
        separator="_",
    )
    for spelling in earlier:
        names = {"ID_PATH": "", "PARTNERS_PATH": "", "LOCATIONS_PATH": "", "RESOLUTION_PATH": ""}
        yield from unused(spelling, names, _SYNAPSES, separator="_", former=True)
    yield Key(f"{section}.IN_MEMORY", part != "TEST", no_effect="images are read block by block where they do not fit into memory")
    # BiaPy stores targets in these folders before the training
    yield from unused(
        section,
        {"INSTANCE_CHANNELS_MASK_DIR": f"user_data/{folder}/y_BC", "DETECTION_MASK_DIR": f"user_data/{folder}/y_detection_masks"},
        "targets are computed while training and are not stored",
    )
    yield Key(f"{section}.INSTANCE_CHANNELS_DIR", "", no_effect="targets are computed while training and are not stored", former=True)
    yield Key(
        f"{section}.SSL_SOURCE_DIR",
        f"user_data/{folder}/x_ssl_source",
        condition="PROBLEM.TYPE=SELF_SUPERVISED",
        no_effect="degraded images are made while training; `morula run --config` stores them in this folder, too",
        of_tree=True,
    )
    yield from _filters(part, section)
    yield Key(f"{section}.BINARY_MASKS", "", no_effect="results are not masked", former=True)


def _filters(part: str, section: str) -> Iterator[Key]:
    """Rows of the keys that leave patches out by their content."""
    switch, least = f"{section}.FILTER_SAMPLES.ENABLE", f"{section}.MINIMUM_FOREGROUND_PER"
    if part == "TEST":
        reason = "test images are predicted and scored as a whole, with the patches that BiaPy leaves empty"
        yield Key(switch, False, no_effect=reason)
        names: dict[str, Value] = {"PROPS": [], "VALUES": [], "SIGNS": [], "NORM_BEFORE": False}
        yield from unused(f"{section}.FILTER_SAMPLES", names, reason)
        yield Key(least, -1.0, no_effect=reason, former=True)
        return
    # validation images that are a part of the training images have the conditions of these
    target, condition = {
        "TRAIN": ("sampling.leave_out", ""),
        "VAL": ("sampling.validation.leave_out", "DATA.VAL.FROM_TRAIN=False"),
    }[part]
    yield Key(switch, False, target=target, condition=condition)
    for name in ("PROPS", "SIGNS", "VALUES"):  # the values come last: limits that leave nothing are reported there
        yield Key(f"{section}.FILTER_SAMPLES.{name}", [], target=target, condition=switch)
    yield Key(f"{section}.FILTER_SAMPLES.NORM_BEFORE", False, target="sampling.leave_out_normalised", condition=switch)
    yield Key(least, -1.0, target=target, condition=condition, former=True)


_TRAIN = (
    *_images("TRAIN"),
    Key("DATA.TRAIN.CHECK_DATA", True, no_effect="images and labels are always checked", as_done=(True,)),
    Key("DATA.TRAIN.EXTRACT_RANDOM_PATCH", False, target="sampling.kind", earlier_names=("DATA.EXTRACT_RANDOM_PATCH",)),
    Key(
        "DATA.TRAIN.PROBABILITY_MAP",
        False,
        target="sampling.foreground",
        condition="DATA.TRAIN.EXTRACT_RANDOM_PATCH",
        earlier_names=("DATA.PROBABILITY_MAP",),
    ),
    Key(
        "DATA.TRAIN.W_FOREGROUND",
        0.94,
        target="sampling.foreground",
        condition="DATA.TRAIN.PROBABILITY_MAP",
        earlier_names=("DATA.W_FOREGROUND",),
    ),
    Key(
        "DATA.TRAIN.W_BACKGROUND",
        0.06,
        no_effect="it is what DATA.TRAIN.W_FOREGROUND leaves of 1",
        earlier_names=("DATA.W_BACKGROUND",),
    ),
    Key(
        "DATA.TRAIN.REPLICATE",
        0,
        refuse=("cannot be obeyed: images are not repeated in an epoch", "Raise TRAIN.EPOCHS instead."),
    ),
    Key("DATA.TRAIN.OVERLAP", [0.0], target="sampling.overlap", condition="DATA.TRAIN.EXTRACT_RANDOM_PATCH=False"),
    Key("DATA.TRAIN.PADDING", [0], no_effect="patches are cut from the images, which are padded at the border only where they end"),
)

_VALIDATION = (
    *_images("VAL"),
    Key("DATA.VAL.FROM_TRAIN", True, target="images.validate"),
    Key("DATA.VAL.SPLIT_TRAIN", 0.1, target="images.validate", condition="DATA.VAL.FROM_TRAIN"),
    Key("DATA.VAL.RANDOM", True, target="images.validate", condition="DATA.VAL.FROM_TRAIN"),
    Key("DATA.VAL.DIST_EVAL", True, no_effect="the first process validates"),
    Key("DATA.VAL.CROSS_VAL", False, target="images.validate", condition="DATA.VAL.FROM_TRAIN"),
    *(
        Key(f"DATA.VAL.{name}", default, target="images.validate", condition="DATA.VAL.CROSS_VAL")
        for name, default in (("CROSS_VAL_NFOLD", 5), ("CROSS_VAL_FOLD", 1))
    ),
    *unused("DATA.VAL", {"OVERLAP": [0.0], "PADDING": [0]}, "validation patches are laid side by side"),
)

_TEST = (
    *_images("TEST"),
    Key(
        "DATA.TEST.LOAD_GT",
        False,
        target="images.test.labels",
        condition="PROBLEM.TYPE=INSTANCE_SEG|SEMANTIC_SEG|IMAGE_TO_IMAGE|DENOISING|SUPER_RESOLUTION",
    ),
    Key("DATA.TEST.USE_VAL_AS_TEST", False, target="images.test", condition="TEST.ENABLE"),
    Key("DATA.TEST.CHECK_DATA", True, no_effect="images and labels are always checked", as_done=(True,)),
    Key("DATA.TEST.OVERLAP", [0.0], target="prediction.overlap"),
    Key("DATA.TEST.PADDING", [0], target="prediction.overlap"),
    Key("DATA.TEST.MEDIAN_PADDING", False, no_effect="images are padded by reflection", as_done=(False,)),
    Key(
        "DATA.TEST.ROI_MASK.ENABLE",
        False,
        refuse=("cannot be obeyed: regions of interest are not supported", "Mask the images before, or the objects afterwards."),
    ),
    *unused("DATA.TEST.ROI_MASK", {"PATH": "", "AXES_ORDER": ""}, "DATA.TEST.ROI_MASK.ENABLE is not set"),
    Key("DATA.TEST.ARGMAX_TO_OUTPUT", False, no_effect="the class of each voxel is always written, beside the channels", former=True),
)

_NORMALISATION = (
    Key(
        f"{_NORM}.TYPE",
        "zero_mean_unit_variance",
        ("zero_mean_unit_variance", "div", "scale_range", "custom", ""),
        target="sampling.normalise",
    ),
    *(
        Key(
            f"{_NORM}.ZERO_MEAN_UNIT_VAR.{name}_VAL",
            [-1.0],
            target="sampling.normalise",
            condition=f"{_NORM}.TYPE=zero_mean_unit_variance|custom",
            earlier_names=(f"{_NORM}.CUSTOM_{name}",),
        )
        for name in ("MEAN", "STD")
    ),
    Key(
        f"{_NORM}.CUSTOM_MODE",
        "dataset",
        ("dataset", "image"),
        target="sampling.normalise",
        condition=f"{_NORM}.TYPE=custom",
        earlier_names=(f"{_NORM}.APPLICATION_MODE",),
        former=True,
    ),
    # no error: whole images have the statistics that are meant, patches only estimate them
    Key(f"{_NORM}.MEASURE_BY", "image", no_effect="images are normalised as a whole, not patch by patch", former=True),
    # PERC_CLIP was a switch in former versions, and is a section now
    Key(f"{_CLIP}.ENABLE", False, target="sampling.normalise", earlier_names=(_CLIP,)),
    *(
        Key(f"{_CLIP}.{name}_PERC", -1.0, target="sampling.normalise", condition=f"{_CLIP}.ENABLE", earlier_names=(f"{_NORM}.PERC_{name}",))
        for name in ("LOWER", "UPPER")
    ),
    *(Key(f"{_CLIP}.{name}_VALUE", [-1.0], target="sampling.normalise", condition=f"{_CLIP}.ENABLE") for name in ("LOWER", "UPPER")),
    Key(f"{_TARGET}.ENABLE", False, target="method.scale"),
    Key(
        f"{_TARGET}.TYPE",
        "",
        ("", "zero_mean_unit_variance", "scale_range", "div"),
        target="method.scale",
        condition=f"{_TARGET}.ENABLE",
    ),
    Key(f"{_TARGET}.PERC_CLIP.ENABLE", False, target="method.scale", condition=f"{_TARGET}.ENABLE"),
    *(
        Key(f"{_TARGET}.{name}", [-1.0], target=f"method.{ours}", condition=f"{_TARGET}.ENABLE")
        for name, ours in (
            *(("PERC_CLIP.LOWER_VALUE", "offset"), ("PERC_CLIP.UPPER_VALUE", "scale")),
            *(("ZERO_MEAN_UNIT_VAR.MEAN_VAL", "offset"), ("ZERO_MEAN_UNIT_VAR.STD_VAL", "scale")),
        )
    ),
)

_PREPROCESSING: dict[str, dict[str, Value]] = {
    "RESIZE": {
        "OUTPUT_SHAPE": (512, 512),
        "ORDER": 1,
        "MODE": "reflect",
        "CVAL": 0.0,
        "CLIP": True,
        "PRESERVE_RANGE": True,
        "ANTI_ALIASING": False,
    },
    "ZOOM": {"ZOOM_FACTOR": [1, 1, 1, 1, 1]},
    "GAUSSIAN_BLUR": {"SIGMA": 1, "MODE": "nearest", "CHANNEL_AXIS": None},
    "MEDIAN_BLUR": {"KERNEL_SIZE": (3, 3, 1)},
    "MATCH_HISTOGRAM": {"REFERENCE_PATH": "user_data/test/x"},
    "CLAHE": {"KERNEL_SIZE": None, "CLIP_LIMIT": 0.01},
    "CANNY": {"LOW_THRESHOLD": None, "HIGH_THRESHOLD": None},
}

DATA: tuple[Key, ...] = (
    Key("DATA.CHECK_GENERATORS", False, no_effect="previews of the patches are in logs/previews of the run folder"),
    Key("DATA.ROOT_DIR", "", no_effect="each folder is named by its own key", former=True),
    Key("DATA.PATCH_SIZE", [256, 256, 1], target="sampling.patch"),
    # BiaPy counts the background as a class
    Key(
        "DATA.N_CLASSES", 2, target="method.classes", condition="PROBLEM.TYPE=INSTANCE_SEG|SEMANTIC_SEG", earlier_names=("MODEL.N_CLASSES",)
    ),
    Key(
        "DATA.REFLECT_TO_COMPLETE_SHAPE",
        True,
        no_effect="images that are smaller than a patch are always padded by reflection",
        as_done=(True,),
    ),
    Key("DATA.FORCE_RGB", False, refuse=("cannot be obeyed: images keep the channels that they have", "Convert the images before.")),
    Key("DATA.FILTER_BY_IMAGE", False, target="sampling.leave_out_images"),
    *unused(
        "DATA",
        {"SAVE_FILTERED_IMAGES": False, "SAVE_FILTERED_IMAGES_NUM": 3},
        "how many patches or images are left out is printed, and the files stay as they are",
    ),
    Key("DATA.RESOLUTION_NORM.ENABLE", False, refuse=("cannot be obeyed: images are not resampled", "Resample the images before.")),
    Key("DATA.RESOLUTION_NORM.TARGET_RESOLUTION", (-1.0, -1.0, -1.0), no_effect="DATA.RESOLUTION_NORM.ENABLE is not set"),
    *_NORMALISATION,
    *_TRAIN,
    *_VALIDATION,
    *_TEST,
    *unused("DATA.PREPROCESS", {"TRAIN": False, "VAL": False, "TEST": False}, "no operation under DATA.PREPROCESS is enabled"),
    *(
        Key(f"DATA.PREPROCESS.{name}.ENABLE", False, refuse=_PREPROCESS, earlier_names=(f"DATA.PREPROCESS.{name}.ACTIVATE",))
        for name in _PREPROCESSING
    ),
    *(
        row
        for name, defaults in _PREPROCESSING.items()
        for row in unused(f"DATA.PREPROCESS.{name}", defaults, f"DATA.PREPROCESS.{name}.ENABLE is not set")
    ),
    Key("DATA.PREPROCESS.MEDIAN_BLUR.FOOTPRINT", None, no_effect="DATA.PREPROCESS.MEDIAN_BLUR.ENABLE is not set", former=True),
)
"""Rows of the keys under ``DATA``."""

SYSTEM: tuple[Key, ...] = (
    Key("SYSTEM.SEED", 0, target="training.seed", convert=same),
    Key("SYSTEM.NUM_WORKERS", -1, target="training.workers", convert=not_negative),
    Key("SYSTEM.NUM_CPUS", -1, no_effect="PyTorch uses all processors; set OMP_NUM_THREADS for fewer", as_done=(-1,)),
    Key("SYSTEM.NUM_GPUS", 0, no_effect="the device is chosen by --device or --gpu"),
    Key("SYSTEM.DEVICE", "cpu", no_effect="the device is chosen by --device or --gpu"),
    Key("SYSTEM.PIN_MEM", True, no_effect="memory is pinned where the device gains by it"),
)
"""Rows of the keys under ``SYSTEM``."""
