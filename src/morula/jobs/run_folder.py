"""The run folder: all files of one run, and the record of how they were made."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, TypeVar

from morula.core.atomic import atomic
from morula.core.errors import FileReadError, FileWriteError, MissingFileError
from morula.core.lock import locked
from morula.core.manifest import LOCK, MANIFEST, check_recorded, is_recorded, recorded, recording, remove_recorded
from morula.core.outputs import check_writable
from morula.core.remedy import OTHER_FOLDER, Remedy
from morula.core.text import unprintable
from morula.jobs.provenance import checksum
from morula.jobs.yaml_lines import dump
from morula.measurement.csv_table import read_table, write_table

if TYPE_CHECKING:
    from morula.jobs.job import Job

OUT_OF_DATE = "out_of_date"
"""Column of scores that are older than the model."""

_TRACES = ("provenance.json", "model/model.json", "logs/training.csv", "report/images.json")
"""Files by which a run is recognised; runs of earlier versions have no manifest, and folders of comparisons have one."""

Content = TypeVar("Content", dict, list)


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run.

    Examples:
        >>> RunFolder(Path("runs/nuclei")).job_file.as_posix()
        'runs/nuclei/job.yaml'
    """

    path: Path

    @property
    def job_file(self) -> Path:
        """The job as resolved, every default written out."""
        return self.path / "job.yaml"

    @property
    def provenance_file(self) -> Path:
        """What the results depend on: see `morula.jobs.provenance`."""
        return self.path / "provenance.json"

    @property
    def model(self) -> Path:
        """Weights and their description."""
        return self.path / "model"

    @property
    def checkpoints(self) -> Path:
        """``last`` to resume from, and ``best``."""
        return self.path / "checkpoints"

    @property
    def logs(self) -> Path:
        """Training table, TensorBoard events, log and previews."""
        return self.path / "logs"

    @property
    def log_file(self) -> Path:
        """Messages of the run, line by line."""
        return self.logs / "log.txt"

    @property
    def events_file(self) -> Path:
        """Every event of the run as one JSON object per line, for programs that follow it."""
        return self.path / "events.jsonl"

    @property
    def predictions(self) -> Path:
        """Predicted channels, when asked for."""
        return self.path / "predictions"

    @property
    def objects(self) -> Path:
        """Label images and one table per image."""
        return self.path / "objects"

    @property
    def tuning(self) -> Path:
        """Settings that the search tried on the validation images."""
        return self.path / "tuning"

    @property
    def associations(self) -> Path:
        """Which objects were found, missed or false: tables and images, per image and threshold."""
        return self.path / "associations"

    @property
    def scores_file(self) -> Path:
        """Scores per image and pooled."""
        return self.path / "scores.csv"

    @property
    def baselines_file(self) -> Path:
        """Scores of classical methods on the same images."""
        return self.path / "baselines.csv"

    @property
    def class_scores_file(self) -> Path:
        """Scores of the classes of objects, per image and pooled."""
        return self.path / "class_scores.csv"

    @property
    def score_files(self) -> tuple[Path, ...]:
        """The tables that describe the objects of the test images."""
        return self.scores_file, self.class_scores_file, self.baselines_file

    @property
    def images_file(self) -> Path:
        """Paths of raw image, truth and result of each image, for the report."""
        return self.path / "report" / "images.json"

    @property
    def stale_file(self) -> Path:
        """Why objects and scores are older than the model or its settings; there is no such file where they are not."""
        return self.path / "report" / "stale.json"

    @property
    def report_file(self) -> Path:
        """The report: the file to open first."""
        return self.path / "report.html"

    @property
    def places(self) -> tuple[Path, ...]:
        """The files and folders that commands write into a run folder that exists: no input may be there."""
        files = (self.job_file, self.provenance_file, self.scores_file, self.baselines_file, self.class_scores_file, self.report_file)
        folders = (self.model, self.checkpoints, self.logs, self.predictions, self.objects, self.tuning, self.associations)
        return (*files, *folders, self.events_file, self.path / MANIFEST, self.path / "report", self.path / "MAE_checks")

    def check_free(self, *, overwrite: bool = False) -> None:
        """Reject a folder that cannot take a new run. Nothing is changed.

        Raises:
            FileWriteError: when it is not empty and `overwrite` is false, when it holds anything that Morula did not write (which is
                never removed), when it is inside a Zarr or N5 folder, or when it cannot be written to.
        """
        container = next((parent for parent in (self.path, *self.path.parents) if parent.suffix.lower() in (".zarr", ".n5")), None)
        if container is not None:  # files in it would be taken for its data sets
            rule = f"cannot be in {container}: such a folder is an image"
            raise FileWriteError("run_folder.in_image", rule, file=self.path, remedy=Remedy(OTHER_FOLDER, "name another folder"))
        try:
            names = {entry.name for entry in self.path.iterdir()} if self.path.exists() else set()
        except OSError as error:
            raise self._not_made(error) from error
        if names - {LOCK} and not overwrite:
            replaced = ["replace it with --overwrite"] if recorded(self.path) is not None else []
            raise FileWriteError(
                "run_folder.not_empty",
                "the run folder is not empty",
                file=self.path,
                remedy=Remedy("resume that run with --resume", *replaced, OTHER_FOLDER, "name another folder"),
            )
        if names - {LOCK}:
            check_recorded(self.path)
        check_writable(self.path / MANIFEST, str(self.path))

    @contextmanager
    def new(self, *, overwrite: bool = False) -> Iterator[RunFolder]:
        """Make the folder, and hold its lock and record its files inside this context. With `overwrite` an earlier run is removed first.

        Raises:
            FileWriteError: as `check_free`, or when another process uses the folder.
        """
        if not (self.path / LOCK).exists():  # else the lock decides: a run in progress is refused as such
            self.check_free(overwrite=overwrite)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._not_made(error) from error
        with self.in_use():
            if overwrite:
                remove_recorded(self.path)
            self.check_free()  # again: another process may have been faster
            yield self

    @contextmanager
    def in_use(self) -> Iterator[RunFolder]:
        """Hold the lock of the folder, and record the files that are written into it, inside this context.

        Raises:
            FileWriteError: when it cannot be written to, or another process uses it.
        """
        check_writable(self.path / MANIFEST, str(self.path))
        with locked(self.path), recording(self.path):
            yield self

    def _not_made(self, error: OSError) -> FileWriteError:
        rule = f"the run folder cannot be made ({error.strerror})"
        return FileWriteError("run_folder.not_made", rule, file=self.path, remedy=Remedy(OTHER_FOLDER, "name another folder"))

    @classmethod
    def existing(cls, path: str | Path) -> RunFolder:
        """The folder of an earlier run.

        Raises:
            MissingFileError: when it is not a run folder.
            FileReadError: when its record is damaged.
        """
        folder = cls(Path(path))
        if recorded(folder.path) is None:  # one that was killed at its very beginning has a manifest and nothing else
            check_is_run(folder.path)
        if not folder.job_file.is_file():
            raise MissingFileError("run_folder.no_job", "is not a run folder: it has no job.yaml", file=path, remedy=_MADE)
        folder.read_provenance()  # commands add to it at their end: they must not fail there
        return folder

    def write_job(self, job: Job) -> Path:
        """Write the resolved job, and its checksum into the record if there is one."""
        document = job.model_dump(mode="json", by_alias=True)
        with atomic(self.job_file) as part:
            part.write_text(dump(document), encoding="utf-8")
        if self.provenance_file.is_file():
            self.write_provenance({"job": checksum(self.job_file)})
        return self.job_file

    def read_images(self) -> list[dict[str, str | None]]:
        """The rows of `images_file`: paths of raw image, truth and result by the name of each image.

        Raises:
            FileReadError: when it is damaged, or a name would lead out of the run folder.
        """
        rows = read_json(self.images_file, list)
        for row in rows:
            texts = row.values() if isinstance(row, Mapping) else [row]
            if not (isinstance(row, Mapping) and isinstance(row.get("name"), str)) or not all(
                text is None or (isinstance(text, str) and not unprintable(text)) for text in texts
            ):
                raise damaged(self.images_file, "its entries must be mappings of texts with a name")
            name = PurePath(row["name"])
            if name.is_absolute() or ".." in name.parts or not name.parts:
                raise damaged(self.images_file, f"the name {row['name']!r} leads out of the run folder")
            if not (row.get("time") or "0").isdecimal():
                raise damaged(self.images_file, f"the time point {row['time']!r} is not a number")
        return [{**row, "prediction": self._own(row.get("prediction"))} for row in rows]

    def _own(self, prediction: str | None) -> str | None:
        """The place of a result in this folder, which may be a copy of the one that was predicted into."""
        _, found, inside = (prediction or "").replace("\\", "/").rpartition("/objects/")
        return str(self.objects / inside) if found and ".." not in inside.split("/") else prediction

    def write_provenance(self, facts: Mapping[str, object], *, step: str | None = None) -> Path:
        """Add facts to the record: those of the training, or of a later step below its name.

        Args:
            facts: entries by name.
            step: ``predict`` or ``tune``, which may run on another machine than the training.
        """
        known = self.read_provenance()
        if step is not None:
            facts = {step: facts}
        with atomic(self.provenance_file) as part:
            part.write_text(json.dumps({**known, **facts}, indent=1), encoding="utf-8")
        return self.provenance_file

    def read_provenance(self) -> dict[str, object]:
        """The record, empty where there is none yet.

        Raises:
            FileReadError: when it is damaged.
        """
        return read_json(self.provenance_file, dict) if self.provenance_file.is_file() else {}

    def mark_stale(self, reason: str) -> bool:
        """Mark the objects and scores of the run, if it has any, as older than its model, until the next prediction.

        The report says so, and each row of the tables of scores gives the reason in its last column.
        """
        if not self.images_file.is_file():
            return False
        for file in self.score_files:
            if is_recorded(self.path, file.name):  # not what somebody changed
                table = read_table(file)
                write_table(file, {**table, OUT_OF_DATE: [reason] * len(next(iter(table.values())))})
        with atomic(self.stale_file) as part:
            part.write_text(json.dumps({"reason": reason}), encoding="utf-8")
        return True

    def write_images(self, rows: Iterable[Mapping[str, object]]) -> Path:
        """Record the paths of raw image, truth and result of each image."""
        self.images_file.parent.mkdir(parents=True, exist_ok=True)
        with atomic(self.images_file) as part:
            part.write_text(json.dumps(list(rows), indent=1), encoding="utf-8")
        return self.images_file


