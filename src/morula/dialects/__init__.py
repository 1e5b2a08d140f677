"""Job files of other programs, recognised by their top-level keys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import lazy_loader

from morula.core.family import Member

if TYPE_CHECKING:
    from morula.dialects import biapy as biapy
    from morula.dialects import convert as convert
    from morula.dialects import pytorch3dunet as pytorch3dunet
    from morula.dialects import verbs as verbs
    from morula.dialects.converted import Value

# imported when they are first used, as the modules of `morula.workflows`
__getattr__, _, _ = lazy_loader.attach(__name__, submodules=["biapy", "convert", "pytorch3dunet", "verbs"])

# Sections that every job of a program has: any one of its sets.
_NEEDED: dict[str, tuple[frozenset[str], ...]] = {
    "BiaPy": (
        frozenset({"PROBLEM"}),
        # the workflow is SEMANTIC_SEG where PROBLEM is left out
        *(frozenset({"DATA", other}) for other in ("MODEL", "TRAIN", "TEST", "AUGMENTOR", "SYSTEM", "PATHS", "LOSS")),
        frozenset({"MODEL", "TRAIN"}),
    ),
    "pytorch-3dunet": (frozenset({"model", "trainer"}), frozenset({"model", "predictor"}), frozenset({"model", "model_path", "loaders"})),
}
_NATIVE = frozenset({"images", "method"})

# entry points of the group morula.checkpoints
BIAPY_CHECKPOINT = Member("morula.dialects.biapy.checkpoint:BiapyCheckpoint", summary="BiaPy")
UNET3D_CHECKPOINT = Member("morula.dialects.pytorch3dunet.checkpoints:UNet3DCheckpoint", summary="pytorch-3dunet")
WNET3D_CHECKPOINT = Member("morula.dialects.cellseg3d:WNet3DCheckpoint", summary="WNet3D of CellSeg3D")


def recognise(document: Mapping[str, Value]) -> str | None:
    """Name of the program whose job file this is, or `None` for native and unknown ones.

    The programs ignore sections that they do not know, so only those that they need are inspected.

    Args:
        document: the mapping read from a YAML file.

    Examples:
        >>> recognise({"PROBLEM": {"TYPE": "INSTANCE_SEG", "NDIM": "2D"}, "TRAIN": {"ENABLE": True}})
        'BiaPy'
        >>> recognise({"model": {"name": "UNet3D"}, "trainer": {}, "loaders": {}, "loss": {}})
        'pytorch-3dunet'
        >>> recognise({"images": {}, "method": {"kind": "channels"}}) is None
        True
    """
    keys = {str(key) for key in document}
    if keys & _NATIVE:
        return None
    return next((program for program, needed in _NEEDED.items() if any(sections <= keys for sections in needed)), None)


def program_of(path: object) -> str | None:
    """Name of the program whose job file this is, or `None` for native ones, and for mappings.

    Raises:
        MissingFileError: when there is no such file.
        JobError: when it is no YAML.
    """
    from morula.jobs.yaml_lines import read_documents  # the commands import this package when they start

    data = read_documents(path)[0].data if isinstance(path, str | Path) else None
    return recognise(data) if isinstance(data, Mapping) else None
