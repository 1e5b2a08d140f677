"""The guided tour of docs/how-to/napari.md: does each step in a real napari and renders its picture. Run it in a display:

xvfb-run -a -s '-screen 0 1400x900x24' .venv-napari/bin/python docs/napari_tour.py [PART ...]
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari.settings import get_settings
from PIL import Image as Picture
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QLineEdit

import napari
from morula.testing.simulate import simulate_data_set
from morula.workflows.simulated_review import review_by_truth

PICTURES = Path(__file__).resolve().parent / "images" / "napari"


class Tour:
    """A napari window, and what each step took."""

    def __init__(self) -> None:
        get_settings().application.gui_notification_level = "error"  # notices would lie over the pictures
        self.viewer = napari.Viewer(show=True)
        self.viewer.window.resize(1280, 820)
        self.longest = self.busiest = 0.0
        self._last, self._used = time.perf_counter(), time.thread_time()
        self.timer = QTimer()
        self.timer.timeout.connect(self._tick)
        self.timer.start(5)

    def _tick(self) -> None:
        now, used = time.perf_counter(), time.thread_time()
        self.longest, self.busiest = max(self.longest, now - self._last), max(self.busiest, used - self._used)
        self._last, self._used = now, used

    def wait(self, condition: Callable[[], bool], seconds: float = 2400) -> None:
        """Run the event loop until a condition holds."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError
            QApplication.processEvents()
            time.sleep(0.003)

    def rest(self, seconds: float = 0.4) -> None:
        """Let the window draw itself."""
        end = time.monotonic() + seconds
        self.wait(lambda: time.monotonic() > end)

    def done(self, name: str, began: tuple[float, float]) -> None:
        """Print what a step took, and render its picture."""
        wall, used = time.perf_counter() - began[0], time.process_time() - began[1]
        print(
            f"{name}: {wall:.1f} s, {used:.1f} s of processor time; longest gap of the event loop {1000 * self.longest:.0f} ms, of which ",
            end="",
        )
        print(f"{1000 * self.busiest:.0f} ms in the window itself", flush=True)
        self.rest()
        picture = Picture.fromarray(self.viewer.window.screenshot(canvas_only=False, flash=False)).convert("RGB")
        picture.save(PICTURES / f"{name}.webp", quality=82, method=6)
        self.rest()
        self.longest = self.busiest = 0.0
        self._last, self._used = time.perf_counter(), time.thread_time()


def now() -> tuple[float, float]:
    """Wall and processor time."""
    return time.perf_counter(), time.process_time()


def enter(widget: Any, values: dict[str, object]) -> None:
    """Enter values into the forms."""
    for key, value in values.items():
        field = next(form.inputs[key] for form in widget.forms.values() if key in form.inputs)
        if isinstance(field, QLineEdit):
            field.setText(str(value))
            field.editingFinished.emit()
        else:
            field.setValue(value)


def window_of(viewer: Any, name: str) -> Any:
    """One of the windows, which is opened where it is not yet."""
    return viewer.window.add_plugin_dock_widget("morula", name, tabify=True)[1]


