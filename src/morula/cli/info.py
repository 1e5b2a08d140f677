"""`morula info`: describe a file or folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from morula.cli.show import echo
from morula.core.image import Image
from morula.data.summary import describe
from morula.dialects import program_of
from morula.io.lazy import is_flat, without_z
from morula.io.pairs import list_images
from morula.workflows.reading import Reading


def print_info(path: Path, reading: Reading = Reading()) -> None:
    """Print what a file or folder is; `reading` is for image files."""
    if (path / "provenance.json").is_file() or (path / "model.json").is_file():
        _run(path)
        return
    if path.suffix.lower() in (".yaml", ".yml") and path.is_file():
        _job(path)
        return
    for line in lines_of_all([reading.open(file) for file in list_images(path)]):
        echo(line)


def lines_of_all(images: Sequence[Image]) -> list[str]:
    """One image in detail, several images together; with different dimensions one line per image.

    Examples:
        >>> pair = [Image(np.zeros((8, 8), np.uint8), "YX", source="a"), Image(np.zeros((4, 8, 8), np.uint8), "ZYX", source="b")]
        >>> lines_of_all(pair)
        ['a: axes YX, shape 8 x 8, uint8, 0.0 MB', 'b: axes ZYX, shape 4 x 8 x 8, uint8, 0.0 MB']
    """
    if len(images) == 1:
        return lines_of(images[0])
    if all(map(is_flat, images)):  # volumes of one plane are 2D, as in all commands
        images = [without_z(image) for image in images]
    several_points = any("T" in image.axes and image.shape[image.axes.index("T")] > 1 for image in images)
    if several_points or len({image.ndim_spatial for image in images}) > 1:
        return [f"{image.source}: {header(image)}" for image in images]
    return describe(images).lines()


def header(image: Image) -> str:
    """Axes, shape, type and size of an image in one line."""
    size = np.prod(image.shape, dtype=np.int64) * image.dtype.itemsize
    return f"axes {image.axes}, shape {' x '.join(map(str, image.shape))}, {image.dtype}, {size / 1e6:.1f} MB"


def lines_of(image: Image) -> list[str]:
    """An image in a few lines.

    Examples:
        >>> lines_of(Image(np.zeros((4, 8, 8), np.uint8), "ZYX"))[0]
        'axes ZYX, shape 4 x 8 x 8, uint8, 0.0 MB'
    """
    voxel = "unknown" if image.voxel_size is None else " x ".join(f"{length:g}" for length in image.spacing) + f" {image.voxel_size.unit}"
    chunks = getattr(image.data, "chunks", None)
    lines = [header(image), f"voxel size {voxel}"]
    lines += [f"chunks {' x '.join(map(str, chunks))}"] if chunks else []
    points = image.shape[image.axes.index("T")] if "T" in image.axes else 1
    if points > 1:
        return [*lines, f"{points} time points; to use this dimension as Z or C, state other axes, for example --axes ZYX"]
    return lines + describe([without_z(image)]).lines()


def _job(path: Path) -> None:
    program = program_of(path)
    if program is not None:
        echo(f"job of {program}")
    else:
        echo(f"job of Morula; check it with: morula check {path}")


def _run(path: Path) -> None:
    model = path / "model" if (path / "model").is_dir() else path
    if (path / "provenance.json").is_file():
        echo(f"run folder {path}")
        echo(f"  report      {'report.html' if (path / 'report.html').is_file() else 'not written yet'}")
    facts = model / "model.json"
    if not facts.is_file():
        echo("  model       none yet: the training is not finished")
        return
    from morula.models.description import read_description

    stored = read_description(model)
    architecture = stored.network
    echo(f"  model       {architecture.kind}, {architecture.ndim}D, {architecture.in_channels} channel(s) in")
    echo(f"  channels    {', '.join(stored.channels)}")
    echo(f"  voxel size  {stored.voxel_size.asdict()}")
