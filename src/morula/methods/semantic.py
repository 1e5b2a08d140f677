"""A class for every pixel: foreground against background, or several classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from morula import methods
from morula.core.errors import DataError, Problem
from morula.decoders.statistics import ChannelStatistics
from morula.labels.class_values import as_classes
from morula.labels.objects import Objects
from morula.methods.base import Method
from morula.methods.configured import Configured
from morula.methods.loss_options import OF_CLASSES
from morula.methods.object_options import ObjectOptions
from morula.methods.options import MethodOptions
from morula.methods.pictures import middle_plane, stretched
from morula.methods.planning import Document, Facts, JobSections, Planning
from morula.methods.postprocessing import Parameters, Postprocessing, SearchSpace
from morula.methods.scoring import Row, Score, Scoring
from morula.methods.semantic_options import Options
from morula.methods.training_task import Batch, Targets, TrainingTask
from morula.metrics.overlap import class_table, dice_per_class, iou_per_class

if TYPE_CHECKING:
    from torch import Tensor

    from morula.losses.sums import Activation, Sums


class SemanticSettings(Configured):
    """Number of classes, their names and their losses."""

    options: Options

    @property
    def classes(self) -> int:
        """Number of classes with the background."""
        return self.options.classes or len(self.options.values) or 2

    @property
    def binary(self) -> bool:
        """Whether one channel, the foreground through a sigmoid, is predicted. `ce` and `weighted_ce` need one channel per class."""
        return self.classes == 2 and not set(OF_CLASSES) & set(self.losses)

    @cached_property
    def channels(self) -> tuple[str, ...]:
        """Names of the predicted classes: only the foreground if `binary`."""
        names = self.options.names or ("background", *(f"class {i}" if self.classes > 2 else "foreground" for i in range(1, self.classes)))
        return tuple(names[1:]) if self.binary else tuple(names)

    @property
    def losses(self) -> dict[str, float]:
        """Weights of the losses by name: those of the options, or the defaults."""
        return self.options.losses or ({"bce_dice": 1.0} if self.classes == 2 else {"ce": 1.0, "dice": 1.0})

    def as_classes(self, labels: np.ndarray) -> tuple[np.ndarray, int | None]:
        """Labels with the numbers of their classes, and the number of ignored pixels; they are the labels themselves without `values`.

        Raises:
            DataError: when a label is no class.
        """
        if not self.options.values:
            return labels, self.options.ignore
        return as_classes(np.asarray(labels), self.options.values, self.options.ignore), len(self.options.values)


class SemanticTask(SemanticSettings, TrainingTask):
    """One head: a probability per class, or one of the foreground."""

    @property
    def probability_channels(self) -> bool:
        """Always."""
        return True

    @property
    def exclusive_channels(self) -> bool:
        """Unless one channel is enough."""
        return not self.binary

    @property
    def heads(self) -> dict[str, int]:
        """One head: one channel if `binary`, else one channel per class."""
        return {"classes": 1 if self.binary else self.classes}

    def targets(
        self,
        labels: np.ndarray,
        classes: np.ndarray | None = None,
        unlabelled: np.ndarray | None = None,
        relevant: np.ndarray | None = None,
    ) -> Targets:
        """One-hot channels of a class image.

        Raises:
            DataError: when a label is no class.
        """
        labels, ignore = self.as_classes(labels)
        ignored = np.zeros(labels.shape, bool) if ignore is None else labels == ignore
        highest = int(labels[~ignored].max(initial=0))
        if highest >= self.classes:
            raise DataError(
                "labels.unknown_class",
                f"a label has the value {highest} but there are {self.classes} classes (0 to {self.classes - 1})",
                value=highest,
                remedy="Set method.classes, or method.ignore for a value that is not a class.",
            )
        first = 1 if self.binary else 0  # the background has no channel of its own where one sigmoid is enough
        channels = np.stack([labels == value for value in range(first, self.classes)]).astype(np.float32)
        weights = np.ones_like(channels)
        weights[:, ignored if unlabelled is None else ignored | unlabelled] = 0
        return Targets(channels, weights)

    def loss(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Sums]:
        """One part per loss."""
        logits, targets, weights = outputs["classes"], batch["targets"], batch["weights"]
        activation: Activation = "sigmoid" if self.binary else "softmax"
        parts = {}
        for name, share in self.losses.items():
            more = self.options.loss_options.get(name)
            parts[name] = methods.loss_sums.loss_sums(
                name, logits, targets, weights, activation=activation, share=share, classes=self.options.class_weights, options=more
            )
        return parts

    def activate(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """Probabilities of the classes."""
        logits = outputs["classes"]
        return logits.sigmoid() if self.binary else logits.softmax(dim=1)

    def preview(self, batch: Batch, outputs: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """Image, truth and prediction side by side; classes are grey levels."""
        image = stretched(middle_plane(batch["image"][0, 0].float().cpu().numpy()))
        predicted = self.activate(outputs)[0].float().cpu().numpy()
        truth = batch["targets"][0].float().cpu().numpy()
        classes = [array[0] if self.binary else array.argmax(axis=0) / (self.classes - 1) for array in (truth, predicted)]
        return {"classes": np.hstack([image, *(middle_plane(array).astype(np.float32) for array in classes)])}

    def preview_titles(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """One row."""
        return (), ("image", "target", "prediction")


class SemanticPostprocessing(SemanticSettings, Postprocessing):
    """The most probable class of each pixel."""

    instances: ClassVar[bool] = False

    def fit(self, statistics: ChannelStatistics) -> Parameters:
        """The threshold."""
        threshold = self.options.threshold
        return {"threshold": 0.5 if threshold == "auto" else float(threshold)}

    def decode(self, prediction: np.ndarray, parameters: Parameters) -> Objects:
        """The class image, as labels 0, 1, 2, ...; the confidence of a class is its mean probability in its pixels."""
        labels = (prediction[0] > parameters["threshold"]) if self.binary else prediction.argmax(axis=0)
        labels = labels.astype(np.uint8 if self.classes <= 256 else np.uint16)
        probability = prediction[0] if self.binary else prediction.max(axis=0)
        # two histograms give the mean per class in one pass each, without a mask per class
        counts = np.bincount(labels.ravel(), minlength=self.classes)
        sums = np.bincount(labels.ravel(), weights=probability.ravel(), minlength=self.classes)
        confidence = (sums / np.maximum(counts, 1)).astype(np.float32)[1:]
        return Objects(labels=labels, confidence=confidence, intermediates={})

    def block_problem(self) -> str:
        """None: each voxel has its class by itself."""
        return ""

    def search_space(self, truths: Sequence[np.ndarray]) -> SearchSpace:
        """The threshold, if `binary`."""
        threshold = self.options.threshold
        if not self.binary:
            return {}
        return {"method.threshold": (threshold, *(t for t in (0.1, 0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.8, 0.9) if t != threshold))}


class SemanticScoring(SemanticSettings, Scoring):
    """Overlap of each class."""

    figures: ClassVar[tuple[str, ...]] = ("iou", "dice")

    def score(self, truth: np.ndarray, result: np.ndarray) -> Score:
        """Contingency table [true class, predicted class], without ignored pixels.

        Raises:
            DataError: when a label is no class.
        """
        true, ignore = self.as_classes(truth)
        return class_table(true, result, self.classes, ignore=ignore)

    def score_rows(self, scores: Mapping[str, Score]) -> list[Row]:
        """One row per image and class with IoU and Dice, then the rows of all pixels together."""
        # pooled over pixels, not over images: a class may be absent from an image
        tables = {**scores, "pooled": sum(scores.values())} if scores else {}
        names = (self.options.names or ("background", *self.channels))[1:] if self.binary else self.channels[1:]
        rows = []
        for image, table in tables.items():
            figures = {"iou": iou_per_class(table)[1:], "dice": dice_per_class(table)[1:]}
            rows += [
                {"image": image, "class": name, **{what: float(values[i]) for what, values in figures.items()}}
                for i, name in enumerate(names)
            ]
            if len(names) > 1:
                rows.append({"image": image, "class": "mean", **{what: nanmean(values) for what, values in figures.items()}})
        return rows


class SemanticPlanning(Planning):
    """The number of classes follows from the labels where the job does not state it."""

    options: Options

    @classmethod
    def option_problems(cls, options: MethodOptions, objects: ObjectOptions) -> list[Problem]:
        """Options of objects, which have no effect on classes."""
        remedy = "Leave it out, or use the method channels."
        return [
            Problem(f"objects.{name}", "has no effect on classes", code="objects.no_effect", remedy=remedy)
            for name in ("decoder", "refine", "filter")
            if getattr(objects, name)
        ]

    @classmethod
    def labels_without_class(cls, options: MethodOptions) -> frozenset[int | None] | None:
        """The ignored value."""
        assert isinstance(options, Options)
        return frozenset({options.ignore})

    @classmethod
    def planned(cls, job: JobSections, facts: Facts, network: Document) -> Document:
        """The values of the classes, where those of the labels have gaps, and the number of classes.

        A value that is missing between 0 and the highest one is a class that does not occur if the options state as many classes.
        """
        method = job.method
        assert isinstance(method, Options)
        found = sorted({0, *facts.values})
        stated = method.classes or len(method.names) or None
        gaps = not method.values and len(found) > 1 and found != list(range(len(found))) and stated in (None, len(found))
        values = found if gaps else list(method.values)
        planned: Document = {"values": values} if gaps else {}
        if method.classes is None:
            planned["classes"] = len(values) or max(2, found[-1] + 1, len(method.names))
        return {"method": planned} if planned else {}


class Semantic(SemanticTask, SemanticPostprocessing, SemanticScoring, SemanticPlanning, Method):
    """The method `semantic`."""

    options: Options


def nanmean(values: np.ndarray) -> float:
    """Mean of the values that are not NaN; NaN if all are. A class without pixels has the score NaN.

    Examples:
        >>> nanmean(np.array([0.5, np.nan])), nanmean(np.array([np.nan]))
        (0.5, nan)
    """
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else float("nan")
