"""Weights on disk: a safetensors file and ``model.json``, its description, both verified when they are loaded.

``weights.safetensors`` also contains a test input and the outputs of the network for it. Loading compares the checksum, all names and
shapes, and the recomputed outputs, so a model that loads predicts what it predicted when it was stored.
"""

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
TOLERANCE = 1e-4  # relative to the largest test output; rounding differs between processors by about 1e-6 of it
_INPUT, _OUTPUT = "test:input", "test:output:"  # names of parameters contain no colon
# errors of torch.load for files that are no checkpoints, found by trying
_DAMAGED = (RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, OSError, AssertionError, struct.error)


class StoredModel(NamedTuple):
    """A network in evaluation mode on the CPU, and the content of its ``model.json``."""

    network: Network
    sidecar: dict[str, Any]


def save_weights(folder: str | Path, network: Network, sidecar: Mapping[str, object], example: Tensor) -> list[Path]:
    """Write the weights of a network and their description into a folder, each file completely or not at all.

    The network is run once with the example, on the CPU in float32; input and outputs are stored and compared when it is loaded.

    Args:
        folder: created when missing.
        network: a network of `build_network`, on any device; it is not changed.
        sidecar: further content of ``model.json`` (normalisation, voxel size, channels, ...), of JSON types.
        example: input, NC(Z)YX; keep it small.

    Returns:
        Paths of the two files.

    Raises:
        OptionError: when `sidecar` has a key that is reserved.
        ModelError: when the output of the network for the example is not finite.
        FileWriteError: when the folder cannot be written.
    """
    folder = Path(folder)
    # on a copy, because the caller continues to train on its device
    twin = copy.deepcopy(network).cpu().float().eval()
    example = example.detach().cpu().float()
    with torch.no_grad():
        outputs = twin(example)
    if not all(bool(output.isfinite().all()) for output in outputs.values()):
        raise ModelError(
            "weights.not_finite",
            "the output of the network for the test input contains NaN or infinity, so it was not stored",
            remedy="Train again, with a lower training.optimiser.lr.",
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
        raise OptionError(
            "model.reserved_key", "these keys are written by Morula itself", key="sidecar", value=taken, remedy="Use other names."
        )
    text = json.dumps({**described, **sidecar}, indent=2, ensure_ascii=False, allow_nan=False)

    paths = [folder / WEIGHTS, folder / SIDECAR]
    with atomic(paths[0]) as weights, atomic(paths[1]) as description:  # both files are complete before either gets its name
        weights.write_bytes(content)
        description.write_text(text + "\n", encoding="utf-8")
    return paths


def update_sidecar(folder: str | Path, **facts: object) -> Path:
    """Replace entries of the ``model.json`` of a stored model; the weights stay.

    Raises:
        OptionError: for a key that it does not have.
        MissingFileError: when there is no ``model.json``.
    """
    folder = Path(folder)
    sidecar = read_sidecar(folder)
    surplus = sorted(set(facts) - set(sidecar))
    if surplus:
        raise OptionError(
            "model.unknown_key", f"{SIDECAR} has no such keys; it has {', '.join(sidecar)}", value=surplus, file=folder / SIDECAR
        )
    with atomic(folder / SIDECAR) as part:
        part.write_text(json.dumps({**sidecar, **facts}, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    return folder / SIDECAR


def load_weights(folder: str | Path) -> StoredModel:
    """Load the network that `save_weights` wrote into a folder, and verify its checksum and its test output.

    Raises:
        MissingFileError: when one of the files does not exist.
        ModelError: when a file is damaged or does not belong to the other, the format is newer, tensors do not fit the
            network, or the output of the network for the stored test input is not the stored one.
    """
    folder = Path(folder)
    sidecar = read_sidecar(folder)
    path = folder / str(sidecar["weights"]["file"])
    if not path.is_file():
        raise MissingFileError(
            "model.weights_missing", f"{SIDECAR} refers to this file", file=path, remedy="Copy the whole folder of the model."
        )
    tensors = _checked_tensors(path, sidecar["weights"])
    network = _rebuilt(sidecar["network"], folder / SIDECAR)
    # test data are stored with the weights, so that both have one checksum
    tests = {name: tensors.pop(name) for name in list(tensors) if name == _INPUT or name.startswith(_OUTPUT)}
    fill(network, tensors, source=str(path))
    network.eval()
    _check_test_output(network, tests, path)
    return StoredModel(network, sidecar)


def read_sidecar(folder: str | Path) -> dict[str, Any]:
    """The content of the ``model.json`` of a stored model, without reading its weights.

    Raises:
        MissingFileError: when there is none.
        ModelError: when it is damaged or its format is newer.
    """
    path = Path(folder) / SIDECAR
    if not path.is_file():
        raise MissingFileError(
            "model.missing", f"a model is a folder with {WEIGHTS} and {SIDECAR}", file=path, remedy="Give the path of such a folder."
        )
    try:
        sidecar = json.loads(path.read_text(encoding="utf-8"))
        version = int(sidecar["format"])
        for part, keys in (("network", {"kind", "options", "ndim", "in_channels", "heads"}), ("weights", {"file", "sha256", "bytes"})):
            if version <= FORMAT and not keys <= set(sidecar[part]):
                raise KeyError(part)
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            "model.damaged", f"is not the description of a model ({error!r})", file=path, remedy="Copy the model again."
        ) from error
    if version > FORMAT:
        rule = f"was written by Morula {sidecar.get('morula', '?')}; Morula {VERSION} reads formats up to {FORMAT}"
        raise ModelError("model.newer_format", rule, key="format", value=version, file=path, remedy="Update Morula.")
    return dict(sidecar)


def fill(network: torch.nn.Module, tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Load weights into a network; all names and shapes must be those of the network.

    Raises:
        ModelError: when a tensor is missing, unknown or of another shape; the network is then unchanged.
    """
    own = network.state_dict()
    # everything is compared first: load_state_dict would change a part of the network before it fails
    faults = [f"{name} is missing" for name in own if name not in tensors]
    faults += [f"{name} is not part of the network" for name in tensors if name not in own]
    faults += [
        f"{name} has shape {tuple(tensors[name].shape)} instead of {tuple(values.shape)}"
        for name, values in own.items()
        if name in tensors and tensors[name].shape != values.shape
    ]
    if faults:
        shown = "; ".join(faults[:5]) + (f"; and {len(faults) - 5} more" if len(faults) > 5 else "")
        rule = f"the weights do not fit the network: {shown}"
        raise ModelError("weights.other_network", rule, file=source, remedy="Use weights of the same network and options.")
    network.load_state_dict(dict(tensors))


def read_checkpoint(path: str | Path, *, stand_ins: Mapping[str, type] | None = None) -> Any:
    """Read a checkpoint of PyTorch: tensors and plain values, never code.

    Args:
        path: the file.
        stand_ins: classes that replace foreign ones, by the full names of the foreign ones (``"yacs.config.CfgNode"``).

    Raises:
        MissingFileError: when the file does not exist.
        ModelError: when the file is damaged or contains other objects.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError("checkpoint.missing", "the checkpoint does not exist", file=path)
    try:
        with (
            warnings.catch_warnings(action="ignore", category=UserWarning),  # about pickle protocols, which the errors below cover
            torch.serialization.safe_globals([(kind, name) for name, kind in (stand_ins or {}).items()]),
        ):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            "checkpoint.objects",
            "the file is damaged, or contains Python objects besides tensors, which are rejected because loading them could run code "
            f"({_first_line(error)})",
            file=path,
            remedy="Store only its state_dict(), and use that file.",
        ) from error
    except _DAMAGED as error:
        rule = f"the file is damaged or no checkpoint of PyTorch ({_first_line(error)})"
        raise ModelError("checkpoint.damaged", rule, file=path, remedy="Copy it again.") from error


def load_state_dict_file(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a checkpoint of PyTorch (``.pth``, ``.pt``, ``.pytorch``, ``.ckpt``), by name, on the CPU.

    Only tensors and plain values are read, never code. The tensors may be at the top level or under ``model_state_dict``,
    ``state_dict`` or ``model``.

    Raises:
        MissingFileError: when the file does not exist.
        ModelError: when the file is damaged, or contains other objects or no tensors.
    """
    content = read_checkpoint(path)
    for key in ("model_state_dict", "state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content or not all(isinstance(values, Tensor) for values in content.values()):
        raise ModelError("checkpoint.no_weights", "must contain a mapping from names to tensors, as state_dict() returns it", file=path)
    return {str(name): values for name, values in content.items()}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _checked_tensors(path: Path, stated: Mapping[str, object]) -> dict[str, Tensor]:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    size = path.stat().st_size
    if size != stated["bytes"]:
        rule = f"the file is damaged: it must have {stated['bytes']} bytes, but has {size}"
        raise ModelError("weights.size", rule, file=path, remedy="Copy the model again.")
    if digest.hexdigest() != stated["sha256"]:
        raise ModelError(
            "weights.checksum",
            f"the file is damaged or belongs to another model: its SHA-256 is {digest.hexdigest()[:12]}…, in {SIDECAR} "
            f"{str(stated['sha256'])[:12]}…",
            file=path,
            remedy="Copy both files of the model again.",
        )
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except SafetensorError as error:
        raise ModelError(
            "weights.no_safetensors", f"is no safetensors file ({error})", file=path, remedy="Copy the model again."
        ) from error


def _rebuilt(described: Mapping[str, Any], path: Path) -> Network:
    try:
        settings = {**described["options"], "kind": described["kind"]}
        return build_network(settings, described["ndim"], described["in_channels"], described["heads"])
    except (ValidationError, UnknownNameError, OptionError, TypeError) as error:
        rule = f"describes a network that Morula {VERSION} cannot build: {error}"
        raise ModelError("model.unknown_network", rule, file=path, remedy="Use the version that wrote it.") from error


def _check_test_output(network: Network, tests: dict[str, Tensor], path: Path) -> None:
    if set(tests) != {_INPUT, *(_OUTPUT + name for name in network.heads)}:
        raise ModelError("weights.no_test_data", "the test input and outputs are missing", file=path, remedy="Copy the model again.")
    with torch.no_grad():
        answers = network(tests[_INPUT])
    for name, answer in answers.items():
        expected = tests[_OUTPUT + name]
        if answer.shape != expected.shape or not torch.allclose(
            answer, expected, rtol=0, atol=TOLERANCE * (1 + float(expected.abs().max()))
        ):
            worst = float((answer - expected).abs().max()) if answer.shape == expected.shape else float("inf")
            raise ModelError(
                "weights.test_output",
                f"the network does not reproduce its stored test output: head {name} differs by {worst:.3g}",
                key=name,
                file=path.parent,
                remedy="The model is damaged or was written by another version: copy it again, or use the version that wrote it.",
            )
