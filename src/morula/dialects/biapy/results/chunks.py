"""Predictions as Zarr or HDF5, which BiaPy writes with TEST.BY_CHUNKS, in the order of axes that the job states."""

from __future__ import annotations

from pathlib import Path

from morula.core.axes import Axes
from morula.core.image import Image
from morula.dialects.biapy.settings import Settings
from morula.io.lazy import View
from morula.io.read import read
from morula.io.write import write

_CHUNKS = "TEST.BY_CHUNKS"


def by_chunks(settings: Settings) -> bool:
    """Whether the job predicts volumes by chunks."""
    return settings.flag(f"{_CHUNKS}.ENABLE") and settings.ndim == 3


def writes_tiff(settings: Settings) -> bool:
    """Whether predicted channels are written as TIFF, too."""
    return not by_chunks(settings) or settings.flag(f"{_CHUNKS}.SAVE_OUT_TIF")


def container_of(settings: Settings, file: Path) -> str:
    """Name of the container of an image: versions 3.0 to 3.6 wrote HDF5 unless FORMAT said zarr, 3.7 writes Zarr."""
    stated = settings.text(f"{_CHUNKS}.FORMAT").lower() if f"{_CHUNKS}.FORMAT" in settings else "zarr"
    return f"{file.stem}.{'h5' if stated.startswith('h') else 'zarr'}"


def write_container(source: Path, target: Path, order: str, *, labels: bool) -> None:
    """Copy an image into a container, block by block.

    Args:
        source: the image of the run.
        target: the container.
        order: axes, such as ``ZYX`` or ``TZCYX``. Channels come last where the order has none; label images have no channels.
        labels: whether it is a label image.
    """
    image = read(source)
    axes = order.replace("C", "") if labels else order if "C" in order else f"{order}C"
    places = [image.axes.index(letter) if letter in image.axes else None for letter in axes]
    write(target, Image(View(image.data, places), Axes(axes), image.voxel_size), labels=labels)
