"""The script for SLURM: it is run with a stand-in for `sbatch` and `morula`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from morula.cli.app import app

SBATCH = """#!/bin/sh
echo "$@" >> "$CALLS"
echo "job$(wc -l < "$CALLS")"
"""


@pytest.mark.parametrize("memory", [[], ["--memory", "4GB"]])
def test_the_script_submits_arrays_and_the_merging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: list[str]) -> None:
    arguments = ["segment", "new scans/*.tif", "--model", "runs/a", "-o", "cells", *memory]
    monkeypatch.setattr(sys, "argv", ["morula", *arguments, "--print-slurm", "3"])
    result = CliRunner().invoke(app, [*arguments, "--print-slurm", "3"])
    assert result.exit_code == 0, result.output
    (tmp_path / "script.sh").write_text(result.output)
    (tmp_path / "sbatch").write_text(SBATCH)
    (tmp_path / "sbatch").chmod(0o755)
    calls = tmp_path / "calls"
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(calls)}
    subprocess.run(["bash", str(tmp_path / "script.sh"), "--partition=long"], env=environment, check=True)
    *arrays, merging = calls.read_text().splitlines()
    command = " ".join(["morula segment 'new scans/*.tif' --model runs/a -o cells", *memory])
    assert len(arrays) == (2 if memory else 1)  # images in blocks are predicted, then decoded
    for number, array in enumerate(arrays):
        assert array.endswith(f'--wrap={command} --shard "$SLURM_ARRAY_TASK_ID/3" --resume')
        assert "--array=1-3" in array
        assert ("--dependency=afterok:job1" in array) == (number == 1)
    assert f"--dependency=afterok:job{len(arrays)} " in merging
    assert merging.endswith(f"--wrap={command} --merge")
    assert all("--partition=long" in call for call in (*arrays, merging))
