"""Semantic segmentation of BiaPy's job files as the native method."""

from __future__ import annotations

from morula.core.family import did_you_mean
from morula.dialects.biapy.settings import Settings, is_number, listed
from morula.dialects.converted import Value

_LOSSES = {"CE": "ce", "DICE": "dice", "W_CE_DICE": ""}
_CLASSES, _TYPES, _WEIGHTS = "DATA.N_CLASSES", "LOSS.TYPE", "LOSS.WEIGHTS"


def semantic_of(settings: Settings) -> dict[str, Value]:
    """The method `semantic`: with two classes one channel through a sigmoid, with more one channel per class, as in BiaPy."""
    count = settings.whole(_CLASSES)
    if count == 1:  # the sigmoid of versions 3.0 to 3.6 has one channel for two classes
        settings.note("N_CLASSES 1 is read as 2: the foreground, and the background, which counts as a class today.")
        count = 2
    elif count < 1:
        settings.wrong("biapy.out_of_range", _CLASSES, "is not a number of classes", "Write 2 or more: the background is a class.")
        count = 2
    found: dict[str, Value] = {"kind": "semantic", "classes": count, "losses": _losses(settings, count)}
    if (weights := _class_weights(settings, count)) is not None:
        found["class_weights"] = weights
    ignored = settings.whole("LOSS.IGNORE_INDEX")
    if ignored < 0:
        ignored = settings.whole("PROBLEM.SEMANTIC_SEG.IGNORE_CLASS_ID") or -1
    return {**found, **({"ignore": ignored} if ignored >= 0 else {})}


def _losses(settings: Settings, count: int) -> dict[str, Value]:
    """Losses by name; the cross-entropy of two classes is that of one channel."""
    entropy = "bce" if count == 2 else "ce"
    names = [name.upper() for name in settings.texts(_TYPES)] or ["CE"]
    weights = settings.numbers(_WEIGHTS)
    if names == ["W_CE_DICE"]:  # up to 3.6, with a weight for each part
        names, weights = ["CE", "DICE"], weights or [0.66, 0.34]
    weights = weights or [1.0 / len(names)] * len(names)
    if unknown := [name for name in names if name not in _LOSSES]:
        close = did_you_mean(unknown[0], list(_LOSSES)).strip() or "Write CE, or CE and DICE."
        rule = f"names {unknown[0]!r}, which is not supported; known are {listed(_LOSSES)}"
        settings.wrong("biapy.unknown_value", _TYPES, rule, close)
    elif len(names) != len(weights):
        settings.wrong("biapy.wrong_length", _WEIGHTS, "has the wrong length: one weight per entry of LOSS.TYPE is expected")
    else:
        return {entropy if name == "CE" else _LOSSES[name]: weight for name, weight in zip(names, weights, strict=True)}
    return {entropy: 1.0}


def _class_weights(settings: Settings, count: int) -> Value:
    match settings.text("LOSS.CLASS_REBALANCE"):
        case "auto":
            return "balanced"
        case "manual":
            stated = settings.items(key := "LOSS.CLASS_WEIGHTS")
            numbers: list[Value] = [float(item) for item in stated if isinstance(item, int | float) and is_number(item)]
            if len(numbers) == len(stated) == count:
                return numbers
            settings.wrong("biapy.wrong_length", key, f"is not valid: {count} numbers are expected, one per class with the background")
    return None
