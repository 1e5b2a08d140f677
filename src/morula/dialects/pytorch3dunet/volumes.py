"""The volumes of a job file of pytorch-3dunet as CZYX: HDF5 data sets, and images of all other formats."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from morula.core.array import ArraySource
from morula.core.axes import Axes
from morula.core.errors import DataError, MissingFileError, MorulaError, Problem
from morula.core.image import Image
from morula.core.location import natural_key, split_location, stem_of, suffix_of
from morula.dialects.pytorch3dunet.keys import Names
from morula.dialects.pytorch3dunet.sections import FileOptions, LoadersOptions, PhaseName, PhaseOptions
from morula.io.formats.hdf5 import Hdf5
from morula.io.lazy import Stack, View
from morula.io.pairs import list_images, pair_images
from morula.io.read import read

HDF5 = (".h5", ".hdf", ".hdf5", ".hd5")
_OTHERS: dict[str, tuple[str, ...]] = {
    "raw": ("raw", "images", "image"),
    "label": ("label", "labels", "masks", "mask"),
    "weight": ("weight", "weights"),
}
Part = Literal["raw", "label", "weight"]
Place: TypeAlias = str | FileOptions
"""One image: its file, or the section that names its files."""


def is_hdf5(file: Path) -> bool:
    """Whether a file is HDF5, by its suffix or its first bytes."""
    return suffix_of(file) in HDF5 or Hdf5().recognises(file)


class FileArray(ArraySource, Protocol):
    """A volume CZYX in a file, which knows whether the file has a channel axis."""

    channels: bool


class Czyx(View):
    """An image seen as CZYX; axes that it does not have are of length 1.

    Attributes:
        channels: whether the file has a channel axis.
    """

    def __init__(self, image: Image) -> None:
        image.lazy()  # raises a DataError where there are several time points
        super().__init__(image.data, [image.axes.find(axis) if axis in image.axes else None for axis in "CZYX"], _fixed(image))
        self.channels = "C" in image.axes


def _fixed(image: Image) -> dict[int, int]:
    return {image.axes.index("T"): 0} if "T" in image.axes else {}


@dataclass(frozen=True, eq=False)
class Volume:
    """One image of a job with its labels and weights. All arrays are CZYX, lazy, and of one shape (Z, Y, X).

    Attributes:
        name: name in messages and results.
        path: file of the raw data.
        raw: the raw data.
        labels: one array per data set of labels; empty where they are not needed.
        weight: weights of the voxels.
        spacing: edges of a voxel (z, y, x); ones where unknown.
    """

    name: str
    path: Path
    raw: ArraySource
    labels: tuple[FileArray, ...] = ()
    weight: ArraySource | None = None
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels (z, y, x)."""
        z, y, x = self.raw.shape[1:]
        return z, y, x


def open_array(path: str | Path, internal: str | None = None) -> Czyx:
    """A volume as CZYX, read when sliced.

    HDF5 data sets are (Z, Y, X) or (C, Z, Y, X) whatever their attributes say, as in pytorch-3dunet; other files have their own axes.

    Raises:
        MissingFileError: when there is no such file.
        DataError: when it has no such data set, or one with other than 3 or 4 dimensions.
    """
    return _opened(path, internal)[0]


def _opened(path: str | Path, internal: str | None) -> tuple[Czyx, tuple[float, ...]]:
    file, inner = split_location(path)
    image = read(path, dataset=internal if inner is None else None)
    if is_hdf5(file):
        # attributes of HDF5 files may name other axes, which the original does not read
        shape = image.shape
        if len(shape) not in (3, 4):
            raise DataError(
                "image.dimensions",
                f"{image.source} has the shape {shape}; a data set is (Z, Y, X) or (C, Z, Y, X), an image (1, Y, X) or (C, 1, Y, X)",
                remedy="Write it with these axes.",
            )
        image = Image(image.data, Axes("CZYX"[4 - len(shape) :]), image.voxel_size, image.source)
    spacing = image.spacing if image.voxel_size is not None else (1.0,) * image.ndim_spatial
    return Czyx(image), (1.0,) * (3 - len(spacing)) + tuple(spacing)


