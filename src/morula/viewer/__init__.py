"""A run in napari: raw images, true labels and predictions as layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from morula.core.errors import MissingExtraError, UnknownNameError
from morula.core.family import did_you_mean
from morula.core.image import Image
from morula.io.read import read
from morula.report.run_folder import read_run

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
    image = images[name]
    found = raw_layers(read(image.raw)) if image.raw else []
    for title, path in (("truth", image.truth), ("prediction", image.prediction)):
        if path is not None:
            found.append(labels_layer(read(path), title, visible=title == "prediction"))
    return found


def raw_layers(image: Image) -> list[LayerData]:
    """One additive layer per channel, contrast from the 1st to the 99.8th percentile.

    Examples:
        >>> [(data.shape, kind) for data, _, kind in raw_layers(Image(np.zeros((2, 8, 9)), "CYX"))]
        [((8, 9), 'image'), ((8, 9), 'image')]
    """
    array = image.canonical()
    titles = ["raw"] if len(array) == 1 else [f"raw {channel}" for channel in range(len(array))]
    maps = ["gray"] if len(array) == 1 else ["green", "magenta", "cyan", "yellow"]
    found: list[LayerData] = []
    for channel, (title, values) in enumerate(zip(titles, array, strict=True)):
        # percentiles, because single hot pixels would make everything else black
        low, high = (float(value) for value in np.percentile(values, (1, 99.8)))
        meta = {"name": title, "scale": image.spacing, "blending": "additive", "colormap": maps[channel % len(maps)]}
        found.append((values, meta | {"contrast_limits": (low, max(high, low + 1e-6))}, "image"))
    return found


def labels_layer(image: Image, title: str, *, visible: bool = True) -> LayerData:
    """A layer of labels with the voxel size of the image.

    Examples:
        >>> labels_layer(Image(np.zeros((8, 9), np.uint16), "YX"), "truth", visible=False)[1]
        {'name': 'truth', 'scale': (1.0, 1.0), 'visible': False}
    """
    return (image.canonical()[0], {"name": title, "scale": image.spacing, "visible": visible}, "labels")


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
