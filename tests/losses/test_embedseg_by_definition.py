"""E by its definition: targets and loss voxel by voxel in float64, with loops, against the representation and the loss.

Written from Lalit et al. (Medical Image Analysis 81, 2022), Neven et al. (CVPR 2019) and, for the hinge, Berman et al. (CVPR 2018): its
Lovasz extension of a set function is the sum of errors in descending order, each times what its voxel adds to the function of the set
before it, and the function is the share of wrong voxels M in the union of M and the object. Only `activate` is shared with the code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
import torch

from morula.losses.embedseg import EmbedSegWeights, embedseg
from morula.losses.sums import activate
from morula.representations.encode import encode

GRID = 41
WEIGHTS = EmbedSegWeights(1.5, 7.0, 0.5, 3.0)
Voxel = tuple[int, ...]


def objects_of(labels: np.ndarray) -> dict[int, list[Voxel]]:
    found: dict[int, list[Voxel]] = {}
    for voxel in product(*map(range, labels.shape)):
        if labels[voxel]:
            found.setdefault(int(labels[voxel]), []).append(voxel)
    return found


def lengths(spacing: Sequence[float]) -> list[float]:
    """Length of a voxel along each axis where GRID - 1 of the finest are 1."""
    return [each / min(spacing) / (GRID - 1) for each in spacing]


def place(voxel: Sequence[float], unit: Sequence[float]) -> list[float]:
    return [n * u for n, u in zip(voxel, unit, strict=True)]


def centre(voxels: list[Voxel], unit: Sequence[float], mode: str) -> list[float]:
    """Where an object's centre lies, in array order."""
    places = [place(voxel, unit) for voxel in voxels]
    if mode == "medoid":
        return min(places, key=lambda one: round(sum(math.dist(one, other) for other in places), 9))
    return [sum(axis) / len(places) for axis in zip(*places, strict=True)]


def hinge(memberships: dict[Voxel, float], inside: set[Voxel]) -> float:
    """Lovasz hinge of 2 x membership - 1 against an object."""
    errors = {voxel: 1 - (2 * value - 1) * (1 if voxel in inside else -1) for voxel, value in memberships.items()}
    wrong: set[Voxel] = set()
    total, before = 0.0, 0.0
    for voxel in sorted(errors, key=lambda each: -errors[each]):
        wrong.add(voxel)
        now = len(wrong) / len(wrong | inside)
        total += max(errors[voxel], 0.0) * (now - before)
        before = now
    return total


def loss_of(values: np.ndarray, labels: np.ndarray, weight: np.ndarray, unit: Sequence[float], mode: str, goals: list[float]) -> float:
    """The loss of activated channels NC(Z)YX. `goals` are what seediness is taught, in the order met; empty ones are filled in."""
    ndim, fill = len(unit), not goals
    of_objects, of_seeds, number, voxels, met = 0.0, 0.0, 0, 0, 0
    for sample, image, counts in zip(values, labels, weight, strict=True):
        everywhere = [voxel for voxel in product(*map(range, image.shape)) if counts[voxel]]
        voxels += len(everywhere)
        offset = {v: [sample[(ndim - 1 - axis, *v)] for axis in range(ndim)] for v in everywhere}  # channels are x, y, z
        embedded = {v: [p + o for p, o in zip(place(v, unit), offset[v], strict=True)] for v in everywhere}
        of_seeds += sum(sample[(-1, *v)] ** 2 for v in everywhere if image[v] == 0)
        for members in objects_of(image).values():
            inside = [v for v in members if counts[v]]
            if not inside:
                continue
            number += 1
            where, bands = centre(members, unit, mode), range(ndim, len(sample) - 1)
            means = [sum(sample[(band, *v)] for v in inside) / len(inside) for band in bands]
            spread = [(sample[(band, *v)] - mean) ** 2 for band, mean in zip(bands, means, strict=True) for v in inside]
            sharpness = [math.exp(10 * means[ndim - 1 - axis if len(means) > 1 else 0]) for axis in range(ndim)]
            member = {
                v: math.exp(-sum(s * (e - c) ** 2 for s, e, c in zip(sharpness, embedded[v], where, strict=True))) for v in everywhere
            }
            of_objects += WEIGHTS.instance * hinge(member, set(inside)) + WEIGHTS.variance * sum(spread) / len(spread)
            for v in inside:
                if fill:
                    goals.append(member[v])
                of_seeds += WEIGHTS.foreground * (sample[(-1, *v)] - goals[met]) ** 2
                met += 1
    return of_objects / max(number, 1) + WEIGHTS.seed * of_seeds / max(voxels, 1)


