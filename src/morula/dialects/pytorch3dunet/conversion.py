"""What the parts of a conversion of a training job share: the job, its files, and the notes on differences."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

from morula.core.errors import DataError, JobError, MissingFileError, Problem
from morula.dialects.converted import Value
from morula.dialects.pytorch3dunet.job import Job, Learning
from morula.dialects.pytorch3dunet.keys import Section as Values
from morula.dialects.pytorch3dunet.sections import LoadersOptions, PhaseName, PhaseOptions, SliceBuilderOptions
from morula.dialects.pytorch3dunet.transform_lists import Lists
from morula.dialects.pytorch3dunet.transforms import ElasticDeformation, RandomRotate
from morula.dialects.pytorch3dunet.volumes import Volume, open_volumes

Section: TypeAlias = dict[str, Value]
"""A section of the native job."""

RAW, LABEL, WEIGHT = (f"loaders.train.transformer.{part}" for part in ("raw", "label", "weight"))


@dataclass
class Notes:
    """Differences of the native job, each with the key of the original that it is about."""

    lines: list[str] = field(default_factory=list)

    def add(self, key: str, text: str) -> None:
        """Add a difference, once."""
        self.lines += [line] if (line := f"{key}: {text}") not in self.lines else []


@dataclass(frozen=True, eq=False)
class Training:
    """A training job that is converted: its sections, the lists of transforms, and the files as far as they can be opened."""

    job: Job
    learning: Learning
    lists: Lists
    notes: Notes

    @property
    def loaders(self) -> LoadersOptions:
        """The section of the files."""
        return self.job.loaders

    @property
    def filtered(self) -> SliceBuilderOptions | None:
        """The slice builder, where it chooses among the patches."""
        builder = self.learning.train.slice_builder
        return builder if builder is not None and builder.name == "FilterSliceBuilder" else None

    @property
    def phases(self) -> tuple[PhaseOptions, PhaseOptions]:
        """Training and validation."""
        return self.learning.train, self.learning.val

    def sections(self) -> dict[str, Values | None]:
        """The sections whose rows say what becomes of their keys, by their place in the job."""
        return {
            "": self.job.plain,
            "loaders": self.loaders,
            "loaders.train.slice_builder": self.filtered,
            "trainer": self.learning.trainer,
            "loss": self.learning.loss,
        }

    @cached_property
    def volumes(self) -> list[Volume]:
        """The training volumes; empty where one cannot be opened: a job may be converted where its data are not."""
        return self._volumes("train")

    @cached_property
    def held_volumes(self) -> list[Volume]:
        """The validation volumes, likewise."""
        return self._volumes("val")

    def _volumes(self, name: PhaseName) -> list[Volume]:
        try:
            return open_volumes(self.loaders, name, weights=self.job.weighted)
        except (DataError, MissingFileError, OSError):
            return []

    def occurring(self, label: float | None) -> int | None:
        """A label that voxels may have; `None` for a negative one where the files hold unsigned numbers."""
        unsigned = bool(self.volumes) and all(labels.dtype.kind in "bu" for volume in self.volumes for labels in volume.labels)
        return None if label is None or (label < 0 and unsigned) else int(label)

    @property
    def moves_voxels(self) -> bool:
        """Whether patches show other voxels than those of their boxes."""
        return self.loaders.random_scale is not None or any(
            transform.role == "crop" or isinstance(transform, RandomRotate | ElasticDeformation) for transform in self.lists.raw
        )

    @property
    def planar(self) -> bool:
        """Whether all images are single planes, which native jobs take for images of two dimensions."""
        known = bool(self.volumes) or self.loaders.dataset == "DSB2018Dataset"
        return known and all(volume.shape[0] == 1 for volume in self.volumes)


def refuse(key: str, rule: str, value: object = None, remedy: str = "") -> JobError:
    """The error for a value without native counterpart."""
    rule, remedy = f"{rule}, which has no native counterpart", f"{remedy} Run the job with `morula train3dunet --config JOB`.".strip()
    return JobError([Problem(key, rule, code="convert.no_counterpart", value=value, remedy=remedy)])
