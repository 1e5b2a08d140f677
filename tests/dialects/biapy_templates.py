"""Whole job files in the manner of each version of BiaPy from 3.0 to 3.7: keys that go together, with the sizes of real jobs.

`reduced` makes them small enough to be run; `bench/biapy_jobs.py templates` runs all.
"""

from __future__ import annotations

from pathlib import Path

from tests.dialects.biapy_table import FILTER, POST, REFINE, SEG, Keys

_PLACES: Keys = {f"DATA.{part}.{key}": "/path/to/data" for part in ("TRAIN", "TEST") for key in ("PATH", "GT_PATH")}
_FLIPS: Keys = {"AUGMENTOR.ENABLE": True, "AUGMENTOR.VFLIP": True, "AUGMENTOR.HFLIP": True, "AUGMENTOR.RANDOM_ROT": True}
_SYSTEM: Keys = {"SYSTEM.NUM_CPUS": -1, "SYSTEM.NUM_WORKERS": 5}
_COSINE: Keys = {
    f"TRAIN.LR_SCHEDULER.{name}": value
    for name, value in (("NAME", "warmupcosine"), ("MIN_LR", "1.E-5"), ("WARMUP_COSINE_DECAY_EPOCHS", 10))
}
_MEMORY: Keys = {"DATA.TRAIN.IN_MEMORY": True, "DATA.TEST.IN_MEMORY": True, "DATA.TEST.LOAD_GT": True, "DATA.VAL.SPLIT_TRAIN": 0.1}


def _base(ndim: int, patch: str, padding: str, **train: object) -> Keys:
    found: Keys = {"PROBLEM.TYPE": "INSTANCE_SEG", "PROBLEM.NDIM": f"{ndim}D", "DATA.PATCH_SIZE": patch, "DATA.TEST.PADDING": padding}
    found |= _SYSTEM | _PLACES | _MEMORY | _FLIPS
    found |= {"TRAIN.ENABLE": True, "TRAIN.OPTIMIZER": "ADAMW", "TRAIN.LR": "1.E-4", "TRAIN.PATIENCE": 50, "TEST.ENABLE": True}
    found |= {"MODEL.ARCHITECTURE": "unet", "MODEL.FEATURE_MAPS": [16, 32, 64, 128, 256], "MODEL.LOAD_CHECKPOINT": False}
    found |= {"TRAIN.BATCH_SIZE": 6, "TRAIN.EPOCHS": 360, "TEST.AUGMENTATION": False, "TEST.FULL_IMG": False}
    return found | {f"TRAIN.{name}": value for name, value in train.items()}  # type: ignore[operator]


