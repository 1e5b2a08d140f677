"""What the row `napari` does in a napari window: `start` opens one, with the plugin or without; `train` trains with the live view."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from napari.settings import get_settings
from qtpy.QtWidgets import QApplication

import napari

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "docs"))

from napari_tour import enter

VALUES = {"network.features": "[8, 16, 32]", "sampling.patch": "[128, 128]", "sampling.patches_per_epoch": "160", "training.epochs": 6}
"""What is entered into the window; the rest of the job is planned."""


def start(plugin: str) -> None:
    """Open a window, and print the CPU-seconds of the process."""
    get_settings().plugins.disabled_plugins = set() if plugin == "with" else {"morula"}
    viewer = napari.Viewer(show=True)
    end = time.monotonic() + 1
    run_until(lambda: time.monotonic() > end)
    print(time.process_time(), flush=True)
    viewer.close()


def train(output: str) -> None:
    """Train on the sample of nuclei."""
    viewer = napari.Viewer(show=True)
    viewer.open_sample("morula", "nuclei_2d")
    window = viewer.window.add_plugin_dock_widget("morula", "Train")[1]
    window.method.setCurrentText("Channels")
    window.labels.setCurrentText("nuclei truth")
    enter(window, VALUES)
    window.follow.setChecked(False)
    window.output.line.setText(output)
    run_until(lambda: "6 epochs" in window.plan_line.text())
    window.start_button.click()
    run_until(lambda: window.work.running)
    run_until(lambda: not window.work.running)
    viewer.close()


def run_until(condition: Callable[[], bool]) -> None:
    """Run the event loop until a condition holds."""
    while not condition():
        QApplication.processEvents()
        time.sleep(0.003)


if __name__ == "__main__":
    {"start": start, "train": train}[sys.argv[1]](sys.argv[2])
