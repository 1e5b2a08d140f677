"""A small simulated data set and a small job, shared by the tests of the workflows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from morula.testing.simulate import simulate_data_set

JOB = """\
images:
  train: {{raw: data/train/images, labels: data/train/labels}}
  validate: 25%
  test: {{raw: data/test/images, labels: data/test/labels}}
method: {method}
network: {{kind: unet, features: [4, 8]}}
sampling: {{patch: {patch}, batch: 2, patches_per_epoch: 4}}
augment: [flip, {{brightness: 0.1}}]
training: {{epochs: 2, optimiser: {{kind: adamw, lr: 3e-3}}}}
"""

CHANNELS = "{kind: channels, channels: [F, C, Db]}"


def written(method: str = CHANNELS, patch: str = "[32, 32]") -> str:
    return JOB.format(method=method, patch=patch)


@pytest.fixture(scope="session")
def job_text() -> Callable[..., str]:
    """The text of a small job: ``job_text(method, patch)``."""
    return written


@pytest.fixture(scope="session")
def data2d(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate_data_set(tmp_path_factory.mktemp("data2d") / "data", n_train=4, n_test=2, shape=(64, 64), n_objects=8, seed=1)


@pytest.fixture(scope="session")
def data3d(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data3d") / "data"
    return simulate_data_set(folder, n_train=3, n_test=1, shape=(16, 48, 48), n_objects=8, seed=2, spacing=(2.0, 0.5, 0.5))


@pytest.fixture(scope="session")
def run2d(data2d: Path) -> Path:
    """A finished run."""
    from morula.dialects.verbs import iter_run

    job = data2d.parent / "job.yaml"
    job.write_text(written())
    folder = data2d.parent / "run"
    list(iter_run(job, output=folder))
    return folder
