"""Inference with OpenVINO, which is faster than torch on some CPUs."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from morula.core.errors import MissingExtraError, OptionError

Outputs: TypeAlias = Any
"""Outputs of a network: a tensor, or several in a mapping or sequence."""

Graph: TypeAlias = Any
"""An `openvino.Model`; OpenVINO is optional and has no types."""

Request: TypeAlias = Any
"""An `openvino.InferRequest`."""


class OpenVino:
    """A network compiled with OpenVINO for the CPU, equal to the network itself except for rounding.

    It is compiled for every new input shape, which takes a second or two, and uses as many threads as torch.

    Args:
        network: NC(Z)YX to NK(Z)YX, in evaluation mode on the CPU.
        multiple: product of the poolings of the network per axis.
        precision: with ``fp16`` the submodule ``decoder`` and everything after it is computed in half precision. It has most of the
            arithmetic, and its errors pass through fewer layers than those of the encoder.

    Raises:
        MissingExtraError: when OpenVINO is not installed.
        OptionError: for ``fp16`` on a CPU without half precision.

    Examples:
        >>> network = OpenVino(nn.Conv2d(1, 1, 1).eval(), (1, 1))  # doctest: +SKIP
        >>> network(torch.zeros(1, 1, 64, 64)).shape  # doctest: +SKIP
        torch.Size([1, 1, 64, 64])
    """

    def __init__(self, network: nn.Module, multiple: Sequence[int], precision: Literal["fp32", "fp16"] = "fp32") -> None:
        if importlib.util.find_spec("openvino") is None:
            raise MissingExtraError(
                "backend.not_installed",
                "the backend is not installed",
                key="prediction.backend",
                value="openvino",
                remedy="Install it with: pip install 'morula[openvino]', or use the backend torch.",
            )
        self._core = importlib.import_module("openvino").Core()
        if precision == "fp16" and "FP16" not in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise OptionError(
                "precision.unsupported", "is not supported by this CPU", key="prediction.precision", value="fp16", remedy="Use fp32."
            )
        self._network = network
        self._multiple = tuple(multiple)
        self._precision = precision
        self._requests: dict[tuple[int, ...], list[Request]] = {}

    def __call__(self, batch: Tensor) -> Tensor:
        """NC(Z)YX float32 to NK(Z)YX float32."""
        shape = tuple(batch.shape)
        if shape not in self._requests:
            self._requests[shape] = self._compiled(shape)
        values = [batch.contiguous().numpy()]
        for request in self._requests[shape]:
            request.infer(values, share_inputs=True)
            values = [tensor.data for tensor in request.output_tensors]
        # the output buffer is reused by the next inference
        return torch.from_numpy(values[0].copy())

    def _compiled(self, shape: tuple[int, ...]) -> list[Request]:
        """The compiled parts of the network for one input shape, in their order."""
        graph = self._graph(shape)
        parts = [(graph, "f32")] if self._precision == "fp32" else [*zip(_split(graph, "decoder"), ("f32", "f16"), strict=True)]
        settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "PERFORMANCE_HINT": "LATENCY"}
        compiled = [self._core.compile_model(part, "CPU", {**settings, "INFERENCE_PRECISION_HINT": hint}) for part, hint in parts]
        return [model.create_infer_request() for model in compiled]

    def _graph(self, shape: tuple[int, ...]) -> Graph:
        """The network as a graph of OpenVINO, traced with the smallest image that takes the same path through it."""
        frontend = importlib.import_module("openvino.frontend").FrontEndManager().load_by_framework("pytorch")
        decoder = importlib.import_module("openvino.frontend.pytorch.ts_decoder").TorchScriptPythonDecoder
        axes = len(self._multiple)
        edges = [min(n, n % m + 2 * m) for n, m in zip(shape[-axes:], self._multiple, strict=True)]
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer warns that sizes become constants, which is intended
            traced = torch.jit.trace(self._network, torch.zeros(*shape[:-axes], *edges), check_trace=False)
            source = decoder(traced)  # the frontend reads it later and does not keep it alive
            graph = frontend.convert(frontend.load(source))
        graph.reshape(list(shape))
        return graph


def _split(graph: Graph, name: str) -> list[Graph]:
    """Split a graph in two: the second contains the submodule of this name and everything after it, and reads the results of the first."""
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
    def __init__(self, network: nn.Module, activate: Callable[[Outputs], Tensor]) -> None:
        super().__init__()
        self.network = network
        self.activate = activate

    def forward(self, batch: Tensor) -> Tensor:
        return self.activate(self.network(batch))


def with_activation(network: nn.Module, activate: Callable[[Outputs], Tensor]) -> nn.Module:
    """A network followed by a function that makes one tensor of its outputs, as one module in evaluation mode."""
    return _Activated(network, activate).eval()
