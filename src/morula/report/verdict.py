"""The first thing that a reader needs: how good the result is, in one sentence, and what to do next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from morula.report.run_folder import Row, RunContents
from morula.report.tables import best_epoch, key_column, number

GOOD, FAIR = 0.9, 0.7
"""F1 (or IoU of classes) from which a result counts as good, and as fair."""
RATIO = 1.25
"""From this ratio of predicted to true objects (or its inverse) the verdict names the wrong count instead of the score."""


Step: TypeAlias = tuple[str, str]
"""What to do, and the command for it (or nothing)."""


@dataclass(frozen=True)
class Verdict:
    """One sentence, the next steps (each a sentence and perhaps a command), and how good it is: `good`, `fair`, `poor` or `open`."""

    sentence: str
    steps: tuple[Step, ...] = ()
    grade: str = "open"


def verdict(run: RunContents, n_objects: int | None) -> Verdict:
    """How good the results of a run are, and what to do next.

    Args:
        run: contents of the run folder.
        n_objects: objects in all predicted images, `None` where the results are not objects.
    """
    if run.training and not run.has_model:
        epochs = (run.job.get("training") or {}).get("epochs", "?")
        step = f"morula run JOB.yaml --output {run.path} --resume"
        return Verdict(f"The training is not finished: {len(run.training)} of {epochs} epochs are done.", (("Resume it:", step),))
    if not run.images:
        if not run.has_model:
            return Verdict("This run was not trained, or it stopped before its first epoch ended.")
        return Verdict(
            "The network is trained; no image has been predicted yet.",
            (("Use it on any image:", f"morula segment IMAGES --model {run.path} --output OUTPUT"),),
        )
    pooled = [row for row in run.scores if row["image"] == "pooled"]
    if not pooled:
        return _unscored(run, n_objects)
    key = key_column(run.scores)
    if key == "threshold":
        return _of_objects(run, pooled[0])
    if key == "class":
        return _of_classes(pooled)
    return Verdict("The test images are restored; the table below compares them with the originals.")


def _unscored(run: RunContents, n_objects: int | None) -> Verdict:
    images = _counted(len(run.images), "image")
    found = f"{images} predicted." if n_objects is None else f"{_counted(n_objects, 'object')} found in {images}."
    if any(image.truth for image in run.images):
        return Verdict(f"{found} They are not scored yet.", (("Score them:", f"morula evaluate {run.path}"),))
    steps = (("Look at the pictures below, above all at the worst objects.", ""),)
    return Verdict(f"{found} Without true labels they cannot be scored.", steps)


def _of_objects(run: RunContents, row: Row) -> Verdict:
    found, f1 = int(number(row["tp"])), number(row["f1"])
    n_pred, n_true = found + int(number(row["fp"])), found + int(number(row["fn"]))
    counts = f"{_counted(n_pred, 'object')} found for {n_true:,} true {'one' if n_true == 1 else 'ones'}"
    at = f"F1 {f1:.2f} at an IoU of {row['threshold']}"
    if not n_true:
        return Verdict(f"{counts}: the test images hold no true object, so the objects cannot be judged.")
    if not n_pred:
        return Verdict(f"No object found for {n_true:,} true ones.", _better(run), "poor")
    grade = "good" if f1 >= GOOD else "fair" if f1 >= FAIR else "poor"
    # wrong counts come first: the score alone does not say whether objects were split or merged
    if n_pred > RATIO * n_true:
        split = number(row.get("variation_split")) > number(row.get("variation_merge"))
        judgement = "over-segmented" if split else "too many, over-segmented or false"
    elif n_true > RATIO * n_pred:
        merged = number(row.get("variation_merge")) > number(row.get("variation_split"))
        judgement = "under-segmented" if merged else "too few"
    else:
        judgement = {"good": "a good result", "fair": "a fair result", "poor": "most do not match"}[grade]
    return Verdict(f"{counts}: {judgement} ({at}).", _use(run) if grade == "good" else _better(run), grade)


def _of_classes(pooled: Sequence[Row]) -> Verdict:
    values = {row["class"]: number(row["iou"]) for row in pooled if row["class"] != "mean" and not math.isnan(number(row.get("iou")))}
    if not values:
        return Verdict("The test images hold none of the classes, so nothing can be said about them.")
    mean, worst = sum(values.values()) / len(values), min(values, key=lambda name: values[name])
    grade = "good" if mean >= GOOD else "fair" if mean >= FAIR else "poor"
    several = f"; the weakest class is {worst} ({values[worst]:.2f})" if len(values) > 1 else ""
    return Verdict(f"IoU {mean:.2f} on average over {_counted(len(values), 'class')}{several}: a {grade} result.", grade=grade)


def _use(run: RunContents) -> tuple[Step, ...]:
    return (("Use the model on new images:", f"morula segment IMAGES --model {run.path} --output OUTPUT"),)


def _better(run: RunContents) -> tuple[Step, ...]:
    """What is most likely to help: the search of the decoder's settings costs minutes, longer training hours, more labels days."""
    steps: list[Step] = []
    objects, images = run.job.get("objects") or {}, run.job.get("images") or {}
    if not objects.get("tuned") and images.get("validate"):
        command = f"morula tune {run.path} && morula predict {run.path} && morula evaluate {run.path}"
        steps.append(("Search the settings of the decoder on the validation images:", command))
    epochs = int(number((run.job.get("training") or {}).get("epochs")) or 0) if run.job.get("training") else 0
    # a network whose last epoch was the best has not converged
    if run.training and best_epoch(run.training) == epochs == len(run.training):
        command = f"morula run JOB.yaml --set training.epochs={4 * epochs} --output NEW_FOLDER"
        steps.append(("The last epoch was the best one, so the network can still improve; train for longer:", command))
    if not steps:
        steps.append(("Look at the worst objects below; label a few images like theirs and add them to the training images.", ""))
    return tuple(steps)


def _counted(count: int, noun: str) -> str:
    """A count with its noun.

    Examples:
        >>> _counted(1889, "object"), _counted(1, "image"), _counted(2, "class")
        ('1,889 objects', '1 image', '2 classes')
    """
    plural = "" if count == 1 else "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{plural}"