_2D = _base(2, "(256, 256, 1)", "(32,32)")
_3D = _base(3, "(20, 128, 128, 1)", "(4,16,16)", BATCH_SIZE=2, EPOCHS=200) | {"MODEL.Z_DOWN": [1, 1, 1, 1], "AUGMENTOR.ZFLIP": True}
_AUTO: Keys = {f"{SEG}.DATA_CHANNELS": "BC", f"{SEG}.DATA_MW_TH_TYPE": "auto"}
_STATS: Keys = {"TEST.STATS.PER_PATCH": True, "TEST.STATS.MERGE_PATCHES": True, "TEST.STATS.FULL_IMG": False, "TEST.VERBOSE": True}
_CELLS: Keys = {
    **_base(3, "(80, 80, 80, 1)", "(16,16,16)", BATCH_SIZE=2, EPOCHS=1300, PATIENCE=100, LR=0.0001),
    f"{SEG}.DATA_CHANNELS": "BCM", f"{SEG}.DATA_MW_TH_BINARY_MASK": 0.2, f"{SEG}.DATA_MW_TH_CONTOUR": 0.1,
    f"{SEG}.DATA_MW_TH_FOREGROUND": 0.3, f"{SEG}.DATA_REMOVE_BEFORE_MW": True, f"{SEG}.DATA_REMOVE_SMALL_OBJ_BEFORE": 5,
    "DATA.EXTRACT_RANDOM_PATCH": False, "DATA.CHECK_GENERATORS": False, "DATA.REFLECT_TO_COMPLETE_SHAPE": True,
    "AUGMENTOR.BRIGHTNESS": True, "AUGMENTOR.BRIGHTNESS_FACTOR": "(0.1, 0.15)", "AUGMENTOR.ELASTIC": True, "AUGMENTOR.ZFLIP": True,
    "MODEL.ARCHITECTURE": "resunet", "MODEL.FEATURE_MAPS": [52, 68, 84], "MODEL.DROPOUT_VALUES": [0.1, 0.1, 0.1], "MODEL.Z_DOWN": [1, 1],
    "LOSS.CLASS_REBALANCE": True, "TEST.EVALUATE": False, "TEST.REDUCE_MEMORY": True, f"{POST}.VORONOI_ON_MASK": True,
    "MODEL.ACTIVATION": "elu", "TRAIN.LR_SCHEDULER.NAME": "onecycle",
}  # fmt: skip
_WIZARD: Keys = {
    "MODEL.ARCHITECTURE": "resunet", "TRAIN.EPOCHS": 150, "TRAIN.BATCH_SIZE": 1, "SYSTEM.NUM_WORKERS": 3,
    "DATA.NORMALIZATION.TYPE": "zero_mean_unit_variance", "DATA.NORMALIZATION.PERC_CLIP.ENABLE": True,
    "DATA.NORMALIZATION.PERC_CLIP.LOWER_PERC": 0.2, "DATA.NORMALIZATION.PERC_CLIP.UPPER_PERC": 99.8, **_COSINE,
    **{f"AUGMENTOR.{name}": True for name in ("BRIGHTNESS", "CONTRAST", "ELASTIC", "ZOOM")}, "AUGMENTOR.ZOOM_RANGE": "(0.9, 1.1)",
}  # fmt: skip
_PAPER: Keys = {
    **_base(2, "(256, 256, 1)", "(32, 32)", EPOCHS=500, BATCH_SIZE=8, PATIENCE=-1), "MODEL.ARCHITECTURE": "resunet",
    "MODEL.FEATURE_MAPS": [32, 64, 128, 256], "MODEL.DROPOUT_VALUES": [0, 0, 0, 0], "MODEL.CONV_LAYERS": [4, 4, 4, 4],
    "MODEL.CONV_BLOCK_ORDER": "norm_act_conv", "MODEL.NORMALIZATION": "bn", "DATA.TRAIN.EXTRACT_RANDOM_PATCH": True,
    "AUGMENTOR.RANDOM_ROT_PROB": 1.0, "AUGMENTOR.ZOOM": True, "AUGMENTOR.ZOOM_PROB": 1.0, "AUGMENTOR.ZOOM_RANGE": "(0.5, 1.5)",
    "AUGMENTOR.AFFINE_MODE": "constant", "DATA.NORMALIZATION.TYPE": "scale_range", "DATA.NORMALIZATION.PERC_CLIP.ENABLE": True,
    "DATA.NORMALIZATION.PERC_CLIP.LOWER_PERC": 1.0, "DATA.NORMALIZATION.PERC_CLIP.UPPER_PERC": 99.8,
    f"{SEG}.CLASS_REBALANCE_WITHIN_CHANNELS": False, "DATA.VAL.FROM_TRAIN": True, **_COSINE,
}  # fmt: skip
_EMBEDDINGS: Keys = {
    f"{SEG}.DATA_CHANNELS": ["E_offset", "E_sigma", "E_seediness"], f"{SEG}.CHANNELS_PER_HEAD_INFO": [4, 1],
    f"{SEG}.SEPARATED_DECODERS_PER_HEAD": True, f"{SEG}.EMBEDSEG.GRID_SIZE": -1,
}  # fmt: skip
_CHUNKS: Keys = {
    f"TEST.BY_CHUNKS.{name}": value
    for name, value in (
        ("ENABLE", True), ("FORMAT", "zarr"), ("INPUT_IMG_AXES_ORDER", "ZYX"), ("SAVE_OUT_TIF", True), ("WORKFLOW_PROCESS.ENABLE", True),
        ("WORKFLOW_PROCESS.TYPE", "entire_pred"),
    )
} | {
    f"DATA.TEST.FILTER_SAMPLES.{name}": value
    for name, value in (("ENABLE", True), ("PROPS", [["mean"]]), ("VALUES", [[50.0]]), ("SIGNS", [["lt"]]))
}  # fmt: skip
_SAMPLES: Keys = {
    f"DATA.TRAIN.FILTER_SAMPLES.{name}": value
    for name, value in (("ENABLE", True), ("PROPS", [["mean"]]), ("VALUES", [[0.05]]), ("SIGNS", [["lt"]]), ("NORM_BEFORE", True))
}
_REFINED: Keys = {
    f"{REFINE}.ENABLE": True,
    f"{REFINE}.OPERATIONS": ["fill_holes", "remove_small_objects"],
    f"{REFINE}.VALUES": ["none", 15],
}
_REMOVED: Keys = {
    f"{POST}.MEASURE_PROPERTIES.ENABLE": True, f"{FILTER}.ENABLE": True, f"{FILTER}.PROPS": [["npixels"], ["sphericity", "npixels"]],
    f"{FILTER}.VALUES": [[150], [0.01, 2000]], f"{FILTER}.SIGNS": [["le"], ["lt", "lt"]],
}  # fmt: skip


