"""The rows. Each takes its stored result (or `None`) and the options of the command, and yields results; the last one is complete."""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from cells import cells
from figures import Result, figure
from memory import memory
from ncuts import ncuts
from objects import objects
from stars import stars

from decoders import decoders


def start(before: Result | None, options: argparse.Namespace) -> Iterator[Result]:
    """CPU-seconds of `morula --help`, and slow packages that `import morula` imports."""
    command = str(Path(sys.executable).parent / "morula")
    runs = []
    for _ in range(5):
        first = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([command, "--help"], check=True, capture_output=True)
        last = resource.getrusage(resource.RUSAGE_CHILDREN)
        runs.append(last.ru_utime + last.ru_stime - first.ru_utime - first.ru_stime)
    heavy = "import morula, sys; print(sum(name in sys.modules for name in ('torch', 'scipy', 'napari', 'numba', 'skimage')))"
    drawn = subprocess.run([sys.executable, "-c", heavy], check=True, capture_output=True, text=True).stdout
    yield {
        "title": "Start of the command line",
        "note": "`morula --help`, minimum of 5 processes.",
        "complete": True,
        "figures": [
            figure("morula --help", "CPU-s", runs, 0.5),
            figure("of torch, scipy, napari, numba, skimage imported by `import morula`", "packages", [float(drawn)], 0),
        ],
    }


def timed(call: Callable[[], object], repeats: int = 5) -> list[float]:
    """CPU-seconds of each call after a first one that compiles."""
    call()
    runs = []
    for _ in range(repeats):
        begin = time.process_time()
        call()
        runs.append(time.process_time() - begin)
    return runs


def arrays(before: Result | None, options: argparse.Namespace) -> Iterator[Result]:
    """Encoding, decoding, matching and measuring of 300 touching cells in 64 x 256 x 256 voxels."""
    import morula

    labels = cells()
    bars = {"F": 0.1, "C": 0.1, "Db": 0.35}
    figures = [
        figure(f"encode {channel}", "CPU-s", timed(lambda c=channel: morula.encode(labels, [c])), bar) for channel, bar in bars.items()
    ]
    noise = np.random.default_rng(0).normal(0, 0.05, (2, *labels.shape)).astype(np.float32)
    channels = np.clip(np.asarray(morula.encode(labels, ["F", "C"]), np.float32) + noise, 0, 1)
    figures.append(figure("decode F+C by watershed, 5 % noise", "CPU-s", timed(lambda: morula.decode(channels, ["F", "C"])), 0.9))
    moved = np.roll(labels, 1, axis=2)
    figures.append(figure("match at 3 thresholds", "CPU-s", timed(lambda: morula.match(labels, moved, thresholds=(0.3, 0.5, 0.75))), 0.11))
    figures.append(figure("measure", "CPU-s", timed(lambda: morula.measure(labels)), 0.4))
    yield {
        "title": "Label images and channels",
        "note": "64 x 256 x 256 voxels, 300 touching cells. CPU-seconds of the process, minimum of 5 calls after a first one.",
        "complete": True,
        "figures": figures,
    }


EDGE, PATCH, HALO, PAIRS = 128, 64, (8, 16, 16), 7


def prediction(before: Result | None, options: argparse.Namespace) -> Iterator[Result]:
    """A planned prediction of 128^3 voxels against the same network patch by patch, in alternating pairs."""
    import torch

    from morula.inference.memory import available_memory, measure_bytes_per_voxel
    from morula.inference.plan import plan_tiles
    from morula.inference.predict import TiledNetwork, predict_array
    from morula.nn.build import build_network, to_channels_last
    from morula.nn.fuse import fuse_for_inference

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    image = np.random.default_rng(0).normal(size=(1, EDGE, EDGE, EDGE)).astype(np.float32)
    network = build_network({"kind": "unet", "features": [32, 64, 128, 256], "norm": "batch"}, 3, 1, {"F": 1}).eval()
    fast = to_channels_last(fuse_for_inference(network))

    def planned() -> str:
        forward = lambda batch: torch.sigmoid(fast(batch)["F"])  # noqa: E731
        plan = plan_tiles(
            image.shape[1:],
            halo=network.receptive_halo,
            multiple=network.multiple,
            memory=available_memory(),
            bytes_per_voxel=measure_bytes_per_voxel(forward, 1, network.multiple),
        )
        predict_array(image, TiledNetwork(forward, 1), plan)
        return f"{plan.n_tiles} of {' x '.join(map(str, plan.tile))}"

    runs: dict[str, list[float]] = (
        dict(before["runs"]) if before and before["threads"] == options.threads else {"planned": [], "patches": []}
    )
    tiles = ""
    while len(runs["planned"]) < options.pairs:
        order = ["planned", "patches"] if len(runs["planned"]) % 2 == 0 else ["patches", "planned"]
        seconds = {}
        for name in order:
            begin = time.process_time()
            if name == "planned":
                tiles = planned()
            else:
                by_patches(image, lambda batch: torch.sigmoid(network(batch)["F"]))
            seconds[name] = time.process_time() - begin
        for name, value in seconds.items():
            runs[name].append(value)
        yield prediction_result(runs, tiles, options)


def prediction_result(runs: dict[str, list[float]], tiles: str, options: argparse.Namespace) -> Result:
    """The ratio of each pair and its median."""
    ratios = [a / b for a, b in zip(runs["planned"], runs["patches"], strict=True)]
    return {
        "title": "Prediction of a volume",
        "note": f"U-Net with 32, 64, 128, 256 features and batch normalisation on {EDGE}^3 voxels, {options.threads} threads, CPU-seconds "
        f"of the process. Planned: the largest tiles that fit into free memory ({tiles}), including measuring and planning, with "
        f"folded batch normalisation and channels-last weights. Patch by patch: the unchanged network on patches of {PATCH}^3 "
        f"voxels with a halo of {HALO}. Alternating pairs; medians.",
        "complete": len(ratios) >= PAIRS,
        "runs": runs,
        "threads": options.threads,
        "figures": [
            figure("planned", "CPU-s", runs["planned"], value=statistics.median(runs["planned"])),
            figure("patch by patch", "CPU-s", runs["patches"], value=statistics.median(runs["patches"])),
            figure("planned / patch by patch", "x", ratios, 0.7, value=statistics.median(ratios)),
        ],
    }


def by_patches(image: np.ndarray, forward: Callable[[Any], Any]) -> np.ndarray:
    """The simple loop: patches with a halo, reflected at the border of the image; the halo is discarded."""
    import torch

    padded = np.pad(image, [(0, 0), *((h, h) for h in HALO)], mode="reflect")
    out = np.empty_like(image)
    steps = range(0, EDGE, PATCH)
    with torch.inference_mode():
        for z in steps:
            for y in steps:
                for x in steps:
                    begin = (z, y, x)
                    tile = padded[(slice(None), *(slice(a, a + PATCH + 2 * h) for a, h in zip(begin, HALO, strict=True)))]
                    result = forward(torch.from_numpy(tile[None].copy()))[0].numpy()
                    inside = result[(slice(None), *(slice(h, h + PATCH) for h in HALO))]
                    out[(slice(None), *(slice(a, a + PATCH) for a in begin))] = inside
    return out


ROWS: dict[str, Callable[[Result | None, argparse.Namespace], Iterator[Result]]] = {
    "start": start,
    "arrays": arrays,
    "prediction": prediction,
    "ncuts": ncuts,
    "objects": objects,
    "memory": memory,
    "decoders": decoders,
    "stars": stars,
}
