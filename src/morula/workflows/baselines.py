"""Scores of plain methods, for comparison with the method of a job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from morula.core.events import Event, Logged, Warned
from morula.data.normalise import statistics
from morula.io.metadata import collected
from morula.jobs.job import Images, Job
from morula.labels.partial_labels import labelled_only
from morula.methods.base import Method
from morula.methods.scoring import Row, Score
from morula.workflows.sources import Truth, at_time, open_pair, open_truth


class Baselines:
    """Results of the plain methods that a method is compared with, scored image by image; empty for most methods."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.images = job.images.of(job.images.test)
        self.scores: dict[str, dict[str, Score]] = {}

    def add(self, name: str, method: Method, raw: str, truth: Truth) -> None:
        """Score the plain methods on an image."""
        # the image is passed as a function: most methods have no baselines, and it would be read in vain
        images = at_time(self.images, truth.time)
        for baseline, labels in method.baselines(partial(self._scaled, raw, images)).items():
            with collected():  # the prediction has reported invalid metadata of these files
                image = open_pair(name, Path(raw), None, images).raw
                true, _, unlabelled = open_truth(truth, image, self.images)
            self.scores.setdefault(baseline, {})[name] = method.score(*labelled_only(np.asarray(true), labels, unlabelled))

    def _scaled(self, raw: str, images: Images) -> np.ndarray:
        """An image C(Z)YX, normalised as for the network of the job."""
        with collected():
            image = open_pair("", Path(raw), None, images).raw
        return statistics(image, self.job.sampling.normalise).apply(image.canonical())

    def rows(self, method: Method) -> dict[str, list[Row]]:
        """Rows of the score table of each plain method."""
        return {baseline: method.score_rows(scores) for baseline, scores in self.scores.items()}


def compare_with_baselines(kind: str, own: Mapping[str, float], plain: Mapping[str, Mapping[str, float]]) -> Iterator[Event]:
    """Report the pooled scores of the plain methods, and warn if the method of the job is not better than the best of them.

    Examples:
        >>> for event in compare_with_baselines("wnet3d", {"F1@0.5": 0.5}, {"Otsu": {"F1@0.5": 0.56}}):
        ...     print(event.message)
        Otsu: F1@0.5 0.560
        wnet3d does not beat Otsu: F1@0.5 0.500 against 0.560. Train for longer or on other patches, or use the plain method.
    """
    for baseline, scores in plain.items():
        yield Logged(f"{baseline}: {'  '.join(f'{name} {value:.3f}' for name, value in scores.items())}")
    # the first figure is the main one of the method
    name, value = next(iter(own.items()))
    best = max(plain, key=lambda baseline: plain[baseline][name])
    if plain[best][name] >= value:
        yield Warned(
            "scores.below_baseline",
            f"{kind} does not beat {best}: {name} {value:.3f} against {plain[best][name]:.3f}. "
            "Train for longer or on other patches, or use the plain method.",
        )
