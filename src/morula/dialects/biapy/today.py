"""The settings of a job file in the keys and spellings of BiaPy 3.7.1."""

from __future__ import annotations

from morula.dialects.biapy.architectures import preset_sizes
from morula.dialects.biapy.instances import channels_of, stated_options
from morula.dialects.biapy.objects import former_refinements, former_thresholds
from morula.dialects.biapy.settings import Settings
from morula.dialects.biapy.table import FILTER, KEYS, POST, REFINEMENT, SEG
from morula.dialects.converted import Value

_WATERSHED = f"{SEG}.WATERSHED"
_NATIVE_TO_BIAPY = {"fill_holes": "fill_holes", "clear_border": "clear_border", "remove_small": "remove_small_objects"}


def in_todays_keys(settings: Settings) -> dict[str, Value]:
    """The stated settings by the keys of 3.7.1; keys that this version does not have any more are converted or left out.

    Examples:
        >>> in_todays_keys(read_settings("job_of_3.2.yaml"))["PROBLEM.INSTANCE_SEG.DATA_CHANNELS"]  # doctest: +SKIP
        ['F', 'C']
    """
    found: dict[str, Value] = {name: settings.value(name) for name, row in KEYS.items() if name in settings and not row.former}
    found["PROBLEM.TYPE"] = settings.text("PROBLEM.TYPE")
    if settings.text("PROBLEM.TYPE") == "INSTANCE_SEG":
        found |= _instances(settings)
    else:
        # the documents and the program have different defaults
        found["PROBLEM.SELF_SUPERVISED.PRETEXT_TASK"] = settings.resolved("PROBLEM.SELF_SUPERVISED.PRETEXT_TASK")
    if settings.text("DATA.NORMALIZATION.TYPE") == "custom":
        found["DATA.NORMALIZATION.TYPE"] = "zero_mean_unit_variance"
    found |= _network(settings) | _medians(settings)
    return found


def with_defaults(settings: Settings) -> dict[str, Value]:
    """All keys of 3.7.1, those that are not stated with their defaults."""
    found: dict[str, Value] = {name: row.default for name, row in KEYS.items() if not row.former}
    found |= in_todays_keys(settings)
    # one value per level, or per step between levels
    levels = len(settings.items("MODEL.FEATURE_MAPS"))
    per_level = {"DROPOUT_VALUES": levels, "CONV_LAYERS": levels, "ISOTROPY": levels, "Z_DOWN": levels - 1, "YX_DOWN": levels - 1}
    for name, count in per_level.items():
        if f"MODEL.{name}" not in settings:
            found[f"MODEL.{name}"] = settings.items(f"MODEL.{name}")[:1] * count
    return found


def nested(flat: dict[str, Value]) -> dict[str, Value]:
    """Dotted keys as sections.

    Examples:
        >>> nested({"TRAIN.ENABLE": True, "TRAIN.EPOCHS": 5})
        {'TRAIN': {'ENABLE': True, 'EPOCHS': 5}}
    """
    found: dict[str, Value] = {}
    for key, value in flat.items():
        *parents, last = key.split(".")
        node = found
        for parent in parents:
            inner = node.setdefault(parent, {})
            assert isinstance(inner, dict)
            node = inner
        node[last] = value
    return found


def _instances(settings: Settings) -> dict[str, Value]:
    channels = channels_of(settings)
    found: dict[str, Value] = {f"{SEG}.DATA_CHANNELS": list(channels.written)}
    options = {code: dict(own) for code, own in stated_options(settings).items()}
    if "C" in channels.codes and (mode := settings.text(f"{SEG}.DATA_CONTOUR_MODE")):
        options.setdefault("C", {})["mode"] = mode
    if "Db" in channels.codes and (key := f"{SEG}.DISTANCE_CHANNEL_MASK") in settings:
        options.setdefault("Db", {})["mask_values"] = settings.flag(key)
    if "Db" in channels.codes and channels.from_letters and settings.number(f"{SEG}.DATA_MW_TH_DISTANCE") >= 0:
        options.setdefault("Db", {})["val_type"] = "raw"  # thresholds in voxels
    if options:
        found[f"{SEG}.DATA_CHANNELS_EXTRA_OPTS"] = [options]
    if not (settings.value(f"{_WATERSHED}.SEED_CHANNELS") or settings.value(f"{_WATERSHED}.GROWTH_MASK_CHANNELS")):
        thresholds = former_thresholds(settings, channels)
        for step, name in (("seeds", "SEED_CHANNELS"), ("growth", "GROWTH_MASK_CHANNELS")):
            own = thresholds.get(step)
            if isinstance(own, dict):
                found |= {f"{_WATERSHED}.{name}": list(own), f"{_WATERSHED}.{name}_THRESH": list(own.values())}
    return {**found, **_refinements(settings), **_filter(settings)}


def _refinements(settings: Settings) -> dict[str, Value]:
    operations = settings.texts(f"{REFINEMENT}.OPERATIONS") if settings.flag(f"{REFINEMENT}.ENABLE") else []
    values = settings.items(f"{REFINEMENT}.VALUES") if operations else []
    stated = f"{REFINEMENT}.OPERATIONS" in settings and f"{REFINEMENT}.ENABLE" not in settings
    if stated:  # the document's example has no switch
        operations, values = settings.texts(f"{REFINEMENT}.OPERATIONS"), settings.items(f"{REFINEMENT}.VALUES")
    former = former_refinements(settings)
    if not (former or stated):
        return {}
    for entry in former:
        name, value = next(iter(entry.items())) if isinstance(entry, dict) else (str(entry), "none")
        operations, values = [*operations, _NATIVE_TO_BIAPY[name]], [*values, value]
    return {f"{REFINEMENT}.ENABLE": True, f"{REFINEMENT}.OPERATIONS": list(operations), f"{REFINEMENT}.VALUES": list(values)}


def _filter(settings: Settings) -> dict[str, Value]:
    """Versions 3.0 to 3.4 had conditions without a switch."""
    former = f"{POST}.REMOVE_BY_PROPERTIES" in settings.spelling(f"{FILTER}.PROPS") and f"{FILTER}.PROPS" in settings
    return {f"{FILTER}.ENABLE": True} if former else {}


def _network(settings: Settings) -> dict[str, Value]:
    name, sizes = preset_sizes(settings)
    return {"MODEL.ARCHITECTURE": name, **sizes}


def _medians(settings: Settings) -> dict[str, Value]:
    axes: list[Value] = []
    sizes: list[Value] = []
    if settings.flag(f"{POST}.MEDIAN_FILTER"):
        axes, sizes = settings.items(f"{POST}.MEDIAN_FILTER_AXIS"), settings.items(f"{POST}.MEDIAN_FILTER_SIZE")
    for axis, key in (("z", "Z_FILTERING"), ("yz", "YZ_FILTERING")):
        if settings.flag(f"{POST}.{key}"):
            axes, sizes = [*axes, axis], [*sizes, settings.whole(f"{POST}.{key}_SIZE")]
    if not axes:
        return {}
    return {f"{POST}.MEDIAN_FILTER": True, f"{POST}.MEDIAN_FILTER_AXIS": axes, f"{POST}.MEDIAN_FILTER_SIZE": sizes}
