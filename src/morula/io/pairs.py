"""Images of a folder, and the pairing of images with label images by their names."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from morula.core.errors import DataError, MissingFileError, MorulaError
from morula.core.file_errors import missing_file
from morula.core.location import PLANES, is_remote, natural_key, split_location, stem_of, suffix_of
from morula.core.remark import Remark
from morula.io import ngff
from morula.io.formats import coco, mask_folder
from morula.io.formats.base import Request
from morula.io.formats.cellpose import SUFFIX as CELLPOSE_SUFFIX
from morula.io.formats.zarr import attributes_of
from morula.io.metadata import naming
from morula.io.ome_volumes import one_per_volume
from morula.io.read import SEVERAL, label_places, open_image
from morula.io.select import suffixes

Place: TypeAlias = str | os.PathLike[str]

_WORDS = re.compile(
    "raw|im|img|imgs|image|images|input|data|vol|volume|label|labels|lbl|lab|mask|masks|seg|segm|segmentation|gt|groundtruth|ground|truth|"
    "ann|annotation|annotations|weight|weights|instance|instances|target|cp|man|manual|roi|rois|roiset|objects"
)


_LABEL_WORD = re.compile(r"(^|[\s_.\-])(labels?|lbl|masks?|seg|segm|segmentation|gt|groundtruth|annotations?|instances?|rois?)([\s_.\-]|$)")
"""A word in a name that says that the file holds labels."""


@dataclass(frozen=True)
class Pair:
    """An image, its label image if there is one, and the name of its results."""

    name: str
    raw: Path
    labels: Path | None = None


def list_images(path: Place | Sequence[Place], *, labels: bool = False) -> list[Path]:
    """Images of a folder or of a pattern (``data/*_raw.tif``), in natural order; of a file, that file.

    Zarr folders count as images; of a plate, or of a well, all fields. The files of one multi-file OME-TIFF count as one. A list gives
    the images of each of its entries. A folder of folders with ``images`` and ``masks`` gives the images, or the folders of masks.

    Args:
        path: a folder, file or pattern, or a list of them.
        labels: whether label images are wanted: then files of outlines count, each image of a COCO file, and folders of masks.

    Raises:
        MissingFileError: when there are none; the message names what the folder contains.
    """
    if not isinstance(path, str | os.PathLike):
        return [image for one in path for image in list_images(one, labels=labels)]
    place = Path(path).expanduser()
    if is_remote(place):
        return [place]
    file, inner = split_location(place)
    if glob.has_magic(str(place)) and not place.exists():
        return _of_pattern(place, labels)
    if not (file if inner is not None else place).exists():
        raise missing_file(file if inner is not None else place)
    if inner is not None or not place.is_dir() or _is_image(place, labels):
        return members_of(place, labels) or [place]
    found = [image for entry in place.iterdir() if _is_image(entry, labels) for image in members_of(entry, labels) or [entry]]
    found = found or _of_samples(place, labels)
    if not found:
        inside = any(mask_folder.pictures_in(entry) for entry in place.iterdir() if entry.is_dir())
        remedy = f"Images are files that end in {', '.join(sorted(set(suffixes())))}."
        if inside:
            remedy = f"Name a folder in it, or {str(place / '*')!r} with :/{PLANES} behind it where each holds the planes of one volume."
        raise MissingFileError("images.none_in_folder", f"the folder contains no images{_content_of(place)}", file=place, remedy=remedy)
    return one_per_volume(sorted(found, key=lambda one: natural_key(str(one))))  # t2 before t10, as a person sorts


def _of_samples(folder: Path, labels: bool) -> list[Path]:
    """The images, or the folders of masks, of folders ``NAME/images`` and ``NAME/masks`` (2018 Data Science Bowl)."""
    samples = [sample for sample in folder.iterdir() if (sample / "images").is_dir() and (sample / mask_folder.NAME).is_dir()]
    if labels:
        return [sample / mask_folder.NAME for sample in samples]
    return [image for sample in samples for image in (sample / "images").iterdir() if _is_image(image)]


def _of_pattern(pattern: Path, labels: bool) -> list[Path]:
    file, inner = split_location(pattern)
    found = [path for path in _matches(file) if _is_image(path, labels) or (labels and mask_folder.MaskFolder().recognises(path))]
    if inner == PLANES:  # of folders, or the array of this name in Zarr containers
        found = [path for path in _matches(file) if path.is_dir() and mask_folder.pictures_in(path)] or found
    if not found:
        raise MissingFileError(
            "images.none_match",
            f"no image matches the pattern (current folder {str(Path.cwd())!r})",
            file=pattern,
            remedy="Correct it, or put it in quotes on the command line.",
        )
    found = one_per_volume(sorted(found, key=lambda one: natural_key(str(one))))
    return found if inner is None else [Path(f"{path}:/{inner}" if inner == PLANES else f"{path}/{inner}") for path in found]


def _matches(pattern: Path) -> list[Path]:
    """Paths that match a pattern. `**` does not follow links to folders, which may form loops; nor does it enter hidden folders."""
    parts = pattern.parts
    if "**" not in parts:
        return [Path(match) for match in glob.glob(str(pattern))]
    first = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    root = Path(*parts[:first])
    found = root.glob(str(Path(*parts[first:])))
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(root).parts)]


def _is_image(path: Path, labels: bool = False) -> bool:
    suffix, known = suffix_of(path), suffixes(labels=labels)
    if path.name.startswith(".") or (suffix not in known and Path(suffix).suffix not in known):
        return False
    if path.name.endswith(CELLPOSE_SUFFIX) and not labels:
        return False
    return path.is_dir() == suffix.endswith((".zarr", ".n5", ".precomputed"))


def _content_of(folder: Path) -> str:
    """What a folder without images contains, as the end of a sentence."""
    entries = list(folder.iterdir())
    inside = [entry.name for entry in entries if entry.is_dir()]
    others = sorted({entry.suffix for entry in entries if entry.is_file() and entry.suffix})
    content = [f"files of type {', '.join(others)}"] if others else []
    content += [f"the folders {', '.join(sorted(inside)[:5])}"] if inside else []
    return f" but {' and '.join(content)}" if content else "; it is empty"


def pair_images(
    raw: Place | Sequence[Place],
    labels: Place | Sequence[Place] | None = None,
    *,
    axes: str | None = None,
    dataset: str | None = None,
    level: int = 0,
    enlarge: Sequence[int] = (),
) -> tuple[list[Pair], list[str]]:
    """Each image with its label image, and warnings for the user.

    Names are compared without suffixes; then without customary words at either end (``x_raw.tif`` and ``x_label.tif``, ``img_3.png`` and
    ``mask_3.png``); then without what all names of a side begin and end with. Where no name fits another and the counts are equal,
    natural order decides, with a warning. The shapes of each pair are compared from the files' headers.

    Two lists of files of equal length are paired in their order.

    Args:
        raw: a folder, file or pattern, or a list of them.
        labels: likewise; `None` for images without labels.
        axes: of the images, instead of what the files state or their shapes suggest.
        dataset: name or number of the image in files of several.
        level: level of the pyramid of the images.
        enlarge: factor per axis (Z)YX by which label images have more voxels than their images; empty for none.

    Raises:
        DataError: naming every image without labels, every label image without image, and every pair of different shapes.
        MissingFileError: when there are no images at all.
    """
    images = list_images(raw)
    names = names_of(images)
    if labels is None:
        return [Pair(name, image) for name, image in zip(names, images, strict=True)], []
    truths = list_images(labels, labels=True)
    one_folder = _same_files(images, truths)
    if one_folder:
        images, truths = _split_by_words(images)
        names = names_of(images)
    # two lists of files state which belongs to which
    listed = {len(images), len(truths)} == {None if isinstance(side, str | os.PathLike) else len(side) for side in (raw, labels)}
    found, warnings = ({i: i for i in range(len(images))}, list[str]()) if listed else _matched(images, truths)
    problems = [f"{str(image)!r} has no label image in {_shown(labels)}" for i, image in enumerate(images) if i not in found]
    used = set(found.values())
    problems += [f"label image {str(truth)!r} has no image in {_shown(raw)}" for j, truth in enumerate(truths) if j not in used]
    pairs = [Pair(names[i], images[i], truths[j]) for i, j in sorted(found.items())]
    if one_folder and images != truths:
        warnings = [
            *warnings,
            "raw and labels name the same files; those with a word such as masks in their names are the labels.",
        ]
    own = [pair.raw.name for pair in pairs if pair.labels is not None and _is_own_label(pair.raw, pair.labels)]
    if own:
        shown = ", ".join(own[:3]) + (f" and {len(own) - 3} more" if len(own) > 3 else "")
        warnings = [
            *warnings,
            Remark(
                "images.own_labels",
                f"images are their own labels: {shown}. Name the folder of the labels, or let their names end in _masks.",
            ),
        ]
    pairs = [Pair(pair.name, pair.raw, scene_of_labels(pair.labels, dataset)) for pair in pairs]
    request = Request(dataset, level, missing="unchecked")
    problems += [problem for pair in pairs for problem in _shape_problems(pair, axes, request, tuple(enlarge))]
    if problems:
        raise DataError(
            "images.labels_do_not_match",
            "images and labels do not match:\n  " + "\n  ".join(problems),
            remedy=f"\nGive each image one label image of the same name and {'of the size that is expected' if enlarge else 'size'}.",
        )
    return pairs, warnings


def names_of(images: Sequence[Path]) -> list[str]:
    """Names of the results of images: the stems of the file names; of fields of a plate row, column and field, such as ``B_3_0``.

    Where several images have the same name, it is preceded by the folder, and for images in one file followed by the name inside.

    Examples:
        >>> names_of([Path("a/x.tif"), Path("b/x.tif"), Path("y.h5:/raw"), Path("p.zarr/B/3/0")])
        ['a_x', 'b_x', 'y', 'B_3_0']
        >>> names_of([Path("scan.tif:/0"), Path("scan.tif:/1")])
        ['scan_0', 'scan_1']
    """
    located = [split_location(image) for image in images]
    names = [_name_in(file, inner) for file, inner in located]
    for lengthened in (_with_inner, _with_folder):
        counts = Counter(names)
        names = [name if counts[name] == 1 else lengthened(name, *place) for name, place in zip(names, located, strict=True)]
    return names


def _name_in(file: Path, inner: str | None) -> str:
    """Name of an image: of a field of a plate, an image of a COCO file, a folder of masks its sample; else the stem of the file."""
    if inner is not None and suffix_of(file) in coco.Coco.suffixes:
        return stem_of(inner)
    if file.name.lower() == mask_folder.NAME and file.is_dir():
        return file.parent.name
    return _field_name(inner) or stem_of(file)


def _field_name(inner: str | None) -> str | None:
    """Row, column and field of a path in a plate; `None` for other paths."""
    found = None if inner is None else re.fullmatch(r"([A-Za-z]{1,2})/(\d+)/(\d+)", inner.strip("/"))
    return None if found is None else "_".join(found.groups())


def _with_inner(name: str, file: Path, inner: str | None) -> str:
    if inner is None:
        return name
    if _field_name(inner) is not None:
        return f"{stem_of(file)}_{name}"
    return f"{name}_{inner.strip('/').replace('/', '_')}"


def _with_folder(name: str, file: Path, inner: str | None) -> str:
    return f"{file.parent.name}_{name}"


def members_of(path: Path, labels: bool = False) -> list[Path]:
    """The images in one file or folder: the fields of a plate, and for labels the images of a COCO file; none where it is one image."""
    if labels and suffix_of(path) in coco.Coco.suffixes and path.is_file():
        return [Path(f"{path}:/{name}") for name in coco.image_names(path)]
    return fields_of(path)


def fields_of(path: Path) -> list[Path]:
    """The fields of a plate or of a well of an OME-Zarr, in the order of its metadata; none for other files.

    See https://ngff.openmicroscopy.org/0.5/#plate-md: a plate lists its wells, a well its fields.
    """
    if not path.is_dir():
        return []
    with naming(str(path)):
        below = [path / name for name in ngff.field_paths(attributes_of(path))]
    return [field for entry in below for field in fields_of(entry) or [entry]]


def _matched(images: list[Path], truths: list[Path]) -> tuple[dict[int, int], list[str]]:
    if len(images) == len(truths) == 1:
        return {0: 0}, []
    sides = [[_name_in(file, inner) for file, inner in map(split_location, side)] for side in (images, truths)]
    # from the strictest rule to the most tolerant: a rule is used only if it pairs all files, else the best one explains what is missing
    best: dict[int, int] = {}
    for keys in ((list, list), (_without_words, _without_words), (_distinctive, _distinctive)):
        left, right = keys[0](sides[0]), keys[1](sides[1])
        found = _pairs_of_equal(left, right)
        if len(found) == len(images) == len(truths):
            return found, []
        best = max(best, found, key=len)
    if best or len(images) != len(truths):
        return best, []
    order = [sorted(range(len(side)), key=lambda i: natural_key(side[i])) for side in sides]
    first = f"{images[order[0][0]].name} with {truths[order[1][0]].name}"
    return dict(zip(*order, strict=True)), [
        f"no image has the name of a label image, so they were paired in natural order: {first}, and so on. "
        "Give them the same names to be certain."
    ]


def _same_files(images: Sequence[Path], truths: Sequence[Path]) -> bool:
    return {image.resolve() for image in images} == {truth.resolve() for truth in truths}


def _is_own_label(raw: Path, labels: Path) -> bool:
    """Whether an image is paired with itself: not with the label images in an OME-Zarr, of which the folder is one image."""
    return raw.resolve() == labels.resolve() and len(label_places(labels)) == 1


def scene_of_labels(path: Path | None, scene: str | None) -> Path | None:
    """The place of the labels of a scene (its number) where their file holds several images, too; else the path itself."""
    if path is None or scene is None or not scene.isdecimal():
        return path
    try:
        open_image(path, Request(labels=True, missing="unchecked"))
    except DataError as error:
        if error.code in SEVERAL:
            return Path(f"{path}/{scene}") if path.is_dir() else Path(f"{path}:/{scene}")
    except MorulaError:  # said when the file is read
        pass
    return path


def _split_by_words(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Images and label images of one folder, where the names of the label images have a word for labels; else all files on both sides."""
    stems = [stem_of(split_location(file)[0]).lower() for file in files]
    is_label = [bool(_LABEL_WORD.search(stem)) for stem in stems]
    if not any(is_label) or all(is_label):
        return list(files), list(files)
    sides = ([file for file, flag in zip(files, is_label, strict=True) if flag is side] for side in (False, True))
    images, labels = sides
    return images, labels


def _pairs_of_equal(left: list[str], right: list[str]) -> dict[int, int]:
    """Pairs of equal keys that occur once on each side."""
    return {i: right.index(key) for i, key in enumerate(left) if key and left.count(key) == 1 and right.count(key) == 1}


def _without_words(stems: list[str]) -> list[str]:
    return [_without_words_at_ends(stem) for stem in stems]


def _without_words_at_ends(stem: str) -> str:
    """The stem in lower case without customary words at its ends.

    Examples:
        >>> _without_words_at_ends("IMG_012_raw"), _without_words_at_ends("gt-012"), _without_words_at_ends("raw")
        ('012', '012', 'raw')
    """
    parts = [part for part in re.split(r"[\s_.\-]+", stem.lower()) if part]
    # at least one part stays: a file may be called raw.tif
    while len(parts) > 1 and _WORDS.fullmatch(parts[-1]):
        parts.pop()
    while len(parts) > 1 and _WORDS.fullmatch(parts[0]):
        parts.pop(0)
    return "_".join(parts)


def _distinctive(stems: list[str]) -> list[str]:
    """The part of each stem between the prefix and the suffix that all stems share; digits belong to the part."""
    if len(stems) < 2:
        return stems
    # names t01 ... t09 share the prefix "t0", of which the 0 belongs to the number
    start = re.sub(r"\d+$", "", _common(stems))
    end = re.sub(r"^\d+", "", _common([stem[::-1] for stem in stems])[::-1])
    return [stem[len(start) : len(stem) - len(end) or None] if len(stem) > len(start) + len(end) else "" for stem in stems]


def _common(stems: list[str]) -> str:
    """Longest common prefix."""
    # in alphabetical order the first and the last differ most: what they share, all share
    first, last = min(stems), max(stems)
    return first[: next((i for i, (a, b) in enumerate(zip(first, last)) if a != b), min(len(first), len(last)))]


def _shape_problems(pair: Pair, axes: str | None, request: Request, enlarge: tuple[int, ...]) -> list[str]:
    assert pair.labels is not None
    try:
        raw = open_image(pair.raw, request, axes).spatial_shape
        if len(enlarge) > len(raw):
            return []  # an error of its own, where the images are opened
        factors = (1,) * (len(raw) - len(enlarge)) + enlarge
        expected = tuple(n * factor for n, factor in zip(raw, factors, strict=True))
        of_labels = Request(labels=True, missing="unchecked", shape=expected)
        labels = open_image(pair.labels, of_labels, None if axes is None else axes.replace("C", ""))
        shapes = [expected, labels.spatial_shape, raw]
    except MorulaError as error:
        return [str(error)]
    # a plane may be stored as a stack of one plane on one side only
    a, b = (tuple(n for n in shape if n != 1) for shape in shapes[:2])
    if a == b or tuple(n for n in labels.shape if n != 1) in ((*a, 2), (2, *a)):  # labels may hold ids and classes in two channels
        return []
    sizes = [" x ".join(map(str, shape)) for shape in shapes]
    more = f", not {sizes[0]}" if enlarge else ""
    return [f"{str(pair.raw)!r} has {sizes[2]} voxels but its labels {str(pair.labels)!r} have {sizes[1]}{more}"]


def _shown(place: Place | Sequence[Place]) -> str:
    return repr(str(place)) if isinstance(place, str | os.PathLike) else "the list given"