def supervised(tour: Tour) -> None:
    """Train on labels, segment, and measure."""
    viewer = tour.viewer
    viewer.layers.clear()
    began = now()
    viewer.open_sample("morula", "nuclei_2d")
    train = window_of(viewer, "Train")
    train.method.setCurrentText("Channels")
    train.labels.setCurrentText("nuclei truth")
    small = {"network.features": "[8, 16, 32]", "sampling.patch": "[128, 128]", "sampling.patches_per_epoch": "48"}
    enter(train, {**small, "training.epochs": 12, "training.optimiser.lr": 4e-3})
    tour.wait(lambda: "12 epochs" in train.plan_line.text())
    train.tabs.setCurrentIndex(2)
    tour.done("train-form", began)
    began = now()
    train.start_button.click()
    tour.wait(lambda: train.curves is not None and len(train.curves.epochs) >= 6 and "live truth 3" in viewer.layers)
    tour.done("train-live", began)
    tour.wait(lambda: "nuclei objects" in viewer.layers)
    for layer in list(viewer.layers):
        if layer.name.startswith("live"):
            viewer.layers.remove(layer)
    viewer.reset_view()
    tour.done("segment-objects", began)
    segment = window_of(viewer, "Segment")
    began = now()
    segment.table.go_to(central(segment.table.table))
    slider = segment.sliders["objects.refine.remove_small"].slider
    slider.setValue(slider.maximum() // 4)
    tour.wait(lambda: not segment.decoding.running)
    segment.parent().raise_()
    tour.done("segment-slider", began)
    began = now()
    measure = window_of(viewer, "Measure")
    measure.labels.setCurrentText("nuclei objects")
    measure.image.setCurrentText("nuclei")
    measure.measure_button.click()
    tour.wait(lambda: not measure.work.running)
    measure.y.setCurrentText("intensity_mean")
    measure.plot.chosen.emit(central(measure.table.table))
    measure.range_box.click()
    measure.plot.interval.setRegion((20, 60))
    measure.parent().raise_()
    tour.done("measure", began)


def central(table: Any) -> int:
    """The object nearest to the middle of its image."""
    centres = table[["centroid_y", "centroid_x"]].to_numpy()
    return int(table["label"].iloc[int(((centres - centres.mean(axis=0)) ** 2).sum(axis=1).argmin())])


def corrected(tour: Tour) -> None:
    """Segment, and correct objects as somebody who knows the truth would."""
    viewer = tour.viewer
    viewer.layers.clear()
    viewer.open_sample("morula", "nuclei_2d")
    segment = window_of(viewer, "Segment")
    segment.model.box.setCurrentIndex(0)
    segment.segment_button.click()
    tour.wait(lambda: not segment.work.running)
    window = window_of(viewer, "Correct")
    window.labels.setCurrentText("nuclei objects")
    window.image.setCurrentText("nuclei")
    began = now()
    window.start_button.click()
    tour.wait(lambda: not window.work.running)
    window.parent().raise_()
    window.table.parent().raise_()
    tour.done("correct-worst", began)
    began = now()
    review_by_truth(window.corrections, viewer.layers["nuclei truth"].data, 6)
    window._changed()
    window._go(window.corrections.next())
    tour.done("correct-decided", began)


def volume(tour: Tour) -> None:
    """From an open sample to labelled objects, with the bundled model that fits."""
    viewer = tour.viewer
    viewer.layers.clear()
    viewer.open_sample("morula", "nuclei_3d")
    tour.rest()
    began = now()
    segment = window_of(viewer, "Segment")
    segment.parent().raise_()
    segment.model.box.setCurrentIndex(0)
    tour.done("volume-window", began)
    began = now()
    segment.segment_button.click()
    tour.wait(lambda: not segment.work.running)
    viewer.dims.ndisplay = 3
    viewer.reset_view()
    viewer.scene.camera.angles = (10, 30, -20)
    viewer.scene.camera.zoom *= 0.75
    tour.done("volume-objects", began)
    viewer.dims.ndisplay = 2


def unsupervised(tour: Tour) -> None:
    """Train WNet3D on a volume, and stop."""
    viewer = tour.viewer
    train = window_of(viewer, "Train")
    viewer.layers.clear()
    began = now()
    viewer.open_sample("morula", "nuclei_3d")
    train.method.setCurrentText("WNet3D")
    train.tabs.setCurrentIndex(3)
    tour.wait(lambda: "50 epochs" in train.plan_line.text())
    train.parent().raise_()
    tour.done("wnet3d-advanced", began)
    small = {"network.features": "[8, 16]", "sampling.patch": "[16, 64, 64]", "sampling.patches_per_epoch": "8"}
    enter(train, {**small, "method.intensity_sigma": 60})
    train.output.line.clear()
    began = now()
    train.start_button.click()
    tour.wait(lambda: len(train.curves.epochs) >= 8)
    tour.done("wnet3d-live", began)
    began = now()
    train.progress.stop.click()
    tour.wait(lambda: not train.work.running)
    print(f"stop: {time.perf_counter() - began[0]:.2f} s")


def asked(tour: Tour) -> None:
    """Answer the questions of the window `Wizard`, and plan the job."""
    viewer, data = tour.viewer, simulate_data_set("data", n_train=8, n_test=2, shape=(256, 256))
    viewer.layers.clear()
    for _, dock in list(viewer.window._wrapped_dock_widgets.items()):
        dock.close()
    viewer.open(sorted((data / "train/images").iterdir())[0], plugin="morula")
    _, wizard = viewer.window.add_plugin_dock_widget("morula", "Wizard")
    wizard.job.line.setText("nuclei.yaml")
    began = now()

    def answer(**given: str) -> None:
        for key, text in given.items():
            wizard.rows[key].enter(text)
            tour.wait(lambda: not wizard._timer.isActive() and not wizard.checking.running)

    answer(raw="data/train/images", voxel_size="0.25", labels="data/train/labels")
    tour.done("wizard-questions", began)
    answer(test="data/test/images", test_labels="data/test/labels", minutes="5")
    wizard.seconds.setValue(0)  # no trials: the picture shows the plan
    wizard.plan_button.click()
    tour.wait(lambda: not wizard.work.running)
    tour.done("wizard-plan", began)


PARTS = {part.__name__: part for part in (volume, supervised, corrected, unsupervised, asked)}


def main() -> None:
    """Do the parts that are named, or all."""
    os.chdir(tempfile.mkdtemp())
    PICTURES.mkdir(exist_ok=True)
    tour = Tour()
    for name in sys.argv[1:] or PARTS:
        PARTS[name](tour)
    tour.viewer.close()


if __name__ == "__main__":
    main()
