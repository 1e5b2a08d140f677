"""Instance segmentation of BiaPy's job files: the channels with their losses, weights and heads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from morula.core.family import did_you_mean
from morula.dialects.biapy.settings import Settings, as_list, is_number, listed, whole_numbers
from morula.dialects.biapy.table import SEG
from morula.dialects.converted import Value
from morula.representations import REPRESENTATIONS

FORMER_LETTERS: Mapping[str, tuple[str, ...]] = {
    "B": ("F",),
    "C": ("C",),
    "D": ("Db",),
    "Dv2": ("D",),
    "P": ("P",),
    "M": ("M",),
    "A": ("A",),
    "F": ("V", "H", "Z"),
}
"""Channels of today for the letters of versions 3.0 to 3.5, as BiaPy converts them."""
_PLANES = {"E_offset": "E", "E_sigma": "E", "E_seediness": "E", "Gv": "G", "Gh": "G", "Gz": "G"}
"""Channels that are planes of one native representation."""
_MEAN_SQUARE, _BINARY = ("D", "G"), ("F", "B", "C", "P", "T", "A", "M")
_LOSSES = {"bce": "bce", "ce": "ce", "mse": "mse", "l1": "l1", "mae": "l1", "embedseg": "embedseg"}
_CHANNELS = f"{SEG}.DATA_CHANNELS"


@dataclass(frozen=True)
class Channels:
    """The channels of a job.

    Attributes:
        written: codes as BiaPy has them, one per output channel or group.
        codes: native code of each of them; planes of one representation repeat it.
        from_letters: whether they were converted from the letters of versions 3.0 to 3.5.
        ridges: whether distances and flows are those of Omnipose.
    """

    written: tuple[str, ...]
    codes: tuple[str, ...]
    from_letters: bool
    ridges: bool = False

    @property
    def native(self) -> list[str]:
        """Native codes, each once."""
        return list(dict.fromkeys(self.codes))


def method_of(settings: Settings) -> dict[str, Value]:
    """The method `channels`."""
    channels = channels_of(settings)
    options = _options(settings, channels)
    weights = _weights(settings, channels)
    found: dict[str, Value] = {"kind": "channels", "channels": options, "losses": _losses(settings, channels, options)}
    if any(weights[code] != 1 for code in channels.native):
        found["weights"] = {code: weights[code] for code in channels.native}
    if settings.whole("DATA.N_CLASSES") > 2:
        found["classes"] = _classes(settings) | {"weight": weights.get("classes", 1.0)}
    if heads := _heads(settings, channels, options):
        found["heads"] = heads
    return {**found, **settings.native("method")}


def channels_of(settings: Settings) -> Channels:
    """The channels, in any spelling.

    A word such as ``BC``, or a single letter that is no list, is in the letters of versions 3.0 to 3.5: BiaPy converts a text letter by
    letter, and takes a list as it is.
    """
    given = settings.texts(_CHANNELS)
    known = [*REPRESENTATIONS.names, *_PLANES]
    stated = settings.given(_CHANNELS)
    # "['F', 'C']" is a list that was written as a text
    word = stated if isinstance(stated, str) and not stated.strip().startswith(("[", "(")) else given[0] if len(given) == 1 else ""
    letters = re.findall(r"Dv2|[A-Z]", word)
    # a single name in a list is in the letters only if it is no code of today
    from_letters = (
        bool(word)
        and "".join(letters) == word
        and all(letter in FORMER_LETTERS for letter in letters)
        and (isinstance(stated, str) or word not in known)
    )
    if from_letters:
        given = [code for letter in letters for code in FORMER_LETTERS[letter] if code != "Z" or settings.ndim == 3]
        settings.note(
            f"DATA_CHANNELS {word} is in the letters of BiaPy 3.0 to 3.5; in those of today it is {listed(given)}. "
            "Write a list for the codes of today."
        )
    for code in given:
        if code not in known:
            close = did_you_mean(code, known).strip()
            settings.wrong(
                "biapy.unknown_channel", _CHANNELS, f"names the channel {code!r}, which is not known; known are {listed(known)}", close
            )
    kept = tuple(code for code in given if code in known) or ("F", "C")
    ridges = _leads_to_ridges(settings, kept)
    native = _PLANES | ({"Db": "D"} if ridges else {})
    return Channels(kept, tuple(native.get(code, code) for code in kept), from_letters, ridges)


def _leads_to_ridges(settings: Settings, written: Sequence[str]) -> bool:
    """Whether the flows are those of Omnipose; their distances are then signed, because the foreground is where they are above 0."""
    options = stated_options(settings)
    flows = [options.get(code, {}).get("gradient_type", "cellpose") for code in ("Gz", "Gv", "Gh")]
    stated = "omnipose" in flows or settings.text(f"{SEG}.CELLPOSE.TYPE") == "omnipose"
    distances = options.get("Db", {}).get("val_type") == "omnipose"
    ridges = stated and any(_PLANES.get(code) == "G" for code in written)
    if distances and not ridges:
        key = f"{SEG}.DATA_CHANNELS_EXTRA_OPTS"
        rule = "cannot be obeyed: the distances of Omnipose go with its flows"
        settings.wrong("biapy.not_supported", key, rule, "Write Gv and Gh with gradient_type omnipose, or Db with val_type raw.")
    if ridges and distances:
        settings.note(
            "the distances of Omnipose are signed distances (D) here, and ends of flows that touch are one object; Omnipose clusters them."
        )
    return ridges


def _options(settings: Settings, channels: Channels) -> dict[str, Value]:
    """Options of each channel; an option that is left out means the same in BiaPy's documentation and natively."""
    key = f"{SEG}.DATA_CHANNELS_EXTRA_OPTS"
    found: dict[str, dict[str, Value]] = {code: {} for code in channels.native}
    for name, options in stated_options(settings).items():
        code = dict(zip(channels.written, channels.codes, strict=True)).get(name, _PLANES.get(name, name))
        if name not in channels.written and code not in channels.codes:
            close = did_you_mean(name, list(channels.written)).strip()
            settings.remark(key, f"{name!r} is not among the channels {listed(channels.written)}. {close}".strip())
            continue
        kept = dict(options)
        if code == "G":
            kept.pop("gradient_type", None)
        if name == "Db" and (channels.ridges or kept.get("val_type") == "omnipose"):
            kept = {}  # D has no options that these distances could have
        found[code] |= kept
    if channels.ridges:
        found["G"]["leads_to"] = "ridge"
    if "A" in found:  # not in the documentation; as in BiaPy
        found["A"].setdefault("widen_borders", 1)
    if "Db" in found and channels.from_letters and settings.number(f"{SEG}.DATA_MW_TH_DISTANCE") >= 0:
        # versions 3.0 to 3.5 had distances in voxels, and so are their thresholds
        found["Db"].setdefault("norm", False)
        settings.note("the distances of channel D are in voxels, because DATA_MW_TH_DISTANCE states a threshold in voxels.")
    _former_options(settings, found)
    if "E" in found and (size := settings.whole(key := f"{SEG}.EMBEDSEG.GRID_SIZE")) != -1:
        if size < 2:
            settings.wrong("biapy.out_of_range", key, "is not a number of voxels", "Write 2 or more, or -1 for the default.")
        found["E"].setdefault("grid_size", max(size, 2))
    return dict(found)


