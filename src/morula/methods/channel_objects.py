"""From predicted channels to objects, and the scores of objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from morula.core.orientation import Array, Orientation
from morula.decoders.decode import AnyDecoder, build_decoder, decoder_name
from morula.decoders.foreground_mask import fit_foreground, foreground_codes, foreground_mask
from morula.decoders.statistics import ChannelStatistics
from morula.labels.objects import Objects
from morula.labels.refine import Tessellation, refine_objects, refinement_context
from morula.labels.votes import count_votes, elected
from morula.methods.channel_layout import ChannelLayout
from morula.methods.channel_options import Options
from morula.methods.postprocessing import Parameters, Postprocessing, SearchSpace
from morula.methods.scoring import Row, Score, Scoring
from morula.methods.tunable import object_settings
from morula.metrics.matching import match, pool
from morula.representations.reorient import common_orientations, reorient


class ChannelPostprocessing(ChannelLayout, Postprocessing):
    """A decoder makes objects of the channels; with classes, the voxels of each object vote for its class."""

    instances: ClassVar[bool] = True

    @property
    def extra_columns(self) -> tuple[str, ...]:
        """The class of each object and its share of the votes."""
        return () if self.options.classes is None else ("class", "class_confidence")

    @property
    def bounded(self) -> Sequence[int]:
        """The channels with a sigmoid."""
        spans = zip(self.representations, self._spans, strict=True)
        return [row for channel, span in spans if channel.activation == "sigmoid" for row in range(span.start, span.stop)]

    def reorient(self, prediction: Array, orientation: Orientation) -> Array:
        """Every channel as its representation prescribes; offsets along the axes are exchanged."""
        return reorient(self.representations, prediction, orientation)

    def orientations(self) -> list[Orientation]:
        """The intersection over the channels."""
        return common_orientations(self.representations, self.spacing)

    @cached_property
    def decoder(self) -> AnyDecoder:
        """The decoder that the job names, or the one that fits the channels."""
        return build_decoder(self.representations, self.objects.decoder)

    @property
    def counted(self) -> Sequence[int]:
        """Rows that the decoder needs, and those of the foreground where the objects are to cover it."""
        codes = (*self.decoder.counted, *(foreground_codes(self.representations) if self._tessellations else ()))
        return [span.start for code, span in zip(self.codes, self._spans) if code in codes]

    def fit(self, statistics: ChannelStatistics) -> Parameters:
        """The decoder's parameters, and the thresholds of the foreground where the objects are to cover it."""
        statistics = statistics.first(self._width)  # without the probabilities of the classes, which the decoder does not know
        parameters = self.decoder.fit(statistics)
        return {**parameters, "inside": fit_foreground(self.representations, statistics)} if self._tessellations else parameters

    @cached_property
    def _tessellations(self) -> list[Tessellation]:
        """Refinement operations that need the foreground."""
        return [operation for operation in self.objects.refine if isinstance(operation, Tessellation)]

    def decode(self, prediction: np.ndarray, parameters: Parameters) -> Objects:
        """Objects of the decoder, refined as the job states; with classes, the vote of their voxels."""
        # the channels of the decoder come first, the probabilities of the classes after them
        prediction, classes = prediction[: self._width], prediction[self._width :]

        # a function, because only some refinements need the foreground
        def inside(options: Tessellation) -> np.ndarray:
            fitted = parameters["inside"]
            return foreground_mask(prediction, self.representations, fitted, code=options.channel, threshold=options.threshold)

        objects = self.decoder.decode(prediction, parameters, self.spacing)
        objects = refine_objects(objects, self.objects.refine, self.spacing, mask=inside)
        if self.options.classes is None:
            return objects
        chosen, share = elected(count_votes(objects.labels, classes, len(objects)))
        return replace(objects, classes=chosen, class_confidence=share)

    def votes(self, prediction: np.ndarray, labels: np.ndarray, n: int) -> np.ndarray:
        """The votes of the voxels for the classes."""
        return super().votes(prediction, labels, n) if self.options.classes is None else count_votes(labels, prediction[self._width :], n)

    def block_problem(self) -> str:
        """The operation `voronoi` divides all of the foreground, however far away an object is."""
        return "objects.refine has voronoi, which needs the whole image" if self._tessellations else ""

    def calibrate(self, sample: np.ndarray, parameters: Parameters) -> Parameters:
        """As the decoder does."""
        return self.decoder.calibrate(sample[: self._width], parameters, self.spacing)

    def block_halo(self, parameters: Parameters, max_diameter: float) -> tuple[int, ...]:
        """The halo of the decoder, then that of the operations on its objects."""
        decoding = self.decoder.context(parameters, self.spacing, max_diameter)
        return tuple(a + b for a, b in zip(decoding, refinement_context(self.objects.refine, self.spacing, max_diameter), strict=True))

    def block_alignment(self) -> tuple[int, ...]:
        """As the decoder needs it."""
        return self.decoder.alignment(self.ndim)

    def search_space(self, truths: Sequence[np.ndarray]) -> SearchSpace:
        """That of the decoder, then the operations on objects."""
        return object_settings(decoder_name(self.representations, self.objects.decoder), self.decoder, self.objects, truths)


class ObjectScoring(Scoring):
    """Objects are matched with the true ones at the thresholds of the options."""

    options: Options
    figures: ClassVar[tuple[str, ...]] = ("f1", "panoptic_quality", "precision", "recall", "accuracy")

    def score(self, truth: np.ndarray, result: np.ndarray) -> Score:
        """Matching scores at the thresholds of the options."""
        return match(truth, result, thresholds=self.options.thresholds)

    def score_rows(self, scores: Mapping[str, Score]) -> list[Row]:
        """One row per image and threshold, then the pooled ones."""
        # objects are pooled over the images before the scores are computed, so that an image counts by its number of objects
        rows = [{"image": name, **asdict(score)} for name, scored in scores.items() for score in scored]
        return rows + [{"image": "pooled", **asdict(score)} for score in pool(list(scores.values()))] if scores else rows
