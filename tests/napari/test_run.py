"""The window Run, used as a person does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from morula.testing.simulate import simulate_data_set

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
