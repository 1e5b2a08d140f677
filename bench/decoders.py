"""The row `decoders`: decoding of 300 touching cells from noisy rays, flows, embeddings and affinities."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from cells import cells

REPEATS = 7
SHAPES = {"512 x 512": (512, 512), "64 x 256 x 256": (64, 256, 256)}
BARS = {
    ("stardist", "512 x 512"): 5.6 / 30,
    ("stardist", "64 x 256 x 256"): 100 / 30,
    ("flows", "512 x 512"): 10 / 30,
    ("flows", "64 x 256 x 256"): 100 / 30,
    ("embedseg", "512 x 512"): 4.6 / 30,
    ("embedseg", "64 x 256 x 256"): 100 / 30,
}
"""One thirtieth of the time of BiaPy 3.7.1 for 300 objects on one thread: 5.6, 10 and 4.6 s in 2D, over 100 s each in 3D."""


CHANNELS: dict[str, dict[str, dict[str, Any]]] = {
    "stardist": {"Db": {}, "R": {}},
    "flows": {"F": {}, "G": {}},
    "embedseg": {"E": {}},
    "agglomeration": {"A": {"reach": [1]}},
    "mutex_watershed": {"A": {"reach": [1, 3, 9]}},
}


def decoders(before: dict[str, Any] | None, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """CPU-seconds of each decoder and F1 of its objects; stored decoder by decoder."""
    import morula

    done: dict[str, Any] = dict(before["done"]) if before else {}
    for size, shape in SHAPES.items():
        labels = cells(shape, radius=20.0 if len(shape) == 2 else 17.0)
        for name, channels in CHANNELS.items():
            key = f"{name}, {size}"
            if key in done:
                continue
            prediction = noisy(np.asarray(morula.encode(labels, channels)), name)
            small = np.ascontiguousarray(prediction[(slice(None), *(slice(24),) * len(shape))])
            morula.decode(small, channels, process=name)  # imports and compiles
            runs = []
            for _ in range(REPEATS):
                begin = time.process_time()
                found = morula.decode(prediction, channels, process=name)
                runs.append(time.process_time() - begin)
            done[key] = {"runs": runs, "f1": morula.match(labels, found, thresholds=(0.75,))[0].f1, "bar": BARS.get((name, size))}
            yield _result(done, complete=False)
    yield _result(done, complete=True)


def _result(done: dict[str, Any], *, complete: bool) -> dict[str, Any]:
    figures = []
    for key, line in done.items():
        what = {"unit": "CPU-s", "value": statistics.median(line["runs"]), "runs": line["runs"], "bar": line["bar"]}
        figures.append({"what": f"{key} (F1@0.75 {line['f1']:.3f})", **what})
    return {
        "title": "Clustering decoders",
        "note": "300 touching cells; StarDist on 32 rays (96 in 3D) and distances with 2 % noise, flows with noise of 0.1, EmbedSeg on "
        "offsets with noise of half a voxel and seediness down to 0.8, affinities with 5 % noise (direct neighbours, and for the "
        f"mutex watershed also 3 and 9 voxels away). CPU-seconds of `morula.decode`, medians of {REPEATS} calls after one on a "
        "small region. The targets are one thirtieth of the time of BiaPy 3.7.1 for 300 objects of these images on one thread.",
        "complete": complete,
        "done": done,
        "figures": figures,
    }


def noisy(channels: np.ndarray, decoder: str) -> np.ndarray:
    """Channels as a network might predict them."""
    rng = np.random.default_rng(0)
    if decoder == "stardist":
        return channels * (1 + np.float32(0.02) * rng.standard_normal(channels.shape, np.float32))
    if decoder == "flows":
        return (channels + rng.normal(0, 0.1, channels.shape)).astype(np.float32)
    if decoder != "embedseg":
        return np.clip(channels + rng.normal(0, 0.05, channels.shape), 0, 1).astype(np.float32)
    axes = channels.ndim - 1
    offsets = channels[:axes] + rng.normal(0, 0.5 / 1023, channels[:axes].shape)
    seediness = channels[-1:] * rng.uniform(0.8, 1, channels[-1:].shape)
    return np.concatenate([offsets, channels[axes:-1], seediness]).astype(np.float32)
