"""A tiny finished run, copied for each test that changes it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from morula.testing.simulate import simulate_data_set

JOB = """\
images:
  train: {raw: data/train/images, labels: data/train/labels}
  validate: 50%
  test: {raw: data/test/images, labels: data/test/labels}
method: {kind: channels, channels: [F, C, Db]}
network: {kind: unet, features: [4, 8]}
sampling: {patch: [32, 32], batch: 2, patches_per_epoch: 4}
training: {epochs: 1}
"""


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, job.yaml and the finished run `run`."""
    from morula.dialects.verbs import iter_run

    folder = tmp_path_factory.mktemp("trust")
    simulate_data_set(folder / "data", n_train=2, n_test=1, shape=(64, 64), n_objects=6, seed=1)
    (folder / "job.yaml").write_text(JOB)
    list(iter_run(folder / "job.yaml", output=folder / "run"))
    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """A copy of it; the job of the run names the data of the copy."""
    copy = tmp_path / "project"
    shutil.copytree(finished, copy)
    return copy
