"""The window Train, used as a person does."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import morula
from morula.jobs.load import load_job
from morula.jobs.starting_points import WNET3D

SMALL = {
    "network.features": "[4, 8]",
    "sampling.patch": "[16, 16]",
    "sampling.batch": "1",
    "sampling.patches_per_epoch": "2",
    "training.epochs": 1,
    "training.device": "cpu",
}


def image(seed: int = 0, shape: tuple[int, ...] = (40, 48)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    found = rng.normal(20, 3, shape)
    for centre in rng.integers(4, 36, (8, len(shape))):
        found += 60 * np.exp(-((np.indices(shape) - centre.reshape(-1, *(1,) * len(shape))) ** 2).sum(axis=0) / 8)
    return found.astype(np.float32)


def enter(widget: Any, values: dict[str, object]) -> None:
    """Enter values into the forms as a person does."""
    from qtpy.QtWidgets import QCheckBox, QComboBox, QLineEdit

    for key, value in values.items():
        (form,) = (form for form in widget.forms.values() if key in form.inputs)
        field = form.inputs[key]
        if isinstance(field, QLineEdit):
            field.setText(str(value))
            field.editingFinished.emit()
        elif isinstance(field, QComboBox):
            field.setCurrentText(str(value))
        elif isinstance(field, QCheckBox):
            field.setChecked(bool(value))
        else:
            field.setValue(value)


@pytest.fixture
def widget(viewer: Any) -> Any:
    viewer.add_image(image(), name="cells", scale=(0.5, 0.5), units=("um", "um"))
    _, made = viewer.window.add_plugin_dock_widget("morula", "Train")
    made.follow.setChecked(False)
    enter(made, SMALL)
    return made


def trained(widget: Any, wait: Any, output: Path) -> Path:
    widget.output.line.setText(str(output))
    widget.start_button.click()
    wait(lambda: not widget.work.running)
    return output


def one_error(notifications: list[str], word: str) -> None:
    errors = [text for text in notifications if text.startswith("error")]
    assert len(errors) == 1
    assert word in errors[0]


def test_the_advanced_tab_has_the_parameters_of_the_document(widget: Any) -> None:
    assert widget.method.currentText() == "WNet3D"
    assert [field.title for field in widget.forms["Advanced"].fields.values()] == list(WNET3D.values())
    assert all(field.toolTip() for form in widget.forms.values() for field in form.inputs.values())


def test_each_parameter_of_the_document_changes_the_training(widget: Any, wait: Any, tmp_path: Path) -> None:
    changed = {"classes": 3, "reconstruction": "bce", "intensity_sigma": 20.0, "spatial_sigma": 1.0, "radius": 4}
    changed |= {"ncuts_weight": 1.0, "reconstruction_weight": 0.5}
    assert set(changed) == set(WNET3D)
    weights = [(trained(widget, wait, tmp_path / "plain") / "model/weights.safetensors").read_bytes()]
    before = load_job(tmp_path / "plain/job.yaml").method
    for name, value in changed.items():
        assert getattr(before, name) != value
        enter(widget, {f"method.{name}": value})
        run = trained(widget, wait, tmp_path / name)
        assert getattr(load_job(run / "job.yaml").method, name) == value
        weights.append((run / "model/weights.safetensors").read_bytes())
        enter(widget, {f"method.{name}": getattr(before, name)})
    assert len(set(weights)) == len(changed) + 1


def test_pretrained_weights_lower_the_learning_rate(widget: Any, wait: Any, tmp_path: Path) -> None:
    first = trained(widget, wait, tmp_path / "first")
    widget.pretrained.setChecked(True)
    widget.weights.line.setText(str(first))
    rate = widget.forms["Training"].inputs["training.optimiser.lr"]
    wait(lambda: rate.value() == 1e-4, 30)  # planned, shown before the start
    second = trained(widget, wait, tmp_path / "second")
    jobs = [load_job(run / "job.yaml") for run in (first, second)]
    assert [job.training.optimiser.lr for job in jobs] == [1e-3, 1e-4]
    assert jobs[1].network.from_ == str(first)


def test_train_stop_resume_segment(viewer: Any, wait: Any, tmp_path: Path, notifications: list[str]) -> None:
    viewer.open_sample("morula", "nuclei_3d")
    _, widget = viewer.window.add_plugin_dock_widget("morula", "Train")
    wait(lambda: "Planned" in widget.plan_line.text(), 60)
    enter(widget, {**SMALL, "sampling.patch": "[8, 32, 32]", "sampling.patches_per_epoch": "8", "training.epochs": 30})
    output = tmp_path / "run"
    widget.output.line.setText(str(output))
    widget.start_button.click()
    wait(lambda: widget.curves is not None and len(widget.curves.epochs) >= 2)
    wait(lambda: "live reconstruction" in viewer.layers, 30)
    names = {layer.name for layer in viewer.layers}
    assert {f"live {name}" for name in ("input", "encoder output 1", "encoder output 2", "discrete labels", "reconstruction")} <= names
    wait(lambda: {"loss", "ncuts", "reconstruction", "balance"} <= set(widget.curves.plots), 30)
    assert set(np.unique(viewer.layers["live discrete labels"].data)) <= {1, 2}
    np.testing.assert_allclose(viewer.layers["live input"].scale, viewer.layers["nuclei"].scale)
    began = time.monotonic()
    widget.progress.stop.click()
    wait(lambda: not widget.work.running)
    print(f"stopped after {time.monotonic() - began:.2f} s")
    assert (output / "checkpoints/last").is_dir()
    assert not (output / "model/model.json").exists()
    done = len(widget.curves.epochs)
    widget.resume_button.click()
    wait(lambda: len(widget.curves.epochs) > done)  # the earlier epochs are drawn, too
    widget.progress.stop.click()
    wait(lambda: not widget.work.running)
    assert not [text for text in notifications if text.startswith("error")]


def test_the_layer_is_segmented_when_the_training_has_ended(viewer: Any, widget: Any, wait: Any, tmp_path: Path) -> None:
    widget.follow.setChecked(True)
    trained(widget, wait, tmp_path / "run")
    wait(lambda: "cells objects" in viewer.layers)
    np.testing.assert_allclose(viewer.layers["cells objects"].scale, (0.5, 0.5))
    expected = morula.load(tmp_path / "run").segment(viewer.layers["cells"].data)
    np.testing.assert_array_equal(viewer.layers["cells objects"].data, np.asarray(expected))


def test_labels_are_learned_from(viewer: Any, widget: Any, wait: Any, tmp_path: Path) -> None:
    viewer.add_labels((viewer.layers["cells"].data > 50).astype(np.uint16), name="truth", scale=(0.5, 0.5), units=("um", "um"))
    widget.method.setCurrentText("StarDist")
    enter(widget, {**SMALL, "sampling.patch": "[32, 32]"})
    widget.labels.setCurrentText("truth")
    run = trained(widget, wait, tmp_path / "run")
    job = load_job(run / "job.yaml")
    assert job.method.preset == "stardist"
    assert job.images.voxel_size == "auto"
    assert morula.load(run).voxel_size.spacing(2) == (0.5, 0.5)
    wait(lambda: {"live input", "live prediction 1", "live truth 1"} <= {layer.name for layer in viewer.layers}, 30)


def test_what_is_missing_is_one_error(viewer: Any, widget: Any, notifications: list[str]) -> None:
    widget.method.setCurrentText("Channels")
    widget.start_button.click()
    one_error(notifications, "labels layer")
    notifications.clear()
    widget.resume_button.click()
    one_error(notifications, "no training")
    notifications.clear()
    viewer.layers.clear()
    widget.start_button.click()
    one_error(notifications, "no image layer")


def test_a_value_that_breaks_its_rule_is_shown_at_once(widget: Any, wait: Any, tmp_path: Path, notifications: list[str]) -> None:
    enter(widget, {"sampling.patch": "[16, 16, 16]"})
    wait(lambda: "sampling.patch" in widget.plan_line.text(), 30)
    assert not notifications
    trained(widget, wait, tmp_path / "run")
    one_error(notifications, "sampling.patch")
    assert not (tmp_path / "run/model").exists()


def test_an_earlier_run_is_kept(widget: Any, wait: Any, tmp_path: Path, notifications: list[str]) -> None:
    run = trained(widget, wait, tmp_path / "run")
    before = (run / "model/weights.safetensors").read_bytes()
    notifications.clear()
    trained(widget, wait, run)
    one_error(notifications, "run")
    assert (run / "model/weights.safetensors").read_bytes() == before


def test_a_full_disk_is_one_error(
    widget: Any, wait: Any, tmp_path: Path, notifications: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    trained(widget, wait, tmp_path / "run")
    one_error(notifications, "disk")


def test_layers_may_be_deleted_during_the_training(viewer: Any, widget: Any, wait: Any, tmp_path: Path, notifications: list[str]) -> None:
    enter(widget, {"training.epochs": 6, "sampling.patches_per_epoch": "8"})
    widget.output.line.setText(str(tmp_path / "run"))
    widget.start_button.click()
    wait(lambda: "live reconstruction" in viewer.layers)
    viewer.layers.clear()
    wait(lambda: not widget.work.running)
    assert (tmp_path / "run/model/model.json").is_file()
    assert not [text for text in notifications if text.startswith("error")]
    assert not len(viewer.layers)


def test_closing_napari_asks_and_keeps_the_run(viewer: Any, widget: Any, wait: Any, tmp_path: Path) -> None:
    from superqt.utils import WorkerBase

    enter(widget, {"training.epochs": 500, "sampling.patches_per_epoch": "8"})
    widget.output.line.setText(str(tmp_path / "run"))
    widget.start_button.click()
    wait(lambda: widget.curves is not None and len(widget.curves.epochs) >= 1)
    tasks = viewer.window._task_status_manager
    assert any("training" in text for text in tasks.get_status())  # napari lists it in its question
    tasks.cancel_all()  # what napari does when the answer is yes
    WorkerBase.await_workers(30_000)
    assert (tmp_path / "run/checkpoints/last").is_dir()
    list(morula.train(str(tmp_path / "run/job.yaml"), output=tmp_path / "run", resume=True, stop=lambda: True))  # it can be resumed
