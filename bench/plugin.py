"""The row `napari`: what the plugin adds to the start of napari, and the time of a training with and without the live view.

It needs the environment of `make test-napari`, and xvfb.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from figures import Result, figure
from pairs import alternating

PAIRS = 7
HERE = Path(__file__).resolve().parent
COMMAND = ["xvfb-run", "-a", "-s", "-screen 0 1400x900x24", str(HERE.parent / ".venv-napari/bin/python"), str(HERE / "in_napari.py")]


def plugin(before: Result | None, options: argparse.Namespace) -> Iterator[Result]:
    """Medians of pairs, each in processes of its own."""
    del before, options
    starts = alternating(lambda: start("with"), lambda: start("without"), PAIRS)
    added = [with_it - without for with_it, without in zip(*starts, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        runs = (Path(folder) / str(number) for number in itertools.count())
        job = next(runs)
        in_window(job)
        found = alternating(lambda: in_window(next(runs)), lambda: on_command_line(job / "job.yaml", next(runs)), PAIRS)
    ratios = [window / command for window, command in zip(*found, strict=True)]
    yield {
        "title": "The plugin in napari",
        "note": "Start: CPU-seconds of a process that opens a window of napari with the plugin, minus those without it. Training: the "
        "same job, six epochs of 40 steps on the sample of 2D nuclei, in the window *Train* with its live layers and curves, over "
        f"`morula train`; wall time from the first to the last step. Medians of {PAIRS} pairs, alternating, in a virtual display without "
        "a graphics card.",
        "complete": True,
        "figures": [
            figure("start, added by the plugin", "CPU-s", added, 3.0, value=statistics.median(added)),
            figure("training with the live view / on the command line", "x", ratios, 1.05, value=statistics.median(ratios)),
        ],
    }


def start(plugin: str) -> float:
    """CPU-seconds of a process that opens a window."""
    return float(napari("start", plugin).split()[-1])


def in_window(run: Path) -> float:
    """Seconds of a training in napari."""
    napari("train", str(run))
    return seconds(run)


def napari(*arguments: str) -> str:
    """What a process in napari prints. Its settings are its own: that a plugin is disabled would stay."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {**os.environ, "NAPARI_CONFIG": str(Path(folder) / "settings.yaml")}
        return subprocess.run([*COMMAND, *arguments], check=True, capture_output=True, text=True, env=settings).stdout


def on_command_line(job: Path, run: Path) -> float:
    """Seconds of the same training on the command line."""
    subprocess.run([sys.executable, "-m", "morula", "train", str(job), "-o", str(run), "--quiet"], check=True, capture_output=True)
    return seconds(run)


def seconds(run: Path) -> float:
    """Seconds of the training of a run."""
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    return next(float(event["seconds"]) for event in events if event["event"] == "finished" and event["task"] == ["train"])
