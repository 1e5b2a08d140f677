"""The row `decoders`: EmbedSeg clustering, mutex watershed and agglomeration of 300 touching cells, on channels with noise."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from cells import cells

REPEATS = 3
SHAPES = {"512 x 512": (512, 512), "64 x 256 x 256": (64, 256, 256)}
BARS = {("embedseg", "512 x 512"): 4.6 / 30, ("embedseg", "64 x 256 x 256"): 100 / 30}
"""A thirtieth of what BiaPy 3.7.1 takes for 300 objects on one thread: 4.6 s in 2D, more than 100 s in 3D."""


CHANNELS: dict[str, dict[str, dict[str, Any]]] = {
    "embedseg": {"E": {}},
    "mutex_watershed": {"A": {"reach": [1, 3, 9]}},
    "agglomeration": {"A": {"reach": [1]}},
}


def decoders(before: dict[str, Any] | None, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """CPU-seconds of each decoder, and how well it finds the cells again."""
    import morula

    figures = []
    for size, shape in SHAPES.items():
        labels = cells(shape, radius=20.0 if len(shape) == 2 else 17.0)
        for name, channels in CHANNELS.items():
            prediction = noisy(np.asarray(morula.encode(labels, channels)), embedded="E" in channels)
            found = morula.decode(prediction, channels, process=name)
            runs = []
            for _ in range(REPEATS):
                begin = time.process_time()
                found = morula.decode(prediction, channels, process=name)
                runs.append(time.process_time() - begin)
            f1 = morula.match(labels, found, thresholds=(0.75,))[0].f1
            what = {"unit": "CPU-s", "value": min(runs), "runs": runs, "bar": BARS.get((name, size))}
            figures.append({"what": f"{name}, {size} (F1@0.75 {f1:.3f})", **what})
    yield {
        "title": "Clustering decoders",
        "note": "300 touching cells; EmbedSeg on offsets with noise of half a voxel and seediness down to 0.8, affinities with 5 % noise: "
        "of direct neighbours, for the mutex watershed also 3 and 9 voxels away. CPU-seconds of `morula.decode`, best of 3 after a first "
        "call; the bars are a thirtieth of BiaPy 3.7.1's time for 300 objects of these images on one thread.",
        "complete": True,
        "figures": figures,
    }


def noisy(channels: np.ndarray, *, embedded: bool) -> np.ndarray:
    """Channels as a network might predict them."""
    rng = np.random.default_rng(0)
    if not embedded:
        return np.clip(channels + rng.normal(0, 0.05, channels.shape), 0, 1).astype(np.float32)
    axes = channels.ndim - 1
    offsets = channels[:axes] + rng.normal(0, 0.5 / 1023, channels[:axes].shape)
    seediness = channels[-1:] * rng.uniform(0.8, 1, channels[-1:].shape)
    return np.concatenate([offsets, channels[axes:-1], seediness]).astype(np.float32)
