"""Inputs of a network that are computed once per image and stored, so that they can be inspected and are equal in all epochs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from morula import workflows
from morula.core.atomic import atomic
from morula.core.axes import Axes
from morula.core.errors import FileWriteError
from morula.core.image import Image
from morula.core.location import stem_of
from morula.core.manifest import RESULTS, is_result, recording
from morula.data.normalise import Normalisation
from morula.data.patches import Source
from morula.io.read import read
from morula.io.write import write
from morula.jobs.provenance import checksum
from morula.jobs.run_folder import read_json
from morula.methods.training_task import StoredInput

SETTINGS = "settings.json"


def with_stored_inputs(sources: Sequence[Source], stored: StoredInput | None, seed: int) -> list[Source]:
    """Sources whose images carry their stored inputs as further channels; the sources themselves where nothing is stored.

    The folder is written when it is empty, and again when the settings or an image changed.

    Raises:
        FileWriteError: when it cannot be written.
    """
    if stored is None:
        return list(sources)
    inputs: dict[str, np.ndarray] = {}
    for source in sources:  # several sources may be parts of one image
        name = _name(source)
        if name not in inputs:
            inputs[name] = _stored(source.image, name, stored, seed)
    return [replace(source, image=_with_channels(source.image, inputs[_name(source)])) for source in sources]


def with_stored_scales(records: Sequence[Normalisation], stored: StoredInput | None) -> list[Normalisation]:
    """Normalisations of sources of `with_stored_inputs`: the stored channels have the scale of the image itself."""
    if stored is None:
        return list(records)
    return [Normalisation(record.offset * 2, record.scale * 2, record.clip) for record in records]


def _name(source: Source) -> str:
    return stem_of(source.image.source or source.name)


def _stored(image: Image, name: str, stored: StoredInput, seed: int) -> np.ndarray:
    """The stored input of an image, C(Z)YX in its type; computed and written where it is missing or out of date."""
    file, note = stored.folder / f"{name}.tif", stored.folder / SETTINGS
    # written again when the image, the seed or a setting changed
    known: Mapping[str, object] = read_json(note, dict) if note.is_file() else {}
    settings = {**stored.settings, "seed": seed, "image": None if image.source is None else checksum(image.source)}
    spatial = image.axes.spatial_axes
    axes = spatial if image.n_channels == 1 else f"C{spatial}"
    if known.get(name) == settings and file.is_file():
        return read(file, axes=axes).canonical()
    if os.path.lexists(file) and not is_result(file):
        rule = "already exists, and was not written by Morula"
        remedy = "Name an empty folder, or delete the file yourself."
        raise FileWriteError("output.not_own", rule, key="method.folder", file=file, remedy=remedy)
    own = image.canonical()
    # the name in the seed: images differ, and adding an image does not change the inputs of the others
    values = workflows.predict_images.in_type(
        stored.compute(own.astype(np.float32), np.random.default_rng((seed, *name.encode()))), own.dtype
    )
    _write(file, values[0] if len(own) == 1 else values, axes, image)
    # the settings are written after the image: an interrupted run computes it again
    with atomic(note) as part:
        part.write_text(json.dumps({**known, name: settings}, indent=1), encoding="utf-8")
    return values


def _write(file: Path, values: np.ndarray, axes: str, image: Image) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with recording(file.parent, RESULTS):
        write(file, values, axes=axes, voxel_size=image.voxel_size, overwrite=True)


def _with_channels(image: Image, more: np.ndarray) -> Image:
    both = np.concatenate([image.canonical(), more])
    return Image(both, Axes(f"C{image.axes.spatial_axes}"), image.voxel_size, image.source)
