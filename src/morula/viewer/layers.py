"""Images, labels and runs as layers of napari, and layers as images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from morula.core.axes import Axes
from morula.core.errors import DataError, MissingExtraError, OptionError, UnknownNameError
from morula.core.family import did_you_mean
from morula.core.image import Image
from morula.core.voxel_size import VoxelSize
from morula.io.metadata import ignore_field
from morula.io.read import read
from morula.report.run_folder import RunImage, read_run

LayerData: TypeAlias = tuple[Any, dict[str, Any], str]
"""Layer data of napari: the array, the arguments of the layer, its kind (``image`` or ``labels``)."""


def layers(run: Path | str, name: str) -> list[LayerData]:
    """Layers of one image of a run: each channel of the raw image, the true labels if there are any, and the prediction.

    Raises:
        UnknownNameError: when the run has no image of that name.
    """
    images = {image.name: image for image in read_run(run).images}
    if name not in images:
        known = f"is not an image of the run {run}, which has {', '.join(images) or 'none'}"
        raise UnknownNameError("run.unknown_image", known, key="name", value=name, remedy=did_you_mean(name, list(images)).strip())
    return run_layers(images[name])


def run_layers(image: RunImage, prefix: str = "") -> list[LayerData]:
    """Layers of an image of a run. The prediction is visible, the truth is not."""
    found = raw_layers(read(image.raw, time=image.time), f"{prefix}raw") if image.raw else []
    for title, path in (("truth", image.truth), ("prediction", image.prediction)):
        if path is not None:
            time = image.time if title == "truth" else None  # a prediction is that of one time point
            found.append(labels_layer(read(path, time=time), f"{prefix}{title}", visible=title == "prediction"))
    return found


def raw_layers(image: Image, name: str = "raw") -> list[LayerData]:
    """One additive layer per channel, contrast from the 1st to the 99.8th percentile.

    Examples:
        >>> [(data.shape, kind) for data, _, kind in raw_layers(Image(np.zeros((2, 8, 9)), "CYX"))]
        [((8, 9), 'image'), ((8, 9), 'image')]
    """
    array = image.canonical()
    titles = [name] if len(array) == 1 else [f"{name} {channel}" for channel in range(len(array))]
    maps = ["gray"] if len(array) == 1 else ["green", "magenta", "cyan", "yellow"]
    found: list[LayerData] = []
    for channel, (title, values) in enumerate(zip(titles, array, strict=True)):
        # percentiles, because single hot pixels would make everything else black
        low, high = (float(value) for value in np.percentile(values, (1, 99.8)))
        meta = {"name": title, **size_meta(image), "blending": "additive", "colormap": maps[channel % len(maps)]}
        found.append((values, meta | {"contrast_limits": (low, max(high, low + 1e-6))}, "image"))
    return found


def labels_layer(image: Image, title: str, *, visible: bool = True) -> LayerData:
    """A layer of labels with the voxel size of the image.

    Examples:
        >>> labels_layer(Image(np.zeros((8, 9), np.uint16), "YX"), "truth", visible=False)[1]
        {'name': 'truth', 'scale': (1.0, 1.0), 'visible': False}
    """
    return (image.canonical()[0], {"name": title, **size_meta(image), "visible": visible}, "labels")


def size_meta(image: Image) -> dict[str, Any]:
    """Scale and unit of a layer: the voxel size of an image.

    Examples:
        >>> from morula.core.voxel_size import VoxelSize
        >>> size_meta(Image(np.zeros((8, 9)), "YX", VoxelSize(0.5, 0.5)))
        {'scale': (0.5, 0.5), 'units': ('um', 'um')}
    """
    known = image.voxel_size is not None and image.voxel_size.unit != "pixel"
    units = {"units": (image.voxel_size.unit,) * image.ndim_spatial} if known and image.voxel_size is not None else {}
    return {"scale": image.spacing, **units}


def image_of_array(
    array: np.ndarray, scale: Sequence[float] | None = None, units: Sequence[object] | None = None, *, rgb: bool = False
) -> Image:
    """The data of a layer as an image: (Z)YX, C(Z)YX with four dimensions, or YXC for colours.

    A scale other than 1 is the voxel size. It is in micrometres where the layer has no unit. A scale or unit that is none of a voxel (such
    as -1, or seconds) is left out with a `MetadataWarning`.

    Raises:
        DataError: for other numbers of dimensions.

    Examples:
        >>> image = image_of_array(np.zeros((4, 8, 9)), (2.0, 0.5, 0.5))
        >>> image.axes, image.spacing, image.voxel_size.unit
        ('ZYX', (2.0, 0.5, 0.5), 'um')
    """
    axes = {2: "YX", 3: "ZYX", 4: "CZYX"}.get(array.ndim - rgb)
    if axes is None or (rgb and array.ndim != 3):
        rule = "a layer must have 2 (YX), 3 (ZYX) or 4 (CZYX) dimensions"
        raise DataError("layer.dimensions", rule, key="layer", value=array.shape, remedy="Select one time point, and split the channels.")
    ndim = min(array.ndim - rgb, 3)
    size = None if rgb or scale is None else _size_of(scale, units, ndim)
    return Image(array, Axes(f"{axes}C" if rgb else axes), size)


def _size_of(scale: Sequence[float], units: Sequence[object] | None, ndim: int) -> VoxelSize | None:
    """The voxel size that the scale and units of a layer state."""
    spacing = tuple(float(length) for length in scale[-ndim:])
    unit = str(units[-1]) if units else "pixel"
    if unit in ("pixel", "dimensionless"):
        if all(length == 1 for length in spacing):
            return None
        unit = "um"
    try:
        return VoxelSize.of({**dict(zip("zyx"[-ndim:], spacing, strict=True)), "unit": unit}, ndim)
    except (OptionError, ValueError):
        ignore_field("scale", (spacing, unit), f"must be {ndim} lengths above 0")
        return None


def image_of_layer(layer: Any) -> Image:
    """A layer of napari as an image with its voxel size and the file that it was read from. The data are not copied.

    Raises:
        DataError: for a layer that is no image or labels, or has other numbers of dimensions.
    """
    data = layer.data[0] if getattr(layer, "multiscale", False) else layer.data
    rgb = bool(getattr(layer, "rgb", False))
    image = image_of_array(np.asarray(data), layer.scale[: data.ndim - rgb], layer.units, rgb=rgb)
    path = layer.source.path
    return replace(image, source=str(path)) if path else image


def image_of_layers(layers: Sequence[Any]) -> Image:
    """Layers as the channels of one image; one layer as `image_of_layer`.

    Raises:
        DataError: as `image_of_layer`, or when the layers have several shapes.
    """
    images = [image_of_layer(layer) for layer in layers]
    if len(images) == 1:
        return images[0]
    shapes = [image.spatial_shape for image in images]
    if len(set(shapes)) > 1:
        rule = f"have the shapes {', '.join(map(str, dict.fromkeys(shapes)))}"
        raise DataError("layer.shapes", rule, key="layers", remedy="Choose layers of one shape as the channels of an image.")
    channels = np.concatenate([image.canonical() for image in images])
    return replace(images[0], data=channels, axes=Axes(f"C{images[0].axes.spatial_axes}"))


def file_name(text: str) -> str:
    """A text as the name of a file.

    Examples:
        >>> file_name("nuclei [1] / a"), file_name("...")
        ('nuclei-1-a', 'image')
    """
    kept = "".join(letter if letter.isalnum() or letter in "._" else "-" for letter in text)
    return "-".join(part for part in kept.split("-") if part).strip(".-") or "image"


def before_strokes(labels: np.ndarray, strokes: Sequence[Sequence[Any]]) -> tuple[tuple[slice, ...], np.ndarray]:
    """The box of what was painted into a layer of labels, and the values that were there before.

    Args:
        labels: the values now.
        strokes: the parts of a stroke as napari's event `paint` lists them: box, mask in it (`None` for all of it), old and new values; or,
            of other tools and earlier versions, places, old and new values.

    Examples:
        >>> painted = np.array([[0, 5, 5, 0]])
        >>> before_strokes(painted, [((np.array([0, 0]), np.array([1, 2])), np.array([3, 0]), 5)])
        ((slice(0, 1, None), slice(1, 3, None)), array([[3, 0]]))
    """
    parts = [part if len(part) == 4 else (_around(part[0]), None, part[1], part[2]) for part in strokes]
    box = tuple(slice(min(value.start for value in axis), max(value.stop for value in axis)) for axis in zip(*(part[0] for part in parts)))
    before = labels[box].copy()
    for part, stroke in zip(reversed(parts), reversed(strokes)):
        if len(stroke) == 4:
            inner = before[tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(part[0], box))]
            inner[... if part[1] is None else part[1]] = part[2]
        else:
            before[tuple(np.asarray(position) - b.start for position, b in zip(stroke[0], box))] = stroke[1]
    return box, before


def _around(places: Sequence[Any]) -> tuple[slice, ...]:
    """The box around places; slices are taken as they are."""
    return tuple(place if isinstance(place, slice) else slice(int(np.min(place)), int(np.max(place)) + 1) for place in places)


def show(run: Path | str, name: str) -> Any:
    """Open one image of a run in napari and return the `napari.Viewer`.

    Raises:
        MissingExtraError: when napari is not installed.
    """
    # an optional package, and it starts Qt
    try:
        import napari
    except ImportError as error:
        remedy = "Install it: pip install 'morula[napari]'"
        raise MissingExtraError("extra.napari", "the viewer needs napari, which is not installed", remedy=remedy) from error
    viewer = napari.Viewer(title=f"{Path(run).name} - {name}")
    for data, meta, kind in layers(run, name):
        add = viewer.add_labels if kind == "labels" else viewer.add_image
        add(data, **meta)
    return viewer
