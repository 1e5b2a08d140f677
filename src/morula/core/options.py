"""The base of all options and of the job: frozen, strict, no unknown key."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """Settings of one thing. Unknown keys and wrong types are errors; a value never changes after it was checked.

    Every field has a `description`: the reference page, the command line and the forms are made from it.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True, allow_inf_nan=False, arbitrary_types_allowed=False
    )
