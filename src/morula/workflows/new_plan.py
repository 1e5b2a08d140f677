"""The plan of a new job: what it is made of in words, and as a job file with comments."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from morula.core.atomic import atomic
from morula.core.manifest import RESULTS, recording
from morula.core.outputs import Destination, check_outputs
from morula.data.summary import DataSummary
from morula.jobs.inputs import inputs_of
from morula.jobs.yaml_lines import dump
from morula.methods.planning import Document
from morula.representations import REPRESENTATIONS
from morula.workflows.dry_run import Proof
from morula.workflows.prepare import Prepared
from morula.workflows.recommend import Recommended
from morula.workflows.trial import Trial

CHOSEN = "  <- planned"


@dataclass(frozen=True, eq=False)
class Plan:
    """A job that was planned and tested by a training step.

    Attributes:
        path: where it is written.
        document: the job, with paths as in the file.
        first: the stage before it; empty where there is none.
        summary: of the training images.
        prepared: the job as it runs.
        proof: the measured cost of a training step.
        chosen: the channel sets that were compared on the labels.
        trials: short trainings that were compared, the planned one named by `taken`, and bundled models without any training.
        notes: what the user should know.
    """

    path: Path
    document: Document
    first: Document
    summary: DataSummary
    prepared: Prepared
    proof: Proof
    chosen: Recommended | None = None
    trials: tuple[Trial, ...] = ()
    taken: str = ""
    notes: tuple[str, ...] = ()

    def sections(self) -> dict[str, list[str]]:
        """The plan as lines of text by their title."""
        found = {"images": self.summary.lines(), "plan": self.plan_lines()}
        if self.trials:
            found["short trainings, judged on the validation images: F1 of the objects (1 is best)"] = trial_lines(self.trials, self.taken)
        elif self.chosen is not None:
            title = "channel sets, by how well the labels come back from them without a network: F1 at an overlap of 0.9, 1 is best"
            found[title] = channel_lines(self.chosen)
        return found

    def plan_lines(self) -> list[str]:
        """Network, images, patches, memory and time."""
        prepared, proof, training = self.prepared, self.proof, self.prepared.job.training
        patch, batch = prepared.job.sampling.patch_shape, prepared.job.sampling.batch
        held = 0 if prepared.validation is None else len(prepared.validation.sources)
        restarts = f", {training.restarts} times" if training.restarts > 1 else ""
        return [
            f"a {prepared.job.network.kind} with {proof.weights:,} weights learns {learned(prepared)}",
            f"{len(prepared.train.sources)} images to learn from, {held} to choose the best epoch by",
            f"patches of {' x '.join(map(str, patch))} voxels, {batch} per step",
            f"{training.epochs} epochs of {len(prepared.train)} patches{restarts}",
            f"{proof.peak_bytes / 1e9:.1f} GB of memory, measured",
            f"{duration(proof.minutes)} of training on this computer: {proof.steps:,} steps of {proof.seconds_per_step:.2g} s, measured",
        ]

    def write(self, *, overwrite: bool = False) -> None:
        """Write the job file.

        Raises:
            FileWriteError: when it exists, or cannot be written.
        """
        check_outputs([Destination(self.path, key="job", proven=True)], list(inputs_of(self.prepared.job)), overwrite=overwrite)
        with recording(self.path.resolve().parent, RESULTS), atomic(self.path) as part:
            part.write_text(self.text(), encoding="utf-8")

    def text(self) -> str:
        """The job file with comments; two documents if there is a first stage."""
        name = self.path.name
        lines = [f"# Run it with: morula run {name}", f"# See the values of all keys that it leaves out: morula check {name}"]
        for title, told in self.sections().items():
            lines += ["#", f"# {title[0].upper()}{title[1:]}:", *(f"#   {line}" for line in told)]
        lines.append("")
        if self.first:
            lines += ["# Stage 1: the network learns to restore degraded images, without labels. Stage 2, below the line of dashes,"]
            lines += ["# starts from it. For a training from scratch remove stage 1 and the line `network` of stage 2."]
            lines += _entries({**self.first, "training": self._training()}, {})
            lines += ["---", "# Stage 2: training with labels."]
        others = {key: value for key, value in self.document.items() if key != "training"}
        lines += _entries({**others, "training": self._training()}, self._comments())
        return "\n".join(lines) + "\n"

    def run_command(self) -> str:
        """The command that runs the job."""
        return shlex.join(["morula", "run", str(self.path)])

    def cluster_command(self) -> str:
        """A command for SLURM that runs the job, with twice the measured memory and time."""
        memory = math.ceil(2 * self.proof.peak_bytes / 1e9) + 4
        minutes = math.ceil((2 * self.proof.minutes + 10) / 10) * 10
        longest = f"{minutes // 60:02d}:{minutes % 60:02d}:00"
        limits = ["--gpus=1", "--cpus-per-task=4", f"--mem={memory}G", f"--time={longest}"]
        call = ["sbatch", f"--job-name={self.path.stem}", *limits, f"--wrap={self.run_command()}"]
        return shlex.join(call)

    def _training(self) -> Document:
        """Epochs and patience; without validation images the loss of the last epochs decides, as planned."""
        training = self.prepared.job.training
        patience = {} if self.prepared.validation is None else {"patience": max(20, training.epochs // 4)}
        stated = {name: value for name, value in self.document.get("training", {}).items() if name != "epochs"}
        return {"epochs": training.epochs, **patience, **stated}

    def _comments(self) -> Mapping[str, str]:
        started = self.document.get("network", {}).get("from", "")
        validate = "validate: a share of the training images, kept apart to choose the best epoch"
        return {
            "images": "validate: no images are kept apart" if self.prepared.validation is None else validate,
            "method": _METHODS.get(self.prepared.job.method.kind, ""),
            "objects": "the decoder that makes objects of the channels; tune: search its settings on the validation images after training",
            "sampling": "patch: about a cube in physical units; batch: what fits the memory",
            "network": f"the training starts from the weights of {started}; without this line from random ones",
            "training": "fewer epochs for a first test, more for the best scores",
        }


_METHODS = {
    "channels": "what the network predicts of each voxel; a decoder makes objects of it",
    "semantic": "a class for every pixel",
    "wnet3d": "classes by brightness, without labels; smoothing: against noise, a tenth of the width of an object or more",
    "crappify": "degraded images are restored, without labels",
    "noise2void": "noise is removed, without clean images",
}


def learned(prepared: Prepared) -> str:
    """What the network predicts, in words."""
    words = {
        "semantic": "the class of each voxel",
        "wnet3d": "classes of voxels by their brightness, without labels",
        "crappify": "to restore degraded images, without labels",
        "noise2void": "to remove noise, without clean images",
    }
    if (kind := prepared.job.method.kind) in words:
        return words[kind]
    known = REPRESENTATIONS.names
    return ", ".join(f"{code} ({REPRESENTATIONS.member(code).summary})" if code in known else code for code in prepared.method.channels)


def trial_lines(trials: tuple[Trial, ...], taken: str) -> list[str]:
    """One line per trial, the planned one marked."""
    width = max(len(trial.name) for trial in trials)
    return [f"{trial.name:<{width}}  {trial.f1:.3f} {trial.length}{CHOSEN if trial.name == taken else ''}" for trial in trials]


def channel_lines(chosen: Recommended) -> list[str]:
    """One line per channel set, the planned one marked."""
    width = max(len(row.representation) for row in chosen.rows)
    planned = str(chosen.representation)
    return [f"{row.representation:<{width}}  {row.f1_90:.3f}{CHOSEN if row.representation == planned else ''}" for row in chosen.rows]


def duration(minutes: float) -> str:
    """A duration in words.

    Examples:
        >>> duration(0.4), duration(1.2), duration(34.0), duration(200.0)
        ('less than a minute', 'about 1 minute', 'about 34 minutes', 'about 3.3 hours')
    """
    whole = round(minutes)
    if minutes >= 120:
        return f"about {minutes / 60:.1f} hours"
    return f"about {whole} minute{'s' * (whole > 1)}" if whole else "less than a minute"


def _entries(document: Document, comments: Mapping[str, str]) -> list[str]:
    """Lines of YAML, each entry under its comment."""
    lines = []
    for key, value in document.items():
        if value == {}:
            continue
        lines += [f"# {comments[key]}"] if comments.get(key) else []
        lines.append(dump({key: value}, flow=None).rstrip())
    return lines
