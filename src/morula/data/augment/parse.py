"""Lists of augmentations as in job files: ``[flip, {rotate: {degrees: 45}}, {brightness: 0.1}]``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from morula.core.errors import MorulaError, OptionError
from morula.core.family import did_you_mean
from morula.core.options import Options
from morula.core.variants import expand_variant, variant_types
from morula.data.augment import AUGMENTATIONS
from morula.data.augment.base import AnyAugmentation, AugmentationOptions

Entry: TypeAlias = str | Mapping[str, object] | AugmentationOptions
"""One augmentation as a job file writes it, or its options."""


def parse_entry(entry: Entry) -> AugmentationOptions:
    """Validated options of one entry, in any spelling that a job file accepts.

    Raises:
        UnknownNameError: for an unknown augmentation.
        OptionError: for an entry of another form, an unknown option or an invalid value.

    Examples:
        >>> parse_entry({"brightness": 0.2})
        BrightnessOptions(kind='brightness', probability=0.5, strength=0.2)
    """
    if isinstance(entry, AugmentationOptions):
        return entry
    types = variant_types(AUGMENTATIONS)
    values = expand_variant(entry, types)
    if not isinstance(values, Mapping) or "kind" not in values:
        raise OptionError(
            "augmentation.form",
            "must be a name, or one name with its options, for example {rotate: {degrees: 45}}",
            key="augmentation",
            value=entry,
        )
    AUGMENTATIONS.member(values["kind"])
    options = types[values["kind"]]
    try:
        parsed = options.model_validate(values)
    except ValidationError as error:
        problems = [_problem(values["kind"], detail, options) for detail in error.errors()]
        raise problems[0] if len(problems) == 1 else _joined(problems) from None
    assert isinstance(parsed, AugmentationOptions)
    return parsed


def _problem(name: str, detail: ErrorDetails, options: type[Options]) -> MorulaError:
    """The error of one detail that pydantic found."""
    option = ".".join(str(part) for part in detail["loc"])
    key = f"{name}.{option}" if option else name
    known = [field for field in options.model_fields if field != "kind"]
    if detail["type"] == "extra_forbidden":
        remedy = did_you_mean(option, known).strip()
        return OptionError("augmentation.unknown_option", f"is not an option; known are {', '.join(known)}", key=key, remedy=remedy)
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, MorulaError):  # raised by a validator, with a code of its own
        return OptionError(cause.code, cause.rule, key=f"{name}.{cause.key}", value=cause.value, remedy=cause.remedy)
    return OptionError("augmentation.value", detail["msg"], key=key, value=detail["input"])


def _joined(problems: Sequence[MorulaError]) -> OptionError:
    """Several errors as one."""
    return OptionError("augmentation.several", "\n".join(str(problem) for problem in problems))


def parse_augmentations(entries: Sequence[Entry]) -> list[AnyAugmentation]:
    """The augmentations of a list; options that were validated before are used as they are.

    Raises:
        MorulaError: as in `parse_entry`; several problems become one `OptionError`.

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
        raise _joined(problems)
    return [AUGMENTATIONS.load(options.kind)(options) for options in parsed]


def as_entries(augmentations: Sequence[AnyAugmentation]) -> list[dict[str, object]]:
    """The list with all defaults, as a resolved job states it; `parse_augmentations` reads it back."""
    return [{"kind": augmentation.name, **augmentation.options.model_dump(mode="json")} for augmentation in augmentations]
