"""Instance segmentation of BiaPy's job files: channels, their losses, and the way from predicted channels to objects."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from morula.core.family import did_you_mean
from morula.dialects.biapy.settings import Settings
from morula.representations import REPRESENTATIONS

SEG = "PROBLEM.INSTANCE_SEG"
POST = "TEST.POST_PROCESSING"
_FILTER = f"{POST}.MEASURE_PROPERTIES.REMOVE_BY_PROPERTIES"
_FORMER = {"B": ("F",), "C": ("C",), "D": ("Db",), "Dv2": ("D",), "P": ("P",), "M": ("M",), "A": ("A",), "F": ("V", "H", "Z")}
_TOGETHER = {"E_offset": "E", "E_sigma": "E", "E_seediness": "E", "Gv": "G", "Gh": "G", "Gz": "G"}
_MEAN_SQUARE, _BINARY = ("D", "G"), ("F", "B", "C", "P", "T", "A", "M")
_LOSSES = {"bce": "bce", "ce": "ce", "mse": "mse", "l1": "l1", "mae": "l1", "embedseg": "embedseg"}
_PROCESSES = {"embeddings": "embedseg", "gradient-flow": "flows"}
_DECODERS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "stardist": ("STARDIST", {"threshold": "PROB_THRESH", "overlap": "NMS_IOU_THRESH", "grid": "GRID"}),
    "flows": ("CELLPOSE", {"threshold": "FG_THRESH", "flow_error": "FLOW_THRESHOLD", "steps": "N_STEPS"}),
    "embedseg": (
        "EMBEDSEG",
        {
            "seed_threshold": "SEED_THRESH",
            "min_mask_sum": "MIN_MASK_SUM",
            "min_unclustered_sum": "MIN_UNCLUSTERED_SUM",
            "min_object_size": "MIN_OBJECT_SIZE",
        },
    ),
    "agglomeration": (
        "AGGLOMERATION",
        {"seeds": "FRAGMENT_SEED_TH", "growth": "FRAGMENT_GROWTH_TH", "threshold": "MERGE_TH", "min_contact": "MIN_EDGE_VOXELS"},
    ),
}
"""The section of each decoder, and its keys by our names."""
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


def method_of(settings: Settings) -> dict[str, Any]:
    """The method `channels`."""
    written, codes = channels_of(settings)
    own = list(dict.fromkeys(codes))
    found: dict[str, Any] = {"kind": "channels", "channels": _options(settings, written, codes)}
    weights = _weights(settings, written, codes)
    found["losses"] = _losses(settings, written, codes, found["channels"])
    if any(weights[code] != 1 for code in own):
        found["weights"] = {code: weights[code] for code in own}
    found["rebalance"] = settings[f"{SEG}.CLASS_REBALANCE_WITHIN_CHANNELS"]
    if settings["DATA.N_CLASSES"] > 2:
        found["classes"] = _classes(settings) | {"weight": weights.get("classes", 1.0)}
    if heads := _heads(settings, own, found["channels"]):
        found["heads"] = heads
    return {**found, "thresholds": list(settings["TEST.MATCHING_STATS_THS"])}


def _classes(settings: Settings) -> dict[str, Any]:
    """The classes of objects: here the background is none, there it is the first."""
    count = settings["DATA.N_CLASSES"] - 1
    weights: Any = {"none": None, "auto": "balanced", "manual": None}[settings["LOSS.CLASS_REBALANCE"]]
    if settings["LOSS.CLASS_REBALANCE"] == "manual":
        stated = settings[key := "LOSS.CLASS_WEIGHTS"]
        if len(stated) == count + 1 and all(isinstance(each, int | float) for each in stated):
            weights = [float(each) for each in stated[1:]]
            settings.note("classes are learned inside objects alone: the first of LOSS.CLASS_WEIGHTS, that of the background, is not used.")
        else:
            settings.wrong(key, f"one number a class is expected, the background among them: {count + 1}.")
    ignored = settings["LOSS.IGNORE_INDEX"]
    return {"count": count, "class_weights": weights, **({"ignore": ignored} if ignored >= 0 else {})}


def channels_of(settings: Settings) -> tuple[list[str], list[str]]:
    """Channels as they are written, and our code of each."""
    key = f"{SEG}.DATA_CHANNELS"
    given = settings[key]
    if len(given) == 1 and given[0] not in (*REPRESENTATIONS.names, *_TOGETHER):  # a word such as 'BC': the letters of earlier versions
        letters = re.findall(r"Dv2|[A-Z]", given[0])
        if "".join(letters) == given[0] and all(letter in _FORMER for letter in letters):
            given = [code for letter in letters for code in _FORMER[letter] if code != "Z" or settings.ndim == 3]
            settings.note(f"the letters of earlier versions in {key} are {', '.join(given)} of today.")
    known = [*REPRESENTATIONS.names, *_TOGETHER]
    for code in given:
        if code not in known:
            settings.wrong(key, f"the channel {code!r} is not known here; known are {', '.join(known)}.{did_you_mean(str(code), known)}")
    kept = [code for code in given if code in known] or ["F", "C"]
    return kept, [_TOGETHER.get(code, code) for code in kept]


def _options(settings: Settings, written: Sequence[str], codes: Sequence[str]) -> dict[str, Any]:
    """Options of each channel; what is left out means the same here and in BiaPy's documentation."""
    key = f"{SEG}.DATA_CHANNELS_EXTRA_OPTS"
    stated = settings[key]
    if isinstance(stated, list):
        stated = stated[0] if len(stated) == 1 else None if stated else {}
    if not isinstance(stated, Mapping) or not all(isinstance(each, Mapping) for each in stated.values()):
        settings.wrong(key, "a mapping from channel to its options is expected: {C: {mode: thick}}.")
        stated = {}
    found: dict[str, Any] = {code: {} for code in codes}
    for name, options in stated.items():
        if name not in written and _TOGETHER.get(name, name) not in codes:
            settings.remark(key, f"{name!r} is not among the channels {', '.join(written)}.{did_you_mean(name, list(written))}")
            continue
        code = _TOGETHER.get(name, name)
        options = dict(options)
        if code == "G" and options.pop("gradient_type", "cellpose") != "cellpose":
            settings.wrong(key, "cannot be honoured: flows follow the diffusion of heat. Write gradient_type: cellpose.")
        found[code] |= options
    if "A" in found:  # not in the documentation; as BiaPy does
        found["A"].setdefault("widen_borders", 1)
    return found


