"""A checkpoint of pytorch-3dunet with the job file beside it as a native model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from morula.core.errors import JobError, ModelError, MorulaError
from morula.core.voxel_size import VoxelSize
from morula.dialects import program_of
from morula.dialects.pytorch3dunet.convert import convert
from morula.dialects.pytorch3dunet.job import purpose_of, read_job
from morula.dialects.pytorch3dunet.networks import HEAD
from morula.jobs.load import validate
from morula.jobs.yaml_lines import Document
from morula.methods import METHODS
from morula.models.model import Model
from morula.nn.build import build_network

_BESIDE = "Put the YAML file of the training beside it, or predict with `morula predict3dunet --config JOB`."


def model_with_job(path: Path, tensors: Mapping[str, Tensor]) -> Model:
    """The model of a checkpoint whose training job (YAML) is in the same folder: it says what the outputs mean, and how images are scaled.

    Args:
        path: the checkpoint.
        tensors: its weights by the names of the native network, with the head `HEAD`.

    Raises:
        ModelError: where there is no job, or several, or one that has no native counterpart or other channels than the weights.
    """
    job_file = _job_beside(path)
    try:
        converted = convert(read_job(job_file))
        stated = dict(converted.job)
        network = stated["network"]
        assert isinstance(network, Mapping)
        # what the model needs; files and training stay out, and so do weights to start from
        document = {
            "images": {},
            "method": stated["method"],
            "network": {name: value for name, value in network.items() if name != "from"},
            "sampling": stated["sampling"],
        }
        job = validate(Document(document, {}, str(job_file)))
    except JobError as error:
        rule = f"has a job beside it that has no native counterpart: {error.problems[0]}"
        raise ModelError("checkpoint.job", rule, key=job_file.name, file=path, remedy=_BESIDE) from error
    voxel_size = VoxelSize.of(None, 3)
    method = METHODS.load(job.method.kind)(job.method, job.objects, ndim=3, spacing=voxel_size.spacing(3))
    (head, outputs), *others = method.heads.items()
    found = len(tensors[f"outputs.{HEAD}.weight"])
    if others or outputs != found:
        rule = f"predicts {found} channel(s), but {job_file.name} says {sum(method.heads.values())}"
        raise ModelError("checkpoint.heads", rule, file=path, remedy="Put the job file that trained it beside it.")
    in_channels = next(values for name, values in tensors.items() if name.startswith("encoder.0.") and values.ndim > 3).shape[1]
    built = build_network(document["network"], 3, in_channels, method.heads)  # type: ignore[arg-type]
    own = built.state_dict()
    named = {name.replace(f".{HEAD}.", f".{head}."): values for name, values in tensors.items()}
    try:
        # a 2D network is a 3D one with kernels of one voxel along z
        built.load_state_dict({name: values.reshape(own[name].shape) if name in own else values for name, values in named.items()})
    except RuntimeError as error:
        rule = f"does not fit the network of {job_file.name}: {str(error).splitlines()[-1].strip()[:200]}"
        raise ModelError("checkpoint.tensors", rule, file=path, remedy="Put the job file that trained it beside it.") from error
    return Model(job, built.eval(), method, in_channels, voxel_size)


def _job_beside(path: Path) -> Path:
    """The training job in the folder of a checkpoint; one with the name of the checkpoint goes before others.

    Raises:
        ModelError: where there is none, or several.
    """
    files = sorted(file for file in path.parent.iterdir() if file.suffix in (".yml", ".yaml"))
    found = [file for file in files if _trains(file)]
    same = [file for file in found if file.stem == path.stem]
    if len(same or found) != 1:
        rule = "holds the weights of a network without its job"
        if found:
            rule = f"has several jobs beside it: {', '.join(file.name for file in found[:4])}"
        raise ModelError("checkpoint.weights_only", rule, file=path, remedy=_BESIDE)
    return (same or found)[0]


def _trains(file: Path) -> bool:
    try:
        return program_of(file) == "pytorch-3dunet" and purpose_of(file) == "train"
    except (MorulaError, TypeError):
        return False
