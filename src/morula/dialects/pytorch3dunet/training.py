"""Training with a job file of pytorch-3dunet on the native loop.

The native loop knows nothing of this dialect. It yields events, from which the files of the original are written::

    native loop --events--> write_outputs --events--> caller
                               |
                               +--> last_checkpoint.pytorch, best_checkpoint.pytorch, TensorBoard files
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from morula.core.cores import usable_cores
from morula.core.errors import ModelError, TrainingError
from morula.core.events import Artefact, Epoch, Event, FileWritten, Progress, Warned
from morula.data.loader import PatchLoaders
from morula.dialects.pytorch3dunet.checkpoints import BEST, OWN, read_checkpoint, write_checkpoint
from morula.dialects.pytorch3dunet.job import Job, Learning
from morula.dialects.pytorch3dunet.losses import LossOptions
from morula.dialects.pytorch3dunet.metrics import MetricOptions
from morula.dialects.pytorch3dunet.networks import HEAD, Model, load_state_dict, model_of
from morula.dialects.pytorch3dunet.optimisers import native_schedule, optimiser_of
from morula.dialects.pytorch3dunet.patches import Patches, build_patches
from morula.dialects.pytorch3dunet.places import RUN
from morula.dialects.pytorch3dunet.sections import TrainerOptions
from morula.dialects.pytorch3dunet.tensorboard import Board
from morula.losses.sums import Sums
from morula.training.checkpoint import State, load_state_of, save_checkpoint
from morula.training.monitors import Monitor
from morula.training.optimisers import build_optimiser
from morula.training.options import Training
from morula.training.state import Position
from morula.training.step import Batch

SCORE = "validation_score"


class Network(nn.Module):
    """A network of pytorch-3dunet with the output that the native loop expects: logits by head."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Logits NKZYX of images NCZYX."""
        return {HEAD: self.model.logits(x)}


@dataclass(eq=False)
class Watcher:
    """Loss and metric of a job, and the batches that TensorBoard shows."""

    criterion: LossOptions
    metric: MetricOptions
    model: Model
    most_pictures: int
    batches: int
    seen: tuple[Batch, Tensor] | None = None
    shown: list[tuple[int, dict[str, np.ndarray], int]] = field(default_factory=list)
    _sum: float = 0.0
    _count: int = 0
    _validated: int = 0

    def loss(self, outputs: dict[str, Tensor], batch: Batch) -> Mapping[str, Sums]:
        """The loss by name, for the loop."""
        logits = outputs[HEAD]
        sums = self.criterion.sums(logits, batch["targets"], batch.get("weight"))
        if torch.is_grad_enabled():
            n = len(logits)
            # kept for the pictures and the score of the training, which are computed only now and then
            self.seen = (batch, logits.detach())
            self._sum, self._count = self._sum + float(sums.total.detach()) * n, self._count + n
        return {self.criterion.name: sums}

    def scores(self, batch: Batch, outputs: dict[str, Tensor]) -> Mapping[str, float]:
        """The metric of a validation batch; some batches are kept as pictures."""
        probabilities = self.model.probabilities(outputs[HEAD])
        if self._validated in self._chosen():
            self.shown.append((self._validated, *pictures(batch, probabilities)))
        self._validated += 1
        return {"score": self._score(probabilities, batch)}

    def _score(self, probabilities: Tensor, batch: Batch) -> float:
        target = batch["targets"]
        return self.metric(probabilities.float(), target, self.criterion.scored(probabilities, target))

    def _chosen(self) -> set[int]:
        """Numbers of the validation batches that are shown, always the same."""
        if self.batches <= self.most_pictures:
            return set(range(self.batches))
        return set(np.random.default_rng(42).choice(self.batches, self.most_pictures, replace=False).tolist())

    def training_score(self) -> float:
        """The metric of the last training batch."""
        assert self.seen is not None
        batch, logits = self.seen
        return self._score(self.model.probabilities(logits), batch)

    def average(self) -> float:
        """Mean training loss of the epoch so far."""
        return self._sum / max(self._count, 1)

    def start_epoch(self) -> None:
        """Reset the mean training loss."""
        self._sum, self._count = 0.0, 0

    def take_pictures(self) -> list[tuple[int, dict[str, np.ndarray], int]]:
        """Number of the batch, its middle planes and their number, for the batches that were kept since the last call."""
        taken, self.shown, self._validated = self.shown, [], 0
        return taken


