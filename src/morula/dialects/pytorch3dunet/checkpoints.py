"""Checkpoints in the format of pytorch-3dunet, which it can load, and from which a training of Morula resumes exactly.

::

    num_epochs, num_iterations, model_state_dict, best_eval_score, optimizer_state_dict    read by both programs
    morula                                                                                 the rest of the native state
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import torch

from morula.core.atomic import atomic
from morula.core.errors import FileWriteError, ModelError
from morula.dialects.pytorch3dunet.networks import HEAD, Model, native_names, original_state_dict
from morula.models.model import Model as NativeModel
from morula.nn import weights

LAST, BEST = "last_checkpoint.pytorch", "best_checkpoint.pytorch"
OWN = "morula"
"""Key of the part that only Morula reads, to resume exactly. The original ignores it."""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU.

    Raises:
        MissingFileError: when there is no such file.
        ModelError: when it is damaged, or has anything but tensors and plain values.
    """
    content = weights.read_checkpoint(Path(path).expanduser())
    if not isinstance(content, dict):
        rule = f"must be a mapping, not a {type(content).__name__}"
        raise ModelError("checkpoint.not_a_mapping", rule, file=path, remedy="Name a checkpoint of pytorch-3dunet.")
    return content


def write_checkpoint(folder: Path, model: Model, state: dict[str, Any], *, score: float, is_best: bool) -> list[Path]:
    """Write ``last_checkpoint.pytorch``, and ``best_checkpoint.pytorch`` when the weights are the best.

    Args:
        folder: folder of both.
        model: the network.
        state: the native state to resume from.
        score: the best score of a validation so far.
        is_best: whether these weights have it.

    Raises:
        FileWriteError: when they cannot be written; the former files are kept.
    """
    position = state["position"]
    document = {
        # the original counts an epoch that has begun
        "num_epochs": position["epoch"] + (1 if position["batch"] else 0),
        "num_iterations": position["step"],
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
                # a copy, because serialising a large network a second time is slower
                shutil.copyfile(folder / LAST, part)
            written.append(folder / BEST)
    except (OSError, RuntimeError) as error:
        raise FileWriteError(
            "checkpoint.not_writable",
            f"the checkpoint in {str(folder)!r} cannot be written: {error}",
            remedy="Free disk space or correct the permissions.",
        ) from error
    return written


class UNet3DCheckpoint:
    """The `morula.models.checkpoint_formats.CheckpointFormat` of pytorch-3dunet, whose weights a native training can start from."""

    @staticmethod
    def recognises(path: Path) -> bool:
        """Whether the file has the weights of a network of pytorch-3dunet."""
        return any(".basic_module." in name for name in _tensors(path))

    @staticmethod
    def model(path: Path) -> NativeModel:
        """The trained model. The file holds weights only: what its outputs mean and how images are scaled is in the job file beside it.

        Raises:
            ModelError: where there is no such job, or the two do not belong together.
        """
        from morula.dialects.pytorch3dunet.stored_model import model_with_job  # it imports the engine, which imports this

        return model_with_job(path, native_names(_tensors(path)))

    @staticmethod
    def network_options(path: Path) -> tuple[str, dict[str, Any]]:
        """Kind of the network, and the options that follow from the names and shapes of its weights."""
        tensors = native_names(_tensors(path))
        # the second convolution of a block gives its channels, whichever of the two increases them
        second = re.compile(r"encoder\.(\d+)\.second\..*convolution\.weight")
        widths = {int(found.group(1)): len(values) for name, values in tensors.items() if (found := second.match(name))}
        blocks = {".attention.": "residual_se", ".shortcut.": "residual"}
        block = next((block for part, block in blocks.items() if any(part in name for name in tensors)), "double")
        return "ordered_unet", {"features": tuple(widths[level] for level in sorted(widths)), "block": block}

    @staticmethod
    def tensors(path: Path) -> dict[str, torch.Tensor]:
        """Weights by the names of the native network; those of the output also under the name of the head of a semantic method."""
        tensors = native_names(_tensors(path))
        outputs = {name.replace(f".{HEAD}.", ".classes."): values for name, values in tensors.items() if name.startswith("outputs.")}
        return tensors | outputs


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    document = read_checkpoint(path)
    state = document.get("model_state_dict", document)
    return {str(name).removeprefix("module."): values for name, values in state.items() if isinstance(values, torch.Tensor)}
