"""Options of the classes of objects; needs no torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from morula.core.errors import OptionError
from morula.core.options import Options as BaseOptions
from morula.methods.loss_options import ClassWeights, check_class_weights


class Classes(BaseOptions):
    """Classes of objects, learned in addition to the channels."""

    count: int | None = Field(default=None, ge=2)
    """Number of classes of objects, 1 to this number in the class images; left out: as many as there are names."""
    names: tuple[str, ...] = ()
    """Names of the classes in order, for tables and scores."""
    ignore: int = Field(255, ge=0)
    """Value in the class images of objects whose class is not known; they remain objects. So does 0 inside an object."""
    weight: float = Field(1.0, gt=0)
    """Weight of their loss, the cross-entropy inside objects."""
    class_weights: ClassWeights | None = "balanced"
    """Weight of each class in this loss, or `balanced`: rare classes count as much as common ones, batch by batch; `null` for none."""

    @model_validator(mode="after")
    def _counted(self) -> Classes:
        if self.count is None and len(self.names) < 2:
            raise OptionError("classes.count_missing", "needs the number of classes, or at least two names", key="count")
        if self.count is not None and self.names and len(self.names) != self.count:
            rule = f"has {len(self.names)} entries but there are {self.count} classes of objects"
            raise OptionError("classes.names", rule, key="names", value=self.names, remedy="Name each class.")
        check_class_weights(self.class_weights, self.number)
        if 0 < self.ignore <= self.number:
            remedy = "Give a value that is not a class."
            raise OptionError("classes.ignore", "is the number of a class", key="ignore", value=self.ignore, remedy=remedy)
        return self

    @property
    def number(self) -> int:
        """Number of classes of objects."""
        return self.count or len(self.names)

    @property
    def titles(self) -> tuple[str, ...]:
        """Names, or ``class 1`` and so on."""
        return self.names or tuple(f"class {number}" for number in range(1, self.number + 1))


def _as_options(value: object) -> object:
    """A bare number of classes, or a bare list of names, as options."""
    if isinstance(value, int) and not isinstance(value, bool):
        return {"count": value}
    return {"names": value} if isinstance(value, list | tuple) else value


ObjectClasses = Annotated[Classes, BeforeValidator(_as_options)]
"""`Classes`, also written as their number or as a list of their names."""
