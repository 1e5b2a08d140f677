"""The list of augmentations of a job: ``[flip, {rotate: {degrees: 45}}, {brightness: 0.1}]``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import ValidationError

from morula.core.errors import MorulaError, OptionError
from morula.core.family import did_you_mean
from morula.core.options import Options
from morula.core.variants import expand_variant, variant_types
from morula.data.augment import AUGMENTATIONS

if TYPE_CHECKING:
    from morula.data.augment.base import Augmentation

Entry: TypeAlias = str | Mapping[str, Any] | Options


def parse_entry(entry: Entry) -> Any:
    """Checked options of one entry, with its name as `kind`, in any spelling that a job file may use.

    Raises:
        UnknownNameError: for an unknown name, with the nearest one.
        OptionError: for an entry of another form, an unknown option or a wrong value.

    Examples:
        >>> parse_entry({"brightness": 0.2})
        BrightnessOptions(probability=0.5, strength=0.2, kind='brightness')
    """
    if isinstance(entry, Options):
        return entry
    types = variant_types(AUGMENTATIONS)
    values = expand_variant(entry, types)
    if not isinstance(values, Mapping) or "kind" not in values:
        raise OptionError(
            f"augmentation {entry!r} is not understood; write a name, or one name with its options: {{rotate: {{degrees: 45}}}}."
        )
    AUGMENTATIONS.member(values["kind"])
    options = types[values["kind"]]
    try:
        return options.model_validate(values)
    except ValidationError as error:
        raise OptionError("; ".join(_problem(values["kind"], detail, options) for detail in error.errors())) from None


def _problem(name: str, detail: Any, options: type[Options]) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    known = [field for field in options.model_fields if field != "kind"]
    if detail["type"] == "extra_forbidden":
        return f"augmentation {name} has no option {key!r}; it has {', '.join(known)}.{did_you_mean(key, known)}"
    message = detail["msg"].removeprefix("Value error, ")
    return f"augmentation {name}{f', option {key}' if key else ''}: {message} (given: {detail['input']!r})"


def parse_augmentations(entries: Sequence[Entry]) -> list[Augmentation[Any]]:
    """The augmentations of a list, ready to draw; options checked earlier are taken as they are.

    Raises:
        MorulaError: as `parse_entry`, for all wrong entries at once.

    Examples:
        >>> [augmentation.name for augmentation in parse_augmentations(["flip", {"rotate": {"degrees": 45}}])]
        ['flip', 'rotate']
    """
    parsed = []
    problems: list[MorulaError] = []
    for entry in entries:
        try:
            parsed.append(parse_entry(entry))
        except MorulaError as error:
            problems.append(error)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise OptionError("\n".join(str(problem) for problem in problems))
    return [AUGMENTATIONS.load(options.kind)(options) for options in parsed]


def as_entries(augmentations: Sequence[Augmentation[Any]]) -> list[dict[str, Any]]:
    """The list with every default written out, for the job as resolved; `parse_augmentations` reads it back."""
    return [{"kind": augmentation.name, **augmentation.options.model_dump(mode="json")} for augmentation in augmentations]
