"""Shared by all tests: hypothesis profiles, a seeded generator, and the real images where there are any."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# `ci` repeats the same examples on every run; HYPOTHESIS_PROFILE=search looks for new ones, longer.
settings.register_profile("ci", derandomize=True, deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("search", deadline=None, max_examples=1000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def data_root() -> Path:
    """The folder of real images (`MORULA_DATA`, else ../shared/data); without it the test is skipped."""
    root = Path(os.environ.get("MORULA_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not root.is_dir():
        pytest.skip("needs the real images: set MORULA_DATA")
    return root
