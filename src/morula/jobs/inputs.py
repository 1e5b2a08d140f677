"""The files and folders that a job reads, and the check that its run does not write over them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from morula.core.errors import FileWriteError
from morula.core.outputs import Destination, check_apart
from morula.core.remedy import OTHER_FOLDER, Remedy
from morula.jobs.bundled import place_of
from morula.jobs.job import Job, Source
from morula.jobs.run_folder import RunFolder
from morula.nn.options import AUTO


def inputs_of(job: Job) -> Iterator[str]:
    """Images, labels, classes, masks and weights of a job, and the weights that it starts from."""
    yield from images_of(job)
    if job.network.from_ not in (None, AUTO):
        yield str(place_of(str(job.network.from_)))


def images_of(job: Job) -> Iterator[str]:
    """Images, labels, classes, masks and weights of voxels of a job."""
    images = job.images
    for source in (images.train, images.validate_, images.test):
        if isinstance(source, Source):
            for place in (source.raw, source.labels, source.classes, source.mask, source.weights):
                yield from (place,) if isinstance(place, str) else place or ()


def check_new_run(folder: RunFolder, job: Job, source: str | Path | Mapping[str, Any]) -> None:
    """Check a run folder before a new run: it holds no input and is in none, and it is not a file.

    Args:
        folder: the run folder.
        job: the job, with absolute paths.
        source: the job file, or the mapping that the job was made of.

    Raises:
        FileWriteError: with the code of what is wrong.
    """
    inputs = [*inputs_of(job), *([] if isinstance(source, Mapping) else [str(source)])]
    check_apart([Destination(folder.path), *stored_inputs(job)], inputs)
    if folder.path.exists() and not folder.path.is_dir():
        raise FileWriteError(
            "run_folder.is_file", "is a file, not a folder", file=folder.path, remedy=Remedy(OTHER_FOLDER, "name another folder")
        )


def check_run_again(folder: RunFolder, job: Job) -> None:
    """Check a run that is continued: none of the files that its commands write is an input.

    Raises:
        FileWriteError: ``output.is_input``, ``output.contains_input`` or ``output.inside_input``.
    """
    check_apart([*map(Destination, folder.places), *stored_inputs(job)], inputs_of(job))


def stored_inputs(job: Job) -> list[Destination]:
    """The folder that a method keeps computed images in, if the job names one."""
    folder = getattr(job.method, "folder", None)
    return [Destination(Path(folder), folder, "method.folder")] if isinstance(folder, str) else []
