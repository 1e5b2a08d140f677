"""Damaged and hostile texts, for tests that nothing ends in a traceback: mutated job files, model descriptions, parts of run folders.

The mutations are deterministic: the same seed gives the same texts.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
"""A value of JSON or YAML."""

HOSTILE: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**9, 10**30, -0.5, 1e308, float("inf"), float("nan")),
    *("", "a", "0", "../../etc/passwd", "/dev/zero", "a" * 5000, "\x00", "\x1b[2J", "=1+1", "<script>alert(1)</script>", "\ud800"),
    *([], {}, [[]], [1, "a", None], {"kind": 5}, {"": None}, [10**9, 10**9]),
)
"""Values that a key does not expect."""

BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9))
"""Aliases of aliases of aliases: 300 bytes that expand to a billion values ("billion laughs")."""

HOSTILE_YAML: tuple[str, ...] = (
    BOMB,
    *("", "\x00", "\t", "'", "[", "{a: 1", "*a", "&a", "x: &x [*x]", "x: &x {a: *x}", "? &a [*a]\n: 1", "- 1\n- 2", "5", "a: 1\na: 2"),
    *("x: !foo 5", "x: !!int abc", "x: !!timestamp 2020-99-99", "x: !!python/object/apply:os.system [ls]", "x: !!seq {a: 1}"),
    *("? [a]\n: 1", "? {a: 1}\n: 1", "x: {<<: 5}", "<<: [1]", "x: " + "9" * 5001, "x: 0x" + "f" * 5001, "[" * 5000, "{a: " * 3000),
    *("a: &a\n" * 3, '"\\U00110000"', 'x: "\\ud800"', 'x: "\\e[31m"', "%YAML 9.1\n---\na", "--- 1\n--- 2", "a:\n  - b\n c", "x: 1:30"),
)
"""YAML texts that are damaged, hostile, or read differently by YAML 1.1 and 1.2."""


def mutated(document: Mapping[str, Json], *, seed: int, count: int) -> Iterator[Json]:
    """Copies of a document in which one value was replaced, removed or renamed at random.

    Args:
        document: values of JSON or YAML; it is not changed.
        seed: seed of the choice.
        count: number of copies.

    Examples:
        >>> len(list(mutated({"a": {"b": 1}}, seed=0, count=3)))
        3
    """
    choice = random.Random(seed)
    places = list(_places(dict(document), ()))
    for _ in range(count):
        root: dict[str, Json] = copy.deepcopy(dict(document))
        *parents, last = choice.choice(places)
        node: Json = root
        for parent in parents:
            node = node[parent]  # type: ignore[index] # places exist in the document
        action = choice.random()
        if isinstance(node, dict) and action < 0.15:
            del node[str(last)]
        elif isinstance(node, dict) and action < 0.25:
            node["nonsense"] = node.pop(str(last))
        else:
            node[last] = choice.choice(HOSTILE)  # type: ignore[index]
        yield root


def _places(node: Json, place: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    items: list[tuple[str | int, Json]] = []
    if isinstance(node, dict):
        items = list(node.items())
    elif isinstance(node, list):
        items = list(enumerate(node))
    for key, value in items:
        yield (*place, key)
        yield from _places(value, (*place, key))


def flipped_bits(content: bytes, choice: random.Random, *, count: int = 1, head: int | None = None) -> bytes:
    """A copy of a file with this many bits flipped at random, in its first `head` bytes.

    Examples:
        >>> flipped_bits(b"\\x00", random.Random(0)) in {bytes([1 << bit]) for bit in range(8)}
        True
    """
    changed = bytearray(content)
    for _ in range(count if content else 0):
        changed[choice.randrange(min(len(content), head or len(content)))] ^= 1 << choice.randrange(8)
    return bytes(changed)


def damaged_texts(text: str, *, seed: int, count: int) -> Iterator[bytes]:
    """A text cut short, with bytes changed, or of another encoding.

    Examples:
        >>> all(isinstance(content, bytes) for content in damaged_texts("a,b", seed=0, count=4))
        True
    """
    choice, content = random.Random(seed), text.encode()
    for _ in range(count):
        changed = bytearray(content)
        match choice.randrange(3):
            case 0:
                changed = changed[: choice.randrange(len(changed) + 1)]
            case 1:
                for _ in range(3):
                    changed[choice.randrange(len(changed))] = choice.randrange(256)
            case _:
                changed = bytearray(json.dumps(choice.choice(HOSTILE)).encode("utf-16"))
        yield bytes(changed)
