"""Checkpoints: folders that are complete or absent.

A checkpoint is a folder with ``weights.safetensors`` and, for resuming, ``state.pt`` (optimiser, schedule, scaler, position; plain
values and tensors, read with ``weights_only``). It is written next to its place and then swapped in::

    last.new/   written and flushed to disk
    last/    -> last.old/
    last.new/ -> last/
    last.old/   removed

A kill at any moment leaves the old or the new checkpoint, and `find_checkpoint` finds it.
"""

from __future__ import annotations

import io
import pickle
import shutil
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from morula.core.durable import flush, put_in_place
from morula.core.errors import FileWriteError, ModelError
from morula.core.manifest import record

WEIGHTS, STATE = "weights.safetensors", "state.pt"

State: TypeAlias = dict[str, Any]
"""What a checkpoint stores to resume from: numbers, texts, tensors, and lists and mappings of these, as torch's own state dicts."""


def _plain(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # copies: safetensors rejects tensors that share memory, and stores the contiguous layout only
    return {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in weights.items()}


def _rebuilt(value: Any) -> Any:
    """The same plain values with one object per text and no other shared objects.

    A pickle refers to an object that occurs again, so without this the file of a resumed training would have other bytes.
    """
    if isinstance(value, Mapping):
        return {_rebuilt(key): _rebuilt(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_rebuilt(inner) for inner in value)
    return sys.intern(value) if type(value) is str else value


def save_checkpoint(folder: Path, weights: Mapping[str, Tensor], state: State | None = None) -> None:
    """Write (or replace) the checkpoint `folder`.

    Raises:
        FileWriteError: when the disk is full or the place cannot be written; the old checkpoint stays.
    """
    fresh, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        (fresh / WEIGHTS).write_bytes(save(_plain(weights)))
        if state is not None:
            buffer = io.BytesIO()
            torch.save(_rebuilt(state), buffer)  # directly into a file, torch reports a full disk as a RuntimeError without a reason
            (fresh / STATE).write_bytes(buffer.getvalue())
        flush(fresh)
        record(folder, fresh)
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        put_in_place(fresh, folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise FileWriteError(
            "checkpoint.not_written",
            f"the checkpoint cannot be written: {error}",
            file=folder,
            remedy="An earlier checkpoint still exists: free disk space or permit writing, then resume.",
        ) from error


def find_checkpoint(folder: Path) -> Path | None:
    """The folder that holds the checkpoint, or `None`; after a kill in the middle of the swap it is the old one."""
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
        raise _unreadable(folder / WEIGHTS, error) from error


def load_state_of(folder: Path) -> State:
    """The state in a checkpoint, on the CPU.

    Raises:
        ModelError: when the file is damaged or absent.
    """
    try:
        if not zipfile.is_zipfile(folder / STATE):  # torch would try to read it as a legacy pickle
            raise EOFError("the file is incomplete")
        state = torch.load(folder / STATE, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise _unreadable(folder / STATE, error) from error
    assert isinstance(state, dict)
    return state


def _unreadable(path: Path, error: Exception) -> ModelError:
    remedy = "Restore the file from a copy, or train again."
    return ModelError("checkpoint.unreadable", f"the file of the checkpoint cannot be read: {error}", file=path, remedy=remedy)
