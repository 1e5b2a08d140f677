"""Weights on disk: a safetensors file and ``model.json``, its description, both verified when they are loaded.

``weights.safetensors`` also contains a test input and the outputs of the network for it. Loading compares the checksum, all names and
shapes, and the recomputed outputs, so a model that loads predicts what it predicted when it was stored.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import pickle
import struct
import warnings
import zipfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from morula.core.atomic import atomic
from morula.core.errors import MissingFileError, ModelError, OptionError, UnknownNameError
from morula.core.options import problem_of
from morula.nn.build import build_network, kind_of, plan_network
from morula.nn.network import Network

WEIGHTS = "weights.safetensors"
SIDECAR = "model.json"
FORMAT = 1
VERSION = version("morula")
TOLERANCE = 1e-4  # relative to the largest test output; rounding differs between processors by about 1e-6 of it
EXAMPLE = "test:"
"""Names of the test input and its outputs begin so; names of parameters contain no colon."""
_INPUT, _OUTPUT = f"{EXAMPLE}input", f"{EXAMPLE}output:"
# errors of torch.load for files that are no checkpoints, found by trying
_DAMAGED = (
    *(zipfile.BadZipFile, struct.error, RuntimeError, OSError, EOFError),
    *(ValueError, LookupError, TypeError, AttributeError, AssertionError),
)


MAX_SIDECAR = 16 << 20
"""Longest ``model.json`` in bytes."""
MAX_EXAMPLE = 1 << 24
"""Most voxels of a stored test input: the network is run on it."""


class _Described(BaseModel):
    """Base of the schema of ``model.json``: wrong types are errors, further keys are kept."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class _NetworkFacts(_Described):
    kind: str
    options: dict[str, Any]
    ndim: Literal[2, 3]
    in_channels: int = Field(ge=1, le=4096)
    heads: dict[str, Annotated[int, Field(ge=1, le=2**16)]] = Field(min_length=1, max_length=256)


class _WeightsFacts(_Described):
    file: str = Field(pattern=r"^[\w.-]+$", max_length=100)
    """A plain file name: a path could lead out of the folder of the model."""
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class Sidecar(_Described):
    """What every ``model.json`` holds."""

    format: int = Field(ge=1, le=FORMAT)
    network: _NetworkFacts
    weights: _WeightsFacts


class StoredModel(NamedTuple):
    """A network in evaluation mode on the CPU, and the content of its ``model.json``."""

    network: Network
    sidecar: dict[str, Any]


def save_weights(folder: str | Path, network: Network, sidecar: Mapping[str, object], example: Tensor, *, half: bool = False) -> list[Path]:
    """Write the weights of a network and their description into a folder, each file completely or not at all.

    The network is run once with the example, on the CPU in double precision; input and outputs are stored and compared when it is loaded.

    Args:
        folder: created when missing.
        network: a network of `build_network`, on any device; it is not changed.
        sidecar: further content of ``model.json`` (normalisation, voxel size, channels, ...), of JSON types.
        example: input, NC(Z)YX; keep it small.
        half: store the weights rounded to float16, which halves the file. The outputs are those of the rounded weights.

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
    stored = network.state_dict()
    if half:
        stored = {name: values.half() if values.is_floating_point() else values for name, values in stored.items()}
        twin = twin.half().float()
    example = example.detach().cpu().float()
    outputs = _test_outputs(twin, example)
    if not all(bool(output.isfinite().all()) for output in outputs.values()):
        raise ModelError(
            "weights.not_finite",
            "the output of the network for the test input contains NaN or infinity, so it was not stored",
            remedy="Train again, with a lower training.optimiser.lr.",
        )
    tensors = {**stored, _INPUT: example, **{_OUTPUT + name: output for name, output in outputs.items()}}
    # the order of the channels is stored beside the weights, whose checksum covers it: swapped names would load and mean other channels
    channels = {"channels": json.dumps(sidecar["channels"])} if "channels" in sidecar else None
    content = save({name: values.detach().cpu().contiguous().clone() for name, values in tensors.items()}, metadata=channels)
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
            "model.unknown_key", f"{SIDECAR} does not have these keys; it has {', '.join(sidecar)}", value=surplus, file=folder / SIDECAR
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
    _check_file(path, sidecar["weights"])
    network = _rebuilt(sidecar["network"], folder / SIDECAR, _shapes_of(path))
    _check_channels(path, sidecar)
    tensors = _tensors(path)
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
    content = read_json(path)
    try:
        if isinstance(content, Mapping) and isinstance(content.get("format"), int) and content["format"] > FORMAT:
            rule = f"was written by Morula {str(content.get('morula', '?'))[:20]}; Morula {VERSION} reads formats up to {FORMAT}"
            raise ModelError("model.newer_format", rule, key="format", value=content["format"], file=path, remedy="Update Morula.")
        Sidecar.model_validate(content)
    except ValidationError as error:
        raise damaged(error, path) from error
    return dict(content)


def read_json(path: Path) -> Any:
    """The content of a JSON file of a model.

    Raises:
        ModelError: when it is no JSON, or larger than `MAX_SIDECAR`.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_SIDECAR + 1)
        if len(text) > MAX_SIDECAR:
            raise ModelError("model.too_large", f"is larger than {MAX_SIDECAR >> 20} MiB", file=path, remedy="Copy the model again.")
        return json.loads(text)
    # ValueError: text that is no JSON or no UTF-8, and integers of thousands of digits; RecursionError: thousands of nested lists
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, ModelError):
            raise
        rule = f"is not the description of a model ({_first_line(error)[:120]})"
        raise ModelError("model.damaged", rule, file=path, remedy="Copy the model again.") from error