def _weights(settings: Settings, written: Sequence[str], codes: Sequence[str]) -> dict[str, float]:
    """Weight of each of our channels, and of the classes where a further one is stated."""
    key = f"{SEG}.DATA_CHANNEL_WEIGHTS"
    stated = settings[key]
    if set(stated) <= {1.0}:
        return dict.fromkeys(codes, 1.0)
    more = 1 if settings["DATA.N_CLASSES"] > 2 and len(stated) == len(written) + 1 else 0
    if len(stated) != len(written) + more:
        settings.wrong(key, f"one weight a channel is expected: {', '.join(written)}.")
        return dict.fromkeys(codes, 1.0)
    found = dict(zip(codes, stated[: len(codes)], strict=True))
    if any(found[code] != weight for code, weight in zip(codes, stated, strict=False)):
        settings.wrong(key, "cannot be honoured: channels of one representation have one weight. Write the same for each of them.")
    return found | ({"classes": stated[-1]} if more else {})


def _losses(settings: Settings, written: Sequence[str], codes: Sequence[str], options: Mapping[str, Any]) -> dict[str, str]:
    """Loss of each of our channels, as BiaPy chooses where none is stated."""
    key = f"{SEG}.DATA_CHANNELS_LOSSES"
    stated = [str(name).lower() for name in settings[key]]
    found: dict[str, str] = {}
    for code in codes:
        in_classes = code == "Db" and options["Db"].get("val_type") == "discretize"
        star = code == "Db" and "R" in codes
        found[code] = "bce" if code in _BINARY or star else "mse" if code in _MEAN_SQUARE else "ce" if in_classes else "l1"
    found.pop("E", None)
    if "R" in codes:
        settings.note("rays are learned in units of four voxels, not of one; where no weights are stated they count a quarter.")
    if not stated:
        return found
    if len(stated) != len(written) and not (len(stated) == 1 and set(codes) == {"E"}):
        settings.wrong(key, f"one loss a channel is expected: {', '.join(written)}.")
        return found
    for code, name in zip(codes, stated, strict=False):
        if name not in _LOSSES:
            settings.wrong(key, f"the loss {name!r} is not known here; known are {', '.join(_LOSSES)}.{did_you_mean(name, list(_LOSSES))}")
        elif (code == "E") != (name == "embedseg"):
            settings.wrong(key, f"the loss {name!r} does not fit {code}; embedseg is the loss of E, and of no other channel.")
        elif code != "E":
            found[code] = _LOSSES[name]
    return found