def pictures(batch: Batch, probabilities: Tensor) -> tuple[dict[str, np.ndarray], int]:
    """The middle planes of a batch by kind, and the number of the plane."""
    images = {"inputs": batch["image"], "targets": batch["targets"], "predictions": probabilities}
    plane = int(batch["image"].shape[-3]) // 2
    return {kind: image[..., plane if image.shape[-3] > 1 else 0, :, :].float().cpu().numpy() for kind, image in images.items()}, plane


@dataclass(frozen=True, eq=False)
class Prepared:
    """A job that is ready to train.

    Attributes:
        job: the job.
        network: with new weights, or those of a checkpoint.
        loaders: of patches.
        train_patches: to learn from.
        val_patches: to validate on.
        watcher: loss and metric.
        options: of the native loop.
        folder: of the checkpoints.
        state: the checkpoint to resume from, where there is one.
    """

    job: Job
    trainer: TrainerOptions
    network: Network
    loaders: PatchLoaders
    train_patches: Patches
    val_patches: Patches
    watcher: Watcher
    options: Training
    folder: Path
    state: dict[str, Any] | None

    @property
    def run_folder(self) -> Path:
        """The native run folder."""
        return self.folder / RUN

    @cached_property
    def board_folder(self) -> Path:
        """TensorBoard files of this run."""
        return self.folder / "logs" / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")

    @property
    def monitor(self) -> Monitor:
        """The score that decides which weights are best."""
        return Monitor(SCORE, self.trainer.eval_score_higher_is_better)

    def summary_line(self) -> str:
        """Data, network, loss and metric in one line."""
        patches, held = self.train_patches, self.val_patches
        return (
            f"{len(patches)} training patches of {len(patches.volumes)} file(s) and {len(held)} validation patches of "
            f"{len(held.volumes)}, {self.loaders.batch} per step; {self.job.model.name}, {self.watcher.criterion.name}, "
            f"{self.watcher.metric.name}; {self.options.steps} steps or {self.options.epochs} epochs"
        )


def prepare(job: Job) -> Prepared:
    """Open the data of a job, build its network, and read the checkpoint that it resumes from.

    Raises:
        DataError: when files do not match each other or the network.
        ModelError: when a checkpoint does not match the network.
        MissingFileError: when a file is missing.
    """
    learning, loaders = job.learning, job.loaders
    assert learning is not None  # the job was read to be trained
    trainer = learning.trainer
    seed = job.plain.manual_seed or 0
    # the global generator gives the initial weights; forking it leaves the caller's random numbers as they are
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(model_of(job.model))
    criterion, metric = learning.loss, learning.metric
    train = build_patches(loaders, "train", seed=seed, weights=job.weighted)
    held = build_patches(loaders, "val", seed=seed, weights=job.weighted)
    _check_channels(job, train)
    # more workers than cores only wait for each other
    workers = min(loaders.num_workers, usable_cores())
    batches = math.ceil(len(held) / loaders.batch_size)
    shown = batches if trainer.validate_iters is None else min(batches, trainer.validate_iters)
    watcher = Watcher(criterion, metric, network.model, trainer.max_val_images, shown)
    folder = Path(trainer.checkpoint_dir).expanduser()
    state = None
    if trainer.resume is not None:
        state = read_checkpoint(trainer.resume)
        load_state_dict(network.model, state)
        folder = Path(trainer.resume).expanduser().parent
    elif trainer.pre_trained is not None:
        load_state_dict(network.model, read_checkpoint(trainer.pre_trained))
    options = _training(job, learning, seed)
    steps = math.ceil(len(train) / loaders.batch_size)  # a last smaller batch included
    batches_of = PatchLoaders(train, held, loaders.batch_size, steps, workers, workers, trainer.validate_iters)
    return Prepared(job, trainer, network, batches_of, train, held, watcher, options, folder, state)


