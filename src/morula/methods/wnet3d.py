"""Segmentation without labels: a W-Net groups voxels into classes by brightness and position, a decoder splits the foreground class.

A W-Net is two U-Nets in a row. The first one predicts class probabilities, the second one reconstructs the image from them::

    image --> U-Net --> classes --> U-Net --> reconstruction
                        soft normalised cuts  difference from the image

The normalised cuts put voxels that are near each other and equally bright into one class; the reconstruction keeps the classes
informative about the image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from morula import methods
from morula.core.errors import OptionError, Problem
from morula.core.remark import Remark
from morula.data.normalise import Fixed, Percentile
from morula.decoders.decode import AnyDecoder, build_decoder
from morula.decoders.foreground import VoronoiOtsu
from morula.decoders.statistics import ChannelStatistics
from morula.decoders.voronoi_otsu import otsu_voronoi, otsu_watershed
from morula.kernels.crf import refine_probabilities
from morula.labels.objects import Objects
from morula.labels.refine import refine_objects
from morula.methods.base import Method
from morula.methods.object_options import ObjectOptions
from morula.methods.options import MethodOptions
from morula.methods.pictures import middle_plane, stretched
from morula.methods.planning import Document, Facts, JobSections, Planning
from morula.methods.postprocessing import Parameters, Postprocessing, SearchSpace
from morula.methods.scoring import Row, Score, Scoring, object_rows, score_objects
from morula.methods.training_task import Batch, TrainingTask, first_image
from morula.methods.tunable import object_settings
from morula.methods.unlabelled import advice_on_balance, image_warnings
from morula.methods.wnet3d_options import TOP, Options
from morula.representations.encode import build_channels

if TYPE_CHECKING:
    from torch import Tensor

    from morula.losses.sums import Sums

SCALE = {"low": 0.5, "high": 99.8, "clip": True, "top": TOP}
TRAINING = {"epochs": 50, "schedule": {"kind": "plateau"}, "patience": 15}
"""Planned training where the job leaves it open: it ends when the loss stops falling."""


class WNetTask(TrainingTask):
    """One head: the classes. The loss is the soft normalised cuts plus the reconstruction."""

    options: Options
    labelled: ClassVar[bool] = False

    @property
    def heads(self) -> dict[str, int]:
        """The classes; the network itself adds the reconstruction."""
        return {"classes": self.options.classes}

    @cached_property
    def channels(self) -> tuple[str, ...]:
        """The classes, numbered."""
        return tuple(f"class {i}" for i in range(self.options.classes))

    def loss(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Sums]:
        """Soft normalised cuts of the classes, and the difference between reconstruction and image, each with its weight."""
        return methods.wnet3d_loss.wnet3d_loss(self.options, outputs, batch, self.spacing)

    def epoch_figures(self, figures: Mapping[str, float]) -> dict[str, float]:
        """Both losses without their weights, and the share of the normalised cuts in the weighted sum."""
        weights = {"ncuts": self.options.ncuts_weight, "reconstruction": self.options.reconstruction_weight}
        further: dict[str, float] = {}
        for kind in ("", "validation_"):
            parts = {name: figures[f"{kind}loss_{name}"] for name in weights if f"{kind}loss_{name}" in figures}
            further |= {f"{kind}{name}": value / weights[name] for name, value in parts.items() if weights[name]}
            if len(parts) == 2:  # no balance where one of the weights is 0
                further[f"{kind}balance"] = parts["ncuts"] / max(sum(parts.values()), 1e-12)
        return further

    def activate(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """Probabilities of the classes."""
        return outputs["classes"].softmax(dim=1)

    def arrays(self, batch: Batch, outputs: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """The image, the probability of each class, the most likely class (from 0), and the reconstruction."""
        classes = first_image(self.activate(outputs))
        logits = outputs["reconstruction"]
        return {
            "input": first_image(batch["image"]),
            "encoder output": classes,
            "discrete labels": classes.argmax(axis=0).astype(np.uint8),
            "reconstruction": first_image(logits if self.options.reconstruction == "mse" else logits.float().sigmoid()),
        }

    def preview(self, batch: Batch, outputs: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """A strip: the image, the probability of each class, the most likely class as a grey level, and the reconstruction."""
        image = batch["image"][0, 0].float().cpu().numpy()
        classes = self.activate(outputs)[0].float().cpu().numpy()
        logits = outputs["reconstruction"][0, 0].float()
        reconstruction = (logits if self.options.reconstruction == "mse" else logits.sigmoid()).cpu().numpy()
        labels = middle_plane(classes.argmax(axis=0)).astype(np.float32) / (len(classes) - 1)
        planes = [stretched(middle_plane(image)), *map(middle_plane, classes), labels, stretched(middle_plane(reconstruction))]
        # white lines of two pixels separate the pictures
        return {"wnet3d": np.hstack([np.pad(plane, ((0, 0), (0, 2)), constant_values=1) for plane in planes])[:, :-2]}

    def preview_titles(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """One row."""
        return (), ("image", *(f"class {number + 1}" for number in range(self.options.classes)), "most likely class", "reconstruction")

    def advice(self, history: Sequence[Mapping[str, float]]) -> list[str]:
        """Advice on losses that diverge, do not fall, or outweigh each other."""
        return super().advice(history) + advice_on_balance(history, self.options.reconstruction)

    def image_warnings(self, image: np.ndarray, name: str) -> list[str]:
        """Images that are almost empty, or have large bright or large empty regions."""
        return image_warnings(image, name, self.spacing)


class WNetPostprocessing(Postprocessing):
    """A decoder splits the foreground class into objects."""

    options: Options
    instances: ClassVar[bool] = True

    @cached_property
    def decoder(self) -> AnyDecoder:
        """The decoder that the job names; Voronoi-Otsu by default."""
        return build_decoder(build_channels("F"), "voronoi_otsu" if self.objects.decoder is None else self.objects.decoder)

    @property
    def bounded(self) -> Sequence[int]:
        """The classes."""
        return range(self.options.classes)

    def settle(self, prediction: np.ndarray, image: Callable[[], np.ndarray] | None) -> tuple[np.ndarray, list[str]]:
        """The foreground probability (Z)YX, with the brightness as a second channel if objects are split by it; and the chosen class."""
        brightness = plane = None
        if image is not None:
            channels = image()
            brightness, plane = class_brightness(prediction, channels), channels.mean(axis=0, keepdims=True)
            if self.options.crf is not None:
                prediction = refine_probabilities(prediction, plane[0], self.options.crf, spacing=self.spacing)
        chosen = self._foreground(prediction, brightness)
        messages = []
        if self.options.foreground == "auto" and brightness is not None:
            means = ", ".join(f"class {i} {mean:.1f}" for i, mean in enumerate(brightness))
            messages = [f"class {chosen[0]} is the foreground because it is the brightest; mean intensities of {TOP:g}: {means}"]
        # probabilities of classes that exclude each other add up
        foreground = prediction[chosen].sum(axis=0, keepdims=True)
        if self.options.part_by == "brightness" and plane is not None:
            foreground = np.concatenate([foreground, plane / TOP])
        return foreground, messages

    def _foreground(self, prediction: np.ndarray, brightness: np.ndarray | None) -> list[int]:
        """The classes that the job states; else the brightest one, or the smallest one where the image is not available."""
        stated = self.options.foreground
        # the numbers of the classes mean nothing: which one becomes the foreground depends on the initial weights
        if stated == "auto":
            return [int(np.argmin(prediction.mean(axis=tuple(range(1, prediction.ndim)))) if brightness is None else np.argmax(brightness))]
        return list(stated) if isinstance(stated, tuple) else [stated]

    @property
    def counted(self) -> Sequence[int]:
        """The foreground, if the decoder needs its histogram."""
        return (0,) if self.decoder.counted else ()

    def fit(self, statistics: ChannelStatistics) -> Parameters:
        """The decoder's parameters, from the foreground."""
        return self.decoder.fit(statistics)

    def decode(self, prediction: np.ndarray, parameters: Parameters) -> Objects:
        """Objects of the foreground, refined as the job states."""
        objects = self.decoder.decode(prediction, parameters, self.spacing)
        return refine_objects(objects, self.objects.refine, self.spacing)

    def search_space(self, truths: Sequence[np.ndarray]) -> SearchSpace:
        """That of the decoder, then the operations on objects."""
        kind = "voronoi_otsu" if self.objects.decoder is None else self.objects.decoder.kind
        return object_settings(kind, self.decoder, self.objects, truths)


