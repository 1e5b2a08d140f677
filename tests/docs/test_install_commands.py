"""What the documentation, the notebooks and the error messages tell users to install can be installed; `.ci/release` tries it with pip."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def name_of(requirement: str) -> str:
    return re.split(r"[<>=!~\[; ]", requirement)[0].lower().replace("_", "-")


def problems(command: str) -> list[str]:
    """What is wrong with a `pip install` command, without running it."""
    found, words = [], iter(shlex.split(command)[2:])
    known = {name_of(each) for group in [PROJECT["dependencies"], *EXTRAS.values()] for each in group}
    for word in words:
        if word in ("-c", "-r"):
            file = next(words)
            found += [] if (ROOT / file).is_file() else [f"there is no file {file}"]
        elif word == "." or word.endswith("/"):
            found += [] if (ROOT / word / "pyproject.toml").is_file() else [f"{word} is no project"]
        elif name_of(word) == "morula":
            extras = re.findall(r"[\w-]+", word.partition("[")[2])
            found += [f"there is no extra {extra}" for extra in extras if extra not in EXTRAS]
        elif word.startswith("-") or name_of(word) not in known:
            found.append(f"{word} is no dependency of Morula")
    return found


def test_pip_commands_name_what_exists() -> None:
    commands = list(runpy.run_path(str(ROOT / "release/install_commands.py"))["commands"]())
    assert ("README.md", "pip install .") in [(path.name, command) for path, command in commands]
    wrong = {f"{path.relative_to(ROOT)}: {command}": problems(command) for path, command in commands}
    assert {place: found for place, found in wrong.items() if found} == {}


def test_wrong_commands_are_found() -> None:
    assert problems("pip install 'morula[fromats]'") == ["there is no extra fromats"]
    assert problems("pip install -c constraint.txt .") == ["there is no file constraint.txt"]
    assert problems("pip install tensorbord") == ["tensorbord is no dependency of Morula"]


def test_commands_of_builders_name_files_that_exist() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "release").glob("*")]
    lines = [line.lstrip("# ") for page in pages if page.is_file() for line in page.read_text("utf-8").splitlines()]
    files = [word for line in lines if line.startswith(("docker ", "apptainer ")) for word in line.split() if word.startswith("release/")]
    assert {"release/Dockerfile", "release/morula.def"} <= set(files)
    assert all((ROOT / file).is_file() for file in files)


def test_containers_copy_what_the_build_needs() -> None:
    needed = {"pyproject.toml", PROJECT["readme"], *PROJECT["license-files"], "src", "constraints.txt"}
    for file in ("release/Dockerfile", "release/morula.def"):
        text = (ROOT / file).read_text("utf-8")
        assert {name for name in needed if re.search(rf"\b{re.escape(name)}\b", text)} == needed
    classifiers = [each.rpartition(" ")[2] for each in PROJECT["classifiers"] if "Python :: 3." in each]
    image = re.search(r"python:(3\.\d+)-slim", (ROOT / "release/Dockerfile").read_text("utf-8"))
    assert image is not None
    assert image[1] in classifiers


def test_the_conda_recipe_has_the_dependencies_of_the_package() -> None:
    recipe = yaml.safe_load((ROOT / "release/conda/recipe.yaml").read_text("utf-8"))
    conda = dict(each.split(" ", 1) for each in recipe["requirements"]["run"])
    assert conda.pop("python") == ">=${{ python_min }}"
    pip = {name_of(each).replace("torch", "pytorch"): re.sub(r"^[\w-]+", "", each) for each in PROJECT["dependencies"]}
    assert conda == pip
    assert recipe["context"]["version"] == PROJECT["version"]
    assert recipe["build"]["python"]["entry_points"] == [f"{name} = {target}" for name, target in PROJECT["scripts"].items()]


def test_versions_agree() -> None:
    import morula

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert morula.__version__ == PROJECT["version"] == str(citation["version"])
    assert citation["license"] == PROJECT["license"]


def test_the_wheel_is_checked_against_the_files_of_the_repository(tmp_path: Path) -> None:
    import zipfile

    check = runpy.run_path(str(ROOT / "release/check_wheel.py"))
    with zipfile.ZipFile(tmp_path / "morula.whl", "w") as wheel:
        wheel.writestr("morula/__init__.py", "")
    try:
        absent = check["missing"](tmp_path / "morula.whl")
    except (OSError, subprocess.CalledProcessError):  # an installation without the repository
        return
    assert "morula/report/page.html" in absent
    assert "morula/__init__.py" not in absent
