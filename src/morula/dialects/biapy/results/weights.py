"""A trained network as a checkpoint of BiaPy 3.7."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from morula.core.atomic import atomic
from morula.core.errors import ModelError, MorulaError
from morula.core.events import Artefact, Event, FileWritten, Warned
from morula.core.voxel_size import VoxelSize
from morula.data.normalise import Normalisation
from morula.dialects.biapy.results.names import biapy_names, biapy_tensors
from morula.dialects.biapy.settings import Settings
from morula.dialects.biapy.today import with_defaults
from morula.dialects.converted import Value, nested
from morula.jobs.load import validate
from morula.jobs.yaml_lines import Document
from morula.methods import METHODS
from morula.models.model import Model
from morula.nn.build import build_network, kind_of


def write_checkpoint(target: Path, model: Model, settings: Settings) -> Iterator[Event]:
    """Write weights and settings as BiaPy does: ``model`` has the tensors by BiaPy's names, ``cfg`` all settings in the keys of 3.7.1.

    Args:
        target: the file.
        model: the trained model.
        settings: the job that it was trained by.

    Yields:
        the file; a warning where BiaPy has no such network.
    """
    patch = model.job.sampling.patch_shape
    try:
        tensors = biapy_tensors(model.network, patch)
    except ModelError as error:
        yield Warned(error.code, f"{target.name} is not written: {error}")
        return
    network = model.network
    own = {
        "job": model.job.model_dump(mode="json", by_alias=True),
        "options": {"kind": kind_of(network.options), **network.options.model_dump(mode="json", exclude={"kind", "from_"})},
        "network": {"ndim": network.ndim, "in_channels": network.in_channels, "heads": dict(network.heads)},
        "voxel_size": model.voxel_size.asdict(),
        "normalisation": None if model.normalisation is None else model.normalisation.as_dict(),
    }
    separate = bool(getattr(network.options, "separate_decoders", False))
    content = {
        "model_build_kwargs": {"output_channels": list(network.heads.values()), "separated_decoders": separate},
        "model": tensors,
        "optimizer": [],
        "epoch": "best",
        "cfg": nested(with_defaults(settings) | _heads(settings, model, separate=separate)),
        "biapy_version": "3.7.1",
        # what BiaPy's settings do not show, for `own_model`; BiaPy ignores it
        "morula": json.dumps(own),
    }
    with atomic(target) as part:
        torch.save(content, part)
    yield FileWritten(target, Artefact.MODEL, "weights with the names of BiaPy")


def _heads(settings: Settings, model: Model, *, separate: bool) -> dict[str, Value]:
    """Heads as they were built, where the job divides a channel among several."""
    key = "PROBLEM.INSTANCE_SEG.CHANNELS_PER_HEAD_INFO"
    built: list[Value] = [width for name, width in model.network.heads.items() if name != "classes"]
    if not settings.items(key) or settings.items(key) == built:
        return {}
    return {key: built if len(built) > 1 else [], "PROBLEM.INSTANCE_SEG.SEPARATED_DECODERS_PER_HEAD": separate}


def own_model(content: Mapping[str, object], path: str) -> Model:
    """The model of a checkpoint that `write_checkpoint` wrote: exactly the one that was stored.

    Raises:
        ModelError: when it is damaged.
    """
    try:
        own = json.loads(str(content["morula"]))
        sizes = own["network"]
        network = build_network(own["options"], sizes["ndim"], sizes["in_channels"], sizes["heads"])
        tensors = content["model"]
        assert isinstance(tensors, Mapping)
        stored = {ours: tensors[theirs] for theirs, ours in biapy_names(network).items()}
        state = network.state_dict()
        for part in ("encoder.positions", "decoder_positions"):
            theirs = "pos_embed" if part.startswith("encoder") else "decoder_pos_embed"
            if f"{part}.stored" in state:
                stored |= {f"{part}.of_class": tensors[theirs][:, :1], f"{part}.stored": tensors[theirs][:, 1:]}
        network.load_state_dict({name: values.reshape(state[name].shape) for name, values in stored.items()})
        job = validate(Document(own["job"], {}, path))
        scale = own["normalisation"]
        voxel_size = VoxelSize(**own["voxel_size"])
        method = METHODS.load(job.method.kind)(job.method, job.objects, ndim=network.ndim, spacing=voxel_size.spacing(network.ndim))
        normalisation = None if scale is None else Normalisation.from_dict(scale)
        return Model(job, network.eval(), method, network.in_channels, voxel_size, normalisation)
    except (ValueError, KeyError, TypeError, RuntimeError, AssertionError, MorulaError) as error:
        rule = f"is a checkpoint that Morula wrote, but damaged: {str(error)[:200]}"
        raise ModelError("checkpoint.damaged", rule, file=path, remedy="Copy it again, or load the run folder.") from error
