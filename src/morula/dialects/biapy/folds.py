"""Training, validation and test images of job files that divide one folder: folds of a cross-validation, validation images as test images.

The native job lists the files, so that each run states which images it has learned from.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from morula.core.errors import MorulaError, Problem
from morula.dialects.biapy.raw_folders import has_raw_folders, raw_folders, source_of
from morula.dialects.biapy.settings import Settings
from morula.dialects.biapy.super_resolution import upscaling_of
from morula.dialects.converted import Value
from morula.io.pairs import Pair, pair_images

_FOLDS, _FOLD, _CROSS = "DATA.VAL.CROSS_VAL_NFOLD", "DATA.VAL.CROSS_VAL_FOLD", "DATA.VAL.CROSS_VAL"
_PATH = "DATA.TRAIN.PATH"


@dataclass(frozen=True)
class Divided:
    """Sources of the native job, each a list of files."""

    train: dict[str, Value]
    validation: dict[str, Value]


def is_divided(settings: Settings) -> bool:
    """Whether the job says which of the training images are those of the validation, more exactly than by a share."""
    if not settings.flag("DATA.VAL.FROM_TRAIN"):
        return False
    if has_raw_folders(settings):  # images of one target stay together
        return True
    tested = settings.flag("TEST.ENABLE") and settings.flag("DATA.TEST.USE_VAL_AS_TEST")
    return settings.flag(_CROSS) or tested or not settings.flag("DATA.VAL.RANDOM")


def divided_images(settings: Settings, *, labelled: bool) -> Divided | None:
    """The two parts of the training images; `None`, with a problem in the settings, where they cannot be divided."""
    groups = _groups(settings, labelled=labelled)
    if groups is None:
        return None
    if settings.flag(_CROSS):
        held = _fold(settings, len(groups))
    elif len(groups) > 1:
        held = _share(settings, len(groups))
    else:
        return None  # a single image is divided into blocks, of which the last one validates
    if held is None:
        return None
    chosen = set(held)
    train = [pair for number, group in enumerate(groups) if number not in chosen for pair in group]
    return Divided(source_of(train), source_of(pair for number in held for pair in groups[number]))


def folds(images: int, count: int, seed: int | None) -> np.ndarray:
    """Number of the fold of each image, from 0; as in scikit-learn's StratifiedKFold for images of one class.

    Args:
        images: number of images.
        count: number of folds.
        seed: shuffles the images; `None` for folds of neighbours.

    Examples:
        >>> folds(5, 2, None).tolist()
        [0, 0, 0, 1, 1]
    """
    numbers = np.repeat(np.arange(count), [len(range(start, images, count)) for start in range(count)])
    if seed is not None:
        np.random.RandomState(seed).shuffle(numbers)
    return numbers


def _fold(settings: Settings, images: int) -> list[int] | None:
    count, fold = settings.whole(_FOLDS), settings.whole(_FOLD)
    if count < 2:
        settings.wrong("biapy.out_of_range", _FOLDS, "is not a number of folds", "Write 2 or more.")
    elif not 1 <= fold <= count:
        settings.wrong("biapy.out_of_range", _FOLD, "is not a fold", f"Write a number from 1 to {count}.")
    elif images < count:
        rule = f"needs as many images as folds, {count}; {settings.spelling(_PATH)} has {images}"
        settings.wrong("biapy.too_few_images", _CROSS, rule, f"Write {_FOLDS} {images}." if images > 1 else "Divide the volume into files.")
    else:
        settings.note(
            f"fold {fold} of {count} validates; run the job once per fold, with another {_FOLD} and --run_id. "
            "DATA.TEST.USE_VAL_AS_TEST True makes it the test set, too."
        )
        numbers = folds(images, count, settings.whole("SYSTEM.SEED") if settings.flag("DATA.VAL.RANDOM") else None)
        return [int(number) for number in np.flatnonzero(numbers == fold - 1)]
    return None


def _share(settings: Settings, images: int) -> list[int]:
    """The last images, or images drawn by the seed."""
    share = settings.number("DATA.VAL.SPLIT_TRAIN")
    count = min(max(1, int(np.ceil(images * share))), images - 1)
    order = np.random.RandomState(settings.whole("SYSTEM.SEED")).permutation(images) if settings.flag("DATA.VAL.RANDOM") else None
    return list(range(images - count, images)) if order is None else sorted(int(number) for number in order[:count])


def _groups(settings: Settings, *, labelled: bool) -> list[list[Pair]] | None:
    """Images that are not divided: one each, or those that share a target."""
    if has_raw_folders(settings):
        return raw_folders(settings, "TRAIN", labelled=labelled)
    raw = _absolute(settings, _PATH)
    try:
        by = (upscaling_of(settings) or ()) if settings.text("PROBLEM.TYPE") == "SUPER_RESOLUTION" else ()
        labels = _absolute(settings, "DATA.TRAIN.GT_PATH") if labelled else None
        return [[pair] for pair in pair_images(raw, labels, enlarge=by)[0]]
    except MorulaError as error:
        settings.add(Problem.of(error), _PATH)
        return None


def _absolute(settings: Settings, key: str) -> Path:
    return Path(settings.text(key)).expanduser().absolute()
