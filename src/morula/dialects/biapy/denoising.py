"""Denoising jobs of BiaPy as the native method `noise2void`."""

from __future__ import annotations

import math

from morula.dialects.biapy.image_to_image import check_images
from morula.dialects.biapy.settings import Settings
from morula.dialects.converted import Value

SECTION = "PROBLEM.DENOISING"
_LINE = 4
"""Voxels on both sides of a hidden one that a structured mask covers; BiaPy's has 9 in all."""
_REPLACEMENTS: dict[str, Value] = {
    "uniform_withCP": "voxel",
    "uniform_withoutCP": "other_voxel",
    "normal_withoutCP": "near_voxel",
    "mean": "mean",
    "median": "median",
    "normal_fitted": "normal",
    "normal_additive": "noise",
}
"""Native names of the manipulators that hide a voxel."""
_OF_CLASSES = ("CE", "W_CE_DICE", "MASKED_BCE")
"""Losses that job files of early versions state in every workflow, because the first was the default."""


def denoising_of(settings: Settings) -> dict[str, Value]:
    """The method `noise2void`."""
    check_images(settings)
    percent = settings.number(key := f"{SECTION}.N2V_PERC_PIX")
    if not 0 < percent <= 25:
        settings.wrong(
            "biapy.out_of_range", key, "is not a percentage of voxels to hide", "Write a number above 0, up to 25; 0.198 is usual."
        )
        percent = 0.198
    manipulator = settings.text(key := f"{SECTION}.N2V_MANIPULATOR")
    if manipulator == "identity":
        rule = "cannot be obeyed: the network would learn to copy voxels that it sees"
        settings.wrong("biapy.not_supported", key, rule, "Write uniform_withCP, or leave it out.")
    if settings.whole(key := f"{SECTION}.N2V_NEIGHBORHOOD_RADIUS") < 1:
        settings.wrong("biapy.out_of_range", key, "leaves no neighbourhood", "Write 1 or more; 5 is usual.")
    _check_loss(settings)
    # BiaPy's edge follows from the share of a square, in 3D, too
    edge = round(math.sqrt(100 / percent))
    if settings.ndim == 3:
        settings.note(f"one voxel is hidden in each cube of {edge} voxels along each axis, as in BiaPy, and at least one in each patch.")
    line: dict[str, Value] = {"line": _LINE} if settings.flag(f"{SECTION}.N2V_STRUCTMASK") else {}
    replacement = _REPLACEMENTS.get(manipulator, "voxel")
    return {
        "kind": "noise2void",
        "share": edge**-settings.ndim,
        "replacement": replacement,
        "radius": max(1, settings.whole(f"{SECTION}.N2V_NEIGHBORHOOD_RADIUS")),
        **line,
    }


def _check_loss(settings: Settings) -> None:
    names = [name.upper() for name in settings.texts("LOSS.TYPE")]
    if len(names) == 1 and names[0] in _OF_CLASSES:
        settings.note(f"LOSS.TYPE {names[0]} compares classes: hidden voxels are compared by their mean squared error.")
    elif names not in ([], ["MSE"]):
        rule = "cannot be obeyed: hidden voxels are compared by their mean squared error, whose optimum is the image without noise"
        settings.wrong("biapy.not_supported", "LOSS.TYPE", rule, "Write MSE, or leave it out.")
