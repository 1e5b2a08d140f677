"""Keys under ``PROBLEM``."""

from __future__ import annotations

from morula.dialects.biapy.table.key import Key, if_stated, percent, positive, same, unused

SEG = "PROBLEM.INSTANCE_SEG"
PROCESS = f"{SEG}.INSTANCE_CREATION_PROCESS"
_W = f"{SEG}.WATERSHED"


def _numbered(number: int) -> tuple[str, ...]:
    """Thresholds had numbers before they had names, in three places one after the other."""
    return f"DATA.MW_TH{number}", f"{SEG}.MW_TH{number}", f"{SEG}.DATA_MW_TH{number}"


_CHANNELS = (
    Key(f"{SEG}.TYPE", "regular", refuse=("cannot be obeyed: only regular instances are supported, not synapses", "Leave it out.")),
    Key(f"{SEG}.DATA_CHANNELS", ["F", "C"], target="method.channels", earlier_names=("DATA.CHANNELS",)),
    Key(f"{SEG}.DATA_CHANNELS_EXTRA_OPTS", {}, target="method.channels."),
    # former versions stated options of single channels by keys of their own
    Key(f"{SEG}.DATA_CONTOUR_MODE", "", target="method.channels.C.mode", earlier_names=("DATA.CONTOUR_MODE",), former=True),
    Key(f"{SEG}.DISTANCE_CHANNEL_MASK", True, target="method.channels.Db.mask_values", former=True),
    Key(f"{SEG}.DATA_CHANNELS_LOSSES", [], target="method.losses"),
    Key(f"{SEG}.DATA_CHANNEL_WEIGHTS", [1.0], target="method.weights", earlier_names=("DATA.CHANNEL_WEIGHTS",)),
    Key(
        f"{SEG}.CLASS_REBALANCE_WITHIN_CHANNELS",
        True,
        target="method.rebalance",
        convert=same,
        condition="PROBLEM.TYPE=INSTANCE_SEG",
    ),
    Key(f"{SEG}.CHANNELS_PER_HEAD_INFO", [], target="method.heads"),
    Key(f"{SEG}.SEPARATED_DECODERS_PER_HEAD", False, target="network.separate_decoders"),
    Key(
        f"{SEG}.SEPARATED_DECODERS_DIVIDE_FEATURE_MAPS",
        False,
        refuse=("cannot be obeyed: each decoder has all feature maps", "Lower MODEL.FEATURE_MAPS instead."),
    ),
    Key(
        f"{SEG}.BORDER_EXTRA_WEIGHTS",
        "",
        refuse=("cannot be obeyed: weights between objects are not supported", "Add the channel T or C instead."),
    ),
    Key(
        PROCESS,
        "",
        ("", "watershed", "agglomeration", "stardist", "embeddings", "gradient-flow"),
        target="objects.decoder",
    ),
)

