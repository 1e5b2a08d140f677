"""One image of a run: which of its objects are right, its panel of pictures, and thumbnails of single objects."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, TypedDict

import numpy as np

from morula.core.image import Image
from morula.core.voxel_size import VoxelSize
from morula.data.components import connected
from morula.io.lazy import take_time
from morula.io.metadata import collected
from morula.io.read import read, read_labels, read_labels_and_classes
from morula.labels.class_values import as_classes
from morula.measurement.measure import measured_columns
from morula.metrics.matching import associate
from morula.report import pictures
from morula.report.run_folder import RunContents, RunImage, read_rows

PLANES = 24
"""Most planes of a volume in a panel."""
SIDE = {2: 640, 3: 560}
"""Longer edge of the pictures in pixels, for images of 2 and 3 dimensions."""
THUMBNAIL = 96
Measured: TypeAlias = Mapping[str, str | float]
"""Measurements of an object by column: texts as read from a table, or numbers."""


class Panel(TypedDict):
    """What the template shows of one image.

    Each of the `planes` is a list of ``data:`` addresses: the raw picture, then one overlay per further tile.
    """

    name: str
    tiles: list[str]
    planes: list[list[str]]
    numbers: list[int]
    start: int
    depth: int
    shape: tuple[int, ...]
    aspect: str
    rendering: str
    size: str
    alts: list[str]
    remark: str
    voxel: str
    scale: tuple[str, float]
    links: dict[str, str]


@dataclass(frozen=True)
class Reading:
    """How the images of a run are read, and whether their results are objects or classes."""

    axes: str | None = None
    voxel_size: VoxelSize | None = None
    objects: bool = True
    ignore: int | None = None
    unlabelled: int | None = None
    values: tuple[int, ...] = ()
    of_file: Mapping[str, object] = field(default_factory=dict)
    components: bool = False
    time: int | None = None

    @classmethod
    def of(cls, run: RunContents) -> Reading:
        """From the run's job."""
        images = run.job.get("images") or {}
        method = run.job.get("method") or {}
        stated = images.get("voxel_size", "auto")
        size = VoxelSize(**stated) if isinstance(stated, dict) else None
        objects, values = method.get("kind") != "semantic", tuple(method.get("values") or ())
        ignore = len(values) if values and not objects else method.get("ignore")  # truth is mapped to classes when it is opened
        of_file = {name: images[name] for name in ("channel", "level") if images.get(name) is not None}
        components = bool(images.get("components"))
        values = () if objects else values
        return cls(images.get("axes"), size, objects, ignore, images.get("ignore_label"), values, of_file, components, images.get("time"))

    def time_of(self, image: RunImage) -> int | None:
        """Time point of the files of an image; `None` where they are no series."""
        return self.time if image.time is None else image.time


@dataclass(frozen=True, eq=False)
class Opened:
    """An image with its labels: the raw image lazily, the labels (Z)YX as arrays."""

    image: RunImage
    raw: Image | None
    truth: np.ndarray | None
    prediction: np.ndarray | None
    spacing: tuple[float, ...]
    unit: str

    @property
    def shape(self) -> tuple[int, ...]:
        """(Z)YX."""
        for array in (self.prediction, self.truth):
            if array is not None:
                return array.shape
        return self.raw.spatial_shape if self.raw is not None else ()


@dataclass
class ObjectRow:
    """One object: whether it is right (TP, FP, FN), and where it is. `centre` is (Z)YX in voxels."""

    image: str
    label: int
    tag: str
    iou: float
    confidence: float
    voxels: int
    size: str
    centre: tuple[float, ...]
    diameter: float
    thumbnail: str = ""

    @property
    def place(self) -> tuple[float, ...]:
        """Sort key, worst first: overlap with the truth and then size; without truth the confidence."""
        if self.tag:
            return (self.iou, -self.voxels)
        return (2.0 if math.isnan(self.confidence) else self.confidence, -self.voxels)


