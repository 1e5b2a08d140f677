"""The demo: simulated nuclei, a job, the report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from morula.core.atomic import atomic
from morula.core.events import Artefact, Event, FileWritten, Logged
from morula.jobs.run_folder import RunFolder
from morula.testing.simulate import simulate_data_set
from morula.workflows.run import run
from morula.workflows.run_settings import RunSettings

JOB = """\
# Touching simulated nuclei. The network learns foreground, contour and distance to the boundary; a watershed turns these into objects.
images:
  train: {raw: data/train/images, labels: data/train/labels}
  validate: 15%
  test: {raw: data/test/images, labels: data/test/labels}
method: {kind: channels, channels: [F, C, Db]}
network: {kind: unet, features: [16, 32, 64, 128]}
sampling: {patch: [128, 128], batch: 8, patches_per_epoch: 160}
training: {epochs: 12, optimiser: {kind: adamw, lr: 3e-3}, seed: 0}
"""


def demo(folder: Path, *, overwrite: bool = False) -> Iterator[Event]:
    """Simulate a data set in `folder`, then train, predict, score and report.

    Raises:
        FileWriteError: when the folder is not empty.
    """
    job = folder / "job.yaml"
    with RunFolder(folder).new(overwrite=overwrite):
        yield Logged(f"simulating nuclei into {folder / 'data'}")
        simulate_data_set(folder / "data", n_train=24, n_test=6, shape=(256, 256), n_objects=60, seed=0)
        with atomic(job) as part:
            part.write_text(JOB, encoding="utf-8")
        yield FileWritten(job, Artefact.JOB)
        with one_thread():
            yield from run(job, RunSettings(folder / "run"))


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch compute on one thread inside: such a small network gains almost nothing from two, and on a busy computer they wait for
    each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
