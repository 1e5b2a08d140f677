"""Scores of plain methods beside the job's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from morula.core.events import Event, Logged, Warned
from morula.labels.partial_labels import labelled_only
from morula.methods.base import Method
from morula.workflows.sources import Truth, open_pair, open_truth

if TYPE_CHECKING:
    import numpy as np


class Baselines:
    """Results of a method's plain rivals, scored image by image; nothing where the method names none."""

    def __init__(self, job: Any) -> None:
        self.job = job
        self.scores: dict[str, dict[str, Any]] = {}

    def add(self, name: str, method: Method, raw: str, truth: Truth) -> None:
        """Score the plain methods on an image."""
        import numpy as np

        for rival, labels in method.baselines(partial(self._scaled, raw)).items():
            image = open_pair(name, Path(raw), None, self.job.images).raw
            true, _, unlabelled = open_truth(truth, image, self.job.images)
            self.scores.setdefault(rival, {})[name] = method.score(*labelled_only(np.asarray(true), labels, unlabelled))

    def _scaled(self, raw: str) -> np.ndarray:
        """An image C(Z)YX on the scale that the job's network is given."""
        from morula.data.normalise import statistics

        image = open_pair("", Path(raw), None, self.job.images).raw
        return statistics(image, self.job.sampling.normalise).apply(image.canonical())

    def rows(self, method: Method) -> dict[str, list[dict[str, Any]]]:
        """Rows of the score table of each plain method."""
        return {rival: method.score_rows(scores) for rival, scores in self.scores.items()}


def compared(kind: str, own: Mapping[str, float], plain: Mapping[str, Mapping[str, float]]) -> Iterator[Event]:
    """Tell the pooled figures of the plain methods, and warn where the first one of the job's method is no better than the best of them.

    Examples:
        >>> for event in compared("wnet3d", {"F1@0.5": 0.5}, {"Otsu": {"F1@0.5": 0.56}}):
        ...     print(event.message)
        Otsu: F1@0.5 0.560
        wnet3d does not beat Otsu: F1@0.5 0.500 against 0.560. Train for longer or on other patches, or use the plain method.
    """
    for rival, each in plain.items():
        yield Logged(f"{rival}: {'  '.join(f'{what} {value:.3f}' for what, value in each.items())}")
    what, value = next(iter(own.items()))
    best = max(plain, key=lambda rival: plain[rival][what])
    if plain[best][what] >= value:
        yield Warned(
            "scores.below_baseline",
            f"{kind} does not beat {best}: {what} {value:.3f} against {plain[best][what]:.3f}. "
            "Train for longer or on other patches, or use the plain method.",
        )
