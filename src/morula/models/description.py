"""The description of a trained model, ``model.json``, read and checked without its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from morula.core.errors import JobError, ModelError, OptionError
from morula.core.voxel_size import VoxelSize
from morula.jobs.job import Job
from morula.jobs.load import validate
from morula.jobs.yaml_lines import Document

SIDECAR = "model.json"
_COPY = "Copy the whole folder of the model again."


class _Facts(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", allow_inf_nan=False)


class NormalisationFacts(_Facts):
    """Offset and scale of each input channel."""

    offset: list[float] = Field(min_length=1)
    scale: list[Annotated[float, Field(gt=0)]] = Field(min_length=1)
    clip: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None


class NetworkFacts(_Facts):
    """Kind and sizes of the network."""

    kind: str
    ndim: int
    in_channels: int
    heads: dict[str, int]


class _VoxelSizeFacts(_Facts):
    y: float
    x: float
    z: float | None = None
    unit: str = "um"


class _ModelFacts(_Facts):
    """What ``model.json`` holds in addition to the network and its weights."""

    network: NetworkFacts
    job: dict[str, Any]
    channels: list[str]
    voxel_size: _VoxelSizeFacts
    normalisation: NormalisationFacts | None
    diameter: Annotated[float, Field(gt=0)] | None = None
    colour: bool = False


class Description:
    """A checked ``model.json``."""

    def __init__(self, facts: _ModelFacts, job: Job, voxel_size: VoxelSize, file: Path) -> None:
        self.network = facts.network
        self.channels = tuple(facts.channels)
        self.normalisation = facts.normalisation
        self.diameter, self.colour = facts.diameter, facts.colour
        self.job, self.voxel_size, self.file = job, voxel_size, file

    def check_method(self, channels: tuple[str, ...], heads: Mapping[str, int]) -> None:
        """The network must have the heads of the method of the job, and its channels in their order.

        Raises:
            ModelError: when they are not: names and content of the channels would not belong together.
        """
        if tuple(channels) != self.channels:
            rule = f"the job predicts {', '.join(channels)}, but the network was trained on other channels or in another order"
            raise ModelError("model.channels_differ", rule, key="channels", value=list(self.channels), file=self.file, remedy=_COPY)
        # a network may have more heads: a W-Net reconstructs the image too
        if any(self.network.heads.get(name) != count for name, count in heads.items()):
            rule = f"the method needs the heads {dict(heads)}"
            raise ModelError("model.heads_differ", rule, key="network.heads", value=self.network.heads, file=self.file, remedy=_COPY)


def read_description(folder: Path) -> Description:
    """The checked description of the model in a folder.

    Raises:
        MissingFileError: when there is none.
        ModelError: when it breaks its schema, or its job cannot be read.
    """
    from morula.nn.weights import damaged, read_sidecar  # torch is imported when a model is read, not with the package

    file = folder / SIDECAR
    try:
        facts = _ModelFacts.model_validate(read_sidecar(folder))
        voxel_size = VoxelSize(**facts.voxel_size.model_dump())
        voxel_size.spacing(facts.network.ndim)
        job = validate(Document(facts.job, {}, None))
    except ValidationError as error:
        raise damaged(error, file) from error
    except OptionError as error:
        raise ModelError("model.voxel_size", error.rule, key=error.key, value=error.value, file=file, remedy=_COPY) from error
    except JobError as error:
        rule = f"the job in it is damaged: {error.problems[0]}"
        raise ModelError("model.job", rule, key="job", file=file, remedy=_COPY) from error
    scale = facts.normalisation
    if scale is not None and not len(scale.offset) == len(scale.scale) == facts.network.in_channels:
        rule = f"must have an offset and a scale for each of the {facts.network.in_channels} channels"
        raise ModelError("model.normalisation", rule, key="normalisation", value=scale.model_dump(), file=file, remedy=_COPY)
    return Description(facts, job, voxel_size, file)
