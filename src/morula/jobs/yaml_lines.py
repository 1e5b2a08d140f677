"""YAML documents with the line of each key, read by the rules of YAML 1.2 and within bounds.

Job files come from anybody, so nothing in them may run code, fill the memory or end in a traceback: a file is at most `MAX_BYTES` long, its
values are at most `MAX_DEPTH` deep and `MAX_VALUES` many once aliases are expanded, and tags other than those of plain values are rejected.

Scalars follow the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema): ``010`` is 10, ``1:30``, ``yes`` and dates are
text, ``1e-3`` is a number. PyYAML alone reads YAML 1.1, where ``010`` is 8, ``1:30`` is 90 and ``no`` is false.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import yaml
from yaml.composer import Composer

from morula.core.errors import FileReadError, JobError, MissingFileError, Problem
from morula.core.text import unprintable

Place: TypeAlias = tuple[str | int, ...]

MAX_BYTES = 1 << 20
"""Longest job file. It is read within seconds."""
MAX_DEPTH = 64
"""Deepest nesting of lists and mappings, aliases expanded."""
MAX_VALUES = 100_000
"""Most values of a document, aliases expanded: 200 bytes of aliases of aliases would otherwise fill the memory."""
MAX_INTEGER = 2**63 - 1

_TAG = "tag:yaml.org,2002:"
_SCALARS: dict[str, tuple[re.Pattern[str], str]] = {
    "null": (re.compile(r"^(?:~|null|Null|NULL|)$"), "~nN\0"),
    "bool": (re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), "tTfF"),
    "int": (re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"), "-+0123456789"),
    "float": (
        re.compile(r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"),
        "-+.0123456789",
    ),
    "merge": (re.compile(r"^<<$"), "<"),
}
"""Pattern and first characters of each kind of plain scalar; everything else is text."""
_PLAIN_TAGS = {_TAG + name for name in (*_SCALARS, "str", "seq", "map")}


class _Rejected(yaml.MarkedYAMLError):
    """YAML that is well-formed but not accepted in a job; `code` and `remedy` as in `Problem`."""

    def __init__(self, code: str, rule: str, mark: yaml.Mark, remedy: str) -> None:
        super().__init__(None, None, rule, mark)
        self.code, self.remedy = code, remedy


class _Loader(Composer, yaml.CSafeLoader):
    """Composes nodes within the bounds; values are made of the nodes by `_value`, never by PyYAML's constructors.

    The events that it composes are those of libyaml, which reads a text in a tenth of the time.
    """

    yaml_implicit_resolvers: ClassVar[dict[str, list[Any]]] = {}  # type: ignore[misc]  # one per class, as PyYAML uses it

    def __init__(self, text: str) -> None:
        yaml.CSafeLoader.__init__(self, text)
        Composer.__init__(self)
        self._depth = 0
        self._size: dict[int, tuple[int, int]] = {}  # expanded number of values and depth of each complete node

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose a node; rejected as soon as it exceeds a bound."""
        mark: Any = self.peek_event().start_mark  # type: ignore[union-attr]  # there is an event as long as there is a node
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _too_deep(mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(node, yaml.Node):
            self._measure(node, mark)
        return node

    def _measure(self, node: yaml.Node, mark: yaml.Mark) -> None:
        if id(node) in self._size:
            return
        children = node.value if isinstance(node, yaml.CollectionNode) else []
        if isinstance(node, yaml.MappingNode):
            children = [part for pair in children for part in pair]
        if any(id(child) not in self._size for child in children) or (isinstance(node, yaml.CollectionNode) and node.end_mark is None):
            remedy = "Write the values out where they are needed."
            raise _Rejected("job.self_reference", "an alias refers to the value that it is in", mark, remedy)
        values = 1 + sum(self._size[id(child)][0] for child in children)
        depth = 1 + max((self._size[id(child)][1] for child in children), default=0)
        if depth > MAX_DEPTH:
            raise _too_deep(mark)
        if values > MAX_VALUES:
            rule = f"holds more than {MAX_VALUES:,} values (aliases expanded)"
            raise _Rejected("job.too_many_values", rule, mark, "Name folders or patterns instead of single files.")
        self._size[id(node)] = (values, depth)


for _name, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(_TAG + _name, _pattern, ["" if character == "\0" else character for character in _first])


def _too_deep(mark: yaml.Mark) -> _Rejected:
    return _Rejected("job.too_deep", f"values are nested more than {MAX_DEPTH} deep", mark, "A job needs fewer than ten levels.")


class _Dumper(yaml.SafeDumper):
    """Quotes every text that YAML 1.1 or 1.2 would read as something else."""


for _name, (_pattern, _first) in _SCALARS.items():
    _Dumper.add_implicit_resolver(_TAG + _name, _pattern, ["" if character == "\0" else character for character in _first])


def dump(document: object, *, flow: bool | None = False) -> str:
    """A document as YAML text that every reader, of YAML 1.1 and 1.2, reads back as the same values.

    Args:
        document: plain values.
        flow: lists and mappings in brackets; `None` for the innermost ones only.

    Examples:
        >>> print(dump({"name": "1e5", "code": "08"}), end="")
        name: '1e5'
        code: '08'
    """
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120, default_flow_style=flow)


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
        FileReadError: when it cannot be read as text, or is longer than `MAX_BYTES`.
        JobError: for YAML that is not well-formed or exceeds a bound, a key written twice, or an empty file.
    """
    path = Path(path)
    return parse_documents(_text(path), file=path.name)


def _text(path: Path) -> str:
    try:
        if not path.is_file():
            folder = path.is_dir()
            rule = "is a folder, not a job file" if folder else "there is no such job file"
            remedy = f"Name the job file in it ({path / 'job.yaml'})." if folder else "Check the path, or make one with `morula new`."
            raise MissingFileError("job.no_file", rule, file=path, remedy=remedy)
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            rule = f"is larger than {MAX_BYTES >> 20} MiB, which no job file needs"
            raise FileReadError("job.too_large", rule, file=path, remedy="Name folders or patterns instead of single files.")
        return content.decode("utf-8-sig")
    except MissingFileError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, FileReadError):
            raise
        rule = f"cannot be read as text ({error})"
        raise FileReadError("job.unreadable", rule, file=path, remedy="A job file is YAML in UTF-8.") from error


def parse_documents(text: str, file: str | None = None) -> list[Document]:
    """All documents of a YAML text.

    Raises:
        JobError: for YAML that is not well-formed or exceeds a bound, a key written twice, or an empty text.

    Examples:
        >>> document, = parse_documents("training:\\n  epochs: 3\\n")
        >>> document.data, document.line(("training", "epochs"))
        ({'training': {'epochs': 3}}, 2)
        >>> parse_documents("[010, 1:30, no, 1e-3]")[0].data
        [10, '1:30', 'no', 0.001]
    """
    problems: list[Problem] = []
    documents = []
    try:
        nodes = [node for node in yaml.compose_all(text, Loader=_Loader) if node is not None]
        for node in nodes:
            lines: dict[Place, int] = {}
            problems += [
                Problem(".".join(map(str, place)), "is written twice", line, file, code="job.key_twice", remedy="Keep one of the two.")
                for place, line in _walk(node, (), lines)
            ]
            documents.append(Document(_value(node), lines, file))
    except _Rejected as error:
        raise JobError([Problem("", str(error.problem), _line(error), file, code=error.code, remedy=error.remedy)]) from None
    # PyYAML raises ValueError for escapes that are no character, such as "\U00110000"
    except (yaml.YAMLError, ValueError) as error:
        rule = f"not YAML: {getattr(error, 'problem', None) or getattr(error, 'reason', None) or 'it is not well-formed'}"
        remedy = "Check the indentation, colons and brackets there."
        raise JobError([Problem("", rule, _line(error), file, code="job.not_yaml", remedy=remedy)]) from error
    if not nodes:
        rule, remedy = "the file is empty; a job has at least `images` and `method`", "Begin with a job of `morula new`."
        raise JobError([Problem("", rule, None, file, code="job.empty", remedy=remedy)])
    if problems:
        raise JobError(problems)
    return documents


def _line(error: BaseException) -> int | None:
    mark = getattr(error, "problem_mark", None)
    return None if mark is None else int(mark.line) + 1


def _value(node: yaml.Node) -> Any:
    """The plain value of a node. Aliased values are made anew at each place, so that changing one leaves the others as they are."""
    if node.tag not in _PLAIN_TAGS:
        rule = f"the tag {node.tag.replace(_TAG, '!!')!r} is not accepted; values are text, numbers, true, false, null, lists and mappings"
        raise _Rejected("job.tag", rule, node.start_mark, "Leave the tag out.")
    if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
        return [_value(child) for child in node.value]
    if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
        return _mapping(node)
    if isinstance(node, yaml.ScalarNode) and node.tag not in (_TAG + "seq", _TAG + "map"):
        return _scalar(node)
    rule = f"the tag {node.tag.replace(_TAG, '!!')!r} is of another kind of value"
    raise _Rejected("job.tag", rule, node.start_mark, "Leave the tag out.")


def _mapping(node: yaml.MappingNode) -> dict[Any, Any]:
    own: dict[Any, Any] = {}
    merged: dict[Any, Any] = {}
    for key, child in node.value:
        if key.tag != _TAG + "merge":
            own[_value(key)] = _value(child)
            continue
        for part in child.value if isinstance(child, yaml.SequenceNode) else [child]:
            if not isinstance(part, yaml.MappingNode):
                rule = "<< merges mappings, and this is none"
                raise _Rejected("job.merge", rule, child.start_mark, "Write << : *NAME, where NAME is the anchor of a mapping.")
            merged = _mapping(part) | merged  # the first of several mappings has precedence
    return merged | own


def _scalar(node: yaml.ScalarNode) -> bool | int | float | str | None:
    text, kind = str(node.value), node.tag.removeprefix(_TAG)
    if unprintable(text):
        rule = f"the text {text[:60]!r} contains control characters"
        raise _Rejected("job.control_character", rule, node.start_mark, "Remove them.")
    if kind in ("str", "merge"):
        return text
    if not _SCALARS[kind][0].match(text):  # an explicit tag such as `!!int abc`
        raise _Rejected("job.tag", f"{text[:60]!r} is not of the type of its tag !!{kind}", node.start_mark, "Leave the tag out.")
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    return _integer(text, node.start_mark) if kind == "int" else _float(text)


def _integer(text: str, mark: yaml.Mark) -> int:
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    # the length first: Python refuses to convert decimal texts of more than 4300 digits
    value = int(text, base) if len(text) <= 40 else MAX_INTEGER + 1
    if abs(value) > MAX_INTEGER:
        raise _Rejected("job.number_too_large", f"the number {text[:30]} is beyond 64 bits", mark, "Write a smaller number.")
    return value


def _float(text: str) -> float:
    special = text.lower().lstrip("+-")
    if special in (".inf", ".nan"):
        return math.nan if special == ".nan" else -math.inf if text.startswith("-") else math.inf
    return float(text)


def _walk(node: yaml.Node, place: Place, lines: dict[Place, int]) -> Iterable[tuple[Place, int]]:
    """Record the line of every key below a node; yield the keys that are written twice."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                rule = "a key must be text or a number, not a list or mapping"
                raise _Rejected("job.key", rule, key.start_mark, "Check colons and brackets.")
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
