"""Augmentations of BiaPy's job files as ours."""

from __future__ import annotations

import math
from typing import Any

from morula.dialects.biapy.settings import Settings


def augmentations_of(settings: Settings) -> list[Any] | str:
    """The list of augmentations, or ``none``."""
    stated = [key for key in _switches() if settings[key]]
    if not settings["AUGMENTOR.ENABLE"]:
        for key in stated:
            settings.remark(key, "AUGMENTOR.ENABLE is False. Set it to True.")
        return "none"
    found = [*_flips(settings), *_geometry(settings), *_intensities(settings)]
    if not found:
        settings.remark("AUGMENTOR.ENABLE", "no augmentation beside it is set to True.")
    return found or "none"


def _switches() -> list[str]:
    names = "ROT90 RANDOM_ROT SHEAR ZOOM SHIFT VFLIP HFLIP ZFLIP ELASTIC G_BLUR GAMMA_CONTRAST BRIGHTNESS CONTRAST CUTOUT GAUSSIAN_NOISE"
    return [f"AUGMENTOR.{name}" for name in (*names.split(), "POISSON_NOISE")]


def _chance(settings: Settings, name: str) -> float | None:
    """Probability of an augmentation, `None` where it is off."""
    return settings[f"AUGMENTOR.{name}_PROB"] if settings[f"AUGMENTOR.{name}"] else None


def _flips(settings: Settings) -> list[Any]:
    """Flips, those of equal probability together; z first, as ours are named."""
    if settings["AUGMENTOR.ZFLIP"] and settings.ndim == 2:
        settings.remark("AUGMENTOR.ZFLIP", "images have no z axis.")
    axes: dict[float, str] = {}
    for name, axis in (("ZFLIP", "z"), ("VFLIP", "y"), ("HFLIP", "x")):
        chance = _chance(settings, name)
        if chance is not None and not (axis == "z" and settings.ndim == 2):
            axes[chance] = axes.get(chance, "") + axis
    if len(axes) > 1:
        settings.wrong("AUGMENTOR.VFLIP_PROB", "cannot be honoured: axes are mirrored with one probability. Write the same for each.")
    return [{"flip": {"probability": chance, "axes": letters}} for chance, letters in list(axes.items())[:1]]


def _geometry(settings: Settings) -> list[Any]:
    found: list[Any] = []
    if (chance := _chance(settings, "ROT90")) is not None:
        found.append({"rotate90": {"probability": chance}})
    if (chance := _chance(settings, "RANDOM_ROT")) is not None:
        found.append({"rotate": {"probability": chance, "degrees": _reach(settings, "AUGMENTOR.RANDOM_ROT_RANGE")}})
    if (chance := _chance(settings, "ZOOM")) is not None:
        low, high = settings.pair("AUGMENTOR.ZOOM_RANGE")
        axes = "all" if settings["AUGMENTOR.ZOOM_IN_Z"] or settings.ndim == 2 else "plane"
        found.append({"zoom": {"probability": chance, "low": low, "high": high, "axes": axes}})
    if (chance := _chance(settings, "SHEAR")) is not None:
        found.append({"shear": {"probability": chance, "degrees": _reach(settings, "AUGMENTOR.SHEAR_RANGE")}})
    if (chance := _chance(settings, "SHIFT")) is not None:
        low, high = settings.pair("AUGMENTOR.SHIFT_RANGE")
        found.append({"shift": {"probability": chance, "fraction": max(abs(low), abs(high))}})
        settings.note("shifts are drawn from nothing to AUGMENTOR.SHIFT_RANGE's upper end, in both directions.")
    if (chance := _chance(settings, "ELASTIC")) is not None:
        low, high = settings.pair("AUGMENTOR.E_ALPHA")
        sigma = settings["AUGMENTOR.E_SIGMA"]
        # uniform noise from -1 to 1, smoothed by a Gaussian in the plane and multiplied by alpha: standard deviation in pixels
        spread = (low + high) / 2 / math.sqrt(3) / (2 * math.sqrt(math.pi) * sigma)
        smooth = max(2.0, round(math.sqrt(3) * sigma, 3))
        found.append({"elastic": {"probability": chance, "alpha": round(spread, 4), "sigma": smooth}})
        settings.note("elastic deformations are as strong and as smooth as the mean of AUGMENTOR.E_ALPHA makes them.")
    return found


def _reach(settings: Settings, key: str) -> float:
    """The largest angle of a range that is the same in both directions."""
    given = settings[key]
    low, high = (-abs(given[0]), abs(given[0])) if len(given) == 1 else settings.pair(key)
    if low != -high:
        settings.wrong(
            key, f"cannot be honoured: angles are drawn in both directions alike. Write [{-max(-low, high):g}, {max(-low, high):g}]."
        )
    return min(180.0, max(-low, high))


def _intensities(settings: Settings) -> list[Any]:
    found: list[Any] = []
    if (chance := _chance(settings, "BRIGHTNESS")) is not None:
        low, high = settings.pair("AUGMENTOR.BRIGHTNESS_FACTOR")
        if low != -high:
            settings.note("brightness goes up and down alike, by the larger of AUGMENTOR.BRIGHTNESS_FACTOR.")
        found.append({"brightness": {"probability": chance, "strength": max(abs(low), abs(high))}})
    if (chance := _chance(settings, "CONTRAST")) is not None:
        low, high = settings.pair("AUGMENTOR.CONTRAST_FACTOR")
        found.append({"contrast": {"probability": chance, "low": round(1 + low, 6), "high": round(1 + high, 6)}})
        settings.note("contrast turns about the patch's mean here, about 0 there.")
    if (chance := _chance(settings, "GAMMA_CONTRAST")) is not None:
        low, high = settings.pair("AUGMENTOR.GC_GAMMA")
        found.append({"gamma": {"probability": chance, "low": low, "high": high}})
    if (chance := _chance(settings, "GAUSSIAN_NOISE")) is not None:
        found.append({"gaussian_noise": {"probability": chance, "sigma": round(math.sqrt(settings["AUGMENTOR.GAUSSIAN_NOISE_VAR"]), 6)}})
        settings.note("Gaussian noise is drawn from none to AUGMENTOR.GAUSSIAN_NOISE_VAR.")
    if (chance := _chance(settings, "POISSON_NOISE")) is not None:
        found.append({"poisson_noise": {"probability": chance}})
        settings.note("Poisson noise is that of 30 to 1000 photons in the brightest voxel.")
    if (chance := _chance(settings, "G_BLUR")) is not None:
        _, high = settings.pair("AUGMENTOR.G_SIGMA")
        found.append({"blur": {"probability": chance, "sigma": high}})
        settings.note("blur is drawn from none to AUGMENTOR.G_SIGMA's upper end.")
    if (chance := _chance(settings, "CUTOUT")) is not None:
        low, high = settings.pair("AUGMENTOR.COUT_SIZE")
        count = int(settings.pair("AUGMENTOR.COUT_NB_ITERATIONS")[1])
        found.append({"cutout": {"probability": chance, "count": count, "low": low, "high": high}})
    return found
