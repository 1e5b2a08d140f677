"""From predicted channels to objects, in BiaPy's job files: decoder, refinement, measurement, removal by properties."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from morula.core.family import did_you_mean
from morula.dialects.biapy.instances import Channels, channels_of
from morula.dialects.biapy.settings import Settings, as_list, is_number, listed, whole_numbers
from morula.dialects.biapy.table import FILTER, POST, PROCESS, REFINEMENT, SEG
from morula.dialects.converted import Value

_WATERSHED = f"{SEG}.WATERSHED"
_THRESHOLDS = f"{SEG}.DATA_MW_TH"
_DECODERS = {
    "watershed": "watershed",
    "stardist": "stardist",
    "gradient-flow": "flows",
    "embeddings": "embedseg",
    "agglomeration": "agglomeration",
}
"""Native decoder of each way to make instances."""
_OWN_DECODER = {"R": "stardist", "G": "gradient-flow", "E": "embeddings"}
"""Way of the channels that have one of their own."""
_REFINEMENTS = {
    "dilation": "dilation",
    "erosion": "erosion",
    "fill_holes": "fill_holes",
    "clear_border": "clear_border",
    "remove_small_objects": "remove_small",
    "remove_large_objects": "remove_large",
    "remove_big_objects": "remove_large",
}
_SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


def objects_of(settings: Settings) -> dict[str, Value]:
    """The value of ``objects``."""
    channels = channels_of(settings)
    process = _process(settings, channels)
    found: dict[str, Value] = {**settings.native("objects"), "decoder": process}
    # sphericity by BiaPy's definition: the surface is that of the triangulated mesh
    found["measure"] = {**settings.native("objects.measure"), "surface": "mesh"}
    if operations := _refinements(settings):
        found["refine"] = operations
    if conditions := _conditions(settings):
        found["filter"] = conditions
    return found


def _process(settings: Settings, channels: Channels) -> dict[str, Value]:
    """The decoder with its options."""
    stated = settings.text(PROCESS)
    way = stated or next((way for code, way in _OWN_DECODER.items() if code in channels.codes), "watershed")
    # keys of the other decoders are reported as without effect by it
    settings.resolve(PROCESS, way)
    settings.resolve(f"{SEG}.CELLPOSE.TYPE", "omnipose" if channels.ridges else "cellpose")
    kind = _DECODERS[way]
    found: dict[str, Value] = {"kind": kind, **settings.native("objects.decoder")}
    match kind:
        case "watershed":
            found |= _watershed(settings, channels)
        case "stardist":
            # BiaPy compares the overlap of two stars with their union, StarDist with the smaller one
            found["overlap_of"] = "union"
        case "flows" if not channels.ridges:
            _check_diameter(settings)
        case "embedseg":
            foreground = f"{SEG}.EMBEDSEG.FG_THRESH"
            # the documents have one threshold, SEED_THRESH; the program has a second one
            found["foreground_threshold"] = (
                settings.number(foreground) if foreground in settings else settings.number(f"{SEG}.EMBEDSEG.SEED_THRESH")
            )
            if f"{SEG}.EMBEDSEG.MIN_OBJECT_SIZE" not in settings:
                settings.note("objects of fewer than 100 pixels are removed, the documented default of EMBEDSEG.MIN_OBJECT_SIZE.")
        case "agglomeration":
            found |= _agglomeration(settings)
    return found


def _check_diameter(settings: Settings) -> None:
    """BiaPy rescales test images by DIAM_MEAN / DIAMETER, where a diameter is stated."""
    key = f"{SEG}.CELLPOSE.DIAMETER"
    diameter = settings.number(key)
    if diameter and diameter != settings.number(f"{SEG}.CELLPOSE.DIAM_MEAN"):
        settings.wrong(
            "biapy.not_supported",
            key,
            "cannot be obeyed: images are not rescaled before they are predicted",
            "Rescale the images, or write the value of DIAM_MEAN.",
        )


def _agglomeration(settings: Settings) -> dict[str, Value]:
    quantile = settings.number(key := f"{SEG}.AGGLOMERATION.MERGE_QUANTILE")
    if 0 <= quantile <= 100:
        return {"min_size": 0}
    settings.wrong("biapy.out_of_range", key, "is not a percentage", "Write a number from 0 to 100.")
    return {"min_size": 0, "quantile": 0.5}


def _watershed(settings: Settings, channels: Channels) -> dict[str, Value]:
    """The five steps of the document."""
    found: dict[str, Value] = {}
    for step, name in (("seeds", "SEED_CHANNELS"), ("growth", "GROWTH_MASK_CHANNELS")):
        if thresholds := _thresholds(settings, f"{_WATERSHED}.{name}", channels):
            found[step] = thresholds
    if not found:
        found |= former_thresholds(settings, channels)
    if surface := settings.text(f"{_WATERSHED}.TOPOGRAPHIC_SURFACE_CHANNEL"):
        _check_channels(settings, f"{_WATERSHED}.TOPOGRAPHIC_SURFACE_CHANNEL", [surface], channels)
        found["surface"] = surface
    if "seeds" in found:
        found["valley"] = None  # seeds are the connected components of the seed map
    else:
        settings.note(
            "seeds are planned from the channels, and touching seeds are divided where their depth has a valley; "
            "state SEED_CHANNELS for connected components."
        )
    operations, radii = settings.texts(f"{_WATERSHED}.SEED_MORPH_SEQUENCE"), settings.items(f"{_WATERSHED}.SEED_MORPH_RADIUS")
    if len(operations) != len(radii):
        settings.wrong(
            "biapy.wrong_length",
            f"{_WATERSHED}.SEED_MORPH_RADIUS",
            "has the wrong length: one radius per entry of SEED_MORPH_SEQUENCE is expected",
        )
    elif operations:
        found["seed_morphology"] = [{"op": op, "radius": radius} for op, radius in zip(operations, radii, strict=True)]
    return found


def _thresholds(settings: Settings, key: str, channels: Channels) -> dict[str, Value]:
    """Channels of a step with their thresholds."""
    stated, thresholds = settings.texts(key), settings.items(f"{key}_THRESH")
    # without thresholds each channel gets one by Otsu's method
    thresholds = thresholds if thresholds or not stated else ["auto"] * len(stated)
    if len(stated) != len(thresholds):
        name = key.rpartition(".")[2]
        settings.wrong("biapy.wrong_length", f"{key}_THRESH", f"has the wrong length: one threshold per channel of {name} is expected")
        return {}
    _check_channels(settings, key, stated, channels)
    if not all(threshold == "auto" or is_number(threshold) for threshold in thresholds):
        settings.wrong("biapy.wrong_type", f"{key}_THRESH", "is not valid: numbers or 'auto' are expected")
        return {}
    return {code: _threshold(threshold) for code, threshold in zip(stated, thresholds, strict=True)}


def _threshold(value: Value) -> Value:
    return float(value) if isinstance(value, int) else value


def _check_channels(settings: Settings, key: str, stated: Sequence[str], channels: Channels) -> None:
    for code in stated:
        if code not in channels.codes:
            close = did_you_mean(code, channels.native).strip()
            settings.wrong(
                "biapy.unknown_channel", key, f"names {code!r}, which is not among DATA_CHANNELS, {listed(channels.native)}", close
            )


def former_thresholds(settings: Settings, channels: Channels) -> dict[str, Value]:
    """Seeds and growth mask from the thresholds of versions 3.0 to 3.5.

    There a voxel is of a seed where B is above TH_BINARY_MASK, C below TH_CONTOUR and D above TH_DISTANCE, or where P is above TH_POINTS;
    objects grow where B is above TH_FOREGROUND and D above TH_DIST_FOREGROUND.
    """
    named = {
        name: key
        for name in ("BINARY_MASK", "CONTOUR", "DISTANCE", "POINTS", "FOREGROUND", "DIST_FOREGROUND")
        if (key := f"{_THRESHOLDS}_{name}") in settings
    }
    stated_type = settings.text(f"{_THRESHOLDS}_TYPE")
    settings.resolve(f"{_THRESHOLDS}_TYPE", stated_type or "manual")
    if stated_type == "auto" or not named:
        return {}
    # Dv2 of the letters is D today
    distance = "D" if "D" in channels.codes else "Db"
    steps: Mapping[str, tuple[tuple[str, str], ...]] = {
        "seeds": (("POINTS", "P"),) if "P" in channels.codes else (("BINARY_MASK", "F"), ("CONTOUR", "C"), ("DISTANCE", distance)),
        "growth": (("FOREGROUND", "F"), ("DIST_FOREGROUND", distance)),
    }
    found: dict[str, Value] = {}
    for step, sources in steps.items():
        thresholds: dict[str, Value] = {
            code: settings.number(named[name]) if name in named else "auto"
            for name, code in sources
            if code in channels.codes and (name in named or name != "DIST_FOREGROUND")
        }
        if thresholds:
            found[step] = thresholds
    settings.note(f"the thresholds DATA_MW_TH_* are {', '.join(f'{step} {thresholds}' for step, thresholds in found.items())}.")
    return found


def _refinements(settings: Settings) -> list[Value]:
    """Refinement, repair and tessellation, in BiaPy's order."""
    # repair and tessellation come last, because they merge and grow what the others leave
    found = [*_stated_refinements(settings), *former_refinements(settings)]
    if (size := settings.whole(key := f"{POST}.REPARE_LARGE_BLOBS_SIZE")) >= 0:
        found.append({"repair_large": size})
    elif size != -1:
        settings.wrong("biapy.out_of_range", key, "is not a number of pixels", "Write one, or -1 for no repair.")
    if settings.flag(f"{POST}.VORONOI_ON_MASK"):
        found.append({"voronoi": {"nearest": "centroid", "threshold": settings.number(f"{POST}.VORONOI_TH") or "auto"}})
    return found


