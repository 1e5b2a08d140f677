"""Rows of the pytorch-3dunet dialect: its example on real cells, one training step, one elastic deformation."""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from figures import Result, figure

HERE = Path(__file__).resolve().parent
HELD = 20
"""Last columns of the ovule, which are not used for training."""
MODEL = {"name": "UNet3D", "in_channels": 1, "out_channels": 1, "layer_order": "gcr", "f_maps": 32, "num_groups": 8}


def ovule(before: Result | None, options: argparse.Namespace) -> Iterator[Result]:
    """Train on all but the last columns of the ovule, predict and flood the whole, score the last columns."""
    data = Path(os.environ.get("MORULA_DATA", HERE.parent.parent / "shared" / "data")).resolve() / "cells3d_ovule" / "train"
    if not data.is_dir():
        print(f"ovule: skipped, there is no {data}; name the folder of the images in MORULA_DATA", flush=True)
        return
    import h5py

    import morula
    from morula.metrics.rand import adapted_rand_error

    folder = HERE / "results" / "runs" / "cells3d_ovule"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (raw,), (labels,) = ([np.asarray(morula.read(path)) for path in (data / part).iterdir()] for part in ("images", "labels"))
    for name in ("train", "val"):
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file["raw"], file["label"] = raw[..., :-HELD], labels[..., :-HELD]
    job = folder / "train.yml"
    job.write_text((HERE / "jobs" / "cells3d_ovule.yml").read_text().replace("OUTPUT", str(folder)))
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    first = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = str(Path(sys.executable).parent / "morula")
    subprocess.run([command, "train3dunet", "--config", str(job)], check=True, env=environment)
    last = resource.getrusage(resource.RUSAGE_CHILDREN)
    minutes = (last.ru_utime + last.ru_stime - first.ru_utime - first.ru_stime) / 60
    boundary = predicted(folder / "checkpoints" / "last_checkpoint.pytorch", raw, raw[..., :-HELD])
    cells = flooded(boundary, (0.235, 0.15, 0.15))
    errors = {part: adapted_rand_error(labels[where], cells[where]) for part, where in PARTS.items()}
    yield {
        "title": "Cells of an ovule with a job file of pytorch-3dunet",
        "note": "`bench/jobs/cells3d_ovule.yml` with the keys of the example for confocal stacks, 300 steps on the first 60 of 80 columns "
        "of a stack of 32 x 128 x 80 voxels, validated on the training region; weights of the last step. Cells are flooded from "
        "the maxima of the distance to the predicted boundaries. Adapted Rand error, lower is better; CPU-minutes of the whole "
        "training process.",
        "complete": True,
        "figures": [
            figure("adapted Rand error, the 20 columns kept out", "", [errors["kept out"]], 0.25),
            figure("adapted Rand error, trained on", "", [errors["trained on"]]),
            figure("training", "CPU-minutes", [minutes], 30.0),
        ],
    }


PARTS = {"kept out": (..., slice(-HELD, None)), "trained on": (..., slice(None, -HELD))}