def stated_options(settings: Settings) -> Mapping[str, Mapping[str, Value]]:
    """DATA_CHANNELS_EXTRA_OPTS as a mapping, as in the documents; the program has a list of one mapping."""
    key = f"{SEG}.DATA_CHANNELS_EXTRA_OPTS"
    stated = settings.value(key)
    if isinstance(stated, list):
        stated = stated[0] if len(stated) == 1 else None if stated else {}
    if isinstance(stated, Mapping):
        options = {name: value for name, value in stated.items() if isinstance(value, Mapping)}
        if len(options) == len(stated):
            return options
    settings.wrong("biapy.wrong_type", key, "is not valid: a mapping from channel to options is expected", "Write {C: {mode: thick}}.")
    return {}


def _former_options(settings: Settings, found: dict[str, dict[str, Value]]) -> None:
    """Options of channels that versions 3.0 to 3.5 had under keys of their own."""
    if "C" in found and (mode := settings.text(f"{SEG}.DATA_CONTOUR_MODE")):
        found["C"].setdefault("mode", mode)
    masked = f"{SEG}.DISTANCE_CHANNEL_MASK"
    if "Db" in found and masked in settings:
        found["Db"].setdefault("mask_values", settings.flag(masked))


def _classes(settings: Settings) -> dict[str, Value]:
    """The classes of objects: natively the background is no class, in BiaPy it is the first."""
    count = settings.whole("DATA.N_CLASSES") - 1
    rebalance = settings.text("LOSS.CLASS_REBALANCE")
    weights: Value = "balanced" if rebalance == "auto" else None
    if rebalance == "manual":
        stated = settings.items(key := "LOSS.CLASS_WEIGHTS")
        numbers: list[Value] = [float(item) for item in stated if isinstance(item, int | float) and is_number(item)]
        if len(numbers) == len(stated) == count + 1:
            weights = numbers[1:]
            settings.note("classes are learned inside objects alone: the first of LOSS.CLASS_WEIGHTS, for the background, is not used.")
        else:
            settings.wrong("biapy.wrong_length", key, f"is not valid: {count + 1} numbers are expected, one per class with the background")
    ignored = settings.whole("LOSS.IGNORE_INDEX")
    return {"count": count, "class_weights": weights, **({"ignore": ignored} if ignored >= 0 else {})}


