"""Job-file types made from families: one variant by its name, or a list of them.

A variant may be written as a bare name (``unet``), with its options (``{kind: unet, features: [16, 32]}``), under its name
(``{rotate: {degrees: 45}}``) or, where its options class names a `shorthand` field, with that field alone (``{brightness: 0.1}``).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, Union

from pydantic import BeforeValidator, Field, create_model

from morula.core.family import Family
from morula.core.options import Options


class NoOptions(Options):
    """Options of a variant that has none."""


@cache
def _variant(name: str, base: type[Options]) -> type[Options]:
    kind: Any = (Literal[name], Field(name, description="Name of the variant."))
    made: type[Options] = create_model(
        f"{name.title().replace('_', '')}Options",
        __base__=base,
        __doc__=base.__doc__,
        __module__=base.__module__,
        kind=kind,
    )

    def reduced(self: Options) -> tuple[Any, ...]:
        return _revived, (name, base, dict(self), self.model_fields_set)

    # pickle finds classes by their names; this one has none of its own, and worker processes may need its values
    made.__reduce__ = reduced  # type: ignore[method-assign,assignment]
    return made


def _revived(name: str, base: type[Options], values: dict[str, Any], given: set[str]) -> Options:
    return _variant(name, base).model_construct(_fields_set=given, **values)


def variant_types(family: Family) -> dict[str, type[Options]]:
    """Options class of each member, with the field `kind` added that holds its name."""
    return {name: _variant(name, family.options(name) or NoOptions) for name in family.names}


def expand_variant(value: Any, types: Mapping[str, type[Options]], default: str | None = None) -> Any:
    """A variant in any of its spellings as a mapping with `kind`; what is no variant comes back as it is.

    Examples:
        >>> expand_variant("flip", {}), expand_variant({"rotate": {"degrees": 45}}, {"rotate": NoOptions})
        ({'kind': 'flip'}, {'kind': 'rotate', 'degrees': 45})
        >>> expand_variant({"features": [16, 32]}, {}, default="unet")
        {'kind': 'unet', 'features': [16, 32]}
    """
    if isinstance(value, str):
        return {"kind": value}
    if not isinstance(value, Mapping) or "kind" in value:
        return value
    if len(value) == 1 and (default is None or next(iter(value)) in types):
        ((name, inner),) = value.items()
        shorthand = getattr(types.get(name), "shorthand", None)
        if inner is None or isinstance(inner, Mapping):
            return {"kind": name, **(inner or {})}
        if shorthand is None and name in types:
            options = ", ".join(key for key in types[name].model_fields if key != "kind")
            if inner == "none" and not options:  # the placeholder of job files that pair each name with a value
                return {"kind": name}
            given = list(inner) if isinstance(inner, tuple) else inner
            remedy = f"name the option that it is: {{{name}: {{OPTION: {given}}}}}, one of {options}" if options else "leave it out"
            raise ValueError(f"{name} has no option that {given} alone could mean; {remedy}")
        return {"kind": name, shorthand or "value": inner}
    return {"kind": default, **value} if default is not None else value


def one_of(family: Family, default: str | None = None) -> Any:
    """Type of a field that holds one variant of the family; without a `kind` the `default` is meant."""
    types = variant_types(family)
    union: Any = Union[tuple(types.values())]  # noqa: UP007 - the members are known only now
    tagged = Annotated[union, Field(discriminator="kind")] if len(types) > 1 else union
    return Annotated[tagged, BeforeValidator(lambda value: expand_variant(value, types, default))]


def many_of(family: Family) -> Any:
    """Type of a field that holds variants in their order: a list, or a mapping from name to options."""
    member: Any = one_of(family)

    def listed(value: Any) -> Any:
        if isinstance(value, Mapping):
            return tuple({name: options} for name, options in value.items())
        return (value,) if isinstance(value, str) else value

    several: Any = tuple[member, ...]
    return Annotated[several, BeforeValidator(listed)]
