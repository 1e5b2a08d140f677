"""Contract tests of networks and losses; see `morula.testing.contracts`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from morula.core.errors import DataError
from morula.core.options import Options
from morula.losses import LOSSES
from morula.losses.sums import Sums
from morula.nn import NETWORKS
from morula.nn.build import build_network
from morula.nn.network import Network
from morula.nn.weights import load_weights, save_weights

Law = Callable[[str], None]

_HEADS = {"channels": 3, "rays": 5}


# --- networks ----------------------------------------------------------------------------------------------------------------------------


_TOKENS = {"width": 8, "layers": 3, "heads": 2, "token": 4}
_SMALL: dict[str, dict[str, object]] = {
    "multiresunet": {"features": (6, 8)},
    "residual_encoder_unet": {"features": (4, 6, 8), "blocks": (1, 2, 1)},
    "hrnet": {"features": (4, 6, 8), "modules": 1, "blocks": 1, "stem_features": 4, "stem_blocks": 2},
    "unetr": {**_TOKENS, "features": 4},
    "mae": {**_TOKENS, "decoder_width": 8, "decoder_layers": 1, "decoder_heads": 2},
    "edsr": {"features": (4,), "blocks": 2},
    "rcan": {"features": (4,), "blocks": 1, "groups": 2},
    "wdsr": {"features": (4,), "blocks": 2},
    "dfcan": {"features": (4,), "blocks": 1, "groups": 2},
}


def small_options(name: str) -> Options:
    """Options of a network with few features where the network has such an option."""
    options = NETWORKS.options(name)
    default = {"features": (4, 6, 8)} if "features" in options.model_fields else {}
    small: Options = options.model_validate(_SMALL.get(name, default))
    return small


def _network(name: str, ndim: int, heads: dict[str, int] = _HEADS) -> Network:
    torch.manual_seed(0)
    return build_network(small_options(name), ndim, 2, heads)


def _inputs(ndim: int) -> Iterator[Tensor]:
    # odd lengths, lengths below the poolings of the network, and single voxels
    shapes: dict[int, list[tuple[int, ...]]] = {2: [(33, 20), (16, 16), (7, 50), (1, 1)], 3: [(9, 14, 21), (8, 16, 16), (1, 12, 5)]}
    for shape in shapes[ndim]:
        yield torch.rand((1, 2, *shape), generator=torch.Generator().manual_seed(1))


def network_takes_any_size(name: str) -> None:
    """Every head returns its channels in the shape of the input, finite, in training and evaluation."""
    for ndim in (2, 3):
        network = _network(name, ndim)
        assert len(network.multiple) == len(network.receptive_halo) == ndim
        for mode in (True, False):
            network.train(mode)
            for x in _inputs(ndim):
                with torch.no_grad():
                    outputs = network(x)
                assert {head: tuple(y.shape) for head, y in outputs.items()} == {h: (1, k, *x.shape[2:]) for h, k in _HEADS.items()}
                assert all(bool(y.isfinite().all()) for y in outputs.values())


def network_learns_everywhere(name: str) -> None:
    """A backward pass gives every parameter a finite gradient."""
    for ndim in (2, 3):
        network = _network(name, ndim).train()
        x = next(_inputs(ndim)).repeat(2, *[1] * (ndim + 1))
        sum(y.square().mean() for y in network(x).values()).backward()
        for parameter, values in network.named_parameters():
            assert values.grad is not None, parameter
            assert bool(values.grad.isfinite().all()), parameter


def network_is_deterministic(name: str) -> None:
    """In evaluation the same input gives the same output, alone and in a batch; the same seed gives the same weights."""
    for ndim in (2, 3):
        one, two = _network(name, ndim).eval(), _network(name, ndim).eval()
        x = torch.cat([next(_inputs(ndim)), next(_inputs(ndim)).flip(-1)])
        with torch.no_grad():
            for head, y in one(x).items():
                torch.testing.assert_close(one(x)[head], y, rtol=0, atol=0)
                torch.testing.assert_close(two(x)[head], y, rtol=0, atol=0)
            one, x = one.double(), x.double()  # normalisation over space magnifies how float32 rounds batches of another size
            for head, y in one(x).items():
                torch.testing.assert_close(one(x[1:])[head], y[1:], rtol=1e-7, atol=1e-8)


def network_survives_storing(name: str) -> None:
    """Saved and loaded weights give the same output."""
    for ndim in (2, 3):
        network = _network(name, ndim).eval()
        x = next(_inputs(ndim))
        with TemporaryDirectory() as folder:
            save_weights(Path(folder), network, {}, x)
            loaded = load_weights(Path(folder)).network
        with torch.no_grad():
            for head, y in network(x).items():
                torch.testing.assert_close(loaded(x)[head], y)


def network_computes_in_half_precision(name: str) -> None:
    """With bfloat16 the outputs stay finite and near those of float32, and a backward pass is finite."""
    for ndim in (2, 3):
        network = _network(name, ndim).eval()
        x = next(_inputs(ndim))
        with torch.autocast("cpu", torch.bfloat16):
            outputs = network(x)
        sum(y.float().square().mean() for y in outputs.values()).backward()
        gradients = [values.grad for values in network.parameters()]
        assert all(gradient is not None and bool(gradient.isfinite().all()) for gradient in gradients)
        with torch.no_grad():
            for head, y in network(x).items():
                assert float((outputs[head].float() - y).abs().mean()) < 0.1 * (1 + float(y.abs().mean()))


def network_is_exported(name: str) -> None:
    """As a graph without Python (`torch.export`), with one head and with several, the network gives the same output for an odd size."""
    for ndim, heads in ((2, _HEADS), (3, {"image": 1})):
        network = _network(name, ndim, heads).eval()
        x = next(_inputs(ndim))
        exported = torch.export.export(network, (x,)).module()
        with torch.no_grad():
            expected = network(x)
            found = exported(x)
        assert found.keys() == expected.keys()
        for head, y in expected.items():
            torch.testing.assert_close(found[head], y)


NETWORK_LAWS: tuple[Law, ...] = (
    network_takes_any_size,
    network_learns_everywhere,
    network_is_deterministic,
    network_survives_storing,
    network_computes_in_half_precision,
    network_is_exported,
)


# --- losses ------------------------------------------------------------------------------------------------------------------------------


def _loss(name: str) -> Callable[..., Sums]:
    return LOSSES.load(name)


def _batch(name: str, ndim: int = 2, *, dtype: torch.dtype = torch.float32, side: int = 5) -> tuple[Tensor, Tensor, float]:
    """Logits, a target that the loss takes (values in [0, 1], or class numbers where it wants these), and a value for 'ignored'."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((3, 4, *(side,) * ndim), generator=generator, dtype=dtype)
    target = torch.rand(logits.shape, generator=generator, dtype=dtype)
    try:
        _loss(name)(logits, target)
    except DataError:
        return logits, torch.randint(0, 4, (3, 1, *(side,) * ndim), generator=generator), 255.0
    return logits, target, -1.0


