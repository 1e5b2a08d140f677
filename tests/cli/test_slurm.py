"""The script for SLURM: it is run with a stand-in for `sbatch` and `morula`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from morula.cli.app import app

FAKE = """#!/bin/sh
echo "$(basename "$0")" "$@" >> "$CALLS"
"""


def test_each_task_segments_its_share_and_the_first_one_begins_the_merging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["segment", "new scans/*.tif", "--model", "runs/a", "-o", "cells"]
    monkeypatch.setattr(sys, "argv", ["morula", *arguments, "--print-slurm", "3"])
    result = CliRunner().invoke(app, [*arguments, "--print-slurm", "3"])
    assert result.exit_code == 0, result.output
    (tmp_path / "script.sh").write_text(result.output)
    for name in ("sbatch", "morula"):
        (tmp_path / name).write_text(FAKE)
        (tmp_path / name).chmod(0o755)
    assert "#SBATCH --array=1-3" in result.output
    calls = tmp_path / "calls"
    for task in (1, 2):
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(calls)}
        environment |= {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_JOB_ID": "77"}
        subprocess.run(["bash", str(tmp_path / "script.sh")], env=environment, check=True)
    merging, first, second = calls.read_text().splitlines()
    assert "--dependency=afterok:77" in merging
    assert merging.endswith("--wrap=morula segment 'new scans/*.tif' --model runs/a -o cells --merge")
    assert first == "morula segment new scans/*.tif --model runs/a -o cells --shard 1/3 --resume"
    assert second == "morula segment new scans/*.tif --model runs/a -o cells --shard 2/3 --resume"
