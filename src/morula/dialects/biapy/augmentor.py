"""Augmentations of BiaPy's job files as native ones."""

from __future__ import annotations

import math

from morula.dialects.biapy.settings import Settings, whole_numbers
from morula.dialects.biapy.table import OBEYED
from morula.dialects.converted import Value


def augmentations_of(settings: Settings) -> list[Value] | str:
    """The value of ``augment``: a list of augmentations, or ``none``."""
    if not settings.flag("AUGMENTOR.ENABLE"):
        return "none"
    if not any(settings.flag(f"AUGMENTOR.{name}") for name in OBEYED):
        settings.remark("AUGMENTOR.ENABLE", "no augmentation is set to True")
    settings.note_differences("augment")
    return [*_flips(settings), *_geometry(settings), *_intensities(settings)] or "none"


def _probability(settings: Settings, name: str) -> float | None:
    """Probability of an augmentation, `None` where it is off."""
    return settings.number(f"AUGMENTOR.{name}_PROB") if settings.flag(f"AUGMENTOR.{name}") else None


def _flips(settings: Settings) -> list[Value]:
    """One flip of all axes that are flipped; native axes begin with z."""
    if settings.flag("AUGMENTOR.ZFLIP") and settings.ndim == 2:
        settings.remark("AUGMENTOR.ZFLIP", "PROBLEM.NDIM is 2D: images have no z axis")
    # by probability: a flip has one for all of its axes
    axes: dict[float, str] = {}
    for name, axis in (("ZFLIP", "z"), ("VFLIP", "y"), ("HFLIP", "x")):
        probability = _probability(settings, name)
        if probability is not None and not (axis == "z" and settings.ndim == 2):
            axes[probability] = axes.get(probability, "") + axis
    if len(axes) > 1:
        settings.wrong(
            "biapy.not_supported",
            "AUGMENTOR.VFLIP_PROB",
            "cannot be obeyed: all axes are flipped with one probability",
            "Write one for all.",
        )
    return [{"flip": {"probability": probability, "axes": letters}} for probability, letters in list(axes.items())[:1]]


def _geometry(settings: Settings) -> list[Value]:
    found: list[Value] = []
    if (probability := _probability(settings, "ROT90")) is not None:
        found.append({"rotate90": {"probability": probability}})
    if (probability := _probability(settings, "RANDOM_ROT")) is not None:
        found.append({"rotate": {"probability": probability, "degrees": _largest_angle(settings, "AUGMENTOR.RANDOM_ROT_RANGE")}})
    if (probability := _probability(settings, "ZOOM")) is not None:
        low, high = settings.pair("AUGMENTOR.ZOOM_RANGE")
        axes = "all" if settings.flag("AUGMENTOR.ZOOM_IN_Z") or settings.ndim == 2 else "plane"
        found.append({"zoom": {"probability": probability, "low": low, "high": high, "axes": axes}})
    if (probability := _probability(settings, "SHEAR")) is not None:
        found.append({"shear": {"probability": probability, "degrees": _largest_angle(settings, "AUGMENTOR.SHEAR_RANGE")}})
    if (probability := _probability(settings, "SHIFT")) is not None:
        low, high = settings.pair("AUGMENTOR.SHIFT_RANGE")
        found.append({"shift": {"probability": probability, "fraction": max(abs(low), abs(high))}})
    if (probability := _probability(settings, "ELASTIC")) is not None:
        found.append({"elastic": {"probability": probability, **_elastic(settings)}})
    return found


def _elastic(settings: Settings) -> dict[str, Value]:
    """Strength and smoothness of the native deformation, in pixels.

    BiaPy smooths uniform noise between -1 and 1 by a Gaussian in the plane and multiplies it by alpha; the native deformation states the
    standard deviation of the result. Uniform noise has 1 / sqrt(3), and the Gaussian divides it by 2 * sqrt(pi) * sigma.
    """
    low, high = settings.pair("AUGMENTOR.E_ALPHA")
    if (sigma := settings.number("AUGMENTOR.E_SIGMA")) <= 0:
        settings.wrong("biapy.out_of_range", "AUGMENTOR.E_SIGMA", "is not a standard deviation in pixels", "Write a number above 0.")
        sigma = 4.0
    # the mean of alpha, because the native strength is one number
    spread = (low + high) / 2 / math.sqrt(3) / (2 * math.sqrt(math.pi) * sigma)
    return {"alpha": round(spread, 4), "sigma": max(2.0, round(math.sqrt(3) * sigma, 3))}


