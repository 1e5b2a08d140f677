"""Half precision with a scaled gradient, on a CPU (Fabric offers it on CUDA only)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import MixedPrecision
from training_toys import Patches, loss, network

from morula.core.events import Epoch, Finished, Progress
from morula.training import state
from morula.training.loop import fit
from morula.training.options import Training


@pytest.fixture
def half(monkeypatch: pytest.MonkeyPatch) -> Training:
    def open_fabric(options: Training) -> Fabric:
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)  # so large that the first steps overflow and are skipped
        return Fabric(accelerator="cpu", devices=1, plugins=[MixedPrecision("16-mixed", "cpu", scaler)])

    monkeypatch.setattr(state, "open_fabric", open_fabric)
    return Training(epochs=4, device="cpu", schedule="one_cycle", clip_norm=1.0, optimiser={"kind": "sgd", "lr": 0.2})


def test_overflowing_steps_are_skipped(tmp_path: Path, half: Training) -> None:
    net = network()
    before = net.heads["F"].bias.detach().clone()
    patches = Patches(steps_per_epoch=20)
    moved = []
    for event in fit(net, loss, patches, half, folder=tmp_path):
        if isinstance(event, Progress):
            moved.append(not torch.equal(net.heads["F"].bias.detach(), before))
        if isinstance(event, Epoch):
            assert np.isfinite(event.figures["loss"])
    assert not moved[0]
    assert moved[-1]


def test_resume_keeps_the_gradient_scale(tmp_path: Path, half: Training) -> None:
    whole, parted, again = network(), network(), network(4)
    list(fit(whole, loss, Patches(), half, folder=tmp_path / "a"))
    steps = [0]
    for event in fit(parted, loss, Patches(), half, folder=tmp_path / "b", stop=lambda: steps[0] == 6):
        steps[0] += isinstance(event, Progress)
    assert isinstance(list(fit(again, loss, Patches(), half, folder=tmp_path / "b", resume=True))[-1], Finished)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in whole.state_dict().items())