def _heads(settings: Settings, codes: Sequence[str], options: Mapping[str, Any]) -> list[list[str]]:
    """Channels of each head, from the numbers of outputs that BiaPy states."""
    key = f"{SEG}.CHANNELS_PER_HEAD_INFO"
    sizes = [each for size in settings[key] for each in (size if isinstance(size, list) else [size])]
    if not all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in sizes):
        settings.wrong(key, "numbers of channels, 1 or more for each head, are expected.")
        return []
    if len(sizes) < 2:
        return []
    if set(codes) & {"R", "E", "A"}:
        settings.wrong(key, "cannot be honoured: R, E and A leave the network through one output layer. Leave it out.")
        return []
    widths = {code: settings.ndim if code == "G" else 11 if options[code].get("val_type") == "discretize" else 1 for code in codes}
    groups: list[list[str]] = []
    rest = list(codes)
    for size in sizes:
        group: list[str] = []
        while rest and sum(widths[code] for code in group) < size:
            group.append(rest.pop(0))
        groups.append(group)
    if rest or [sum(widths[code] for code in group) for group in groups] != sizes:
        settings.wrong(key, f"does not add up to the channels {', '.join(codes)}.")
        return []
    return groups


def objects_of(settings: Settings) -> dict[str, Any]:
    """From predicted channels to objects."""
    _, codes = channels_of(settings)
    found: dict[str, Any] = {"process": _process(settings, codes)}
    if operations := _refinements(settings):
        found["refine"] = operations
    if extra := settings[f"{POST}.MEASURE_PROPERTIES.EXTRA_PROPS"]:
        found["measure"] = {"extra": list(extra)}
    if conditions := _conditions(settings):
        found["filter"] = conditions
    if thresholds := settings["TEST.MATCHING_STATS_THS_COLORED_IMG"]:
        found["colour"] = list(thresholds)
    if settings[f"{SEG}.WATERSHED.DATA_CHECK_MW"]:
        found["intermediates"] = True
    return found


def _decoder(settings: Settings, codes: Sequence[str]) -> str:
    """Our name of the way to objects."""
    stated = settings[f"{SEG}.INSTANCE_CREATION_PROCESS"]
    own = next((name for code, name in (("R", "stardist"), ("G", "flows"), ("E", "embedseg")) if code in codes), "watershed")
    return _PROCESSES.get(stated, stated) or own


def decoder_keys(settings: Settings) -> dict[str, str]:
    """BiaPy's key of each option of the decoder, for all but the watershed."""
    kind = _decoder(settings, channels_of(settings)[1])
    section, names = _DECODERS.get(kind, ("", {}))
    keys = {ours: f"{SEG}.{section}.{theirs}" for ours, theirs in names.items()}
    if kind == "embedseg":
        inside = f"{SEG}.{section}.FG_THRESH"
        keys["foreground_threshold"] = inside if inside in settings else keys["seed_threshold"]
    return keys


