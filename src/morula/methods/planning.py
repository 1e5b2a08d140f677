"""The planning interface of methods: values for what a job leaves out, and problems that are reported before training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeAlias

from morula.core.errors import Problem
from morula.core.remark import Remark
from morula.data.options import Augment, Sampling
from morula.inference.options import Prediction
from morula.methods.configured import Configured
from morula.methods.object_options import ObjectOptions
from morula.methods.options import MethodOptions
from morula.nn.options import NetworkOptions
from morula.training.options import Training

Document: TypeAlias = dict[str, Any]
"""A job, or a part of one, as YAML holds it."""


class JobSections(Protocol):
    """The sections of a job that methods read; `morula.jobs.job.Job` has them."""

    @property
    def method(self) -> MethodOptions:
        """The method, with its options."""

    @property
    def network(self) -> NetworkOptions:
        """The network."""

    @property
    def sampling(self) -> Sampling:
        """Patches and their normalisation."""

    @property
    def augment(self) -> Augment:
        """Augmentations in their order."""

    @property
    def training(self) -> Training:
        """The training loop."""

    @property
    def prediction(self) -> Prediction:
        """How whole images are predicted."""

    @property
    def objects(self) -> ObjectOptions:
        """From predicted channels to objects."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of the objects in some labels: voxels of the smallest, and the radius of the median one.

    The radius is that of a disc or ball of the object's size, in voxels of the finest axis.
    """

    smallest: int
    radius: float


@dataclass(frozen=True)
class Facts:
    """Properties of the training images that the plan depends on."""

    ndim: int
    spacing: tuple[float, ...]
    in_channels: int
    shapes: tuple[tuple[int, ...], ...]
    values: tuple[int, ...] = ()
    """Values of the labels in ascending order, where they are classes to the method (`labels_without_class`)."""
    sizes: Sizes | None = None
    """Sizes of the objects in the labels, where the method needs them (`needs_object_sizes`)."""
    unit: str = ""
    """Unit of the spacing; empty where it is not known."""
    targets: tuple[float, float] = (0.0, 1.0)
    """Mean and standard deviation of the targets, where the method needs them (`needs_targets`)."""


class Planning(Configured):
    """Plans values that a job leaves out, and rejects jobs that cannot be trained."""

    network: ClassVar[str | None] = None
    """The only network that it trains; `None`: any network that has one set of heads."""

    @classmethod
    def option_problems(cls, options: MethodOptions, objects: ObjectOptions) -> list[Problem]:
        """Contradictions between these options, found before any image is opened."""
        del options, objects
        return []

    def dimension_problems(self) -> list[Problem]:
        """Options that do not fit images of these dimensions."""
        return []

    @classmethod
    def job_problems(cls, job: JobSections) -> list[Problem]:
        """Contradictions in a planned job as a whole."""
        del job
        return []

    @classmethod
    def remarks(cls, job: JobSections) -> list[Remark]:
        """What a user should know about a planned job that can be trained."""
        del job
        return []

    @classmethod
    def planned(cls, job: JobSections, facts: Facts, network: Document) -> Document:
        """Values that this method plans for what the job leaves open, by section of the job's document.

        `network` is the document of the planned network.
        """
        del job, facts, network
        return {}

    @classmethod
    def needs_object_sizes(cls, job: JobSections) -> bool:
        """Whether the plan depends on the sizes of the objects in the labels."""
        del job
        return False

    @classmethod
    def needs_targets(cls, job: JobSections) -> bool:
        """Whether the plan depends on the values of targets that are images."""
        del job
        return False

    @classmethod
    def labels_without_class(cls, options: MethodOptions) -> frozenset[int | None] | None:
        """Label values to leave out when the number of classes is read from the labels; `None` where it is not read from them."""
        del options
        return None

    def head_features(self, features: int) -> int:
        """Channels of a further convolution in each head, for a network with so many channels at its finest level; 0 for none."""
        del features
        return 0
