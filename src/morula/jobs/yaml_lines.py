"""YAML documents with the line of each key."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from morula.core.errors import FileReadError, JobError, MissingFileError, Problem

Place: TypeAlias = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """YAML as users mean it: ``1e-3`` is a number, ``yes`` and dates are text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789"))


class Document:
    """One YAML document: its `data`, and `line(place)` of a key (a path of mapping keys and list positions)."""

    def __init__(self, data: Any, lines: dict[Place, int], file: str | None) -> None:
        self.data = data
        self.file = file
        self._lines = lines

    def with_data(self, data: Any, moved: Callable[[Place], Place]) -> Document:
        """The document with other data; the line of each key is known at the place that `moved` gives for it."""
        return Document(data, {moved(place): line for place, line in self._lines.items()}, self.file)

    def line(self, place: Place) -> int | None:
        """Line of this key, or of the nearest parent key that is in the file; counted from 1."""
        for length in range(len(place), 0, -1):
            if place[:length] in self._lines:
                return self._lines[place[:length]]
        return None


def read_documents(path: str | Path) -> list[Document]:
    """All documents of a YAML file (separated by ``---``).

    Raises:
        MissingFileError: when there is no such file.
        FileReadError: when it cannot be read as text.
        JobError: for YAML that is not well-formed, a key written twice, or an empty file.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(
            "job.no_file", "there is no such job file", file=path, remedy="Check the path, or make one with `morula new`."
        )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        rule = f"cannot be read as text ({error})"
        raise FileReadError("job.unreadable", rule, file=path, remedy="A job file is YAML in UTF-8.") from error
    return parse_documents(text, file=path.name)


def parse_documents(text: str, file: str | None = None) -> list[Document]:
    """All documents of a YAML text.

    Examples:
        >>> document, = parse_documents("training:\\n  epochs: 3\\n")
        >>> document.data, document.line(("training", "epochs"))
        ({'training': {'epochs': 3}}, 2)
    """
    try:
        nodes = [node for node in yaml.compose_all(text, Loader=_Loader) if node is not None]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        rule = f"not YAML: {getattr(error, 'problem', None) or 'it is not well-formed'}"
        line = None if mark is None else mark.line + 1
        remedy = "Check the indentation, colons and brackets there."
        raise JobError([Problem("", rule, line, file, code="job.not_yaml", remedy=remedy)]) from error
    if not nodes:
        raise JobError([Problem("", "the file is empty; a job has at least `images` and `method`", None, file, code="job.empty")])
    problems: list[Problem] = []
    documents = []
    for node in nodes:
        lines: dict[Place, int] = {}
        problems += [
            Problem(".".join(map(str, place)), "is written twice", line, file, code="job.key_twice", remedy="Keep one of the two.")
            for place, line in _walk(node, (), lines)
        ]
        loader = _Loader("")
        documents.append(Document(loader.construct_document(node), lines, file))
    if problems:
        raise JobError(problems)
    return documents


def _walk(node: yaml.Node, place: Place, lines: dict[Place, int]) -> Iterable[tuple[Place, int]]:
    """Record the line of every key below a node; yield the keys that are written twice."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*place, str(key.value))
            if here in lines:
                yield here, key.start_mark.line + 1
            lines[here] = key.start_mark.line + 1
            yield from _walk(value, here, lines)
    elif isinstance(node, yaml.SequenceNode):
        for position, value in enumerate(node.value):
            lines[(*place, position)] = value.start_mark.line + 1
            yield from _walk(value, (*place, position), lines)


@contextmanager
def located(job: str | Path | Mapping[str, Any], stage: int = 1) -> Iterator[None]:
    """Problems raised inside gain file and line of their key, where the job is a file; `stage` is its document, counted from 1.

    Raises:
        JobError: the same problems, with lines.
    """
    try:
        yield
    except JobError as error:
        if isinstance(job, Mapping):
            raise
        document = read_documents(job)[stage - 1]
        problems = [
            problem if problem.line is not None else replace(problem, line=document.line(tuple(problem.key.split("."))), file=document.file)
            for problem in error.problems
        ]
        raise JobError(sorted(problems, key=lambda problem: problem.line or 0)) from error
