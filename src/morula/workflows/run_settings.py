"""How a command runs a job: what the caller chooses each time, in contrast to the job file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from morula.core.errors import OptionError

if TYPE_CHECKING:
    from morula.jobs.run_folder import RunFolder


def never_stop() -> bool:
    """Train to the end."""
    return False


@dataclass(frozen=True)
class RunSettings:
    """Folder, device and limits of one run.

    Args:
        output: the run folder; ``runs/<name of the job file>`` by default.
        overrides: ``key=value`` texts that override the job.
        resume: continue the run in this folder exactly where it was stopped, with its own job.
        overwrite: replace an earlier run in this folder.
        device: ``auto`` (as the job says), ``cpu``, ``cuda`` or ``mps``.
        memory: limit for prediction, for example ``"8GB"``.
        stop: called after every training step; when it returns true, the state is saved and the training ends.

    Raises:
        OptionError: for `resume` with `overwrite`.

    Examples:
        >>> settings = RunSettings(overrides=["training.epochs=5"], device="cuda")
        >>> settings.folder("jobs/nuclei.yaml").path.as_posix(), settings.job_overrides
        ('runs/nuclei', ['training.epochs=5', 'training.device=cuda'])
    """

    output: str | Path | None = None
    overrides: Sequence[str] = ()
    resume: bool = False
    overwrite: bool = False
    device: str = "auto"
    memory: str | None = None
    stop: Callable[[], bool] = never_stop

    def __post_init__(self) -> None:
        if self.resume and self.overwrite:
            rule = "is given together with overwrite: an earlier run is either continued or replaced"
            raise OptionError("run.resume_and_overwrite", rule, key="resume", remedy="Give one of the two.")

    def folder(self, job: str | Path | Mapping[str, object]) -> RunFolder:
        """The folder of a job."""
        # not at the top: the command line reads this module when it starts, and folders of runs need NumPy and YAML
        from morula.jobs.run_folder import RunFolder

        return RunFolder(default_output(job) if self.output is None else Path(self.output))

    @property
    def job_overrides(self) -> list[str]:
        """The overrides of the job, with that of the device if one was chosen."""
        return [*self.overrides, *([] if self.device == "auto" else [f"training.device={self.device}"])]


def default_output(job: str | Path | Mapping[str, object]) -> Path:
    """``runs/<name of the job file>``.

    Examples:
        >>> default_output("jobs/nuclei.yaml").as_posix()
        'runs/nuclei'
    """
    return Path("runs") / ("job" if isinstance(job, Mapping) else Path(job).stem)


def free_folder(name: str) -> Path:
    """``runs/NAME``, or with a number the first such folder that does not exist yet; an absolute path.

    Examples:
        >>> free_folder("nobody-has-this").name
        'nobody-has-this'
    """
    names = (Path("runs") / (f"{name}-{number}" if number > 1 else name) for number in range(1, 10_000))
    return next(folder for folder in names if not folder.exists()).absolute()
