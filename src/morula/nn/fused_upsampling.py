"""Nearest-neighbour upsampling and convolution as one transposed convolution, for prediction.

Repeating every voxel of the coarse level and convolving with a kernel k reads the same coarse voxel several times, so neighbouring kernel
weights can be added first. In 1D, for a factor of 2 and a kernel (a, b, c), every output depends on two coarse voxels only::

    coarse   x0      x1      x2            even outputs: a x(i-1) + (b + c) x(i)
    repeated x0 x0   x1 x1   x2 x2         odd outputs:  (a + b) x(i) + c x(i+1)

In 3D 8 of 27 multiplications remain, and neither the upsampled image nor the concatenation is stored.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from morula.nn.layers import TRANSPOSED, convolution
from morula.nn.ordered_unet import DoubleBlock, Joint, OrderedConvolution


def can_be_fused(joint: Joint) -> bool:
    """Whether a joint upsamples to the nearest voxel and begins with a convolution, or with a group norm and a convolution."""
    if joint.add or joint.resize.how != "nearest" or not isinstance(joint.block, DoubleBlock):
        return False
    layer = joint.block.first.convolution
    assert isinstance(layer, nn.Conv2d | nn.Conv3d)
    keeps_size = all(padding == edge // 2 for padding, edge in zip(layer.padding, layer.kernel_size, strict=True))
    return keeps_size and _before(joint.block.first) in ([], ["group_norm"])


def _before(first: OrderedConvolution) -> list[str]:
    """Names of the layers before the convolution."""
    names = list(first._modules)
    return names[: names.index("convolution")]


class FusedJoint(nn.Module):
    """Equal to a `Joint`: the encoder level and the coarser level are convolved separately and added.

    See the head of this module. Where the size of the level is no multiple of the size of the coarser one, the joint itself is used.
    """

    def __init__(self, joint: Joint) -> None:
        super().__init__()
        self.plain = joint
        self.factor = joint.resize.factor
        block = joint.block
        assert isinstance(block, DoubleBlock)
        parts = dict(block.first.named_children())
        norm, whole = parts.get("group_norm"), parts["convolution"]
        assert isinstance(whole, nn.Conv2d | nn.Conv3d)
        assert norm is None or isinstance(norm, FusedGroupNorm)
        self.norm = norm.norm if norm is not None and "group_norm" in _before(block.first) else None
        after = list(parts).index("convolution") + 1
        self.rest = nn.Sequential(*list(parts.values())[after:], block.second)
        ndim = len(self.factor)
        n_level = whole.out_channels  # the encoder level has the channels of the output, as in every joint
        self.level: nn.Module = convolution(ndim, n_level, whole.out_channels, whole.kernel_size, bias=whole.bias is not None)
        self.level.weight = nn.Parameter(whole.weight[:, :n_level].clone())
        if whole.bias is not None:
            self.level.bias = nn.Parameter(whole.bias)
        kernel = _enlarging(whole.weight[:, n_level:], self.factor)
        padding = tuple(edge // 2 for edge in whole.kernel_size)
        n_below, n_out, *edges = kernel.shape
        self.below = TRANSPOSED[ndim](n_below, n_out, tuple(edges), stride=self.factor, padding=padding, bias=False)  # type: ignore[arg-type]
        self.below.weight = nn.Parameter(kernel)
        self.requires_grad_(False)

    def forward(self, level: Tensor, below: Tensor) -> Tensor:
        """NC(Z)YX of the level and of the next coarser one to NC(Z)YX."""
        if any(n != m * f for n, m, f in zip(level.shape[2:], below.shape[2:], self.factor, strict=True)):
            result: Tensor = self.plain(level, below)
            return result
        if self.norm is not None:
            level, below = normalised(self.norm, level, below)
        x = self.level(level)
        # in place: both results have the size of the output
        x += self.below(below)
        out: Tensor = self.rest(x)
        return out


def _enlarging(kernel: Tensor, factor: tuple[int, ...]) -> Tensor:
    """Kernel KC(Z)YX of a convolution as that of the transposed convolution CK(Z)YX which repeats each voxel `factor` times before.

    Examples:
        >>> _enlarging(torch.tensor([1.0, 2.0, 4.0]).reshape(1, 1, 3), (2,)).flatten().tolist()
        [4.0, 6.0, 3.0, 1.0]
    """
    kernel = kernel.transpose(0, 1)
    for axis, times in enumerate(factor, start=2):
        length = kernel.shape[axis]
        wider = kernel.new_zeros([length + times - 1 if i == axis else n for i, n in enumerate(kernel.shape)])
        for shift in range(times):
            wider.narrow(axis, shift, length).add_(kernel.flip(axis))
        kernel = wider
    return kernel.contiguous()


class FusedGroupNorm(nn.Module):
    """Group normalisation whose statistics are more exact and cheaper than torch's own where channels lie last in memory."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """NC(Z)YX to NC(Z)YX."""
        return normalised(self.norm, x)[0]


