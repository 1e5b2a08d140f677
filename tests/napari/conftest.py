"""The plugin in a real napari, in a display that may be virtual. Run by `make test-napari`; `make test` collects nothing here."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

collect_ignore_glob = [] if os.environ.get("MORULA_NAPARI") else ["test_*.py"]

Wait = Callable[..., None]


@pytest.fixture
def wait() -> Wait:
    """Run the event loop of Qt until a condition holds: ``wait(lambda: not work.running)``."""
    from qtpy.QtWidgets import QApplication

    def until(condition: Callable[[], bool], seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "the condition did not come true in time"
            QApplication.processEvents()
            time.sleep(0.002)
        QApplication.processEvents()

    return until


@pytest.fixture
def notifications(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Messages of the notifications that were shown, as ``severity: message``."""
    from napari.utils.notifications import notification_manager

    shown: list[str] = []
    notification_manager.notification_ready.connect(note := lambda n: shown.append(f"{n.severity}: {n.message}"))
    yield shown
    notification_manager.notification_ready.disconnect(note)


@pytest.fixture
def viewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait: Wait) -> Iterator[Any]:
    """An open napari window; the current folder is a new one."""
    from napari.settings import get_settings

    import napari

    monkeypatch.chdir(tmp_path)
    get_settings().application.confirm_close_window = False
    opened = napari.Viewer(show=True)
    opened.window.resize(1280, 800)
    yield opened
    opened.close()
    from napari.qt.threading import create_worker  # noqa: F401 - the module that knows all workers
    from superqt.utils import WorkerBase

    WorkerBase.await_workers(60_000)
    wait(lambda: True)


@pytest.fixture(scope="session")
def run2d(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run: small, but it finds nuclei."""
    import morula
    from morula.testing.simulate import simulate

    made = [simulate("nuclei", shape=(128, 128), n_objects=12, rng=np.random.default_rng(seed), spacing=(0.25, 0.25)) for seed in range(4)]
    layers = {f"n{i}": (morula.Image(each.image, "YX", morula.VoxelSize(0.25, 0.25)), each.labels) for i, each in enumerate(made)}
    job = {
        "images": {"validate": None},
        "method": {"kind": "channels", "channels": ["F", "Db"]},
        "network": {"kind": "unet", "features": [8, 16]},
        "sampling": {"patch": [64, 64], "batch": 4, "patches_per_epoch": 32},
        "training": {"epochs": 4, "optimiser": {"kind": "adamw", "lr": 1e-2}},
    }
    folder = tmp_path_factory.mktemp("trained") / "run"
    list(morula.train(job, layers=layers, output=folder))
    return folder


class Gaps:
    """The longest time between two turns of the event loop, and the most processor time that its thread spent in one, in seconds."""

    def __init__(self) -> None:
        from qtpy.QtCore import QTimer

        self.restart()
        self._timer = QTimer()
        self._timer.timeout.connect(self._tick)
        self._timer.start(5)

    def restart(self) -> None:
        self.longest = self.busiest = 0.0
        self._last, self._used = time.perf_counter(), time.thread_time()

    def report(self) -> str:
        return f"longest gap {1000 * self.longest:.0f} ms, {1000 * self.busiest:.0f} ms of processor time"

    def _tick(self) -> None:
        now, used = time.perf_counter(), time.thread_time()
        self.longest, self.busiest = max(self.longest, now - self._last), max(self.busiest, used - self._used)
        self._last, self._used = now, used


@pytest.fixture
def gaps(viewer: Any) -> Gaps:
    return Gaps()