def damaged(error: ValidationError, path: Path) -> ModelError:
    """The error for a description that breaks its schema: the first key that does."""
    first = error.errors(include_url=False)[0]
    problem = problem_of(first, ".".join(map(str, first["loc"])))
    rule = f"is not the description of a model: {problem.rule}"
    return ModelError("model.damaged", rule, key=problem.key, value=problem.value, file=path, remedy="Copy the model again.")


def fill(network: torch.nn.Module, tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Load weights into a network; all names and shapes must be those of the network.

    Raises:
        ModelError: when a tensor is missing, unknown or of another shape; the network is then unchanged.
    """
    # everything is compared first: load_state_dict would change a part of the network before it fails
    own = {name: tuple(values.shape) for name, values in network.state_dict().items()}
    _compare({name: tuple(values.shape) for name, values in tensors.items()}, own, source=source)
    network.load_state_dict(dict(tensors))


def _compare(stored: Mapping[str, tuple[int, ...]], own: Mapping[str, tuple[int, ...]], *, source: str) -> None:
    """Names and shapes of stored tensors must be those of the network.

    Raises:
        ModelError: with the first five that differ.
    """
    faults = [f"{name} is missing" for name in own if name not in stored]
    faults += [f"{name} is not part of the network" for name in stored if name not in own]
    faults += [
        f"{name} has shape {stored[name]} instead of {shape}" for name, shape in own.items() if name in stored and stored[name] != shape
    ]
    if faults:
        shown = "; ".join(faults[:5]) + (f"; and {len(faults) - 5} more" if len(faults) > 5 else "")
        rule = f"the weights do not fit the network: {shown}"
        raise ModelError("weights.other_network", rule, file=source, remedy="Use weights of the same network and options.")


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
        raise MissingFileError("checkpoint.missing", "the checkpoint does not exist", file=path, remedy="Correct the path.")
    try:
        _check_unpacked_size(path)
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
        rule = f"the file is damaged or not a checkpoint of PyTorch ({_first_line(error)})"
        raise ModelError("checkpoint.damaged", rule, file=path, remedy="Copy it again.") from error


def _check_unpacked_size(path: Path) -> None:
    """Reject an archive that unpacks to more than its own size: PyTorch compresses nothing, so only a bomb does."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > path.stat().st_size:
        rule = f"the file has {path.stat().st_size} bytes but unpacks to {size}, which no checkpoint does"
        raise ModelError("checkpoint.too_large", rule, file=path, remedy="Copy it again from its source.")


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
        rule = "must contain a mapping from names to tensors, as state_dict() returns it"
        raise ModelError("checkpoint.no_weights", rule, file=path, remedy="Store the state_dict() of the network alone.")
    return {str(name): values for name, values in content.items()}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _check_file(path: Path, stated: Mapping[str, object]) -> None:
    """Compare size and checksum of the file of the weights with those in the description."""
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


def _shapes_of(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the stored tensors by name, from the header of the file."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except SafetensorError as error:
        raise _no_safetensors(path, error) from error


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except SafetensorError as error:
        raise _no_safetensors(path, error) from error


def _no_safetensors(path: Path, error: SafetensorError) -> ModelError:
    return ModelError("weights.no_safetensors", f"is not a safetensors file ({error})", file=path, remedy="Copy the model again.")


def _check_channels(path: Path, sidecar: Mapping[str, Any]) -> None:
    """The names of the channels must be those that were stored with the weights; models of earlier versions store none."""
    with safe_open(path, framework="pt") as file:
        stored = (file.metadata() or {}).get("channels")
    if stored is not None and stored != json.dumps(sidecar.get("channels")):
        rule = f"names other channels than were stored with the weights, {stored[:200]}"
        raise ModelError(
            "model.channels_differ",
            rule,
            key="channels",
            value=sidecar.get("channels"),
            file=path.parent / SIDECAR,
            remedy="Copy both files of the model again.",
        )


def _rebuilt(described: Mapping[str, Any], path: Path, stored: Mapping[str, tuple[int, ...]]) -> Network:
    """The described network, built only when its tensors have the stored names and shapes."""
    try:
        settings = {**described["options"], "kind": described["kind"]}
        arguments = (described["ndim"], described["in_channels"], described["heads"])
        planned = plan_network(settings, *arguments).shapes
        _compare({name: shape for name, shape in stored.items() if ":" not in name}, planned, source=str(path.parent / WEIGHTS))
        if math.prod(stored.get(_INPUT, ())) > MAX_EXAMPLE:
            rule = f"has a test input of more than {MAX_EXAMPLE:,} voxels"
            raise ModelError("weights.test_input_too_large", rule, file=path.parent / WEIGHTS, remedy="Store the model again.")
        return build_network(settings, *arguments)
    except (ValidationError, UnknownNameError, OptionError, TypeError) as error:
        rule = f"describes a network that Morula {VERSION} cannot build: {error}"
        raise ModelError("model.unknown_network", rule, file=path, remedy="Use the version that wrote it.") from error


def _test_outputs(network: Network, example: Tensor) -> dict[str, Tensor]:
    """Outputs of a network of float32, computed in double precision and rounded.

    In single precision, deep networks with normalisations over a few voxels enlarge the rounding errors, which depend on processor and
    memory layout, to a thousandth of the output and more.
    """
    with torch.no_grad():
        outputs = network.double()(example.double())
    network.float()  # exact: the weights were float32 before
    return {name: output.float() for name, output in outputs.items()}


def _check_test_output(network: Network, tests: dict[str, Tensor], path: Path) -> None:
    if set(tests) != {_INPUT, *(_OUTPUT + name for name in network.heads)}:
        raise ModelError("weights.no_test_data", "the test input and outputs are missing", file=path, remedy="Copy the model again.")
    for name, answer in _test_outputs(network, tests[_INPUT]).items():
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