def time_of(row: Mapping[str, str | None]) -> int | None:
    """The time point of an entry of `RunFolder.images_file`; `None` for an image that is no series."""
    time = row.get("time")
    return None if time is None else int(time)


_MADE = "Name a folder that `morula run` or `morula train` made."


def check_is_run(folder: Path) -> None:
    """Reject a folder that no run has written results into. A job file is no proof: users keep theirs in the folders of their projects.

    Raises:
        MissingFileError: ``run_folder.missing`` or ``run_folder.no_run``.
    """
    if not folder.is_dir():
        raise MissingFileError("run_folder.missing", "is not a folder", file=folder, remedy=_MADE)
    if not any((folder / name).is_file() for name in _TRACES):
        raise MissingFileError("run_folder.no_run", "is not a run folder: no run has written into it", file=folder, remedy=_MADE)


def read_json(path: Path, kind: type[Content]) -> Content:
    """The content of a JSON file of a run: a list or a mapping.

    Raises:
        FileReadError: when it is damaged, or not of this kind.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    # ValueError: no JSON, no UTF-8, integers of thousands of digits; RecursionError: thousands of nested lists
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, (str(error).splitlines() or [type(error).__name__])[0][:120]) from error
    if not isinstance(content, kind):
        raise damaged(path, f"it holds a {type(content).__name__}, not a {kind.__name__}")
    return content


def damaged(path: Path, reason: str) -> FileReadError:
    """The error for a file of a run folder that is damaged."""
    remedy = "Copy it again from its source, or delete it and run the command that writes it again."
    return FileReadError("run_folder.damaged_file", f"is damaged: {reason}", file=path, remedy=remedy)
