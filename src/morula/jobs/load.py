"""From a YAML file to a checked job, or to all of its problems."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from pydantic import ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import ErrorDetails

from morula.core.errors import JobError, OptionError, Problem
from morula.core.family import did_you_mean
from morula.core.options import Options, problem_of
from morula.jobs.bundled import is_name
from morula.jobs.earlier_names import renamed, renaming_note, with_present_names
from morula.jobs.job import Job, Source
from morula.jobs.yaml_lines import Document, Place, parse_documents, read_documents
from morula.nn.options import AUTO

_MOST_DOTS = 20
"""Dots in the key of an override; no key of a job has as many."""

_OTHER_NAMES = {"learning_rate": "lr"}
"""Names of options in other programs that do not resemble those of Morula."""
_BEGIN = "Begin with a job of `morula new`, or with an example of the documentation."


def load_job(path: str | Path | Mapping[str, object], *, overrides: Iterable[str] = (), stage: int | None = None) -> Job:
    """The job of a YAML file, or of a mapping with the same keys. `overrides` are ``a.b=value`` texts, the value read as YAML.

    `stage` chooses a document of a file with several, counted from 1.

    Paths in it are made absolute: relative ones are meant from the folder of the file (a mapping: from the current folder).

    Raises:
        MissingFileError: when there is no such file.
        JobError: with all problems at once, each with line, key, rule and nearest valid name.
    """
    if isinstance(path, Mapping):
        documents, folder = [Document(copy.deepcopy(dict(path)), {}, None)], Path.cwd()
    else:
        documents, folder = read_documents(path), Path(path).resolve().parent
    if len(documents) != 1 and stage is None:
        rule = f"the file holds {len(documents)} documents, which are the stages of one job"
        raise JobError([Problem("", rule, None, documents[0].file, code="job.several_stages", remedy="Run them with `morula run`.")])
    document = documents[(stage or 1) - 1]
    if not isinstance(document.data, dict):
        return validate(document)
    document, notes = _present(document)
    for override in overrides:
        notes += _override(document.data, override)
    return _with_absolute_paths(validate(document), folder).with_notes(notes)


def validate(document: Document) -> Job:
    """The job of a document.

    Raises:
        JobError: with all problems at once.
    """
    if not isinstance(document.data, dict):
        rule = "a job is a mapping with the keys `images`, `method`, ...; this is not a mapping"
        raise JobError([Problem("", rule, 1, document.file, code="job.not_a_mapping", remedy=_BEGIN)])
    _reject_foreign(document)
    document, notes = _present(document)
    return _validated(document).with_notes(notes)


def _present(document: Document) -> tuple[Document, tuple[str, ...]]:
    """A document with its keys under their present names, and the notes on those that were renamed."""
    try:
        return with_present_names(document)
    except OptionError as error:
        raise JobError([replace(Problem.of(error), file=document.file)]) from error


def _validated(document: Document) -> Job:
    """The job of a document whose keys have their present names; all problems at once where it has some."""
    try:
        return Job.model_validate(frozen(document.data), strict=True)
    except ValidationError as error:
        schema = _schema()
        problems: dict[str, Problem] = {}
        for detail in error.errors(include_url=False):
            problem = _problem(detail, document, schema)
            problems.setdefault(problem.key, problem)
        # where a value may be of several types, the problem of the type that fits best has the longest key
        deepest = [problem for key, problem in problems.items() if not any(other.startswith(f"{key}.") for other in problems)]
        raise JobError(sorted(deepest, key=lambda problem: problem.line or 0)) from None


@cache
def _schema() -> JsonSchemaValue:
    """The JSON schema of jobs, only read; pydantic takes a third of a second to generate it."""
    return Job.model_json_schema(by_alias=True)


def _reject_foreign(document: Document) -> None:
    """Recognise job files of other programs by the keys that only they have.

    Raises:
        JobError: for a job file of another program.
    """
    keys = set(document.data) if isinstance(document.data, Mapping) else set()
    if "PROBLEM" in keys:
        raise JobError([_foreign("PROBLEM", "BiaPy", "Check, train or run its job files, or see `morula convert`.", document)])
    if "loaders" in keys and not keys & {"images", "method"}:
        remedy = "Run its job files with train3dunet or predict3dunet, or see `morula convert`."
        raise JobError([_foreign("loaders", "pytorch-3dunet", remedy, document)])


def _foreign(key: str, program: str, remedy: str, document: Document) -> Problem:
    rule = f"is a section of {program}; this command needs a job of Morula"
    return Problem(key, rule, document.line((key,)), document.file, code="job.other_program", remedy=remedy)


def frozen(value: object) -> object:
    """Lists as tuples, at every depth: strict validation takes a tuple for a tuple.

    Examples:
        >>> frozen({"a": [1, [2]]})
        {'a': (1, (2,))}
    """
    if isinstance(value, Mapping):
        return {key: frozen(inner) for key, inner in value.items()}
    return tuple(frozen(inner) for inner in value) if isinstance(value, list | tuple) else value


def _override(data: dict[str, object], text: str) -> tuple[str, ...]:
    """Set ``a.b.c=value`` in a nested mapping that the caller owns; a note where the key has an earlier name.

    Raises:
        OptionError: for a text of another form.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip() or key.count(".") > _MOST_DOTS:
        raise OptionError(
            "override.invalid",
            "must be key=value with a dotted key",
            key="--set",
            value=text,
            remedy="Write for example --set training.epochs=5.",
        )
    present = renamed(key.strip())
    *parents, last = present.split(".")
    for parent in parents:
        inner = data.get(parent)
        if isinstance(inner, str):  # a bare name such as `network: unet` gains options
            inner = {"kind": inner}
        inner = inner if isinstance(inner, dict) else {}
        data[parent] = inner
        data = inner
    data[last] = _override_value(key.strip(), value) if value.strip() else None
    return () if present == key.strip() else (renaming_note(key.strip(), present),)


