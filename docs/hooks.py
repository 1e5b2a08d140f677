"""Fill the generated parts of the reference pages from the job model, the command line and the Python API.

A page contains a marker such as `<!-- generated: job -->`; mkdocs calls `on_page_markdown`, which replaces it.
"""

from __future__ import annotations

import ast
import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url
from typer.main import get_command

import morula
from morula.cli.app import app
from morula.core import errors, events
from morula.dialects.biapy.table import documentation
from morula.dialects.pytorch3dunet.reference import documentation as unet3d_keys
from morula.jobs.bundled import Scores, bundled_models
from morula.jobs.job import Job
from morula.testing.format_fields import ROWS

WORKER = "https://unpkg.com/iframe-worker/shim"
"""Script that the theme loads from the network so that the search works in pages opened from disk; we ship it."""

Schema = dict[str, Any]
"""A node of a JSON schema."""


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs for each page: replace the markers with what is generated."""
    for name, generate in GENERATORS.items():
        marker = f"<!-- generated: {name} -->"
        if marker in markdown:
            markdown = markdown.replace(marker, "\n".join(generate()))
    return markdown


def on_post_page(output: str, page: Page, **_: Any) -> str:
    """Called by mkdocs for each finished page: the search needs no network."""
    return output.replace(WORKER, get_relative_url("javascripts/iframe-worker.js", page.url))


def job_pages() -> Iterator[str]:
    """One section per section of the job, one subsection per variant."""
    schema = Job.model_json_schema(by_alias=True)
    required = schema.get("required", [])
    for name, section in schema["properties"].items():
        yield f"\n## `{name}`\n\n{section.get('description', '')}{' Required.' if name in required else ''}\n"
        yield from section_of(section, schema["$defs"], level=3)


def section_of(node: Schema, definitions: Schema, level: int) -> Iterator[str]:
    """Table of the keys of an object, or one section per variant; then the objects inside it."""
    models = referenced(node, definitions)
    plain = [model for model in models if "const" not in model.get("properties", {}).get("kind", {})]
    for model in plain:
        yield from table(model, definitions)
    for model in plain:
        yield from inner_sections(model, definitions, level)
    for model in models:
        if model not in plain:
            title = model["properties"]["kind"]["const"]
            yield f"\n{'#' * level} `{title}`\n\n{first_paragraph(model.get('description', ''))}\n"
            yield from table(model, definitions)
            yield from inner_sections(model, definitions, min(level + 1, 6))


def inner_sections(model: Schema, definitions: Schema, level: int) -> Iterator[str]:
    """One section per key of a model that holds further objects."""
    for name, inner in model.get("properties", {}).items():
        if referenced(inner, definitions):
            yield f"\n{'#' * level} `{name}`\n\n{inner.get('description', '')}\n"
            yield from section_of(inner, definitions, min(level + 1, 6))


def referenced(node: Schema, definitions: Schema) -> list[Schema]:
    """Object definitions that a property can hold: directly, as one of several, or as items."""
    if "$ref" in node:
        target = definitions[node["$ref"].rsplit("/", 1)[-1]]
        return [target] if "properties" in target else referenced(target, definitions)
    inner = [*node.get("oneOf", []), *node.get("anyOf", []), *node.get("allOf", [])]
    inner += [node["items"]] if isinstance(node.get("items"), dict) else []
    inner += [node["additionalProperties"]] if isinstance(node.get("additionalProperties"), dict) else []
    return [model for child in inner for model in referenced(child, definitions)]


def table(model: Schema, definitions: Schema) -> Iterator[str]:
    """Keys, types, defaults and meanings."""
    rows = [(name, node) for name, node in model.get("properties", {}).items() if "const" not in node]
    if not rows:
        yield "No options.\n"
        return
    yield "\n| key | type | default | meaning |\n|---|---|---|---|"
    for name, node in rows:
        default = "required" if name in model.get("required", []) else default_text(node.get("default"))
        meaning = " ".join(node.get("description", "").split()).replace("|", "\\|")
        yield f"| `{name}` | {type_text(node, definitions)} | {default} | {meaning} |"
    yield ""


TYPE_NAMES = {
    "number": "number",
    "integer": "integer",
    "string": "text",
    "boolean": "true or false",
    "object": "mapping",
    "null": "null",
}


def type_text(node: Schema, definitions: Schema) -> str:
    """Type of a value in a word or two."""
    if "const" in node:
        return f"`{node['const']}`"
    if "enum" in node:
        return ", ".join(f"`{value}`" for value in node["enum"])
    for key in ("anyOf", "oneOf"):
        if key in node:
            return " or ".join(dict.fromkeys(type_text(child, definitions) for child in node[key]))
    if "$ref" in node:
        target = definitions[node["$ref"].rsplit("/", 1)[-1]]
        name = target.get("properties", {}).get("kind", {}).get("const")
        return f"`{name}`" if name else "mapping" if "properties" in target else type_text(target, definitions)
    if node.get("type") == "array":
        inner = node.get("items") or next(iter(node.get("prefixItems", [])), {})
        return f"list of {type_text(inner, definitions)}" if inner else "list"
    return TYPE_NAMES.get(node.get("type", ""), "any") + limits(node)


def limits(node: Schema) -> str:
    """Bounds of a number."""
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {node[key]:,}".removesuffix(".0") for key, sign in signs.items() if key in node]
    return f" ({', '.join(bounds)})" if bounds else ""


def default_text(value: Any) -> str:
    """A default as it is written in YAML."""
    if value is None:
        return "–"
    return f"`{json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value}`"


def first_paragraph(text: str) -> str:
    """The text before the first blank line, on one line."""
    return " ".join(text.split("\n\n")[0].split())


def command_pages() -> Iterator[str]:
    """One section per command with its arguments and options."""
    group: Any = get_command(app)
    for name, command in group.commands.items():
        arguments = [argument_usage(parameter) for parameter in command.params if parameter.param_type_name == "argument"]
        usage = " ".join(["morula", name, *arguments, "[OPTIONS]"])
        yield f"\n## `morula {name}`\n\n{command.help or ''}\n\n```text\n{usage}\n```\n"
        options = [parameter for parameter in command.params if parameter.name != "help"]
        if options:
            yield "| argument or option | default | meaning |\n|---|---|---|"
        for parameter in options:
            is_option = parameter.param_type_name == "option"
            names = ", ".join(f"`{text}`" for text in (*parameter.opts, *parameter.secondary_opts))
            absent = parameter.default in (None, (), [], False) or callable(parameter.default)
            default = "" if absent or not isinstance(parameter.default, str | int | float | Path) else f"`{parameter.default}`"
            default = parameter.show_default.replace("<", "&lt;") if isinstance(parameter.show_default, str) else default
            meaning = " ".join((getattr(parameter, "help", "") or "").split())
            yield f"| {names if is_option else f'`{parameter.name.upper()}`'} | {default} | {meaning} |"


def argument_usage(argument: Any) -> str:
    """An argument as usage lines show it."""
    name = argument.name.upper() + ("..." if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def python_pages() -> Iterator[str]:
    """One entry per name of the Python API."""
    for name in morula.__all__:
        yield f"\n::: {getattr(morula, name).__module__}.{name}\n    options:\n      heading: morula.{name}\n      toc_label: {name}\n"


def biapy_keys() -> Iterator[str]:
    """One row per key of BiaPy: what it becomes, or why it has no effect, and its former spellings."""
    yield from documentation()


@dataclass(frozen=True)
class ErrorInSource:
    """A place in the source that makes an error: its class, code, rule and remedy, `code` being empty where it is not a literal."""

    file: Path
    line: int
    kind: str
    code: str
    rule: str
    remedy: str


ERROR_CLASSES = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.MorulaError)}
SEVERAL = {"InvalidOptionsError", "JobError", "MorulaError"}
"""Errors that hold problems with codes of their own, and the base class."""


def errors_in_source(folder: Path = Path(morula.__file__).parent) -> Iterator[ErrorInSource]:
    """Every call of an error class, and of `Problem` with a code, in the source of the package."""
    for file in sorted(folder.rglob("*.py")):
        tree = ast.parse(file.read_text("utf-8"))
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            if isinstance(node.func, ast.Attribute) and node.func.attr == "wrong" and len(node.args) >= 3:  # of the settings of BiaPy
                code, _, rule, remedy = [*node.args, None][:4]
                if isinstance(code, ast.Constant):
                    texts = [text_of(part, tree, node.lineno) for part in (rule, remedy)]
                    yield ErrorInSource(file, node.lineno, "Problem", str(code.value), *texts)
                continue
            if not isinstance(node.func, ast.Name):
                continue
            kind, keywords = node.func.id, {keyword.arg: keyword.value for keyword in node.keywords}
            if kind in ERROR_CLASSES - SEVERAL:
                code, rule = [*node.args, None, None][:2]
            elif kind == "Problem" and "code" in keywords:
                code, rule = keywords["code"], [*node.args, None, None][1]
            else:
                continue
            if isinstance(code, ast.Attribute) and code.attr == "code":  # an error that is raised again with its own code
                continue
            inside = [function for function in functions if function.lineno <= node.lineno <= (function.end_lineno or 0)]
            texts = [text_of(part, inside[-1] if inside else tree, node.lineno) for part in (rule, keywords.get("remedy"))]
            literal = code.value if isinstance(code, ast.Constant) and isinstance(code.value, str) and rule is not None else ""
            yield ErrorInSource(file, node.lineno, kind, literal, *texts)


def text_of(node: ast.AST | None, scope: ast.AST, line: int) -> str:
    """A text of the source for readers: values that are inserted at run time are shown as an ellipsis."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    if isinstance(node, ast.IfExp):
        return " / ".join(filter(None, (text_of(branch, scope, line) for branch in (node.body, node.orelse))))
    if isinstance(node, ast.BinOp):  # texts that are joined by +
        return text_of(node.left, scope, line) + (text_of(node.right, scope, line) or "…")
    if isinstance(node, ast.Name):  # a text that was assigned to a variable before
        return text_of(assigned(node.id, scope, line), scope, line)
    return ""