_WATERSHED = (
    Key(f"{_W}.SEED_CHANNELS", [], target="objects.decoder.seeds", condition=f"{PROCESS}=watershed"),
    Key(f"{_W}.SEED_CHANNELS_THRESH", [], target="objects.decoder.seeds", condition=f"{_W}.SEED_CHANNELS"),
    Key(f"{_W}.TOPOGRAPHIC_SURFACE_CHANNEL", "", target="objects.decoder.surface", condition=f"{PROCESS}=watershed"),
    Key(f"{_W}.GROWTH_MASK_CHANNELS", [], target="objects.decoder.growth", condition=f"{PROCESS}=watershed"),
    Key(f"{_W}.GROWTH_MASK_CHANNELS_THRESH", [], target="objects.decoder.growth", condition=f"{_W}.GROWTH_MASK_CHANNELS"),
    Key(
        f"{_W}.SEED_MORPH_SEQUENCE",
        [],
        target="objects.decoder.seed_morphology",
        condition=f"{PROCESS}=watershed",
        earlier_names=(f"{SEG}.SEED_MORPH_SEQUENCE",),
    ),
    Key(
        f"{_W}.SEED_MORPH_RADIUS",
        [],
        target="objects.decoder.seed_morphology",
        condition=f"{_W}.SEED_MORPH_SEQUENCE",
        earlier_names=(f"{SEG}.SEED_MORPH_RADIUS",),
    ),
    Key(
        f"{_W}.ERODE_AND_DILATE_GROWTH_MASK",
        False,
        target="objects.decoder.growth_erosion",
        condition=f"{PROCESS}=watershed",
        earlier_names=(f"{SEG}.ERODE_AND_DILATE_GROWTH_MASK", f"{SEG}.ERODE_AND_DILATE_FOREGROUND"),
    ),
    Key(
        f"{_W}.FORE_EROSION_RADIUS",
        5,
        target="objects.decoder.growth_erosion",
        condition=f"{_W}.ERODE_AND_DILATE_GROWTH_MASK",
        convert=same,
        earlier_names=(f"{SEG}.FORE_EROSION_RADIUS",),
    ),
    Key(
        f"{_W}.FORE_DILATION_RADIUS",
        5,
        target="objects.decoder.growth_dilation",
        condition=f"{_W}.ERODE_AND_DILATE_GROWTH_MASK",
        convert=same,
        earlier_names=(f"{SEG}.FORE_DILATION_RADIUS",),
    ),
    # the switches of the watershed were keys of the whole section, or of DATA, in earlier versions
    Key(
        f"{_W}.DATA_CHECK_MW",
        False,
        target="objects.intermediates",
        convert=if_stated,
        condition="PROBLEM.TYPE=INSTANCE_SEG",
        earlier_names=(f"{SEG}.DATA_CHECK_MW", "DATA.CHECK_MW"),
    ),
    Key(
        f"{_W}.DATA_REMOVE_BEFORE_MW",
        False,
        target="objects.decoder.min_seed",
        condition=f"{PROCESS}=watershed",
        earlier_names=(f"{SEG}.DATA_REMOVE_BEFORE_MW", "DATA.REMOVE_BEFORE_MW"),
    ),
    Key(
        f"{_W}.DATA_REMOVE_SMALL_OBJ_BEFORE",
        10,
        target="objects.decoder.min_seed",
        condition=f"{_W}.DATA_REMOVE_BEFORE_MW",
        convert=same,
        earlier_names=(f"{SEG}.DATA_REMOVE_SMALL_OBJ_BEFORE", f"{SEG}.DATA_REMOVE_SMALL_OBJ", "DATA.REMOVE_SMALL_OBJ"),
    ),
    Key(
        f"{_W}.BY_2D_SLICES",
        False,
        target="objects.decoder.by_slice",
        condition=f"{PROCESS}=watershed",
        convert=if_stated,
        earlier_names=(f"{SEG}.WATERSHED_BY_2D_SLICES",),
    ),
    # thresholds of versions 3.0 to 3.5, by the letter of the channel; 3.7 has lists of channels and thresholds instead
    Key(
        f"{SEG}.DATA_MW_TH_TYPE", "", ("", "auto", "manual"), target="objects.decoder.seeds", condition=f"{PROCESS}=watershed", former=True
    ),
    *(
        Key(
            f"{SEG}.DATA_MW_TH_{name}",
            -1.0,
            target=f"objects.decoder.{step}",
            condition=f"{SEG}.DATA_MW_TH_TYPE=manual",
            earlier_names=earlier,
            former=True,
        )
        for name, step, earlier in (
            ("BINARY_MASK", "seeds", _numbered(1)),
            ("CONTOUR", "seeds", _numbered(2)),
            ("FOREGROUND", "growth", _numbered(3)),
            ("DISTANCE", "seeds", _numbered(4)),
            ("DIST_FOREGROUND", "growth", _numbered(5)),
            ("POINTS", "seeds", (f"{SEG}.TH_POINTS",)),
        )
    ),
    # now one of the refinements after decoding
    Key(f"{SEG}.DATA_REMOVE_AFTER_MW", False, target="objects.refine", former=True),
    Key(
        f"{SEG}.DATA_REMOVE_SMALL_OBJ_AFTER",
        100,
        target="objects.refine",
        condition=f"{SEG}.DATA_REMOVE_AFTER_MW",
        former=True,
    ),
    Key(
        f"{SEG}.DATA_MW_OPTIMIZE_THS",
        False,
        target="objects.tune",
        refuse=(
            "cannot be obeyed: thresholds are found with `morula tune RUN` after the training",
            "Leave it out, and tune the finished run.",
        ),
        earlier_names=("DATA.MW_OPTIMIZE_THS",),
        former=True,
    ),
)

