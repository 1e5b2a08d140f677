"""Validation data that training never uses: whole images, or a block of a single volume behind a gap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from morula.core.errors import DataError, OptionError
from morula.core.region import Region
from morula.data.labelled_voxels import labelled_voxels
from morula.data.patches import Source
from morula.data.sampling import Grid, middle_box

MOST = 2**24
"""Voxels of an image set aside that the network is validated on, and that settings and confidences are fitted to."""


def split_images(n: int, validation: float, *, seed: int = 0) -> tuple[list[int], list[int]]:
    """Draw the images for training and for validation; numbers in ascending order.

    `validation` below 1 is a share, otherwise a count. A share takes at least one image and leaves at least one.

    Raises:
        OptionError: for a share or count that is not positive, or a fraction above 1.
        DataError: when there are too few images.

    Examples:
        >>> train, validate = split_images(10, 0.2)
        >>> len(train), len(validate), set(train) & set(validate)
        (8, 2, set())
    """
    if validation <= 0 or (validation > 1 and validation != int(validation)):
        raise OptionError("split.share", "must be a share between 0 and 1, or a number of images", key="validation", value=validation)
    count = max(1, round(n * validation)) if validation < 1 else int(validation)
    if validation < 1:
        count = min(count, n - 1)
    if count < 1 or count >= n:
        raise DataError(
            "split.too_few_images",
            f"at least one of the {n} image(s) must remain for training and one for validation",
            key="validation",
            value=validation,
            remedy="Add images, or name separate validation images.",
        )
    drawn = set(np.random.default_rng(seed).permutation(n)[:count].tolist())
    return [i for i in range(n) if i not in drawn], sorted(drawn)


def split_block(extent: Region, validation: float, *, patch: Sequence[int], gap: Sequence[int] | None = None) -> tuple[Region, Region]:
    """Divide a volume into a training block, a gap that neither reads, and a validation block at the end::

        | training            | gap | validation |

    The volume is divided along the axis with room for the most patches. The validation block has the given share of the volume, and at
    least one patch. The gap is one patch when left out.

    Raises:
        OptionError: for a share outside 0 to 1.
        DataError: when the volume is too short for two blocks and the gap.

    Examples:
        >>> train, validate = split_block(Region.whole((64, 400)), 0.25, patch=(32, 64))
        >>> train.slices[1], validate.slices[1]
        (slice(0, 236, None), slice(300, 400, None))
    """
    if not 0 < validation < 1:
        raise OptionError("split.share", "must be a share between 0 and 1 for a single volume", key="validation", value=validation)
    gap = tuple(patch) if gap is None else tuple(gap)
    room = [(n - g) / p for n, g, p in zip(extent.shape, gap, patch, strict=True)]
    # reversed: of equal axes the last is divided, which keeps z planes whole
    axis = len(room) - 1 - int(np.argmax(room[::-1]))
    n = extent.shape[axis]
    held = max(round(n * validation), patch[axis])
    left = n - held - gap[axis]
    if left < patch[axis]:
        letter = "ZYX"[3 - len(room) + axis]
        raise DataError(
            "split.too_short",
            f"along {letter} a validation block of {held}, a gap of {gap[axis]} and a training patch of {patch[axis]} voxels do not fit",
            value=n,
            remedy="Choose a smaller patch, or name validation images.",
        )

    def part(start: int, stop: int) -> Region:
        low, high = list(extent.start), list(extent.stop)
        low[axis], high[axis] = extent.start[axis] + start, extent.start[axis] + stop
        return Region(tuple(low), tuple(high))

    return part(0, left), part(n - held, n)


def split_sources(
    sources: Sequence[Source], validation: float, *, patch: Sequence[int], gap: Sequence[int] | None = None, seed: int = 0
) -> tuple[list[Source], list[Source]]:
    """Divide sources into training and validation: by file where there are several, else by blocks of the single image.

    Images of one file are time points of a series. They resemble each other, so they stay together; of a single series, the last time
    points are validated on. Of large images, a part is validated on, see `limited`.

    Raises:
        DataError: when there is too little data for both.
        OptionError: for a share that is not between 0 and 1.
    """
    if len(sources) != 1:
        files = _by_file(sources)
        if len(files) == 1:
            count = len(split_images(len(sources), validation, seed=seed)[0])
            return list(sources[:count]), [limited(source) for source in sources[count:]]
        train, held = split_images(len(files), validation, seed=seed)
        return [source for i in train for source in files[i]], [limited(source) for i in held for source in files[i]]
    source = sources[0]
    parts = split_block(source.extent, validation, patch=patch, gap=gap)
    return [replace(source, region=parts[0])], [limited(replace(source, region=parts[1]))]


def _by_file(sources: Sequence[Source]) -> list[list[Source]]:
    """Sources by the file that they are in; each image in memory counts as a file."""
    files: dict[object, list[Source]] = {}
    for number, source in enumerate(sources):
        files.setdefault(number if source.image.source is None else source.image.source, []).append(source)
    return list(files.values())


def limited(source: Source, most: int = MOST) -> Source:
    """A source of at most `most` voxels: of a larger one, the box with the most labelled voxels, or the middle where nothing is labelled.

    Examples:
        >>> from morula.core.image import Image
        >>> labels = Image(np.array([[0, 0, 0, 0, 1, 1, 0, 0]]), "YX")
        >>> limited(Source(labels, labels), most=2).extent.slices[1]
        slice(4, 6, None)
    """
    shape = list(source.extent.shape)
    # not in proportion: short axes, such as z, would lose the room for a patch
    while math.prod(shape) > most:
        longest = shape.index(max(shape))
        shape[longest] = -(-shape[longest] // 2)
    if tuple(shape) == source.extent.shape:
        return source
    grid = Grid(source.extent, tuple(shape), tuple(shape))
    labelled = None if source.labels is None else labelled_voxels(source.labels.lazy(), grid, source.unlabelled)
    if labelled is None or not labelled.any():
        return replace(source, region=middle_box(source.extent, shape))
    return replace(source, region=grid[int(labelled.argmax())])
