"""Write trained models for other programs: packages of bioimage.io, TorchScript, ONNX."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from morula.core.atomic import atomic
from morula.core.claims import claimed
from morula.core.errors import ModelError, OptionError
from morula.core.events import Artefact, Event, FileWritten, Finished, Logged
from morula.core.manifest import RESULTS, recording
from morula.core.os_errors import with_named_os_errors
from morula.core.outputs import Destination, check_outputs
from morula.jobs.bundled import place_of
from morula.models.load import load
from morula.models.model import Model
from morula.models.zoo.archive import is_package
from morula.models.zoo.package import About, exportable, onnx_bytes, script_bytes, torchscript, write_package
from morula.models.zoo.processing import applied, steps_of
from morula.testing.simulate import simulate

FORMATS = {".zip": "package of bioimage.io", ".pt": "TorchScript", ".onnx": "ONNX"}
"""What is written, by the suffix of the file."""
TASK = ("export",)
_EDGE = {2: 128, 3: 32}


@with_named_os_errors
def export_model(
    model: str | Path,
    output: str | Path,
    *,
    name: str | None = None,
    authors: Sequence[str] = (),
    licence: str | None = None,
    overwrite: bool = False,
) -> Iterator[Event]:
    """Write a trained model for other programs.

    Args:
        model: the name of a bundled model, a run folder, a model folder, or a checkpoint of another program.
        output: ``NAME.zip`` for a package of bioimage.io with TorchScript and ONNX weights, ``NAME.pt`` or ``NAME.onnx`` for weights.
        name: name of the model in a package; by default that of the file.
        authors: authors of the model, for a package.
        licence: licence of the model (SPDX), for a package.
        overwrite: replace an existing file, as far as it is as Morula wrote it.

    Yields:
        events.

    Raises:
        OptionError: for another suffix.
        FileWriteError: when the file exists.
        ModelError: when the model is a package already, or its network cannot be written.
        MissingExtraError: when ONNX is not installed.
    """
    began = time.monotonic()
    target, place = Path(output).expanduser(), place_of(model)
    if target.suffix.lower() not in FORMATS:
        rule = f"must end in {', '.join(f'{suffix} ({kind})' for suffix, kind in FORMATS.items())}"
        raise OptionError("export.suffix", rule, key="output", value=str(target), remedy=f"Write {target.stem or 'model'}.zip.")
    check_outputs([Destination(target, proven=True)], [place], overwrite=overwrite)
    if is_package(place):
        raise ModelError("export.is_package", "is a package already", file=place, remedy="Copy the file.")
    trained = load(place)
    image = _example(trained)
    target.parent.mkdir(parents=True, exist_ok=True)
    with claimed([target]), recording(target.parent, RESULTS):
        check_outputs([Destination(target, proven=True)], overwrite=overwrite)  # again: another process may have been faster
        if target.suffix.lower() == ".zip":
            write_package(target, trained, image, About(name or target.stem, authors, licence))
            said = "other programs get the predicted channels; `morula segment --model` makes objects of them"
        else:
            _write_weights(target, trained, image)
            steps = ", ".join(step["id"] for step in steps_of(trained.job.sampling, trained.normalisation, "zyx"[-trained.ndim :]))
            said = f"the weights expect normalised images ({steps}) and give {', '.join(trained.method.channels)}"
    yield Logged(said, task=TASK)
    yield FileWritten(target, Artefact.MODEL, FORMATS[target.suffix.lower()], task=TASK)
    yield Finished(time.monotonic() - began, task=TASK)


def _write_weights(target: Path, model: Model, image: np.ndarray) -> None:
    """TorchScript or ONNX alone."""
    network = exportable(model)
    steps = steps_of(model.job.sampling, model.normalisation, "zyx"[-model.ndim :])
    batch = torch.from_numpy(applied(steps, image.astype(np.float64)).astype(np.float32))[None]
    content = onnx_bytes(network, batch) if target.suffix.lower() == ".onnx" else script_bytes(torchscript(network, batch))
    with atomic(target) as part:
        part.write_bytes(content)


def _example(model: Model) -> np.ndarray:
    """Simulated nuclei C(Z)YX whose edges the network takes, for the test data of a package."""
    about = (_EDGE[model.ndim],) * model.ndim
    fixed = model.network.norm_over_space and isinstance(model.job.sampling.patch, tuple)
    shape = model.network.padded_shape(model.job.sampling.patch_shape if fixed else about)
    scenes = [simulate("nuclei", shape=shape, n_objects=8, rng=np.random.default_rng(seed)) for seed in range(model.in_channels)]
    return np.stack([scene.image for scene in scenes]).astype(np.float32)
