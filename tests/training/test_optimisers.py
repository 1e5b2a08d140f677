from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

from morula.testing.errors import raises
from morula.training.ema import MovingAverage
from morula.training.optimisers import build_optimiser, build_schedule
from morula.training.options import TorchOptimiser, TorchSchedule, Training


def rates(schedule: Any, total: int) -> list[float]:
    weight = nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([weight], lr=2.0)
    schedule = build_schedule(optimiser, Training(schedule=schedule).schedule, total=total)
    found = []
    for _ in range(total):
        found.append(schedule.lr)
        optimiser.step()
        schedule.after("steps")
    return found


@pytest.mark.parametrize("warmup", [0, 0.1, 0.3, 0.5])
@pytest.mark.parametrize("total", [1, 2, 3, 10, 20, 1000])
def test_one_cycle_rises_then_falls(total: int, warmup: float) -> None:
    found = rates({"kind": "one_cycle", "warmup": warmup}, total)
    top = found.index(max(found))
    assert found[: top + 1] == sorted(found[: top + 1])
    assert found[top:] == sorted(found[top:], reverse=True)
    assert 0 < min(found) <= max(found) <= 2
    if total >= 1000:
        assert math.isclose(top, total * warmup, abs_tol=1)
        assert math.isclose(found[0], 2 if warmup == 0 else 2 / 25)
        assert found[-1] < 1e-5


def test_one_cycle_equals_torch() -> None:
    total = 101  # a length at which torch's count and the share of the steps agree
    weight = nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([weight], lr=2.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2.0, total_steps=total, pct_start=31 / 101, cycle_momentum=False)
    expected = []
    for step in range(total):
        expected.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        if step < total - 1:
            theirs.step()
    assert rates({"kind": "one_cycle", "warmup": 30 / 101}, total) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("total", [1, 2, 10, 100])
def test_cosine(total: int) -> None:
    found = rates({"kind": "cosine", "warmup": 0.2, "floor": 0.1}, total)
    rising = round(total * 0.2)
    assert found[:rising] == pytest.approx([2 * (i + 1) / (rising + 1) for i in range(rising)])
    assert found[rising] == 2
    assert found[rising:] == sorted(found[rising:], reverse=True)
    if total > 2:
        assert found[-1] == pytest.approx(0.2)


def test_constant() -> None:
    assert rates("constant", 3) == [2, 2, 2]
    assert rates({"kind": "constant", "warmup": 3}, 5) == [0.5, 1, 1.5, 2, 2]


def test_plateau() -> None:
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = build_schedule(optimiser, Training(schedule={"kind": "plateau", "patience": 1, "floor": 0.6}).schedule, total=9)
    found = []
    for loss in (1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.4, 0.4):
        schedule.after("steps")
        schedule.after("validations", loss)
        found.append(schedule.lr)
    assert found == [2, 2, 2, 1, 1, 0.6, 0.6, 0.6]


@pytest.mark.parametrize("kind", ["plateau", "torch"])
def test_plateau_of_a_figure_that_rises(kind: str) -> None:
    named = {} if kind == "plateau" else {"name": "ReduceLROnPlateau", "unit": "validations"}
    limits = {"patience": 0, "factor": 0.5}
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    options = Training(schedule={"kind": kind, **(limits if kind == "plateau" else {**named, "options": limits})}).schedule
    schedule = build_schedule(optimiser, options, total=9, mode="max")
    found = []
    for score in (0.1, 0.4, 0.4, 0.9, 0.2):
        schedule.after("validations", score)
        found.append(schedule.lr)
    assert found == [2, 2, 1, 1, 0.5]


def test_only_weights_decay() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    groups = build_optimiser(network, Training(optimiser={"kind": "adamw", "weight_decay": 0.3}).optimiser).param_groups
    assert [(len(group["params"]), group["weight_decay"]) for group in groups] == [(1, 0.3), (3, 0.0)]


@pytest.mark.parametrize(("kind", "expected"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)])
def test_kinds(kind: str, expected: type) -> None:
    optimiser = build_optimiser(nn.Linear(2, 2), Training(optimiser={"kind": kind, "lr": 0.25}).optimiser)
    assert type(optimiser) is expected
    assert {group["lr"] for group in optimiser.param_groups} == {0.25}


@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd"])
def test_fused_steps_equal_plain_ones(kind: str) -> None:
    networks = []
    for fused in (False, True):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 1))
        optimiser = build_optimiser(network, Training(optimiser={"kind": kind, "lr": 0.01}).optimiser, {"0.*": 0.5}, fused=fused)
        for _ in range(20):
            optimiser.zero_grad()
            network(torch.randn(6, 4)).square().mean().backward()
            optimiser.step()
        networks.append(network.state_dict())
    plain, together = networks
    for name, values in plain.items():
        torch.testing.assert_close(together[name], values, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["RMSprop", "Rprop", "Adam"])
def test_optimisers_of_torch_by_name(name):
    layer = torch.nn.Linear(2, 1)
    optimiser = build_optimiser(layer, TorchOptimiser(name=name, lr=0.1, decay_all=True))
    assert type(optimiser).__name__ == name
    assert [len(group["params"]) for group in optimiser.param_groups] == [2]


def test_names_and_arguments_that_torch_does_not_have():
    layer = torch.nn.Linear(2, 1)
    with raises("optimiser.unknown", value="Adamm"):
        build_optimiser(layer, TorchOptimiser(name="Adamm"))
    with raises("optimiser.arguments"):
        build_optimiser(layer, TorchOptimiser(name="Adam", options={"momentum": 0.9}))
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
    for options, code in (({"name": "StepLr"}, "unknown"), ({"name": "StepLR"}, "arguments"), ({"name": "ReduceLROnPlateau"}, "unit")):
        with raises(f"schedule.{code}"):
            build_schedule(optimiser, TorchSchedule(**options), total=1)


@pytest.mark.parametrize("warmup", [1, 7])
def test_constant_equals_torch(warmup: int) -> None:
    linear = {"kind": "torch", "name": "LinearLR", "options": {"start_factor": 1 / (warmup + 1), "total_iters": warmup}, "unit": "steps"}
    assert rates({"kind": "constant", "warmup": warmup}, 20) == pytest.approx(rates(linear, 20), rel=1e-12)


def test_cosine_equals_torch() -> None:
    cosine = {"kind": "torch", "name": "CosineAnnealingLR", "options": {"T_max": 99, "eta_min": 0.2}, "unit": "steps"}
    assert rates({"kind": "cosine", "warmup": 0, "floor": 0.1}, 100) == pytest.approx(rates(cosine, 100), rel=1e-12)


def test_moving_average_restores_both_formats() -> None:
    network = nn.Linear(2, 2)
    average = MovingAverage(network, 0.9)
    for _ in range(3):
        with torch.no_grad():
            network.weight.add_(1.0)
        average.update(network)
    weights = {name: value.clone() for name, value in average.module.state_dict().items()}
    for state in (average.state_dict(), {"steps": 3, "values": weights}):  # of now, and of versions before 1.1
        restored = MovingAverage(nn.Linear(2, 2), 0.9)
        restored.restore(state)
        restored.update(network)
        expected = copy.deepcopy(average)
        expected.update(network)
        assert all(torch.equal(a, b) for a, b in zip(restored.buffers(), expected.buffers(), strict=True))
        assert all(torch.equal(a, b) for a, b in zip(restored.parameters(), expected.parameters(), strict=True))