def _channels(*codes: str, **more: object) -> Keys:
    return {f"{SEG}.DATA_CHANNELS": list(codes), **{f"{SEG}.{name}": value for name, value in more.items()}}  # type: ignore[dict-item]


def _pretraining(ndim: int, **more: object) -> Keys:
    patch, padding = ("(256, 256, 1)", "(32,32)") if ndim == 2 else ("(40, 128, 128, 1)", "(5,32,32)")
    keys = {**_base(ndim, patch, padding, BATCH_SIZE=12), "PROBLEM.TYPE": "SELF_SUPERVISED", "DATA.TEST.LOAD_GT": None}
    keys |= {"DATA.TRAIN.GT_PATH": None, "DATA.TEST.GT_PATH": None, "PROBLEM.SELF_SUPERVISED.PRETEXT_TASK": "crappify"}
    keys |= {"MODEL.FEATURE_MAPS": None, "AUGMENTOR.DA_PROB": 0.5}
    return keys | ({"MODEL.Z_DOWN": [1, 1, 1, 1]} if ndim == 3 else {}) | more  # type: ignore[operator]


_MASKING: Keys = {
    "PROBLEM.SELF_SUPERVISED.PRETEXT_TASK": "masking", "MODEL.ARCHITECTURE": "mae", "MODEL.MAE_MASK_TYPE": "grid",
    "MODEL.VIT_TOKEN_SIZE": 32,
    "MODEL.VIT_EMBED_DIM": 768, "MODEL.VIT_NUM_LAYERS": 12, "MODEL.VIT_NUM_HEADS": 12, "MODEL.VIT_MLP_RATIO": 4.0,
    "MODEL.VIT_NORM_EPS": "1.E-6", "MODEL.MAE_DEC_HIDDEN_SIZE": 512, "MODEL.MAE_DEC_NUM_LAYERS": 8, "MODEL.MAE_DEC_NUM_HEADS": 12,
    "MODEL.MAE_DEC_MLP_DIMS": 1024, "MODEL.SAVE_CKPT_FREQ": 100, "DATA.NORMALIZATION.TYPE": "custom",
    "DATA.NORMALIZATION.CUSTOM_MODE": "image",
    "TRAIN.OPT_BETAS": "(0.9, 0.95)", "TRAIN.W_DECAY": 0.05, "TRAIN.EPOCHS": 2000, "TRAIN.PATIENCE": -1, "TRAIN.VERBOSE": True, **_COSINE,
    "TRAIN.LR_SCHEDULER.WARMUP_COSINE_DECAY_EPOCHS": 100, "TEST.ENABLE": False,
}  # fmt: skip
_CLASSES: Keys = {"PROBLEM.TYPE": "SEMANTIC_SEG", "DATA.N_CLASSES": 2}

