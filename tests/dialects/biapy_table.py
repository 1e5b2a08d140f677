"""Job files of BiaPy with everything that its documents name, small enough to be run to the end in a second each.

`bench/biapy_jobs.py` runs all of them; the test runs those that together use every network, decoder, loss, schedule and operation once.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from morula.dialects.converted import Value
from morula.testing.simulate import simulate_data_set

Keys = dict[str, Value]
SEG, POST, SSL = "PROBLEM.INSTANCE_SEG", "TEST.POST_PROCESSING", "PROBLEM.SELF_SUPERVISED"
REFINE, FILTER = f"{POST}.INSTANCE_REFINEMENT", f"{POST}.MEASURE_PROPERTIES.REMOVE_BY_PROPERTIES"
_SCHEDULE = "TRAIN.LR_SCHEDULER"

_TRANSFORMER: Keys = {
    "MODEL.VIT_EMBED_DIM": 8,
    "MODEL.VIT_NUM_LAYERS": 4,
    "MODEL.VIT_NUM_HEADS": 2,
    "MODEL.VIT_TOKEN_SIZE": 8,
    "MODEL.UNETR_VIT_NUM_FILTERS": 2,
}
_NETWORKS: dict[str, Keys] = {
    **{name: {} for name in ("unet", "resunet", "attention_unet", "resunet++", "multiresunet", "unext_v1", "unext_v2")},
    **{name: {"MODEL.FEATURE_MAPS": [16, 16, 16]} for name in ("seunet", "resunet_se")},
    "resunet++": {"MODEL.FEATURE_MAPS": [16, 16, 16]},
    "unetr": _TRANSFORMER,
    "hrnet": {"MODEL.HRNET.VARIANT": "W18"},
}
_RESTORING: dict[str, Keys] = {
    "edsr": {},
    "wdsr": {},
    "dfcan": {},
    "rcan": {"MODEL.RCAN_RG_BLOCK_NUM": 1, "MODEL.RCAN_RCAB_BLOCK_NUM": 1},
}
_CHANNELS = {
    "F-C": ["F", "C"],
    "F-P": ["F", "P"],
    "F-C-Db": ["F", "C", "Db"],
    "F-C-Dc": ["F", "C", "Dc"],
    "F-C-D": ["F", "C", "D"],
    "F-D": ["F", "D"],
    "F-C-T": ["F", "C", "T"],
    "F-Dc": ["F", "Dc"],
    "F-Db": ["F", "Db"],
    "F-Dn": ["F", "Dn"],
    "F-C-Db-Dn": ["F", "C", "Db", "Dn"],
    "B-C": ["B", "C"],
    "B-P": ["B", "P"],
    "F": ["F"],
    "C": ["C"],
    "Db": ["Db"],
    "Db-R": ["Db", "R"],
    "E": ["E"],
    "F-C-M": ["F", "C", "M"],
    "A": ["A"],
}
_OPTIONS: dict[str, tuple[list[str], Keys]] = {
    "F eroded": (["F", "C"], {"F": {"erosion": 1, "dilation": 1}}),
    "B dilated": (["B", "C"], {"B": {"erosion": 1, "dilation": 1}}),
    "P skeleton": (["F", "P"], {"P": {"type": "skeleton", "dilation": 1, "erosion": 1}}),
    **{f"C {mode}": (["F", "C"], {"C": {"mode": mode}}) for mode in ("thick", "inner", "outer", "subpixel", "dense")},
    "T thick": (["F", "T"], {"T": {"thickness": 3}}),
    "Db raw": (["F", "Db"], {"Db": {"norm": False, "mask_values": False}}),
    "Dc skeleton": (["F", "Dc"], {"Dc": {"type": "skeleton", "norm": False, "mask_values": False}}),
    "D tanh": (["F", "D"], {"D": {"activation": "tanh", "alpha": 2, "beta": 2, "norm": False}}),
    "D linear": (["F", "D"], {"D": {"activation": "linear"}}),
    "Dn": (["F", "Dn"], {"Dn": {"closing_size": 3, "norm": False, "mask_values": False, "decline_power": 2}}),
    "R": (["Db", "R"], {"R": {"nrays": 8, "norm": False, "mask_values": False}}),
    "E medoid": (["E"], {"E": {"center_mode": "medoid", "medoid_max_points": 10000}}),
}


def base(folder: Path, ndim: int) -> Keys:
    """A job that trains one epoch and predicts one image, on simulated images of `make_images`."""
    place = folder / f"{ndim}d"
    shape = "(16, 16, 1)" if ndim == 2 else "(8, 16, 16, 1)"
    return {
        "PROBLEM.TYPE": "INSTANCE_SEG",
        "PROBLEM.NDIM": f"{ndim}D",
        f"{SEG}.DATA_CHANNELS": ["F", "C"],
        "DATA.PATCH_SIZE": shape,
        "DATA.TRAIN.PATH": str(place / "train/images"),
        "DATA.TRAIN.GT_PATH": str(place / "train/labels"),
        "DATA.VAL.SPLIT_TRAIN": 0.34,
        "DATA.TEST.PATH": str(place / "test/images"),
        "DATA.TEST.GT_PATH": str(place / "test/labels"),
        "DATA.TEST.LOAD_GT": True,
        "MODEL.FEATURE_MAPS": [2, 4, 4],
        "TRAIN.ENABLE": True,
        "TRAIN.EPOCHS": 1,
        "TEST.ENABLE": True,
        "TRAIN.LR": 0.001,
        **({"MODEL.Z_DOWN": [1, 1]} if ndim == 3 else {}),
    }


def make_images(folder: Path) -> None:
    """Simulated images for all jobs."""
    simulate_data_set(folder / "2d", n_train=3, n_test=1, shape=(32, 32), n_objects=3, seed=1)
    simulate_data_set(folder / "3d", n_train=2, n_test=1, shape=(8, 16, 16), n_objects=2, seed=1)


def jobs(ndim: int) -> Iterator[tuple[str, Keys]]:
    """Name and keys of each job; `base` has the others."""
    yield from ((f"network {name}", {"MODEL.ARCHITECTURE": name, **more}) for name, more in _NETWORKS.items())
    yield from _representations(ndim)
    yield from _training()
    yield from _objects(ndim)
    yield from _pretraining(ndim)
    yield from _image_to_image(ndim)
    yield from _denoising()
    yield from _super_resolution(ndim)


def _representations(ndim: int) -> Iterator[tuple[str, Keys]]:
    axes = ["V", "H"] if ndim == 2 else ["Z", "V", "H"]
    flows = ["Gv", "Gh"] if ndim == 2 else ["Gz", "Gv", "Gh"]
    sets = {
        **_CHANNELS,
        "F-HV": ["F", *axes],
        "F-C-HV": ["F", "C", *axes],
        "Db-HV": ["Db", *axes],
        "F-G": ["F", *flows],
        "Db-G": ["Db", *flows],
    }
    for name, codes in sets.items():
        if not (name == "A" and ndim == 2):
            rays: Keys = {f"{SEG}.DATA_CHANNELS_EXTRA_OPTS": [{"R": {"nrays": 8}}]} if "R" in codes else {}
            yield f"channels {name}", {f"{SEG}.DATA_CHANNELS": list(codes), **rays}
    omnipose = [{"Db": {"val_type": "omnipose"}, flows[-1]: {"gradient_type": "omnipose"}}]
    yield "channels omnipose", {f"{SEG}.DATA_CHANNELS": ["Db", *flows], f"{SEG}.DATA_CHANNELS_EXTRA_OPTS": omnipose}
    for name, (codes, options) in _OPTIONS.items():
        yield f"option {name}", {f"{SEG}.DATA_CHANNELS": list(codes), f"{SEG}.DATA_CHANNELS_EXTRA_OPTS": options}
    yield (
        "option HV",
        {f"{SEG}.DATA_CHANNELS": ["F", *axes], f"{SEG}.DATA_CHANNELS_EXTRA_OPTS": {"H": {"norm": False, "mask_values": False}}},
    )
    yield "heads", {f"{SEG}.DATA_CHANNELS": ["F", *axes], f"{SEG}.CHANNELS_PER_HEAD_INFO": [1] * (ndim + 1)}
    yield "decoders", {f"{SEG}.CHANNELS_PER_HEAD_INFO": [1, 1], f"{SEG}.SEPARATED_DECODERS_PER_HEAD": True}


def _training() -> Iterator[tuple[str, Keys]]:
    yield from ((f"optimiser {name}", {"TRAIN.OPTIMIZER": name}) for name in ("SGD", "ADAM", "ADAMW"))
    lowest: Keys = {f"{_SCHEDULE}.MIN_LR": 1e-6}
    yield "schedule onecycle", {f"{_SCHEDULE}.NAME": "onecycle"}
    yield "schedule plateau", {f"{_SCHEDULE}.NAME": "reduceonplateau", f"{_SCHEDULE}.REDUCEONPLATEAU_PATIENCE": 1, **lowest}
    cosine: Keys = {f"{_SCHEDULE}.NAME": "warmupcosine", f"{_SCHEDULE}.WARMUP_COSINE_DECAY_EPOCHS": 1, "TRAIN.EPOCHS": 2, **lowest}
    yield "schedule cosine", cosine
    yield from (
        (f"loss {name}", {f"{SEG}.DATA_CHANNELS_LOSSES": [name, "bce"], f"{SEG}.DATA_CHANNELS": ["Db", "C"]})
        for name in ("mse", "l1", "mae")
    )
    yield "loss weights", {f"{SEG}.DATA_CHANNEL_WEIGHTS": "(1.0, 0.5)", "LOSS.CLASS_REBALANCE": True}
    yield "blocks", {"MODEL.CONV_BLOCK_ORDER": "norm_act_conv", "MODEL.ARCHITECTURE": "resunet"}
    yield "convolutions", {"MODEL.CONV_LAYERS": [4, 4, 4], "MODEL.ARCHITECTURE": "resunet"}
    yield "random patches", {"DATA.TRAIN.EXTRACT_RANDOM_PATCH": True, "DATA.TRAIN.PROBABILITY_MAP": True}
    yield "fold", {"DATA.VAL.CROSS_VAL": True, "DATA.VAL.CROSS_VAL_NFOLD": 2, "DATA.VAL.CROSS_VAL_FOLD": 1}
    samples: Keys = {
        f"DATA.TRAIN.FILTER_SAMPLES.{name}": value for name, value in (("PROPS", [["mean"]]), ("VALUES", [[1.0]]), ("SIGNS", [["lt"]]))
    }
    yield "filter samples", {"DATA.TRAIN.FILTER_SAMPLES.ENABLE": True, **samples}
    yield "custom", {"DATA.NORMALIZATION.TYPE": "custom"}
    clip: Keys = {
        f"DATA.NORMALIZATION.PERC_CLIP.{name}": value for name, value in (("ENABLE", True), ("LOWER_PERC", 1.0), ("UPPER_PERC", 99.0))
    }
    yield from ((f"clip {kind}", {"DATA.NORMALIZATION.TYPE": kind, **clip}) for kind in ("div", "scale_range", "zero_mean_unit_variance"))
    names = (
        "VFLIP",
        "HFLIP",
        "ROT90",
        "RANDOM_ROT",
        "SHEAR",
        "ZOOM",
        "SHIFT",
        "ELASTIC",
        "G_BLUR",
        "BRIGHTNESS",
        "CONTRAST",
        "GAUSSIAN_NOISE",
        "CUTOUT",
    )
    yield "augmentations", {"AUGMENTOR.ENABLE": True, **{f"AUGMENTOR.{name}": True for name in names}}
    yield "gridmask", {"AUGMENTOR.ENABLE": True, "AUGMENTOR.GRIDMASK": True, "AUGMENTOR.GRID_RATIO": 0.7}


def _objects(ndim: int) -> Iterator[tuple[str, Keys]]:
    shed = f"{SEG}.WATERSHED"
    yield (
        "watershed",
        {
            f"{shed}.SEED_CHANNELS": ["F", "C"],
            f"{shed}.SEED_CHANNELS_THRESH": ["auto", 0.5],
            f"{shed}.TOPOGRAPHIC_SURFACE_CHANNEL": "F",
            f"{shed}.GROWTH_MASK_CHANNELS": ["F"],
            f"{shed}.GROWTH_MASK_CHANNELS_THRESH": ["auto"],
            f"{shed}.SEED_MORPH_SEQUENCE": ["erode", "dilate"],
            f"{shed}.SEED_MORPH_RADIUS": [1, 1],
            f"{shed}.ERODE_AND_DILATE_GROWTH_MASK": True,
            f"{shed}.FORE_EROSION_RADIUS": 1,
            f"{shed}.FORE_DILATION_RADIUS": 1,
            f"{shed}.DATA_REMOVE_BEFORE_MW": True,
            f"{shed}.DATA_CHECK_MW": True,
            f"{shed}.BY_2D_SLICES": ndim == 3,
        },
    )
    yield "embedseg", {f"{SEG}.DATA_CHANNELS": ["E"], f"{SEG}.EMBEDSEG.SEED_THRESH": 0.5, f"{SEG}.EMBEDSEG.MIN_OBJECT_SIZE": 4}
    stars: Keys = {f"{SEG}.STARDIST.PROB_THRESH": 0.5, f"{SEG}.STARDIST.NMS_IOU_THRESH": 0.4}
    yield "stardist", {f"{SEG}.DATA_CHANNELS": ["Db", "R"], f"{SEG}.DATA_CHANNELS_EXTRA_OPTS": {"R": {"nrays": 8}}, **stars}
    flows = ["F", "Gv", "Gh"] if ndim == 2 else ["F", "Gz", "Gv", "Gh"]
    yield "diameter", {f"{SEG}.DATA_CHANNELS": flows, f"{SEG}.CELLPOSE.DIAMETER": 15.0, f"{SEG}.CELLPOSE.DIAM_MEAN": 30.0}
    operations = ["fill_holes", "dilation", "erosion", "remove_small_objects", "remove_large_objects", "clear_border"]
    yield "refinement", {f"{REFINE}.OPERATIONS": operations, f"{REFINE}.VALUES": ["none", 3, 3, 2, 2000, "none"]}
    yield "voronoi", {f"{POST}.VORONOI_ON_MASK": True, f"{POST}.REPARE_LARGE_BLOBS_SIZE": 20}
    rounds = "circularity" if ndim == 2 else "sphericity"
    conditions: Keys = {
        f"{FILTER}.PROPS": [["area"], ["npixels", rounds]],
        f"{FILTER}.VALUES": [[500], [4, 0.7]],
        f"{FILTER}.SIGN": [["gt"], ["lt", "le"]],
    }
    yield (
        "filter",
        {
            f"{FILTER}.ENABLE": True,
            **conditions,
            f"{POST}.MEASURE_PROPERTIES.ENABLE": True,
            f"{POST}.MEASURE_PROPERTIES.EXTRA_PROPS": ["extent"],
        },
    )
    if ndim == 3:
        yield "median", {f"{POST}.Z_FILTERING": True, f"{POST}.YZ_FILTERING": True, f"{POST}.YZ_FILTERING_SIZE": 3}
    yield "test-time augmentation", {"TEST.AUGMENTATION": True}
    yield "full image", {"TEST.FULL_IMG": True}
    if ndim == 2:
        yield "stack", {"TEST.ANALIZE_2D_IMGS_AS_3D_STACK": True}
    else:
        yield "chunks", {"TEST.BY_CHUNKS.ENABLE": True, "TEST.BY_CHUNKS.FORMAT": "zarr", "TEST.BY_CHUNKS.SAVE_OUT_TIF": True}
    yield "no scores", {"TEST.MATCHING_STATS": False}


def _pretraining(ndim: int) -> Iterator[tuple[str, Keys]]:
    crappify: Keys = {
        "PROBLEM.TYPE": "SELF_SUPERVISED",
        f"{SSL}.PRETEXT_TASK": "crappify",
        "DATA.TRAIN.GT_PATH": None,
        "DATA.TEST.GT_PATH": None,
    }
    crappify |= {f"{SEG}.DATA_CHANNELS": None, "DATA.TEST.LOAD_GT": False}
    restoring = {name: more for name, more in _RESTORING.items() if ndim == 2 or name in ("dfcan", "rcan")}
    for name, more in (_NETWORKS | restoring).items():
        yield f"crappify {name}", {**crappify, "MODEL.ARCHITECTURE": name, **more}
    for loss in ("MAE", "MSE", "SSIM"):
        yield f"crappify loss {loss}", {**crappify, "LOSS.TYPE": loss}
    masks: Keys = {**crappify, f"{SSL}.PRETEXT_TASK": "masking", "MODEL.ARCHITECTURE": "mae", **_TRANSFORMER}
    decoder: Keys = {"MODEL.MAE_DEC_HIDDEN_SIZE": 8, "MODEL.MAE_DEC_NUM_LAYERS": 1, "MODEL.MAE_DEC_NUM_HEADS": 2}
    yield from ((f"masking {kind}", {**masks, **decoder, "MODEL.MAE_MASK_TYPE": kind}) for kind in ("grid", "random"))


def _image_to_image(ndim: int) -> Iterator[tuple[str, Keys]]:
    """The images that are learned are the labels, as intensities."""
    base: Keys = {"PROBLEM.TYPE": "IMAGE_TO_IMAGE", f"{SEG}.DATA_CHANNELS": None}
    restoring = {name: more for name, more in _RESTORING.items() if ndim == 2 or name in ("dfcan", "rcan")}
    for name, more in (_NETWORKS | restoring).items():
        yield f"image {name}", {**base, "MODEL.ARCHITECTURE": name, **more}
    for loss in ("MAE", "MSE", "SSIM", "W_MAE_SSIM", "W_MSE_SSIM"):
        yield f"image loss {loss}", {**base, "LOSS.TYPE": loss}
    norm = "DATA.NORMALIZATION"
    yield from ((f"image {kind}", {**base, f"{norm}.TYPE": kind}) for kind in ("div", "scale_range", "custom"))
    fixed: Keys = {f"{norm}.TARGET.ZERO_MEAN_UNIT_VAR.MEAN_VAL": 2.0, f"{norm}.TARGET.ZERO_MEAN_UNIT_VAR.STD_VAL": 1.5}
    yield "image target", {**base, f"{norm}.TARGET.ENABLE": True, **fixed}
    yield "image turned", {**base, "TEST.AUGMENTATION": True, "AUGMENTOR.ENABLE": True, "AUGMENTOR.RANDOM_ROT": True}


def _denoising() -> Iterator[tuple[str, Keys]]:
    """The images with noise are the images, those without noise the labels: the test image is compared with them."""
    section = "PROBLEM.DENOISING"
    base: Keys = {"PROBLEM.TYPE": "DENOISING", f"{SEG}.DATA_CHANNELS": None, "DATA.TRAIN.GT_PATH": None, f"{section}.N2V_PERC_PIX": 1.0}
    for name, more in _NETWORKS.items():
        yield f"denoising {name}", {**base, "MODEL.ARCHITECTURE": name, **more}
    manipulators = ("uniform_withoutCP", "normal_withoutCP", "normal_additive", "normal_fitted", "mean", "median")
    yield from ((f"denoising {name}", {**base, f"{section}.N2V_MANIPULATOR": name}) for name in manipulators)
    yield "denoising lines", {**base, f"{section}.N2V_STRUCTMASK": True, f"{section}.N2V_NEIGHBORHOOD_RADIUS": 2}
    yield "denoising turned", {**base, "TEST.AUGMENTATION": True, "AUGMENTOR.ENABLE": True, "AUGMENTOR.VFLIP": True}


def _super_resolution(ndim: int) -> Iterator[tuple[str, Keys]]:
    """Labels of `make_images` as targets: these have the grid of the images, so the factors are 1, and 2 in tests of its own."""
    base: Keys = {"PROBLEM.TYPE": "SUPER_RESOLUTION", f"{SEG}.DATA_CHANNELS": None, "PROBLEM.SUPER_RESOLUTION.UPSCALING": [1] * ndim}
    restoring = {name: more for name, more in _RESTORING.items() if ndim == 2 or name in ("dfcan", "rcan")}
    for name in ("unet", "resunet", "multiresunet", "unext_v2", *restoring):
        yield f"resolution {name}", {**base, "MODEL.ARCHITECTURE": name, **(_NETWORKS | restoring)[name]}
    yield "resolution scaled", {**base, "DATA.NORMALIZATION.TYPE": "scale_range", "LOSS.TYPE": ["MAE", "SSIM"]}
