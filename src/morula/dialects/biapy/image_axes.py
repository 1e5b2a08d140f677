"""The order of the axes of image files: as the job states it, or as BiaPy finds it."""

from __future__ import annotations

from pathlib import Path

from morula.core.errors import MorulaError
from morula.dialects.biapy.settings import Settings
from morula.dialects.converted import Value
from morula.io.pairs import list_images
from morula.io.read import read

ORDER = "TZCYX"
"""The order that stands for none in BiaPy."""


def axes_of(settings: Settings, part: str) -> dict[str, Value]:
    """The order of the axes of a source, where it is not that of the files."""
    order = settings.text(f"DATA.{part}.INPUT_IMG_AXES_ORDER")
    stated = settings.text(key := f"DATA.{part}.INPUT_MASK_AXES_ORDER")
    if stated != ORDER and stated.replace("C", "") != order.replace("C", ""):
        settings.wrong(
            "biapy.contradiction",
            key,
            "cannot be obeyed: labels have the axes of their images, channels aside",
            "Write images and labels in one order.",
        )
    if order != ORDER:
        return {"axes": order}
    found = _with_channels(settings, part)
    return {} if found is None else {"axes": found}


def _with_channels(settings: Settings, part: str) -> str | None:
    """Axes of images with several channels whose files do not say which axis these are: the shortest one, as in BiaPy.

    The first file stands for all of a folder.
    """
    size, path = settings.items("DATA.PATCH_SIZE"), settings.text(f"DATA.{part}.PATH")
    channels = size[-1] if len(size) == settings.ndim + 1 else 1
    if channels == 1 or not path:
        return None
    try:
        image = read(list_images(Path(path).expanduser().absolute())[0])
    except MorulaError:
        return None  # reported where the images are read
    known = "C" in image.axes and image.shape[image.axes.index("C")] == channels
    if known or len(image.shape) != settings.ndim + 1 or min(image.shape) != channels:
        return None
    position = image.shape.index(channels)
    axes = "ZYX"[-settings.ndim :]
    order = f"{axes[:position]}C{axes[position:]}"
    settings.note(f"images of DATA.{part}.PATH have the axes {order}: their shortest axis has the {channels} channels of PATCH_SIZE.")
    return order
