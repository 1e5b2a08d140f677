"""Checkpoints of other programs as weights to start from.

A format is added by an entry point of the group ``morula.checkpoints`` (value: a `Member` whose implementation is a `CheckpointFormat`).
Morula's own dialects use the same entry points, so that nothing below them has to know their names.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from morula.core.errors import MissingFileError, ModelError
from morula.core.family import Family

if TYPE_CHECKING:
    from torch import Tensor

    from morula.models.model import Model

CHECKPOINT_FORMATS = Family("checkpoint format", {}, group="morula.checkpoints")


class CheckpointFormat(Protocol):
    """Functions of a checkpoint format."""

    @staticmethod
    def recognises(path: Path) -> bool:
        """Whether a file is a checkpoint of this format.

        Raises:
            MissingFileError: when there is no such file.
            ModelError: when it is damaged.
        """
        ...

    @staticmethod
    def model(path: Path) -> Model:
        """The trained model, ready to predict and segment.

        Raises:
            ModelError: when the file does not contain what a model needs.
        """
        ...

    @staticmethod
    def network_options(path: Path) -> tuple[str, dict[str, object]]:
        """Kind and options of the network that the weights belong to."""
        ...

    @staticmethod
    def tensors(path: Path) -> dict[str, Tensor]:
        """Weights by the names that Morula's networks give them."""
        ...


def checkpoint_format(path: Path) -> CheckpointFormat:
    """The format of a checkpoint file.

    Raises:
        MissingFileError: when there is no such file.
        ModelError: when no format recognises it.
    """
    if not path.is_file():
        raise MissingFileError("checkpoint.missing", "does not exist", remedy="Check the path of the checkpoint.", file=path)
    for name in CHECKPOINT_FORMATS.names:  # programs share the suffix .pth, so the content decides
        candidate: CheckpointFormat = CHECKPOINT_FORMATS.load(name)
        if candidate.recognises(path):
            return candidate
    known = ", ".join(member.summary for member in CHECKPOINT_FORMATS.members.values())
    raise ModelError(
        "checkpoint.unknown_format",
        f"is not a checkpoint of a known program ({known})",
        remedy="Name a run folder of Morula, the model folder in it, or a checkpoint of one of these programs.",
        file=path,
    )