TEMPLATES: dict[str, Keys] = {
    "2D 3.5": _2D | _AUTO,
    "2D 3.5 lists": _2D | {f"{SEG}.DATA_CHANNELS": ["F", "C"]} | _WIZARD,
    "2D 3.0": {
        **_2D, **_STATS, "DATA.CHANNELS": "BC", f"{SEG}.DATA_CHANNELS": None, "DATA.MW_TH1": 0.2, "DATA.MW_TH2": 0.1, "DATA.MW_TH3": 0.3,
        "DATA.EXTRACT_RANDOM_PATCH": False, f"{POST}.CLEAR_BORDER": False, "MODEL.DROPOUT_VALUES": [0.1, 0.1, 0.2, 0.2, 0.3],
    },
    "2D paths": {
        **_2D, **_AUTO, "DATA.VAL.FROM_TRAIN": False, "DATA.VAL.PATH": "/v", "DATA.VAL.GT_PATH": "/v", "DATA.VAL.IN_MEMORY": True,
        "DATA.TRAIN.CHECK_DATA": True, "DATA.TEST.CHECK_DATA": False, "TEST.MATCHING_STATS": True,
    },
    "2D points": _2D | _channels("F", "P") | {f"{SEG}.WATERSHED.SEED_CHANNELS": ["P"], f"{SEG}.WATERSHED.SEED_CHANNELS_THRESH": [0.3]} | {
        f"{SEG}.WATERSHED.TOPOGRAPHIC_SURFACE_CHANNEL": "F", f"{SEG}.WATERSHED.GROWTH_MASK_CHANNELS": ["F"],
        f"{SEG}.WATERSHED.GROWTH_MASK_CHANNELS_THRESH": [0.5], f"{SEG}.DATA_CHANNEL_WEIGHTS": [1, 2],
    },
    "2D stars": _PAPER | _channels("Db", "R", CHANNELS_PER_HEAD_INFO=[1, 32], INSTANCE_CREATION_PROCESS="stardist") | {
        f"{SEG}.STARDIST.PROB_THRESH": 0.5, f"{SEG}.STARDIST.NMS_IOU_THRESH": 0.4, f"{SEG}.DATA_CHANNEL_WEIGHTS": [1, 0.2],
        f"{SEG}.DATA_CHANNELS_EXTRA_OPTS": [{"Db": {"mask_values": False}}], "AUGMENTOR.GRIDMASK": True, "AUGMENTOR.GRID_RATIO": 0.7,
    },
    "2D embeddings": _PAPER | _EMBEDDINGS | {"DATA.PATCH_SIZE": "(224, 224, 1)"},
    "2D flows": _PAPER | _channels("F", "Gh", "Gv", CHANNELS_PER_HEAD_INFO=[1, 2], DATA_CHANNEL_WEIGHTS=[1, 0.25, 0.25]) | {
        f"{SEG}.CELLPOSE.DIAMETER": 30.0, f"{SEG}.CELLPOSE.DIAM_MEAN": 30.0, f"{SEG}.CELLPOSE.FLOW_THRESHOLD": 0.4,
        f"{SEG}.CELLPOSE.TYPE": "cellpose",
    },
    "2D fields": _PAPER | _channels("Db", "Gh", "Gv", DATA_CHANNELS_LOSSES=["mse", "mse", "mse"], CHANNELS_PER_HEAD_INFO=[1, 1, 1]) | {
        f"{SEG}.DATA_CHANNELS_EXTRA_OPTS": [{"Db": {"val_type": "omnipose"}, "Gh": {"gradient_type": "omnipose"}}],
        f"{SEG}.OMNIPOSE.MASK_THRESHOLD": 0.0, f"{SEG}.OMNIPOSE.FLOW_THRESHOLD": 0.4, f"{SEG}.OMNIPOSE.NITER": 0,
    },
    "2D offsets": _PAPER | _channels("F", "H", "V", CHANNELS_PER_HEAD_INFO=[1, 1, 1]) | _REFINED,
    "2D hrnet": _2D | {"MODEL.ARCHITECTURE": "hrnet48", "MODEL.HRNET.HEAD_TYPE": "FCN", "MODEL.FEATURE_MAPS": None},
    "2D two channels": _2D | _AUTO | {"DATA.PATCH_SIZE": "(512, 512, 2)", "DATA.TEST.PADDING": "(100,100)"},
    "2D plateau": _2D | _AUTO | _REFINED | {
        "TRAIN.LR_SCHEDULER.NAME": "reduceonplateau", "TRAIN.LR_SCHEDULER.MIN_LR": "1.E-6", "TRAIN.OPTIMIZER": "SGD",
        "TRAIN.LR_SCHEDULER.REDUCEONPLATEAU_PATIENCE": 80, "TRAIN.LR": 0.002, "LOSS.TYPE": "CE", "TEST.FULL_IMG": True,
    },
    "3D 3.5": _3D | _AUTO,
    "3D 3.0": {
        **_3D, **_STATS, "DATA.CHANNELS": "BCD", "DATA.MW_TH1": 0.2, "DATA.MW_TH2": 0.1, "DATA.MW_TH3": 0.3, "DATA.MW_TH4": 4.5,
        "DATA.MW_TH5": 2.0, f"{POST}.YZ_FILTERING": True, "MODEL.Z_DOWN": 1, "TEST.AUGMENTATION": True,
    },
    "3D cells": _CELLS,
    "3D small": {
        **_CELLS, "DATA.PATCH_SIZE": "(64, 64, 64, 1)", "MODEL.FEATURE_MAPS": [36, 48, 64], "MODEL.DROPOUT_VALUES": [0, 0, 0],
        f"{SEG}.DATA_CHANNELS": "BC", "DATA.TEST.OVERLAP": "(0,0,0)", "DATA.TRAIN.OVERLAP": "(0,0,0)", "DATA.TRAIN.PADDING": "(0,0,0)",
    },
    "3D large": {
        **_3D, **_AUTO, **_REMOVED, "DATA.PATCH_SIZE": "(40,128,128,1)", "MODEL.ARCHITECTURE": "resunet", "DATA.TEST.PADDING": "(10,50,50)",
        "MODEL.FEATURE_MAPS": [48, 64, 80, 96], "MODEL.DROPOUT_VALUES": [0, 0, 0, 0], "MODEL.Z_DOWN": [1, 1, 1],
        "DATA.TEST.RESOLUTION": "(5,0.867,0.867)", "TEST.REUSE_PREDICTIONS": False,
    },
    "3D chunks": _3D | _AUTO | _CHUNKS,
    "3D samples": _3D | _AUTO | _SAMPLES,
    "3D wizard": _3D | _channels("F", "C", "Db") | _WIZARD | {"AUGMENTOR.ZOOM_IN_Z": False},
    "2D crappify": _pretraining(2),
    "3D crappify": _pretraining(3),
    "2D crappify sgd": _pretraining(2, **_STATS) | {"TRAIN.OPTIMIZER": "SGD", "TRAIN.LR": 0.002, "DATA.PROBABILITY_MAP": True},
    "2D masking": _pretraining(2) | _MASKING | {"DATA.PATCH_SIZE": "(1024, 1024, 1)"},
    "3D masking": _pretraining(3, **{"MODEL.ARCHITECTURE": "mae", "PROBLEM.SELF_SUPERVISED.PRETEXT_TASK": "masking"}) | {
        "DATA.PATCH_SIZE": "(96, 96, 96, 1)", "DATA.TEST.PADDING": "(16,16,16)", "MODEL.Z_DOWN": None,
    },
    "2D semantic": _2D | _CLASSES,
    "3D semantic": _3D | _CLASSES | {"LOSS.TYPE": "W_CE_DICE", "LOSS.CLASS_REBALANCE": True, "DATA.TEST.ARGMAX_TO_OUTPUT": True},
}  # fmt: skip
"""Job files by name; `None` stands for a key that is left out."""