def _override_value(key: str, text: str) -> object:
    """The value of an override.

    Raises:
        JobError: for a text that is not one YAML value; the problems are at the key.
    """
    try:
        (document,) = parse_documents(text)
    except JobError as error:
        raise JobError([replace(problem, key=key, line=None, file="--set") for problem in error.problems]) from error
    except ValueError:
        rule, remedy = "must be one value", "Remove the line with ---."
        raise JobError([Problem(key, rule, file="--set", code="override.several", value=text, remedy=remedy)]) from None
    return document.data


def _with_absolute_paths(job: Job, folder: Path) -> Job:
    """The job with the paths of its images, of the weights to start from and of a folder of its method made absolute."""

    def absolute(source: Source | float | None) -> Source | float | None:
        if not isinstance(source, Source):
            return source
        found: dict[str, str | tuple[str, ...]] = {}
        for key in ("raw", "labels", "classes", "mask", "weights"):
            path = getattr(source, key)
            if isinstance(path, str):
                found[key] = str(folder / path)
            elif isinstance(path, tuple):
                found[key] = tuple(str(folder / part) for part in path)
        return source.model_copy(update=found)

    # relative paths start at the folder of the job file, which later steps do not know
    sources = {name: absolute(getattr(job.images, name)) for name in ("train", "validate_", "test")}
    update: dict[str, Options] = {"images": job.images.model_copy(update=sources)}
    start = job.network.from_
    if start not in (None, AUTO) and ((folder / start).exists() or not is_name(start)):  # a name of a bundled model is no path
        update["network"] = job.network.model_copy(update={"from_": str(folder / start)})
    update["method"] = job.method.relative_to(folder)
    return job.model_copy(update=update)


def _problem(error: ErrorDetails, document: Document, schema: JsonSchemaValue) -> Problem:
    """One error of pydantic as a problem at the user's line."""
    place = _place(error, document.data)
    key, line = ".".join(map(str, place)), document.line(place)
    known = sorted(_keys(schema, place[:-1], document.data)) if error["type"] == "extra_forbidden" else []
    problem = replace(problem_of(error, key, known), line=line, file=document.file)
    if error["type"] == "extra_forbidden" and not did_you_mean(str(place[-1]), known):
        problem = replace(problem, remedy=_remedy_elsewhere(str(place[-1]), schema) or problem.remedy)
    given = error["input"]
    if error["type"] == "missing" and isinstance(given, Mapping) and "kind" in given and place[-1:] != error["loc"][-1:]:
        name, option = given["kind"], error["loc"][-1]  # a variant by its name alone, which needs an option
        remedy = f"Write {{{name}: {{{option}: ...}}}}."
        problem = replace(problem, rule=f"{name} needs the option {option}", remedy=remedy)
    return problem


