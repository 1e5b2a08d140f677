"""Bad inputs by the hundred, and the rule that each ends in one error that helps.

A bad input is a damaged, hostile or impossible file: see `morula.testing.bad_images` and `morula.testing.bad_documents`. Reading it must
end within `SECONDS` and `BYTES`, either well or in an error of Morula with a code, the file, the problem and a remedy. The input
is not changed, and nothing is written elsewhere.
"""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from morula.core.errors import InvalidOptionsError, JobError, MorulaError
from morula.io.check import check_image
from morula.io.metadata import collected
from morula.io.read import read, read_labels
from morula.jobs.load import load_job
from morula.jobs.run_folder import RunFolder
from morula.measurement.csv_table import read_table
from morula.models.load import load
from morula.nn.weights import load_state_dict_file
from morula.report.build import write_report
from morula.testing.bad_documents import bad_documents
from morula.testing.bad_images import BadInput, Kind, bad_images

SECONDS = 30.0
BYTES = 2 << 30
Use = Callable[[Path], object]


def bad_inputs(folder: Path, *, seed: int = 0) -> Iterator[BadInput]:
    """All bad inputs, one after the other, written below a folder."""
    yield from bad_images(folder, seed=seed)
    yield from bad_documents(folder, seed=seed)


def use_image(path: Path) -> None:
    """Read all values of an image, as a prediction does."""
    image = read(path)
    check_image(image)
    image.canonical()


def use_labels(path: Path) -> None:
    """Read all ids of a label image, as an evaluation does."""
    read_labels(path).canonical()


def use_run(path: Path) -> None:
    """Read what a run folder of somebody else holds."""
    errors = []
    for step in (RunFolder(path).read_images, lambda: read_table(path / "scores.csv"), lambda: write_report(path)):
        try:
            step()
        except MorulaError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def use_checkpoint(path: Path) -> None:
    """Load a checkpoint of another program as a model, or its weights."""
    try:
        load(path)
    except MorulaError:
        load_state_dict_file(path)
        raise


def use_zarr(path: Path) -> None:
    """Read a Zarr array with this file as its metadata."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, path.name)
        place.mkdir()
        shutil.copyfile(path, place / "zarr.json")
        use_image(place)


USES: dict[str, Use] = {
    "image": use_image,
    "labels": use_labels,
    "job": load_job,
    "model": load,
    "checkpoint": use_checkpoint,
    "run": use_run,
    "table": read_table,
    "zarr": use_zarr,
}
"""What is done with each kind of input."""


def kind_of_file(name: str) -> tuple[Kind, ...]:
    """What a file of this name can be given as; numbers before the name count nothing.

    Examples:
        >>> kind_of_file("job.yaml"), kind_of_file("a.tif"), kind_of_file("coco.json")
        (('job',), ('image', 'labels'), ('labels',))
    """
    kinds: dict[str, tuple[Kind, ...]] = {"zarr.json": ("zarr",), "package.zip": ("model",)}
    by_suffix: dict[str, tuple[Kind, ...]] = {".yaml": ("job",), ".pth": ("checkpoint",), ".csv": ("table",), ".json": ("labels",)}
    return kinds.get(name.lstrip("0123456789_")) or by_suffix.get(Path(name).suffix, ("image", "labels"))


@dataclass(frozen=True)
class Outcome:
    """What reading a bad input led to: the problem of that (empty where there is none), and whether it ended in an error."""

    failure: str
    refused: bool


def attempt(case: BadInput, uses: Mapping[str, Use] = USES) -> Outcome:
    """Read a bad input. Peak memory is that of the process, so that a process of its own, or of few inputs, is needed to see it."""
    before = _contents(case.path.parent)
    surroundings = set(os.listdir())
    peak, began = _peak(), time.monotonic()
    failure, refused = "", False
    try:
        with _limited(SECONDS), collected():
            uses[case.kind](case.path)
        if case.must_fail:
            failure = "accepted"
    except MorulaError as error:
        failure, refused = _defect(error, case.path), True
    except _TooLongError:
        failure = f"not finished after {SECONDS:.0f} s"
    except Exception as error:  # noqa: BLE001 - any other error is what is looked for
        frame = traceback.extract_tb(error.__traceback__)[-1]
        failure = f"{type(error).__name__}: {str(error)[:100]} ({Path(frame.filename).name}:{frame.lineno})"
    if not failure and time.monotonic() - began > SECONDS:
        failure = f"took {time.monotonic() - began:.0f} s"
    if not failure and peak < BYTES <= _peak():
        failure = f"took {_peak() >> 20} MiB"
    if not failure and any(_contents(case.path.parent).get(name) != content for name, content in before.items()):
        failure = "changed its input"
    if not failure and set(os.listdir()) != surroundings:
        failure = f"wrote {sorted(set(os.listdir()) - surroundings)}"
    return Outcome(failure, refused)


def _defect(error: MorulaError, path: Path) -> str:
    """What an error lacks."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError):
            return "ran out of memory"
        cause = cause.__cause__ or cause.__context__
    for problem in error.problems if isinstance(error, JobError | InvalidOptionsError) else [error]:
        if problem.code in ("unclassified", ""):
            return f"an error without code: {problem}"[:200]
        if not problem.remedy:
            return f"an error without remedy: {problem.code}: {problem}"[:200]
        if path.name not in (problem.file or "") and path.name not in str(problem):
            return f"an error without file: {problem.code}: {problem}"[:200]
    return ""


def _contents(folder: Path) -> dict[str, str]:
    """Checksums of the files in a folder; links are not followed."""
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            file = os.path.join(place, name)
            if os.path.isfile(file) and not os.path.islink(file):
                with open(file, "rb") as stream:
                    found[file] = hashlib.file_digest(stream, "sha1").hexdigest()
    return found


def _peak() -> int:
    """Peak memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class _TooLongError(BaseException):
    """Not an `Exception`: the guard around readers must not take it for a damaged file."""


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Interrupt what takes longer."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise _TooLongError

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
