"""Weights on disk: safetensors and a JSON side-car that says what they belong to, tested when they are loaded."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
import struct
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from morula.core.atomic import atomic
from morula.core.errors import MissingFileError, ModelError, OptionError, UnknownNameError
from morula.nn.build import build_network, kind_of
from morula.nn.network import Network

WEIGHTS = "weights.safetensors"
SIDECAR = "model.json"
FORMAT = 1
VERSION = version("morula")
TOLERANCE = 1e-4  # of the largest test output; other processors round differently by about 1e-6 of it
_INPUT, _OUTPUT = "test:input", "test:output:"  # no parameter's name holds a colon
# what PyTorch's reader raises on bytes that are no checkpoint, found by feeding it such bytes
_DAMAGED = (RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, OSError, AssertionError, struct.error)


class StoredModel(NamedTuple):
    """A network in evaluation mode on the CPU, and all that its side-car says."""

    network: Network
    sidecar: dict[str, Any]


def save_weights(folder: str | Path, network: Network, sidecar: Mapping[str, Any], example: Tensor) -> list[Path]:
    """Write a network's weights and its side-car into a folder, each file whole or not at all.

    The network is run once on the example, on the CPU in float32; input and outputs are stored and compared when it is loaded.

    Args:
        folder: made when missing.
        network: as `build_network` made it, on any device; stays as it is.
        sidecar: what else the side-car shall say (normalisation, voxel size, channels, ...), JSON-able.
        example: input, NC(Z)YX; keep it small.

    Returns:
        Paths of the two files.

    Raises:
        OptionError: when `sidecar` has a key that is written anyway.
        ModelError: when the network's output for the example is not finite.
        FileWriteError: when the folder cannot be written.
    """
    folder = Path(folder)
    twin = copy.deepcopy(network).cpu().float().eval()
    example = example.detach().cpu().float()
    with torch.no_grad():
        outputs = twin(example)
    if not all(bool(output.isfinite().all()) for output in outputs.values()):
        raise ModelError(
            "the network's test output is not finite, so it was not stored: its weights or the test input are not. Train again."
        )
    tensors = {**network.state_dict(), _INPUT: example, **{_OUTPUT + name: output for name, output in outputs.items()}}
    content = save({name: values.detach().cpu().contiguous().clone() for name, values in tensors.items()})
    described = {
        "format": FORMAT,
        "morula": VERSION,
        "torch": torch.__version__,
        "network": {
            "kind": kind_of(network.options),
            "options": network.options.model_dump(mode="json", exclude={"kind", "from_"}),
            "ndim": network.ndim,
            "in_channels": network.in_channels,
            "heads": network.heads,
        },
        "weights": {"file": WEIGHTS, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)},
    }
    taken = sorted(set(described) & set(sidecar))
    if taken:
        raise OptionError(f"the side-car's key(s) {', '.join(taken)} are written by Morula itself. Choose other names.")
    text = json.dumps({**described, **sidecar}, indent=2, ensure_ascii=False, allow_nan=False)

    paths = [folder / WEIGHTS, folder / SIDECAR]
    with atomic(paths[0]) as weights, atomic(paths[1]) as description:  # both are complete before either gets its name
        weights.write_bytes(content)
        description.write_text(text + "\n", encoding="utf-8")
    return paths


def update_sidecar(folder: str | Path, **facts: Any) -> Path:
    """Replace what a stored model's side-car says under some keys of ours; the weights stay.

    Raises:
        OptionError: for a key that is not in it.
        MissingFileError: when there is no side-car.
    """
    folder = Path(folder)
    sidecar = read_sidecar(folder)
    surplus = sorted(set(facts) - set(sidecar))
    if surplus:
        raise OptionError(f"the side-car has no key {', '.join(surplus)}; it has {', '.join(sidecar)}.")
    with atomic(folder / SIDECAR) as part:
        part.write_text(json.dumps({**sidecar, **facts}, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    return folder / SIDECAR


def load_weights(folder: str | Path) -> StoredModel:
    """The network that `save_weights` wrote into this folder, after its checksum and its test output were compared.

    Raises:
        MissingFileError: when one of the files is not there.
        ModelError: when a file is damaged or does not belong to the other, the format is newer, tensors do not fit the
            network, or the network's answer to the stored test input is not the stored one.
    """
    folder = Path(folder)
    sidecar = read_sidecar(folder)
    path = folder / str(sidecar["weights"]["file"])
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist, but {folder / SIDECAR} needs it. Copy the whole folder of the model.")
    tensors = _checked_tensors(path, sidecar["weights"])
    network = _rebuilt(sidecar["network"], folder / SIDECAR)
    tests = {name: tensors.pop(name) for name in list(tensors) if name == _INPUT or name.startswith(_OUTPUT)}
    fill(network, tensors, source=str(path))
    network.eval()
    _check_answer(network, tests, path)
    return StoredModel(network, sidecar)


def read_sidecar(folder: str | Path) -> dict[str, Any]:
    """What the side-car of a stored model says, without reading its weights.

    Raises:
        MissingFileError: when there is none.
        ModelError: when it is damaged or its format is newer.
    """
    path = Path(folder) / SIDECAR
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist; a model is a folder with {WEIGHTS} and {SIDECAR}. Name such a folder.")
    try:
        sidecar = json.loads(path.read_text(encoding="utf-8"))
        version = int(sidecar["format"])
        for part, keys in (("network", {"kind", "options", "ndim", "in_channels", "heads"}), ("weights", {"file", "sha256", "bytes"})):
            if version <= FORMAT and not keys <= set(sidecar[part]):
                raise KeyError(part)
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path} is damaged: it is not the description of a model ({error!r}). Copy the model again.") from error
    if version > FORMAT:
        raise ModelError(
            f"{path} has format {version}, written by Morula {sidecar.get('morula', '?')}; "
            f"this is Morula {VERSION}, which reads formats up to {FORMAT}. Update Morula."
        )
    return dict(sidecar)


def fill(network: torch.nn.Module, tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Give a network these weights; names and shapes must be its own, all of them.

    Raises:
        ModelError: naming what is missing, surplus or of another shape; the network is then unchanged.
    """
    own = network.state_dict()
    faults = [f"{name} is missing" for name in own if name not in tensors]
    faults += [f"{name} is not part of the network" for name in tensors if name not in own]
    faults += [
        f"{name} has shape {tuple(tensors[name].shape)} instead of {tuple(values.shape)}"
        for name, values in own.items()
        if name in tensors and tensors[name].shape != values.shape
    ]
    if faults:
        shown = "; ".join(faults[:5]) + (f"; and {len(faults) - 5} more" if len(faults) > 5 else "")
        raise ModelError(f"the weights in {source} do not fit the network: {shown}. Use weights of the same network and options.")
    network.load_state_dict(dict(tensors))