_OTHER_DECODERS = (
    *(
        Key(f"{SEG}.AGGLOMERATION.{name}", default, target=f"objects.decoder.{ours}", condition=f"{PROCESS}=agglomeration", convert=convert)
        for name, default, ours, convert in (
            ("FRAGMENT_SEED_TH", 0.9, "seeds", same),
            ("FRAGMENT_GROWTH_TH", 0.1, "growth", same),
            ("MERGE_TH", 0.5, "threshold", same),
            # BiaPy counts in percent
            ("MERGE_QUANTILE", 50.0, "quantile", percent),
            ("MIN_EDGE_VOXELS", 5, "min_contact", same),
        )
    ),
    *(
        Key(f"{SEG}.STARDIST.{name}", default, target=f"objects.decoder.{ours}", condition=f"{PROCESS}=stardist", convert=convert)
        for name, default, ours, convert in (
            ("PROB_THRESH", 0.4, "threshold", same),
            ("NMS_IOU_THRESH", 0.3, "overlap", same),
            ("GRID", [], "grid", if_stated),
        )
    ),
    *(
        Key(f"{SEG}.CELLPOSE.{name}", default, target=f"objects.decoder.{ours}", condition=f"{PROCESS}=gradient-flow", convert=same)
        for name, default, ours in (("FG_THRESH", 0.5, "threshold"), ("FLOW_THRESHOLD", 0.4, "flow_error"), ("N_STEPS", 200, "steps"))
    ),
    Key(f"{SEG}.CELLPOSE.DIAMETER", 0.0),
    Key(f"{SEG}.CELLPOSE.DIAM_MEAN", 30.0, condition=f"{SEG}.CELLPOSE.DIAMETER"),
    Key(
        f"{SEG}.CELLPOSE.SCALE_RANGE",
        0.5,
        no_effect="training images are not rescaled to the diameter of the objects; AUGMENTOR.ZOOM changes their size",
    ),
    Key(f"{SEG}.CELLPOSE.TEST_DOUBLE_INFERENCE", True, no_effect="images are predicted once, at their own size"),
    Key(f"{SEG}.CELLPOSE.TYPE", "cellpose", ("cellpose", "omnipose"), target="method.channels.G.leads_to", former=True),
    *(
        Key(f"{SEG}.OMNIPOSE.{name}", default, target=f"objects.decoder.{ours}", condition=f"{PROCESS}=gradient-flow", convert=convert)
        for name, default, ours, convert in (
            ("MASK_THRESHOLD", 0.0, "threshold", same),
            ("FLOW_THRESHOLD", 0.4, "flow_error", same),
            ("NITER", 0, "steps", positive),
        )
    ),
    Key(f"{SEG}.EMBEDSEG.FG_THRESH", 0.5, target="objects.decoder.foreground_threshold", condition=f"{PROCESS}=embeddings"),
    *(
        Key(f"{SEG}.EMBEDSEG.{name}", default, target=f"objects.decoder.{name.lower()}", condition=f"{PROCESS}=embeddings", convert=same)
        for name, default in (("MIN_MASK_SUM", 0), ("MIN_UNCLUSTERED_SUM", 0), ("MIN_OBJECT_SIZE", 100))
    ),
    Key(
        f"{SEG}.EMBEDSEG.SEED_THRESH",
        0.5,
        target="objects.decoder.seed_threshold",
        condition=f"{PROCESS}=embeddings",
        convert=same,
    ),
    Key(f"{SEG}.EMBEDSEG.GRID_SIZE", -1, target="method.channels.E.grid_size", condition=f"{PROCESS}=embeddings"),
    *unused(
        f"{SEG}.SYNAPSES",
        {
            "POINT_CREATION_FUNCTION": "peak_local_max",
            "PEAK_LOCAL_MAX_MIN_DISTANCE": 1,
            "TH_TYPE": "auto",
            "MIN_TH_TO_BE_PEAK": 0.2,
            "EXCLUDE_BORDER": False,
            "BLOB_LOG_MIN_SIGMA": 5,
            "BLOB_LOG_MAX_SIGMA": 10,
            "BLOB_LOG_NUM_SIGMA": 2,
            "REMOVE_CLOSE_PRE_POINTS_RADIUS": 0,
            "REMOVE_CLOSE_POST_POINTS_RADIUS": 0,
            "REMOVE_CLOSE_POINTS_RADIUS_BY_MASK": False,
        },
        f"it belongs to {SEG}.TYPE synapses, which is not supported",
    ),
    *unused(
        f"{SEG}.SYNAPSES",
        {
            "DATA_CHANNELS": "BF",
            "NORMALIZE_DISTANCES": False,
            "POSTSITE_DILATION": [2, 4, 4],
            "POSTSITE_DILATION_DISTANCE_CHANNELS": [3, 10, 10],
        },
        f"it belongs to {SEG}.TYPE synapses, which is not supported",
        former=True,
    ),
)