def _largest_angle(settings: Settings, key: str) -> float:
    """The largest angle of a range that is the same in both directions."""
    given = settings.numbers(key)
    # a single number stands for both directions, as in BiaPy
    low, high = (-abs(given[0]), abs(given[0])) if len(given) == 1 else settings.pair(key)
    largest = max(-low, high)
    if low != -high:
        settings.wrong(
            "biapy.not_supported",
            key,
            "cannot be obeyed: angles are drawn alike in both directions",
            f"Write [{-largest:g}, {largest:g}].",
        )
    return min(180.0, largest)


def _intensities(settings: Settings) -> list[Value]:
    found: list[Value] = []
    if (probability := _probability(settings, "BRIGHTNESS")) is not None:
        low, high = settings.pair("AUGMENTOR.BRIGHTNESS_FACTOR")
        if low != -high:
            settings.note("brightness goes up and down alike, by the larger of AUGMENTOR.BRIGHTNESS_FACTOR.")
        found.append({"brightness": {"probability": probability, "strength": max(abs(low), abs(high))}})
    if (probability := _probability(settings, "CONTRAST")) is not None:
        # BiaPy states the change of the factor, Morula the factor
        low, high = settings.pair("AUGMENTOR.CONTRAST_FACTOR")
        found.append({"contrast": {"probability": probability, "low": round(1 + low, 6), "high": round(1 + high, 6)}})
    if (probability := _probability(settings, "GAMMA_CONTRAST")) is not None:
        low, high = settings.pair("AUGMENTOR.GC_GAMMA")
        found.append({"gamma": {"probability": probability, "low": low, "high": high}})
    if (probability := _probability(settings, "GAUSSIAN_NOISE")) is not None:
        # BiaPy states the variance, Morula the standard deviation
        sigma = round(math.sqrt(max(settings.number("AUGMENTOR.GAUSSIAN_NOISE_VAR"), 0.0)), 6)
        found.append({"gaussian_noise": {"probability": probability, "sigma": sigma}})
    if (probability := _probability(settings, "POISSON_NOISE")) is not None:
        found.append({"poisson_noise": {"probability": probability}})
    if (probability := _probability(settings, "G_BLUR")) is not None:
        found.append({"blur": {"probability": probability, "sigma": settings.pair("AUGMENTOR.G_SIGMA")[1]}})
    if (probability := _probability(settings, "CUTOUT")) is not None:
        low, high = settings.pair("AUGMENTOR.COUT_SIZE")
        count = int(settings.pair("AUGMENTOR.COUT_NB_ITERATIONS")[1])
        found.append({"cutout": {"probability": probability, "count": count, "low": low, "high": high}})
    if (probability := _probability(settings, "GRIDMASK")) is not None:
        low, high = settings.pair("AUGMENTOR.GRID_D_RANGE")
        more: dict[str, Value] = {"ratio": settings.number("AUGMENTOR.GRID_RATIO"), "invert": settings.flag("AUGMENTOR.GRID_INVERT")}
        found.append({"gridmask": {"probability": probability, "low": low, "high": high, **more}})
    return found + _resolution_and_channels(settings)


def _resolution_and_channels(settings: Settings) -> list[Value]:
    """Augmentations that BiaPy has for restoration, above all."""
    found: list[Value] = []
    if (probability := _probability(settings, "CUTBLUR")) is not None:
        low, high = settings.pair("AUGMENTOR.CBLUR_SIZE")
        least, factor = settings.pair("AUGMENTOR.CBLUR_DOWN_RANGE")
        more: dict[str, Value] = {"least_factor": int(least), "factor": int(factor), "inside": settings.flag("AUGMENTOR.CBLUR_INSIDE")}
        found.append({"cutblur": {"probability": probability, "low": low, "high": high, **more}})
    if (probability := _probability(settings, "DROPOUT")) is not None:
        low, high = settings.pair("AUGMENTOR.DROP_RANGE")
        found.append({"dropout": {"probability": probability, "low": low, "high": high}})
    if (probability := _probability(settings, "CHANNEL_SHUFFLE")) is not None:
        size = whole_numbers(settings.items("DATA.PATCH_SIZE"), least=1) or []
        channels = size[-1] if len(size) == settings.ndim + 1 else 1
        if channels == 1:
            settings.remark("AUGMENTOR.CHANNEL_SHUFFLE", "images have one channel")
        else:  # BiaPy draws from all orders, the present one included
            found.append({"shuffle_channels": {"probability": round(probability * (1 - 1 / math.factorial(channels)), 6)}})
    return found
