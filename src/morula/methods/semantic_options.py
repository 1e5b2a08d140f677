"""Options of the method `semantic`; needs no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from morula.core.errors import OptionError
from morula.methods.loss_options import ClassWeights, LossArguments, check_class_weights, check_loss_options, check_losses
from morula.methods.options import MethodOptions


class Options(MethodOptions):
    """Classes to distinguish, and how they are scored while training."""

    kind: Literal["semantic"] = "semantic"
    """Name of the variant."""

    classes: int | None = Field(
        default=None, ge=2, description="Number of classes with the background (class 0); left out: read from the training labels."
    )
    values: tuple[int, ...] = ()
    """Label value of each class, background first, where they are not 0, 1, 2, ..., for example `[0, 255]`; left out: read from the labels.
    Results have the numbers 0, 1, 2, ..."""
    names: tuple[str, ...] = ()
    """Names of the classes in order, background first, for tables and the report."""
    ignore: int | None = None
    """Label value that is no class and is never scored, for example 255."""
    losses: dict[str, float] = Field({})
    """Losses by name with their weights; left out: `bce_dice` for two classes, `ce` and `dice` for more."""
    loss_options: dict[str, LossArguments] = Field({})
    """Further arguments of losses by name, for example `{bce_dice: {squared: true, smooth: 0, shares: [1, 0.5]}}` or
    `{bce: {positive_weights: 3}}`."""
    class_weights: ClassWeights | None = None
    """Weight of each class in the cross-entropies (`ce`, `bce`, `bce_dice`), background first, or `balanced`: rare classes count as much as
    common ones, batch by batch."""
    threshold: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] = "auto"
    """Probability from which a pixel is foreground when there are two classes; `auto` is 0.5."""

    @model_validator(mode="after")
    def _fits(self) -> Options:
        if self.names and self.classes is not None and len(self.names) != self.classes:
            rule = f"has {len(self.names)} entries but there are {self.classes} classes"
            raise OptionError("classes.names", rule, key="names", value=self.names, remedy="Name each class, the background first.")
        if self.values and (
            len({*self.values, self.ignore}) != len(self.values) + 1 or len(self.values) != (self.classes or len(self.values))
        ):
            rule = "must be one different label value per class, without that of ignore"
            raise OptionError("classes.values", rule, key="values", value=self.values, remedy="Write [0, 255] for a mask of 0 and 255.")
        check_losses(self.losses)
        check_loss_options(self.loss_options)
        if self.classes is not None:
            check_class_weights(self.class_weights, self.classes)
        return self
