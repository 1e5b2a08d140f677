"""Laws of the losses, compared with sums computed voxel by voxel in float64."""

import inspect
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from morula.losses import LOSSES
from morula.losses.bce import bce, bce_sums
from morula.losses.cross_entropy import ce, ce_sums, weighted_ce
from morula.losses.dice import bce_dice, dice, dice_sums
from morula.losses.generalized_dice import generalized_dice
from morula.losses.rebalance import rebalance_weights
from morula.losses.regression import l1, mse, smooth_l1
from morula.testing.errors import raises

GOLDEN = Path(__file__).parent.parent / "golden" / "losses" / "losses.npz"
NAMES = LOSSES.names
PLAIN = {
    "bce": bce,
    "dice": dice,
    "bce_dice": bce_dice,
    "generalized_dice": generalized_dice,
    "ce": ce,
    "weighted_ce": weighted_ce,
    "mse": mse,
    "l1": l1,
    "smooth_l1": smooth_l1,
}
# the class weights of weighted_ce follow the prediction of all voxels, ignored ones too, and carry no gradient
FIXED_WEIGHTS = [name for name in NAMES if name != "weighted_ce"]
SHAPES = [(2, 3, 4, 5), (2, 3, 2, 3, 4)]


def example(name, shape=(4, 3, 6, 5), dtype=torch.float64, seed=0):
    """Logits, target of the loss's kind, weights with zeros among them."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(shape, generator=generator, dtype=dtype)
    if name in ("ce", "weighted_ce"):
        target = torch.randint(shape[1], (shape[0], 1, *shape[2:]), generator=generator)
        weight = torch.rand(target.shape, generator=generator, dtype=dtype)
    else:
        target = torch.rand(shape, generator=generator, dtype=dtype)
        target = target if name in ("mse", "l1", "smooth_l1") else (target > 0.6).to(dtype)
        weight = torch.rand(shape, generator=generator, dtype=dtype)
    return logits, target, weight * (weight > 0.3)


def voxel_loss(name, x, t):
    """Loss of one voxel from scalars."""
    match name:
        case "bce":
            p = 1 / (1 + math.exp(-x))
            return -t * math.log(p) - (1 - t) * math.log(1 - p)
        case "mse":
            return (x - t) ** 2
        case "l1":
            return abs(x - t)
        case "smooth_l1":
            return (x - t) ** 2 / 2 if abs(x - t) < 1 else abs(x - t) - 0.5


def brute_force(name, logits, target, weight, channel_weights):
    """The loss as a sum over voxels; arrays NC... of float64."""
    if name == "bce_dice":
        return sum(brute_force(part, logits, target, weight, channel_weights) for part in ("bce", "dice"))
    x, t, w = (np.moveaxis(array.numpy(), 1, 0).reshape(array.shape[1], -1) for array in (logits, target, weight))
    if name in ("ce", "weighted_ce"):
        numerator = denominator = 0.0
        if name == "weighted_ce":
            p = np.exp(x) / np.exp(x).sum(axis=0)
            channel_weights = np.array(channel_weights) * (1 - p).sum(axis=1) / p.sum(axis=1)
        for i in range(t.shape[1]):
            share = w[0, i] * channel_weights[t[0, i]]
            numerator -= share * (x[t[0, i], i] - math.log(sum(math.exp(v) for v in x[:, i])))
            denominator += share
        return numerator / denominator
    if name == "generalized_dice":
        p, least = 1 / (1 + np.exp(-x)), (w * t).sum(axis=1).min()
        shares = np.array(channel_weights) * [(least / (wc * tc).sum()) ** 2 for wc, tc in zip(w, t, strict=True)]
        overlap, size = sum(shares * (w * p * t).sum(axis=1)), sum(shares * (w * (p + t)).sum(axis=1))
        return 1 - (2 * overlap + 1) / (size + 1)
    channels = []
    for c in range(len(x)):
        if name == "dice":
            p = [1 / (1 + math.exp(-v)) for v in x[c]]
            overlap = sum(wi * pi * ti for wi, pi, ti in zip(w[c], p, t[c], strict=True))
            size = sum(wi * (pi + ti) for wi, pi, ti in zip(w[c], p, t[c], strict=True))
            channels.append(1 - (2 * overlap + 1) / (size + 1))
        else:
            channels.append(sum(wi * voxel_loss(name, xi, ti) for wi, xi, ti in zip(w[c], x[c], t[c], strict=True)) / w[c].sum())
    return sum(a * b for a, b in zip(channels, channel_weights, strict=True)) / sum(channel_weights)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_equals_the_sum_over_voxels(name, shape):
    logits, target, weight = example(name, shape)
    shares = (0.5, 2.0, 1.0)
    expected = brute_force(name, logits, target, weight, shares)
    assert PLAIN[name](logits, target, weight, channel_weights=shares).item() == pytest.approx(expected, rel=1e-12)
    even = brute_force(name, logits, target, torch.ones_like(weight), (1, 1, 1))
    assert PLAIN[name](logits, target).item() == pytest.approx(even, rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_parts_add_over_any_split(name):
    logits, target, weight = example(name)
    sums = LOSSES.load(name)
    whole = sums(logits, target, weight)
    pieces = [sums(*(a[i : i + 1, ..., j : j + 2, :] for a in (logits, target, weight))) for i in range(4) for j in (0, 2, 4)]
    total = pieces[0]
    for piece in pieces[1:]:
        assert piece.parts.shape == whole.parts.shape
        total = total + piece
    torch.testing.assert_close(total.parts, whole.parts, rtol=1e-12, atol=1e-12)
    assert total.total.item() == pytest.approx(whole.total.item(), rel=1e-12)
    assert pieces[3].value(whole.parts).item() == pytest.approx(whole.total.item(), rel=1e-12)  # the value does not depend on its piece
    assert whole.total.item() == pytest.approx(PLAIN[name](logits, target, weight).item(), rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_add_over_processes(name):
    logits, target, weight = example(name)
    sums = LOSSES.load(name)
    whole = logits.clone().requires_grad_()
    sums(whole, target, weight).total.backward()
    halves = [logits[i : i + 2].clone().requires_grad_() for i in (0, 2)]
    parts = [sums(half, target[i : i + 2], weight[i : i + 2]) for half, i in zip(halves, (0, 2), strict=True)]
    for mine, other in ((0, 1), (1, 0)):  # as on each rank: parts of the others come without their graph
        parts[mine].value(parts[mine].parts + parts[other].parts.detach()).backward()
    torch.testing.assert_close(torch.cat([half.grad for half in halves]), whole.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", FIXED_WEIGHTS)
def test_gradient_equals_finite_differences(name):
    logits, target, weight = example(name, (2, 3, 2, 3))
    assert torch.autograd.gradcheck(lambda x: LOSSES.load(name)(x, target, weight).total, logits.requires_grad_())


@pytest.mark.parametrize("name", FIXED_WEIGHTS)
def test_ignored_voxels_have_no_effect(name):
    logits, target, _ = example(name)
    logits.requires_grad_()
    ignored = torch.rand(target.shape, generator=torch.Generator().manual_seed(5)) < 0.3
    by_value = PLAIN[name](logits, target.masked_fill(ignored, -1), ignore_value=-1)
    by_weight = PLAIN[name](logits, target, (~ignored).double())
    assert by_value.item() == pytest.approx(by_weight.item(), rel=1e-12)
    (gradient,) = torch.autograd.grad(by_value, logits)
    assert not gradient.masked_select(ignored.expand_as(logits)).any()
    invalid = target.double().masked_fill(ignored, math.nan)
    assert PLAIN[name](logits, invalid, (~ignored).double()).item() == pytest.approx(by_weight.item(), rel=1e-12)
    assert (
        PLAIN[name](logits, invalid, ignore_value=math.nan).item() == pytest.approx(by_weight.item(), rel=1e-12) if name != "ce" else True
    )
    # the same as if these columns did not exist
    columns = torch.zeros_like(target)
    columns[..., :2] = 1
    cut = PLAIN[name](logits[..., 2:], target[..., 2:])
    assert PLAIN[name](logits, target, (1 - columns).double()).item() == pytest.approx(cut.item(), rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_all_weights_zero_gives_zero_loss_and_gradient(name):
    logits, target, weight = example(name)
    logits.requires_grad_()
    loss = PLAIN[name](logits, target, torch.zeros_like(weight))
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_channels_without_weight_are_left_out():
    logits, target, weight = example("mse")
    weight[:, 1] = 0
    rest = [0, 2]
    assert mse(logits, target, weight).item() == pytest.approx(mse(logits[:, rest], target[:, rest], weight[:, rest]).item(), rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_invariant_under_sample_order_and_flips(name):
    arrays = example(name)
    expected = PLAIN[name](*arrays).item()
    assert PLAIN[name](*(a.flip(0, -1) for a in arrays)).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(name, dtype):
    logits, target, _ = example(name, (1, 2, 300, 300), torch.float32)  # 90,000 voxels: above float16's largest number
    half = logits.to(dtype)
    expected = PLAIN[name](half.float(), target)
    loss = PLAIN[name](half, target)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert PLAIN[name](half, target).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_mean_over_all_voxels_in_both_losses():
    """A channel with few counted voxels counts little in the binary cross-entropy; Dice stays the mean over channels."""
    generator = torch.Generator().manual_seed(0)
    logits, target = torch.randn(2, 2, 6, 6, generator=generator), (torch.rand(2, 2, 6, 6, generator=generator) > 0.5).float()
    target[:, 1, 1:] = 9
    counted = target != 9
    entropy = functional.binary_cross_entropy_with_logits(logits[counted], target[counted])
    found = bce_dice(logits, target, ignore_value=9, shares=(0.5, 2), over_channels=False)
    torch.testing.assert_close(found, 0.5 * entropy + 2 * dice(logits, target, ignore_value=9))


@pytest.mark.parametrize("name", ["bce", "dice", "bce_dice", "generalized_dice", "ce"])
def test_huge_logits_stay_finite(name):
    logits, target, _ = example(name, dtype=torch.float32)
    logits = (logits * 1e4).requires_grad_()
    loss = PLAIN[name](logits, target)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_perfect_prediction_costs_nothing(name):
    logits, target, _ = example(name)
    if name in ("ce", "weighted_ce"):
        logits = 100 * torch.nn.functional.one_hot(target[:, 0], 3).movedim(-1, 1).double()
    else:
        logits = target if name in ("mse", "l1", "smooth_l1") else (target - 0.5) * 200
    assert PLAIN[name](logits, target).item() == pytest.approx(0, abs=1e-12)
    assert PLAIN[name](logits + torch.randn_like(logits), target + 0).item() >= 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("make", [lambda t: t[:, :, :1], lambda t: t[:1], lambda t: t[..., 0]])
def test_bad_arguments_have_codes(name, make):
    logits, target, weight = example(name)
    wrong = make(target)
    with raises("loss.target_shape", value=tuple(wrong[:, 0].shape if name in ("ce", "weighted_ce") and wrong.ndim == 4 else wrong.shape)):
        PLAIN[name](logits, wrong)
    with raises("loss.weight_shape"):
        PLAIN[name](logits, target, weight[:, :, :2])
    for weights in ((1.0, 1.0), (0.0, 0.0, 0.0), (1.0, -1.0, 1.0)):
        with raises("loss.channel_weights", key="channel_weights", value=weights):
            PLAIN[name](logits, target, channel_weights=weights)


def test_plain_losses_have_their_own_name():
    for name, loss in PLAIN.items():
        assert loss.__name__ == name
        assert pickle.loads(pickle.dumps(loss)) is loss
        assert inspect.signature(loss).parameters == inspect.signature(LOSSES.load(name)).parameters


@pytest.mark.parametrize("name", NAMES)
def test_weights_broadcast(name):
    logits, target, _ = example(name)
    row = torch.rand(1, 1, 1, 5, dtype=torch.float64)
    full = row.expand_as(target)
    assert PLAIN[name](logits, target, row).item() == pytest.approx(PLAIN[name](logits, target, full).item(), rel=1e-12)


@pytest.mark.parametrize(
    ("case", "loss"),
    [
        ("bce", lambda x, g: bce(x, g["binary"])),
        ("dice", lambda x, g: dice(x, g["binary"], squared=True, smooth=0)),
        ("dice_softmax", lambda x, g: dice(x, g["binary"], squared=True, smooth=0, activation="softmax")),
        ("bcedice_alpha", lambda x, g: bce_dice(x, g["binary"], shares=(1, 0.3), squared=True, smooth=0)),
        ("ce", lambda x, g: ce(x, g["classes"])),
        ("ce_ignore", lambda x, g: ce(x, g["classes_ignored"], ignore_value=-1)),
        ("mse", lambda x, g: mse(x, g["real"])),
        ("l1", lambda x, g: l1(x, g["real"])),
        ("smoothl1", lambda x, g: smooth_l1(x, g["real"])),
    ],
)
def test_golden_values_and_gradients(case, loss):
    with np.load(GOLDEN) as file:
        golden = {name: torch.from_numpy(file[name]) for name in file.files}
    logits = golden["input"].clone().requires_grad_()
    value = loss(logits, golden)
    value.backward()
    assert value.item() == pytest.approx(golden[f"{case}/value"].item(), rel=1e-5)
    expected = golden[f"{case}/grad"]
    torch.testing.assert_close(logits.grad, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_dice_of_empty_channels():
    empty, none = torch.zeros(1, 1, 4, 4), torch.full((1, 1, 4, 4), -200.0)
    assert dice(none, empty).item() == 0
    assert dice(none, empty, smooth=0).item() == 0
    assert dice(none, empty, smooth=0, activation="linear", squared=True).item() == 1  # -200 everywhere is not empty


def test_class_weights_equal_torch():
    logits, target, _ = example("ce")
    weights = torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64)
    expected = torch.nn.functional.cross_entropy(logits, target[:, 0], weight=weights)
    assert ce(logits, target, channel_weights=weights.tolist()).item() == pytest.approx(expected.item(), rel=1e-12)


def test_cross_entropy_per_voxel_grows_with_the_weights():
    logits, target = torch.randn(2, 3, 4, 4, dtype=torch.float64), torch.randint(0, 3, (2, 4, 4))
    weight = torch.rand(2, 4, 4, dtype=torch.float64)
    weight[0, 0] = 0
    wanted = (functional.cross_entropy(logits, target, reduction="none") * weight).sum() / (weight > 0).sum()
    torch.testing.assert_close(ce(logits, target, weight, per_voxel=True), wanted)
    torch.testing.assert_close(ce(logits, target, 2 * weight, per_voxel=True), 2 * wanted)


def test_class_numbers_of_any_dtype_and_shape():
    logits, target, weight = example("ce")
    expected = ce(logits, target, weight).item()
    for form in (target[:, 0], target.float(), target.to(torch.uint8), target[:, 0].to(torch.int32)):
        assert ce(logits, form, weight).item() == expected
        assert ce(logits, form, weight[:, 0]).item() == expected


@pytest.mark.parametrize("wrong", [-1, 3, 70_000])
def test_class_out_of_range(wrong):
    logits, target, _ = example("ce")
    target[0, 0, 0, 0] = wrong
    with raises("loss.class_out_of_range", key="target", value=wrong):
        ce_sums(logits, target)


@pytest.mark.parametrize("loss", [mse, l1, smooth_l1])
@pytest.mark.parametrize("name", ["sigmoid", "tanh", "softmax"])
def test_activation_is_applied_first(loss, name):
    logits, target, _ = example("mse")
    values = getattr(torch, name)(logits, dim=1) if name == "softmax" else getattr(torch, name)(logits)
    assert loss(logits, target, activation=name).item() == pytest.approx(loss(values, target).item(), rel=1e-12)
    with raises("loss.unknown_activation", key="activation", value="sine"):
        loss(logits, target, activation="sine")


@pytest.mark.parametrize("loss", [mse, l1, smooth_l1])
def test_errors_have_another_factor_on_each_side_of_a_target(loss):
    logits, target, weight = (torch.rand(2, 1, 4, 4, dtype=torch.float64) for _ in range(3))
    factor = torch.where(target < 0.5, 3.0, 0.5)
    wanted = loss(logits, target, weight * factor) * (weight * factor).sum() / weight.sum()
    torch.testing.assert_close(loss(logits, target, weight, sides=(0.5, 3.0, 0.5)), wanted)


def test_sides_are_three_numbers():
    with raises("loss.sides", key="sides"):
        l1(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), sides=(0.5, 2.0))


def test_smooth_l1_turns_at_beta():
    zero = torch.zeros(1, 1, 1, 1)
    assert smooth_l1(zero, zero + 0.1, beta=0.2).item() == pytest.approx(0.025)
    assert smooth_l1(zero, zero + 1, beta=0.2).item() == pytest.approx(0.9)


def test_inputs_are_not_changed():
    for name in NAMES:
        arrays = example(name)
        copies = [a.clone() for a in arrays]
        PLAIN[name](*arrays, ignore_value=0)
        assert all(torch.equal(a, b) for a, b in zip(arrays, copies, strict=True))


@pytest.mark.parametrize("foreground", [1, 3, 30, 50, 70, 99])
@pytest.mark.parametrize("ndim", [2, 3])
def test_rebalance_gives_both_sides_equal_weight(foreground, ndim):
    target = torch.zeros(1, 1, *(1,) * (ndim - 2), 10, 10, dtype=torch.float64)
    target.view(-1)[:foreground] = 0.7
    weights = rebalance_weights(target)
    assert weights.min() == 1
    front, back = weights[target > 0].sum().item(), weights[target == 0].sum().item()
    if 5 <= foreground <= 95:
        assert front == pytest.approx(back)
    else:
        assert weights.max().item() == pytest.approx(19)


def test_rebalance_per_channel_except_constant_ones():
    target = torch.zeros(2, 3, 4, 4)
    target[:, 1] = 1
    target[0, 2, :2] = 1
    weights = rebalance_weights(target)
    assert (weights[:, :2] == 1).all()
    assert weights[:, 2].unique().tolist() == [1, 3]
    torch.testing.assert_close(rebalance_weights(target[:, 2:]), weights[:, 2:])


def test_rebalance_multiplies_weights_and_ignores_voxels():
    target = torch.tensor([[[[1.0, 0, 0, 0, 1, 1]]]])
    weight = torch.tensor([[[[2.0, 2, 1, 1, 0, 0]]]])
    assert rebalance_weights(target, weight).tolist() == [[[[6, 2, 1, 1, 0, 0]]]]
    marked = torch.tensor([[[[1.0, 0, 0, 0, -1, -1]]]])
    assert rebalance_weights(marked, ignore_value=-1).tolist() == [[[[3, 1, 1, 1, 0, 0]]]]
    assert bce_sums(torch.zeros_like(target), marked, rebalance_weights(marked, ignore_value=-1)).parts[1].item() == 6


def test_dice_equals_dice_of_sets():
    prediction, target = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    prediction[..., :2], target[..., 1:3] = 1, 1
    assert dice_sums(prediction, target, activation="linear", smooth=0).total.item() == 0.5


@pytest.mark.parametrize("empty", [(1,), (0, 1), (0, 1, 2)])
def test_generalised_dice_has_gradients_in_empty_channels(empty):
    logits, target, _ = example("generalized_dice")
    target[:, list(empty)] = 0
    for smooth in (0.0, 1.0):
        x = logits.clone().requires_grad_()
        loss = generalized_dice(x, target, smooth=smooth)
        loss.backward()
        assert 0 < loss.item() <= 1
        assert x.grad[:, list(empty)].abs().max() > 1e-6
        assert (x.grad[:, list(empty)] >= 0).all()


def test_generalised_dice_adds_the_background_of_one_channel():
    logits, target, weight = example("generalized_dice", (2, 1, 6, 5))
    both = torch.cat([logits, -logits], dim=1), torch.cat([target, 1 - target], dim=1), weight.expand(2, 2, 6, 5)
    assert generalized_dice(logits, target, weight).item() == pytest.approx(generalized_dice(*both).item(), rel=1e-12)


def test_positive_weights_multiply_the_foreground():
    logits, target, _ = example("bce")
    factors = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64).reshape(1, 3, 1, 1)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, pos_weight=factors[0])
    assert bce(logits, target, positive_weights=(1, 2, 5)).item() == pytest.approx(expected.item(), rel=1e-12)
    assert bce(logits, target, positive_weights=2).item() == pytest.approx(
        bce(logits, target, positive_weights=(2, 2, 2)).item(), rel=1e-12
    )
    with raises("loss.channel_weights", value=(1.0, 2.0)):
        bce(logits, target, positive_weights=(1, 2))
