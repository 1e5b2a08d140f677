"""The strings below the fields of a class, read from its source when they are asked for.

Pydantic can do so itself, but does it whenever a class is defined, which takes longer than all the rest of the definition; only forms, help
texts and the reference page need them.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from collections.abc import Iterator
from itertools import pairwise


def attribute_docs(kind: type) -> dict[str, str]:
    """The string below each field that a class itself defines, by field; empty where the source cannot be read.

    Examples:
        >>> from morula.core.events import FileWritten
        >>> attribute_docs(FileWritten)  # its fields are described in the docstring of the class
        {}
    """
    return _docs_in(kind.__module__).get(kind.__qualname__, {})


@functools.cache
def _docs_in(module: str) -> dict[str, dict[str, str]]:
    """The strings below fields, by class and field."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (KeyError, OSError, TypeError):  # a console, a frozen program
        return {}
    return dict(_classes(tree, ""))


def _classes(node: ast.AST, prefix: str) -> Iterator[tuple[str, dict[str, str]]]:
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, ast.ClassDef):
            yield f"{prefix}{inner.name}", _documented(inner.body)
            yield from _classes(inner, f"{prefix}{inner.name}.")
        elif isinstance(inner, ast.FunctionDef):
            yield from _classes(inner, f"{prefix}{inner.name}.<locals>.")
        elif not isinstance(inner, ast.expr):
            yield from _classes(inner, prefix)


def _documented(body: list[ast.stmt]) -> dict[str, str]:
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }
