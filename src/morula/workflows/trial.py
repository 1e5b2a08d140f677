"""Short trainings that are judged on the validation images, by which a plan or a start is chosen."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from morula.core.errors import MorulaError
from morula.core.events import Epoch
from morula.core.image import Image
from morula.data.crop import crop
from morula.data.summary import middle
from morula.jobs.bundled import Bundled, bundled_models
from morula.jobs.job import Job
from morula.jobs.load import load_job
from morula.labels.partial_labels import labelled_only
from morula.models.load import load
from morula.nn.options import AUTO
from morula.workflows.build import build_with_seed, loaders_of
from morula.workflows.prepare import Prepared, prepare
from morula.workflows.run_settings import never_stop
from morula.workflows.transfer import start_from

if TYPE_CHECKING:
    from morula.data.patches import Source

STEPS = 40
"""Steps of the trial by which a start is chosen: few, and a fixed number, so that the choice does not depend on the computer."""
JUDGED = 2**20
"""Voxels of the validation images that are segmented to judge a trial."""
RATE = 1e-3
"""Learning rate of trials: constant, because a schedule would not come to its end."""


@dataclass(frozen=True)
class Trial:
    """A short training: the F1 of its objects on the validation images (intersection over union of 0.5), and its loss there."""

    name: str
    f1: float
    loss: float
    steps: int
    seconds_per_step: float
    trained: bool = True
    """False for a model as it is."""

    @property
    def merit(self) -> tuple[float, float]:
        """Higher is better: F1 to two digits, then the loss, which tells more while no object is found."""
        return round(self.f1, 2), -self.loss

    @property
    def length(self) -> str:
        """How long the training was."""
        return f"after {self.steps} steps" if self.trained else "without training"

    def words(self) -> str:
        """The result on one line."""
        return f"{self.name}: F1 {self.f1:.3f} {self.length}"


def tried(name: str, job: Job, *, steps: int | None = None, seconds: float | None = None, stop: Callable[[], bool] = never_stop) -> Trial:
    """Train a job for some steps or seconds, or until `stop` returns true, and judge it on its validation images.

    Raises:
        JobError: as `prepare`.
    """
    short: dict[str, Any] = {"schedule": "constant", "optimiser": {"kind": "adamw", "lr": RATE}, "restarts": 1, "patience": None}
    epochs = 1 if steps else 10_000  # seconds end the training long before
    short |= {"devices": 1, "nodes": 1, "strategy": "auto"}  # each process tries alone
    short |= {"epochs": epochs, "steps_per_epoch": steps, "steps": steps, "ema_decay": None, "validate_every": f"{epochs} epochs"}
    document = job.model_dump(mode="json", by_alias=True, exclude_unset=True)
    document["training"] = {**document.get("training", {}), **{key: value for key, value in short.items() if value is not None}}
    if steps is not None:  # the steps decide about the number of patches
        document["sampling"] = {key: value for key, value in document.get("sampling", {}).items() if key != "patches_per_epoch"}
    prepared = prepare(load_job(document))
    network = build_with_seed(prepared)
    if prepared.job.network.from_ not in (None, AUTO):
        start_from(network, Path(str(prepared.job.network.from_)))
    began, taken, loss = time.monotonic(), 0, float("nan")

    def over() -> bool:
        return stop() or (seconds is not None and time.monotonic() - began > seconds)

    from morula.training.loop import fit

    options = prepared.job.training.model_copy(update={"seed": prepared.train.seed, "checkpoint_every": f"{epochs} epochs"})
    with tempfile.TemporaryDirectory() as folder:
        for event in fit(network, prepared.method.loss, loaders_of(prepared), options, folder=Path(folder), stop=over):
            if isinstance(event, Epoch):
                taken, loss = event.step, event.figures.get("validation_loss", event.figures["loss"])
    per_step = (time.monotonic() - began) / max(1, taken)
    network.eval()
    return Trial(name, judged(prepared, network), loss, taken, per_step)


def untrained(name: str, job: Job) -> Trial:
    """A bundled model as it is, with its own decoder and the size of objects that it estimates, judged on the validation images of a job.

    Raises:
        JobError: as `prepare`.
    """
    prepared, model = prepare(job), load(name)
    f1 = _judged(prepared, lambda image: np.asarray(model.segment(image, device=prepared.job.training.device)))
    return Trial(name, f1, float("nan"), 0, 0.0, trained=False)


def judged(prepared: Prepared, network: Any) -> float:
    """F1 at 0.5 of the objects of the validation images, of large ones of their middle."""
    model = prepared.model(network)
    return _judged(prepared, lambda image: model.decode(model.predict(image, device=prepared.job.training.device), image).labels)


def _judged(prepared: Prepared, segment: Callable[[Image], np.ndarray]) -> float:
    held = prepared.validation
    if held is None or not prepared.method.instances:
        return 0.0
    scores, left = {}, JUDGED
    for number, source in enumerate(held.sources):
        if source.labels is None or left <= 0:
            continue
        image, truth = _part(source, left)
        left -= truth.size
        scores[str(number)] = prepared.method.score(*labelled_only(truth, segment(image), source.unlabelled))
    rows = prepared.method.score_rows(scores)
    return next((float(row["f1"]) for row in rows if row["image"] == "pooled"), 0.0)


def _part(source: Source, voxels: int) -> tuple[Image, np.ndarray]:
    """The middle of a validation image with at most this many voxels, and its labels."""
    assert source.labels is not None
    extent = source.extent
    place = middle(extent.shape, voxels).shift(extent.start)
    axes = f"C{source.image.axes.spatial_axes}"
    image = Image(crop(source.image, place), axes, source.image.voxel_size, source.title)  # type: ignore[arg-type]
    return image, crop(source.labels, place)[0]


def fitting_models(ndim: int, channels: int) -> list[Bundled]:
    """Bundled models whose networks take images of these dimensions and channels."""
    suited = [(model, model.facts.suited) for model in bundled_models()]
    return [model for model, facts in suited if facts.dimensions == ndim and facts.channels == channels]


def started(job: Job, name: str | None) -> Job:
    """The job with a network that starts from a bundled model, or with random weights."""
    return job.model_copy(update={"network": job.network.model_copy(update={"from_": name})})


def settled_start(job: Job) -> tuple[Job, list[str]]:
    """A job whose network starts from ``auto`` with the start that is better after a few steps, and lines for the log.

    The bundled models that fit the images compete with random weights: the same patches, the same number of steps, judged on the
    validation images. Without validation images, or with a network of another kind or size, weights are random.
    """
    if job.network.from_ != AUTO:
        return job, []
    random = started(job, None)
    facts = prepare(random).facts
    trials = [(random, tried("random weights", random, steps=STEPS))] if job.images.validate_ else []
    for model in fitting_models(facts.ndim, facts.in_channels) if trials else ():
        candidate = started(job, model.name)
        try:
            trials.append((candidate, tried(model.name, candidate, steps=STEPS)))
        except MorulaError:  # another kind of network, or one of another size
            continue
    if len(trials) < 2:
        return random, ["no bundled model fits this job, so the training starts from random weights"]
    best, trial = max(trials, key=lambda entry: entry[1].merit)
    compared = "; ".join(trial.words() for _, trial in trials)
    off = "" if best is random else " (network: {from: none} for random weights)"
    return best, [f"the training starts from {trial.name}{off}: {compared}"]
