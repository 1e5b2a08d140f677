"""The results in a run folder: what a prediction may replace, and what it removes."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from morula import report
from morula.core.errors import FileWriteError
from morula.core.events import Artefact, Event, FileWritten, Warned
from morula.core.manifest import discard, discard_own, is_own, recorded
from morula.jobs.run_folder import RunFolder
from morula.workflows.experiment import EXPERIMENT, SUMMARY
from morula.workflows.result_files import raw_labels_path


def discard_results(folder: RunFolder, label_files: Iterable[Path]) -> None:
    """Remove what describes the objects of before: their scores, and the labels before post-processing of the images that are predicted."""
    discard(folder.path, "associations", EXPERIMENT, SUMMARY, *(file.name for file in folder.score_files))
    for labels_file in label_files:
        earlier = raw_labels_path(labels_file)
        if not discard_own(earlier) and recorded(folder.path) is None:
            earlier.unlink(missing_ok=True)  # of a run without manifest; `evaluate` would score it


def check_results(folder: RunFolder, outputs: Iterable[Path]) -> None:
    """Reject a prediction that would replace results that were changed since they were written, such as corrected labels.

    Raises:
        FileWriteError: ``output.not_own``.
    """
    known = recorded(folder.path) or {}
    for file in outputs:
        name = file.relative_to(folder.path).as_posix()
        # results of an earlier version are in no manifest; that of a later training has all files of the run
        unknown = name not in known and "job.yaml" not in known
        if os.path.lexists(file) and not unknown and not is_own(folder.path, name, known):
            rule = "was changed since Morula wrote it, or was not written by Morula, so it is not replaced"
            raise FileWriteError("output.not_own", rule, file=file, remedy="Move it out of the run, or delete it yourself.")


def remove_stale(folder: RunFolder, written: Collection[Path]) -> Iterator[Event]:
    """Remove results that the last prediction did not write, such as those of images that the job no longer names; warn where they stay."""
    known = recorded(folder.path) or {}
    current, changed = {file.relative_to(folder.path).as_posix() for file in written}, []
    for name in known:
        stale = name.partition("/")[0] in ("objects", "predictions") and name not in current and os.path.lexists(folder.path / name)
        if stale and not discard(folder.path, name):
            changed.append(name)
    if changed:
        text = f"earlier results were changed since they were written, so they are kept: {', '.join(changed[:5])}"
        yield Warned("predict.stale_results", f"{text}{' and more' if len(changed) > 5 else ''}")


def report_again(folder: RunFolder) -> Iterator[Event]:
    """Write the report of a run again where it has one; one that somebody else wrote or changed stays, with a warning."""
    if not folder.report_file.is_file():
        return
    try:
        yield FileWritten(report.build.write_report(folder.path), Artefact.REPORT, task=("report",), run=str(folder.path))
    except FileWriteError as error:
        if error.code != "output.not_own":
            raise
        yield Warned("report.not_own", f"{folder.report_file} {error.rule}; it does not show these results", run=str(folder.path))
