"""The run folder: where everything of one run lies, and the record of how it was made."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from morula.core.atomic import atomic
from morula.core.errors import FileWriteError, MissingFileError

_PACKAGES = ("morula", "torch", "numpy", "scipy", "scikit-image", "numba", "lightning-fabric", "zarr", "tifffile")


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
        """Inputs' checksums, versions, device, seed, hash of the weights."""
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
        """What the run told, line by line."""
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
        """Label images and a table an image."""
        return self.path / "objects"

    @property
    def tuning(self) -> Path:
        """Settings that were tried on the validation images."""
        return self.path / "tuning"

    @property
    def associations(self) -> Path:
        """What became of each object, tables and images an image and threshold."""
        return self.path / "associations"

    @property
    def scores_file(self) -> Path:
        """Scores an image and pooled."""
        return self.path / "scores.csv"

    @property
    def baselines_file(self) -> Path:
        """Scores of plain methods on the same images."""
        return self.path / "baselines.csv"

    @property
    def class_scores_file(self) -> Path:
        """Scores of the classes of objects, an image and pooled."""
        return self.path / "class_scores.csv"

    @property
    def images_file(self) -> Path:
        """Which raw image, truth and result belong together, for the report."""
        return self.path / "report" / "images.json"

    @property
    def report_file(self) -> Path:
        """Read this."""
        return self.path / "report.html"

    def create(self, *, overwrite: bool = False) -> RunFolder:
        """Make the folder. With `overwrite` a former run in it is removed first; anything that is no run is never touched.

        Raises:
            FileWriteError: when it holds something already, or cannot be made.
        """
        try:
            if self.path.exists() and any(self.path.iterdir()):
                if not (overwrite and self.job_file.is_file()):
                    raise FileWriteError(
                        f"the run folder {str(self.path)!r} is not empty. Resume that run with --resume, replace it with --overwrite "
                        "(a former run only), or name another folder with --output."
                    )
                shutil.rmtree(self.path)
            self.path.mkdir(parents=True, exist_ok=True)
        except FileWriteError:
            raise
        except OSError as error:
            raise FileWriteError(
                f"the run folder {str(self.path)!r} cannot be made ({error.strerror}). Name another with --output."
            ) from error
        return self

    @classmethod
    def existing(cls, path: str | Path) -> RunFolder:
        """The folder of a run that was made.

        Raises:
            MissingFileError: when it is no run folder.
        """
        folder = cls(Path(path))
        if not folder.job_file.is_file():
            raise MissingFileError(
                f"{str(path)!r} is no run folder: it has no job.yaml. Name a folder that `morula run` or `morula train` made."
            )
        return folder

    def write_job(self, job: Any) -> Path:
        """Write the resolved job."""
        document = job.model_dump(mode="json", by_alias=True)
        with atomic(self.job_file) as part:
            part.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120), encoding="utf-8")
        return self.job_file

    def write_provenance(self, facts: Mapping[str, Any]) -> Path:
        """Add facts to the record; the environment is always in it."""
        known = json.loads(self.provenance_file.read_text(encoding="utf-8")) if self.provenance_file.is_file() else {}
        record = {**known, "environment": environment(), "written": datetime.now(UTC).isoformat(timespec="seconds"), **facts}
        with atomic(self.provenance_file) as part:
            part.write_text(json.dumps(record, indent=1), encoding="utf-8")
        return self.provenance_file

    def write_images(self, rows: Iterable[Mapping[str, Any]]) -> Path:
        """Note which raw image, truth and result belong together."""
        self.images_file.parent.mkdir(parents=True, exist_ok=True)
        with atomic(self.images_file) as part:
            part.write_text(json.dumps(list(rows), indent=1), encoding="utf-8")
        return self.images_file


def environment() -> dict[str, str]:
    """Versions and machine."""
    found = {"python": sys.version.split()[0], "system": platform.platform(), "processor": platform.machine()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def checksum(path: str | Path) -> str:
    """SHA-256 of a file, or of the names and contents of all files in a folder.

    Examples:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     checksum(file.name)[:12]
        'e3b0c44298fc'
    """
    path = Path(path)
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for inner in sorted(inner for inner in path.rglob("*") if inner.is_file()):
        digest.update(inner.relative_to(path).as_posix().encode() + bytes.fromhex(checksum(inner)))
    return digest.hexdigest()
