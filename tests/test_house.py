"""Rules for the whole package: layers, light imports, names, sizes, error codes, and what the README promises."""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import inspect
import json
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import morula

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "morula"
HEAVY = {"torch", "scipy", "napari", "skimage", "numba", "pandas", "lightning_fabric"}


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


def modules_after(code: str) -> set[str]:
    done = python("-c", f"{code}\nimport json, sys; print('\\n' + json.dumps(sorted(sys.modules)))")
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_import_contracts_are_kept() -> None:
    done = python("-c", "from importlinter.cli import lint_imports_command; lint_imports_command()")
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_package_has_the_name_of_a_public_function() -> None:
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")} | {path.stem for path in PACKAGE.glob("*.py")}
    assert not packages & set(morula.__all__)


def test_no_package_for_unrelated_helpers() -> None:
    assert not {"utils", "common", "helpers", "config", "misc"} & {path.stem for path in PACKAGE.rglob("*") if path.suffix in {"", ".py"}}


@pytest.mark.parametrize(
    "code", ["import morula", "import morula.cli", "import morula, morula.losses, morula.nn, morula.methods; dir(morula)"]
)
def test_imports_are_light(code: str) -> None:
    assert not modules_after(code) & HEAVY


def test_commands_are_listed_without_the_packages_that_they_use() -> None:
    unused = {"numpy", "yaml", "pydantic", "zipfile", "morula.core.events", "morula.jobs.run_folder"}
    assert not modules_after("import morula.cli.app") & (HEAVY | unused)


def test_pandas_is_imported_where_a_table_is_made() -> None:
    files = {str(path.relative_to(PACKAGE)): path.read_text("utf-8") for path in PACKAGE.rglob("*.py")}
    early = {name for name, text in files.items() if "\nimport pandas" in text and not name.startswith("viewer/")}
    assert early == {
        "dialects/biapy/results/stack.py",
        "workflows/export.py",
        "workflows/measure.py",
    }  # modules that `morula check` does not import


def test_listing_names_imports_no_torch() -> None:
    code = (
        "from morula.core import Family\nimport importlib, pkgutil, morula\n"
        "packages = [importlib.import_module(m.name) for m in pkgutil.walk_packages(morula.__path__, 'morula.') if m.ispkg]\n"
        "families = [value for package in packages for value in vars(package).values() if isinstance(value, Family)]\n"
        "assert len(families) >= 5\n"
        "[family.options(name) for family in families for name in family.names]"
    )
    assert not modules_after(code) & {"torch", "napari", "lightning_fabric"}


def test_public_names_are_listed_once() -> None:
    assert sorted(morula.__all__) == sorted(name for names in morula._PUBLIC.values() for name in names)
    assert set(morula.__all__) <= set(dir(morula))
    with pytest.raises(AttributeError):
        _ = morula.nothing


@pytest.mark.parametrize("name", morula.__all__)
def test_public_names_are_typed_and_documented(name: str) -> None:
    value = getattr(morula, name)
    assert ">>> " in (inspect.getdoc(value) or ""), f"morula.{name} has no example in its docstring"
    if inspect.isfunction(value):
        hints = value.__annotations__
        assert set(inspect.signature(value).parameters) | {"return"} == set(hints)


def test_each_family_member_can_be_imported() -> None:
    from morula.core import Family

    for place in PACKAGE.rglob("__init__.py"):
        package = importlib.import_module(".".join(("morula", *place.parent.relative_to(PACKAGE).parts)))
        for family in (value for value in list(vars(package).values()) if isinstance(value, Family)):
            for name in family.names:
                assert callable(family.load(name))
                assert family.member(name).summary, f"{family.kind} {name!r} has no summary"


def test_files_are_short() -> None:
    long = {str(path.relative_to(ROOT)): n for path in PACKAGE.rglob("*.py") if (n := len(path.read_text().splitlines())) > 500}
    assert not long


@functools.cache
def errors_in_source() -> list[Any]:
    """All places that make an error, as the reference page of the errors finds them."""
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    hooks = importlib.util.module_from_spec(spec)
    sys.modules["hooks"] = hooks  # dataclasses look their module up there
    spec.loader.exec_module(hooks)
    return list(hooks.errors_in_source())


