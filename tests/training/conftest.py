from __future__ import annotations

import sys
from pathlib import Path

import pytest

from morula.training.options import Training

sys.path.insert(0, str(Path(__file__).parent))  # for training_toys


@pytest.fixture
def options() -> Training:
    return Training(epochs=4, device="cpu", optimiser={"kind": "adamw", "lr": 0.02}, schedule="one_cycle")