def labels_of(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """None; one; one at the border, hollow; or many that touch, of any shape."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint32)
    if name == "one":
        labels[tuple(slice(1, n - 1) for n in shape)] = 5
    elif name == "border":
        labels[tuple(slice(0, n // 2 + 1) for n in shape)] = 9
        labels[tuple(slice(0, n // 4) for n in shape)] = 0
    elif name == "many":
        seeds = rng.random((6, len(shape))) * shape
        grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
        square = ((grid[..., None, :] - seeds) ** 2).sum(-1)
        labels = np.where(square.min(-1) < (2.3 + seed % 2) ** 2, square.argmin(-1) + 3, 0).astype(np.uint32)
    return labels


def logits_near(target: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Logits of values near the target, whatever the scales of the activation: memberships of all sizes, hinges that are not 0."""
    ndim = target.ndim - 2
    nothing = activate(torch.zeros_like(target), "embedding")
    slope = activate(torch.full_like(target, 1e-4), "embedding").sub(nothing) / 1e-4
    noise = torch.from_numpy(rng.normal(size=target.shape))
    wanted = target.clone()
    wanted[:, :ndim] += 0.06 * noise[:, :ndim]
    wanted[:, ndim:-1] = target[:, ndim:-1] * (target[:, ndim:-1] > 0) - 0.2 + 0.05 * noise[:, ndim:-1]
    logits = (wanted - nothing) / slope
    logits[:, -1] = noise[:, -1]
    return logits


SPACINGS = [((9, 11), (1.0, 1.0)), ((8, 9), (0.5, 1.25)), ((4, 6, 7), (1.0, 1.0, 1.0)), ((4, 6, 5), (2.0, 0.5, 0.6))]
OPTIONS = [{}, {"center_mode": "medoid"}, {"n_sigma": 1}]
NAMES = ["none", "one", "border", "many"]


@pytest.mark.parametrize(("shape", "spacing"), SPACINGS)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", NAMES)
def test_targets(shape: tuple[int, ...], spacing: tuple[float, ...], options: dict[str, object], name: str) -> None:
    labels, unit, ndim = labels_of(name, shape, 1), lengths(spacing), len(shape)
    wanted = np.zeros((ndim + int(options.get("n_sigma", ndim)) + 1, *shape))  # type: ignore[call-overload]
    for voxels in objects_of(labels).values():
        where = centre(voxels, unit, str(options.get("center_mode", "centroid")))
        volume = len(voxels) * math.prod(unit)
        ball = math.sqrt(volume / math.pi) if ndim == 2 else (volume * 3 / (4 * math.pi)) ** (1 / 3)
        radius = max(ball / 4, 0.75 * min(unit))  # where the membership is a half
        for voxel in voxels:
            for axis in range(ndim):
                wanted[(ndim - 1 - axis, *voxel)] = where[axis] - voxel[axis] * unit[axis]
            for band in range(ndim, len(wanted) - 1):
                wanted[(band, *voxel)] = math.log(-math.log(0.5) / radius**2) / 10
            wanted[(-1, *voxel)] = 1
    np.testing.assert_allclose(encode(labels, {"E": {"grid_size": GRID, **options}}, voxel_size=spacing), wanted, atol=1e-6)


@pytest.mark.parametrize(("shape", "spacing"), SPACINGS)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("names", [("none", "none"), ("one", "none"), ("border", "one"), ("many", "border"), ("many", "many")])
def test_value_and_gradient(shape: tuple[int, ...], spacing: tuple[float, ...], options: dict[str, object], names: tuple[str, str]) -> None:
    rng, unit, mode = np.random.default_rng(3), lengths(spacing), str(options.get("center_mode", "centroid"))
    labels = np.stack([labels_of(name, shape, seed) for seed, name in enumerate(names)])
    target = np.stack([encode(each, {"E": {"grid_size": GRID, **options}}, voxel_size=spacing) for each in labels])
    target = torch.from_numpy(target).double()
    weight = rng.random((2, *shape)) > 0.25
    logits = logits_near(target, rng).requires_grad_()
    args = (target, torch.from_numpy(labels.astype(np.int64)), torch.from_numpy(weight)[:, None])
    found = embedseg(logits, *args, units=unit, weights=WEIGHTS)
    goals: list[float] = []
    wanted = loss_of(activate(logits, "embedding").detach().numpy(), labels, weight, unit, mode, goals)
    assert float(found.detach()) == pytest.approx(wanted, abs=2e-5)
    gradient = torch.autograd.grad(found, logits)[0]
    assert not gradient[(~torch.from_numpy(weight))[:, None].expand_as(gradient)].any()

    def at(index: tuple[int, ...], step: float) -> float:
        moved = logits.detach().clone()
        moved[index] += step
        return loss_of(activate(moved, "embedding").numpy(), labels, weight, unit, mode, goals)

    counted = np.argwhere(np.broadcast_to(weight[:, None], logits.shape))
    for row in rng.choice(counted, 8, replace=False).tolist() + _largest(gradient, 4):
        index, step = tuple(row), 1e-5
        numeric = (at(index, step) - at(index, -step)) / (2 * step)
        assert float(gradient[index]) == pytest.approx(numeric, rel=2e-3, abs=2e-6), index


def _largest(gradient: torch.Tensor, number: int) -> list[list[int]]:
    """Where the gradient is largest, so that no check is of zeros alone."""
    order = gradient.abs().flatten().argsort(descending=True)[:number]
    return [[int(i) for i in np.unravel_index(int(each), gradient.shape)] for each in order]