ERRORS_WITHOUT_CODE = 3
"""Only ever lowered; 0 when all errors have a literal code."""


def test_errors_have_a_literal_code_and_a_rule() -> None:
    wrong = [
        f"{error.file.relative_to(ROOT)}:{error.line}"
        for error in errors_in_source()
        if not re.fullmatch(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*", error.code)
    ]
    assert len(wrong) <= ERRORS_WITHOUT_CODE, "\n".join(wrong)


def test_a_code_means_one_class_of_error() -> None:
    kinds: dict[str, set[str]] = {}
    for error in errors_in_source():
        if error.code and error.kind not in ("JobError", "Problem"):  # a problem has the code of the error that it reports
            kinds.setdefault(error.code, set()).add(error.kind)
    assert not {code: names for code, names in kinds.items() if len(names) > 1}


def test_no_tracked_file_is_large() -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [ROOT / name for name in done.stdout.split("\0") if name]
    limits = {path: 6_000_000 if path.suffix == ".safetensors" else 1_000_000 for path in paths if path.is_file()}
    assert not [str(path) for path, limit in limits.items() if path.stat().st_size > limit]


def test_constraints_pin_names_to_versions_only() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in lines)
    assert "torch==2.13.0" in lines


def cpu_seconds(*arguments: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = python(*arguments)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_is_fast() -> None:
    spent, reference = [], []
    for _ in range(6):
        spent.append(cpu_seconds("-c", "from morula.cli import main; main()", "--help"))
        reference.append(cpu_seconds("-c", "import numpy"))
        # half a second on the machines of today; a slow or busy one is judged by the start of NumPy
        if min(spent) <= max(0.5, 3 * min(reference)):
            break
    assert min(spent) <= max(0.5, 3 * min(reference)), f"--help took {min(spent):.2f} CPU-seconds, NumPy {min(reference):.2f}"


def commands() -> set[str]:
    from typer.main import get_command

    from morula.cli.app import app

    return set(get_command(app).commands)  # type: ignore[attr-defined]


PAGES = ["README.md", "CONTRIBUTING.md", *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").rglob("*.md")))]


def commands_in(markdown: str) -> list[list[str]]:
    """Words of each line in a fenced block and of each inline code, comments left out."""
    blocks = re.findall(r"^```(?:bash|sh|console|text)?\n(.*?)^```", markdown, flags=re.MULTILINE | re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    return [line.split("#")[0].split() for line in lines + re.findall(r"`([^`\n]+)`", markdown)]


def names_after(words: list[str]) -> list[str]:
    """`morula a | b | c` names three commands, `morula a x y` one."""
    names = words[1::2] if set(words[2::2]) == {"|"} else words[1:2]
    return [name for name in names if re.fullmatch(r"[a-z]+", name)]


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_the_docs_exist(page: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    known = {"morula": commands(), "make": targets}
    missing = [
        f"{words[0]} {name}"
        for words in commands_in((ROOT / page).read_text())
        if words and words[0] in known
        for name in names_after(words)
        if name not in known[words[0]]
    ]
    assert not missing


def test_readme_names_the_first_commands() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert "make demo" in lines
    assert "make test" in lines


def asserts(node: ast.AST, helpers: set[str]) -> bool:
    """Whether a function asserts something: itself, through a helper of its file, or by calling a law that is a parameter."""
    called = {inner.func for inner in ast.walk(node) if isinstance(inner, ast.Call)}
    names = {call.attr if isinstance(call, ast.Attribute) else call.id for call in called if isinstance(call, ast.Attribute | ast.Name)}
    laws = {"law", "contract"} & {argument.arg for argument in ast.walk(node) if isinstance(argument, ast.arg)}
    known = names & (helpers | laws | {"raises", "warns"}) or [name for name in names if name.startswith("assert_")]
    return bool(known) or any(isinstance(inner, ast.Assert) for inner in ast.walk(node))


def test_each_test_asserts() -> None:
    silent = []
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        functions = [node for node in ast.parse(file.read_text("utf-8")).body if isinstance(node, ast.FunctionDef)]
        helpers = {node.name for node in functions if not node.name.startswith("test_") and asserts(node, set())}
        silent += [f"{file.name}: {node.name}" for node in functions if node.name.startswith("test_") and not asserts(node, helpers)]
    assert not silent
