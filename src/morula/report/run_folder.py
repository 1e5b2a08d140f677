"""What a run folder holds, read for a report or a viewer. Everything may be missing: runs fail, or only predict."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from morula.core.errors import FileReadError, MissingFileError

Row = dict[str, str]


@dataclass(frozen=True)
class RunImage:
    """One image of a run: its name and where its parts lie, `None` where there are none."""

    name: str
    raw: Path | None = None
    truth: Path | None = None
    prediction: Path | None = None
    table: Path | None = None
    mask: Path | None = None


@dataclass(frozen=True)
class RunFolder:
    """The texts and tables of a run. `scores`, `baselines` and `training` are rows by column name, as written; `previews` are pictures."""

    path: Path
    job: dict[str, Any] = field(default_factory=dict)
    job_text: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)
    training: list[Row] = field(default_factory=list)
    scores: list[Row] = field(default_factory=list)
    class_scores: list[Row] = field(default_factory=list)
    baselines: list[Row] = field(default_factory=list)
    previews: list[Path] = field(default_factory=list)
    images: list[RunImage] = field(default_factory=list)
    log: list[str] = field(default_factory=list)


def read_run(run: Path | str) -> RunFolder:
    """The texts and tables of a run folder; parts that the run did not write are empty.

    Raises:
        MissingFileError: when there is no such folder.
        FileReadError: when a part is damaged.
    """
    run = Path(run)
    if not run.is_dir():
        raise MissingFileError(f"{run} is not a run folder. Give the folder that a run wrote, for example runs/nuclei.")
    text = _text(run / "job.yaml")
    return RunFolder(
        path=run,
        job=_mapping(run / "job.yaml", text),
        job_text=text,
        provenance=_mapping(run / "provenance.json", _text(run / "provenance.json")),
        training=read_rows(run / "logs" / "training.csv"),
        scores=read_rows(run / "scores.csv"),
        class_scores=read_rows(run / "class_scores.csv"),
        baselines=read_rows(run / "baselines.csv"),
        previews=sorted((run / "logs" / "previews").glob("*.png")),
        images=_images(run),
        log=_text(run / "logs" / "log.txt").splitlines(),
    )


def read_rows(path: Path) -> list[Row]:
    """Rows of a CSV file by column name, nothing when there is no such file."""
    text = _text(path)
    return [{key: value or "" for key, value in row.items() if key is not None} for row in csv.DictReader(text.splitlines())]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") if path.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise FileReadError(f"{path} cannot be read: {error}") from error


def _mapping(path: Path, text: str) -> dict[str, Any]:
    """The mapping in a JSON or YAML text; of several documents the last one that is a mapping."""
    try:
        found = [json.loads(text)] if path.suffix == ".json" and text else list(yaml.safe_load_all(text))
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        raise FileReadError(f"{path} is damaged: {error}") from error
    return next((dict(document) for document in reversed(found) if isinstance(document, Mapping)), {})


def _images(run: Path) -> list[RunImage]:
    """Images listed by the run, else the label images that lie in its `objects` folder."""
    path = run / "report" / "images.json"
    text = _text(path)
    if not text:
        return [_with_table(run, RunImage(label_name(file), prediction=file)) for file in label_files(run / "objects")]
    try:
        entries = json.loads(text)
        keys = ("raw", "truth", "prediction", "table", "mask")
        images = [RunImage(entry["name"], *(_place(run, entry.get(key)) for key in keys)) for entry in entries]
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise FileReadError(f"{path} is damaged: {error!r}. Evaluate the run again.") from error
    return [_with_table(run, image) for image in images]


def _place(run: Path, value: str | None) -> Path | None:
    """A path as listed, relative ones from the run folder; `None` when nothing lies there (any more)."""
    path = run / value if value else None
    return path if path is not None and path.exists() else None


def _with_table(run: Path, image: RunImage) -> RunImage:
    table = run / "objects" / f"{image.name}.csv"
    return replace(image, table=table if table.is_file() else None)


def label_files(folder: Path) -> list[Path]:
    """Label images in a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.name.endswith((".tif", ".tiff", ".zarr"))) if folder.is_dir() else []


def label_name(path: Path) -> str:
    """File name without its endings.

    Examples:
        >>> label_name(Path("objects/cells.ome.zarr")), label_name(Path("a.b.tif"))
        ('cells', 'a.b')
    """
    return path.name.removesuffix(path.suffix).removesuffix(".ome")
