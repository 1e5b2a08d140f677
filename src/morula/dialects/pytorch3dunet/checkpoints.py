"""The checkpoints of pytorch-3dunet: written so that it loads them, and so that a training of Morula continues exactly."""

from __future__ import annotations

import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import torch

from morula.core.atomic import atomic
from morula.core.errors import FileWriteError, MissingFileError, ModelError
from morula.dialects.pytorch3dunet.networks import HEAD, Model, native_names, original_state_dict

LAST, BEST = "last_checkpoint.pytorch", "best_checkpoint.pytorch"
OWN = "morula"
"""Key of what only Morula reads: everything to continue exactly. The original passes over it."""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """What a checkpoint holds, on the CPU.

    Raises:
        MissingFileError: when there is no such file.
        ModelError: when it is damaged, or holds anything but tensors and plain values.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise MissingFileError("checkpoint.missing", f"there is no checkpoint {str(path)!r}", remedy="Check the path.")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError) as error:
        raise ModelError(
            "checkpoint.unreadable",
            f"the checkpoint {str(path)!r} cannot be read: {error}",
            remedy="Restore the file; only tensors and plain values are taken.",
        ) from error
    if not isinstance(found, dict):
        raise ModelError(
            "checkpoint.not_a_mapping",
            f"the checkpoint {str(path)!r} holds a {type(found).__name__}, not a mapping",
            remedy="Name a checkpoint of pytorch-3dunet.",
        )
    return found


def write_checkpoint(folder: Path, model: Model, state: dict[str, Any], *, score: float, is_best: bool) -> list[Path]:
    """Write ``last_checkpoint.pytorch``, and ``best_checkpoint.pytorch`` when this is the best one.

    Args:
        folder: where to.
        model: the network as it is now.
        state: the native state to resume from.
        score: the best score of a validation so far.
        is_best: whether these weights have it.

    Raises:
        FileWriteError: when they cannot be written; those before stay.
    """
    here = state["position"]
    document = {
        "num_epochs": here["epoch"] + (1 if here["batch"] else 0),
        "num_iterations": here["step"],
        "model_state_dict": {name: value.detach().cpu().contiguous() for name, value in original_state_dict(model).items()},
        "best_eval_score": score,
        "optimizer_state_dict": state["optimiser"],
        OWN: {key: value for key, value in state.items() if key != "optimiser"},
    }
    written = [folder / LAST]
    try:
        with atomic(folder / LAST) as part:
            torch.save(document, part)
        if is_best:
            with atomic(folder / BEST) as part:
                shutil.copyfile(folder / LAST, part)
            written.append(folder / BEST)
    except (OSError, RuntimeError) as error:
        raise FileWriteError(
            "checkpoint.not_writable",
            f"the checkpoint in {str(folder)!r} cannot be written: {error}",
            remedy="Free space or permit writing.",
        ) from error
    return written


class UNet3DCheckpoint:
    """The `morula.models.checkpoint_formats.CheckpointFormat` of pytorch-3dunet: its weights as weights to start from."""

    @staticmethod
    def recognises(path: Path) -> bool:
        """Whether the file holds the weights of a network of pytorch-3dunet."""
        return any(".basic_module." in name for name in _tensors(path))

    @staticmethod
    def network_options(path: Path) -> tuple[str, dict[str, Any]]:
        """Kind of the network, and what of its options the shapes of the weights tell."""
        tensors = native_names(_tensors(path))
        second = re.compile(r"encoder\.(\d+)\.second\..*convolution\.weight")
        widths = {int(found.group(1)): len(values) for name, values in tensors.items() if (found := second.match(name))}
        residual = any(".attention." in name for name in tensors), any(".shortcut." in name for name in tensors)
        block = "residual_se" if residual[0] else "residual" if residual[1] else "double"
        return "ordered_unet", {"features": tuple(widths[level] for level in sorted(widths)), "block": block}

    @staticmethod
    def tensors(path: Path) -> dict[str, torch.Tensor]:
        """Weights by the names of the native network; those of the output for the head of either method."""
        tensors = native_names(_tensors(path))
        outputs = {name.replace(f".{HEAD}.", ".classes."): values for name, values in tensors.items() if name.startswith("outputs.")}
        return tensors | outputs


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    document = read_checkpoint(path)
    state = document.get("model_state_dict", document)
    return {str(name).removeprefix("module."): values for name, values in state.items() if isinstance(values, torch.Tensor)}
