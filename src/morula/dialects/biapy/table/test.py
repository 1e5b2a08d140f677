"""Keys under ``TEST``."""

from __future__ import annotations

from morula.dialects.biapy.table.key import Key, if_stated, same, unused

POST = "TEST.POST_PROCESSING"
OBJECTS = f"{POST}.MEASURE_PROPERTIES"
FILTER = f"{OBJECTS}.REMOVE_BY_PROPERTIES"
REFINEMENT = f"{POST}.INSTANCE_REFINEMENT"
_CHUNKS = "TEST.BY_CHUNKS"
_INSTANCES = "PROBLEM.TYPE=INSTANCE_SEG"
_BY_BLOCK = "images are predicted block by block where memory is short"
_IN_TREE = "predictions are TIFF files; `morula run --config` writes them as Zarr or HDF5, too"
_DETECTION = "it belongs to the workflow DETECTION"

_PREDICTION = (
    Key("TEST.ENABLE", False, target="images.test"),
    Key("TEST.AUGMENTATION", False, target="prediction.tta"),
    Key(
        "TEST.AUGMENTATION_GROUP",
        "auto",
        ("auto", "full", "flips", "none"),
        target="prediction.tta",
        condition="TEST.AUGMENTATION",
    ),
    Key(
        "TEST.AUGMENTATION_MODE",
        "mean",
        condition="TEST.AUGMENTATION",
        refuse=("cannot be obeyed: predictions of the turned images are averaged", "Write mean, or leave it out."),
    ),
    Key(
        "TEST.ANALIZE_2D_IMGS_AS_3D_STACK",
        False,
        condition="PROBLEM.NDIM=2D",
        no_effect="images are predicted and scored one by one; `morula run --config` writes the objects of their stack into as_3d_stack",
        of_tree=True,
    ),
    # settings that change results are refused; those that only change files, memory or messages have no effect
    Key(
        "TEST.REUSE_PREDICTIONS",
        False,
        refuse=(
            "cannot be obeyed: images are always predicted again",
            "Use `morula predict RUN` and `morula evaluate RUN` for single steps.",
        ),
    ),
    Key(
        "TEST.EVAL_BORDER_CROP",
        [],
        refuse=("cannot be obeyed: borders are scored, too", "Crop the test images."),
        earlier_names=("TEST.DET_IGNORE_POINTS_OUTSIDE_BOX",),
    ),
    Key(
        "TEST.FULL_IMG",
        False,
        no_effect="tiles are as large as memory allows, or as the training patch where the network normalises over space; "
        "`morula run --config` names the folders full_image",
        of_tree=True,
        earlier_names=("TEST.STATS.FULL_IMG",),
    ),
    *unused("TEST.STATS", {"PER_PATCH": False, "MERGE_PATCHES": False}, "tiles are merged, and whole images are scored", former=True),
    Key("TEST.EVALUATE", True, no_effect="objects are scored wherever there are labels", as_done=(True,), former=True),
    Key("TEST.REDUCE_MEMORY", False, no_effect=_BY_BLOCK),
    Key("TEST.METRICS_IN_CPU", False, no_effect="scores are computed by the processor"),
    Key("TEST.SAVE_MODEL_RAW_OUTPUT", True, target="prediction.save_channels", condition=f"{_INSTANCES}|SEMANTIC_SEG", convert=same),
    Key("TEST.VERBOSE", True, no_effect="--verbose and --quiet set how much is printed"),
    Key("TEST.METRICS", [], no_effect="test images get the scores that fit the method"),
)

_SCORES = (
    # scores cost little beside the prediction, so that there is no switch
    Key(
        "TEST.MATCHING_STATS",
        True,
        no_effect="objects are scored wherever there are labels; `morula run --config` leaves the scores out of BiaPy's tables",
        as_done=(True,),
        of_tree=True,
    ),
    Key("TEST.MATCHING_STATS_THS", [0.3, 0.5, 0.75], target="method.thresholds", condition=_INSTANCES, convert=same),
    Key("TEST.MATCHING_STATS_THS_COLORED_IMG", [], target="objects.colour", condition=_INSTANCES, convert=if_stated),
    Key("TEST.MATCHING_STATS_BY_IMAGE", True, no_effect="scores are given image by image and for all together", as_done=(True,)),
    Key("TEST.MATCHING_SEGCOMPARE", False, no_effect="objects are compared by their overlap alone", former=True),
)

_BY_CHUNKS = (
    Key(
        f"{_CHUNKS}.ENABLE",
        False,
        condition="PROBLEM.NDIM=3D",
        no_effect=f"{_BY_BLOCK}; `morula run --config` writes predictions as Zarr or HDF5, too",
        of_tree=True,
    ),
    Key(f"{_CHUNKS}.FORMAT", "H5", condition=f"{_CHUNKS}.ENABLE", no_effect=_IN_TREE, former=True, of_tree=True),
    Key(f"{_CHUNKS}.SAVE_OUT_TIF", False, condition=f"{_CHUNKS}.ENABLE", no_effect=_IN_TREE, of_tree=True),
    *unused(_CHUNKS, {"FLUSH_EACH": 100, "WRITE_RAW_PREDICTIONS": False}, _BY_BLOCK),
    Key(f"{_CHUNKS}.PHASES", ["prediction", "instance_creation", "instance_merging"], no_effect="all steps are run"),
    *(
        Key(f"{_CHUNKS}.{name}", -1, refuse=("cannot be obeyed: whole images are predicted", "Crop the test images."))
        for name in ("Z_START", "Z_END")
    ),
    Key(f"{_CHUNKS}.WORKFLOW_PROCESS.TYPE", "chunk_by_chunk", condition=f"{_CHUNKS}.ENABLE", no_effect=_IN_TREE, of_tree=True),
    *unused(
        f"{_CHUNKS}.WORKFLOW_PROCESS",
        {"ENABLE": True, "PATCHES_PER_TILE": (1, 1, 1), "INSTANCE_SEG_MERGE_IOU_TH": 0.3},
        "objects are made of whole predictions, or of blocks where memory is short",
    ),
    Key(f"{_CHUNKS}.WORKFLOW_PROCESS.INSTANCE_SEG_HALO", [], no_effect="blocks overlap by as much as the decoder needs", former=True),
)

