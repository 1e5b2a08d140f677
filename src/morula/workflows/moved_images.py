"""A run whose images were moved: it continues with the places that the given job file names, when the files are the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from morula.core.errors import JobError, MorulaError, Problem
from morula.core.outputs import input_places
from morula.jobs.inputs import images_of
from morula.jobs.job import Job, Source
from morula.jobs.load import load_job
from morula.jobs.provenance import checksum, place_of
from morula.jobs.run_folder import RunFolder

_KEYS = ("train", "validate_", "test")


def with_moved_images(stored: Job, folder: RunFolder, job: str | Path | Mapping[str, Any]) -> Job:
    """The job of a run, with the images of the job file that was given where those of the run are not there any more.

    Raises:
        JobError: when files are missing and the given job file does not name them, or names others.
    """
    missing = [place for place in images_of(stored) if not any(path.exists() for path in input_places(place))]
    if not missing:
        return stored
    try:
        given = load_job(job).images
    except MorulaError:  # of another program, or of several stages: its paths cannot be taken over
        given = stored.images
    images = stored.images
    for name in _KEYS:
        before, now = getattr(images, name), getattr(given, name)
        if isinstance(before, Source) and isinstance(now, Source):
            places = {key: getattr(now, key) for key in ("raw", "labels", "classes", "mask", "weights") if getattr(before, key) is not None}
            images = images.model_copy(update={name: before.model_copy(update=places)})
    moved = stored.model_copy(update={"images": images})
    _check_present(moved, folder)
    _check_same(moved, folder)
    return moved


def _check_present(job: Job, folder: RunFolder) -> None:
    problems = []
    for place in images_of(job):
        if not any(path.exists() for path in input_places(place)):
            remedy = f"Correct the path in {folder.job_file}, or resume with a job file that names its new place."
            rule = f"the run needs {place}, which does not exist"
            problems.append(Problem("images", rule, code="resume.images_missing", file=str(folder.job_file), remedy=remedy))
    if problems:
        raise JobError(problems)


def _check_same(job: Job, folder: RunFolder) -> None:
    """A training continues only on the files that it began with: those of the same names have the same checksums."""
    try:
        known: dict[str, str] = json.loads(folder.provenance_file.read_text(encoding="utf-8")).get("inputs", {})
    except (OSError, ValueError):
        return
    there: dict[str, list[Path]] = {}
    for place in images_of(job):
        for path in input_places(place):
            there.setdefault(path.name, []).append(path)
    # a file of images and a file of labels may have the same name, so one of them has to fit
    other = [file for file, digest in known.items() if all(checksum(path) != digest for path in there.get(place_of(file).name, []))]
    if other:
        rule = f"was changed since the run began, or no longer exists: {Path(other[0]).name}"
        remedy = f"Name the original files in {folder.job_file}, or start a new run."
        raise JobError([Problem("images", rule, code="resume.other_images", file=str(folder.job_file), remedy=remedy)])
