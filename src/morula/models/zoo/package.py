"""Write a trained model as a package of the BioImage Model Zoo: TorchScript and ONNX weights, test data, and Morula's own files.

Other programs run the network, whose channels are the predicted ones after their activation. Morula reads its own weights and job from
the package, so that it makes the same objects of them as the run that they come from.
"""

from __future__ import annotations

import hashlib
import io
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor, nn

from morula.core.atomic import atomic
from morula.core.errors import MissingExtraError, ModelError
from morula.core.text import printable
from morula.inference.openvino import with_activation
from morula.methods.regression_options import Options as RegressionOptions
from morula.models.model import Model
from morula.models.zoo.processing import applied, steps_of
from morula.nn.build import kind_of
from morula.nn.fuse import fuse_for_inference

FORMAT = "0.5.4"
"""Version of the specification that packages are written in."""
OPSET = 17
"""Version of the operators of ONNX."""
OWN = ("model.json", "weights.safetensors")
"""Morula's files of a model in a package."""
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class About:
    """What a package says about its model; all that people must state themselves."""

    name: str
    authors: Sequence[str] = ()
    licence: str | None = None
    description: str = ""


def write_package(path: str | Path, model: Model, image: np.ndarray, about: About) -> Path:
    """Write the package of a model.

    Args:
        path: the ``.zip`` file.
        model: the model.
        image: example C(Z)YX for the test data, of any intensities; its edges are multiples of those of the network.
        about: name, authors and licence.

    Raises:
        ModelError: when the network cannot be traced.
        MissingExtraError: when ONNX is not installed.
        FileWriteError: when the file cannot be written.
    """
    network = exportable(model)
    steps = steps_of(model.job.sampling, model.normalisation, "zyx"[-model.ndim :])
    raw = np.asarray(image, np.float32)
    batch = torch.from_numpy(applied(steps, raw.astype(np.float64)).astype(np.float32))[None]
    with torch.no_grad():
        output = network(batch)
    traced = torchscript(network, batch)
    files = {
        "weights.pt": script_bytes(traced),
        "weights.onnx": onnx_bytes(network, batch),
        "test_input.npy": _npy(raw[None]),
        "test_output.npy": _npy(output.numpy()),
        "cover.png": _cover(raw, output[0].numpy()),
        "README.md": _readme(model, about).encode(),
    }
    with TemporaryDirectory() as folder:
        model.save(folder, batch)
        files |= {name: Path(folder, name).read_bytes() for name in OWN}
    document = _document(model, about, steps, files, flexible=_is_flexible(traced, network, batch), shape=raw.shape[1:])
    files["rdf.yaml"] = yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode()
    target = Path(path)
    with atomic(target) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():  # the same model gives the same bytes
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED)
    return target


def exportable(model: Model) -> nn.Module:
    """The network of a model with its activations, NC(Z)YX to NK(Z)YX, on the CPU.

    Raises:
        ModelError: when its predictions get the scale of their image, or a finer grid, which a package cannot say.
    """
    if model.method.on_scale_of_image:
        rule = "cannot be exported: predictions get the scale of their image, which a package cannot say"
        with_units = isinstance(model.job.method, RegressionOptions)
        key, value = ("method.units", "image") if with_units else ("method.kind", model.job.method.kind)
        remedy = f"Share the run folder as it is{', or train with method.units: targets' if with_units else ''}."
        raise ModelError("zoo.units", rule, key=key, value=value, remedy=remedy)
    if model.job.method.enlarged_by:
        rule = "cannot be exported: its images are interpolated to a finer grid first, which a package cannot say"
        remedy = "Share the run folder as it is."
        raise ModelError("zoo.grid", rule, key="method.enlarge", value=model.job.method.enlarged_by, remedy=remedy)
    fused = fuse_for_inference(model.network.for_prediction().cpu())
    return with_activation(fused, model.method.activate)


def torchscript(network: nn.Module, batch: Tensor) -> torch.jit.ScriptModule:
    """A network as TorchScript, traced with an example.

    Raises:
        ModelError: when its output is not that of the network.
    """
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that tracing is deprecated, and that sizes become constants
        traced = torch.jit.trace(network, batch, check_trace=False)
        difference = float((traced(batch) - network(batch)).abs().max())
    if difference > 1e-5:
        rule = f"gives another output as TorchScript (by {difference:.2g})"
        raise ModelError("zoo.not_traceable", rule, value=type(network).__name__, remedy="Export the run folder as it is.")
    return traced


def onnx_bytes(network: nn.Module, batch: Tensor) -> bytes:
    """A network in the format ONNX.

    Raises:
        MissingExtraError: when the package onnx is not installed.
    """
    if find_spec("onnx") is None:
        remedy = "Install it with: pip install 'morula[zoo]'."
        raise MissingExtraError("zoo.no_onnx", "is not installed, and ONNX weights need it", value="onnx", remedy=remedy)
    sizes = {0: "n", **{axis: "zyx"[axis - batch.ndim] for axis in range(2, batch.ndim)}}
    with TemporaryDirectory() as folder, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter by tracing is deprecated; the other one needs further packages
        file = Path(folder, "weights.onnx")
        torch.onnx.export(
            network,
            (batch,),
            file,
            dynamo=False,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["channels"],
            dynamic_axes={"image": sizes, "channels": sizes},
        )
        return file.read_bytes()