def predicted(checkpoint: Path, raw: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The boundary map of a stack, on the scale of the training region."""
    import torch

    import morula.dialects.pytorch3dunet as dialect

    model = dialect.build_model({**MODEL, "f_maps": 16})
    dialect.load_state_dict(model, torch.load(checkpoint, map_location="cpu", weights_only=True))
    image = torch.from_numpy(((raw - known.mean()) / known.std()).astype(np.float32))
    with torch.no_grad():
        return model.eval()(image[None, None])[0, 0].numpy()


def flooded(boundary: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Cells, flooded from the maxima of the smoothed distance to the nearest boundary."""
    from scipy.ndimage import distance_transform_edt, gaussian_filter, label
    from skimage.feature import peak_local_max
    from skimage.segmentation import watershed

    inside = boundary < 0.4
    depth = gaussian_filter(distance_transform_edt(inside, sampling=spacing), [0.3 / step for step in spacing])
    peaks = peak_local_max(depth, min_distance=4, labels=label(inside)[0], exclude_border=False)
    seeds = np.zeros(boundary.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return watershed(boundary - 0.02 * depth / depth.max(), seeds)


def steps(before: Result | None, options: argparse.Namespace) -> Iterator[Result]:
    """Interleaved training steps of both programs, and an elastic deformation of an image with its labels."""
    import torch

    torch.set_num_threads(options.threads)
    own, theirs = step_of_morula(), step_of_original()
    runs: dict[str, list[float]] = {"morula": [], "pytorch-3dunet": []}
    for _ in range(options.pairs):
        runs["morula"].append(cpu_seconds(own))
        if theirs is not None:
            runs["pytorch-3dunet"].append(cpu_seconds(theirs))
    figures = [figure(name, "CPU-s", seconds, value=statistics.median(seconds)) for name, seconds in runs.items() if seconds]
    if theirs is not None:
        ratios = [a / b for a, b in zip(runs["morula"], runs["pytorch-3dunet"], strict=True)]
        figures.append(figure("morula / pytorch-3dunet", "x", ratios, 0.9, value=statistics.median(ratios)))
    bend = elastic_pair()
    bend()
    bends = [cpu_seconds(bend) for _ in range(5)]
    figures.append(figure("elastic deformation of image and labels, 80 x 170 x 170", "CPU-s", bends, 2.0, value=statistics.median(bends)))
    yield {
        "title": "Training steps of pytorch-3dunet",
        "note": f"UNet3D with 32 features, 64^3 voxels, BCEDiceLoss, Adam, {options.threads} thread(s); both programs run alternately in "
        "one process, medians. pytorch-3dunet is measured if the environment variable PYTORCH3DUNET names the folder of its "
        "source; its elastic deformation takes 13.3 CPU-s.",
        "complete": True,
        "figures": figures,
    }


def cpu_seconds(call: Callable[[], object]) -> float:
    """CPU-seconds of this process, all threads."""
    begin = time.process_time()
    call()
    return time.process_time() - begin


def step_of_morula() -> Callable[[], object]:
    """A step of the training loop: weights and images channels-last."""
    import torch

    import morula.dialects.pytorch3dunet as dialect

    model = dialect.build_model(MODEL).to(memory_format=torch.channels_last_3d)
    loss = dialect.build_loss({"name": "BCEDiceLoss"})
    return step(model, lambda image, target: loss(model.logits(image.to(memory_format=torch.channels_last_3d)), target))


def step_of_original() -> Callable[[], object] | None:
    """A step of pytorch-3dunet, if its source is named."""
    if "PYTORCH3DUNET" not in os.environ:
        return None
    sys.path.insert(0, os.environ["PYTORCH3DUNET"])
    from pytorch3dunet.unet3d.losses import get_loss_criterion
    from pytorch3dunet.unet3d.model import get_model

    model = get_model(dict(MODEL))
    loss = get_loss_criterion({"loss": {"name": "BCEDiceLoss"}, "device": "cpu"})
    return step(model, lambda image, target: loss(model(image, return_logits=True)[1], target))


def step(model: Any, loss: Callable[[Any, Any], Any]) -> Callable[[], object]:
    """A training step that ran once before."""
    import torch

    image, target = torch.randn(1, 1, 64, 64, 64), (torch.rand(1, 1, 64, 64, 64) > 0.5).float()
    optimiser = torch.optim.Adam(model.train().parameters(), lr=2e-4)

    def call() -> None:
        value = loss(image, target)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()

    call()
    return call


def elastic_pair() -> Callable[[], object]:
    """One random elastic deformation of a patch and its labels per call."""
    from itertools import count

    from morula.dialects.pytorch3dunet.patches import grid_of, patches_of
    from morula.dialects.pytorch3dunet.transform_lists import Lists, parse
    from morula.dialects.pytorch3dunet.volumes import Volume

    class Held(np.ndarray):
        channels = False

    shape = (80, 170, 170)
    rng = np.random.default_rng(0)
    raw, labels = rng.random((1, *shape), np.float32).view(Held), rng.integers(0, 200, (1, *shape)).astype(np.uint16).view(Held)
    lists = Lists(*(parse([{"name": "ElasticDeformation", "spline_order": order, "execution_probability": 1.0}]) for order in (3, 0)))
    grid = grid_of(shape, None)
    patches, epoch = patches_of([Volume("", Path(), raw, (labels,))], [grid], lists), count()
    return lambda: patches.sample(next(epoch), 0)


ROWS = {"ovule": ovule, "unet3d_step": steps}
