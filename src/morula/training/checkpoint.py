"""Checkpoints: folders that are whole or absent.

A checkpoint is a folder with ``weights.safetensors``, for resuming also ``state.pt`` (optimiser, schedule, scaler, position; plain
values and tensors, read with ``weights_only``). It is written beside its place and then swapped in, so that a kill at any moment
leaves the old or the new one.
"""

from __future__ import annotations

import io
import os
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from morula.core.errors import FileWriteError, ModelError

WEIGHTS, STATE = "weights.safetensors", "state.pt"


def _plain(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    # copies: safetensors refuses tensors that share memory, and stores the plain layout only
    return {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in weights.items()}


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def save_checkpoint(folder: Path, weights: dict[str, Tensor], state: dict[str, Any] | None = None) -> None:
    """Write (or replace) the checkpoint `folder`.

    Raises:
        FileWriteError: when the disk is full or the place cannot be written; the old checkpoint stays.
    """
    fresh, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        (fresh / WEIGHTS).write_bytes(save(_plain(weights)))
        _flush(fresh / WEIGHTS)
        if state is not None:
            buffer = io.BytesIO()
            torch.save(state, buffer)  # into a file it would report a full disk as a RuntimeError without a reason
            (fresh / STATE).write_bytes(buffer.getvalue())
            _flush(fresh / STATE)
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        fresh.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise FileWriteError(
            f"the checkpoint {folder} cannot be written: {error}. "
            "One written before is still there; free space or permit writing, then resume."
        ) from error


def find_checkpoint(folder: Path) -> Path | None:
    """The folder that holds the checkpoint, or `None`; after a kill in the moment of the swap it is the old one."""
    for place in (folder, folder.with_name(folder.name + ".old")):
        if (place / WEIGHTS).is_file():
            return place
    return None


def load_weights_of(folder: Path) -> dict[str, Tensor]:
    """The weights in a checkpoint, on the CPU.

    Raises:
        ModelError: when the file is damaged or absent.
    """
    try:
        return load((folder / WEIGHTS).read_bytes())  # not load_file: a mapped file could not be replaced on Windows
    except (OSError, SafetensorError) as error:
        raise ModelError(f"the weights {folder / WEIGHTS} cannot be read: {error}. Restore the file or train again.") from error


def load_state_of(folder: Path) -> dict[str, Any]:
    """The state in a checkpoint, on the CPU.

    Raises:
        ModelError: when the file is damaged or absent.
    """
    try:
        if not zipfile.is_zipfile(folder / STATE):  # torch would try to read it as a pickle of old
            raise EOFError("the file is not complete")
        state = torch.load(folder / STATE, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ModelError(f"the state {folder / STATE} cannot be read: {error}. Restore the file or train again.") from error
    assert isinstance(state, dict)
    return state
