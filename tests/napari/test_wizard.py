"""The window Wizard, used as a person does: the same questions as `morula new`, a plan, a job file, a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from morula.jobs.load import load_job
from morula.testing.simulate import simulate_data_set
from morula.workflows.questions import QUESTIONS


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return simulate_data_set(tmp_path / "data", n_train=4, n_test=1, shape=(64, 64), n_objects=8, seed=1)


@pytest.fixture
def widget(viewer: Any) -> Any:
    _, made = viewer.window.add_plugin_dock_widget("morula", "Wizard")
    made.seconds.setValue(0)
    return made


def enter(widget: Any, wait: Any, **answers: object) -> None:
    """Enter answers one by one, and wait until they are checked."""
    for key, answer in answers.items():
        widget.rows[key].enter(str(answer))
        wait(lambda: not widget._timer.isActive() and not widget.checking.running)


def shown(widget: Any) -> set[str]:
    return {key for key, row in widget.rows.items() if not row.isHidden()}


def test_the_questions_follow_from_the_answers(widget: Any, wait: Any, data: Path) -> None:
    assert set(widget.rows) == {question.key for question in QUESTIONS} - {"where"}
    assert {"purpose", "task", "labelling", "raw", "labels"} <= shown(widget)
    enter(widget, wait, raw=data / "train/images")
    assert "4 images" in widget.rows["raw"].said.text()
    assert {"axes", "voxel_size"} <= shown(widget)
    enter(widget, wait, labels="nowhere")
    assert "nowhere" in widget.rows["labels"].said.text()
    enter(widget, wait, labelling="none")
    assert "width" in shown(widget)
    assert not {"labels", "classes", "unlabelled"} & shown(widget)
    enter(widget, wait, purpose="segment")
    assert shown(widget) == {"purpose", "images", "model"}
    assert all(row.said.text() for key, row in widget.rows.items() if key in shown(widget))


def test_a_job_is_planned_written_and_run(
    viewer: Any, widget: Any, wait: Any, data: Path, tmp_path: Path, notifications: list[str]
) -> None:
    widget.plan_button.click()
    wait(lambda: not widget.work.running)
    assert len(notifications) == 1  # one, about the first question that needs an answer
    assert not widget.run_button.isEnabled()
    test = {"test": data / "test/images", "test_labels": data / "test/labels"}
    enter(widget, wait, raw=data / "train/images", labels=data / "train/labels", start="none", **test, minutes=0.01)
    widget.job.line.setText(str(tmp_path / "asked.yaml"))
    widget.plan_button.click()
    wait(lambda: not widget.work.running)
    assert "GB of memory" in widget.progress.line.text()
    assert "training on this computer" in widget.progress.line.text()
    widget.cluster_button.click()
    assert widget.text.toPlainText().startswith("sbatch")
    assert load_job(tmp_path / "asked.yaml").method.kind == "channels"
    widget.run_button.click()
    (run,) = (dock.widget() for name, dock in viewer.window._wrapped_dock_widgets.items() if name.startswith("Run"))
    wait(lambda: not run.work.running)
    assert (tmp_path / "runs/asked/report.html").is_file()
    assert [text for text in notifications[1:] if text.startswith("error")] == []


def test_a_file_of_somebody_else_is_kept(widget: Any, wait: Any, data: Path, tmp_path: Path, notifications: list[str]) -> None:
    enter(widget, wait, raw=data / "train/images", labelling="none", width=12, minutes=0.01)
    widget.job.line.setText(str(tmp_path / "mine.yaml"))
    widget.plan_button.click()
    wait(lambda: not widget.work.running)
    (tmp_path / "mine.yaml").write_text("mine")
    widget.write_button.click()
    assert (tmp_path / "mine.yaml").read_text() == "mine"
    assert len([text for text in notifications if text.startswith("error")]) == 1
    widget.job.line.setText(str(tmp_path / "other.yaml"))  # another file needs another plan
    assert not widget.write_button.isEnabled()


def test_without_a_training_the_window_segment_opens(viewer: Any, widget: Any, wait: Any, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    np.save(tmp_path / "images/a.npy", np.zeros((32, 32), np.uint8))
    enter(widget, wait, purpose="segment", images=tmp_path / "images", model="nuclei")
    assert widget.plan_button.text() == "Segment"
    widget.plan_button.click()
    (segment,) = (dock.widget() for name, dock in viewer.window._wrapped_dock_widgets.items() if name.startswith("Segment"))
    assert (segment.model.place, segment.files.path) == ("nuclei", str(tmp_path / "images"))
    assert "--model nuclei" in widget.text.toPlainText()