def _weights(settings: Settings, channels: Channels) -> dict[str, float]:
    """Weight of each native channel, and of the classes where one more weight is stated."""
    key = f"{SEG}.DATA_CHANNEL_WEIGHTS"
    stated = settings.numbers(key)
    # the default has two ones for any number of channels
    if set(stated) <= {1.0}:
        return dict.fromkeys(channels.codes, 1.0)
    more = 1 if settings.whole("DATA.N_CLASSES") > 2 and len(stated) == len(channels.written) + 1 else 0
    if len(stated) != len(channels.written) + more:
        settings.wrong("biapy.wrong_length", key, f"has the wrong length: one weight per channel is expected, {listed(channels.written)}")
        return dict.fromkeys(channels.codes, 1.0)
    found = dict(zip(channels.codes, stated[: len(channels.codes)], strict=True))
    if any(found[code] != weight for code, weight in zip(channels.codes, stated, strict=False)):
        settings.wrong(
            "biapy.not_supported",
            key,
            "cannot be obeyed: channels of one representation have one weight",
            "Write the same weight for each of them.",
        )
    return found | ({"classes": stated[-1]} if more else {})


def _losses(settings: Settings, channels: Channels, options: Mapping[str, Value]) -> dict[str, Value]:
    """Loss of each native channel, as BiaPy chooses it where none is stated."""
    key = f"{SEG}.DATA_CHANNELS_LOSSES"
    stated = [name.lower() for name in settings.texts(key)]
    codes = channels.native
    found: dict[str, Value] = {}
    for code in codes:
        # discretised distances are classes, learned by cross-entropy
        in_classes = code == "Db" and _option(options, "Db", "val_type") == "discretize"
        star = code == "Db" and "R" in codes
        found[code] = "bce" if code in _BINARY or star else "mse" if code in _MEAN_SQUARE else "ce" if in_classes else "l1"
    found.pop("E", None)
    if "R" in codes:
        settings.note("rays are learned in units of four voxels, in BiaPy of one; without stated weights they count a quarter.")
        settings.note("heads are those of BiaPy; a converted job with network.head_features 64 gives many rays a convolution of their own.")
    if not stated:
        return found
    if len(stated) != len(channels.written) and not (len(stated) == 1 and codes == ["E"]):
        settings.wrong("biapy.wrong_length", key, f"has the wrong length: one loss per channel is expected, {listed(channels.written)}")
        return found
    for code, name in zip(channels.codes, stated, strict=False):
        if name not in _LOSSES:
            close = did_you_mean(name, list(_LOSSES)).strip()
            settings.wrong(
                "biapy.unknown_value", key, f"names the loss {name!r}, which is not supported; known are {listed(_LOSSES)}", close
            )
        elif (code == "E") != (name == "embedseg"):
            settings.wrong(
                "biapy.contradiction", key, f"gives {code} the loss {name!r}: embedseg is the loss of E, and of no other channel"
            )
        elif code != "E":
            found[code] = _LOSSES[name]
    return found


