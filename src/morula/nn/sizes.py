"""Results of operations on torch's meta device, where tensors have a shape and no values, without torch's compiler.

For most operations torch derives the result with Python code that imports its compiler and SymPy, which takes longer than torch itself.
Here are the operations of convolutional networks on contiguous tensors, whose results are plain arithmetic; all others are left to torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

_aten = torch.ops.aten


def result_on_meta(operation: Any, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> object:
    """What an operation of torch gives for tensors on the meta device; shapes and types as on any other device.

    Args:
        operation: as `torch.utils._python_dispatch.TorchDispatchMode` gets it, with its arguments.
        arguments: positional ones.
        keywords: named ones.

    Examples:
        >>> image, weight = torch.empty(1, 3, 9, 9, device="meta"), torch.empty(8, 3, 3, 3, device="meta")
        >>> given = (image, weight, None, [2, 2], [1, 1], [1, 1], False, [0, 0], 1)
        >>> result_on_meta(torch.ops.aten.convolution.default, given, {}).shape
        torch.Size([1, 8, 5, 5])
    """
    rule = _RULES.get(operation)
    result = NotImplemented if rule is None or keywords or not _plain(arguments) else rule(*arguments)
    return operation(*arguments, **keywords) if result is NotImplemented else result


def _plain(arguments: Sequence[Any]) -> bool:
    """Whether the tensors among the arguments, or in the list that is the first, are contiguous and of one type of fractions."""
    listed = arguments[0] if isinstance(arguments[0], list | tuple) else ()
    tensors = [argument for argument in (*arguments, *listed) if isinstance(argument, Tensor)]
    kind = tensors[0].dtype
    return kind.is_floating_point and all(tensor.dtype == kind and tensor.is_contiguous() for tensor in tensors)


def _in_place(tensor: Tensor, *_: object) -> Tensor:
    return tensor


def _pointwise(first: Tensor, *rest: object) -> Tensor:
    return first.new_empty(np.broadcast_shapes(first.shape, *(argument.shape for argument in rest if isinstance(argument, Tensor))))


def _cat(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    shape = list(tensors[0].shape)
    shape[axis] = sum(tensor.shape[axis] for tensor in tensors)
    return tensors[0].new_empty(shape)


def _mean(values: Tensor, axes: Sequence[int], keep: bool = False) -> Tensor:
    gone = {axis % values.ndim for axis in axes or range(values.ndim)}
    return values.new_empty([1 if axis in gone else n for axis, n in enumerate(values.shape) if keep or axis not in gone])


def _repeat(values: Tensor, times: Sequence[int]) -> Tensor:
    shape = [1] * (len(times) - values.ndim) + list(values.shape)
    return values.new_empty([n * factor for n, factor in zip(shape, times, strict=True)])


def _convolution(image: Tensor, weight: Tensor, bias: object, *settings: Any) -> object:
    """The formulas of `torch.nn.Conv3d` and `torch.nn.ConvTranspose3d`."""
    stride, padding, dilation, transposed, output_padding, groups = settings
    edges = []
    for axis, (edge, window) in enumerate(zip(image.shape[2:], weight.shape[2:], strict=True)):
        step, margin, reach = stride[axis], padding[axis], dilation[axis] * (window - 1)
        if transposed:
            edges.append((edge - 1) * step - 2 * margin + reach + output_padding[axis] + 1)
        else:
            edges.append((edge + 2 * margin - reach - 1) // step + 1)
    channels = weight.shape[1] * groups if transposed else weight.shape[0]
    return image.new_empty(image.shape[0], channels, *edges) if min(edges) > 0 else NotImplemented


def _max_pool(image: Tensor, kernel: Sequence[int], stride: Sequence[int] = (), padding: Sequence[int] = (), *other: object) -> object:
    """The maxima, and where they are."""
    spatial = zip(image.shape[2:], kernel, stride or kernel, padding or [0] * len(kernel), strict=True)
    edges = [(edge + 2 * margin - window) // step + 1 for edge, window, step, margin in spatial]
    if other or min(edges) < 1:  # dilation, sizes rounded up
        return NotImplemented
    shape = (*image.shape[:2], *edges)
    return image.new_empty(shape), image.new_empty(shape, dtype=torch.int64)


def _upsample(image: Tensor, size: Sequence[int], *_: object) -> Tensor:
    return image.new_empty(*image.shape[:2], *size)


def _batch_norm(image: Tensor, *_: object) -> tuple[Tensor, Tensor, Tensor]:
    """The normalised image, mean and deviation of each channel; so for the others."""
    return image.new_empty(image.shape), image.new_empty(image.shape[1]), image.new_empty(image.shape[1])


def _group_norm(image: Tensor, weight: object, bias: object, n: int, channels: int, voxels: int, groups: int, *_: object) -> object:
    return image.new_empty(image.shape), image.new_empty(n, groups), image.new_empty(n, groups)


_ACTIVATIONS = (_aten.relu, _aten.leaky_relu, _aten.elu, _aten.silu, _aten.gelu, _aten.sigmoid)
_ACTIVATIONS_IN_PLACE = (_aten.relu_, _aten.leaky_relu_, _aten.elu_, _aten.silu_, _aten.sigmoid_)
_UPSAMPLING = (_aten.upsample_nearest2d, _aten.upsample_nearest3d, _aten.upsample_bilinear2d, _aten.upsample_trilinear3d)
_RULES: dict[Any, Callable[..., object]] = {
    _aten.cat.default: _cat,
    _aten.convolution.default: _convolution,
    _aten.max_pool2d_with_indices.default: _max_pool,
    _aten.max_pool3d_with_indices.default: _max_pool,
    _aten.mean.dim: _mean,
    _aten.native_batch_norm.default: _batch_norm,
    _aten.native_group_norm.default: _group_norm,
    _aten.repeat.default: _repeat,
    **dict.fromkeys((kind.default for kind in _UPSAMPLING), _upsample),
    **dict.fromkeys((_aten.add.Tensor, _aten.mul.Tensor, *(kind.default for kind in _ACTIVATIONS)), _pointwise),
    **dict.fromkeys((_aten.add_.Tensor, _aten.mul_.Tensor, *(kind.default for kind in _ACTIVATIONS_IN_PLACE)), _in_place),
}
