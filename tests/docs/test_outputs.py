"""The dictionary of output columns in docs/reference/outputs.md against the columns that the program makes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest

import morula
from morula.decoders.decode import decode_objects
from morula.jobs.run_folder import OUT_OF_DATE, RunFolder
from morula.measurement.statistics import statistics
from morula.methods.class_options import Classes
from morula.methods.classes import class_columns
from morula.metrics.association import false_table, truth_table
from morula.metrics.classes import class_scores
from morula.metrics.image_scores import ImageScores
from morula.metrics.matching import Scores, associate, match
from morula.training.tracking import _FIXED
from morula.workflows.compare import Row
from morula.workflows.differences import object_differences

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "outputs.md").read_text(encoding="utf-8")
LABELS = np.kron(np.array([[1, 0, 2], [1, 0, 2]]), np.ones((4, 4), int)).astype(np.uint16)
VOLUME = np.stack([LABELS] * 4)


def documented(section: str) -> list[str]:
    """Names in the first column of the tables of a section."""
    text = PAGE.split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^\| `([^`]+)` \|", text, flags=re.MULTILINE)


def pattern(name: str) -> re.Pattern[str]:
    """A documented name; what stands in braces is a placeholder."""
    return re.compile("".join(r".+" if part.startswith("{") else re.escape(part) for part in re.split(r"(\{[^}]+\})", name)))


def undocumented(section: str, columns: Iterable[str]) -> list[str]:
    names = [pattern(name) for name in documented(section)]
    return [column for column in columns if not any(name.fullmatch(column) for name in names)]


def object_columns() -> set[str]:
    colours = np.stack([LABELS, 2 * LABELS]).astype(np.float32)
    tables = [
        morula.measure(LABELS, confidence=[1.0, 1.0], intensity=LABELS),
        morula.measure(LABELS, voxel_size=(0.5, 0.5), intensity=colours),
        morula.measure(VOLUME),
        morula.measure(VOLUME, voxel_size={"z": 2, "y": 1, "x": 1, "unit": "um"}),
        morula.filter_objects(LABELS, morula.measure(LABELS), ["voxels < 2"])[1],
    ]
    classes = class_columns(Classes(names=("a", "b")), np.array([1, 1]), np.ones(2), np.array([1, 2]))
    return {column for table in tables for column in table.columns} | set(classes) | {"decoder_confidence", "tta_spread"}


def score_columns() -> set[str]:
    return {"image", *asdict(match(LABELS, LABELS)[0]), *ImageScores.of(LABELS, LABELS).figures(), OUT_OF_DATE}


def test_table_of_objects() -> None:
    columns = object_columns()
    assert not undocumented("Table of objects", columns)
    stale = [name for name in documented("Table of objects") if not any(pattern(name).fullmatch(column) for column in columns)]
    assert not stale


def test_scores() -> None:
    assert not undocumented("scores.csv", score_columns())
    assert {field.name for field in fields(Scores)} <= set(documented("scores.csv"))


@pytest.mark.parametrize("labels", [LABELS, VOLUME])
def test_statistics(labels: np.ndarray) -> None:
    size = {"z": 2, "y": 1, "x": 1, "unit": "um"} if labels.ndim == 3 else {"y": 1, "x": 1, "unit": "um"}
    columns = {column.replace(" (um2)", " (um3)") for column in statistics(labels, size).columns}
    assert not undocumented("NAME_statistics.csv", columns)


def test_class_scores() -> None:
    (row,) = class_scores(np.array([[0, 0], [0, 1]]), ("a",))
    assert {"image", "threshold", *row, OUT_OF_DATE} == set(documented("class_scores.csv"))


def test_associations() -> None:
    table = associate(LABELS, LABELS)
    assert {*truth_table(table), *false_table(table)} == set(documented("associations"))


def test_comparison() -> None:
    assert [field.name for field in fields(Row)] == documented("comparison.csv")


def test_replay() -> None:
    (row,) = object_differences(LABELS > 1, LABELS > 1)
    assert {"image", *row} == set(documented("replay.csv"))


def test_run_folder() -> None:
    folder = RunFolder(Path("run"))
    paths = [getattr(folder, name) for name, value in vars(RunFolder).items() if isinstance(value, property)]
    names = [path.relative_to(folder.path).as_posix() for path in paths if isinstance(path, Path)]
    assert not [name for name in names if not any(entry.startswith(name) or name.startswith(entry) for entry in documented("Run folder"))]


def test_learning_curves() -> None:
    assert set(_FIXED) <= set(documented("training.csv"))


@pytest.mark.parametrize(
    ("decoder", "channels"),
    [("watershed", ["F", "C"]), ("embedseg", ["E"]), ("agglomeration", ["A"]), ("connected_components", ["F"]), ("flows", ["F", "G"])],
)
def test_intermediates(decoder: str, channels: list[str]) -> None:
    objects = decode_objects(morula.encode(LABELS, channels), channels, decoder)
    table = PAGE.split("shows, by decoder:", 1)[1].split("\n## ", 1)[0]
    cells = [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| ")]
    (names,) = [texts for decoders, texts in cells if decoder in decoders.strip().split(", ")]
    assert set(objects.intermediates) <= set(re.findall(r"`(\w+)`", names))