def _check_channels(job: Job, patches: Patches) -> None:
    wanted = job.model.in_channels
    if patches.in_channels != wanted:
        raise ModelError(
            "model.in_channels",
            f"does not match {patches.volumes[0].name}, which has {patches.in_channels} channel(s)",
            key="model.in_channels",
            value=wanted,
            remedy="Correct one of the two.",
        )


def _training(job: Job, learning: Learning, seed: int) -> Training:
    """Options of the native loop."""
    trainer = learning.trainer
    several = job.plain.device in (None, "cuda") and torch.cuda.device_count() > 1
    return Training(
        epochs=trainer.max_num_epochs,
        steps=trainer.max_num_iterations,
        optimiser=optimiser_of(learning.optimizer),
        schedule=native_schedule(job.config.get("lr_scheduler")),
        validate_every=f"{trainer.validate_after_iters} steps",
        checkpoint_every=f"{trainer.validate_after_iters} steps",
        seed=seed,
        workers=job.loaders.num_workers,
        precision=trainer.precision,
        device=job.plain.device or "auto",
        devices="auto" if several else 1,
    )


def state_to_resume(prepared: Prepared) -> State | None:
    """The native state in the checkpoint that is resumed; of a checkpoint of the original, position and optimiser. `None` at the start.

    Raises:
        ModelError: when the state of the optimiser does not fit the job.
        TrainingError: when the training is already complete.
    """
    trainer, options, found = prepared.trainer, prepared.options, prepared.state or {}
    if prepared.state is None and trainer.num_iterations == 1 and trainer.num_epoch == 0:
        return None
    state: State = dict(found.get(OWN, ()))
    if state:  # the job may have changed optimiser and schedule
        state["options"] = {**state["options"], **options.model_dump(mode="json", include={"optimiser", "schedule"})}
    else:
        score, step = found.get("best_eval_score"), int(found.get("num_iterations", trainer.num_iterations - 1))
        # the original starts with an infinite score; the native loop minimises
        known = score is not None and math.isfinite(score)
        best = (-score if trainer.eval_score_higher_is_better else score) if known and score is not None else None
        # no curves are written for the steps before
        position = Position(epoch=int(found.get("num_epochs", trainer.num_epoch)), step=step, best=best, reported=step)
        state["position"] = asdict(position)
    if "optimizer_state_dict" in found:
        state["optimiser"] = found["optimizer_state_dict"]
        try:
            build_optimiser(prepared.network, options.optimiser).load_state_dict(state["optimiser"])
        except (ValueError, KeyError) as error:
            rule = f"the optimiser state of {trainer.resume} does not match the section optimizer: {error}"
            raise ModelError("optimiser.checkpoint", rule, remedy="Use trainer.pre_trained, which reads only the weights.") from error
    done = state["position"]
    if done["step"] >= (options.steps or 0) or done["epoch"] >= options.epochs:
        rule = (
            f"{trainer.resume} was trained for {done['step']} iterations and {done['epoch']} epochs, "
            f"but max_num_iterations is {trainer.max_num_iterations}, max_num_epochs {trainer.max_num_epochs}"
        )
        raise TrainingError("training.nothing_left", rule, remedy="Increase them to continue.")
    return state


def keep_best(prepared: Prepared) -> None:
    """Store the best weights so far in the run folder: they must survive when no later validation is better."""
    network, best = prepared.network, prepared.folder / BEST
    if best.is_file() and prepared.state is not None:
        network = Network(model_of(prepared.job.model))
        load_state_dict(network.model, read_checkpoint(best))
    save_checkpoint(prepared.run_folder / "checkpoints" / "best", network.state_dict())


