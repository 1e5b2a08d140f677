"""Fields of a form from the schema of a job: names, help texts, bounds and defaults. Needs no Qt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from morula.core.family import Family
from morula.core.options import Options
from morula.data.options import Sampling
from morula.jobs.job import Images
from morula.jobs.starting_points import StartingPoint
from morula.methods import METHODS
from morula.nn import NETWORKS
from morula.training.options import Training

Node: TypeAlias = Mapping[str, Any]
"""A node of a JSON schema."""
Kind: TypeAlias = Literal["whole", "number", "switch", "choice", "text"]


@dataclass(frozen=True)
class FormField:
    """One value of a job.

    Attributes:
        key: its key in a job, for example ``training.epochs``.
        title: what the form shows.
        description: help text.
        kind: how it is entered; ``text`` is YAML, as after ``--set``.
        default: value that it has where the job does not state it; `None` where it is planned or off.
        low: smallest value, for numbers.
        high: largest value, for numbers.
        choices: for ``choice``.
    """

    key: str
    title: str
    description: str
    kind: Kind
    default: object = None
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()


def training_fields() -> list[FormField]:
    """How the network is trained."""
    return list(fields_of(Training, "training"))


def data_fields() -> list[FormField]:
    """How images are held out for validation, and how patches are taken from the others."""
    validate = FormField(
        "images.validate", "Validation share", _text(Images.model_json_schema(by_alias=True)["properties"]["validate"]), "text", 0.1
    )
    augment = FormField("augment", "Augment", "Augmentations in their order, for example [flip, rotate90]; planned where left out.", "text")
    return [validate, *fields_of(Sampling, "sampling"), augment]


def network_fields(point: StartingPoint) -> list[FormField]:
    """The network; other kinds can be chosen where the method does not need a special one."""
    options = _options(NETWORKS, point.network)
    return [field for field in fields_of(options, "network") if field.key != "network.from"]


def method_fields(point: StartingPoint) -> tuple[list[FormField], list[FormField]]:
    """The options that belong on the tab Advanced, and the others: where a document lists options, only those are advanced."""
    fields = [field for field in fields_of(_options(METHODS, str(point.method["kind"])), "method") if field.key != "method.preset"]
    if not point.documented:
        return fields, []
    by_name = {field.key.removeprefix("method."): field for field in fields}
    advanced = [_renamed(by_name[name], title) for name, title in point.documented.items()]
    return advanced, [field for name, field in by_name.items() if name not in point.documented]


def _options(family: Family, name: str) -> type[Options]:
    options = family.options(name)
    assert isinstance(options, type)
    assert issubclass(options, Options)
    return options


def _renamed(field: FormField, title: str) -> FormField:
    return FormField(field.key, title, field.description, field.kind, field.default, field.low, field.high, field.choices)


def fields_of(options: type[Options], section: str) -> Iterator[FormField]:
    """Fields of a class of options; those of its default variants are listed, too.

    Examples:
        >>> from morula.training.options import Training
        >>> [(field.key, field.kind, field.default, field.low) for field in fields_of(Training, "training")][0]
        ('training.epochs', 'whole', 100, 1.0)
    """
    schema = options.model_json_schema(by_alias=True)
    yield from _of_object(schema, schema.get("$defs", {}), section)


def _of_object(node: Node, definitions: Node, section: str) -> Iterator[FormField]:
    for name, inner in node.get("properties", {}).items():
        if "const" not in inner:  # the kind of a variant
            yield from _of_property(inner, definitions, f"{section}.{name}")


def _of_property(node: Node, definitions: Node, key: str) -> Iterator[FormField]:
    if "discriminator" not in node:
        yield _plain(node, key)
        return
    default = node.get("default") or {}
    kinds: Mapping[str, str] = node["discriminator"]["mapping"]
    kind = str(default.get("kind", next(iter(kinds))))
    yield FormField(f"{key}.kind", _title(key), _text(node), "choice", kind, choices=tuple(kinds))
    variant = definitions[kinds[kind].rsplit("/", 1)[-1]]
    for name, inner in variant["properties"].items():
        if "const" not in inner:
            shown = {**inner, "default": default.get(name, inner.get("default"))}
            yield from _of_property(shown, definitions, f"{key}.{name}")


def _plain(node: Node, key: str) -> FormField:
    """A field of one value. Where several types are allowed, or the value may be left out, it is a text."""
    kind: Kind = "text"
    default = node.get("default")
    if "enum" in node:
        kind = "choice"
    elif node.get("type") == "boolean":
        kind = "switch"
    elif node.get("type") in ("integer", "number") and default is not None:
        kind = "whole" if node["type"] == "integer" else "number"
    low, high = (_bound(node, *names) for names in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")))
    return FormField(key, _title(key), _text(node), kind, default, low, high, tuple(map(str, node.get("enum", ()))))


def _bound(node: Node, inclusive: str, exclusive: str) -> float | None:
    """A bound that a value may have. Of an exclusive one the value next to it that is still useful."""
    if inclusive in node:
        return float(node[inclusive])
    if exclusive not in node:
        return None
    step = 1.0 if node.get("type") == "integer" else 1e-6
    return float(node[exclusive]) + (step if "Min" in exclusive else -step)


def value_of(job: Mapping[str, Any], key: str) -> object:
    """The value at a dotted key of a job's document; `None` where it is absent.

    Examples:
        >>> value_of({"training": {"epochs": 5}}, "training.epochs"), value_of({}, "training.epochs")
        (5, None)
    """
    value: Any = job
    for name in key.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _title(key: str) -> str:
    """The last names of a key as words.

    Examples:
        >>> _title("training.optimiser.lr"), _title("method.ncuts_weight")
        ('Learning rate', 'Ncuts weight')
    """
    if key.endswith(".lr"):
        return "Learning rate"
    words = " ".join(key.split(".")[1:] or [key]).replace("_", " ")
    return words[:1].upper() + words[1:]


def _text(node: Node) -> str:
    return " ".join(str(node.get("description", "")).split())
