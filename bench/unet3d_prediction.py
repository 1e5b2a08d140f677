"""Prediction with job files of pytorch-3dunet, compared with that program; whole processes, alternating."""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import yaml
from figures import Result, figure
from rows import EDGE, HALO, PAIRS, PATCH
from unet3d import MODEL

FOLDER = Path(__file__).resolve().parent / "results" / "runs" / "unet3d_prediction"
HALOS = {"no halo": (0, 0, 0), "halo": HALO}
BARS = {
    ("no halo", "patch"): 0.85,
    ("halo", "patch"): 0.75,
    ("halo", "planned"): 0.65,
    ("no halo", "openvino"): 0.55,
    ("halo", "openvino"): 0.45,
    ("no halo", "openvino fp16"): 0.55,
    ("halo", "openvino fp16"): 0.45,
}
WAYS = {
    "patch": {},
    "planned": {"tiles": "planned"},
    "openvino": {"backend": "openvino"},
    "openvino fp16": {"backend": "openvino", "precision": "fp16"},
}
ORIGINAL = "from pytorch3dunet.predict import main; main()"
OURS = "import sys; from morula.cli import main; sys.argv.insert(1, 'predict3dunet'); main()"


def rows(before: Result | None, options: argparse.Namespace) -> Iterator[Result]:
    """CPU-seconds and peak memory of every way to predict 128^3 voxels, pair by pair."""
    prepare()
    cases = [(halo, way) for halo, way in BARS if "openvino" not in way or importlib.util.find_spec("openvino")]
    with_original = "PYTORCH3DUNET" in os.environ
    if not with_original:
        print("unet3d_prediction: pytorch-3dunet is skipped; name the folder of its source in PYTORCH3DUNET", flush=True)
    names = [f"{halo}: {way}" for halo, way in cases] + [f"{halo}: pytorch-3dunet" for halo in HALOS if with_original]
    runs: dict[str, list[list[float]]] = before["runs"] if before and before["threads"] == options.threads else {}
    runs = {name: runs.get(name, []) for name in names}
    for number in range(min(map(len, runs.values())), options.pairs):
        for name in names if number % 2 else reversed(names):
            if len(runs[name]) <= number:
                runs[name].append(measured(*name.split(": "), options.threads))
        yield result(runs, options, complete=number + 1 >= PAIRS)


def prepare() -> None:
    """Volume, checkpoint and job files."""
    import h5py
    import torch

    from morula.dialects.pytorch3dunet import build_model, original_state_dict

    FOLDER.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    with h5py.File(FOLDER / "volume.h5", "w") as file:
        file["raw"] = rng.integers(0, 60000, (EDGE, EDGE, EDGE)).astype(np.uint16)
    torch.manual_seed(0)
    torch.save({"model_state_dict": original_state_dict(build_model(MODEL))}, FOLDER / "checkpoint.pytorch")
    for halo, edges in HALOS.items():
        for way in (*WAYS, "pytorch-3dunet"):
            builder = {"name": "SliceBuilder", "patch_shape": [PATCH] * 3, "stride_shape": [PATCH] * 3, "halo_shape": list(edges)}
            raw = [{"name": "Standardize"}, {"name": "ToTensor", "expand_dims": True}]
            document = {
                "model_path": str(FOLDER / "checkpoint.pytorch"),
                "device": "cpu",
                "model": MODEL,
                "predictor": {"name": "StandardPredictor", **WAYS.get(way, {})},
                "loaders": {
                    "output_dir": str(FOLDER / f"{halo} {way}"),
                    "global_normalization": True,
                    "test": {"file_paths": [str(FOLDER / "volume.h5")], "slice_builder": builder, "transformer": {"raw": raw}},
                },
            }
            (FOLDER / f"{halo} {way}.yml").write_text(yaml.safe_dump(document))


def measured(halo: str, way: str, threads: int) -> list[float]:
    """CPU-seconds, peak memory in GB and maximum difference from pytorch-3dunet of one process."""
    original = way == "pytorch-3dunet"
    command = [sys.executable, "-c", ORIGINAL if original else OURS, "--config", str(FOLDER / f"{halo} {way}.yml")]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    if original:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ["PYTORCH3DUNET"], os.environ.get("PYTHONPATH")]))
    else:
        command += ["--overwrite"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{command} ended with {status}")
    return [used.ru_utime + used.ru_stime, used.ru_maxrss / 1e6 if sys.platform != "darwin" else used.ru_maxrss / 1e9]


def difference(halo: str, way: str) -> float | None:
    """Maximum difference of the stored predictions."""
    import h5py

    files = [FOLDER / f"{halo} {name}" / "volume_predictions.h5" for name in (way, "pytorch-3dunet")]
    if not all(file.is_file() for file in files):
        return None
    first, second = (h5py.File(file)["predictions"][...] for file in files)
    return float(np.abs(first - second).max())


def result(runs: dict[str, list[list[float]]], options: argparse.Namespace, *, complete: bool) -> Result:
    """The ratio of each pair and its median, memory and differences."""
    figures = []
    for name, measured in runs.items():
        halo, way = name.split(": ")
        seconds = [run[0] for run in measured]
        figures.append(figure(name, "CPU-s", seconds, value=statistics.median(seconds)))
        theirs = runs.get(f"{halo}: pytorch-3dunet")
        if theirs is not None and way != "pytorch-3dunet":
            ratios = [a[0] / b[0] for a, b in zip(measured, theirs, strict=True)]
            figures.append(figure(f"{name} / pytorch-3dunet", "x", ratios, BARS[halo, way], value=statistics.median(ratios)))
        memory = [run[1] for run in measured]
        figures.append(figure(f"{name}, peak memory", "GB", memory, max(run[1] for run in theirs) if theirs else None))
        apart = difference(halo, way) if way not in ("planned", "pytorch-3dunet") else None
        if apart is not None:
            figures.append(figure(f"{name}, greatest difference", "", [apart], 1e-4 if way == "patch" else 1e-3))
    return {
        "title": "Prediction with job files of pytorch-3dunet",
        "note": f"UNet3D with 32 features and group normalisation on {EDGE}^3 voxels, patches of {PATCH}^3, halo {HALO} or none, "
        f"{options.threads} thread(s). Whole processes, including the start of Python, run alternately; medians. patch: the tiles "
        "of pytorch-3dunet. planned: `predictor.tiles: planned`. openvino: `predictor.backend: openvino`. fp16: "
        "`predictor.precision: fp16` on a CPU with half-precision multiplication (AMX-FP16); everything else, and pytorch-3dunet, "
        "computes in fp32. pytorch-3dunet is measured if the environment variable PYTORCH3DUNET names the folder of its source.",
        "complete": complete,
        "runs": runs,
        "threads": options.threads,
        "figures": figures,
    }


ROWS = {"unet3d_prediction": rows}