def write_outputs(events: Iterable[Event], prepared: Prepared, board: Board) -> Iterator[Event]:
    """Pass events through, and write the checkpoints and curves of pytorch-3dunet.

    ``last_checkpoint.pytorch`` is written whenever the loop writes its own checkpoint, which includes the last step, and
    ``best_checkpoint.pytorch`` after a validation with the best score so far.
    """
    watcher, trainer = prepared.watcher, prepared.trainer
    better = 0.0
    is_best, warned = False, False
    try:
        for event in events:
            match event:
                case Progress(step) if step % trainer.log_after_iters == 0:
                    _show_training(prepared, board, step)
                case Epoch():
                    if SCORE in event.figures:
                        _show_validation(prepared, board, event)
                        is_best = is_best or event.best
                        better = event.figures[SCORE] if event.best else better
                    if event.step % prepared.loaders.steps_per_epoch == 0:
                        watcher.start_epoch()
                case FileWritten(path) if path == prepared.run_folder / "checkpoints" / "last":
                    state = load_state_of(path)
                    best = state["position"]["best"]
                    # the native loop minimises, so it negates scores of which higher is better
                    score = math.nan if best is None else -best if trainer.eval_score_higher_is_better else best
                    written = write_checkpoint(prepared.folder, prepared.network.model, state, score=score, is_best=is_best)
                    is_best = False
                    yield from (FileWritten(file, Artefact.CHECKPOINT, "checkpoint for pytorch-3dunet") for file in written)
            yield event
            if not board.present and not warned:
                warned = True
                yield Warned(
                    "tensorboard.missing",
                    "TensorBoard files are not written because the package is missing. Install morula[track].",
                )
    finally:
        board.close()


def _show_training(prepared: Prepared, board: Board, step: int) -> None:
    watcher = prepared.watcher
    if not board.present or watcher.seen is None:
        return
    figures = {"train_loss_avg": watcher.average()}
    if not prepared.trainer.skip_train_validation:
        figures["train_eval_score_avg"] = watcher.training_score()
    board.scalars(figures, step)
    batch, logits = watcher.seen
    planes, plane = pictures(batch, watcher.model.probabilities(logits))
    board.pictures(planes, plane, "train_", step)


def _show_validation(prepared: Prepared, board: Board, event: Epoch) -> None:
    figures = {"val_loss_avg": event.figures["validation_loss"], "val_eval_score_avg": event.figures[SCORE]}
    board.scalars({**figures, "learning_rate": event.figures["lr"]}, event.step)
    for number, planes, plane in prepared.watcher.take_pictures():
        board.pictures(planes, plane, f"val_{number}_", event.step)


def preview(batch: Batch, outputs: dict[str, Tensor], model: Model) -> dict[str, np.ndarray]:
    """Middle planes of input, target and prediction of the first sample, side by side."""
    planes, _ = pictures(batch, model.probabilities(outputs[HEAD]))
    sides = [plane[0] if plane.ndim == 3 else plane[0, 0] for plane in planes.values()]
    scaled = [(side - side.min()) / max(float(np.ptp(side)), 1e-6) for side in sides]
    return {"input, target, prediction": np.concatenate(scaled, axis=1)}


def set_aside(folder: Path) -> Path | None:
    """Move a former training in a folder to the first free ``run_N``, which is returned; `None` when there is none."""
    former = [folder / name for name in ("last_checkpoint.pytorch", BEST, "run") if (folder / name).exists()]
    if not former:
        return None
    number = next(n for n in range(1, 10**6) if not (folder / f"run_{n}").exists())
    place = folder / f"run_{number}"
    if (folder / "run").exists():
        (folder / "run").rename(place)
    place.mkdir(exist_ok=True)
    for path in former:
        if path.name != "run":
            shutil.move(path, place / path.name)
    return place
