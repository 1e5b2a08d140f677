"""Image-to-image jobs of BiaPy as the native method `regression`."""

from __future__ import annotations

from morula.dialects.biapy.image_losses import image_losses
from morula.dialects.biapy.settings import Settings, whole_numbers
from morula.dialects.converted import Value

SECTION, TARGET = "PROBLEM.IMAGE_TO_IMAGE", "DATA.NORMALIZATION.TARGET"


def regression_of(settings: Settings) -> dict[str, Value]:
    """The method `regression`: by default each target is on the scale of its image, as in BiaPy."""
    count = settings.whole(key := f"{SECTION}.OUTPUT_CHANNELS")
    if count < 1:
        settings.wrong("biapy.out_of_range", key, "is not a number of channels", "Write 1 or more.")
    # heads are one convolution each, on one decoder: a head with all of their channels is the same network
    heads = whole_numbers(settings.items(key := f"{SECTION}.CHANNELS_PER_HEAD_INFO"), least=1)
    if heads is None or (heads and sum(heads) != count):
        settings.wrong("biapy.contradiction", key, "are not the channels of OUTPUT_CHANNELS, divided among heads", "Leave it out.")
    activations = settings.texts(key := f"{SECTION}.OUTPUT_CHANNEL_ACT")
    if any(name.lower() not in ("linear", "") for name in activations):
        rule = "cannot be obeyed: predicted images may have any values"
        settings.wrong("biapy.not_supported", key, rule, "Write linear, or leave it out; for masks, SEMANTIC_SEG or INSTANCE_SEG.")
    check_images(settings)
    return {"kind": "regression", "channels": max(count, 1), **_units(settings), "losses": image_losses(settings)}


def check_images(settings: Settings) -> None:
    """Refuse what fits no workflow whose targets are images."""
    if settings.text("MODEL.ARCHITECTURE").lower() == "mae":
        settings.wrong("biapy.contradiction", "MODEL.ARCHITECTURE", "hides parts of the image", "Write unetr, or another network.")
    if settings.flag("DATA.TRAIN.EXTRACT_RANDOM_PATCH") and settings.flag(key := "DATA.TRAIN.PROBABILITY_MAP"):
        settings.wrong("biapy.not_supported", key, "cannot be obeyed: targets are images, which have no foreground", "Leave it out.")


def _units(settings: Settings) -> dict[str, Value]:
    """How targets are brought to the scale of the network."""
    if not settings.flag(f"{TARGET}.ENABLE"):
        return {"units": "image"}
    kind = settings.text(f"{TARGET}.TYPE") or settings.text("DATA.NORMALIZATION.TYPE")
    if kind == "zero_mean_unit_variance":
        names = [f"{TARGET}.ZERO_MEAN_UNIT_VAR.{name}_VAL" for name in ("MEAN", "STD")]
    else:
        names = [f"{TARGET}.PERC_CLIP.{name}_VALUE" for name in ("LOWER", "UPPER")]
    numbers = []
    for name in names:
        found = settings.numbers(name)
        if -1.0 in found or not found:
            settings.missing(name, f"must be stated with {TARGET}.ENABLE: one number for all images")
        elif len(set(found)) > 1:
            rule = "cannot be obeyed: all channels of the targets have one scale"
            settings.wrong("biapy.not_supported", name, rule, "Write one number, or one job per channel.")
        numbers.append(found[0] if found else 0.0)
    low, high = numbers
    scale = high if kind == "zero_mean_unit_variance" else high - low
    if scale <= 0:
        name = "ZERO_MEAN_UNIT_VAR.STD_VAL" if kind == "zero_mean_unit_variance" else "PERC_CLIP.UPPER_VALUE"
        settings.wrong("biapy.out_of_range", f"{TARGET}.{name}", "leaves no scale", "Write a standard deviation, or an upper limit.")
        scale = 1.0
    if settings.flag(f"{TARGET}.PERC_CLIP.ENABLE") or kind != "zero_mean_unit_variance":
        settings.note("values of targets beyond DATA.NORMALIZATION.TARGET.PERC_CLIP are not cut.")
    return {"offset": low, "scale": scale}
