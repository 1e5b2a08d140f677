"""The settings of a job file in the keys and spellings of BiaPy 3.7.1."""

from __future__ import annotations

from morula.core.errors import JobError
from morula.dialects.biapy.architectures import preset_sizes
from morula.dialects.biapy.image_losses import losses_of
from morula.dialects.biapy.instances import channels_of, stated_options
from morula.dialects.biapy.objects import former_refinements, former_thresholds
from morula.dialects.biapy.pretraining import pretext_of
from morula.dialects.biapy.settings import Settings
from morula.dialects.biapy.table import FILTER, KEYS, POST, REFINEMENT, SEG
from morula.dialects.converted import Value
from morula.jobs.yaml_lines import dump

_WATERSHED = f"{SEG}.WATERSHED"
_NATIVE_TO_BIAPY = {"fill_holes": "fill_holes", "clear_border": "clear_border", "remove_small": "remove_small_objects"}


def in_todays_keys(settings: Settings) -> dict[str, Value]:
    """The stated settings by the keys of 3.7.1; keys that this version does not have any more are converted or left out.

    Examples:
        >>> in_todays_keys(read_settings("job_of_3.2.yaml"))["PROBLEM.INSTANCE_SEG.DATA_CHANNELS"]  # doctest: +SKIP
        ['F', 'C']
    """
    found: dict[str, Value] = {
        name: settings.value(name)
        for name, row in KEYS.items()
        # of the probabilities that one key has set, those of the augmentations that are used
        if name in settings and not row.former and not (settings.is_spread(name) and not settings.flag(name.removesuffix("_PROB")))
    }
    found["PROBLEM.TYPE"] = settings.text("PROBLEM.TYPE")
    if settings.text("PROBLEM.TYPE") == "INSTANCE_SEG":
        found |= _instances(settings)
    elif settings.text("PROBLEM.TYPE") == "SELF_SUPERVISED":
        # the documents and the program have different defaults
        found["PROBLEM.SELF_SUPERVISED.PRETEXT_TASK"] = pretext_of(settings)
    if settings.text("PROBLEM.TYPE") in ("SELF_SUPERVISED", "IMAGE_TO_IMAGE", "SUPER_RESOLUTION") and "LOSS.TYPE" in settings:
        names, weights = losses_of(settings)
        found |= {"LOSS.TYPE": list(names)} | ({"LOSS.WEIGHTS": list(weights)} if len(names) > 1 else {})
    if (least := settings.number("DATA.TRAIN.MINIMUM_FOREGROUND_PER")) >= 0:
        section = "DATA.TRAIN.FILTER_SAMPLES"
        found |= {
            f"{section}.ENABLE": True,
            f"{section}.PROPS": [["foreground"]],
            f"{section}.VALUES": [[least]],
            f"{section}.SIGNS": [["lt"]],
        }
    if settings.text("DATA.NORMALIZATION.TYPE") == "custom":
        found["DATA.NORMALIZATION.TYPE"] = "zero_mean_unit_variance"
        settings.note("3.7 has no TYPE custom: each image is scaled by its own mean and standard deviation, or by MEAN_VAL and STD_VAL.")
    found |= _network(settings) | _medians(settings)
    return found


def todays_text(settings: Settings) -> str:
    """The job file in the keys of 3.7.1, one key per line; a comment says what the file has written otherwise.

    Raises:
        JobError: with all problems of the file.
    """
    flat = in_todays_keys(settings)
    if settings.problems:
        raise JobError(sorted(settings.problems, key=lambda problem: problem.line or 0))
    lines = [f"# {note}" for note in settings.notes]
    above: list[str] = []
    for key in sorted(flat, key=_order):
        *parents, last = key.split(".")
        shared = next((number for number, pair in enumerate(zip(parents, above)) if pair[0] != pair[1]), min(len(parents), len(above)))
        lines += [f"{'  ' * depth}{parents[depth]}:" for depth in range(shared, len(parents))]
        spelling = settings.spelling(key) if key in settings else key
        comment = "" if spelling == key else f"  # {spelling}"
        # in brackets, because a value is one line
        entry = " ".join(dump({last: flat[key]}, flow=True).strip()[1:-1].split("\n"))
        lines.append(f"{'  ' * len(parents)}{entry}{comment}")
        above = parents
    return "\n".join(lines) + "\n"


def _order(key: str) -> tuple[tuple[int, ...], str]:
    """Keys in the order of the table, those of one section together."""
    names = list(KEYS)
    parts = key.split(".")
    firsts = [
        next(number for number, name in enumerate(names) if name.startswith(".".join(parts[: depth + 1]))) for depth in range(len(parts))
    ]
    return tuple(firsts), key


def with_defaults(settings: Settings) -> dict[str, Value]:
    """All keys of 3.7.1, those that are not stated with their defaults."""
    found: dict[str, Value] = {name: row.default for name, row in KEYS.items() if not row.former}
    found[f"{SEG}.DATA_CHANNELS_EXTRA_OPTS"] = [{}]  # the documents have a mapping, the program a list of one
    found |= in_todays_keys(settings)
    found.pop(f"{SEG}.EMBEDSEG.MIN_OBJECT_SIZE", None)  # a key of the documents that the program rejects
    sigma = found["AUGMENTOR.E_SIGMA"]
    if isinstance(sigma, float) and sigma.is_integer():  # the program accepts whole numbers alone
        found["AUGMENTOR.E_SIGMA"] = int(sigma)
    # one value per level, or per step between levels
    levels = len(settings.items("MODEL.FEATURE_MAPS"))
    per_level = {"DROPOUT_VALUES": levels, "CONV_LAYERS": levels, "ISOTROPY": levels, "Z_DOWN": levels - 1, "YX_DOWN": levels - 1}
    for name, count in per_level.items():
        if f"MODEL.{name}" not in settings:
            found[f"MODEL.{name}"] = settings.items(f"MODEL.{name}")[:1] * count
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
