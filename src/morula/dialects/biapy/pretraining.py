"""Self-supervised pretraining of BiaPy's job files as native methods."""

from __future__ import annotations

import math

from morula.core.family import did_you_mean
from morula.dialects.biapy.settings import Settings
from morula.dialects.converted import Value

_PRETEXT = "PROBLEM.SELF_SUPERVISED.PRETEXT_TASK"
_LOSSES = {"MAE": "l1", "MSE": "mse", "SSIM": "ssim"}
_LOSSES_OF_CLASSES = ("CE", "W_CE_DICE", "MASKED_BCE")
"""Those that job files of early versions state in every workflow, because the first was the default."""


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
    return {"kind": "crappify", **settings.native("method"), "factor": factor, "losses": _losses(settings)}


def pretext_of(settings: Settings) -> str:
    """The pretext task; where none is stated it follows from the network."""
    return settings.text(_PRETEXT) if _PRETEXT in settings else "masking" if _masks(settings) else "crappify"


def _masks(settings: Settings) -> bool:
    return settings.text("MODEL.ARCHITECTURE").lower() == "mae"


def losses_of(settings: Settings) -> list[str]:
    """Losses of crappify by BiaPy's names. Early versions took the mean absolute error, whatever the file said."""
    names = [name.upper() for name in settings.texts("LOSS.TYPE")] or ["MAE"]
    if len(names) == 1 and names[0] in _LOSSES_OF_CLASSES:
        settings.note(f"LOSS.TYPE {names[0]} compares classes: crappify learns by MAE, as in the versions that allowed it here.")
        return ["MAE"]
    return names


def _losses(settings: Settings) -> dict[str, Value]:
    names = losses_of(settings)
    weights = settings.numbers("LOSS.WEIGHTS") or [1.0] * len(names)
    unknown = [name for name in names if name not in _LOSSES]
    if unknown:
        close = did_you_mean(unknown[0], list(_LOSSES)).strip()
        settings.wrong(
            "biapy.unknown_value", "LOSS.TYPE", f"names {unknown[0]!r}, which is not supported; known are {', '.join(_LOSSES)}", close
        )
    elif len(names) != len(weights):
        settings.wrong("biapy.wrong_length", "LOSS.WEIGHTS", "has the wrong length: one weight per entry of LOSS.TYPE is expected")
    else:
        return {_LOSSES[name]: weight for name, weight in zip(names, weights, strict=True)}
    return {"l1": 1.0}
