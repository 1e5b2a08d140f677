"""Whether images and labels can be what the job says they are: same image twice, labels of another orientation, background with an id."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from scipy import ndimage

from morula.core.image import Image
from morula.core.region import Region
from morula.core.remark import Remark
from morula.data.crop import crop
from morula.data.summary import looks_grey, middle

LOOKED_AT = 2**18
"""Voxels of an image that are compared: a central block."""
_LEVELS, _DISTINCT = 10_000, 48
"""Levels of the histogram by which copies of an image are found, and how many of them must occur."""
_IMAGES = 8
"""At most so many images of a data set are tried in other orientations."""
_EXCHANGED = 64
"""At most so many images of a data set are compared with the labels of the others."""
_NEAR = 5
"""Shifts of fewer voxels are looked for at the boundaries of the objects."""


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


def misplaced_labels(pairs: Sequence[tuple[Image, Image]], unlabelled: int | None = None) -> list[Remark]:
    """A warning where labels fit their images far better when they are flipped, transposed, shifted or exchanged.

    Args:
        pairs: images and their labels.
        unlabelled: label of unannotated voxels, which count as background.

    Examples:
        >>> labels = np.zeros((32, 32), int)
        >>> labels[3:11, 3:9] = 1
        >>> print(misplaced_labels([(Image(100 * labels[::-1], "YX"), Image(labels, "YX"))])[0][:58])
        the labels fit their images better when flipped along y (c
    """
    return _exchanged(pairs, unlabelled) or _turned(pairs, unlabelled) or _slightly_shifted(pairs, unlabelled)


def _exchanged(pairs: Sequence[tuple[Image, Image]], unlabelled: int | None) -> list[Remark]:
    """A warning where labels fit another image of the same shape, and neither their own image, nor its labels theirs.

    Foreground and intensities of different images correlate by up to 0.31 in ten public data sets, those of one image by 0.4 to 0.9.
    """
    groups: dict[tuple[int, ...], list[tuple[int, np.ndarray, np.ndarray]]] = defaultdict(list)
    for number, (image, labels) in enumerate(pairs[:_EXCHANGED]):
        found = _middle_plane(image, labels, unlabelled)
        if found is not None:
            step = max(1, math.isqrt(found[0].size) // 256)
            seen, foreground = (_standardised(plane[::step, ::step]).astype(np.float32) for plane in (found[0], found[1] != 0))
            groups[labels.spatial_shape].append((number, seen.ravel(), foreground.ravel()))
    wrong = []
    for group in groups.values():
        numbers, seen, foreground = zip(*group, strict=True)
        fit = np.abs(np.stack(seen) @ np.stack(foreground).T) / seen[0].size
        own = np.diag(fit)
        for first, second in enumerate(fit.argmax(axis=1).tolist()):
            best = fit[first, second]
            if first != second and best >= 0.4 and best > 2 * max(own[first], own[second]):
                wrong.append((numbers[first], numbers[second], float(best), float(own[first])))
    if not wrong:
        return []
    image, labels, best, now = wrong[0]
    names = [opened.source or f"number {number}" for opened, number in ((pairs[image][0], image), (pairs[labels][1], labels))]
    more = f"; so do those of {len(wrong) - 1} more images" if len(wrong) > 1 else ""
    text = (
        f"the labels {names[1]} belong to another image: {names[0]} (correlation {best:.2f}, that of its own labels is {now:.2f}){more}. "
        "Check the names of the files: they may be sorted differently."
    )
    return [Remark("labels.exchanged", text)]


def _slightly_shifted(pairs: Sequence[tuple[Image, Image]], unlabelled: int | None) -> list[Remark]:
    """A warning where the boundaries of the objects are 2 to 4 voxels beside those in the images, in at least 3 images and alike in most.

    There is no warning on any set of 3 or more images of ten public data sets.
    """
    planes = [plane for plane in (_middle_plane(*pair, unlabelled) for pair in pairs[:_IMAGES]) if plane is not None]
    maps = []
    for grey, values in planes:
        contrast = _standardised(ndimage.gaussian_gradient_magnitude(grey, 1.0))
        edges = _standardised(ndimage.gaussian_filter(_boundaries(values), 1.0))
        maps.append(np.roll(_all_shifts(contrast, edges, margin=2 * _NEAR), (_NEAR, _NEAR), (0, 1))[: 2 * _NEAR + 1, : 2 * _NEAR + 1])
    if len(maps) < 3:
        return []
    mean = np.mean(maps, axis=0)
    now, best = float(mean[_NEAR, _NEAR]), float(mean.max())
    places = np.array([np.unravel_index(fit.argmax(), fit.shape) for fit in (mean, *maps)]) - _NEAR
    alike = (np.abs(places[1:] - places[0]).max(axis=1) <= 1).mean()
    if not 2 <= np.abs(places[0]).max() < _NEAR or best < max(0.3, 1.05 * now) or alike < 0.75:
        return []
    y, x = places[0].tolist()
    text = (
        f"the boundaries of the labels fit their images better when shifted by {y} voxels along y and {x} along x (correlation {best:.2f}, "
        f"now {now:.2f}). Compare image and labels in a viewer, and save the labels in the place of the images."
    )
    return [Remark("labels.shifted", text)]


def _turned(pairs: Sequence[tuple[Image, Image]], unlabelled: int | None = None) -> list[Remark]:
    """A warning where labels fit their images far better when they are flipped, transposed or shifted, all in the same way.

    In the middle planes, the intensities are correlated with the foreground of the labels, and with the boundaries of the objects, which
    tell more where there is little background. The present position is doubted only where another one has a mean correlation of at least
    0.4, and more than twice that of the present one; and not where either of the two supports the present position.
    """
    planes = [shown for shown in (_planes(*pair, unlabelled) for pair in pairs[:_IMAGES]) if shown is not None]
    found = [_best_position([(grey, kinds[number]) for grey, *kinds in planes]) for number in (0, 1)] if planes else []
    if any(now >= 0.4 and now >= best for now, best, _ in found):
        return _single_misplaced(pairs, unlabelled)
    doubtful = [(best, now, how) for now, best, how in found if best >= 0.4 and best > 2 * now]
    if not doubtful:
        return []
    best, now, how = max(doubtful)
    text = (
        f"the labels fit their images better {how} (correlation {best:.2f}, now {now:.2f}). Compare image and labels in a viewer, and "
        "save the labels in the orientation of the images."
    )
    return [Remark("labels.misplaced", text)]


def _single_misplaced(pairs: Sequence[tuple[Image, Image]], unlabelled: int | None) -> list[Remark]:
    """A warning for single images whose labels are flipped or rotated, while those of the others are in place."""
    found = []
    for image, labels in pairs[:_IMAGES]:
        planes = _planes(image, labels, unlabelled)
        if planes is None:
            continue
        now, best, how = _best_position([planes[:2]], shifts=False)
        if best >= 0.6 and best > 3 * now:
            found.append((labels.source or "one image", how, best, now))
    if not found:
        return []
    name, how, best, now = found[0]
    more = f", and those of {len(found) - 1} more images" if len(found) > 1 else ""
    text = (
        f"the labels {name} fit their image better {how} (correlation {best:.2f}, now {now:.2f}){more}. Compare image and labels in a "
        "viewer, and save the labels in the orientation of the image."
    )
    return [Remark("labels.misplaced", text)]


def _best_position(planes: Sequence[tuple[np.ndarray, np.ndarray]], *, shifts: bool = True) -> tuple[float, float, str]:
    """Mean correlation now, the highest one of another position that is the same in all images, and that position."""
    now = float(np.mean([abs(_correlation(grey, mask)) for grey, mask in planes]))
    moved = defaultdict(list)
    for grey, mask in planes:
        for name, other in _orientations(mask):
            moved[name].append(abs(_correlation(grey, other)))
    candidates = [(float(np.mean(values)), f"when {name}") for name, values in moved.items() if len(values) == len(planes)]
    if not shifts:
        return now, *max(candidates)
    moves = [_shifted(grey, mask) for grey, mask in planes]
    offsets = np.array([offset for _, offset in moves])
    if (np.ptp(offsets, axis=0) <= 1).all() and np.abs(offsets).max() > 2:
        y, x = np.median(offsets, axis=0).astype(int).tolist()
        candidates.append((float(np.mean([value for value, _ in moves])), f"when shifted by {y} voxels along y and {x} along x"))
    return now, *max(candidates)


def _planes(image: Image, labels: Image, unlabelled: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Intensities, foreground and boundaries of the middle plane, standardised; `None` where the intensities are constant."""
    found = _middle_plane(image, labels, unlabelled)
    if found is None:
        return None
    grey, values = found
    step = max(1, math.isqrt(values.size) // 256)
    # a boundary is as thin as a pixel, and labels miss it by one or two
    near = ndimage.gaussian_filter(_boundaries(values), 2)
    seen, foreground, boundaries = (_standardised(plane[::step, ::step]) for plane in (grey, values != 0, near))
    return seen, foreground, boundaries


def _middle_plane(image: Image, labels: Image, unlabelled: int | None) -> tuple[np.ndarray, np.ndarray] | None:
    """Mean intensity and labels of the middle plane; `None` where the intensities are constant, or of other shape than the labels."""
    shape = labels.spatial_shape
    if image.spatial_shape != shape or min(shape[-2:]) < 8:
        return None
    box = middle(shape[-2:], LOOKED_AT)
    depth = (shape[0] // 2,) if len(shape) == 3 else ()
    region = Region((*depth, *box.start), (*(n + 1 for n in depth), *box.stop))
    values = crop(labels, region)[0].reshape(box.shape)
    values = np.where(values == (unlabelled or 0), 0, values)
    grey = crop(image, region).astype(np.float64).mean(axis=0).reshape(box.shape)
    return None if not np.isfinite(grey).all() or grey.std() == 0 else (grey, values)


def _boundaries(values: np.ndarray) -> np.ndarray:
    """1 where a pixel has another label than the one before it, else 0."""
    edges = np.zeros(values.shape, np.float64)
    edges[1:] += values[1:] != values[:-1]
    edges[:, 1:] += values[:, 1:] != values[:, :-1]
    return np.minimum(edges, 1)


def _standardised(plane: np.ndarray) -> np.ndarray:
    """Mean 0 and standard deviation 1; zeros where all values are equal."""
    values = plane.astype(np.float64)
    return (values - values.mean()) / (values.std() or 1.0)


def _correlation(one: np.ndarray, two: np.ndarray) -> float:
    return float((one * two).mean())


def _orientations(mask: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    yield "flipped along y", mask[::-1]
    yield "flipped along x", mask[:, ::-1]
    yield "rotated by 180 degrees", mask[::-1, ::-1]
    if mask.shape[0] == mask.shape[1]:
        yield "transposed (x and y exchanged)", mask.T
        yield "rotated by 90 degrees", np.rot90(mask)
        yield "rotated by 270 degrees", np.rot90(mask, 3)


def _shifted(grey: np.ndarray, mask: np.ndarray) -> tuple[float, tuple[int, int]]:
    """The largest correlation of all shifts of the mask, and that shift."""
    product = _all_shifts(grey, mask)
    place = np.unravel_index(np.abs(product).argmax(), product.shape)
    y, x = (int(at) if at <= n // 2 else int(at) - n for at, n in zip(place, product.shape, strict=True))
    return float(abs(product[place])), (y, x)


def _all_shifts(grey: np.ndarray, mask: np.ndarray, margin: int | None = None) -> np.ndarray:
    """The correlation for each shift of the mask, or those of at most half the margin; negative shifts are at the end of each axis."""
    from scipy import fft  # slow to import, and every command imports this module

    # padded, so that nothing is shifted in from the other side
    size = [fft.next_fast_len(n + (n - 1 if margin is None else margin), real=True) for n in grey.shape]
    product: np.ndarray = fft.irfft2(fft.rfft2(grey, size) * np.conj(fft.rfft2(mask, size)), size) / grey.size
    return product