def _stated_refinements(settings: Settings) -> list[Value]:
    enable, operations, values = (f"{REFINEMENT}.{name}" for name in ("ENABLE", "OPERATIONS", "VALUES"))
    # the document's example states OPERATIONS and VALUES alone
    if not settings.flag(enable) and (enable in settings or operations not in settings):
        return []
    settings.resolve(enable, True)
    names, parameters = settings.texts(operations), settings.items(values)
    if not names:
        settings.missing(operations, "must be stated with ENABLE", "Write OPERATIONS and VALUES.")
    elif len(names) != len(parameters):
        settings.wrong(
            "biapy.wrong_length",
            values,
            "has the wrong length: one value per entry of OPERATIONS is expected",
            "Write 'none' where an operation needs no value.",
        )
    else:
        entries = (_refinement(settings, *pair) for pair in zip(names, parameters, strict=True))
        return [entry for entry in entries if entry is not None]
    return []


def _refinement(settings: Settings, operation: str, value: Value) -> Value:
    name = _REFINEMENTS.get(operation)
    if name is None:
        known = list(_REFINEMENTS)
        close = did_you_mean(operation, known).strip()
        settings.wrong(
            "biapy.unknown_value",
            f"{REFINEMENT}.OPERATIONS",
            f"names {operation!r}, which is not supported; known are {listed(known)}",
            close,
        )
        return None
    if name in ("fill_holes", "clear_border"):
        return name
    numbers = whole_numbers(as_list(value))
    if not numbers:
        settings.wrong("biapy.wrong_type", f"{REFINEMENT}.VALUES", f"has {value!r}, which is not a number of voxels for {operation}")
        return None
    if name in ("dilation", "erosion"):
        radii = [edge // 2 for edge in numbers]  # BiaPy states the edge of the structuring element
        settings.note("objects are dilated and eroded by discs or balls whose radius is half of the stated edge; BiaPy uses boxes.")
        return {name: {"radius": radii if isinstance(value, list) else radii[0]}}
    return {name: numbers[0]}


def former_refinements(settings: Settings) -> list[Value]:
    """Operations that versions 3.0 to 3.5 had under keys of their own."""
    found: list[Value] = []
    if settings.flag(f"{POST}.FILL_HOLES"):
        found.append("fill_holes")
    if settings.flag(f"{SEG}.DATA_REMOVE_AFTER_MW"):
        found.append({"remove_small": settings.whole(f"{SEG}.DATA_REMOVE_SMALL_OBJ_AFTER")})
    if settings.flag(f"{POST}.CLEAR_BORDER"):
        found.append("clear_border")
    return found


def _conditions(settings: Settings) -> list[Value]:
    """Lists of conditions; an object that meets all of one list is removed."""
    enable, props = f"{FILTER}.ENABLE", f"{FILTER}.PROPS"
    # versions 3.0 to 3.4 had no switch: conditions that were stated were applied
    former = any(key in settings and settings.spelling(key) != key for key in (props, f"{FILTER}.VALUES", f"{FILTER}.SIGNS"))
    former = former and f"{POST}.REMOVE_BY_PROPERTIES" in settings.spelling(props)
    if not settings.flag(enable) and not former:
        return []
    settings.resolve(enable, True)
    return conditions_of(settings, FILTER)


def conditions_of(settings: Settings, section: str) -> list[Value]:
    """PROPS, VALUES and SIGNS of a section as lists of conditions that must all hold, as texts."""
    props = f"{section}.PROPS"
    names, values, signs = (_nested(settings.items(f"{section}.{name}")) for name in ("PROPS", "VALUES", "SIGNS"))
    if not names:
        settings.missing(props, "must be stated with ENABLE", "Write PROPS, VALUES and SIGNS.")
    # PROPS, VALUES and SIGNS are read in parallel
    if any([len(inner) for inner in part] != [len(inner) for inner in names] for part in (values, signs)):
        settings.wrong(
            "biapy.wrong_length", props, "does not agree in length with VALUES and SIGNS; each property has one value and one sign"
        )
        return []
    return [_condition(settings, section, *group) for group in zip(names, values, signs, strict=True)]


def _nested(items: Sequence[Value]) -> list[list[Value]]:
    return [as_list(item) for item in items]


def _condition(settings: Settings, section: str, names: Sequence[Value], values: Sequence[Value], signs: Sequence[Value]) -> list[str]:
    """Conditions that must all hold, as texts."""
    found = []
    for name, value, sign in zip(names, values, signs, strict=True):
        if str(sign) not in _SIGNS:
            close = did_you_mean(str(sign), list(_SIGNS)).strip()
            settings.wrong(
                "biapy.unknown_value", f"{section}.SIGNS", f"has {sign!r}, which is not known; known are {listed(_SIGNS)}", close
            )
        elif not is_number(value):
            settings.wrong("biapy.wrong_type", f"{section}.VALUES", f"has {value!r}, which is not a number")
        else:
            found.append(f"{name} {_SIGNS[str(sign)]} {value!r}")
    return found
