"""What happens to the images of a batch that are finished, or that fail."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from morula.core.errors import DataError, MorulaError, OptionError
from morula.core.events import Event, Warned
from morula.core.location import split_location
from morula.workflows.result_files import provenance_path


@dataclass(frozen=True)
class Batch:
    """How a batch goes on.

    Attributes:
        resume: continue the interrupted command with the same arguments; images that are finished are kept. Unfinished results of a command
            with other arguments are an error, where they would be replaced otherwise.
        skip_existing: keep the results of images that are finished, with whatever arguments.
        keep_going: go on with the next image after one that fails; the command ends with an error at the end.
        shard: share of the work that is done, ``3/16`` for the third of 16 tasks, which may run at the same time, also on several
            computers. Images that are larger than the memory are shared in blocks, all others one by one.
        merge: finish what the tasks have begun: labels and tables of the images that they shared, and the tables of all images.
    """

    resume: bool = False
    skip_existing: bool = False
    keep_going: bool = False
    shard: str | None = None
    merge: bool = False

    def __post_init__(self) -> None:
        if self.shard is not None and not 1 <= self.share[0] <= self.share[1]:
            rule, remedy = "must be the number of a task and how many there are", "Write for example 3/16, counted from 1."
            raise OptionError("batch.shard", rule, key="shard", value=self.shard, remedy=remedy)

    @property
    def share(self) -> tuple[int, int]:
        """Number of the task, and how many there are."""
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", self.shard or "")
        return (0, 0) if found is None else (int(found[1]), int(found[2]))

    def chosen(self, names: Sequence[str]) -> set[str]:
        """The images of this task, by name."""
        number, count = self.share
        return set(names) if self.shard is None else set(names[number - 1 :: count])

    def keeps(self, labels_file: Path) -> bool:
        """Whether an image has all of its results already, and keeps them."""
        return (self.resume or self.skip_existing) and finished(labels_file)


def finished(labels_file: Path) -> bool:
    """Whether all results of an image are written."""
    # the record beside the labels is written last
    return split_location(labels_file)[0].exists() and provenance_path(labels_file).exists()


@dataclass
class Failures:
    """Images that failed, with the errors."""

    errors: dict[str, MorulaError] = field(default_factory=dict)

    def add(self, name: str, error: MorulaError) -> None:
        """Note an image."""
        self.errors[name] = error

    def passing(self, name: str, steps: Iterator[Event], *, keep_going: bool) -> Iterator[Event]:
        """The events of an image; with `keep_going` an error ends them with a warning."""
        try:
            yield from steps
        except MorulaError as error:
            if not keep_going:
                raise
            self.add(name, error)
            yield Warned(error.code, f"{name} failed: {error}")

    def check(self, total: int) -> None:
        """Raise when an image failed.

        Raises:
            DataError: ``batch.failed``, with all errors.
        """
        if self.errors:
            rule = f"failed, {len(self.errors)} of {total} images:\n" + "\n".join(f"  {error}" for error in self.errors.values())
            remedy = "Correct or remove these files and give the command again with --skip-existing, which keeps what is finished."
            raise DataError("batch.failed", rule, key="images", value=", ".join(self.errors), remedy=remedy)