def normalised(norm: nn.GroupNorm, *parts: Tensor) -> list[Tensor]:
    """Several images NC(Z)YX as group normalisation makes them where they lie beside each other, each enlarged to the size of the largest.

    Groups run over the channels of all parts; to repeat every voxel equally often does not change their statistics.
    """
    means, squares = (torch.cat(values, dim=1) for values in zip(*map(_moments, parts), strict=True))
    n, channels = means.shape
    members = channels // norm.num_groups
    mean = means.reshape(n, norm.num_groups, members).mean(dim=2, keepdim=True)
    variance = squares.reshape(n, norm.num_groups, members).mean(dim=2, keepdim=True) - mean.square()
    scale = (variance.clamp(min=0) + norm.eps).rsqrt().expand(-1, -1, members).reshape(n, channels) * norm.weight
    shift = norm.bias - mean.expand(-1, -1, members).reshape(n, channels) * scale
    sizes, places = [part.shape[1] for part in parts], [1] * (parts[0].ndim - 2)
    scaled = []
    for part, a, b in zip(parts, scale.split(sizes, dim=1), shift.split(sizes, dim=1), strict=True):
        a, b = (tensor.to(part.dtype).reshape(n, -1, *places) for tensor in (a, b))
        scaled.append(torch.addcmul(b, part, a))
    return scaled


_BLOCK = 512
"""Voxels per matrix product in `_sum_of_squares`."""


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and mean square of each channel, N C in float64; the squares by a matrix product, which is the fastest pass over memory."""
    if torch.jit.is_tracing():  # type: ignore[attr-defined] # other programs know no diagonals, and lay each axis out as they like
        axes = tuple(range(2, x.ndim))
        return x.mean(dim=axes), (x * x).mean(dim=axes)
    with torch.autocast(x.device.type, enabled=False):  # sums of squares are beyond the numbers of float16
        flat = x.flatten(2)
        flat = flat if flat.dtype == torch.float64 else flat.float()
        return flat.mean(dim=2).double(), _sum_of_squares(flat) / flat.shape[2]


def _sum_of_squares(flat: Tensor) -> Tensor:
    """Sum of squares along the last axis of NCL, N C in float64.

    A single float32 product over all voxels loses up to six digits of the variance where the mean is large, how many depends on the CPU's
    matrix product; products over blocks, added in float64, do not.
    """
    n, _, length = flat.shape
    whole = length // _BLOCK * _BLOCK
    blocks = flat[:, :, :whole].unflatten(2, (-1, _BLOCK)).transpose(1, 2).flatten(0, 1)
    total = torch.bmm(blocks, blocks.mT).diagonal(dim1=1, dim2=2).double().unflatten(0, (n, -1)).sum(dim=1)
    rest = flat[:, :, whole:]
    return total + torch.bmm(rest, rest.mT).diagonal(dim1=1, dim2=2).double()