_SSL = "PROBLEM.SELF_SUPERVISED"
_PRETEXT = f"{_SSL}.PRETEXT_TASK"
_SELF_SUPERVISED = (
    Key(_PRETEXT, "masking", ("masking", "crappify"), target="method"),
    Key(f"{_SSL}.RESIZING_FACTOR", 4, target="method.factor", condition=f"{_PRETEXT}=crappify"),
    Key(f"{_SSL}.NOISE", 0.2, target="method.noise", condition=f"{_PRETEXT}=crappify", convert=same),
)

_I2I = "PROBLEM.IMAGE_TO_IMAGE"
_REPAIR = f"{_I2I}.MEMBRANE_REPAIR"
_NO_REPAIR = f"{_REPAIR}.ENABLE is not set"
# keys of what is refused as a whole are listed all the same: files that BiaPy writes hold every key
_AUGMENTED: dict[str, dict[str, bool | float | tuple[float, float]]] = {
    "GAP_AUG": {"ENABLE": False, "PROB": 0.5, "LENGTH_RANGE": (0.3, 1.0), "THICKNESS_RANGE": (4, 9), "N_LINES": (1, 3)},
    "BRIDGE_AUG": {"ENABLE": False, "PROB": 0.3, "LENGTH_RANGE": (0.3, 1.0), "THICKNESS_RANGE": (4, 9), "N_LINES": (1, 3)},
    "ARTIFACT_AUG": {
        "ENABLE": False,
        "PROB": 0.1,
        "BAND_PROB": 0.5,
        "BAND_THICKNESS_RANGE": (50, 70),
        "BLOB_SIZE_RANGE": (0.1, 0.3),
        "BLOB_N_RANGE": (1, 3),
    },
    "SKELETON_PERTURB_AUG": {"ENABLE": False, "PROB": 0.3, "RADIUS_RANGE": (1, 2)},
    "SLICE_DROPOUT_AUG": {"ENABLE": False, "PROB": 0.3},
}
_OTHER_WORKFLOWS = (
    Key("PROBLEM.SEMANTIC_SEG.IGNORE_CLASS_ID", 0, target="method.ignore"),
    *unused(
        "PROBLEM.DETECTION",
        {
            "CENTRAL_POINT_DILATION": [2],
            "CHECK_POINTS_CREATED": True,
            "DATA_CHECK_MW": False,
            "SEPARATED_DECODERS_PER_HEAD": False,
            "SEPARATED_DECODERS_DIVIDE_FEATURE_MAPS": False,
            "CLASS_REBALANCE_WITHIN_CHANNELS": True,
            "DATA_CHANNEL_WEIGHTS": (1, 1),
        },
        "it belongs to the workflow DETECTION",
    ),
    Key("PROBLEM.DENOISING.N2V_PERC_PIX", 0.198, target="method.share"),
    Key(
        "PROBLEM.DENOISING.N2V_MANIPULATOR",
        "uniform_withCP",
        (
            *("uniform_withCP", "uniform_withoutCP", "normal_withoutCP", "normal_additive", "normal_fitted"),
            *("mean", "median", "identity"),
        ),
        target="method.replacement",
    ),
    Key("PROBLEM.DENOISING.N2V_NEIGHBORHOOD_RADIUS", 5, target="method.radius"),
    Key("PROBLEM.DENOISING.N2V_STRUCTMASK", False, target="method.line"),
    Key(
        "PROBLEM.DENOISING.LOAD_GT_DATA",
        False,
        refuse=(
            "cannot be obeyed: where there are clean images, no voxel has to be hidden",
            "Write IMAGE_TO_IMAGE to learn from them; DATA.TEST.LOAD_GT alone compares denoised test images with clean ones.",
        ),
    ),
    Key("PROBLEM.SUPER_RESOLUTION.UPSCALING", [], target="method.enlarge"),
    Key(f"{_I2I}.OUTPUT_CHANNELS", 1, target="method.channels"),
    Key(f"{_I2I}.CHANNELS_PER_HEAD_INFO", [], target="method.channels"),
    Key(f"{_I2I}.OUTPUT_CHANNEL_ACT", [], target="method.activation"),
    Key(
        f"{_I2I}.SEPARATED_DECODERS_PER_HEAD",
        False,
        refuse=("cannot be obeyed: all channels of a predicted image have one decoder", "Leave it out, or write one job per image."),
    ),
    Key(f"{_I2I}.SEPARATED_DECODERS_DIVIDE_FEATURE_MAPS", False, no_effect=f"{_I2I}.SEPARATED_DECODERS_PER_HEAD is not set"),
    Key(f"{_I2I}.MULTIPLE_RAW_ONE_TARGET_LOADER", False, target="images"),
    Key(
        f"{_REPAIR}.ENABLE",
        False,
        refuse=("cannot be obeyed: segmented membranes are not repaired", "Write INSTANCE_SEG with DATA_CHANNELS [A] for affinities."),
    ),
    *unused(
        _REPAIR,
        {
            "SOURCE_CHANNELS": ["membrane", "raw"],
            "DERIVED_CHANNELS": ["skeleton_dt", "hessian_blob", "meijering"],
            "DERIVED_CHANNELS_EXTRA_OPTS": [{}],
            "DATA_CHANNELS": ["A", "I"],
            "DATA_CHANNELS_EXTRA_OPTS": [{}],
        },
        _NO_REPAIR,
    ),
    *unused(
        f"{_REPAIR}.POSTPROCESS",
        {
            "METHOD": "agglomeration",
            "FRAGMENT_SEED_TH": 0.9,
            "FRAGMENT_GROWTH_TH": 0.1,
            "MERGE_TH": 0.5,
            "MERGE_QUANTILE": 50.0,
            "MIN_EDGE_VOXELS": 5,
        },
        _NO_REPAIR,
    ),
    *(row for section, defaults in _AUGMENTED.items() for row in unused(f"{_REPAIR}.{section}", defaults, _NO_REPAIR)),
)

PROBLEM: tuple[Key, ...] = (
    Key("PROBLEM.TYPE", "SEMANTIC_SEG", target="method"),
    Key("PROBLEM.NDIM", "2D", ("2D", "3D")),
    Key("PROBLEM.PRINT_OLD_KEY_CHANGES", True, no_effect="what was decided about former spellings is always printed"),
    *_CHANNELS,
    *_WATERSHED,
    *_OTHER_DECODERS,
    *_SELF_SUPERVISED,
    *_OTHER_WORKFLOWS,
)
"""Rows of the keys under ``PROBLEM``."""