def _process(settings: Settings, codes: Sequence[str]) -> dict[str, Any]:
    kind = _decoder(settings, codes)
    if kind not in _DECODERS:
        return {"kind": "watershed", **_watershed(settings, codes)}
    found = {"kind": kind, **{ours: settings[key] for ours, key in decoder_keys(settings).items()}}
    if kind == "stardist":
        found["overlap_of"] = "union"
        if not found["grid"]:
            del found["grid"]
    elif kind == "embedseg" and f"{SEG}.EMBEDSEG.MIN_OBJECT_SIZE" not in settings:
        settings.note("objects of fewer than 100 pixels are left out, as EMBEDSEG.MIN_OBJECT_SIZE is documented; state another.")
    elif kind == "agglomeration":
        quantile = settings[key := f"{SEG}.AGGLOMERATION.MERGE_QUANTILE"]
        if not 0 <= quantile <= 100:
            settings.wrong(key, "is no percentage. Write a number from 0 to 100.")
        found |= {"quantile": min(max(quantile, 0), 100) / 100, "min_size": 0}
    return found


def _watershed(settings: Settings, codes: Sequence[str]) -> dict[str, Any]:
    """The five steps of the document."""
    of = f"{SEG}.WATERSHED"
    found: dict[str, Any] = {}
    for step, name in (("seeds", "SEED_CHANNELS"), ("growth", "GROWTH_MASK_CHANNELS")):
        if thresholds := _thresholds(settings, f"{of}.{name}", codes):
            found[step] = thresholds
    if surface := settings[f"{of}.TOPOGRAPHIC_SURFACE_CHANNEL"]:
        _known_channels(settings, f"{of}.TOPOGRAPHIC_SURFACE_CHANNEL", [surface], codes)
        found["surface"] = surface
    if "seeds" in found:
        found["valley"] = None  # seeds are the connected pieces of the seed map
    else:
        settings.note(
            "seeds are planned from the channels, and parted where their depth has valleys; state SEED_CHANNELS for plain pieces."
        )
    return {**found, **_cleaning(settings)}


def _thresholds(settings: Settings, key: str, codes: Sequence[str]) -> dict[str, Any]:
    """Channels of a step with their thresholds."""
    stated, thresholds = settings[key], settings[f"{key}_THRESH"]
    thresholds = thresholds if thresholds or not stated else ["auto"] * len(stated)
    if len(stated) != len(thresholds):
        settings.wrong(f"{key}_THRESH", f"one threshold a channel of {key.rpartition('.')[2]} is expected.")
        return {}
    _known_channels(settings, key, stated, codes)
    for each in thresholds:
        if each != "auto" and (isinstance(each, bool) or not isinstance(each, int | float)):
            settings.wrong(f"{key}_THRESH", f"{each!r} is neither a number nor 'auto'.")
    return {code: float(each) if isinstance(each, int) else each for code, each in zip(stated, thresholds, strict=True)}


def _cleaning(settings: Settings) -> dict[str, Any]:
    """The fourth step: what is done to seeds and growth mask."""
    of = f"{SEG}.WATERSHED"
    found: dict[str, Any] = {}
    operations, sizes = settings[f"{of}.SEED_MORPH_SEQUENCE"], settings[f"{of}.SEED_MORPH_RADIUS"]
    if len(operations) != len(sizes):
        settings.wrong(f"{of}.SEED_MORPH_RADIUS", "one radius an entry of SEED_MORPH_SEQUENCE is expected.")
    elif operations:
        found["seed_morphology"] = [{"op": op, "radius": radius} for op, radius in zip(operations, sizes, strict=True)]
    if settings[f"{of}.ERODE_AND_DILATE_GROWTH_MASK"]:
        found["growth_erosion"] = settings[f"{of}.FORE_EROSION_RADIUS"]
        found["growth_dilation"] = settings[f"{of}.FORE_DILATION_RADIUS"]
    if settings[f"{of}.DATA_REMOVE_BEFORE_MW"]:
        found["min_seed"] = settings[f"{of}.DATA_REMOVE_SMALL_OBJ_BEFORE"]
    if settings[f"{of}.BY_2D_SLICES"]:
        found["by_slice"] = True
    return found


def _known_channels(settings: Settings, key: str, stated: Sequence[Any], codes: Sequence[str]) -> None:
    for code in stated:
        if code not in codes:
            settings.wrong(key, f"{code!r} is not among DATA_CHANNELS, {', '.join(codes)}.{did_you_mean(str(code), list(codes))}")


