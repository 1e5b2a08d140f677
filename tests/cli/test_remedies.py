"""Every option that a remedy names exists in the command that prints it."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
import typer
from typer.testing import CliRunner

from morula.cli.app import app
from morula.cli.command import options_of, takes_job
from morula.core.remedy import Remedy, fitting, options_in

PACKAGE = Path(__file__).parents[2] / "src" / "morula"
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
OF_ONE_COMMAND = {
    "cli/new.py": ["new"],
    "workflows/batch.py": ["segment"],
    "workflows/questions.py": ["new", "segment"],
    "workflows/choose_model.py": ["segment"],
    "workflows/segment.py": ["segment"],
    "workflows/segment_blocks.py": ["segment"],
    "workflows/time_series.py": ["segment"],
    "workflows/unfinished_batch.py": ["segment"],
    "workflows/cluster.py": ["segment"],
    "workflows/shares.py": ["segment"],
    "dialects/convert.py": ["convert"],
    "jobs/load.py": ["run", "train", "check"],
    "dialects/verbs.py": ["run", "train", "check"],
    "dialects/biapy/experiment.py": ["run"],
    "dialects/biapy/folds.py": ["run"],
    "cli/info.py": ["info"],
    "dialects/pytorch3dunet/replay.py": ["replay"],
    "training/state.py": ["run", "train"],
}
"""Commands that reach the texts of a module; other texts with options must be remedies that each command can reduce."""


QUOTED, AT_START = re.compile(r"`morula ([a-z0-9]+)([^`\n]*)"), re.compile(r"^morula ([a-z0-9]+)([^`\n]*--[^`\n]*)")
DEFINE_OPTIONS = (
    "core/remedy.py",
    "workflows/slurm.py",
    *(f"cli/{name}.py" for name in ("app", "options", "biapy", "export", "pytorch3dunet", "segment")),
)


def texts(node: ast.AST) -> Iterator[tuple[str, int]]:
    """Strings, the parts of f-strings joined, with their lines."""
    if isinstance(node, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else "X" for part in node.values)
        yield "".join(map(str, parts)), node.lineno
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value, node.lineno
    else:
        for child in ast.iter_child_nodes(node):
            yield from texts(child)


def calls(tree: ast.AST, name: str) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name]


def documentation(tree: ast.AST) -> set[int]:
    """Lines of docstrings."""
    bodies = (getattr(node, "body", None) for node in ast.walk(tree))
    statements = [each for body in bodies if isinstance(body, list) for each in body if isinstance(each, ast.Expr)]
    return {line for each in statements if isinstance(each.value, ast.Constant) for line in range(each.lineno, (each.end_lineno or 0) + 1)}


@functools.cache
def modules() -> list[tuple[str, ast.Module]]:
    found = ((path, path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py")))
    return [(path.relative_to(PACKAGE).as_posix(), ast.parse(text)) for path, text in found if re.search(r"(?<![\w-])--[a-z]", text)]


@functools.cache
def alternatives() -> list[tuple[str, list[str]]]:
    """The texts of each remedy with alternatives, by module."""
    made = [(module, call) for module, tree in modules() for call in calls(tree, "Remedy")]
    return [(module, ["".join(text for text, _ in texts(argument)) or "do it" for argument in call.args]) for module, call in made]


def remedies(tree: ast.AST) -> set[int]:
    """Lines of texts that commands reduce to the options that they have."""
    found = {line for call in calls(tree, "Remedy") for _, line in texts(call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):  # lists of more alternatives, and texts with several ways to write something
            found |= {line for text, line in texts(node.value) if "; --" in text or isinstance(node.value, ast.List | ast.IfExp)}
    return found


def test_other_texts_name_options_of_their_commands() -> None:
    unknown = []
    for module, tree in modules():
        if module in DEFINE_OPTIONS or "/table/" in module:
            continue
        known = {option for name in OF_ONE_COMMAND.get(module, ()) for option in options_of(COMMANDS[name])}
        allowed = remedies(tree) | documentation(tree)
        found = [(text, line) for text, line in texts(tree) if line not in allowed and not text.startswith("morula ")]
        unknown += [f"{module}:{line}: {option}" for text, line in found for option in options_in(text) if option not in known]
    assert not unknown


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_each_command_names_options_that_it_has(command: str) -> None:
    options = options_of(COMMANDS[command])
    for module, parts in alternatives():
        shown = fitting(Remedy(*parts), options, takes_job=takes_job(COMMANDS[command]))
        assert set(options_in(shown)) <= options, (module, shown)


def test_quoted_commands_have_their_options() -> None:
    for module, tree in modules():
        for text, line in texts(tree):
            for name, rest in QUOTED.findall(text) + AT_START.findall(text):
                assert name in COMMANDS, (module, line)
                assert set(options_in(rest)) <= options_of(COMMANDS[name]), (module, line, rest)


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """A time series."""
    tifffile.imwrite(tmp_path / "t.tif", np.zeros((3, 16, 16), np.uint16), imagej=True, metadata={"axes": "TYX"})
    return tmp_path / "t.tif"


def test_the_same_fault_in_several_commands(series: Path, tmp_path: Path) -> None:
    labels = tmp_path / "plane.tif"
    tifffile.imwrite(labels, np.zeros((16, 16), np.uint16))
    images = f"images: {{train: {{raw: {series}, labels: {labels}}}}}"
    new = ["new", str(tmp_path / "new.yaml"), "--raw", str(series), "--labels", str(labels), "-y", "--trial", "0"]
    (tmp_path / "job.yaml").write_text(f"{images}\nmethod: {{kind: channels, channels: [F, C]}}\n")
    for call, expected, other in (
        (new, "--time 0", "time=0"),
        (["check", str(tmp_path / "job.yaml"), "--no-prove"], "images.time", "--time"),
    ):
        result = CliRunner().invoke(app, call)
        assert result.exit_code == 1
        assert expected in result.output
        assert other not in result.output
