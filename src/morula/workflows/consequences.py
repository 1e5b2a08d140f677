"""What the answers to the questions for a new job lead to, in words; the files are opened. Needs neither torch nor Qt.

Each function takes the answer and the interview, and raises an error for an answer that cannot be used.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from morula.core.errors import MissingFileError, MorulaError, OptionError
from morula.core.image import Image
from morula.core.voxel_size import VoxelSize, lengths
from morula.data.crop import crop
from morula.data.summary import middle, object_label_warnings
from morula.io.lazy import take_time, without_z
from morula.io.pairs import list_images, pair_images
from morula.io.read import read_labels_and_classes
from morula.jobs.bundled import bundled_model, bundled_names, is_name
from morula.workflows.interview import Interview

MANY = 4
"""Pretraining is proposed from this many images without labels per image with labels."""
LOOKED_AT = 2**22
"""Voxels of the first label image in which objects are counted: a central block."""


def words_of(image: Image) -> str:
    """Dimensions, shape, axes and type of an image.

    Examples:
        >>> words_of(Image(np.zeros((4, 8), np.uint8), "YX"))
        '2D, 4 x 8 (YX), uint8'
    """
    return f"{image.ndim_spatial}D, {' x '.join(map(str, image.shape))} ({image.axes}), {image.dtype}"


def images(answer: str, interview: Interview) -> str:
    """How many images there are, and what the first one is."""
    count, image = len(list_images(answer)), interview.open(answer)
    size = "no voxel size stated"
    if image.voxel_size is not None:
        size = f"voxels of {' x '.join(f'{edge:g}' for edge in image.spacing)} {image.voxel_size.unit}"
    return f"{_counted(count, 'image')}; the first: {words_of(image)}, {size}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def pairs(answer: str, interview: Interview, what: str, *, raw: str = "raw") -> tuple[int, Path]:
    """Number of images that each have a file of this kind, and the first of these files.

    Raises:
        DataError: with every image that has none, and every pair of different shapes.
    """
    reading = interview.as_read
    found, _ = pair_images(interview.answer(raw), answer, axes=reading.axes, dataset=reading.name, level=reading.level)
    assert found[0].labels is not None
    return len(found), found[0].labels


def labels(answer: str, interview: Interview) -> str:
    """How many pairs there are, how many objects the first one has, and what is strange about it."""
    count, file = pairs(answer, interview, "labels")
    said = f"{_counted(count, 'pair')} of image and labels"
    if not interview.objects:
        return said
    axes = interview.as_read.axes
    axes = axes.replace("C", "") if axes else None
    found, _ = read_labels_and_classes(file, interview.shape, axes=axes, missing=interview.reading.missing)
    found = without_z(take_time(found, interview.reading.time or 0))
    ids = np.unique(crop(found, middle(found.spatial_shape, LOOKED_AT))[0])
    doubts = [str(doubt) for doubt in object_label_warnings([(found, None)])]
    return "; ".join([said, f"the first has {_counted(int((ids != 0).sum()), 'object')}", *doubts])


def scored(answer: str, interview: Interview) -> str:
    """How many test images are scored."""
    count, _ = pairs(answer, interview, "labels", raw="test")
    return f"{_counted(count, 'image')} scored"


def annotated(answer: str) -> tuple[int | None, str | None]:
    """The value of unannotated voxels, or the masks of annotated ones.

    Examples:
        >>> annotated("255"), annotated("data/masks"), annotated("")
        ((255, None), (None, 'data/masks'), (None, None))
    """
    return (int(answer), None) if answer.isdigit() else (None, answer or None)


def mask(answer: str, interview: Interview) -> str:
    """What is not learned."""
    value, masks = annotated(answer)
    if masks is not None:
        count, _ = pairs(masks, interview, "mask")
        return f"{_counted(count, 'mask')}; where a mask is 0, nothing is learned"
    if value == 0:
        rule = "is the background of label images, so it cannot mark what is not annotated"
        raise OptionError("question.ignore_label", rule, key="mask", value=value, remedy="Give another value, or mask images.")
    return f"voxels of value {value} in the labels are not learned"


def classes(answer: str, interview: Interview) -> str:
    """That classes are learned."""
    count, _ = pairs(answer, interview, "classes")
    return f"{_counted(count, 'class image')}; the network learns the class of each object, too"


def names_in(answer: str) -> list[str]:
    """Names separated by commas."""
    return [name for part in answer.split(",") if (name := part.strip())]


def class_names(answer: str, interview: Interview) -> str:
    """How many classes there are."""
    names = names_in(answer)
    counted = bool(interview.answer("classes")) and len(names) == 1 and names[0].isdigit() and int(names[0]) > 1
    if len(names) < 2 and not counted:
        remedy = "Write for example tumour, stroma."
        raise OptionError("question.class_names", "must be two names or more", key="class_names", value=answer, remedy=remedy)
    return f"{names[0]} classes" if counted else f"{len(names)} classes: {', '.join(names)}"


def edges(text: str, ndim: int) -> VoxelSize:
    """The voxel size in a text; one length stands for all axes.

    Examples:
        >>> edges("2, 0.5, 0.5", 3), edges("0.5", 2)
        (VoxelSize(y=0.5, x=0.5, z=2.0, unit='um'), VoxelSize(y=0.5, x=0.5, z=None, unit='um'))
    """
    found = lengths(text)
    return VoxelSize.of(found * ndim if len(found) == 1 else found, ndim)


def voxel_size(answer: str, interview: Interview) -> str:
    """What follows from it."""
    size = edges(answer, interview.ndim)
    ratio = size.spacing(interview.ndim)[0] / size.x
    coarse = f"; z is {ratio:.3g} times as coarse as x, which patches and network follow" if interview.ndim == 3 and ratio != 1 else ""
    return f"sizes are measured in micrometres{coarse}"


def number(text: str | None) -> float | None:
    """A number; a decimal comma is accepted. Errors as of `float`."""
    return float(text.replace(",", ".")) if text else None


def positive(answer: str, key: str) -> float:
    """A number above 0."""
    try:
        found = number(answer) or 0.0
    except ValueError:
        found = 0.0
    if not 0 < found < math.inf:
        raise OptionError("question.not_positive", "must be a number above 0", key=key, value=answer, remedy="Write for example 20.")
    return found


def width(answer: str, interview: Interview) -> str:
    """What follows from the width of an object."""
    found, longest = positive(answer, "width"), max(interview.shape, default=0)
    if interview.shape and found > longest:
        rule, remedy = f"must not exceed the image, {longest} pixels", "Measure an object in the image, in pixels."
        raise OptionError("question.too_wide", rule, key="width", value=answer, remedy=remedy)
    return f"noise below {found / 10:.2g} pixels is smoothed while learning; patches hold at least two objects side by side"


def slices(answer: str, interview: Interview) -> str:
    """What follows from the depth of an object."""
    found, depth = positive(answer, "slices"), interview.shape[0]
    if found > depth:
        rule = f"must not exceed the image, {depth} slices"
        raise OptionError("question.too_deep", rule, key="slices", value=answer, remedy="Count the slices that show one object.")
    return f"patches are at least {min(depth, round(2 * found))} slices deep"


def enough(interview: Interview) -> bool:
    """Whether there are enough images without labels to learn from first."""
    try:
        more, labelled = (len(list_images(interview.answer(key))) for key in ("unlabelled", "raw"))
    except MorulaError:
        return False
    return more >= MANY * labelled


def unlabelled(answer: str, interview: Interview) -> str:
    """Whether pretraining is planned."""
    more = len(list_images(answer))
    interview.open(answer)
    if not enough(interview):
        return f"{_counted(more, 'image')}: too few for pretraining, which is planned from {MANY} times as many as have labels; left out"
    return f"the network first learns to restore these {more} images (stage 1), then learns from the labels (stage 2)"


def weights(answer: str, interview: Interview) -> str:
    """What the weights belong to."""
    del interview
    from morula.workflows.transfer import stored_options  # imports torch, which the other answers do not need

    kind, _ = stored_options(Path(answer).expanduser())
    return f"weights of a {kind}; the job trains the same kind of network"


def model(answer: str, interview: Interview) -> str:
    """What the model is for."""
    del interview
    if is_name(answer):
        return bundled_model(answer).card.description
    if not Path(answer).expanduser().exists():
        remedy = f"Name a file, a run folder, or one of {', '.join(bundled_names())}."
        raise MissingFileError("question.no_model", "does not exist", key="model", value=answer, remedy=remedy)
    return "the model is opened when the images are segmented"


def minutes(answer: str, interview: Interview) -> str:
    """What is planned for this time."""
    del interview
    return f"epochs, batch and patch are planned for {positive(answer, 'minutes'):g} minutes of training on this computer"
