"""Job files, models, checkpoints and run folders that are damaged or hostile. The same seed gives the same files."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from morula.core.voxel_size import VoxelSize
from morula.jobs.load import load_job
from morula.jobs.yaml_lines import dump
from morula.methods import METHODS
from morula.models.model import Model
from morula.nn.build import build_network
from morula.testing.bad_images import BadInput, Kind, damaged
from morula.testing.bad_packages import bad_packages
from morula.testing.mutations import HOSTILE_YAML, Json, damaged_texts, mutated

JOB: dict[str, Json] = {
    "images": {"train": {"raw": "a", "labels": "b"}, "validate": "10%", "voxel_size": {"y": 1.0, "x": 1.0, "unit": "um"}},
    "method": {"kind": "channels", "channels": ["F", "C", "Db"]},
    "network": {"kind": "unet", "features": [8, 16]},
    "sampling": {"patch": [64, 64], "normalise": {"kind": "percentile"}},
    "augment": [{"rotate": {"degrees": 45.0}}, "flip"],
    "training": {"epochs": 3, "seed": 0, "optimiser": {"kind": "adamw"}},
    "prediction": {"memory": "8GB", "tile": [64, 64]},
    "objects": {"refine": [{"dilation": 1}], "tune": {"thresholds": [0.5]}, "filter": ["npixels < 100"]},
}
"""A native job."""
BIAPY_JOB: dict[str, Json] = {
    "PROBLEM": {"TYPE": "INSTANCE_SEG", "NDIM": "2D", "INSTANCE_SEG": {"DATA_CHANNELS": ["F", "C"]}},
    "DATA": {"PATCH_SIZE": [64, 64, 1], "TRAIN": {"PATH": "a", "GT_PATH": "b"}, "VAL": {"SPLIT_TRAIN": 0.1}},
    "MODEL": {"ARCHITECTURE": "unet", "FEATURE_MAPS": [8, 16]},
    "TRAIN": {"ENABLE": True, "EPOCHS": 3, "BATCH_SIZE": 2, "OPTIMIZER": "ADAMW", "LR": 0.001},
    "TEST": {"ENABLE": False},
}
"""A job of BiaPy."""
UNET3D_JOB: dict[str, Json] = {
    "device": "cpu",
    "model": {"name": "UNet3D", "in_channels": 1, "out_channels": 1, "f_maps": [4, 8], "num_groups": 2},
    "loss": {"name": "BCEDiceLoss"},
    "optimizer": {"learning_rate": 0.001},
    "eval_metric": {"name": "DiceCoefficient"},
    "trainer": {"checkpoint_dir": "out", "max_num_epochs": 1, "max_num_iterations": 2},
    "loaders": {
        "num_workers": 0,
        "train": {
            "file_paths": ["train.h5"],
            "slice_builder": {"name": "SliceBuilder", "patch_shape": [4, 16, 16], "stride_shape": [4, 16, 16]},
            "transformer": {"raw": [{"name": "Standardize"}], "label": [{"name": "ToTensor", "expand_dims": True}]},
        },
    },
}
"""A job of pytorch-3dunet."""
RUN_FILES = {
    "job.yaml": "images: {train: {raw: a}}\nmethod: {kind: channels}\n",
    "scores.csv": "image,threshold,tp,fp,fn,f1\na,0.5,1,0,0,1.0\npooled,0.5,1,0,0,1.0\n",
    "logs/training.csv": "epoch,step,seconds,best,loss\n1,40,2.0,0,0.5\n",
    "logs/log.txt": "2026-01-01 00:00:00+00:00  warning: a\n",
    "events.jsonl": '{"event": "warned", "run": "a", "task": ["predict"], "code": "a.b", "message": "c"}\n',
    "provenance.json": '{"environment": {"python": "3.11"}, "written": "2026-01-01T00:00:00"}',
    "report/images.json": '[{"name": "a", "raw": null, "truth": null, "prediction": null}]',
    "objects/a.csv": "label,npixels\n1,20\n",
}
"""The files of a run folder, as far as a report reads them."""


def bad_documents(folder: Path, *, seed: int = 0) -> Iterator[BadInput]:
    """One bad job, model, checkpoint or run folder after the other, each in a folder of its own.

    Args:
        folder: an empty folder.
        seed: seed of the random changes.
    """
    choice = random.Random(seed)
    families: dict[Kind, Callable[[Path, random.Random], Iterator[tuple[str, Path, bool]]]]
    families = {"job": _jobs, "model": _models, "checkpoint": _checkpoints, "run": _runs}
    for kind, family in families.items():
        for name, path, must_fail in family(folder, choice):
            yield BadInput(f"{kind} {name}", path, kind, must_fail)
    for name, path, must_fail in bad_packages(folder, choice, small_model()):
        yield BadInput(f"model {name}", path, "model", must_fail)


def _placed(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _jobs(folder: Path, choice: random.Random) -> Iterator[tuple[str, Path, bool]]:
    for number, text in enumerate(HOSTILE_YAML):
        yield f"hostile {number}", _placed(folder, f"hostile_{number}/job.yaml", text.encode("utf-8", "surrogatepass")), True
    for program, job, count in (("native", JOB, 80), ("biapy", BIAPY_JOB, 50), ("unet3d", UNET3D_JOB, 50)):
        for number, document in enumerate(mutated(job, seed=choice.randrange(2**31), count=count)):
            content = dump(document).encode("utf-8", "surrogatepass")
            yield f"{program} {number}", _placed(folder, f"{program}_{number}/job.yaml", content), False
    yield "of 2 MiB", _placed(folder, "long/job.yaml", b"a: b\n" * 2**19), True
    yield "of bytes", _placed(folder, "bytes/job.yaml", bytes(range(256))), True


def small_model() -> Model:
    """A tiny model for images of two dimensions."""
    torch.manual_seed(0)
    job = load_job({"images": {"train": {"raw": "a", "labels": "b"}}, "method": {"kind": "channels", "channels": ["F", "C"]}})
    method = METHODS.load(job.method.kind)(job.method, job.objects, ndim=2, spacing=(1.0, 1.0))
    network = build_network({"kind": "unet", "features": [4, 8]}, 2, 1, method.heads)
    return Model(job=job, network=network, method=method, in_channels=1, voxel_size=VoxelSize(1.0, 1.0), normalisation=None)


def _models(folder: Path, choice: random.Random) -> Iterator[tuple[str, Path, bool]]:
    base = folder / "good" / "model"
    small_model().save(base, torch.rand(1, 1, 8, 8))
    stored = json.loads((base / "model.json").read_text("utf-8"))
    weights = (base / "weights.safetensors").read_bytes()

    def changed(name: str, file: str, content: bytes) -> Path:
        path = folder / name / "model"
        shutil.copytree(base, path)
        (path / file).write_bytes(content)
        return path

    for number, document in enumerate(mutated(stored, seed=choice.randrange(2**31), count=40)):
        yield f"described {number}", changed(f"described_{number}", "model.json", json.dumps(document).encode()), False
    for number, content in enumerate(damaged_texts(json.dumps(stored), seed=choice.randrange(2**31), count=10)):
        yield f"text {number}", changed(f"text_{number}", "model.json", content), False
    for number, (name, make, _) in enumerate(damaged(weights, choice, flips=10, head=2000)):
        path = changed(f"weights_{number}", "weights.safetensors", weights)
        make(path / "weights.safetensors")
        yield f"weights {name}", path, True
    # with a right checksum, so that only the content is wrong
    for name, header in {
        "lies": '{"a": {"dtype": "F32", "shape": [9999999], "data_offsets": [0, 39999996]}}',
        "no JSON": "{",
        "a list": "[]",
    }.items():
        content = struct.pack("<Q", len(header)) + header.encode()
        yield f"header {name}", _with_weights(base, folder / f"header_{name.replace(' ', '_')}" / "model", content), True
    yield "header of 2^60 bytes", _with_weights(base, folder / "header_long" / "model", struct.pack("<Q", 2**60) + b"{}"), True


def _with_weights(base: Path, path: Path, content: bytes) -> Path:
    shutil.copytree(base, path)
    (path / "weights.safetensors").write_bytes(content)
    described = json.loads((path / "model.json").read_text("utf-8"))
    described["weights"] |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (path / "model.json").write_text(json.dumps(described), "utf-8")
    return path


class _Code:
    """Its pickle would run a command."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch HACKED",)