def find_files(phase: PhaseOptions, loaders: LoadersOptions) -> list[Place]:
    """The files of a phase: those that are named, and those in folders that are named, in natural order.

    Of a folder these are the HDF5 files; if there are none, its other images; if there are none either, the images of its subfolder
    with the name of the raw data set, or ``images``.

    Raises:
        MissingFileError: when there are none.
    """
    found: list[Place] = []
    for stated in phase.file_paths:
        place = None if isinstance(stated, FileOptions) else Path(stated).expanduser()
        if place is None or not place.is_dir() or suffix_of(place) in (".zarr", ".ome.zarr", ".n5"):
            found.append(stated)
            continue
        # the original reads only HDF5 files of a folder, so they come first
        held = sorted((entry for entry in place.iterdir() if entry.suffix.lower() in HDF5), key=lambda entry: natural_key(entry.name))
        inner = next((place / name for name in _names("raw", loaders) if (place / name).is_dir()), None)
        found += map(str, held or list_images(place if inner is None else inner))
    return found


def _names(part: Part, loaders: LoadersOptions) -> list[str]:
    given: Names | None = getattr(loaders, f"{part}_internal_path")
    return list(dict.fromkeys([*_listed(given), *_OTHERS[part]]))


def _listed(names: Names | None) -> tuple[str, ...]:
    return () if names is None else (names,) if isinstance(names, str) else names


def data_sets(part: Part, loaders: LoadersOptions) -> tuple[str, ...]:
    """Names of the data sets of a part of a volume."""
    given: Names | None = getattr(loaders, f"{part}_internal_path")
    return _listed(given) or (part,)


def open_volumes(loaders: LoadersOptions, name: PhaseName, *, weights: bool = False) -> list[Volume]:
    """The volumes of a phase, opened but not read; with labels except for ``test``.

    Raises:
        DataError: when a data set is missing, or shapes differ.
        MissingFileError: when a file is missing.
    """
    phase = loaders.phase(name)
    if phase is None:
        raise DataError("loaders.phase_missing", f"loaders.{name} is missing", remedy="Name its file_paths.")
    if loaders.dataset == "DSB2018Dataset":
        return [volume for entry in phase.file_paths for volume in _images_and_masks(entry, labels=name != "test")]
    return [open_volume(place, loaders, labels=name != "test", weights=weights) for place in find_files(phase, loaders)]


def try_volumes(loaders: LoadersOptions, name: PhaseName, keep: Callable[[list[Place]], list[Place]] = list) -> Iterator[Volume | Problem]:
    """The volumes of a phase, as in `open_volumes`, and a problem in place of each that cannot be opened.

    Args:
        loaders: the section.
        name: of the phase.
        keep: chooses among the files.
    """
    key = f"loaders.{name}.file_paths"
    try:
        # its pairs of images and masks are matched folder by folder
        if loaders.dataset == "DSB2018Dataset":
            yield from open_volumes(loaders, name)
            return
        phase = loaders.phase(name)
        places = [] if phase is None else keep(find_files(phase, loaders))
    except MorulaError as error:
        yield Problem.of(error, key)
        return
    for place in places:
        try:
            yield open_volume(place, loaders, labels=name != "test")
        except MorulaError as error:
            yield Problem.of(error, key)


def channel_problems(volume: Volume, wanted: object, key: str) -> Iterator[Problem]:
    """The problem of a volume that has not as many channels as the network."""
    if volume.raw.shape[0] != wanted:
        rule = f"has {volume.raw.shape[0]} channel(s), but model.in_channels is {wanted}"
        yield Problem(key, rule, code="image.channels", value=str(volume.path), remedy="Correct one of the two.")


def open_volume(place: Place, loaders: LoadersOptions, *, labels: bool = False, weights: bool = False) -> Volume:
    """One volume of a job; see `open_volumes`."""
    path = Path(place.raw if isinstance(place, FileOptions) else place).expanduser()
    raws = [_opened(*where(place, path, "raw", name, loaders)) for name in _listed(loaders.raw_internal_path)]
    raw = raws[0][0] if len(raws) == 1 else Stack([array for array, _ in raws], str(path))
    parts: dict[Part, tuple[Czyx, ...]] = {"label": (), "weight": ()}
    for part, wanted in (("label", labels), ("weight", weights)):
        if wanted:
            names = data_sets(part, loaders)  # type: ignore[arg-type]
            parts[part] = tuple(open_array(*where(place, path, part, name, loaders)) for name in names)  # type: ignore[arg-type, index]
    for part, arrays in parts.items():
        for array in arrays:
            if array.shape[1:] != raw.shape[1:]:
                raise DataError(
                    "image.shapes_differ",
                    f"{path}: the raw data have {raw.shape[1:]} voxels but the {part} {array.shape[1:]}",
                    remedy="Both must have the same shape.",
                )
    weight = parts["weight"]
    # several data sets of weights are channels, as those of raw data are
    stacked = None if not weight else weight[0] if len(weight) == 1 else Stack(weight, str(path))
    z, y, x = raws[0][1]
    return Volume(path.name, path, raw, parts["label"], stacked, (z, y, x))


