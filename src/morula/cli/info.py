"""What a file or folder holds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from morula.cli.show import say
from morula.core.image import Image


def tell(path: Path) -> None:
    """Print what it is."""
    if (path / "job.yaml").is_file() or (path / "model.json").is_file():
        _run(path)
        return
    from morula.io.read import read

    image = read(path)
    for line in lines_of(image):
        say(line)


def lines_of(image: Image) -> list[str]:
    """An image in a few lines.

    Examples:
        >>> lines_of(Image(np.zeros((4, 8, 8), np.uint8), "ZYX"))[0]
        'axes ZYX, shape 4 x 8 x 8, uint8, 0.0 MB'
    """
    from morula.data.look import describe

    size = np.prod(image.shape, dtype=np.int64) * image.dtype.itemsize
    shape = " x ".join(map(str, image.shape))
    voxel = "unknown" if image.voxel_size is None else " x ".join(f"{length:g}" for length in image.spacing) + f" {image.voxel_size.unit}"
    chunks = getattr(image.data, "chunks", None)
    lines = [f"axes {image.axes}, shape {shape}, {image.dtype}, {size / 1e6:.1f} MB", f"voxel size {voxel}"]
    lines += [f"chunks {' x '.join(map(str, chunks))}"] if chunks else []
    return lines + describe([image], []).lines()


def _run(path: Path) -> None:
    model = path / "model" if (path / "model").is_dir() else path
    if (path / "job.yaml").is_file():
        say(f"run folder {path}")
        say(f"  report      {'report.html' if (path / 'report.html').is_file() else 'not written yet'}")
    facts = model / "model.json"
    if not facts.is_file():
        say("  model       none yet: the training has not finished")
        return
    stored = json.loads(facts.read_text(encoding="utf-8"))
    architecture = stored["network"]
    say(f"  model       {architecture['kind']}, {architecture['ndim']}D, {architecture['in_channels']} channel(s) in")
    say(f"  channels    {', '.join(stored['channels'])}")
    say(f"  voxel size  {stored['voxel_size']}")
