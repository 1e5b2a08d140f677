"""The window Run, used as a person does."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from morula.testing.simulate import simulate_data_set

sys.path.insert(0, str(Path(__file__).parents[1] / "dialects"))
from unet3d_jobs import small_job

JOB = """\
images:
  train: {raw: data/train/images, labels: data/train/labels}
  test: {raw: data/test/images, labels: data/test/labels}
  validate: null
method: {kind: channels, channels: [F, C]}
network: {kind: unet, features: [4, 8]}
sampling: {patch: [32, 32], batch: 2, patches_per_epoch: 4}
training: {epochs: 2}
"""

BIAPY = """\
PROBLEM: {{TYPE: INSTANCE_SEG, NDIM: 2D, INSTANCE_SEG: {{DATA_CHANNELS: [F, C]}}}}
SYSTEM: {{SEED: 0}}
DATA:
  PATCH_SIZE: (32, 32, 1)
  TRAIN: {{PATH: "{folder}/train/images", GT_PATH: "{folder}/train/labels"}}
  VAL: {{SPLIT_TRAIN: 0.5}}
  TEST: {{PATH: "{folder}/test/images", GT_PATH: "{folder}/test/labels", LOAD_GT: True}}
MODEL: {{ARCHITECTURE: unet, FEATURE_MAPS: [4, 8]}}
TRAIN: {{ENABLE: True, EPOCHS: 2, BATCH_SIZE: 2}}
TEST: {{ENABLE: True}}
"""


def test_a_job_file_runs_to_its_report(viewer: Any, wait: Any, tmp_path: Path, notifications: list[str]) -> None:
    simulate_data_set(tmp_path / "data", n_train=2, n_test=1, shape=(64, 64), n_objects=8)
    (tmp_path / "job.yaml").write_text(JOB)
    _, widget = viewer.window.add_plugin_dock_widget("morula", "Run")
    widget.start_button.click()
    widget.report_button.click()
    widget.job.line.setText(str(tmp_path / "job.yaml"))
    widget.output.line.setText(str(tmp_path / "run"))
    widget.resume_button.click()
    assert len([text for text in notifications if text.startswith("error")]) == 3  # one each: no job, no report, nothing to resume
    widget.start_button.click()
    wait(lambda: not widget.work.running)
    assert widget.folder == tmp_path / "run"
    assert (widget.folder / "report.html").is_file()
    assert [epoch.epoch for epoch in widget.curves.epochs] == [1, 2]
    assert "report.html" in widget.log.toPlainText()
    wait(lambda: "live input" in viewer.layers, 30)
    assert len([text for text in notifications if text.startswith("error")]) == 3


def test_a_job_of_biapy_runs_to_its_report(viewer: Any, wait: Any, tmp_path: Path, notifications: list[str]) -> None:
    simulate_data_set(tmp_path / "data", n_train=2, n_test=1, shape=(64, 64), n_objects=8)
    (tmp_path / "biapy.yaml").write_text(BIAPY.format(folder=tmp_path / "data"))
    run = finished(viewer, wait, tmp_path / "biapy.yaml", tmp_path / "run")
    assert (run.folder / "report.html").is_file()
    assert len(run.curves.epochs) == 2
    assert [text for text in notifications if text.startswith("error")] == []


def test_a_job_of_pytorch3dunet_runs_and_is_resumed(viewer: Any, wait: Any, tmp_path: Path, opened: list[str]) -> None:
    small = small_job(tmp_path)
    (tmp_path / "train.yml").write_text(yaml.safe_dump(small))
    run = finished(viewer, wait, tmp_path / "train.yml")
    assert not run.output.isEnabled()
    assert run.folder == tmp_path / "out/run"
    assert (tmp_path / "out/last_checkpoint.pytorch").is_file()
    assert run.curves.epochs
    run.report_button.click()
    assert opened == [str(tmp_path / "out/run/report.html")]
    small["trainer"] |= {"max_num_iterations": 4, "max_num_epochs": 2}
    (tmp_path / "train.yml").write_text(yaml.safe_dump(small))
    run.resume_button.click()
    wait(lambda: not run.work.running)
    assert run.curves.epochs[-1].step == 4


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files that were opened in the browser."""
    from qtpy.QtGui import QDesktopServices

    found: list[str] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: found.append(url.toLocalFile()))
    return found


def finished(viewer: Any, wait: Any, job: Path, output: Path | None = None) -> Any:
    """The window after a job has run."""
    _, widget = viewer.window.add_plugin_dock_widget("morula", "Run")
    widget.job.line.setText(str(job))
    widget.output.line.setText("" if output is None else str(output))
    widget.start_button.click()
    wait(lambda: not widget.work.running)
    return widget
