"""Job-file types made from families: one variant by its name, or several of them in order.

A variant may be written as a bare name (``unet``), with its options (``{kind: unet, features: [16, 32]}``), under its name
(``{rotate: {degrees: 45}}``) or, where its options class names a `shorthand` field, with that field alone (``{brightness: 0.1}``).

A field that holds a variant is annotated with the common base class of the family's options, which type checkers see, and with `OneOf` or
`ManyOf`, which make pydantic validate against the union of all members::

    network: Annotated[NetworkOptions, OneOf(NETWORKS, default="unet")] = UNetOptions()

The union is built when the first value is validated, because it imports every member of the family.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Union

from pydantic import ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from morula.core.errors import OptionError
from morula.core.family import Family
from morula.core.options import Options


def _title(kind: type) -> str:
    """Title of an options class in the JSON schema: the variant's name, because many of these classes are called `Options`."""
    assert issubclass(kind, Options)
    field = kind.model_fields.get("kind")
    return str(field.default) if field is not None and field.default else kind.__name__


class VariantOptions(Options):
    """Options of one member of a family.

    Each member has a class of its own that states the member's name, so that a value knows which member it belongs to::

        class UNetOptions(NetworkOptions):
            kind: Literal["unet"] = "unet"
    """

    model_config = ConfigDict(model_title_generator=_title)

    shorthand: ClassVar[str | None] = None
    """Field that a bare value in the job file sets: ``{brightness: 0.1}``."""

    kind: str = ""
    """Name of the variant."""


def variant_types(family: Family) -> dict[str, type[VariantOptions]]:
    """Options class of each member by name.

    Raises:
        OptionError: for a member of another package whose options class does not state the member's name.
    """
    types: dict[str, type[VariantOptions]] = {}
    for name in family.names:
        options = family.options(name)
        if not (isinstance(options, type) and issubclass(options, VariantOptions) and options.model_fields["kind"].default == name):
            raise OptionError(
                "family.kind_missing",
                f"the options of the {family.kind} {name!r} do not state its name",
                key=name,
                value=options,
                remedy=f'Derive them from VariantOptions with the field `kind: Literal["{name}"] = "{name}"`.',
            )
        types[name] = options
    return types


def expand_variant(value: object, types: Mapping[str, type[VariantOptions]], default: str | None = None) -> object:
    """A variant in any of its spellings as a mapping with `kind`; what is no variant is returned as it is.

    Raises:
        OptionError: for a bare value where the variant has no option that it could mean.

    Examples:
        >>> expand_variant("flip", {}), expand_variant({"rotate": {"degrees": 45}}, {"rotate": VariantOptions})
        ({'kind': 'flip'}, {'kind': 'rotate', 'degrees': 45})
        >>> expand_variant({"features": [16, 32]}, {}, default="unet")
        {'kind': 'unet', 'features': [16, 32]}
    """
    if isinstance(value, str):
        return {"kind": value}
    if not isinstance(value, Mapping) or "kind" in value:
        return value
    # one key is a variant's name; but where there is a default, {features: [16]} is an option of the default
    if len(value) == 1 and (default is None or next(iter(value)) in types):
        ((name, inner),) = value.items()
        if inner is None or isinstance(inner, Mapping):
            return {"kind": name, **(inner or {})}
        return _from_bare_value(name, inner, types)
    return {"kind": default, **value} if default is not None else value


def _from_bare_value(name: str, value: object, types: Mapping[str, type[VariantOptions]]) -> dict[str, object]:
    """A variant written as ``{name: value}``: the value of its shorthand field."""
    shorthand = types[name].shorthand if name in types else None
    # an unknown name is passed on: pydantic reports it together with the names that exist
    if shorthand is not None or name not in types:
        return {"kind": name, shorthand or "value": value}
    options = ", ".join(key for key in types[name].model_fields if key != "kind")
    if value == "none" and not options:  # the placeholder of job files that pair each name with a value
        return {"kind": name}
    given = list(value) if isinstance(value, tuple) else value
    raise OptionError(
        "variant.bare_value",
        f"{name} has no option that {given} alone could mean",
        remedy=f"Name the option: {{{name}: {{OPTION: {given}}}}}, one of {options}." if options else "Leave the value out.",
    )


def _by_short_name(value: object, family: Family) -> object:
    """A variant whose `kind` may be the full name of a member."""
    if isinstance(value, Mapping) and isinstance(value.get("kind"), str):
        return {**value, "kind": family.resolve(value["kind"])}
    return value


@dataclass(frozen=True, eq=False)
class OneOf:
    """Annotation of a field that holds one variant of a family; a value without a `kind` is of the `default` variant."""

    family: Family
    default: str | None = None

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        types = variant_types(self.family)
        union: Any = Union[tuple(types.values())]  # noqa: UP007 - the members are known only now
        # pydantic rejects a discriminator of a union that has only one member
        tagged = Annotated[union, Field(discriminator="kind")] if len(types) > 1 else union
        return core_schema.no_info_before_validator_function(
            lambda value: _by_short_name(expand_variant(value, types, self.default), self.family), handler.generate_schema(tagged)
        )


@dataclass(frozen=True, eq=False)
class ManyOf:
    """Annotation of a field that holds variants in their order: written as a list, or as a mapping from name to options."""

    family: Family

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        several = handler.generate_schema(tuple[Annotated[VariantOptions, OneOf(self.family)], ...])
        return core_schema.no_info_before_validator_function(_listed, several)


def _listed(value: object) -> object:
    """Variants as a tuple, where they are written as a mapping or as one bare name."""
    if isinstance(value, Mapping):
        return tuple({name: options} for name, options in value.items())
    return (value,) if isinstance(value, str) else value