def _remedy_elsewhere(name: str, schema: JsonSchemaValue) -> str:
    """That an option of this or a similar name belongs to another section; empty where there is none."""
    places: dict[str, str] = {}
    inside: dict[str, str] = {}
    for section in schema["properties"]:
        for option in sorted(_keys(schema, (section,), None)):
            places.setdefault(option, f"{section}.{option}")
            for inner in sorted(_keys(schema, (section, option), None)):
                inside.setdefault(inner, f"{section}.{option}.{inner}")
    for known in (places, inside):
        if close := difflib.get_close_matches(_OTHER_NAMES.get(name, name), known, n=1, cutoff=0.65):
            return f"Did you mean {known[close[0]]}?"
    return ""


def _place(error: ErrorDetails, data: object) -> Place:
    """Path of an error in the document: the model's own path without union tags, with the names that stand for a `kind`."""
    place: list[str | int] = []
    location = list(error["loc"])
    tag = error.get("ctx", {}).get("tag")
    if tag is not None and error["type"] == "union_tag_invalid":
        location.append(tag)
    node, tagged = data, False
    for position, part in enumerate(location):
        key = part
        last = position == len(location) - 1
        if isinstance(node, dict) and node.get("kind") == part and not tagged:  # the union's tag, not the key of this name
            tagged = True
            continue
        if isinstance(node, dict) and (part in node or (last and error["type"] in ("missing", "extra_forbidden"))):
            place.append(str(key))
            node, tagged = node.get(key), False
        elif isinstance(node, list | tuple) and isinstance(part, int) and part < len(node):
            place.append(part)
            node, tagged = node[part], False
    return tuple(place)


def _keys(schema: JsonSchemaValue, place: Place, data: object) -> set[str]:
    """Keys that the schema allows at a place of the document."""
    # pydantic reports an unknown key without the known ones, so they are looked up in the schema for the remedy
    nodes: list[JsonSchemaValue] = [schema]
    for part in place:
        inner = data.get(part) if isinstance(data, dict) else data[part] if isinstance(data, list) and isinstance(part, int) else None
        found = []
        for node in _alternatives(nodes, schema, data):
            if isinstance(part, int):
                found += [node["items"]] if "items" in node else []
            elif part in node.get("properties", {}):
                found.append(node["properties"][part])
            elif "items" in node:  # a list of variants written as a mapping from name to options
                found += [{"pick": part, **node["items"]}]
            elif (node.get("properties", {}).get("kind", {}).get("const")) == part:
                found.append(node)
        nodes, data = found, inner
    return {
        key
        for node in _alternatives(nodes, schema, data)
        for key, value in node.get("properties", {}).items()
        if not (key == "kind" and "const" in value)
    }


def _alternatives(nodes: Sequence[JsonSchemaValue], schema: JsonSchemaValue, data: object) -> list[JsonSchemaValue]:
    """The plain schemas behind references and unions; of tagged unions the one whose `kind` the data names, else all."""
    plain = []
    todo = list(nodes)
    while todo:
        node = todo.pop()
        if "$ref" in node:
            todo.append({**({"pick": node["pick"]} if "pick" in node else {}), **schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]})
        elif "oneOf" in node or "anyOf" in node:
            mapping = node.get("discriminator", {}).get("mapping", {})
            kind = node.get("pick") or (data.get("kind") if isinstance(data, dict) else None)
            members = node["oneOf"] if "oneOf" in node else node["anyOf"]
            todo += [{"$ref": mapping[kind]}] if kind in mapping else [dict(member) for member in members]
        else:
            plain.append(node)
    return plain