def _option(options: Mapping[str, Value], code: str, name: str) -> Value:
    own = options.get(code)
    return own.get(name) if isinstance(own, Mapping) else None


def _heads(settings: Settings, channels: Channels, options: Mapping[str, Value]) -> list[list[str]]:
    """Channels of each head, from the numbers of outputs that BiaPy states."""
    key = f"{SEG}.CHANNELS_PER_HEAD_INFO"
    sizes = whole_numbers([size for item in settings.items(key) for size in as_list(item)], least=1)
    if sizes is None:
        settings.wrong("biapy.wrong_type", key, "is not valid: numbers of channels are expected, 1 or more for each head")
        return []
    if len(sizes) < 2:
        return []
    # BiaPy counts output channels, the native job names representations
    widths = {code: _width(settings, code, options) for code in channels.native}
    if sum(widths.values()) != sum(sizes):
        settings.wrong(
            "biapy.contradiction",
            key,
            f"does not add up to the channels {listed(f'{code} ({width})' for code, width in widths.items())}",
            "Write the number of channels of each head, or leave it out for one head.",
        )
        return []
    groups = [group for group in _grouped(channels.native, sizes, widths) if group]
    if [sum(widths[code] for code in group) for group in groups] != sizes:
        shared = "output layer and one decoder here, in BiaPy one for each part."
        same = "output layer here; it computes the same."
        separate = settings.flag(f"{SEG}.SEPARATED_DECODERS_PER_HEAD")
        settings.note(f"CHANNELS_PER_HEAD_INFO {sizes} divides a channel, which has one {shared if separate else same}")
    return groups if len(groups) > 1 else []


def _grouped(codes: Sequence[str], sizes: Sequence[int], widths: Mapping[str, int]) -> list[list[str]]:
    """Channels by head: each head takes channels until it has as many outputs as it states."""
    groups: list[list[str]] = []
    rest = list(codes)
    for size in sizes:
        group: list[str] = []
        while rest and sum(widths[code] for code in group) < size:
            group.append(rest.pop(0))
        groups.append(group)
    return groups


def _width(settings: Settings, code: str, options: Mapping[str, Value]) -> int:
    """Output channels of a representation in BiaPy."""
    ndim = settings.ndim
    match code:
        case "G":
            return ndim
        case "E":  # offset and bandwidth per axis, and one seediness
            return 2 * ndim + 1
        case "R":
            rays = _option(options, "R", "nrays")
            return rays if isinstance(rays, int) else (32 if ndim == 2 else 96)
        case "A":
            offsets = [_option(options, "A", f"{axis}_affinities") for axis in "zyx"[-ndim:]]
            return sum(len(as_list(offset)) if offset is not None else 1 for offset in offsets)
        case "Db" if _option(options, "Db", "val_type") == "discretize":
            return 11
    return 1