def _mask(target: Tensor) -> Tensor:
    """0 in a part of the voxels, alike in all channels."""
    return (torch.rand((target.shape[0], 1, *target.shape[2:]), generator=torch.Generator().manual_seed(2)) > 0.4).to(torch.float32)


def loss_adds_up(name: str) -> None:
    """Parts of pieces of a batch, added, give the loss of the whole, with weights that differ between the pieces."""
    loss = _loss(name)
    for ndim in (2, 3):
        logits, target, _ = _batch(name, ndim)
        weight = _mask(target) * torch.tensor([1.0, 0.2, 3.0]).reshape(3, *[1] * (ndim + 1))
        whole = loss(logits, target, weight)
        pieces = [loss(logits[i : i + 1], target[i : i + 1], weight[i : i + 1]) for i in range(3)]
        halves = [loss(result[..., :2], other[..., :2], w[..., :2]) for result, other, w in [(logits, target, weight)]]
        halves += [loss(logits[..., 2:], target[..., 2:], weight[..., 2:])]
        for parts in (pieces, halves):
            assert all(piece.parts.shape == whole.parts.shape for piece in parts)
            torch.testing.assert_close(whole.value(torch.stack([piece.parts for piece in parts]).sum(0)), whole.total)
        assert whole.total.ndim == 0


def loss_ignores_what_has_no_weight(name: str) -> None:
    """Where the weight is 0, or the target holds the value to ignore, neither prediction nor target matter and no gradient flows."""
    loss = _loss(name)
    logits, target, ignored = _batch(name)
    weight = _mask(target)
    nothing = (weight == 0).expand_as(target)
    expected = loss(logits, target, weight).total
    for marked, kwargs in ((target.masked_fill(nothing, 0), {"weight": weight}), (target.masked_fill(nothing, ignored), {})):
        other = torch.where(weight > 0, logits, torch.full_like(logits, 30.0)).requires_grad_()
        total = loss(other, marked, **kwargs, ignore_value=None if kwargs else ignored).total
        torch.testing.assert_close(total.detach(), expected)
        # 30 in the logits would dominate the loss if it counted; its gradient must be exactly 0
        (gradient,) = torch.autograd.grad(total, other)
        assert not bool((gradient * (weight == 0)).any())
        assert bool(gradient.any())


def loss_of_ones_is_plain(name: str) -> None:
    """Without weights the loss is that with weights of 1, and a plane of a volume is a plane."""
    loss = _loss(name)
    logits, target, _ = _batch(name)
    plain = loss(logits, target).total
    torch.testing.assert_close(loss(logits, target, torch.ones(3, 1, 5, 5)).total, plain)
    torch.testing.assert_close(loss(logits[:, :, None], target[:, :, None]).total, plain)
    assert float(plain) >= 0


def loss_stays_finite(name: str) -> None:
    """Sure predictions, right and wrong, and patches in which nothing counts give finite losses and gradients."""
    loss = _loss(name)
    logits, target, _ = _batch(name)
    # logits of 1000 overflow an exponential in float32; without a voxel that counts, a mean is 0 / 0
    for scale, weight in ((1e3, None), (-1e3, None), (1.0, torch.zeros(3, 1, 5, 5)), (1e3, torch.zeros(3, 1, 5, 5))):
        x = (logits * scale).requires_grad_()
        total = loss(x, target, weight).total
        (gradient,) = torch.autograd.grad(total, x)
        assert math.isfinite(float(total.detach()))
        assert bool(gradient.isfinite().all())


def loss_has_the_right_gradient(name: str) -> None:
    """The gradient equals that by finite differences, in float64."""
    logits, target, _ = _batch(name, dtype=torch.float64, side=2)
    weight = _mask(target).double()

    def total(x: Tensor) -> Tensor:
        return _loss(name)(x, target, weight).total

    assert torch.autograd.gradcheck(total, (logits.requires_grad_(),))


LOSS_LAWS: tuple[Law, ...] = (
    loss_adds_up,
    loss_ignores_what_has_no_weight,
    loss_of_ones_is_plain,
    loss_stays_finite,
    loss_has_the_right_gradient,
)
