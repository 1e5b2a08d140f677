"""Contracts of methods, one per interface: each function checks one method of `morula.methods.METHODS` and raises `AssertionError`.

A package that adds a method runs them on it::

    @pytest.mark.parametrize("contract", method_contracts.CONTRACTS)
    def test_my_method(contract):
        contract("my_method", ndim=2)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from morula.core.errors import Problem
from morula.core.orientation import Orientation
from morula.jobs.job import Job
from morula.jobs.load import load_job
from morula.jobs.plan import plan
from morula.jobs.tuning import changed
from morula.methods import METHODS
from morula.methods.base import Method
from morula.methods.planning import Facts, Sizes
from morula.methods.postprocessing import Postprocessing
from morula.methods.scoring import Scoring
from morula.methods.training_task import TrainingTask

EDGE = 32
"""Edge of the images in voxels."""


def facts(ndim: int) -> Facts:
    """Properties of some training images."""
    return Facts(ndim, (1.0,) * ndim, 1, ((EDGE,) * ndim,) * 2, values=(0, 1), sizes=Sizes(20, 4.0), unit="um")


def planned_job(kind: str, ndim: int) -> Job:
    """A planned job of a method with all defaults."""
    images = {"train": {"raw": "images"} | ({"labels": "labels"} if METHODS.load(kind).labelled else {})}
    return plan(load_job({"images": images, "method": kind, "sampling": {"patch": [EDGE] * ndim}}), facts(ndim))


def method(kind: str, ndim: int) -> Method:
    """A method with its planned options."""
    job = planned_job(kind, ndim)
    built: Method = METHODS.load(kind)(job.method, job.objects, ndim=ndim, spacing=(1.0,) * ndim)
    return built


def labels(ndim: int, *, instances: bool) -> np.ndarray:
    """Two cubes: as objects 1 and 2, or as class 1."""
    array = np.zeros((EDGE,) * ndim, np.uint16)
    # of different sizes, and apart from each other and from the border: every method can separate them
    array[(slice(4, 12),) * ndim] = 1
    array[(slice(18, 28),) * ndim] = 2 if instances else 1
    return array


def _batch(task: TrainingTask, ndim: int, *, instances: bool) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(0)
    image = rng.random((1, *(EDGE,) * ndim), dtype=np.float32)
    entries: dict[str, np.ndarray] = {"image": image, "weights": np.ones_like(image)}
    if task.labelled:
        targets = task.targets(labels(ndim, instances=instances))
        entries |= {"targets": targets.channels, "weights": targets.weights}
        if targets.instances is not None:
            entries["instances"] = targets.instances.astype(np.int64)
    entries |= task.pretext(image, rng)
    return {name: torch.from_numpy(np.ascontiguousarray(values))[None] for name, values in entries.items()}


def _outputs(task: TrainingTask, ndim: int) -> dict[str, torch.Tensor]:
    """Outputs of a network: the heads of the task, and the reconstruction that a `wnet` adds to them."""
    generator = torch.Generator().manual_seed(0)
    heads = {**task.heads, "reconstruction": 1}  # other tasks ignore it
    shape = (EDGE,) * ndim
    return {name: torch.randn((1, width, *shape), generator=generator).requires_grad_() for name, width in heads.items()}


def training_task_is_differentiable(kind: str, ndim: int) -> None:
    """Every part of the loss is finite, and every head receives a gradient; the channels have the names that the task gives them."""
    task = method(kind, ndim)
    batch, outputs = _batch(task, ndim, instances=task.instances), _outputs(task, ndim)
    parts = task.loss(outputs, batch)
    assert parts, "a loss has at least one part"
    # unweighted: a part with weight 0 must have a gradient as well
    total = torch.stack([part.total for part in parts.values()]).sum()
    assert torch.isfinite(total), f"the loss is {float(total)}"
    total.backward()
    for name in task.heads:
        gradient = outputs[name].grad
        assert gradient is not None, f"the head {name} receives no gradient"
        assert bool(gradient.abs().sum() > 0), f"the gradient of the head {name} is 0"
    assert task.activate(outputs).shape == (1, len(task.channels), *(EDGE,) * ndim)


def training_task_scores_no_unannotated_voxel(kind: str, ndim: int) -> None:
    """Targets have the shape of their weights, and the weights are 0 where a voxel is not annotated."""
    task = method(kind, ndim)
    if not task.labelled:
        return
    unlabelled = np.zeros((EDGE,) * ndim, np.bool_)
    unlabelled[:6] = True  # cuts the first object, whose targets elsewhere must not depend on the cut
    targets = task.targets(labels(ndim, instances=task.instances), unlabelled=unlabelled)
    assert targets.channels.shape == targets.weights.shape
    assert targets.channels.dtype == np.float32
    assert not targets.weights[:, unlabelled].any()
    assert targets.weights[:, ~unlabelled].any()


def training_task_draws_pictures(kind: str, ndim: int) -> None:
    """Previews are planes with values from 0 to 1, and a task gives no advice before the first epoch."""
    task = method(kind, ndim)
    with torch.no_grad():
        batch, outputs = _batch(task, ndim, instances=task.instances), _outputs(task, ndim)
        pictures, arrays = task.preview(batch, outputs), task.arrays(batch, outputs)
    assert pictures
    assert arrays
    for array in arrays.values():
        assert array.shape[-ndim:] == (EDGE,) * ndim
        assert array.ndim in (ndim, ndim + 1)
    for picture in pictures.values():
        assert picture.ndim == 2 or picture.shape[2:] == (3,)
        assert picture.min() >= 0
        assert picture.max() <= 1
    assert task.advice([]) == []


def postprocessing_is_deterministic(kind: str, ndim: int) -> None:
    """Decoding gives labels of the image's shape, the same each time, and changes no input."""
    built = method(kind, ndim)
    if built.restores:
        return
    with torch.no_grad():
        channels = built.activate(_outputs(built, ndim))[0].numpy()
    post: Postprocessing = built
    settled, _ = post.settle(channels, None)
    before = settled.copy()  # `decode` runs twice on the same array, so that a change would also change its result
    results = [post.decode(settled, post.fit(post.statistics(settled))).labels for _ in range(2)]
    assert results[0].shape == (EDGE,) * ndim
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(settled, before)


