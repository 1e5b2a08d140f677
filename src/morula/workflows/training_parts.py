"""Parts of a training whose number of steps or schedule was changed when it was resumed, so that `replay` can repeat each as it was.

The learning rates of a part depend on the number of steps that was planned in it, so one training of the final length has others.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass

from morula.core.events import Event, Progress
from morula.jobs.job import Job
from morula.jobs.load import load_job
from morula.jobs.run_folder import RunFolder, damaged
from morula.training.checkpoint import find_checkpoint, load_state_of

_PLANNED = {"epochs", "steps", "schedule"}
"""Settings of a training that may change when it is resumed, and on which the learning rates depend."""


@dataclass(frozen=True)
class TrainingPart:
    """The settings of a part.

    Attributes:
        training: `epochs`, `steps` and `schedule` of the job.
        until: the last step of the part; `None` where it ended by itself.
    """

    training: Mapping[str, object]
    until: int | None = None

    @classmethod
    def of(cls, job: Job, until: int | None = None) -> TrainingPart:
        """The part that a job describes."""
        return cls(job.training.model_dump(mode="json", include=_PLANNED), until)

    @property
    def overrides(self) -> list[str]:
        """The settings as overrides of a job."""
        return [f"training.{name}={json.dumps(value)}" for name, value in self.training.items()]


def earlier_parts(folder: RunFolder, job: Job) -> dict[str, object]:
    """The entry of the record of a run that is resumed: its parts up to here, empty where none has ended.

    Args:
        folder: the run, with its job and its checkpoint of before.
        job: with which the training goes on.
    """
    if not folder.job_file.is_file():
        return {}
    known, before = folder.read_provenance().get("parts", []), load_job(folder.job_file)
    if TrainingPart.of(before) == TrainingPart.of(job):
        return {}
    ended = TrainingPart.of(before, None if (folder.model / "model.json").is_file() else _last_step(folder))
    return {"parts": [*(known if isinstance(known, list) else []), asdict(ended)]}


def _last_step(folder: RunFolder) -> int:
    place = find_checkpoint(folder.checkpoints / "last")
    return 0 if place is None else int(load_state_of(place)["position"]["step"])


def stored_parts(folder: RunFolder) -> list[TrainingPart]:
    """The parts before the last one in the record of a run.

    Raises:
        FileReadError: when the record is damaged.
    """
    entries = folder.read_provenance().get("parts", [])
    if not isinstance(entries, list):
        raise damaged(folder.provenance_file, "parts must be a list")
    for entry in entries:
        sound = isinstance(entry, dict) and isinstance(entry.get("training"), dict) and set(entry["training"]) <= _PLANNED
        if not sound or not isinstance(entry.get("until"), int | None):
            raise damaged(folder.provenance_file, "each of the parts must have training (epochs, steps, schedule) and until (a step)")
    return [TrainingPart(entry["training"], entry["until"]) for entry in entries]


class StopAfter:
    """Stops a training after a step: `reached` is its `stop`, and `read` passes its events on.

    Examples:
        >>> stop = StopAfter(2)
        >>> [stop.reached() for _ in stop.read([Progress(1, 9, "step"), Progress(2, 9, "step")])]
        [False, True]
    """

    def __init__(self, step: int | None) -> None:
        self._step, self._done = step, 0

    def reached(self) -> bool:
        """Whether the step was taken."""
        return self._step is not None and self._done >= self._step

    def read(self, events: Iterable[Event]) -> Iterator[Event]:
        """The events, from which the number of steps is taken."""
        for event in events:
            if isinstance(event, Progress) and event.unit == "step":
                self._done = event.done
            yield event
