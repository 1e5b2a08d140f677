"""Morula turns 2D and 3D microscopy images into measured objects: with labels, with few labels, or with none.

The names of the Python API are imported when they are first used, so that ``import morula`` is fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from morula.core.compiled_cache import use_writable_cache

__version__ = "0.1.0"

_PUBLIC = {
    "core.image": ["Image"],
    "core.image_array": ["ImageArray"],
    "core.voxel_size": ["VoxelSize"],
    "decoders.decode": ["Objects", "decode", "decode_objects"],
    "dialects.verbs": ["iter_run", "replay", "run", "train"],
    "io.read": ["read"],
    "io.write": ["write"],
    "labels.refine": ["refine"],
    "measurement.filter": ["filter_objects"],
    "measurement.measure": ["measure"],
    "metrics.matching": ["Scores", "match"],
    "models.by_slice": ["by_slices"],
    "models.load": ["load"],
    "models.model": ["Model"],
    "representations.encode": ["encode"],
    "workflows.compare": ["compare"],
    "workflows.evaluate": ["evaluate"],
    "workflows.predict": ["predict"],
    "workflows.segment": ["segment"],
    "workflows.stream": ["Outcome"],
    "workflows.tune": ["tune"],
}
"""Names of the Python API by the module that defines them."""

__all__ = [
    "Image",
    "ImageArray",
    "Model",
    "Objects",
    "Outcome",
    "Scores",
    "VoxelSize",
    "by_slices",
    "compare",
    "decode",
    "decode_objects",
    "encode",
    "evaluate",
    "filter_objects",
    "iter_run",
    "load",
    "match",
    "measure",
    "predict",
    "read",
    "refine",
    "replay",
    "run",
    "segment",
    "train",
    "tune",
    "write",
]

_PACKAGES = ("decoders", "io", "labels", "losses", "measurement", "metrics", "representations", "testing")
"""Packages of functions that are attributes too: ``morula.losses.soft_ncuts``."""

if TYPE_CHECKING:
    from morula.core.image import Image as Image
    from morula.core.image_array import ImageArray as ImageArray
    from morula.core.voxel_size import VoxelSize as VoxelSize
    from morula.decoders.decode import Objects as Objects
    from morula.decoders.decode import decode as decode
    from morula.decoders.decode import decode_objects as decode_objects
    from morula.dialects.verbs import iter_run as iter_run
    from morula.dialects.verbs import replay as replay
    from morula.dialects.verbs import run as run
    from morula.dialects.verbs import train as train
    from morula.io.read import read as read
    from morula.io.write import write as write
    from morula.labels.refine import refine as refine
    from morula.measurement.filter import filter_objects as filter_objects
    from morula.measurement.measure import measure as measure
    from morula.metrics.matching import Scores as Scores
    from morula.metrics.matching import match as match
    from morula.models.by_slice import by_slices as by_slices
    from morula.models.load import load as load
    from morula.models.model import Model as Model
    from morula.representations.encode import encode as encode
    from morula.workflows.compare import compare as compare
    from morula.workflows.evaluate import evaluate as evaluate
    from morula.workflows.predict import predict as predict
    from morula.workflows.segment import segment as segment
    from morula.workflows.stream import Outcome as Outcome
    from morula.workflows.tune import tune as tune


__getattr__, _, _ = lazy_loader.attach(__name__, _PACKAGES, _PUBLIC)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


# before any module compiles a function
use_writable_cache()