def _refinements(settings: Settings) -> list[Any]:
    """Refinement, repair and tessellation, in BiaPy's order."""
    of = f"{POST}.INSTANCE_REFINEMENT"
    found: list[Any] = []
    if settings[f"{of}.ENABLE"]:
        operations, values = settings[f"{of}.OPERATIONS"], settings[f"{of}.VALUES"]
        if not operations:
            settings.wrong(f"{of}.ENABLE", "names no operations. Write OPERATIONS and VALUES beside it.")
        elif len(operations) != len(values):
            settings.wrong(f"{of}.VALUES", "one value an entry of OPERATIONS is expected, 'none' where it needs none.")
        else:
            found = [entry for pair in zip(operations, values, strict=True) if (entry := _refinement(settings, *pair)) is not None]
    if (size := settings[key := f"{POST}.REPARE_LARGE_BLOBS_SIZE"]) >= 0:
        found.append({"repair_large": size})
    elif size != -1:
        settings.wrong(key, "is no number of pixels. Write one, or -1 for no repair.")
    if settings[f"{POST}.VORONOI_ON_MASK"]:
        threshold = settings[f"{POST}.VORONOI_TH"]
        found.append({"voronoi": {"nearest": "centroid", "threshold": threshold or "auto"}})
    return found


def _refinement(settings: Settings, operation: Any, value: Any) -> Any:
    of = f"{POST}.INSTANCE_REFINEMENT"
    name = _REFINEMENTS.get(operation)
    if name is None:
        known = list(_REFINEMENTS)
        settings.wrong(
            f"{of}.OPERATIONS", f"{operation!r} is not known; known are {', '.join(known)}.{did_you_mean(str(operation), known)}"
        )
        return None
    if name in ("fill_holes", "clear_border"):
        return name
    numbers = value if isinstance(value, list) else [value]
    if not all(isinstance(each, int) and not isinstance(each, bool) and each >= 0 for each in numbers) or not numbers:
        settings.wrong(f"{of}.VALUES", f"{value!r} is no number of voxels for {operation}.")
        return None
    if name in ("dilation", "erosion"):
        radius = [each // 2 for each in numbers]  # BiaPy states the edge of the element
        settings.note("objects are dilated and eroded by discs and balls, of half the edge of the boxes that are stated.")
        return {name: {"radius": radius if isinstance(value, list) else radius[0]}}
    return {name: value}


def _conditions(settings: Settings) -> list[list[str]]:
    """Lists of conditions of which one has to hold for an object to go."""
    if not settings[f"{_FILTER}.ENABLE"] and not any(name.startswith(f"{POST}.REMOVE_BY") for name in settings.spellings):
        return []
    props, values, signs = (settings[f"{_FILTER}.{name}"] for name in ("PROPS", "VALUES", "SIGNS"))
    if not props:
        settings.wrong(f"{_FILTER}.ENABLE", "names no conditions. Write PROPS, VALUES and SIGNS beside it.")
    lists = [[each] if not isinstance(each, list) else each for each in props]
    others = [[[each] if not isinstance(each, list) else each for each in part] for part in (values, signs)]
    if any([len(inner) for inner in part] != [len(inner) for inner in lists] for part in others):
        settings.wrong(f"{_FILTER}.PROPS", "PROPS, VALUES and SIGNS do not agree in length; each property has one value and one sign.")
        return []
    found = []
    for group in zip(lists, *others, strict=True):
        conditions = []
        for name, value, sign in zip(*group, strict=True):
            if sign not in _SIGNS:
                settings.wrong(
                    f"{_FILTER}.SIGNS", f"{sign!r} is not known; known are {', '.join(_SIGNS)}.{did_you_mean(str(sign), list(_SIGNS))}"
                )
            elif isinstance(value, bool) or not isinstance(value, int | float):
                settings.wrong(f"{_FILTER}.VALUES", f"{value!r} is no number.")
            else:
                conditions.append(f"{name} {_SIGNS[sign]} {value!r}")
        found.append(conditions)
    return found
