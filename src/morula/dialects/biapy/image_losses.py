"""Losses of predicted images in BiaPy's job files."""

from __future__ import annotations

from morula.core.family import did_you_mean
from morula.dialects.biapy.settings import Settings, listed
from morula.dialects.converted import Value

_TYPES, _WEIGHTS = "LOSS.TYPE", "LOSS.WEIGHTS"
_LOSSES = {"MAE": "l1", "MSE": "mse", "SSIM": "ssim"}
_MIXTURES = {"W_MAE_SSIM": ["MAE", "SSIM"], "W_MSE_SSIM": ["MSE", "SSIM"]}
"""Names of two losses with a weight for each, up to 3.6."""
_USUAL = [0.66, 0.34]
_OF_CLASSES = ("CE", "W_CE_DICE", "MASKED_BCE")
"""Those that job files of early versions state in every workflow, because the first was the default."""
_OTHERS = {
    **dict.fromkeys(("VGG", "LPIPS"), "it compares features of a network that was trained on photographs"),
    **dict.fromkeys(("BCE", "HINGE", "CYCLEGAN"), "it trains a second network, which judges the predicted images"),
    **dict.fromkeys(("LAPLACIAN", "FFT", "RFFT"), "it compares fine detail alone"),
    "PCC": "it is blind to the brightness of the predicted image",
    "CHARBONNIER": "it is the mean absolute error but for differences near 0",
}
"""Why the other losses of BiaPy are refused."""


def losses_of(settings: Settings) -> tuple[list[str], list[float]]:
    """Losses and their weights, in the spelling of 3.7. Early versions took the mean absolute error, whatever the file said."""
    names = [name.upper() for name in settings.texts(_TYPES)] or ["MAE"]
    weights = settings.numbers(_WEIGHTS)
    if len(names) == 1 and names[0] in _OF_CLASSES:
        settings.note(f"LOSS.TYPE {names[0]} compares classes: images are learned by MAE, as in the versions that allowed it here.")
        return ["MAE"], [1.0]
    if len(names) == 1 and names[0] in _MIXTURES:
        return _MIXTURES[names[0]], weights or _USUAL
    return names, weights or [1.0] * len(names)


def image_losses(settings: Settings) -> dict[str, Value]:
    """Losses by native names, with their weights in the sum."""
    names, weights = losses_of(settings)
    unknown = [name for name in names if name not in _LOSSES]
    if unknown and (reason := _OTHERS.get(unknown[0])):
        settings.wrong("biapy.not_supported", _TYPES, f"cannot be obeyed: there is no loss {unknown[0]}, because {reason}", _INSTEAD)
    elif unknown:
        close = did_you_mean(unknown[0], list(_LOSSES)).strip()
        rule = f"names {unknown[0]!r}, which is not supported; known are {listed(_LOSSES)}"
        settings.wrong("biapy.unknown_value", _TYPES, rule, close)
    elif len(names) != len(weights):
        settings.wrong("biapy.wrong_length", _WEIGHTS, "has the wrong length: one weight per entry of LOSS.TYPE is expected")
    elif min(weights) < 0 or max(weights) == 0:
        settings.wrong("biapy.out_of_range", _WEIGHTS, "are not weights of a sum", "Write numbers from 0 on, one of them above 0.")
    else:
        if "SSIM" in names:
            settings.note(
                "SSIM is compared in windows of 7 voxels along all axes; BiaPy takes Gaussian windows of 11 pixels in each plane, after "
                "it has brought both images to -1 to 1."
            )
        # without effect there, too
        return {_LOSSES[name]: weight for name, weight in zip(names, weights, strict=True) if weight > 0}
    return {"l1": 1.0}


_INSTEAD = f"Write {listed(_LOSSES)}, or several of them with LOSS.WEIGHTS."
