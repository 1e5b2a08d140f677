"""Self-supervised pretraining of BiaPy's job files as native methods."""

from __future__ import annotations

import math

from morula.dialects.biapy.image_losses import image_losses
from morula.dialects.biapy.settings import Settings
from morula.dialects.converted import Value

_PRETEXT = "PROBLEM.SELF_SUPERVISED.PRETEXT_TASK"


def pretraining_of(settings: Settings) -> dict[str, Value]:
    """The method `masked_autoencoder` or `crappify`."""
    masks, task = _masks(settings), pretext_of(settings)
    settings.resolve(_PRETEXT, task)
    # the network mae hides boxes itself; any other network has nothing that it could hide
    if masks != (task == "masking"):
        settings.wrong(
            "biapy.contradiction",
            "MODEL.ARCHITECTURE",
            f"does not fit PRETEXT_TASK {task}",
            "Write mae with masking, and any other network with crappify.",
        )
    if task == "masking":
        kind = settings.text("MODEL.MAE_MASK_TYPE")
        ratio: dict[str, Value] = {"ratio": settings.number("MODEL.MAE_MASK_RATIO")} if kind == "random" else {}
        return {"kind": "masked_autoencoder", "mask": kind, **ratio}
    # RESIZING_FACTOR says by how much the voxels of a plane become fewer, the native factor is that of an edge
    factor = math.sqrt(max(settings.whole("PROBLEM.SELF_SUPERVISED.RESIZING_FACTOR"), 0))
    return {"kind": "crappify", **settings.native("method"), "factor": factor, "losses": image_losses(settings)}


def pretext_of(settings: Settings) -> str:
    """The pretext task; where none is stated it follows from the network."""
    return settings.text(_PRETEXT) if _PRETEXT in settings else "masking" if _masks(settings) else "crappify"


def _masks(settings: Settings) -> bool:
    return settings.text("MODEL.ARCHITECTURE").lower() == "mae"