@dataclass(frozen=True)
class Tags:
    """Predicted ids with their matching true ids, and the true ids without a match."""

    partners: dict[int, int] = field(default_factory=dict)
    missed: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def found(self) -> np.ndarray:
        """Predicted ids that match a true object."""
        return np.fromiter(self.partners, np.int64, len(self.partners))


def open_image(image: RunImage, reading: Reading) -> Opened:
    """Read one image of a run: labels at once, the raw image lazily."""
    with collected():  # the log has invalid metadata of these files already
        return _opened(image, reading)


def _opened(image: RunImage, reading: Reading) -> Opened:
    raw, time = None, reading.time_of(image)
    if image.raw:
        raw = read(image.raw, axes=reading.axes, voxel_size=reading.voxel_size, time=time, **reading.of_file)  # type: ignore[arg-type]
    axes = reading.axes.replace("C", "") if reading.axes else None
    prediction = read_labels(image.prediction) if image.prediction else None
    truth, like = None, prediction or raw
    if image.truth and like is not None:  # a second channel holds classes
        truth, _ = read_labels_and_classes(image.truth, like.spatial_shape, axes=axes, voxel_size=reading.voxel_size)
    elif image.truth:
        truth = read_labels(image.truth, axes=axes, voxel_size=reading.voxel_size)
    truth = take_time(truth, time) if truth is not None and time is not None else truth
    truth = connected(truth) if truth is not None and reading.components else truth
    first = next((image for image in (raw, truth, prediction) if image is not None), None)
    size = VoxelSize.of(first.voxel_size if first else None, first.ndim_spatial if first else 2)
    arrays = [labels.canonical()[0] if labels is not None else None for labels in (truth, prediction)]
    if arrays[0] is not None:
        arrays = _scored(arrays[0], arrays[1], image, reading)
    return Opened(image, raw, arrays[0], arrays[1], first.spacing if first else (1.0, 1.0), size.unit)


def _scored(truth: np.ndarray, prediction: np.ndarray | None, image: RunImage, reading: Reading) -> list[np.ndarray | None]:
    """Truth and result without unannotated voxels."""
    outside = np.zeros(truth.shape, bool) if reading.unlabelled is None else truth == reading.unlabelled
    if image.mask is not None:
        axes = reading.axes.replace("C", "") if reading.axes else None
        outside |= read(image.mask, axes=axes, time=reading.time_of(image)).canonical()[0] == 0
    inside = [None if labels is None else np.where(outside, labels.dtype.type(0), labels) for labels in (truth, prediction)]
    if reading.values and inside[0] is not None:
        known = np.isin(inside[0], reading.values)
        inside[0] = np.where(known, as_classes(np.where(known, inside[0], reading.values[0]), reading.values), len(reading.values))
    return inside


def object_rows(opened: Opened) -> tuple[list[ObjectRow], Tags]:
    """One row per predicted object, then one per missed object, matched at an IoU of 0.5 if there is a truth."""
    predicted = {int(float(row["label"])): row for row in read_rows(opened.image.table)} if opened.image.table else {}
    name = opened.image.name
    if opened.truth is None or opened.prediction is None:
        return [_row(name, label, "", math.nan, row) for label, row in predicted.items()], Tags()
    table = associate(opened.truth, opened.prediction, 0.5)
    true_ids, predicted_ids, tags = table["true_id"], table["predicted_id"], table["tag"]
    rows, missed = [], table["true_id"][tags == "FN"]
    truth = _measured(opened, missed)
    # missed objects have no row in the table of predicted objects, so they are measured here
    for true_id, label, iou, tag in zip(true_ids, predicted_ids, table["iou"], tags, strict=True):
        source = truth[int(true_id)] if tag == "FN" else predicted.get(int(label))
        if source is not None:
            rows.append(_row(name, int(true_id if tag == "FN" else label), str(tag), float(iou), source, confident=tag != "FN"))
    hits = tags == "TP"
    return rows, Tags(dict(zip(predicted_ids[hits].tolist(), true_ids[hits].tolist(), strict=True)), missed)


