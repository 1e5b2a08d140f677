"""The training loop.

After each step the loop asks in this order: report (and validate) when due, save when due, end when over or interrupted; then it takes the
next step::

    fetch -> step -> [validate, report] -> [checkpoint] -> stop?
      ^                                                     |
      +------------------------ no -------------------------+

Validation comes before the checkpoint, so that a resumed training never repeats one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from morula.core.allocator import keep_freed_memory
from morula.core.errors import TrainingError
from morula.core.events import Artefact, Epoch, Event, FileWritten, Finished, Logged, Preview, Progress, Started, Warned
from morula.training.checkpoint import State, find_checkpoint, load_weights_of
from morula.training.interrupt import interruption
from morula.training.monitors import Monitor
from morula.training.options import Training
from morula.training.state import Loaders, Previewer, Scores, TrainingState
from morula.training.step import Batch, Loss


@dataclass(frozen=True)
class ValidationHooks:
    """What a validation computes in addition to the loss.

    Attributes:
        preview: draws pictures of the first validation (or training) batch after each epoch and each validation.
        arrays: what the pictures are drawn from, for viewers that show whole volumes.
        score: called with the network after each validation; higher is better.
        scores: measures figures of each validation batch; their averages over all patches are reported as ``validation_NAME``.
        monitor: the figure that decides which weights are best and that the schedule follows, instead of the loss or `score`.
    """

    preview: Previewer | None = None
    arrays: Previewer | None = None
    score: Callable[[nn.Module], float] | None = None
    scores: Scores | None = None
    monitor: Monitor | None = None

    def criteria(self, figures: Mapping[str, float]) -> tuple[float, float]:
        """The figure that the schedule follows, and the one that decides which weights are best (lower is better)."""
        if self.monitor is not None:
            value = figures[self.monitor.figure]
            return value, -value if self.monitor.higher_is_better else value
        followed = figures.get("validation_loss", figures["loss"])
        return followed, -figures["score"] if self.score is not None else followed


def fit(
    network: nn.Module,
    loss: Loss,
    loaders: Loaders,
    options: Training,
    *,
    folder: Path,
    resume: bool | State = False,
    stop: Callable[[], bool] = lambda: False,
    hooks: ValidationHooks | None = None,
) -> Iterator[Event]:
    """Train a network in place. After `Finished` it has the best weights, which are also in ``checkpoints/best``.

    The loss of a step is exactly that of all its batches in all processes together, also where it is a ratio. The best weights
    are those with the lowest validation loss, or the highest `ValidationHooks.score`, or, without validation, the lowest training loss.

    Args:
        network: maps an image NC(Z)YX to outputs NK(Z)YX by head.
        loss: maps outputs and batch to named `Sums`; their values are added, so they must include their weights.
        loaders: source of the batches.
        options: settings of the training.
        folder: the run folder; ``checkpoints/last`` and ``checkpoints/best`` are written here.
        resume: continue from ``checkpoints/last`` as if there had been no interruption (on a CPU, bit for bit); or a state to continue
            from with the weights that the network has, see `morula.training.state.TrainingState.restore`.
        stop: asked between two steps; when it returns `True` a checkpoint is written and the stream ends without `Finished`.
        hooks: what a validation computes in addition to the loss; nothing by default.

    Yields:
        `Started`, `Progress` after each step, `Epoch` after each epoch and each validation within one, `Preview`,
        `FileWritten`, `Finished`. With several processes only the first one yields.

    Raises:
        TrainingError: when the loss is not finite, or a run cannot be resumed.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, when the current step is finished and a checkpoint written.
        FileWriteError: when a checkpoint cannot be written.
    """
    run = TrainingState(network, loss, loaders, options, folder=folder)
    for event in _events(run, resume, stop, hooks or ValidationHooks()):
        if run.fabric.is_global_zero:
            yield event


def _events(run: TrainingState, resume: bool | State, stop: Callable[[], bool], hooks: ValidationHooks) -> Iterator[Event]:
    began = time.perf_counter()
    weights = sum(weight.numel() for weight in run.network.parameters() if weight.requires_grad)
    begun = list(_begin(run, resume))  # before the first event: a resume that is refused raises here
    yield Started(run.total, "step", f"{weights:,} weights, {run.fabric.device.type}, {run.precision}, {run.fabric.world_size} process(es)")
    yield from begun
    with keep_freed_memory(), interruption() as interrupted:
        while True:
            if run.report_due:
                yield from _report(run, lambda: stop() or interrupted(), hooks)
            # all processes must stop at the same step, because a step needs all of them
            leaving = run.agreed(stop() or interrupted()) and not run.over
            if run.save_due or (leaving and run.unsaved):
                yield run.save()
            if leaving or run.over:
                break
            try:
                batches = run.fetch()
            except RuntimeError:
                if interrupted():  # Ctrl-C in a terminal ends the worker processes of the loader too
                    continue
                raise
            value = run.step(batches)
            yield Progress(run.position.step, run.total, "step", f"loss {value:.4g}")
    if leaving:
        yield Logged(f"training was stopped after step {run.position.step} of {run.total}; resuming continues there")
        if interrupted():
            raise KeyboardInterrupt
        return
    if run.patience_lost:
        yield Logged(f"training ended after epoch {run.position.epoch}: {run.position.waited} validations without an improvement")
    run.network.load_state_dict(load_weights_of(find_checkpoint(run.folder / "best") or run.folder / "best"))
    run.network.eval()
    yield Finished(time.perf_counter() - began, {"epochs": run.position.epoch, "steps": run.position.step})


def _begin(run: TrainingState, resume: bool | State) -> Iterator[Event]:
    if isinstance(resume, dict):
        run.restore(resume)
        yield Logged(f"resumed after step {run.position.step} of {run.total}")
        return
    if not resume:
        if find_checkpoint(run.folder / "last") is not None:
            raise TrainingError(
                "checkpoint.exists",
                "the folder holds checkpoints of an earlier training",
                file=run.folder,
                remedy="Resume that training, or choose another folder.",
            )
        return
    if run.resume():
        yield Logged(f"resumed after step {run.position.step} of {run.total}")
    else:
        yield Warned("checkpoint.none_yet", f"there is no checkpoint in {run.folder} yet; the training starts from its beginning")


def _report(run: TrainingState, leaving: Callable[[], bool], hooks: ValidationHooks) -> Iterator[Event]:
    """Report the figures of the epoch so far, and validate when that is due; a validation that is left before its end changes nothing."""
    figures, best = {**run.totals.figures(), "lr": run.schedule.lr}, False
    previews: list[Preview] = []
    epoch, ended = run.position.epoch + 1, run.epoch_ended

    def show(batch: Batch, outputs: dict[str, Tensor]) -> None:
        if hooks.preview is not None and run.fabric.is_global_zero:
            arrays = {} if hooks.arrays is None else hooks.arrays(batch, outputs)
            previews.extend(Preview(name, np.asarray(image), epoch, arrays=arrays) for name, image in hooks.preview(batch, outputs).items())

    if not run.validation_due and hooks.preview is not None:
        with run.averaged():
            show(*run.showcase())
    elif run.validation_due:
        with run.averaged():
            validated = run.validate(leaving, show, hooks.scores)
            if validated is None:
                return
            figures |= {f"validation_{name}": value for name, value in validated.items()}
            if not validated and hooks.preview is not None:
                show(*run.showcase())
            if hooks.score is not None:
                figures["score"] = run.measure_score(hooks.score)
            followed, criterion = hooks.criteria(figures)
            best = run.record_validation(criterion)
        run.schedule.after("validations", followed)
    report = Epoch(epoch, run.options.epochs, run.position.step, figures, time.perf_counter() - run.began, best)
    run.position.reported, run.unsaved = run.position.step, True
    if ended:
        run.end_epoch()
    yield report
    yield from previews
    if best:
        yield FileWritten(run.folder / "best", Artefact.BEST_WEIGHTS)