def script_bytes(traced: torch.jit.ScriptModule) -> bytes:
    """TorchScript as the content of a file."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(traced, stream)
    return stream.getvalue()


def _is_flexible(traced: torch.jit.ScriptModule, network: nn.Module, batch: Tensor) -> bool:
    """Whether traced weights take images of other sizes: constants of a trace may hold the size of the example."""
    larger = torch.cat([batch, batch], dim=-1)
    try:
        with torch.no_grad():
            return bool(torch.allclose(traced(larger), network(larger), atol=1e-4))
    except RuntimeError:  # shapes that do not fit
        return False


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(array, np.float32))
    return stream.getvalue()


def _cover(raw: np.ndarray, output: np.ndarray) -> bytes:
    """A picture of the middle plane: the image, and the first predicted channel beside it."""
    from PIL import Image as Picture

    planes = []
    for array in (raw, output):
        plane = array[0] if array.ndim == 3 else array[0, array.shape[1] // 2]
        low, high = np.percentile(plane, (1, 99.8))
        planes.append(np.clip((plane - low) / max(high - low, 1e-9), 0, 1))
    stream = io.BytesIO()
    Picture.fromarray((np.hstack(planes) * 255).astype(np.uint8)).resize((512, 256)).save(stream, "PNG")
    return stream.getvalue()


def _document(
    model: Model, about: About, steps: list[dict[str, Any]], files: Mapping[str, bytes], *, flexible: bool, shape: tuple[int, ...]
) -> dict[str, Any]:
    """The description of the package, ``rdf.yaml``."""

    def source(name: str, **more: object) -> dict[str, Any]:
        return {"source": name, "sha256": hashlib.sha256(files[name]).hexdigest(), **more}

    physical = model.voxel_size.unit == "um"
    spacing = model.voxel_size.spacing(model.ndim)
    spatial = list(zip("zyx"[-model.ndim :], model.network.multiple, shape, spacing, strict=True))
    inputs: list[dict[str, Any]] = [
        {"type": "batch"},
        {"type": "channel", "channel_names": [f"channel{number}" for number in range(model.in_channels)]},
    ]
    outputs: list[dict[str, Any]] = [{"type": "batch"}, {"type": "channel", "channel_names": list(model.method.channels)}]
    for letter, multiple, edge, length in spatial:
        axis: dict[str, Any] = {"type": "space", "id": letter}
        axis |= {"unit": "micrometer", "scale": length} if physical else {}
        inputs.append({**axis, "size": {"min": 2 * multiple, "step": multiple} if flexible else edge})
        outputs.append({**axis, "size": {"tensor_id": "image", "axis_id": letter}})
    preprocessing = [{"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}, *steps]
    return {
        "format_version": FORMAT,
        "type": "model",
        "name": _plain(about.name),
        "description": about.description or f"Predicts {', '.join(model.method.channels)} for segmentation with Morula.",
        "version": "1",
        "authors": [{"name": author} for author in about.authors or ["not stated"]],
        **({} if about.licence is None else {"license": about.licence}),
        "documentation": "README.md",
        "covers": ["cover.png"],
        "tags": ["morula", "segmentation", f"{model.ndim}d", kind_of(model.network.options)],
        "inputs": [
            {
                "id": "image",
                "axes": inputs,
                "data": {"type": "float32"},
                "test_tensor": source("test_input.npy"),
                "preprocessing": preprocessing,
            }
        ],
        "outputs": [{"id": "channels", "axes": outputs, "data": {"type": "float32"}, "test_tensor": source("test_output.npy")}],
        "weights": {
            "torchscript": source("weights.pt", pytorch_version=torch.__version__.partition("+")[0]),
            "onnx": source("weights.onnx", opset_version=OPSET, parent="torchscript"),
        },
        "attachments": [source(name) for name in OWN],
        "config": {"morula": {"version": version("morula"), "method": model.job.method.kind}},
    }


def _plain(name: str) -> str:
    """A name in the characters that the specification allows."""
    return "".join(letter if letter.isalnum() or letter in "_+- ()" else " " for letter in printable(name)).strip() or "model"


def _readme(model: Model, about: About) -> str:
    channels = ", ".join(model.method.channels)
    kind, count = model.job.method.kind, model.in_channels
    return (
        f"# {_plain(about.name)}\n\nTrained with Morula {version('morula')} on {model.ndim}D images, {count} channel(s) ({kind}).\n\n"
        f"The network predicts {channels} after their activations. `morula segment IMAGE --model THIS.zip` makes objects of them with the\n"
        "decoder and the thresholds of the run; other programs get the channels.\n\n"
        "## Validation\n\nCompare the labels with some of your own: `morula.match(truth, labels)`.\n"
    )