def _measured(opened: Opened, labels: np.ndarray) -> dict[int, Measured]:
    """Measurements of true objects by label."""
    if not len(labels):
        return {}
    assert opened.truth is not None
    size = VoxelSize.of(opened.spacing, len(opened.spacing)).asdict() | {"unit": opened.unit}
    table = measured_columns(np.where(np.isin(opened.truth, labels), opened.truth, 0), voxel_size=size)
    return {int(label): {column: values[i] for column, values in table.items()} for i, label in enumerate(table["label"])}


def _row(image: str, label: int, tag: str, iou: float, row: Measured, *, confident: bool = True) -> ObjectRow:
    centre = tuple(float(row[f"centroid_{axis}"]) for axis in "zyx" if row.get(f"centroid_{axis}") not in (None, ""))
    confidence = float(row["confidence"]) if confident and row.get("confidence") not in (None, "") else math.nan
    voxels = int(float(row.get("voxels") or 0))
    return ObjectRow(image, label, tag, iou, confidence, voxels, size_text(row), centre, float(row.get("diameter") or 0))


def size_text(row: Measured) -> str:
    """Size of an object in its physical unit if the table has one, else in voxels.

    Examples:
        >>> size_text({"voxels": "120", "area_um2": "12.3456"}), size_text({"voxels": "120"})
        ('12.3 µm²', '120 voxels')
    """
    if row.get("area_px"):
        return f"{int(float(row['area_px']))} pixels"
    for column, value in row.items():
        quantity, _, unit = column.partition("_")
        if quantity in ("area", "volume") and unit and unit[-1] in "23" and value not in (None, ""):
            size = f"{float(value):.3g}" if float(value) < 1000 else f"{float(value):,.0f}".replace(",", "\u202f")
            return f"{size} {unit[:-1].replace('um', 'µm')}{'²' if unit[-1] == '2' else '³'}"
    return f"{int(float(row.get('voxels') or 0))} voxels"


def panel(opened: Opened, tags: Tags, reading: Reading) -> Panel:
    """Content of a panel: the titles of its tiles, and for each plane one ``data:`` address per picture.

    Each plane is a list of addresses: the raw picture, then an overlay for each of the tiles after the first.
    """
    depth = opened.shape[0] if len(opened.shape) == 3 else 1
    numbers = pictures.planes_shown(depth, PLANES)
    truth, prediction = _planes(opened.truth, numbers), _planes(opened.prediction, numbers)
    raw = raw_planes(opened, numbers)
    tiles = ["raw"] + ["truth"] * (truth is not None) + ["prediction"] * (prediction is not None)
    tiles += ["errors"] * (truth is not None and prediction is not None)
    side = SIDE[len(opened.shape)]
    planes = []
    for index in range(len(numbers)):
        shown = [pictures.data_uri(pictures.resize(raw[index], side, smooth=True, enlarge=False), lossless=False)]
        shown += [pictures.data_uri(overlay, lossless=True) for overlay in _overlays(truth, prediction, index, side, tags, reading)]
        planes.append(shown)
    start = _fullest(prediction if prediction is not None else truth, len(numbers))
    height, width = (length * edge for length, edge in zip(opened.shape[-2:], opened.spacing[-2:], strict=True))
    return {
        "name": opened.image.name,
        "tiles": tiles,
        "planes": planes,
        "numbers": numbers,
        "start": start,
        "depth": depth,
        "shape": opened.shape,
        "aspect": f"{width / height:.4g}",
        "rendering": "pixelated" if 2 * max(opened.shape[-2:]) <= side else "auto",
        "size": size_of_image(opened),
        "alts": _alternatives(opened, tags, tiles, numbers[start] if depth > 1 else None),
        "remark": _remark(opened, tags) if reading.objects else "",
        "voxel": voxel_text(opened),
        "scale": scale_bar(opened.shape[-1] * opened.spacing[-1], opened.unit),
        "links": {},
    }


