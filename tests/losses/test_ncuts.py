"""Soft normalised cuts against CellSeg3D's numbers, sums over pairs written out, and finite differences."""

import itertools
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from morula.losses import soft_ncuts, soft_ncuts_pairwise
from morula.losses.ncuts import soft_ncuts_sums
from morula.testing.errors import raises

GOLDEN = Path(__file__).parent.parent / "golden" / "soft_ncuts" / "soft_ncuts.npz"
CASES = ["B_0", "B_2", "C_0"]


def example(shape=(2, 1, 4, 5, 6), classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    image = 3 * torch.rand(shape, generator=generator, dtype=torch.float64)
    return image, torch.randn((shape[0], classes, *shape[2:]), generator=generator, dtype=torch.float64).softmax(dim=1)


@pytest.mark.parametrize("case", CASES)
def test_golden_values_and_gradients(case):
    with np.load(GOLDEN) as file:
        sigma, spatial, radius = file[f"{case}_params"][:3]
        image, probabilities = (torch.from_numpy(file[f"{case[0]}_{name}"]).float() for name in ("image", "prob"))
        value, gradient = float(file[f"{case}_loss_fp64"]), torch.from_numpy(file[f"{case}_grad_fp64"]).float()
    probabilities.requires_grad_()
    loss = soft_ncuts(image, probabilities, intensity_sigma=float(sigma), spatial_sigma=float(spatial), radius=int(radius))
    loss.backward()
    assert loss.item() == pytest.approx(value, abs=1e-5)
    torch.testing.assert_close(probabilities.grad, gradient, rtol=0, atol=1e-4 * float(gradient.abs().max()))


@pytest.mark.parametrize("shape", [(2, 2, 5, 6), (1, 1, 3, 4, 5)])
def test_equals_the_dense_convolution(shape):
    image, probabilities = example(shape)
    reach = torch.arange(-2, 3, dtype=torch.float64)
    squares = sum(axis.square() for axis in torch.meshgrid(*[reach] * (len(shape) - 2), indexing="ij"))
    kernel = torch.exp(-squares / (2 * 1.5**2))[None, None]
    convolve = torch.nn.functional.conv2d if len(shape) == 4 else torch.nn.functional.conv3d
    expected = 0.0
    for x, p in zip(image, probabilities, strict=True):
        for each in p:
            mean = (x * each).flatten(1).mean(1) / (each.mean() + 1e-5)
            near = torch.exp(-((x - mean.reshape(-1, *[1] * each.ndim)).square().sum(0).square()) / 4)
            inner, outer = (convolve(values[None, None], kernel, padding=2)[0, 0] for values in (each * near, near))
            expected -= float((each * inner).sum() / ((each * outer).sum() + 1e-6)) / len(image)
    expected += probabilities.shape[1]
    assert soft_ncuts(image, probabilities, intensity_sigma=2.0, spatial_sigma=1.5).item() == pytest.approx(expected, rel=1e-12)


def test_gradient_equals_finite_differences():
    image, probabilities = example((1, 1, 3, 4))
    assert torch.autograd.gradcheck(lambda p: soft_ncuts(image, p, intensity_sigma=2.0), (probabilities.requires_grad_(),))
    assert torch.autograd.gradcheck(lambda p: soft_ncuts_pairwise(image, p, intensity_sigma=2.0), (probabilities,))


@pytest.mark.parametrize(("shape", "radius"), [((2, 2, 4, 5), 2), ((1, 1, 3, 3, 4), 2), ((1, 1, 2, 7), 9), ((1, 1, 3, 3), 0)])
def test_equals_the_sum_over_pairs(shape, radius):
    image, probabilities = example(shape)
    places = list(itertools.product(*map(range, shape[2:])))
    expected = 0.0
    for x, p in zip(image.numpy(), probabilities.numpy(), strict=True):
        for each in p:
            inner = outer = 0.0
            for i, j in itertools.product(places, places):
                apart = sum((a - b) ** 2 for a, b in zip(i, j, strict=True))
                if apart <= radius**2:
                    differing = sum((channel[i] - channel[j]) ** 2 for channel in x)
                    weight = math.exp(-differing / 4) * math.exp(-apart / 9)
                    inner += each[i] * weight * each[j]
                    outer += each[i] * weight
            expected -= inner / outer / len(image)
    expected += probabilities.shape[1]
    loss = soft_ncuts_pairwise(image, probabilities, intensity_sigma=2.0, spatial_sigma=3.0, radius=radius)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("loss", [soft_ncuts, soft_ncuts_pairwise])
def test_autocast_changes_nothing(loss):
    generator = torch.Generator().manual_seed(0)
    image = 100 * torch.rand((1, 1, 8, 8, 8), generator=generator)
    probabilities = torch.randn((1, 2, 8, 8, 8), generator=generator).softmax(1)
    found = []
    for mixed in (False, True):
        given = probabilities.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            value = loss(image, given, intensity_sigma=20.0)
        value.backward()
        found.append((value, given.grad))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("loss", [soft_ncuts, soft_ncuts_pairwise])
def test_perfect_cut_is_0_and_one_class_is_k_minus_1(loss):
    image = torch.zeros(1, 1, 6, 8)
    image[..., 4:] = 50
    split = torch.cat([image < 5, image > 5], dim=1).float()
    single = torch.cat([torch.ones_like(image), torch.zeros_like(image)], dim=1)
    assert loss(image, split).item() == pytest.approx(0, abs=1e-4)
    assert loss(image, single, intensity_sigma=1000).item() == pytest.approx(1, abs=1e-4)
    assert loss(image, split.flip(1)).item() == pytest.approx(loss(image, split).item(), abs=1e-6)
    assert loss(torch.zeros_like(image), single).isfinite()


def test_parts_add_over_samples():
    image, probabilities = example((3, 1, 5, 6))
    whole = soft_ncuts_sums(image, probabilities)
    pieces = [soft_ncuts_sums(image[i : i + 1], probabilities[i : i + 1]) for i in range(3)]
    assert whole.value(sum(piece.parts for piece in pieces)).item() == pytest.approx(whole.total.item(), rel=1e-12)


@pytest.mark.parametrize("loss", [soft_ncuts, soft_ncuts_pairwise])
def test_bad_arguments_have_codes(loss):
    image, probabilities = example((1, 1, 4, 5))
    with raises("loss.target_shape", key="probabilities", value=(1, 3, 4, 5)):
        loss(image[..., 1:], probabilities)
    with raises("loss.sigma", key="intensity_sigma", value=0):
        loss(image, probabilities, intensity_sigma=0)
    with raises("loss.radius", key="radius", value=-1):
        loss(image, probabilities, radius=-1)


def test_losses_import_without_torch():
    code = (
        "import sys, morula; morula.losses.LOSSES; assert 'torch' not in sys.modules\n"
        "import morula.losses.ncuts\nfrom morula.losses import soft_ncuts\nassert callable(soft_ncuts)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
