"""Self-supervised pretraining of BiaPy's job files as our methods."""

from __future__ import annotations

import math
from typing import Any

from morula.core.family import did_you_mean
from morula.dialects.biapy.settings import Settings

_LOSSES = {"MAE": "l1", "MSE": "mse", "SSIM": "ssim"}


def pretraining_of(settings: Settings) -> dict[str, Any]:
    """Masking or crappification."""
    of = "PROBLEM.SELF_SUPERVISED"
    masks = str(settings["MODEL.ARCHITECTURE"]).lower() == "mae"
    stated = settings[f"{of}.PRETEXT_TASK"]
    if masks != (stated == "masking"):
        settings.wrong(
            "MODEL.ARCHITECTURE", f"does not fit PRETEXT_TASK {stated}: masking is learned by mae, crappify by any other network."
        )
    if stated == "masking":
        kind = settings["MODEL.MAE_MASK_TYPE"]
        ratio = {"ratio": settings["MODEL.MAE_MASK_RATIO"]} if kind == "random" else {}
        return {"kind": "masked_autoencoder", "mask": kind, **ratio}
    factor = math.sqrt(settings[f"{of}.RESIZING_FACTOR"])  # BiaPy states by how much the voxels of a plane become fewer
    return {"kind": "crappify", "noise": settings[f"{of}.NOISE"], "factor": factor, "losses": _losses(settings)}


def _losses(settings: Settings) -> dict[str, float]:
    names = [str(name).upper() for name in settings["LOSS.TYPE"]] or ["MAE"]
    weights = settings["LOSS.WEIGHTS"] or [1.0] * len(names)
    unknown = [name for name in names if name not in _LOSSES]
    if unknown:
        close = did_you_mean(unknown[0], list(_LOSSES))
        settings.wrong("LOSS.TYPE", f"{unknown[0]!r} is not known here; known are {', '.join(_LOSSES)}.{close}")
        return {"l1": 1.0}
    if len(names) != len(weights):
        settings.wrong("LOSS.WEIGHTS", "one weight an entry of LOSS.TYPE is expected.")
        return {"l1": 1.0}
    return {_LOSSES[name]: float(weight) for name, weight in zip(names, weights, strict=True)}
