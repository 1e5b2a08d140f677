"""The contents of a run folder, read for a report or a viewer. Any part may be missing: runs fail, or only predict."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from morula.core.errors import FileReadError, MissingFileError
from morula.jobs.run_folder import OUT_OF_DATE, RunFolder, damaged, time_of
from morula.jobs.yaml_lines import parse_documents

Row: TypeAlias = dict[str, str]
"""A row of a CSV file: texts by column."""
Document: TypeAlias = dict[str, Any]
"""The job or the provenance record as read from its file, of this or an older version, so nothing is known about its entries."""


@dataclass(frozen=True)
class RunImage:
    """One image of a run: its name and its files, `None` for those that do not exist."""

    name: str
    raw: Path | None = None
    truth: Path | None = None
    prediction: Path | None = None
    table: Path | None = None
    mask: Path | None = None
    time: int | None = None
    """Time point of the raw image, truth and mask where these are series; the prediction is that of this time point."""


@dataclass(frozen=True)
class RunContents:
    """The texts and tables of a run. `scores`, `baselines` and `training` are rows by column name, as written; `previews` are pictures."""

    path: Path
    job: Document = field(default_factory=dict)
    job_text: str = ""
    provenance: Document = field(default_factory=dict)
    training: list[Row] = field(default_factory=list)
    scores: list[Row] = field(default_factory=list)
    class_scores: list[Row] = field(default_factory=list)
    baselines: list[Row] = field(default_factory=list)
    previews: list[Path] = field(default_factory=list)
    images: list[RunImage] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def has_model(self) -> bool:
        """Whether the training has finished."""
        return (self.path / "model").is_dir()

    def relative(self, file: Path | None) -> str | None:
        """A file of the run as a link from the report; `None` for files elsewhere."""
        if file is None or not file.resolve().is_relative_to(self.path.resolve()):
            return None
        return file.resolve().relative_to(self.path.resolve()).as_posix()


def read_run(run: Path | str) -> RunContents:
    """The texts and tables of a run folder; parts that the run did not write are empty.

    Raises:
        MissingFileError: when there is no such folder.
        FileReadError: when a part is damaged.
    """
    run = Path(run)
    if not run.is_dir():
        raise MissingFileError(
            "run_folder.missing", "is not a folder", file=run, remedy="Name the folder that a run wrote, for example runs/nuclei."
        )
    text = _text(run / "job.yaml")
    return RunContents(
        path=run,
        job=_mapping(run / "job.yaml", text),
        job_text=text,
        provenance=_mapping(run / "provenance.json", _text(run / "provenance.json")),
        training=read_rows(run / "logs" / "training.csv"),
        scores=_scores(run / "scores.csv"),
        class_scores=_scores(run / "class_scores.csv"),
        baselines=_scores(run / "baselines.csv"),
        previews=sorted((run / "logs" / "previews").glob("*.png")),
        images=_images(run),
        warnings=[*_stale(run), *_warnings(run)],
    )


def _stale(run: Path) -> list[str]:
    """The warning that the objects are older than the model, where they are."""
    file = RunFolder(run).stale_file
    if not file.is_file():
        return []
    reason = str(_mapping(file, _text(file)).get("reason", "the run was changed"))
    return [f"Objects and scores are out of date: {reason}. Run `morula predict {run}` again."]


def _warnings(run: Path) -> list[str]:
    """Warnings of a run, each text once: from its events, of older runs from the log."""
    # read here and not by `morula.workflows.log`, which is above this package
    events = _text(run / "events.jsonl")
    if not events:
        found = (re.search(r"\bwarning: (.+)", line) for line in _text(run / "logs" / "log.txt").splitlines())
        return list(dict.fromkeys(match[1].strip() for match in found if match))
    messages = []
    for line in events.splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:  # the last line of a run that was killed
            continue
        if isinstance(record, dict) and record.get("event") == "warned":
            messages.append(str(record.get("message")))
    return list(dict.fromkeys(messages))


def _scores(path: Path) -> list[Row]:
    """Rows of scores. That they are out of date is a warning of the report, see `_stale`."""
    return [{name: value for name, value in row.items() if name != OUT_OF_DATE} for row in read_rows(path)]


def read_rows(path: Path) -> list[Row]:
    """Rows of a CSV file by column name, nothing when there is no such file."""
    text = _text(path)
    try:
        return [{key: value or "" for key, value in row.items() if key is not None} for row in csv.DictReader(text.splitlines())]
    except csv.Error as error:
        raise damaged(path, str(error)) from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") if path.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        remedy = "Copy it again from its source, or delete it and run the command that writes it again."
        raise FileReadError("run_folder.unreadable_file", f"cannot be read: {error}", file=path, remedy=remedy) from error


def _mapping(path: Path, text: str) -> Document:
    """The mapping in a JSON or YAML text; of several documents the last one that is a mapping."""
    if not text.strip():
        return {}
    try:
        found = [json.loads(text)] if path.suffix == ".json" else [document.data for document in parse_documents(text)]
    except (ValueError, RecursionError) as error:  # a JobError is a ValueError
        raise damaged(path, (str(error).splitlines() or [type(error).__name__])[0]) from error
    return next((dict(document) for document in reversed(found) if isinstance(document, Mapping)), {})


def _images(run: Path) -> list[RunImage]:
    """Images listed by the run, else the label images in its folder `objects`."""
    # the list is missing in runs of older versions and in folders that were only filled with label images
    path = run / "report" / "images.json"
    if not path.is_file():
        return [_with_table(run, RunImage(label_name(file), prediction=file)) for file in label_files(run / "objects")]
    keys = ("raw", "truth", "prediction", "table", "mask")
    images = [
        RunImage(str(entry["name"]), **{key: _place(run, entry.get(key)) for key in keys}, time=time_of(entry))
        for entry in RunFolder(run).read_images()
    ]
    return [_with_table(run, image) for image in images]


def _place(run: Path, value: str | None) -> Path | None:
    """A path as listed, relative ones from the run folder; `None` if the file does not exist."""
    path = run / value if value else None
    return path if path is not None and path.exists() else None


def _with_table(run: Path, image: RunImage) -> RunImage:
    table = run / "objects" / f"{image.name}.csv"
    return replace(image, table=table if table.is_file() else None)


def label_files(folder: Path) -> list[Path]:
    """Label images in a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.name.endswith((".tif", ".tiff", ".zarr"))) if folder.is_dir() else []


def label_name(path: Path) -> str:
    """File name without suffixes.

    Examples:
        >>> label_name(Path("objects/cells.ome.zarr")), label_name(Path("a.b.tif"))
        ('cells', 'a.b')
    """
    return path.name.removesuffix(path.suffix).removesuffix(".ome")
