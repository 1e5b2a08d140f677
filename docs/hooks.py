"""Fills the generated parts of the reference pages from the job model, the command line and the Python face."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs for each page: replaces the markers by what is generated."""
    generators: dict[str, Callable[[], Iterator[str]]] = {"job": job_pages, "commands": command_pages, "python": python_pages}
    for name, generate in generators.items():
        marker = f"<!-- generated: {name} -->"
        if marker in markdown:
            markdown = markdown.replace(marker, "\n".join(generate()))
    return markdown


def job_pages() -> Iterator[str]:
    """One section a part of the job, one subsection a variant."""
    from morula.jobs.job import Job

    schema = Job.model_json_schema(by_alias=True)
    needed = schema.get("required", [])
    for name, part in schema["properties"].items():
        yield f"\n## `{name}`\n\n{part.get('description', '')}{' It must stand.' if name in needed else ''}\n"
        yield from section(part, schema["$defs"], level=3)


def section(node: dict[str, Any], definitions: dict[str, Any], level: int) -> Iterator[str]:
    """Table of an object's keys, or one section a variant; then the objects inside it."""
    variants = referenced(node, definitions)
    plain = [each for each in variants if "const" not in each.get("properties", {}).get("kind", {})]
    for each in plain:
        yield from table(each, definitions)
    for each in plain:
        for name, inner in each.get("properties", {}).items():
            if referenced(inner, definitions):
                yield f"\n{'#' * level} `{name}`\n\n{inner.get('description', '')}\n"
                yield from section(inner, definitions, min(level + 1, 6))
    for each in variants:
        if each not in plain:
            yield f"\n{'#' * level} `{each['properties']['kind']['const']}`\n\n{first_paragraph(each.get('description', ''))}\n"
            yield from table(each, definitions)
            for name, inner in each["properties"].items():
                if referenced(inner, definitions):
                    yield f"\n{'#' * min(level + 1, 6)} `{name}`\n\n{inner.get('description', '')}\n"
                    yield from section(inner, definitions, min(level + 2, 6))


def referenced(node: dict[str, Any], definitions: dict[str, Any]) -> list[dict[str, Any]]:
    """Object definitions that a property can hold, directly, as one of several, or as items."""
    if "$ref" in node:
        target = definitions[node["$ref"].rsplit("/", 1)[-1]]
        return [target] if "properties" in target else referenced(target, definitions)
    inner = [*node.get("oneOf", []), *node.get("anyOf", []), *node.get("allOf", [])]
    inner += [node["items"]] if isinstance(node.get("items"), dict) else []
    inner += [node["additionalProperties"]] if isinstance(node.get("additionalProperties"), dict) else []
    return [found for each in inner for found in referenced(each, definitions)]


def table(node: dict[str, Any], definitions: dict[str, Any]) -> Iterator[str]:
    """Keys, types, defaults and meanings."""
    rows = [(name, each) for name, each in node.get("properties", {}).items() if "const" not in each]
    if not rows:
        yield "No options.\n"
        return
    yield "\n| key | type | default | meaning |\n|---|---|---|---|"
    for name, each in rows:
        default = "must stand" if name in node.get("required", []) else shown(each.get("default"))
        meaning = " ".join(each.get("description", "").split())
        yield f"| `{name}` | {kind(each, definitions)} | {default} | {meaning} |".replace("||", "| |")
    yield ""


def kind(node: dict[str, Any], definitions: dict[str, Any]) -> str:
    """Type of a value in a word or two."""
    if "const" in node:
        return f"`{node['const']}`"
    if "enum" in node:
        return ", ".join(f"`{value}`" for value in node["enum"])
    for key in ("anyOf", "oneOf"):
        if key in node:
            return " or ".join(dict.fromkeys(kind(each, definitions) for each in node[key]))
    if "$ref" in node:
        target = definitions[node["$ref"].rsplit("/", 1)[-1]]
        name = target.get("properties", {}).get("kind", {}).get("const")
        return f"`{name}`" if name else "mapping" if "properties" in target else kind(target, definitions)
    if node.get("type") == "array":
        inner = node.get("items") or next(iter(node.get("prefixItems", [])), {})
        return f"list of {kind(inner, definitions)}" if inner else "list"
    names = {
        "number": "number",
        "integer": "whole number",
        "string": "text",
        "boolean": "true or false",
        "object": "mapping",
        "null": "null",
    }
    return names.get(node.get("type", ""), "any") + limits(node)


def limits(node: dict[str, Any]) -> str:
    """Bounds of a number, in words."""
    words = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
    said = [f"{word} {node[key]:g}" for key, word in words.items() if key in node]
    return f" ({' '.join(said)})" if said else ""


def shown(value: Any) -> str:
    """A default as it stands in YAML."""
    import json

    if value is None:
        return "–"
    return f"`{json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value}`"


def first_paragraph(text: str) -> str:
    """The text before the first blank line, on one line."""
    return " ".join(text.split("\n\n")[0].split())


def command_pages() -> Iterator[str]:
    """One section a command with its arguments and options."""
    from typer.main import get_command

    from morula.cli.app import app

    group: Any = get_command(app)
    for name, command in group.commands.items():
        arguments = [argument_usage(each) for each in command.params if each.param_type_name == "argument"]
        usage = " ".join(["morula", name, *arguments, "[OPTIONS]"])
        yield f"\n## `morula {name}`\n\n{command.help or ''}\n\n```text\n{usage}\n```\n"
        options = [each for each in command.params if each.name != "help"]
        if options:
            yield "| argument or option | default | meaning |\n|---|---|---|"
        for each in options:
            named = each.param_type_name == "option"
            spelling = ", ".join(f"`{text}`" for text in (*each.opts, *each.secondary_opts)) if named else f"`{each.name.upper()}`"
            default = "" if each.default in (None, (), [], False) or callable(each.default) else f"`{each.default}`"
            yield f"| {spelling} | {default} | {' '.join((getattr(each, 'help', '') or '').split())} |"


def argument_usage(argument: Any) -> str:
    """An argument as usage lines show it."""
    name = argument.name.upper() + ("..." if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def python_pages() -> Iterator[str]:
    """One entry a name of the face."""
    import morula

    for name in morula.__all__:
        yield f"\n::: {morula._FACE[name]}.{name}\n    options:\n      heading: morula.{name}\n      toc_label: {name}\n"
