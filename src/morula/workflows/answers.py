"""What only the user knows about a new job. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from morula.core.voxel_size import VoxelSize
from morula.workflows.reading import Reading

Task: TypeAlias = Literal["instances", "semantic", "pretraining"]


@dataclass(frozen=True)
class Answers:
    """What only the user knows."""

    raw: str
    labels: str | None
    """`None` for images without labels: objects are learned from their brightness (WNet3D)."""
    task: Task = "instances"
    test: str | None = None
    test_labels: str | None = None
    voxel_size: VoxelSize | None = None
    unlabelled: str | None = None
    """Images without labels to learn from first."""
    reading: Reading = field(default_factory=Reading)
    """How the files are read, as far as their metadata do not state it."""
    mask: str | None = None
    """Masks of the annotated voxels, where the labels cover a part of the images."""
    ignore_label: int | None = None
    """Value of unannotated voxels in the labels."""
    classes: str | None = None
    """Class images of objects."""
    class_names: tuple[str, ...] = ()
    """Names of the classes, of pixels with the background first."""
    class_count: int | None = None
    """Number of the classes of objects, where they have no names."""
    width: float | None = None
    """Width of a typical object in voxels, for images without labels."""
    slices: float | None = None
    """Slices that a typical object spans, for volumes without labels."""
    minutes: float | None = None
    """Duration of the training on this computer that is planned for."""
    start: str = "auto"
    """Weights to start from: ``none``, a bundled model, a run folder or a checkpoint; ``auto``: the trials decide."""
