"""Worse images on disk, for jobs that want to see what they learn from, or to learn from the same noise in each epoch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from morula.core.atomic import atomic
from morula.core.image import Image
from morula.core.location import stem_of
from morula.data.normalise import Normalisation
from morula.data.patches import Source
from morula.io.read import read
from morula.io.write import write
from morula.jobs.run_folder import checksum
from morula.methods.crappify import Crappify, worsened
from morula.workflows.predict_images import in_type

SETTINGS = "settings.json"


def with_worse(sources: Sequence[Source], method: Any, seed: int) -> list[Source]:
    """Sources whose images carry their worse versions as further channels, where the method keeps these in a folder; else as they are.

    The folder is written when it is empty, and again when the settings or an image changed.

    Raises:
        FileWriteError: when it cannot be written.
    """
    if not isinstance(method, Crappify) or method.options.folder is None:
        return list(sources)
    folder = Path(method.options.folder)
    made: dict[str, np.ndarray] = {}
    return [replace(source, image=_doubled(source.image, _worse(source, method, folder, seed, made))) for source in sources]


def doubled(records: Sequence[Normalisation], method: Any) -> list[Normalisation]:
    """Records for sources of `with_worse`: the worse channels are brought to scale as the image itself is."""
    if not isinstance(method, Crappify) or method.options.folder is None:
        return list(records)
    return [Normalisation(record.offset * 2, record.scale * 2, record.clip) for record in records]


def _worse(source: Source, method: Crappify, folder: Path, seed: int, made: dict[str, np.ndarray]) -> np.ndarray:
    """The worse version of a source's image, C(Z)YX in its type."""
    image = source.image
    name = stem_of(image.source or source.name)
    if name in made:
        return made[name]
    file, note = folder / f"{name}.tif", folder / SETTINGS
    known = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else {}
    wanted = {
        "noise": method.options.noise,
        "factor": list(method.factors),
        "seed": seed,
        "image": None if image.source is None else checksum(image.source),
    }
    spatial = image.axes.spatial_axes
    if known.get(name) == wanted and file.is_file():
        made[name] = read(file, axes=spatial if image.n_channels == 1 else f"C{spatial}").canonical()
        return made[name]
    own = image.canonical()
    rng = np.random.default_rng((seed, *name.encode()))
    made[name] = in_type(worsened(own.astype(np.float32), method.options.noise, method.factors, rng), own.dtype)
    folder.mkdir(parents=True, exist_ok=True)
    single = len(own) == 1
    write(
        file,
        made[name][0] if single else made[name],
        axes=spatial if single else f"C{spatial}",
        voxel_size=image.voxel_size,
        overwrite=True,
    )
    with atomic(note) as part:
        part.write_text(json.dumps({**known, name: wanted}, indent=1), encoding="utf-8")
    return made[name]


def _doubled(image: Image, worse: np.ndarray) -> Image:
    both = np.concatenate([image.canonical(), worse])
    return Image(both, f"C{image.axes.spatial_axes}", image.voxel_size, image.source)  # type: ignore[arg-type]
