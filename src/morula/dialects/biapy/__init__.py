"""Job files and checkpoints of BiaPy 3.0 to 3.7. Names are imported when they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

__all__ = ["CheckpointWarning", "is_biapy_checkpoint", "load_biapy_checkpoint"]

if TYPE_CHECKING:
    from morula.dialects.biapy import convert as convert
    from morula.dialects.biapy import experiment as experiment
    from morula.dialects.biapy import folders as folders
    from morula.dialects.biapy import predict as predict
    from morula.dialects.biapy import settings as settings
    from morula.dialects.biapy.checkpoint import CheckpointWarning as CheckpointWarning
    from morula.dialects.biapy.checkpoint import is_biapy_checkpoint as is_biapy_checkpoint
    from morula.dialects.biapy.checkpoint import load_biapy_checkpoint as load_biapy_checkpoint


__getattr__, __dir__, _ = lazy_loader.attach(
    __name__, ["convert", "experiment", "folders", "predict", "settings"], submod_attrs={"checkpoint": __all__}
)