def _images_and_masks(place: Place, *, labels: bool) -> list[Volume]:
    """The images in the folder ``images``, each with its label image in ``masks``, as volumes of one plane."""
    if isinstance(place, FileOptions):
        raise DataError(
            "loaders.folder_expected",
            "DSB2018Dataset needs folders that contain images and masks",
            remedy="Name one, or write dataset: StandardHDF5Dataset.",
        )
    folder = Path(place).expanduser()
    if not (folder / "images").is_dir():
        raise MissingFileError(
            "folder.missing",
            f"the folder {str(folder / 'images')!r} is missing",
            remedy="DSB2018Dataset needs folders that contain images and masks.",
        )
    pairs, _ = pair_images(folder / "images", folder / "masks" if labels else None)
    # pairs have one shape, which `pair_images` has checked
    return [
        Volume(pair.raw.name, pair.raw, Czyx(read(pair.raw)), () if pair.labels is None else (open_array(pair.labels),)) for pair in pairs
    ]


def where(place: Place, path: Path, part: Part, name: str, loaders: LoadersOptions) -> tuple[Path, str | None]:
    """File and data set of one part of a volume.

    Args:
        place: the volume.
        path: its raw data.
        part: the part.
        name: of the data set.
        loaders: the section.

    Raises:
        DataError: when the job names the other files of the volume but not this one.
        MissingFileError: when there is no such file beside the raw data.
    """
    if isinstance(place, FileOptions):
        own = place.raw if part == "raw" else place.label if part == "label" else place.weight
        if own is None:
            raise DataError("loaders.part_missing", f"the {part} of {place.raw!r} is not named", remedy=f"Write {part}: FILE beside raw.")
        file = Path(own).expanduser()
        return file, name if is_hdf5(split_location(file)[0]) and split_location(file)[1] is None else None
    file, inner = split_location(path)
    if is_hdf5(file):
        return (path, None) if inner is not None and part == "raw" else (file, name)
    if file.is_dir() and inner is None:  # a Zarr folder: a group of that name, else the image itself or one of its label images
        for within in (name, *(f"labels/{other}" for other in _names(part, loaders) if part != "raw")):
            if (file / within).is_dir():
                return file, within
    if part == "raw":
        return path, None
    return _beside(path, part, loaders), None


def _beside(path: Path, part: Part, loaders: LoadersOptions) -> Path:
    """The file of the labels or weights of a raw file: of the same name in a sibling folder, or with ``label`` for ``raw`` in its name.

    Raises:
        MissingFileError: when there is none.
    """
    tried = []
    for name in _names(part, loaders):
        # raw/a.tif and label/a.tif
        folder = path.parent.parent / name
        tried.append(folder / path.name)
        if folder.is_dir():
            tried += [entry for entry in sorted(folder.iterdir()) if stem_of(entry) == stem_of(path)]
        # a_raw.tif and a_label.tif in one folder
        for raw in _names("raw", loaders):
            if stem_of(path).endswith(f"_{raw}"):
                tried.append(path.with_name(f"{stem_of(path).removesuffix(raw)}{name}{path.name[len(stem_of(path)) :]}"))
        tried.append(path.with_name(f"{stem_of(path)}_{name}{path.name[len(stem_of(path)) :]}"))
    for candidate in tried:
        if candidate.exists() and candidate != path:
            return candidate
    raise MissingFileError(
        "volume.labels_missing",
        f"there is no {part} of {str(path)!r}: tried {', '.join(map(str, tried[:4]))}",
        remedy=f"Name both in file_paths: {{raw: {path.name}, {part}: ...}}.",
    )
