"""The workflows: train, predict, segment, evaluate, tune, run, new, check, adjust. Each yields events; command line and viewer show them.

Modules are imported when they are first used: ``from morula import workflows`` takes no time, ``workflows.train.train(job)`` imports
PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from morula.workflows import adjust as adjust
    from morula.workflows import batch as batch
    from morula.workflows import check as check
    from morula.workflows import choose_model as choose_model
    from morula.workflows import compare as compare
    from morula.workflows import corrections as corrections
    from morula.workflows import evaluate as evaluate
    from morula.workflows import export as export
    from morula.workflows import export_model as export_model
    from morula.workflows import in_memory_images as in_memory_images
    from morula.workflows import log as log
    from morula.workflows import measure as measure
    from morula.workflows import network_size as network_size
    from morula.workflows import new as new
    from morula.workflows import predict as predict
    from morula.workflows import predict_images as predict_images
    from morula.workflows import replay as replay
    from morula.workflows import retrain as retrain
    from morula.workflows import review_files as review_files
    from morula.workflows import run as run
    from morula.workflows import segment as segment
    from morula.workflows import slurm as slurm
    from morula.workflows import stages as stages
    from morula.workflows import train as train
    from morula.workflows import transfer as transfer
    from morula.workflows import tune as tune
    from morula.workflows import utilities as utilities

# Modules, not functions: a module and its main function share a name, and an import of the module would shadow the function.
_MODULES = [
    "adjust",
    "batch",
    "check",
    "choose_model",
    "compare",
    "corrections",
    "evaluate",
    "export",
    "export_model",
    "in_memory_images",
    "log",
    "measure",
    "network_size",
    "new",
    "predict",
    "predict_images",
    "replay",
    "retrain",
    "review_files",
    "run",
    "segment",
    "slurm",
    "stages",
    "train",
    "transfer",
    "tune",
    "utilities",
]

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submodules=_MODULES)