def _checkpoints(folder: Path, choice: random.Random) -> Iterator[tuple[str, Path, bool]]:
    with tempfile.TemporaryDirectory() as temporary:
        torch.save({"model_state_dict": {"a": torch.zeros(4)}}, file := Path(temporary, "a.pth"))
        content = file.read_bytes()
        torch.save({"a": torch.zeros(4)}, file, _use_new_zipfile_serialization=False)
        former = file.read_bytes()
        torch.save({"model": {"a": torch.zeros(4)}, "x": _Code()}, file)
        code = file.read_bytes()
    for number, (name, make, _) in enumerate(damaged(content, choice, flips=15)):
        make(path := _placed(folder, f"zip_{number}/a.pth", b""))
        yield f"zip {name}", path, True
    for number, (name, make, _) in enumerate(damaged(former, choice, flips=10)):
        make(path := _placed(folder, f"former_{number}/a.pth", b""))
        yield f"former {name}", path, True
    others: dict[str, bytes] = {
        "that runs code": code,
        "pickle that runs code": pickle.dumps(_Code(), 2),
        "pickle of protocol 0": pickle.dumps(_Code(), 0),
        "empty": b"",
        "text": b"<html>",
        "pickle without end": b"\x80\x02" + b"(" * 10_000,
        "pickle of deep lists": b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b".",
        "pickle of 2^31 bytes": b"\x80\x02X\xff\xff\xff\x7f.",
        "list": _saved([1, 2]),
        "number": _saved(5),
        "nothing": _saved({}),
        "BiaPy without settings": _saved({"model": {"a": torch.zeros(2)}, "cfg": 5}),
        "BiaPy with nonsense": _saved({"model": {"a": torch.zeros(2)}, "cfg": {"PROBLEM": [1], "MODEL": None}}),
        "names that are numbers": _saved({"model_state_dict": {5: torch.zeros(2)}}),
        "weights of pytorch-3dunet": _saved({"model_state_dict": {"encoders.0.basic_module.x": torch.zeros(2)}}),
        "zip bomb": _zip_bomb(),
    }
    for number, (name, data) in enumerate(others.items()):
        yield name, _placed(folder, f"other_{number}/a.pth", data), True


def _saved(value: object) -> bytes:
    with tempfile.TemporaryDirectory() as temporary:
        torch.save(value, file := Path(temporary, "a.pth"))
        return file.read_bytes()


def _zip_bomb() -> bytes:
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary, "a.pth")
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", bytes(2**28))
            archive.writestr("archive/version", "3\n")
        return file.read_bytes()


def _runs(folder: Path, choice: random.Random) -> Iterator[tuple[str, Path, bool]]:
    for part, text in RUN_FILES.items():
        contents = [b"[1, 2]", b"{", b"a,b\n1,2\n", b"image\npooled\n", b"\xff\xfe", b"", b"1\n" * 5, np.random.default_rng(0).bytes(99)]
        contents += list(damaged_texts(text, seed=choice.randrange(2**31), count=6))
        for number, content in enumerate(contents):
            place = f"run_{part.replace('/', '_').replace('.', '_')}_{number}/run"
            for name, other in RUN_FILES.items():
                _placed(folder, f"{place}/{name}", content if name == part else other.encode())
            yield f"{part} {number}", folder / place, False