def scale_bar(width: float, unit: str) -> tuple[str, float]:
    """Text of a scale bar, and its length as a percentage of an image of this physical width: 1, 2 or 5 times a power of ten.

    Examples:
        >>> scale_bar(64.0, "um"), scale_bar(256.0, "pixel")
        (('10 µm', 15.625), ('50 pixels', 19.53125))
    """
    power = 10.0 ** math.floor(math.log10(width / 4))
    length = next(factor * power for factor in (5, 2, 1) if factor * power <= width / 4)
    return f"{length:g} {'pixels' if unit == 'pixel' else unit.replace('um', 'µm')}", 100 * length / width


def size_of_image(opened: Opened) -> str:
    """Shape in voxels, and their physical size where it is known."""
    kind = "voxels" if len(opened.shape) == 3 else "pixels"
    size = "" if opened.unit == "pixel" else f" of {_edges(opened)}"
    return f"{' × '.join(map(str, opened.shape))} {kind}{size}"


def voxel_text(opened: Opened) -> str:
    """Voxel size in words."""
    kind = "voxel" if len(opened.shape) == 3 else "pixel"
    return f"{kind} size unknown" if opened.unit == "pixel" else f"{kind} size {_edges(opened)}"


def _edges(opened: Opened) -> str:
    return f"{' × '.join(f'{edge:.3g}' for edge in opened.spacing)} {opened.unit.replace('um', 'µm')}"


def _remark(opened: Opened, tags: Tags) -> str:
    """Number of found, missed and false objects in words."""
    if opened.prediction is None:
        return ""
    n_predicted = np.unique(opened.prediction[opened.prediction > 0]).size
    if opened.truth is None:
        return f"{n_predicted} objects"
    return f"{len(tags.partners)} found, {len(tags.missed)} missed, {n_predicted - len(tags.partners)} false"


def _alternatives(opened: Opened, tags: Tags, tiles: list[str], plane: int | None) -> list[str]:
    """Alternative texts of the tiles, for screen readers."""
    where = f"{opened.image.name}" + (f", plane {plane}" if plane is not None else "")
    known = {
        "raw": f"Raw image {where}",
        "truth": f"True labels of {where}",
        "prediction": f"Predicted labels of {where}",
        "errors": f"Errors in {where}: {_remark(opened, tags)}",
    }
    return [known[tile] for tile in tiles]


def _planes(labels: np.ndarray | None, numbers: list[int]) -> np.ndarray | None:
    if labels is None:
        return None
    return labels[numbers] if labels.ndim == 3 else labels[None]


def _fullest(planes: np.ndarray | None, n: int) -> int:
    """Plane to begin with: the one with most labelled voxels, the middle one when there are none."""
    counts = [np.count_nonzero(plane) for plane in planes] if planes is not None else []
    return int(np.argmax(counts)) if any(counts) else n // 2


def raw_planes(opened: Opened, numbers: list[int]) -> np.ndarray:
    """Planes ZYX3 uint8 of the raw image, grey where there is none."""
    if opened.raw is None:  # the raw files may have been moved since the run
        return np.full((len(numbers), *opened.shape[-2:], 3), 40, np.uint8)
    view = opened.raw.lazy()  # only the planes shown are read, of volumes that may be larger than memory
    planes = [view[:, z] for z in numbers] if view.ndim == 4 else [view[...]]
    return pictures.to_rgb(np.stack(planes, axis=1))


def _overlays(
    truth: np.ndarray | None, prediction: np.ndarray | None, index: int, side: int, tags: Tags, reading: Reading
) -> list[np.ndarray]:
    if truth is None and prediction is None:
        return []
    # shrunk before colours are computed, so that outlines have the same width in all reports
    small = [None if labels is None else pictures.resize(labels[index], side, smooth=False) for labels in (truth, prediction)]
    edge = max(length for labels in small if labels is not None for length in labels.shape)
    thickness = max(1, min(3, round(edge / 150)))
    known = class_colours(reading)
    colours = [known, known or {label: pictures.object_colour(true) for label, true in tags.partners.items()}]
    found = [
        pictures.filled(labels, colour, thickness=thickness) for labels, colour in zip(small, colours, strict=True) if labels is not None
    ]
    if small[0] is not None and small[1] is not None:
        if reading.objects:
            found.append(pictures.errors_of_objects(small[0], small[1], tags.found, tags.missed, thickness=thickness))
        else:
            found.append(pictures.errors_of_classes(small[0], small[1], reading.ignore))
    return found