def postprocessing_follows_orientations(kind: str, ndim: int) -> None:
    """The identity is the first orientation and changes nothing; all others keep the number of channels."""
    built = method(kind, ndim)
    values = np.random.default_rng(0).random((len(built.channels), *(EDGE,) * ndim), dtype=np.float32)
    first, *others = built.orientations()
    assert first == Orientation.identity(ndim)
    np.testing.assert_array_equal(built.reorient(values, first), values)
    assert all(built.reorient(values, orientation).shape == values.shape for orientation in others)


def search_space_holds_valid_settings(kind: str, ndim: int) -> None:
    """Every value to try makes a valid job, beside the current values of the other settings."""
    job, built = planned_job(kind, ndim), method(kind, ndim)
    space = built.search_space([labels(ndim, instances=built.instances)])
    current = {key: values[0] for key, values in space.items()}
    for key, values in space.items():
        for value in values:
            changed(job, {**current, key: value})


def scoring_is_highest_for_the_truth(kind: str, ndim: int) -> None:
    """The truth itself has the highest scores; rows name their image, and one of them is pooled."""
    built = method(kind, ndim)
    scoring: Scoring = built
    if built.restores:
        truth = np.random.default_rng(0).random((1, *(EDGE,) * ndim), dtype=np.float32)
        worse = truth[..., ::-1]  # the same values in other places: a score of histograms would not notice
    else:
        truth = labels(ndim, instances=built.instances)
        worse = np.zeros_like(truth)
    right, wrong = (scoring.score_rows({"a": scoring.score(truth, result)}) for result in (truth, worse))
    assert scoring.score_rows({}) == []
    assert [row["image"] for row in right].count("pooled") == len(right) // 2
    figure = scoring.figures[0]
    assert all(name in right[0] for name in scoring.figures)
    assert all(good[figure] > bad[figure] for good, bad in zip(right, wrong, strict=True))


def planning_is_complete(kind: str, ndim: int) -> None:
    """A planned job has no problem of the method, and planning it again changes nothing."""
    job, built = planned_job(kind, ndim), method(kind, ndim)
    problems: list[Problem] = [*built.option_problems(job.method, job.objects), *built.dimension_problems(), *built.job_problems(job)]
    assert problems == []
    assert plan(job, facts(ndim)).model_dump() == job.model_dump()


CONTRACTS: tuple[Callable[[str, int], None], ...] = (
    training_task_is_differentiable,
    training_task_scores_no_unannotated_voxel,
    training_task_draws_pictures,
    postprocessing_is_deterministic,
    postprocessing_follows_orientations,
    search_space_holds_valid_settings,
    scoring_is_highest_for_the_truth,
    planning_is_complete,
)
"""All of them, each called with the name of a method and the number of dimensions."""
