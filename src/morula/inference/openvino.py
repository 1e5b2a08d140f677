"""Networks computed by OpenVINO, which is faster than torch on some processors."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from morula.core.errors import MissingExtraError, OptionError


class OpenVino:
    """A network on the CPU by OpenVINO, equal to the network itself up to rounding.

    It is compiled anew for each shape that it is given, which takes a second or two, and uses as many threads as torch does.

    Args:
        network: NC(Z)YX to NK(Z)YX, in evaluation mode on the CPU.
        multiple: product of its poolings per axis.
        precision: ``fp16`` computes the part of a network that is called ``decoder``, and what follows it, in half precision. There most
            of the arithmetic is done, and an error there is not carried through many layers as one of the encoder is.

    Raises:
        MissingExtraError: when OpenVINO is not installed.
        OptionError: for ``fp16`` on a processor that cannot compute in it.

    Examples:
        >>> network = OpenVino(nn.Conv2d(1, 1, 1).eval(), (1, 1))  # doctest: +SKIP
        >>> network(torch.zeros(1, 1, 64, 64)).shape  # doctest: +SKIP
        torch.Size([1, 1, 64, 64])
    """

    def __init__(self, network: nn.Module, multiple: Sequence[int], precision: Literal["fp32", "fp16"] = "fp32") -> None:
        if importlib.util.find_spec("openvino") is None:
            raise MissingExtraError(
                "backend openvino is not installed. Install it with: pip install 'morula[openvino]', or use backend torch."
            )
        self._core = importlib.import_module("openvino").Core()
        if precision == "fp16" and "FP16" not in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise OptionError("precision fp16 is beyond this processor. Use precision fp32.")
        self._network = network
        self._multiple = tuple(multiple)
        self._precision = precision
        self._requests: dict[tuple[int, ...], list[Any]] = {}

    def __call__(self, batch: Tensor) -> Tensor:
        """NC(Z)YX float32 to NK(Z)YX float32."""
        shape = tuple(batch.shape)
        if shape not in self._requests:
            self._requests[shape] = self._compiled(shape)
        values = [batch.contiguous().numpy()]
        for request in self._requests[shape]:
            request.infer(values, share_inputs=True)
            values = [tensor.data for tensor in request.output_tensors]
        return torch.from_numpy(values[0].copy())

    def _compiled(self, shape: tuple[int, ...]) -> list[Any]:
        """The network for one shape, its parts one after the other."""
        graph = self._graph(shape)
        parts = [(graph, "f32")] if self._precision == "fp32" else [*zip(_split(graph, "decoder"), ("f32", "f16"), strict=True)]
        settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "PERFORMANCE_HINT": "LATENCY"}
        compiled = [self._core.compile_model(part, "CPU", {**settings, "INFERENCE_PRECISION_HINT": each}) for part, each in parts]
        return [each.create_infer_request() for each in compiled]

    def _graph(self, shape: tuple[int, ...]) -> Any:
        """The network as OpenVINO's graph, traced on the smallest image that passes through it in the same way."""
        frontend = importlib.import_module("openvino.frontend").FrontEndManager().load_by_framework("pytorch")
        decoder = importlib.import_module("openvino.frontend.pytorch.ts_decoder").TorchScriptPythonDecoder
        axes = len(self._multiple)
        edges = [min(n, n % m + 2 * m) for n, m in zip(shape[-axes:], self._multiple, strict=True)]
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the tracer, about sizes: they are those of the shape
            traced = torch.jit.trace(self._network, torch.zeros(*shape[:-axes], *edges), check_trace=False)
            source = decoder(traced)  # the frontend reads it later and does not keep it alive
            graph = frontend.convert(frontend.load(source))
        graph.reshape(list(shape))
        return graph


def _split(graph: Any, name: str) -> list[Any]:
    """Two graphs, of which the second holds the module of this name and what follows it; the first's results are its parameters."""
    openvino = importlib.import_module("openvino")
    make = importlib.import_module("openvino.opset13").parameter
    after: set[str] = set()
    for node in graph.get_ordered_ops():
        behind = any(source.get_node().get_name() in after for source in node.input_values())
        if behind or f".{name}." in node.get_friendly_name():
            after.add(node.get_name())
    edges = [
        (source, [target for target in source.get_target_inputs() if target.get_node().get_name() in after])
        for node in graph.get_ordered_ops()
        if node.get_name() not in after and node.get_type_name() != "Constant"
        for source in node.outputs()
    ]
    edges = [(source, targets) for source, targets in edges if targets]
    starts = []
    for source, targets in edges:
        start = make(source.get_partial_shape(), source.get_element_type())
        starts.append(start)
        for target in targets:
            target.replace_source_output(start.output(0))
    first = openvino.Model([openvino.opset13.result(source) for source, _ in edges], graph.get_parameters())
    return [first, openvino.Model(graph.get_results(), starts)]


class _Activated(nn.Module):
    def __init__(self, network: nn.Module, activate: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.network = network
        self.activate = activate

    def forward(self, batch: Tensor) -> Tensor:
        return self.activate(self.network(batch))


def with_activation(network: nn.Module, activate: Callable[[Any], Tensor]) -> nn.Module:
    """A network and what makes one tensor of its answer, as one network in evaluation mode."""
    return _Activated(network, activate).eval()