def read_checkpoint(path: str | Path, *, stand_ins: Mapping[str, type] | None = None) -> Any:
    """What PyTorch stored in a file: tensors and plain values, never code.

    Args:
        path: the file.
        stand_ins: classes to be used in place of foreign ones, by the full names of those (``"yacs.config.CfgNode"``).

    Raises:
        MissingFileError: when there is no such file.
        ModelError: when the file is damaged or holds other objects.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist. Name a checkpoint file.")
    try:
        with (
            warnings.catch_warnings(action="ignore", category=UserWarning),  # about pickle protocols, which the errors below cover
            torch.serialization.safe_globals([(kind, name) for name, kind in (stand_ins or {}).items()]),
        ):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} cannot be read as weights: it is damaged, or holds Python objects besides tensors, which are refused because "
            f"loading them could run foreign code. Store its state_dict() alone and use that. ({_first_line(error)})"
        ) from error
    except _DAMAGED as error:
        raise ModelError(f"{path} is damaged or no PyTorch checkpoint. Copy it again. ({_first_line(error)})") from error


def load_state_dict_file(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a checkpoint that PyTorch wrote (``.pth``, ``.pt``, ``.pytorch``, ``.ckpt``), by name, on the CPU.

    Only tensors and plain values are read, never code. The tensors may lie at the top or under ``model_state_dict``,
    ``state_dict`` or ``model``.

    Raises:
        MissingFileError: when there is no such file.
        ModelError: when the file is damaged, holds more than weights, or holds no tensors.
    """
    content = read_checkpoint(path)
    for key in ("model_state_dict", "state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content or not all(isinstance(values, Tensor) for values in content.values()):
        raise ModelError(f"{path} holds no weights: a mapping from names to tensors is expected, as state_dict() gives it.")
    return {str(name): values for name, values in content.items()}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _checked_tensors(path: Path, stated: Mapping[str, Any]) -> dict[str, Tensor]:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    size = path.stat().st_size
    if size != stated["bytes"]:
        raise ModelError(f"{path} is damaged: it has {size} bytes instead of {stated['bytes']}. Copy the model again.")
    if digest.hexdigest() != stated["sha256"]:
        raise ModelError(
            f"{path} is not the file that {SIDECAR} describes: its SHA-256 is {digest.hexdigest()[:12]}… instead of "
            f"{str(stated['sha256'])[:12]}…. It is damaged or belongs to another model; copy both files again."
        )
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except SafetensorError as error:
        raise ModelError(f"{path} is no safetensors file ({error}). Copy the model again.") from error


def _rebuilt(described: Mapping[str, Any], path: Path) -> Network:
    try:
        settings = {**described["options"], "kind": described["kind"]}
        return build_network(settings, described["ndim"], described["in_channels"], described["heads"])
    except (ValidationError, UnknownNameError, OptionError, TypeError) as error:
        raise ModelError(
            f"{path} describes a network that this Morula {VERSION} cannot build: {error} Use the version that wrote it."
        ) from error


def _check_answer(network: Network, tests: dict[str, Tensor], path: Path) -> None:
    if set(tests) != {_INPUT, *(_OUTPUT + name for name in network.heads)}:
        raise ModelError(f"{path} lacks its test input and outputs. Copy the model again.")
    with torch.no_grad():
        answers = network(tests[_INPUT])
    for name, answer in answers.items():
        expected = tests[_OUTPUT + name]
        if answer.shape != expected.shape or not torch.allclose(
            answer, expected, rtol=0, atol=TOLERANCE * (1 + float(expected.abs().max()))
        ):
            worst = float((answer - expected).abs().max()) if answer.shape == expected.shape else float("inf")
            raise ModelError(
                f"the model in {path.parent} does not give its own test output: head {name} is off by {worst:.3g}. "
                "It was written by another version or is damaged; use the version that wrote it."
            )
