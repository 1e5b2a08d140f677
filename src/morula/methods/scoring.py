"""Losses by the name that a job gives them, and scores of objects."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from morula.core.errors import OptionError
from morula.core.family import did_you_mean
from morula.losses import LOSSES

if TYPE_CHECKING:
    from torch import Tensor

    from morula.losses.sums import Activation, Sums

ClassWeights = Literal["balanced"] | tuple[Annotated[float, Field(gt=0)], ...]
"""Weight of each class in the loss, or `balanced`: rare classes count as much as common ones, batch by batch."""

OWN_ACTIVATION = ("bce", "bce_dice")
"""Losses that hold their activation themselves, for the sake of numerical stability."""


LossArguments = dict[str, bool | float | tuple[float, ...]]
"""Arguments of a loss by name, for example ``{"squared": True, "smooth": 0}``."""

OF_CLASSES = ("ce", "weighted_ce")
"""Losses of classes that exclude each other, whose targets are class numbers."""

OF_PROBABILITIES = ("bce", "bce_dice", "dice", "generalized_dice")
"""Losses of values between 0 and 1 that come from a sigmoid."""


def check_losses(names: Iterable[str], *, without: Container[str] = ()) -> None:
    """Refuse a loss that does not exist, or that this method cannot use.

    Raises:
        ValueError: with the losses to choose from; the job tells it at its line.

    Examples:
        >>> check_losses(["bec"])  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: unknown loss 'bec'; known are bce, dice, ... Did you mean 'bce'?
    """
    known = [name for name in LOSSES.names if name not in without]
    for name in names:
        if name not in known:
            raise ValueError(unknown_loss(name, known))


def check_loss_options(options: Mapping[str, LossArguments]) -> None:
    """Refuse options of losses that do not exist.

    Raises:
        OptionError: with the losses to choose from.

    Examples:
        >>> check_loss_options({"dice": {"squared": True, "smooth": 0}})
    """
    for name in options:
        if name not in LOSSES.names:
            rule = f"is not a loss; known are {', '.join(LOSSES.names)}"
            remedy = did_you_mean(name, list(LOSSES.names)).strip()
            raise OptionError("loss.unknown", rule, key="loss_options", value=name, remedy=remedy)


def unknown_loss(name: str, known: Sequence[str]) -> str:
    """What to say of a loss that is not among the known ones."""
    hint = " l1 is the mean absolute error." if name.lower() == "mae" else did_you_mean(name, list(known))
    return f"unknown loss {name!r}; known are {', '.join(known)}.{hint}"


def check_class_weights(weights: ClassWeights | None, number: int) -> None:
    """Refuse weights of another number of classes.

    Raises:
        ValueError: with both numbers; the job tells it at its line.
    """
    if weights not in (None, "balanced") and len(weights) != number:
        raise ValueError(f"class_weights has {len(weights)} entries but there are {number} classes; give each one")


def one_an_axis(settings: Any, key: str = "") -> Iterator[tuple[str, tuple[int, ...]]]:
    """Lists of whole numbers among a decoder's settings, by dotted key: they hold a number an axis.

    Examples:
        >>> list(one_an_axis({"grid": (2, 2), "steps": 3, "seed_morphology": ({"op": "erode", "radius": (1, 2)},)}))
        [('grid', (2, 2)), ('seed_morphology.0.radius', (1, 2))]
    """
    if isinstance(settings, tuple | list) and settings and all(isinstance(each, int) for each in settings):
        yield key, tuple(settings)
    elif isinstance(settings, Mapping | tuple | list):
        for name, each in settings.items() if isinstance(settings, Mapping) else enumerate(settings):
            yield from one_an_axis(each, f"{key}.{name}" if key else str(name))


def object_settings(kind: str, decoder: Any, objects: Any, truths: Sequence[np.ndarray]) -> dict[str, tuple[Any, ...]]:
    """Values worth trying from channels to objects, by dotted key of the job: those of the decoder, then the operations on objects.

    `truths` are label images, for the size of objects.
    """
    from morula.decoders.search_space import refinement_space

    sizes = [np.unique(truth[truth > 0], return_counts=True)[1] for truth in truths]
    space: dict[str, tuple[Any, ...]] = {"objects.decoder.kind": (kind,)}
    space |= {f"objects.decoder.{key}": values for key, values in decoder.search_space().items()}
    refinements = refinement_space(objects.refine, np.concatenate(sizes) if sizes else np.zeros(0))
    return space | {f"objects.refine.{name}": values for name, values in refinements.items()}


def loss_sums(
    name: str,
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None,
    *,
    activation: Activation = "linear",
    share: float = 1.0,
    classes: ClassWeights | None = None,
    options: LossArguments | None = None,
) -> Sums:
    """Sums of a loss by its name, multiplied by `share`.

    Args:
        name: member of `morula.losses.LOSSES`.
        logits: NC(Z)YX.
        target: of the same shape; for `ce` one channel a class, or one channel of class numbers.
        weight: broadcastable to it; 0 leaves a voxel out.
        activation: what turns logits into values of the target's kind; the one used in prediction.
        share: factor of the loss.
        classes: weights of the classes, in cross-entropies.
        options: further arguments of the loss, such as ``{"squared": True}``.

    Raises:
        UnknownNameError: for a loss that does not exist.

    Examples:
        >>> import torch
        >>> float(loss_sums("l1", torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2), None, activation="sigmoid", share=2.0).total)
        1.0
    """
    from morula.losses.rebalance import CLASS_WEIGHTED, class_weights
    from morula.losses.sums import Sums, activate

    if classes is not None and weight is not None and name in CLASS_WEIGHTED:
        weight = class_weights(target, weight, classes)
    more = dict(options or {})
    if name in OF_CLASSES:
        numbers = target if target.shape[1] == 1 else target.argmax(dim=1, keepdim=True)
        sums = LOSSES.load(name)(logits, numbers, None if weight is None else weight[:, :1], **more)
    elif name in ("dice", "generalized_dice"):
        sums = LOSSES.load(name)(logits, target, weight, activation=activation, **more)
    elif name in OWN_ACTIVATION:
        sums = LOSSES.load(name)(logits, target, weight, **more)
    else:
        sums = LOSSES.load(name)(activate(logits, activation), target, weight, **more)
    return Sums(sums.parts, lambda parts: share * sums.value(parts))


@dataclass(frozen=True)
class ObjectScores:
    """Scores of one image: objects in space, objects slice by slice (empty in 2D), and voxels [truth, result] of the foregrounds."""

    objects: Sequence[Any]
    slices: Sequence[Any]
    voxels: np.ndarray

    def __iter__(self) -> Iterator[Any]:
        """The scores in space, a threshold each."""
        return iter(self.objects)


def score_objects(truth: np.ndarray, result: np.ndarray, thresholds: Sequence[float]) -> ObjectScores:
    """Scores of objects (Z)YX against the true ones: as they are, cut into z planes, and as a foreground.

    Examples:
        >>> truth = np.array([[[1, 1, 0]], [[1, 0, 0]]])
        >>> scores = score_objects(truth, truth > 0, (0.5,))
        >>> scores.objects[0].tp, scores.slices[0].tp, scores.voxels.tolist()
        (1, 2, [[3, 0], [0, 3]])
    """
    from morula.metrics.matching import match, pool
    from morula.metrics.overlap import class_table

    planes = [match(*planes, thresholds=thresholds) for planes in zip(truth, result)] if truth.ndim == 3 else []
    voxels = class_table((truth > 0).astype(np.uint8), (result > 0).astype(np.uint8), 2)
    return ObjectScores(match(truth, result, thresholds=thresholds), pool(planes) if planes else (), voxels)


def object_rows(scores: Mapping[str, ObjectScores]) -> list[dict[str, Any]]:
    """A row an image and threshold, then the pooled ones: the figures of `match`, `slice_f1` of the planes' objects, `foreground_dice`."""
    from morula.metrics.matching import pool

    if not scores:
        return []
    every = list(scores.values())
    pooled = ObjectScores(
        pool([each.objects for each in every]),
        pool([each.slices for each in every]) if all(each.slices for each in every) else (),
        sum(each.voxels for each in every),  # type: ignore[arg-type]
    )
    return [
        {
            "image": name,
            **asdict(row),
            "slice_f1": scored.slices[number].f1 if scored.slices else row.f1,
            "foreground_dice": dice(scored.voxels),
        }
        for name, scored in {**scores, "pooled": pooled}.items()
        for number, row in enumerate(scored.objects)
    ]


def dice(voxels: np.ndarray) -> float:
    """Dice of a foreground from its voxels [truth, result]; 1 where there is none in either.

    Examples:
        >>> dice(np.array([[5, 1], [1, 2]]))
        0.6666666666666666
    """
    both = 2 * voxels[1, 1] + voxels[0, 1] + voxels[1, 0]
    return float(2 * voxels[1, 1] / both) if both else 1.0