_POINTS = (
    *unused(
        "TEST",
        {
            "DET_POINT_CREATION_FUNCTION": "peak_local_max",
            "DET_PEAK_LOCAL_MAX_MIN_DISTANCE": 1,
            "DET_TH_TYPE": "manual",
            "DET_MIN_TH_TO_BE_PEAK": 0.2,
            "DET_EXCLUDE_BORDER": False,
            "DET_BLOB_LOG_MIN_SIGMA": 5,
            "DET_BLOB_LOG_MAX_SIGMA": 10,
            "DET_BLOB_LOG_NUM_SIGMA": 2,
            "DET_TOLERANCE": 10,
        },
        _DETECTION,
    ),
    *unused(
        POST,
        {
            "REMOVE_CLOSE_POINTS": False,
            "REMOVE_CLOSE_POINTS_RADIUS": 0,
            "DET_WATERSHED": False,
            "DET_WATERSHED_FIRST_DILATION": [-1, -1],
            "DET_WATERSHED_DONUTS_CLASSES": [-1],
            "DET_WATERSHED_DONUTS_PATCH": [13, 120, 120],
            "DET_WATERSHED_DONUTS_NUCLEUS_DIAMETER": 30,
        },
        _DETECTION,
    ),
)

_FILTERS = (
    Key("TEST.DET_LOCAL_MAX_COORDS", False, no_effect=_DETECTION, former=True),
    Key(
        f"{POST}.WATERSHED_CIRCULARITY",
        -1.0,
        refuse=("cannot be obeyed: objects are not marked by their circularity", f"Write a condition on circularity into {FILTER}."),
        former=True,
    ),
    Key(f"{POST}.MEDIAN_FILTER", False, target="prediction.median"),
    *(Key(f"{POST}.MEDIAN_FILTER_{name}", [], target="prediction.median", condition=f"{POST}.MEDIAN_FILTER") for name in ("AXIS", "SIZE")),
    # former versions named the axes in the key
    *(
        row
        for name in ("Z", "YZ")
        for row in (
            Key(f"{POST}.{name}_FILTERING", False, target="prediction.median", former=True),
            Key(f"{POST}.{name}_FILTERING_SIZE", 5, target="prediction.median", condition=f"{POST}.{name}_FILTERING", former=True),
        )
    ),
)

_REFINEMENT = (
    Key(f"{REFINEMENT}.ENABLE", False, target="objects.refine"),
    Key(f"{REFINEMENT}.OPERATIONS", [], target="objects.refine", condition=f"{REFINEMENT}.ENABLE"),
    Key(f"{REFINEMENT}.VALUES", [], target="objects.refine", condition=f"{REFINEMENT}.ENABLE"),
    # former versions had a key per operation, in a fixed order
    Key(f"{POST}.CLEAR_BORDER", False, target="objects.refine", former=True),
    Key(f"{POST}.FILL_HOLES", False, target="objects.refine", former=True),
    Key(f"{POST}.REPARE_LARGE_BLOBS_SIZE", -1, target="objects.refine"),
    Key(f"{POST}.VORONOI_ON_MASK", False, target="objects.refine"),
    Key(f"{POST}.VORONOI_TH", 0.0, target="objects.refine", condition=f"{POST}.VORONOI_ON_MASK"),
    Key(f"{POST}.APPLY_MASK", False, refuse=("cannot be obeyed: results are not masked", "Mask the images before."), former=True),
)

_MEASUREMENT = (
    Key(
        f"{OBJECTS}.ENABLE",
        False,
        no_effect="objects are always measured, which costs little; `morula run --config` writes BiaPy's tables where it is set",
        of_tree=True,
    ),
    Key(f"{OBJECTS}.EXTRA_PROPS", [], target="objects.measure.extra", convert=if_stated),
    Key(f"{FILTER}.ENABLE", False, target="objects.filter"),
    Key(f"{FILTER}.PROPS", [], target="objects.filter", condition=f"{FILTER}.ENABLE", earlier_names=(f"{POST}.REMOVE_BY_PROPERTIES",)),
    Key(
        f"{FILTER}.VALUES",
        [],
        target="objects.filter",
        condition=f"{FILTER}.ENABLE",
        earlier_names=(f"{POST}.REMOVE_BY_PROPERTIES_VALUES",),
    ),
    Key(
        f"{FILTER}.SIGNS",
        [],
        target="objects.filter",
        condition=f"{FILTER}.ENABLE",
        # the key has had four spellings
        earlier_names=(f"{FILTER}.SIGN", f"{POST}.REMOVE_BY_PROPERTIES_SIGN", f"{POST}.REMOVE_BY_PROPERTIES_SIGNS"),
    ),
)

TEST: tuple[Key, ...] = (
    *_PREDICTION,
    *_SCORES,
    *_BY_CHUNKS,
    *_POINTS,
    *_FILTERS,
    *_REFINEMENT,
    *_MEASUREMENT,
)
"""Rows of the keys under ``TEST``."""
