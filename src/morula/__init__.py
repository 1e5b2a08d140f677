"""Morula turns 2D and 3D microscopy into measured objects - with labels, with few labels, or with none.

Every name below is loaded when it is first used, so that ``import morula`` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_FACE = {
    "Image": "morula.core.image",
    "Model": "morula.models.model",
    "Objects": "morula.decoders.decode",
    "Scores": "morula.metrics.matching",
    "VoxelSize": "morula.core.voxel_size",
    "compare": "morula.workflows.compare",
    "decode": "morula.decoders.decode",
    "decode_objects": "morula.decoders.decode",
    "encode": "morula.representations.encode",
    "evaluate": "morula.workflows.evaluate",
    "filter_objects": "morula.measurement.filter",
    "load": "morula.models.load",
    "match": "morula.metrics.matching",
    "measure": "morula.measurement.measure",
    "predict": "morula.workflows.predict",
    "read": "morula.io.read",
    "refine": "morula.labels.refine",
    "run": "morula.dialects.verbs",
    "segment": "morula.workflows.segment",
    "train": "morula.dialects.verbs",
    "tune": "morula.workflows.tune",
    "write": "morula.io.write",
}

__all__ = [
    "Image",
    "Model",
    "Objects",
    "Scores",
    "VoxelSize",
    "compare",
    "decode",
    "decode_objects",
    "encode",
    "evaluate",
    "filter_objects",
    "load",
    "match",
    "measure",
    "predict",
    "read",
    "refine",
    "run",
    "segment",
    "train",
    "tune",
    "write",
]

_ROOMS = ("decoders", "io", "labels", "losses", "measurement", "metrics", "representations", "testing")
"""Rooms of plain functions, which are found as attributes too: ``morula.losses.soft_ncuts``."""

if TYPE_CHECKING:
    from morula.core.image import Image as Image
    from morula.core.voxel_size import VoxelSize as VoxelSize
    from morula.decoders.decode import Objects as Objects
    from morula.decoders.decode import decode as decode
    from morula.decoders.decode import decode_objects as decode_objects
    from morula.dialects.verbs import run as run
    from morula.dialects.verbs import train as train
    from morula.io.read import read as read
    from morula.io.write import write as write
    from morula.labels.refine import refine as refine
    from morula.measurement.filter import filter_objects as filter_objects
    from morula.measurement.measure import measure as measure
    from morula.metrics.matching import Scores as Scores
    from morula.metrics.matching import match as match
    from morula.models.load import load as load
    from morula.models.model import Model as Model
    from morula.representations.encode import encode as encode
    from morula.workflows.compare import compare as compare
    from morula.workflows.evaluate import evaluate as evaluate
    from morula.workflows.predict import predict as predict
    from morula.workflows.segment import segment as segment
    from morula.workflows.tune import tune as tune


def __getattr__(name: str) -> Any:
    if name in _FACE:
        value = getattr(importlib.import_module(_FACE[name]), name)
        globals()[name] = value
        return value
    if name in _ROOMS:
        return importlib.import_module(f"morula.{name}")
    raise AttributeError(f"module 'morula' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