def class_colours(reading: Reading) -> dict[int, pictures.Colour]:
    """Fixed colours of the first classes; none for objects, which get one colour per object."""
    if reading.objects:
        return {}
    first = [(86, 180, 233), (230, 159, 0), (204, 121, 167), (0, 158, 115), (240, 228, 66), (213, 94, 0), (0, 114, 178)]
    return dict(enumerate(first, start=1)) | ({} if reading.ignore is None else {reading.ignore: (90, 90, 90)})


def thumbnail(opened: Opened, row: ObjectRow, tags: Tags) -> str:
    """A square around one object in its middle plane, with outlines of found, missed and false objects."""
    z = min(max(round(row.centre[0]), 0), opened.shape[0] - 1) if len(opened.shape) == 3 else 0
    half = max(20, math.ceil(0.9 * row.diameter))
    middle = (round(row.centre[-2]), round(row.centre[-1]))
    truth, prediction = (_label_window(image, z, middle, half) for image in (opened.truth, opened.prediction))
    picture = pictures.resize(_raw_window(opened, z, middle, half), 2 * THUMBNAIL, smooth=True).copy()
    if prediction is None:
        return ""
    # neighbours get thin outlines, the object itself a thick one; a missed object exists in the truth only
    missed = row.tag == "FN"
    side = truth if missed and truth is not None else prediction
    own = np.where(side == row.label, side, 0)
    nothing = np.zeros_like(prediction)
    layers = [(truth, prediction, 1)] if truth is not None else []
    layers.append((own, nothing, 4) if missed else (nothing, own, 4))
    known = tags if truth is not None else Tags({row.label: row.label})
    for true, predicted, thickness in layers:
        overlay = pictures.errors_of_objects(true, predicted, known.found, known.missed, thickness=thickness)
        solid = overlay[..., 3] > 0
        picture[solid] = overlay[solid, :3]
    return pictures.data_uri(picture, lossless=False)


def window(plane: np.ndarray, middle: tuple[int, int], half: int) -> np.ndarray:
    """Square of ``2 * half`` pixels around a point of (Y, X[, 3]), zero outside the plane.

    Examples:
        >>> window(np.ones((4, 4), int), (0, 0), 2)
        array([[0, 0, 0, 0],
               [0, 0, 0, 0],
               [0, 0, 1, 1],
               [0, 0, 1, 1]])
    """
    found = np.zeros((2 * half, 2 * half, *plane.shape[2:]), plane.dtype)
    inside = tuple(slice(max(0, at - half), max(0, min(at + half, length))) for at, length in zip(middle, plane.shape[:2], strict=True))
    target = tuple(slice(cut.start - at + half, cut.stop - at + half) for cut, at in zip(inside, middle, strict=True))
    found[target] = plane[inside]
    return found


def _label_window(labels: np.ndarray | None, z: int, middle: tuple[int, int], half: int) -> np.ndarray | None:
    if labels is None:
        return None
    return pictures.resize(window(labels[z] if labels.ndim == 3 else labels, middle, half), 2 * THUMBNAIL, smooth=False)


def _raw_window(opened: Opened, z: int, middle: tuple[int, int], half: int) -> np.ndarray:
    """The square of the raw image as YX3, its contrast stretched over the part inside the image."""
    if opened.raw is None:
        return np.full((2 * half, 2 * half, 3), 40, np.uint8)
    view = opened.raw.lazy()
    inside = tuple(slice(max(0, at - half), at + half) for at in middle)
    crop = view[(slice(None), z, *inside)] if view.ndim == 4 else view[(slice(None), *inside)]
    shown = pictures.to_rgb(crop[:, None])[0]
    return window(shown, (middle[0] - inside[0].start, middle[1] - inside[1].start), half)
