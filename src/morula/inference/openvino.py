"""Networks computed by OpenVINO, which is faster than torch on some processors."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from morula.core.errors import MissingExtraError


class OpenVino:
    """A network on the CPU by OpenVINO, equal to the network itself up to the rounding of float32.

    It is compiled anew for each shape that it is given, which takes a second or two, and uses as many threads as torch does.

    Args:
        network: NC(Z)YX to NK(Z)YX, in evaluation mode on the CPU.
        multiple: product of its poolings per axis.

    Raises:
        MissingExtraError: when OpenVINO is not installed.

    Examples:
        >>> network = OpenVino(nn.Conv2d(1, 1, 1).eval(), (1, 1))  # doctest: +SKIP
        >>> network(torch.zeros(1, 1, 64, 64)).shape  # doctest: +SKIP
        torch.Size([1, 1, 64, 64])
    """

    def __init__(self, network: nn.Module, multiple: Sequence[int]) -> None:
        if importlib.util.find_spec("openvino") is None:
            raise MissingExtraError(
                "backend openvino is not installed. Install it with: pip install 'morula[openvino]', or use backend torch."
            )
        self._network = network
        self._multiple = tuple(multiple)
        self._requests: dict[tuple[int, ...], Any] = {}

    def __call__(self, batch: Tensor) -> Tensor:
        """NC(Z)YX float32 to NK(Z)YX float32."""
        shape = tuple(batch.shape)
        if shape not in self._requests:
            self._requests[shape] = self._compiled(shape)
        results = self._requests[shape].infer([batch.contiguous().numpy()])
        return torch.from_numpy(results[0].copy())

    def _compiled(self, shape: tuple[int, ...]) -> Any:
        """The network for one shape, traced on the smallest image that passes through it in the same way."""
        openvino = importlib.import_module("openvino")
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
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        return openvino.Core().compile_model(graph, "CPU", settings).create_infer_request()


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
