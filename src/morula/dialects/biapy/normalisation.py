"""Intensity normalisation of BiaPy's job files as the native one."""

from __future__ import annotations

from morula.dialects.biapy.settings import Settings
from morula.dialects.biapy.table.key import single
from morula.dialects.converted import Value

_SECTION = "DATA.NORMALIZATION"
_CLIP = f"{_SECTION}.PERC_CLIP"
_STATISTICS = f"{_SECTION}.ZERO_MEAN_UNIT_VAR"


def normalisation_of(settings: Settings) -> dict[str, Value]:
    """The value of ``sampling.normalise``."""
    kind = settings.text(f"{_SECTION}.TYPE")
    if kind == "":
        return {"kind": "fixed"}
    if kind == "div":
        return _divided(settings)
    if settings.flag(f"{_CLIP}.ENABLE"):
        return _clipped(settings, kind)
    if kind == "scale_range":
        return {"kind": "minmax", "per": "image"}
    return _standardised(settings, kind)


def _divided(settings: Settings) -> dict[str, Value]:
    """Division by the largest value of the type."""
    if settings.flag(f"{_CLIP}.ENABLE"):
        settings.note(
            "percentiles are cut and brought to 0 and 1, as by TYPE scale_range; BiaPy then divides them by the type's largest value."
        )
        return _clipped(settings, "div")
    settings.note(
        "images are divided by 255; for 16-bit images write sampling.normalise {kind: fixed, scale: 65535} into the converted job."
    )
    return {"kind": "fixed", "scale": 255.0}


def _clipped(settings: Settings, kind: str) -> dict[str, Value]:
    """Values beyond two percentiles, or beyond two values, are cut."""
    if kind == "zero_mean_unit_variance":
        settings.note("images whose percentiles are cut are scaled to 0 to 1; BiaPy then scales them to mean 0 and standard deviation 1.")
    # -1 is BiaPy's way to leave a number out; percentiles win where both percentiles and values are stated
    low, high = settings.number(f"{_CLIP}.LOWER_PERC"), settings.number(f"{_CLIP}.UPPER_PERC")
    if low >= 0 and high >= 0:
        return {"kind": "percentile", "per": "image", "low": low, "high": high, "clip": True}
    bottom, top = settings.numbers(f"{_CLIP}.LOWER_VALUE"), settings.numbers(f"{_CLIP}.UPPER_VALUE")
    if -1.0 in (*bottom, *top):
        settings.missing(
            f"{_CLIP}.LOWER_PERC", "must be stated with PERC_CLIP", "Write LOWER_PERC and UPPER_PERC, or LOWER_VALUE and UPPER_VALUE."
        )
        return {"kind": "minmax", "per": "image"}
    # lists hold one number per channel; a list of one stands for all channels
    scale: list[Value] = [b - a for a, b in zip(bottom, top, strict=False)]
    return {"kind": "fixed", "offset": single(list(bottom)), "scale": single(scale), "clip": [0.0, 1.0]}


def _standardised(settings: Settings, kind: str) -> dict[str, Value]:
    """Mean 0 and standard deviation 1: of each image, of all training images (``custom``), or with stated numbers."""
    mean, deviation = (settings.numbers(f"{_STATISTICS}.{name}_VAL") for name in ("MEAN", "STD"))
    if -1.0 not in (*mean, *deviation):
        return {"kind": "fixed", "offset": single(list(mean)), "scale": single(list(deviation))}
    if mean != deviation:
        left_out = f"{_STATISTICS}.{'STD' if mean != [-1.0] else 'MEAN'}_VAL"
        settings.missing(left_out, "must be stated, too", "State both MEAN_VAL and STD_VAL, or none.")
    if kind != "custom":
        return {"kind": "zscore", "per": "image"}
    per = settings.text(f"{_SECTION}.CUSTOM_MODE")
    settings.note(
        "TYPE custom scales by mean and standard deviation of "
        f"{'each image' if per == 'image' else 'all training images'}, which are stored with the model."
    )
    return {"kind": "zscore", "per": "image" if per == "image" else "data_set"}