class WNetScoring(Scoring):
    """Objects in 3D and per slice, and the overlap of the foregrounds; Otsu's threshold is scored for comparison."""

    options: Options
    figures: ClassVar[tuple[str, ...]] = ("f1", "panoptic_quality", "precision", "recall", "accuracy", "slice_f1", "foreground_dice")

    def score(self, truth: np.ndarray, result: np.ndarray) -> Score:
        """Matching scores in 3D, matching scores per slice, and the overlap of the foregrounds."""
        return score_objects(truth, result, self.options.thresholds)

    def score_rows(self, scores: Mapping[str, Score]) -> list[Row]:
        """One row per image and threshold, then the pooled rows."""
        return object_rows(scores)

    def baselines(self, image: Callable[[], np.ndarray]) -> dict[str, np.ndarray]:
        """Otsu's threshold of the image, split into objects by Voronoi cells and by watershed."""
        plane = image().mean(axis=0)
        return {"Otsu + Voronoi": otsu_voronoi(plane, self.spacing), "Otsu + watershed": otsu_watershed(plane, self.spacing)}


class WNetPlanning(WNetPostprocessing, Planning):
    """Plans the normalisation, and a training that ends when the loss stops falling."""

    network: ClassVar[str | None] = "wnet"

    @classmethod
    def option_problems(cls, options: MethodOptions, objects: ObjectOptions) -> list[Problem]:
        """A decoder that does not work on a foreground alone, or does not use the brightness that the options ask for."""
        assert isinstance(options, Options)
        try:
            decoder = cls(options, objects, ndim=2, spacing=(1.0, 1.0)).decoder
        except OptionError as error:
            return [Problem.of(error, "objects.decoder")]
        if options.part_by == "brightness" and not isinstance(decoder, VoronoiOtsu):
            rule = "brightness is used by the decoder voronoi_otsu only"
            remedy = "Use objects.decoder: voronoi_otsu, or leave it out."
            return [Problem("method.part_by", rule, code="wnet3d.brightness_unused", value=options.part_by, remedy=remedy)]
        return []

    @classmethod
    def remarks(cls, job: JobSections) -> list[Remark]:
        """A normalisation to another scale than that of the loss."""
        stated = job.sampling.normalise
        if isinstance(stated, Fixed) or (isinstance(stated, Percentile) and stated.top == TOP) or getattr(stated, "range", ()) == (0, TOP):
            return []
        text = (
            f"sampling.normalise {stated.kind} does not bring intensities to 0 to {TOP:g}, for which method.intensity_sigma and the "
            f"weight of the reconstruction are meant. Leave it out, or write {{kind: minmax, range: [0, {TOP:g}]}}."
        )
        return [Remark("wnet3d.scale", text)]

    @classmethod
    def planned(cls, job: JobSections, facts: Facts, network: Document) -> Document:
        """Intensities from 0 to 100, flips and rotations only, a schedule that ends at the plateau, a lower rate for pretrained weights."""
        document: Document = {}
        stated = job.sampling.normalise
        if isinstance(stated, Percentile):
            own = {name: getattr(stated, name) for name in stated.model_fields_set}
            document["sampling"] = {"normalise": {**stated.model_dump(mode="json"), **SCALE, **own}}
        # the loss compares intensities, so augmentations must not change them
        if job.augment is None:
            document["augment"] = ["flip", "rotate90"]
        if "statistics" not in job.objects.measure.model_fields_set:
            document["objects"] = {"measure": {**job.objects.measure.model_dump(mode="json"), "statistics": True}}
        training = {**TRAINING, "optimiser": {"kind": "adamw", "lr": 1e-3 if job.network.from_ is None else 1e-4}}
        document["training"] = {name: value for name, value in training.items() if name not in job.training.model_fields_set}
        return document


class WNet3D(WNetTask, WNetScoring, WNetPlanning, Method):
    """The method `wnet3d`."""

    options: Options


def class_brightness(prediction: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Mean intensity of each class: the channels of the image C(Z)YX are averaged, voxels are weighted by the probabilities K(Z)YX.

    Examples:
        >>> class_brightness(np.array([[[1.0, 0.0]], [[0.0, 1.0]]]), np.array([[[5.0, 80.0]]]))
        array([ 5., 80.])
    """
    plane = image.mean(axis=0, dtype=np.float64).ravel()
    flat = prediction.reshape(len(prediction), -1)
    return (flat @ plane) / np.maximum(flat.sum(axis=1, dtype=np.float64), 1e-12)
