"""Commands do not import what they do not need: torch takes longer to import than a whole check takes without it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

PROGRAM = """
import sys
from morula.cli import main
try:
    main()
except SystemExit as end:
    import json
    print("\\n" + json.dumps([end.code or 0, sorted(sys.modules)]))
"""
NATIVE = """
images: {train: {raw: raw, labels: labels}, validate: 0.3}
method: {kind: KIND}
sampling: {patch: [32, 32]}
training: {epochs: 2}
"""
BIAPY = """
PROBLEM: {TYPE: INSTANCE_SEG, NDIM: 2D, INSTANCE_SEG: {DATA_CHANNELS: ["F", "C"]}}
DATA:
  PATCH_SIZE: (32, 32, 1)
  TRAIN: {PATH: raw, GT_PATH: labels}
  VAL: {FROM_TRAIN: True, SPLIT_TRAIN: 0.3}
MODEL: {ARCHITECTURE: resunet, FEATURE_MAPS: [8, 16], DROPOUT_VALUES: [0, 0]}
TRAIN: {ENABLE: True, EPOCHS: 2}
TEST: {ENABLE: False}
"""


def modules_of(folder: Path, *arguments: str) -> set[str]:
    """What a command has imported when it ends."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=120)
    code, modules = json.loads(done.stdout.splitlines()[-1])
    assert code == 0, done.stdout + done.stderr
    return set(modules)


def write_images(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for kind in ("raw", "labels"):
        (folder / kind).mkdir()
    for number in range(3):
        labels = np.kron(rng.permutation(16).reshape(4, 4), np.ones((16, 16), int)).astype(np.uint16)
        labels[::16], labels[:, ::16] = 0, 0
        tifffile.imwrite(folder / "labels" / f"{number}.tif", labels)
        tifffile.imwrite(folder / "raw" / f"{number}.tif", (100 * (labels > 0) + rng.integers(0, 50, labels.shape)).astype(np.uint8))


@pytest.mark.parametrize("text", [NATIVE.replace("KIND", "channels"), BIAPY], ids=["native", "biapy"])
def test_check_without_a_step_imports_neither_torch_nor_numba(tmp_path: Path, text: str) -> None:
    write_images(tmp_path)
    (tmp_path / "job.yaml").write_text(text)
    assert not modules_of(tmp_path, "check", "job.yaml", "--no-prove") & {"torch", "numba", "lightning_fabric", "pandas", "safetensors"}
