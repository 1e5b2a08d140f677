"""Folders of a run by BiaPy's command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from morula.core.manifest import is_result


@dataclass(frozen=True)
class Experiment:
    """Folders of one run of an experiment.

    Examples:
        >>> Experiment(Path("out"), "nuclei", 2).run_folder.as_posix()
        'out/nuclei/results/nuclei_2'
    """

    result_dir: Path
    name: str
    run_id: int = 1

    @property
    def folder(self) -> Path:
        """Folder of all runs of the experiment."""
        return self.result_dir / self.name

    @property
    def identifier(self) -> str:
        """Name of the run."""
        return f"{self.name}_{self.run_id}"

    @property
    def run_folder(self) -> Path:
        """Folder of the run."""
        return self.folder / "results" / self.identifier

    @property
    def written_checkpoint(self) -> Path:
        """File of the best weights of this run, with BiaPy's names."""
        return self.folder / "checkpoints" / f"{self.identifier}-checkpoint-best.pth"

    @property
    def checkpoint(self) -> Path | None:
        """What an earlier run of this name and number has trained: a checkpoint of BiaPy, or a model folder; `None` where there is none."""
        stored = self.written_checkpoint
        model = self.run_folder / "model"
        # a checkpoint of BiaPy goes before a model folder, which goes before the checkpoint that was written from it
        if stored.is_file() and not is_result(stored):
            return stored
        return model if (model / "model.json").is_file() else stored if stored.is_file() else None
