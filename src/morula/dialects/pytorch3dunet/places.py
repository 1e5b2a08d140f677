"""The folders that a job file of pytorch-3dunet names. Needs no torch."""

from __future__ import annotations

from pathlib import Path

from morula.jobs.yaml_lines import read_documents

LAST, RUN = "last_checkpoint.pytorch", "run"
"""Names of the checkpoint to continue from and of the run folder, in the folder of the checkpoints."""


def checkpoint_folder(job: str | Path) -> Path | None:
    """The folder ``trainer.checkpoint_dir``, relative to the current folder as in the original; `None` for a job without one.

    Raises:
        MissingFileError: when there is no such file.
        JobError: when it is no YAML.
    """
    data = read_documents(job)[0].data
    trainer = data.get("trainer") if isinstance(data, dict) else None
    place = trainer.get("checkpoint_dir") if isinstance(trainer, dict) else None
    return Path(place).expanduser() if isinstance(place, str) else None


def run_folder_of(job: str | Path) -> Path | None:
    """The run folder that a training writes; `None` for a job that predicts. Errors as of `checkpoint_folder`."""
    folder = checkpoint_folder(job)
    return None if folder is None else folder / RUN
