"""What happens to the images of a batch that are finished, or that fail."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from morula.core.errors import DataError, MorulaError
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
    """

    resume: bool = False
    skip_existing: bool = False
    keep_going: bool = False

    def keeps(self, labels_file: Path) -> bool:
        """Whether an image has all of its results already, and keeps them."""
        # the record beside the labels is written last
        return (self.resume or self.skip_existing) and split_location(labels_file)[0].exists() and provenance_path(labels_file).exists()


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
