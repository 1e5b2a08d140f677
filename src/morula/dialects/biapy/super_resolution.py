"""Super-resolution jobs of BiaPy as the native method `regression` with targets on a finer grid."""

from __future__ import annotations

from morula.dialects.biapy.image_losses import image_losses
from morula.dialects.biapy.image_to_image import check_images
from morula.dialects.biapy.settings import Settings, whole_numbers
from morula.dialects.converted import Value

UPSCALING = "PROBLEM.SUPER_RESOLUTION.UPSCALING"


def super_resolution_of(settings: Settings) -> dict[str, Value]:
    """The method `regression`: each target is on the scale of its image and has more voxels."""
    check_images(settings)
    if settings.items(UPSCALING) == []:
        settings.missing(
            UPSCALING, "must be stated: how many times as many voxels the targets have along each axis", "Write (2, 2), for example."
        )
    factors = upscaling_of(settings)
    if factors is None:
        rule = f"is not a factor per axis: {settings.ndim} whole numbers from 1 on are expected"
        settings.wrong("biapy.wrong_length", UPSCALING, rule, f"Write {tuple([2] * settings.ndim)}, for example.")
    if factors is not None and max(factors) > 1:
        settings.note(
            "images are interpolated to the grid of their targets before the network, and DATA.PATCH_SIZE is multiplied by UPSCALING; "
            "in BiaPy most networks enlarge their own output."
        )
    channels = whole_numbers(settings.items("DATA.PATCH_SIZE")[-1:], least=1) or [1]
    return {
        "kind": "regression",
        "channels": channels[0],
        "enlarge": list(factors or ()) or [2] * settings.ndim,
        "units": "image",
        "losses": image_losses(settings),
    }


def upscaling_of(settings: Settings) -> list[int] | None:
    """Factor of each axis (Z)YX; a single number, as in former versions, is that of all axes. `None` for others."""
    given = whole_numbers(settings.items(UPSCALING), least=1)
    if given and len(given) == 1 and not isinstance(settings.given(UPSCALING), list | tuple):
        given *= settings.ndim
    return given if given is not None and len(given) == settings.ndim else None
