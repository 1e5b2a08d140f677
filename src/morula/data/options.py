"""What a job file may say under `sampling:` and `augment:`. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import BeforeValidator, Field, field_validator

from morula.core.errors import OptionError
from morula.core.variants import ManyOf, expand_variant
from morula.data.augment import AUGMENTATIONS
from morula.data.augment.base import AugmentationOptions
from morula.data.normalise import Fixed, Percentile
from morula.data.normalise import Options as Normalise
from morula.data.sampling import Options as PatchOptions
from morula.data.sampling import Validation


def _auto_or_none(value: object) -> object:
    """The two words that stand for a list of augmentations."""
    return {"auto": None, "none": ()}.get(value, value) if isinstance(value, str) else value


def _percentile_by_default(value: object) -> object:
    """A normalisation by its name or with its options; options alone are those of `percentile`."""
    return None if value is None else expand_variant(value, {}, "percentile")


Augment: TypeAlias = Annotated[Annotated[tuple[AugmentationOptions, ...], ManyOf(AUGMENTATIONS)] | None, BeforeValidator(_auto_or_none)]
"""Augmentations in their order; `None` where they are to be planned."""


class Sampling(PatchOptions):
    """How patches are taken from the images."""

    earlier_names: ClassVar[Mapping[str, str]] = {
        "leave_out_validation": "validation.leave_out",
        "least_labelled_validation": "validation.least_labelled",
    }

    patch: tuple[int, ...] | Literal["whole"] | None = None
    """Edge lengths (Z)YX of the patches in voxels, or `whole` for whole images; left out: planned."""
    batch: int | None = Field(None, ge=1)
    """Patches per step; left out: planned."""
    normalise: Annotated[Normalise, BeforeValidator(_percentile_by_default)] = Percentile()
    """How intensities are brought to one scale; stored with the model."""
    renormalise: Annotated[Normalise | None, BeforeValidator(_percentile_by_default)] = None
    """A second normalisation, with `per: patch`: of each patch after the first one and after the augmentations, in prediction of each
    tile."""
    validation: Validation | None = None
    """Patches of the validation images; left out: those of the shape of the training's that cover the images once."""

    @field_validator("renormalise")
    @classmethod
    def _of_each_patch(cls, value: Normalise | None) -> Normalise | None:
        if value is not None and (isinstance(value, Fixed) or value.per != "patch"):
            rule, remedy = "is of each patch", "Write per: patch, or state it as normalise."
            raise OptionError("normalisation.per_patch", rule, value=value.kind, remedy=remedy)
        return value

    @property
    def patch_shape(self) -> tuple[int, ...]:
        """Edge lengths (Z)YX of the patches of a planned job.

        Raises:
            OptionError: when the job is not planned yet.
        """
        if not isinstance(self.patch, tuple):
            raise OptionError("job.not_planned", "is not planned yet", key="sampling.patch", value=self.patch, remedy="Plan the job first.")
        return self.patch

    @property
    def batch_size(self) -> int:
        """Patches per step of a planned job. Errors as in `patch_shape`."""
        if self.batch is None:
            raise OptionError("job.not_planned", "is not planned yet", key="sampling.batch", remedy="Plan the job first.")
        return self.batch
