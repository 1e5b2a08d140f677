"""Trains by a job file of pytorch-3dunet in two processes; Fabric starts this script, ``two_processes3dunet.py JOB``, for the second."""

from __future__ import annotations

import dataclasses
import sys

import torch

from morula.dialects.pytorch3dunet.job import read_job
from morula.dialects.pytorch3dunet.train import _train
from morula.dialects.pytorch3dunet.training import prepare

if __name__ == "__main__":
    torch.set_num_threads(1)
    prepared = prepare(read_job(sys.argv[1]))
    for _ in _train(dataclasses.replace(prepared, options=prepared.options.model_copy(update={"devices": 2})), lambda: False):
        pass
