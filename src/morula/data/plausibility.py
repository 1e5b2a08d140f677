"""Whether images and labels can be what the job says they are: same image twice, images made from labels, background with an id."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from morula.core.image import Image
from morula.core.remark import Remark
from morula.data.crop import crop
from morula.data.summary import looks_grey, middle

LOOKED_AT = 2**18
"""Voxels of an image that are compared: a central block."""
_LEVELS, _DISTINCT = 10_000, 48
"""Levels of the histogram by which copies of an image are found, and how many of them must occur."""
_IMAGES = 8
"""At most so many label images are searched for single voxels."""


def repeated_images(groups: Mapping[str, Sequence[Image]]) -> list[Remark]:
    """A warning where images have the same pixels; in different groups, scores of the one say nothing about new images.

    Args:
        groups: images by the name of their group, for example ``training`` and ``test``.

    Examples:
        >>> image = Image(np.arange(16, dtype=np.uint8).reshape(4, 4), "YX", source="a.tif")
        >>> repeated_images({"training": [image], "test": [image]})[0][:57]
        'test image a.tif has the same pixels as training image a.'
    """
    found: dict[tuple[object, ...], list[str]] = defaultdict(list)
    between: list[tuple[str, str]] = []
    inside: list[tuple[str, str]] = []
    for group, images in groups.items():
        for number, image in enumerate(images):
            key = _content(image)
            if key is None:
                continue
            name = f"{group} image {image.source or number}"
            for earlier in found[key][:1]:
                (inside if earlier.startswith(f"{group} ") else between).append((name, earlier))
            found[key].append(name)
    remarks = []
    if between:
        told = f"{_first(between)}. Scores of training images say little about new images. Leave them out of one of the two."
        remarks.append(Remark("images.duplicates", told))
    if inside:
        remarks.append(Remark("images.repeated", f"{_first(inside)}. They count twice. Leave one out."))
    return remarks


def _first(pairs: Sequence[tuple[str, str]]) -> str:
    name, earlier = pairs[0]
    more = f", and so have {len(pairs) - 1} more" if len(pairs) > 1 else ""
    return f"{name} has the same pixels as {earlier}{more}"


def _content(image: Image) -> tuple[object, ...] | None:
    """What copies of an image have in common, by its central block; `None` where it is constant, as empty images are all alike.

    Copies may have another type, other units of intensity, or be flipped or rotated. So the histogram of the values between the smallest
    and the largest one is taken, where there are enough values for it to be that of one image alone.
    """
    shape = image.spatial_shape
    block = np.ascontiguousarray(crop(image, middle(shape, LOOKED_AT)))
    if block.size == 0 or (block == block.flat[0]).all():
        return None
    values = block.astype(np.float64)
    low, high = values.min(), values.max()
    if np.isfinite(low) and np.isfinite(high):
        counts = np.bincount(np.rint((values - low).ravel() * (_LEVELS / (high - low))).astype(np.int64))
        if np.count_nonzero(counts) >= _DISTINCT:
            return tuple(sorted(shape)), len(block), hash(counts.tobytes())
    return shape, block.shape, block.dtype.str, hash(block.tobytes())


def background_with_id(labels: Sequence[Image]) -> list[Remark]:
    """A warning where most label images have no 0, and one id that reaches all their borders and covers at least 30 %.

    Examples:
        >>> inverted = np.ones((10, 10), int)
        >>> inverted[2:4, 2:4], inverted[6:8, 6:8] = 2, 3
        >>> background_with_id([Image(inverted, "YX")])[0].code
        'labels.background_id'
    """
    ids = [label for label in map(_background_id, labels) if label is not None]
    if not ids or 2 * len(ids) < len(labels):
        return []
    shown = ids[0] if len(set(ids)) == 1 else "one id each"
    text = (
        f"the background seems to have an id: {len(ids)} of {len(labels)} label images have no voxel of value 0, and an object ({shown}) "
        "that reaches all borders. Set the background to 0."
    )
    return [Remark("labels.background_id", text)]


def _background_id(image: Image) -> int | None:
    block = crop(image, middle(image.spatial_shape, LOOKED_AT))[0]
    values, counts = np.unique(block, return_counts=True)
    if len(values) < 3 or 0 in values:
        return None
    largest = values[counts.argmax()]
    faces = (np.take(block, side, axis) for axis in range(block.ndim) if block.shape[axis] > 1 for side in (0, -1))
    if counts.max() < 0.3 * block.size or not all((face == largest).any() for face in faces):
        return None
    return int(largest)


def images_that_hold_labels(pairs: Sequence[tuple[Image, Image]]) -> list[Remark]:
    """A warning where a channel of an image has a single value in each object: it is a copy of the labels, or a mask made from them.

    Args:
        pairs: images and their labels.

    Examples:
        >>> labels = np.kron(np.arange(4).reshape(2, 2), np.ones((8, 8), int))
        >>> images_that_hold_labels([(Image(255 * (labels > 0), "YX", source="a.tif"), Image(labels, "YX"))])[0][:50]
        'image a.tif has a single value in each object of i'
    """
    found = [str(image.source or f"number {number}") for number, (image, labels) in enumerate(pairs) if _holds_labels(image, labels)]
    if not found:
        return []
    more = f", and so have {len(found) - 1} more" if len(found) > 1 else ""
    text = (
        f"image {found[0]} has a single value in each object of its labels{more}. It seems to be made from the labels, so that a network "
        "learns nothing. Check that raw and labels name the right files and channels."
    )
    return [Remark("images.hold_labels", text)]


def _holds_labels(image: Image, labels: Image) -> bool:
    if image.spatial_shape != labels.spatial_shape:
        return False
    region = middle(labels.spatial_shape, LOOKED_AT)
    block = crop(labels, region)[0]
    first_of_each, of_object = np.unique(block.ravel(), return_index=True, return_inverse=True)[1:]
    if len(first_of_each) < 2 or looks_grey(block):  # an image in place of labels is told by a warning of its own
        return False
    channels = (channel.ravel() for channel in crop(image, region))
    return any(bool((channel != channel[0]).any() and (channel == channel[first_of_each][of_object]).all()) for channel in channels)


def single_voxels(labels: Sequence[Image]) -> list[Remark]:
    """A warning where at least 3 objects, and 5 % of all, have a single voxel: noise, interpolated labels, or points in place of objects.

    Examples:
        >>> single_voxels([Image(np.diag(np.arange(8)), "YX")])[0].code
        'labels.single_voxels'
    """
    single = count = 0
    first = ""
    for image in labels[:_IMAGES]:
        block = crop(image, middle(image.spatial_shape, LOOKED_AT))[0]
        if looks_grey(block):  # an image in place of labels is told by a warning of its own
            continue
        ids, sizes = np.unique(block[block > 0], return_counts=True)
        found = int((sizes == 1).sum())
        single, count = single + found, count + len(ids)
        first = first or (str(image.source or "an image") if found else "")
    if single < 3 or single < 0.05 * count:
        return []
    text = (
        f"{single} of {count} objects have a single voxel, for example in {first}. Remove them (`morula measure --remove 'voxels < 2' "
        "--kept NEW`), or save labels without interpolation."
    )
    return [Remark("labels.single_voxels", text)]