def assigned(name: str, scope: ast.AST, line: int) -> ast.AST | None:
    """The value that was last assigned to a variable before a line, alone or as one of several (``rule, remedy = ...``)."""
    found: list[tuple[int, ast.AST]] = []
    for node in ast.walk(scope):
        if isinstance(node, ast.Assign) and node.lineno < line:
            for target in node.targets:
                pairs = [(target, node.value)]
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    pairs = list(zip(target.elts, node.value.elts, strict=False))
                found += [(node.lineno, value) for target, value in pairs if isinstance(target, ast.Name) and target.id == name]
    return max(found, key=lambda each: each[0])[1] if found else None


def error_pages() -> Iterator[str]:
    """One table per area of codes: code, error, rule and remedy."""
    rows: dict[str, ErrorInSource] = {}
    for found in errors_in_source():
        if found.code and (found.code not in rows or len(found.rule) > len(rows[found.code].rule)):
            rows[found.code] = found
    area = ""
    for code, found in sorted(rows.items()):
        if code.partition(".")[0] != area:
            area = code.partition(".")[0]
            yield f"\n## `{area}`\n\n| code | error | rule | remedy |\n|---|---|---|---|"
        cells = [" ".join(text.split()).replace("|", "\\|").replace("<", "&lt;") for text in (found.rule, found.remedy)]
        kind = "JobError" if found.kind == "Problem" else found.kind
        rule = cells[0] if cells[0].strip("… ") else "see the message"
        yield f"| `{code}` | `{kind}` | {rule} | {cells[1]} |"


