"""Problems of a job of pytorch-3dunet: its keys, its files, what is implausible in them, and what a real step and validation show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from morula.core.axes import Axes
from morula.core.errors import DataError, JobError, MorulaError, Problem
from morula.core.image import Image
from morula.core.remark import Remark
from morula.data.label_position import misplaced_labels
from morula.data.plausibility import background_with_id, images_that_hold_labels, repeated_images
from morula.data.summary import object_label_warnings
from morula.dialects.pytorch3dunet.engine import Engine
from morula.dialects.pytorch3dunet.job import Job, Purpose, purpose_of, read_job
from morula.dialects.pytorch3dunet.predict import prepare_prediction
from morula.dialects.pytorch3dunet.sections import PhaseName
from morula.dialects.pytorch3dunet.training import Prepared, prepare, state_to_resume
from morula.dialects.pytorch3dunet.volumes import Volume, channel_problems, open_array, try_volumes
from morula.io.check import check_image
from morula.io.lazy import View
from morula.jobs.yaml_lines import located
from morula.training.devices import pick_device
from morula.training.step import Batch
from morula.workflows.dry_run import Proof, prove_steps

_LABEL_PATCHES = 8  # training patches whose targets are inspected


@dataclass(frozen=True, eq=False)
class Checked3dunet:
    """A job that can be run.

    Attributes:
        purpose: ``train`` or ``predict``.
        remarks: keys without effect, and warnings, each with its line and its remedy.
        planned: values used for keys of ``loaders``, ``trainer`` and ``predictor`` that are left out, by dotted key.
        summary: what the job does, in one line.
        proof: time and memory of a real step, where the job trains and a proof was requested.
    """

    purpose: Purpose
    remarks: tuple[Problem, ...]
    planned: dict[str, object]
    summary: str
    proof: Proof | None = None


def check3dunet(config: str | Path, *, prove: bool = True) -> Checked3dunet:
    """Check a job file of pytorch-3dunet with its files.

    Args:
        config: the YAML file; paths in it are relative to the current folder.
        prove: take one real training step and validate one real batch (or predict one patch), on the job's device.

    Raises:
        JobError: with all problems at once.

    Examples:
        >>> check3dunet("train_config.yml").summary  # doctest: +SKIP
        '360 training patches of 2 file(s) and 45 validation patches of 1, ...'
    """
    purpose = purpose_of(config)
    job = read_job(config, purpose)
    with located(config):
        if purpose == "train":
            summary, warnings, proof = _training(job, prove=prove)
        else:
            summary, warnings, proof = *_prediction(job, prove=prove), None
    return Checked3dunet(purpose, (*job.remarks, *warnings), _planned(job), summary, proof)


@contextmanager
def _at(key: str) -> Iterator[None]:
    """Report errors that are raised inside at this key of the job."""
    try:
        yield
    except JobError:
        raise
    except MorulaError as error:
        raise JobError([Problem.of(error, error.key or key)]) from error


# --- training ----------------------------------------------------------------------------------------------------------------------------


def _training(job: Job, *, prove: bool) -> tuple[str, tuple[Problem, ...], Proof | None]:
    problems = [*_device_problems(job), *_file_problems(job, ("train", "val", "test")), *_checkpoint_problems(job)]
    if problems:
        raise JobError(problems)
    with _at("loaders.train"):
        prepared = prepare(job)
        targets = target_warnings(prepared)
    with _at("trainer.resume"):
        state_to_resume(prepared)
    if targets:
        raise JobError(list(targets))
    proof = prove_training(prepared, pick_device(job.plain.device or "auto")) if prove else None
    doubts = tuple(Problem("loaders.train", doubt, code=doubt.code) for doubt in doubts_about(prepared))
    return prepared.summary_line(), doubts, proof


def _device_problems(job: Job) -> Iterator[Problem]:
    try:
        pick_device(job.plain.device or "auto")
    except MorulaError as error:
        yield Problem.of(error, "device")


def _checkpoint_problems(job: Job) -> Iterator[Problem]:
    """Checkpoints to start from that do not exist, and a folder for new ones that is a file."""
    assert job.learning is not None
    trainer = job.learning.trainer
    for key, path in (("resume", trainer.resume), ("pre_trained", trainer.pre_trained)):
        if path is not None and not Path(path).expanduser().is_file():
            yield Problem(
                f"trainer.{key}", "the checkpoint does not exist", code="checkpoint.missing", value=path, remedy="Check the path."
            )
    folder = Path(trainer.checkpoint_dir).expanduser()
    if folder.exists() and not folder.is_dir():
        remedy = "Name another folder."
        yield Problem("trainer.checkpoint_dir", "is a file, not a folder", code="checkpoint.not_a_folder", value=str(folder), remedy=remedy)


def _file_problems(job: Job, phases: Sequence[PhaseName]) -> Iterator[Problem]:
    """Files that are missing, cannot be opened, do not match each other or the network, or hold NaN."""
    for name in phases:
        if job.loaders.phase(name) is not None:
            for found in try_volumes(job.loaders, name):
                yield from [found] if isinstance(found, Problem) else _volume_problems(job, f"loaders.{name}.file_paths", found)


def _volume_problems(job: Job, key: str, volume: Volume) -> Iterator[Problem]:
    yield from channel_problems(volume, job.model.in_channels, key)
    for array in (volume.raw, *volume.labels):
        try:
            check_image(Image(array, Axes("CZYX"), source=str(volume.path)))
        except MorulaError as error:
            yield Problem.of(error, key)


def target_warnings(prepared: Prepared) -> list[Problem]:
    """Targets that the loss cannot use: ids of objects, where it compares probabilities with 0 and 1."""
    criterion, patches = prepared.watcher.criterion, prepared.train_patches
    if not criterion.of_masks:
        return []
    # a few patches from all parts of the data: targets of one list are all of the same kind
    for index in np.unique(np.linspace(0, len(patches) - 1, _LABEL_PATCHES, dtype=int)):
        target = patches.sample(0, int(index))["targets"]
        if criterion.skip_last_target:
            target = target[:-1]
        counted = target if criterion.ignore_index is None else target[target != criterion.ignore_index]
        if counted.size and (counted.min() < 0 or counted.max() > 1):
            rule = (
                f"{criterion.name} compares probabilities with targets between 0 and 1, but the list label gives values from "
                f"{counted.min():g} to {counted.max():g}, such as ids of objects"
            )
            remedy = "Add BlobsToMask or StandardLabelToBoundary to the list; where labels are appended, set loss.skip_last_target."
            return [Problem("loaders.train.transformer.label", rule, code="targets.not_masks", remedy=remedy)]
    return []


def doubts_about(prepared: Prepared) -> list[Remark]:
    """Remarks on raw data and integer labels: repeated, grey, empty or misplaced ones, background with an id."""
    train, validation = prepared.train_patches.volumes, prepared.val_patches.volumes
    remarks = repeated_images({"training": _raws(train), "validation": _raws(validation)})
    pairs = [(raw, labels) for volume, raw in zip(train, _raws(train), strict=True) for labels in _labels(volume)]
    ignored = prepared.watcher.criterion.ignore_index
    value = None if ignored is None else int(ignored)
    # masks are what most of these networks learn
    unlike = [warning for warning in object_label_warnings([(labels, value) for _, labels in pairs]) if warning.code != "labels.mask"]
    if any(warning.code == "labels.grey" for warning in unlike):
        return remarks + unlike
    misplaced = images_that_hold_labels(pairs) or misplaced_labels(pairs, value)
    return remarks + unlike + misplaced + background_with_id([labels for _, labels in pairs])


def _raws(volumes: Sequence[Volume]) -> list[Image]:
    return [Image(volume.raw, Axes("CZYX"), source=str(volume.path)) for volume in volumes]


def _labels(volume: Volume) -> list[Image]:
    """The first channel of integer labels as images ZYX, lazy; maps of real numbers are not labels."""
    whole = [array for array in volume.labels if np.issubdtype(array.dtype, np.integer)]
    return [Image(View(array, [1, 2, 3], {0: 0}), Axes("ZYX"), source=str(volume.path)) for array in whole]


def prove_training(prepared: Prepared, device: str) -> Proof:
    """Take a few real training steps and validate one real batch; nothing is written.

    Raises:
        JobError: at the key that is wrong.
    """
    network, loaders = prepared.network.train().to(device), prepared.loaders
    with torch.no_grad():
        _check_loss(prepared, _first(loaders.train(0, 0, 0, 1), device), "loaders.train")
        network.eval()
        batch = _first(loaders.validation(0, 1), device)
        _check_loss(prepared, batch, "loaders.val")
        with _at("eval_metric"):
            prepared.watcher.scores(batch, network(batch["image"]))
    # training ends with the steps or the epochs, whichever comes first
    steps = min(prepared.options.steps or 0, prepared.options.epochs * loaders.steps_per_epoch)
    return prove_steps(prepared.options, network, prepared.watcher.loss, loaders, steps=steps)


def _first(batches: Iterable[Batch], device: str) -> Batch:
    return {name: values.to(device) if isinstance(values, Tensor) else values for name, values in next(iter(batches)).items()}


def _check_loss(prepared: Prepared, batch: Batch, phase: str) -> None:
    """Compute the loss of a real batch; what is wrong is reported at the key that causes it."""
    if not bool(torch.isfinite(batch["image"]).all()):
        with _at(f"{phase}.transformer.raw"):
            raise DataError("image.not_finite", "the transforms give NaN or infinite values", remedy="Correct the list.")
    with _at(f"{phase}.slice_builder.patch_shape"):
        outputs = prepared.network(batch["image"])
    with _at("loss"):
        total = torch.stack([sums.total for sums in prepared.watcher.loss(outputs, batch).values()]).sum()
        if not bool(torch.isfinite(total)):
            raise DataError(
                "loss.not_finite_at_start", f"is {float(total)} on the first batch", remedy="Check raw data and labels for NaN."
            )


# --- prediction --------------------------------------------------------------------------------------------------------------------------


def _prediction(job: Job, *, prove: bool) -> tuple[str, tuple[Problem, ...]]:
    """The summary and the warnings; the checkpoint is loaded."""
    problems = list(_device_problems(job))
    try:
        prepared = prepare_prediction(job.path)
    except JobError as error:
        raise JobError([*problems, *error.problems]) from error
    problems += [problem for volume in prepared.volumes for problem in _volume_problems(job, "loaders.test.file_paths", volume)]
    problems += _truth_problems(job, prepared.volumes)
    if problems:
        raise JobError(problems)
    with _at("model_path"):
        engine = Engine.of(job)
    if prove:
        _prove_prediction(engine, job)
    warnings = tuple(Problem("loaders.test", text) for text in prepared.warnings[len(job.remarks) :])
    outputs = f"{prepared.outputs[0]}{' ...' if len(prepared.outputs) > 1 else ''}"
    return f"{len(prepared.volumes)} file(s) to predict with {job.model.name} on {engine.device} into {outputs}", warnings


def _truth_problems(job: Job, volumes: tuple[Volume, ...]) -> Iterator[Problem]:
    """Data sets of the ground truth that are missing or have another shape."""
    if job.predictor.performance_metric is None:
        return
    for volume in volumes:
        try:
            truth = open_array(volume.path, job.predictor.gt_internal_path)
        except MorulaError as error:
            yield Problem.of(error, "predictor.gt_internal_path")
            continue
        if truth.shape[1:] != volume.raw.shape[1:]:
            rule = f"has {truth.shape[1:]} voxels but the raw data of {volume.path} {volume.raw.shape[1:]}"
            yield Problem("predictor.gt_internal_path", rule, code="image.shapes_differ", remedy="Name the data set of the same image.")


def _prove_prediction(engine: Engine, job: Job) -> None:
    """Compute one patch with its halo."""
    builder = None if job.loaders.test is None else job.loaders.test.slice_builder
    # planned tiles fit the network by construction
    if builder is None or job.predictor.tiles == "planned":
        return
    shape = [n + 2 * h for n, h in zip(builder.patch_shape, builder.halo_shape, strict=True)]
    with _at("loaders.test.slice_builder.patch_shape"), torch.no_grad():
        engine.forward(torch.zeros(1, job.model.in_channels, *shape, device=engine.device))


def _planned(job: Job) -> dict[str, object]:
    """Values of the keys that the file leaves out."""
    planned: dict[str, object] = {}
    sections = {"loaders": job.loaders.model_dump(mode="json", exclude={"train", "val", "test"})}
    if job.learning is None:
        sections["predictor"] = job.predictor.model_dump(mode="json")
    else:
        sections["trainer"] = job.learning.trainer.model_dump(mode="json", exclude={"tensorboard_formatter"})
    for section, values in sections.items():
        given: Mapping[str, object] = job.config.get(section) or {}
        planned |= {f"{section}.{key}": value for key, value in values.items() if key not in given and value is not None}
    return planned
