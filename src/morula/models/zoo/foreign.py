"""Networks of other programs from packages of bioimage.io, as models of Morula: their channels are named by hand."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from morula.core.errors import JobError, MissingExtraError, ModelError, UnknownNameError
from morula.core.voxel_size import VoxelSize
from morula.jobs.load import validate
from morula.jobs.yaml_lines import Document
from morula.methods import METHODS
from morula.methods.channel_layout import ChannelLayout
from morula.models.model import Model
from morula.models.zoo import description
from morula.models.zoo.archive import FREE, RATIO, Package
from morula.models.zoo.processing import Step, normalise_of
from morula.nn.network import Network
from morula.nn.options import NetworkOptions
from morula.representations import REPRESENTATIONS

LEFT_OUT = "-"
"""Name of a channel of the package that is not used."""
_TILE = {2: 256, 3: 64}
_SMALLEST = 1e-7  # a float32 sigmoid does not come closer to 0 and 1


class ZooOptions(NetworkOptions):
    """Options of a network that comes with its package."""

    kind: Literal["bioimageio"] = "bioimageio"
    """A network that comes with its package."""


def foreign_model(package: Package, channels: Sequence[str] | None = None) -> Model:
    """The model of a package of another program.

    Args:
        package: the package.
        channels: what each channel of the output is: codes of representations, ``-`` for those that are not used; by default as the
            package names them.

    Raises:
        ModelError: when the package needs what Morula does not run, or the channels are not known.
        MissingExtraError: when its weights need ONNX Runtime, which is not installed.
    """
    described = description.read_network(package)
    image, output, file = described.image, described.output, str(package.path)
    ndim = len(image.spatial)
    codes = _codes(channels, output.channels, ndim, file)
    tile = _tile(image)
    sampling = {"patch": list(tile), "normalise": normalise_of(image.steps, file)}
    used = [code for code in codes if code != LEFT_OUT]
    document = {"images": {}, "method": {"kind": "channels", "channels": used}, "sampling": sampling}
    try:
        job = validate(Document(document, {}, None))
        if problems := METHODS.load(job.method.kind).option_problems(job.method, job.objects):
            raise JobError(problems)
    except JobError as error:
        problem = error.problems[0]
        raise ModelError("zoo.channels", str(problem), key="channels", value=used, file=file, remedy=problem.remedy) from error
    voxel_size = VoxelSize.of(None, ndim)
    method = METHODS.load(job.method.kind)(job.method, job.objects, ndim=ndim, spacing=voxel_size.spacing(ndim))
    weights = _weights(package.read(described.source), described.weights, file)
    network = ZooNetwork(weights, image, output, method, _places(codes, ndim))
    return Model(job, network, method, len(image.channels), voxel_size, source=package.path)


def _codes(given: Sequence[str] | None, named: Sequence[str], ndim: int, file: str) -> list[str]:
    """Code of each representation in the order of the output, with `LEFT_OUT` for each channel that is not used."""
    stated = list(given if given is not None else named)
    listing = ", ".join(name or "without a name" for name in named)
    example = ",".join([*["F", "C"][: len(named)], *[LEFT_OUT] * (len(named) - 2)])
    remedy = f"Say what each channel is (channels={example.split(',')}; --channels {example}), '{LEFT_OUT}' for those that are not used."
    unknown = [code for code in stated if code != LEFT_OUT and code not in REPRESENTATIONS.names]
    if unknown and given is None:
        rule = f"predicts {len(named)} channels ({listing}) that Morula does not know"
        raise ModelError("zoo.channels_unknown", rule, key="channels", file=file, remedy=remedy)
    if unknown:
        known = f"is not a channel; known are {', '.join(REPRESENTATIONS.names)}"
        raise UnknownNameError("zoo.unknown_channel", known, key="channels", value=unknown[0], remedy=remedy)
    width = sum(_width(code, ndim) for code in stated)
    if width != len(named) or not set(stated) - {LEFT_OUT}:
        rule = f"name {width} channels but the package predicts {len(named)} ({listing})"
        raise ModelError("zoo.channel_count", rule, key="channels", value=stated, file=file, remedy=remedy)
    return stated


def _width(code: str, ndim: int) -> int:
    return 1 if code == LEFT_OUT else int(REPRESENTATIONS.load(code)(None).width(ndim))


def _places(codes: Sequence[str], ndim: int) -> list[int]:
    """Numbers of the channels of the output that are used."""
    used = [code != LEFT_OUT for code in codes for _ in range(_width(code, ndim))]
    return [place for place, wanted in enumerate(used) if wanted]


def _tile(image: description.Tensor) -> tuple[int, ...]:
    """Edges of the tiles that the network predicts: its own size, or about 256 (64 in volumes)."""
    about = _TILE[len(image.spatial)]
    pairs = zip(image.least, image.step, strict=True)
    return tuple(least if not step else least + max(0, -(-(about - least) // step)) * step for least, step in pairs)


def _weights(content: bytes, kind: str, file: str) -> nn.Module:
    """The module that runs the weights."""
    if kind == "onnx":
        return OnnxModule(content, file)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > max(FREE, RATIO * len(content)):
            raise ModelError("zoo.too_large", f"unpacks to {size} bytes, which no TorchScript does", key="weights", file=file, remedy=_COPY)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript is deprecated, and packages hold it
            return torch.jit.load(io.BytesIO(content), map_location="cpu").eval()
    except (zipfile.BadZipFile, RuntimeError, ValueError, OSError) as error:
        if isinstance(error, ModelError):
            raise
        rule = f"holds weights that cannot be read ({str(error).splitlines()[0][:120] if str(error) else type(error).__name__})"
        raise ModelError("zoo.damaged_weights", rule, key="weights", value=kind, file=file, remedy=_COPY) from error


_COPY = "Download the package again from its source."


class OnnxModule(nn.Module):
    """A network in the format ONNX, on the CPU."""

    def __init__(self, content: bytes, file: str) -> None:
        super().__init__()
        missing = next((name for name in ("onnx", "onnxruntime") if find_spec(name) is None), None)
        if missing is not None:
            remedy = "Install it with: pip install 'morula[zoo]'."
            raise MissingExtraError(
                "zoo.no_onnx", "is not installed, and the weights of this package need it", value=missing, remedy=remedy
            )
        onnx, runtime = import_module("onnx"), import_module("onnxruntime")
        try:
            graph = onnx.load_model_from_string(content)
            if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in _initializers(graph.graph)):
                rule = "holds weights that lie in other files"  # whose names could lead out of the package
                raise ModelError("zoo.external_weights", rule, key="weights", value="onnx", file=file, remedy="Store them in one file.")
            self.session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
        except ModelError:
            raise
        except Exception as error:  # of any class: of protobuf, ONNX and the runtime
            rule = f"holds weights that cannot be read ({type(error).__name__})"
            raise ModelError("zoo.damaged_weights", rule, key="weights", value="onnx", file=file, remedy=_COPY) from error
        self.input = self.session.get_inputs()[0].name

    def forward(self, batch: Tensor) -> Tensor:
        """Outputs of the network."""
        return torch.from_numpy(self.session.run(None, {self.input: batch.detach().cpu().numpy()})[0]).to(batch.device)

    def __deepcopy__(self, memo: object) -> OnnxModule:
        return self  # a session cannot be copied, and holds no state


def _initializers(graph: Any) -> list[Any]:
    """Stored tensors of a graph and of the graphs inside it."""
    inner = [part.g for node in graph.node for part in node.attribute if part.HasField("g")]
    constants = [part.t for node in graph.node for part in node.attribute if part.HasField("t")]
    return [*graph.initializer, *constants, *(tensor for module in inner for tensor in _initializers(module))]


class ZooNetwork(Network):
    """A network of a package: its postprocessing, and those of its channels that are used.

    Morula applies the activation of each channel to the outputs of a network. Those of a package went through it already, so that it is
    inverted here: the logit of a probability.
    """

    kind: ClassVar[str] = "bioimageio"

    def __init__(
        self, weights: nn.Module, image: description.Tensor, output: description.Tensor, method: Any, places: Sequence[int]
    ) -> None:
        super().__init__(ZooOptions(), ndim=len(image.spatial), in_channels=len(image.channels), heads=method.heads)
        self.weights = weights
        self.least, self.step = image.least, image.step
        self.multiple = tuple(step or 1 for step in image.step)  # tiles of a fixed size may start anywhere
        self.receptive_halo = (0,) * self.ndim
        self.norm_over_space = True  # nothing is known of the network: it keeps the tile that it is meant for
        self.places, self.outputs = list(places), len(output.channels)
        self.postprocessing = [_operation(step) for step in output.steps]
        assert isinstance(method, ChannelLayout)
        self.activations = [channel.activation for channel in method.representations for _ in range(channel.width(self.ndim))]

    def padded_shape(self, shape: torch.Size | tuple[int, ...]) -> tuple[int, ...]:
        """The smallest edges (Z)YX that the network takes and that hold the image; multiples of a fixed edge are cut into blocks."""
        triples = zip(shape, self.least, self.step, strict=True)
        return tuple(-(-n // least) * least if not step else least + max(0, -(-(n - least) // step)) * step for n, least, step in triples)

    def logits(self, x: Tensor) -> dict[str, Tensor]:
        """Logits NK(Z)YX of the channels."""
        found = self._blocks(x, 2)
        for operation in self.postprocessing:
            found = operation(found)
        found = found[:, self.places]
        parts = [_inverted(found[:, place : place + 1], name) for place, name in enumerate(self.activations)]
        return {next(iter(self.heads)): torch.cat(parts, dim=1)}

    def _blocks(self, x: Tensor, axis: int) -> Tensor:
        """The network on each block of a fixed edge."""
        if axis == x.ndim:
            return torch.cat([self._run(sample) for sample in x.split(1)])  # many packages take one image at a time
        least, step = self.least[axis - 2], self.step[axis - 2]
        if step or x.shape[axis] == least:
            return self._blocks(x, axis + 1)
        return torch.cat([self._blocks(part, axis + 1) for part in x.split(least, dim=axis)], dim=axis)

    def _run(self, x: Tensor) -> Tensor:
        """The outputs of the weights, which may fail in any way."""
        try:
            found = self.weights(x)
        except Exception as error:  # of TorchScript and of ONNX Runtime
            reason = str(error).strip().splitlines()[-1][:120] if str(error).strip() else type(error).__name__
            raise ModelError("zoo.failed", f"the network failed ({reason})", key="weights", value=tuple(x.shape), remedy=_COPY) from error
        if (
            not isinstance(found, Tensor)
            or found.shape[:1] + found.shape[2:] != x.shape[:1] + x.shape[2:]
            or found.shape[1] != self.outputs
        ):
            rule = f"gives another output than {self.outputs} channels of the size of the image"
            raise ModelError("zoo.output_shape", rule, key="weights", value=tuple(getattr(found, "shape", ())), remedy=_COPY)
        return found.float()


def _inverted(values: Tensor, activation: str) -> Tensor:
    if activation == "linear":
        return values
    if activation == "sigmoid":
        return values.clamp(_SMALLEST, 1 - _SMALLEST).logit()
    rule = "is a channel that packages cannot hold"
    raise ModelError("zoo.activation", rule, key="channels", value=activation, remedy="Name another channel.")


def _operation(step: Step) -> Any:
    """A postprocessing step on a tensor NK(Z)YX."""
    name, options = step["id"], step["kwargs"]
    match name:
        case "ensure_dtype":
            return lambda values: values.float()
        case "sigmoid":
            return torch.sigmoid
        case "softmax":
            return lambda values: values.softmax(dim=1)
        case "clip":
            return lambda values: values.clamp(options.get("min"), options.get("max"))
        case "binarize":
            return lambda values: (values > float(np.squeeze(options["threshold"]))).float()
        case "scale_linear":
            gain, offset = (
                torch.as_tensor(options.get(key, default), dtype=torch.float32) for key, default in (("gain", 1.0), ("offset", 0.0))
            )
            shaped = [factor.reshape(-1, 1, 1) if factor.ndim else factor for factor in (gain, offset)]
            return lambda values: (
                values * shaped[0] + shaped[1] if values.ndim == 4 else values * shaped[0][..., None] + shaped[1][..., None]
            )
    remedy = "Predict with bioimageio.core, and make objects of the channels with `morula.decode`."
    raise ModelError(
        "zoo.postprocessing", "is a postprocessing that Morula does not know", key="outputs.postprocessing", value=name, remedy=remedy
    )
