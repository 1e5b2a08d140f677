"""Folders whose images share one target, as PROBLEM.IMAGE_TO_IMAGE.MULTIPLE_RAW_ONE_TARGET_LOADER says.

PATH/A/1.tif  PATH/A/2.tif    both have the target    GT_PATH/A/t.tif
PATH/B/1.tif                  has the target          GT_PATH/B/t.tif
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from morula.core.errors import MorulaError, Problem
from morula.core.location import natural_key
from morula.dialects.biapy.settings import Settings
from morula.dialects.converted import Value
from morula.io.pairs import Pair, list_images

LOADER = "PROBLEM.IMAGE_TO_IMAGE.MULTIPLE_RAW_ONE_TARGET_LOADER"


def has_raw_folders(settings: Settings) -> bool:
    """Whether images of a folder share their target."""
    return settings.text("PROBLEM.TYPE") == "IMAGE_TO_IMAGE" and settings.flag(LOADER)


def raw_folders(settings: Settings, part: str, *, labelled: bool) -> list[list[Pair]] | None:
    """The images of each folder, each with the target of its folder; `None` where the images have no folders, or with a problem."""
    key, truth = f"DATA.{part}.PATH", f"DATA.{part}.GT_PATH"
    place, targets = (Path(settings.text(name)).expanduser().absolute() for name in (key, truth))
    if not place.is_dir():
        return None  # reported where the images are read
    folders = sorted((entry for entry in place.iterdir() if entry.is_dir() and entry.name[0] != "."), key=lambda one: natural_key(one.name))
    if not folders:
        if part != "TEST":  # BiaPy takes test images without folders, too
            rule = f"contains no folders, which {LOADER} expects: one per target, with its images"
            settings.wrong("biapy.images", key, rule, "Move the images of each target to a folder, or leave the loader out.")
        return None
    found: list[list[Pair]] = []
    for folder in folders:
        images = _listed(settings, key, folder)
        truths = _listed(settings, truth, targets / folder.name) if labelled else []
        if not images or (labelled and not truths):
            return None
        if len(truths) > 1:
            rule = f"has {len(truths)} images in its folder {folder.name}, but the images of a folder share one target"
            settings.wrong("biapy.images", truth, rule, "Leave one of them there.")
            return None
        found.append([Pair(image.stem, image, truths[0] if truths else None) for image in images])
    return found


def _listed(settings: Settings, key: str, folder: Path) -> list[Path]:
    """The images of a folder; none, with a problem in the settings, where there are none."""
    try:
        return list_images(folder)
    except MorulaError as error:
        settings.add(Problem.of(error), key)
        return []


def source_of(pairs: Iterable[Pair]) -> dict[str, Value]:
    """Images and labels as lists of files, which are paired in their order."""
    listed = list(pairs)
    labels: list[Value] = [str(pair.labels) for pair in listed if pair.labels is not None]
    return {"raw": [str(pair.raw) for pair in listed], **({"labels": labels} if labels else {})}
