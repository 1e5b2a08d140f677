"""Two processes on a CPU (gloo) are one process with twice the batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from training_toys import Patches, loss, network

from morula.core.events import Epoch
from morula.training.loop import ValidationHooks, fit
from morula.training.options import Training


def test_two_processes_equal_twice_the_batch(tmp_path: Path) -> None:
    """For a Dice loss (a ratio over the whole batch) and a weighted mean, with and without accumulation; stopped and resumed too."""
    launchers = ("SLURM_", "LOCAL_RANK", "MASTER_", "WORLD_SIZE", "NODE_RANK")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(launchers)}
    script = Path(__file__).with_name("two_processes.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        env={**clean, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads((tmp_path / "seen.json").read_text())
    for accumulate in (1, 2):
        options = Training.model_validate(
            {"epochs": 3, "device": "cpu", "precision": "fp64", "optimiser": {"kind": "sgd", "lr": 0.5}, "accumulate": accumulate}
        )
        net = network(accumulate)
        score = (lambda _: 1.0) if accumulate == 2 else None  # a constant score keeps the first epoch's weights
        events = list(fit(net, loss, Patches(batch=4), options, folder=tmp_path / f"one{accumulate}", hooks=ValidationHooks(score=score)))
        expected = [[e.figures["loss"], e.figures["validation_loss"]] for e in events if isinstance(e, Epoch)]
        np.testing.assert_allclose(seen[f"losses{accumulate}"], expected, rtol=1e-12)
        for name, value in net.state_dict().items():
            np.testing.assert_allclose(seen[f"weights{accumulate}"][name], value.flatten(), rtol=1e-9, atol=1e-12)
    assert seen["stopped"] == 6
    assert seen["resumed"] == seen["weights1"]
    assert seen["losses1"][-1] != pytest.approx(seen["losses2"][-1])