def reduced(keys: Keys, folder: Path) -> Keys:
    """The job with paths of `make_images`, one epoch and small patches; everything else as it is, but the width of transformers."""
    ndim = 3 if keys["PROBLEM.NDIM"] == "3D" else 2
    place = folder / f"{ndim}d"
    paths = {f"DATA.{part}.{key}": str(place / part.lower() / kind) for part in ("TRAIN", "TEST") for key, kind in _KINDS}
    paths |= {f"DATA.VAL.{key}": str(place / "test" / kind) for key, kind in _KINDS}
    channels = str(keys["DATA.PATCH_SIZE"]).strip("()").rsplit(",", 1)[1].strip()
    patch = f"(32, 32, {channels})" if ndim == 2 else f"(8, 16, 16, {channels})"
    changes: Keys = {"DATA.PATCH_SIZE": patch, "TRAIN.EPOCHS": 1, "SYSTEM.NUM_WORKERS": 0, "TRAIN.BATCH_SIZE": 2}
    if "masking" in str(keys.get("PROBLEM.SELF_SUPERVISED.PRETEXT_TASK")):
        changes |= {"MODEL.VIT_TOKEN_SIZE": 8, "MODEL.VIT_EMBED_DIM": 48, "MODEL.VIT_NUM_LAYERS": 2}
        changes |= {"DATA.PATCH_SIZE": "(8, 8, 8, 1)"} if ndim == 3 else {}
    if keys["PROBLEM.TYPE"] == "SEMANTIC_SEG":
        changes["DATA.N_CLASSES"] = 4  # the ids of the simulated objects
    changes |= {key: value for key, value in paths.items() if keys.get(key) is not None}
    changes |= {"DATA.TEST.PADDING": "(4, 4)" if ndim == 2 else "(1, 2, 2)"}
    if isinstance(widths := keys.get("MODEL.FEATURE_MAPS"), list) and len(widths) > 3 and ndim == 3:
        changes |= {"MODEL.FEATURE_MAPS": [4 * (number + 1) for number in range(len(widths))]}
    return keys | changes


_KINDS = (("PATH", "images"), ("GT_PATH", "labels"))