def format_pages() -> Iterator[str]:
    """One table: format, field, what is read of it."""
    yield "| format | field | what is read |"
    yield "|---|---|---|"
    for row in ROWS:
        yield f"| {row.format} | {row.field} | {row.gives} |"


def event_pages() -> Iterator[str]:
    """One table of events, and one of the kinds of files."""
    yield "\n## Events\n\n| event | fields | meaning |\n|---|---|---|"
    for name in ("Started", "Progress", "Epoch", "Preview", "FileWritten", "Warned", "Logged", "Finished", "Failed"):
        event = getattr(events, name)
        fields = ", ".join(f"`{field.name}`" for field in dataclasses.fields(event) if field.name not in ("run", "task"))
        yield f"| `{name}` | {fields} | {' '.join((event.__doc__ or '').split())} |"
    yield "\n## Kinds of files\n\nThe field `kind` of `FileWritten`.\n\n| kind | file |\n|---|---|"
    for kind in events.Artefact:
        yield f"| `{kind.value}` | {kind.meaning} |"


def score_row(row: Scores) -> str:
    """A model on one test set, and Otsu's threshold beside it."""
    figures = " | ".join(f"{value:.3f}" for value in (row.f1_50, row.f1_75, row.otsu_50, row.otsu_75))
    return f"| {row.data}{f' ({row.note})' if row.note else ''} | {row.images} | {row.objects} | {figures} |"


def model_scores() -> Iterator[str]:
    """All models in one table."""
    titles = ("model", "test images", "images", "objects", "F1@0.5", "F1@0.75", "Otsu + watershed, F1@0.5", "F1@0.75")
    yield f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}"
    for model in bundled_models():
        for row in model.facts.scores:
            yield f"| `{model.name}` {score_row(row)}"


def model_pages() -> Iterator[str]:
    """One section per bundled model, from its card."""
    for model in bundled_models():
        facts = model.facts
        yield f"\n## {model.name}\n\n{model.card.description}\n"
        yield f"![Objects that {model.name} finds in a simulated image](../images/model-{model.name}.webp)\n"
        yield "| test images | images | objects | F1@0.5 | F1@0.75 | Otsu + watershed, F1@0.5 | F1@0.75 |\n|---|---|---|---|---|---|---|"
        yield from map(score_row, facts.scores)
        listed = "; ".join(f"{data.images} images of {data.data} ({data.licence}, {data.source})" for data in facts.training)
        yield f"\nTraining images: {listed}. Licence of the weights: {model.card.license}. {facts.limits}\n"


GENERATORS: dict[str, Callable[[], Iterator[str]]] = {
    "job": job_pages,
    "commands": command_pages,
    "python": python_pages,
    "biapy keys": biapy_keys,
    "pytorch-3dunet keys": unet3d_keys,
    "errors": error_pages,
    "events": event_pages,
    "formats": format_pages,
    "models": model_pages,
    "model scores": model_scores,
}
"""What is generated, by the name in the marker."""
