"""Sizes and intensities of the objects of a run, of the truth and of the prediction, for the histograms of the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup

from morula.report.bars import Series, count_chart, histogram, spread_chart
from morula.report.panels import Opened
from morula.report.run_folder import Row
from morula.report.tables import headline, image_score, key_column, number, title

INTENSITY_VOXELS = 100_000_000
"""Larger images are not read as a whole for the intensities of their objects."""
COUNTED = 24
"""Images that the chart of counts shows at most, the worst first."""


@dataclass
class Population:
    """Sizes (in physical units where known) and mean intensities of objects, image by image."""

    sizes: list[np.ndarray] = field(default_factory=list)
    intensities: list[np.ndarray] = field(default_factory=list)

    def add(self, labels: np.ndarray, raw: np.ndarray | None, voxel: float) -> int:
        """Add the objects of a label image (Z)YX; returns their number. `raw` is (Z)YX, `voxel` the size of one voxel."""
        flat = labels.ravel()
        # few objects with large ids: `bincount` allocates up to the largest one
        if int(flat.max(initial=0)) > max(flat.size, 1_000_000):
            flat = np.unique(flat, return_inverse=True)[1] + (0 if (flat == 0).any() else 1)
        counts = np.bincount(flat, minlength=1)
        counts[0] = 0  # background
        objects = counts > 0
        self.sizes.append(counts[objects] * voxel)
        if raw is not None:
            sums = np.bincount(flat, weights=raw.ravel().astype(np.float64), minlength=len(counts))
            self.intensities.append(sums[objects] / counts[objects])
        return int(objects.sum())


@dataclass
class Populations:
    """Objects of all images that were examined."""

    predicted: Population = field(default_factory=Population)
    true: Population = field(default_factory=Population)
    counts: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    unit: str = "voxels"

    def add(self, opened: Opened) -> None:
        """Add an image of the run."""
        if opened.prediction is None:
            return
        voxel, self.unit = _voxel(opened)  # one unit for all: images of a run have one voxel size
        raw = None
        if opened.raw is not None and math.prod(opened.shape) <= INTENSITY_VOXELS and opened.raw.spatial_shape == opened.shape:
            raw = opened.raw.canonical()[0]
        found = self.predicted.add(opened.prediction, raw, voxel)
        true = None if opened.truth is None else self.true.add(opened.truth, raw, voxel)
        self.counts[opened.image.name] = (found, true)

    def charts(self, scores: Sequence[Row]) -> dict[str, Markup]:
        """Charts by title: counts per image, sizes and intensities; those without content are left out."""
        names = sorted(self.counts, key=lambda name: image_score(scores, name))[:COUNTED]
        truths = [self.counts[name][1] for name in names]
        true = [count for count in truths if count is not None]
        some = f" ({len(names)} of {len(self.counts)}, the worst first)" if len(names) < len(self.counts) else ""
        counts = count_chart(
            names, [self.counts[name][0] for name in names], true if len(true) == len(names) else None, title="Objects per image"
        )
        sizes = histogram(_series(self.predicted.sizes, self.true.sizes), title="Size of the objects", x_label=f"size ({self.unit})")
        grey = _series(self.predicted.intensities, self.true.intensities)
        charts = {
            f"Objects per image{some}": counts,
            "Size of the objects": sizes,
            "Mean intensity of the objects": histogram(grey, title="Intensity", x_label="mean intensity of the first channel"),
        }
        return {name: chart for name, chart in charts.items() if chart}


def _series(predicted: Sequence[np.ndarray], true: Sequence[np.ndarray]) -> list[Series]:
    pairs = (("found", predicted, False), ("true", true, True))
    return [Series(name, np.concatenate(values), is_true) for name, values, is_true in pairs if values]


def _voxel(opened: Opened) -> tuple[float, str]:
    """Size of one voxel and its unit, as text."""
    if opened.unit == "pixel":
        return 1.0, "voxels" if len(opened.shape) == 3 else "pixels"
    power = "³" if len(opened.shape) == 3 else "²"
    return math.prod(opened.spacing), f"{opened.unit.replace('um', 'µm')}{power}"


def spread_of_scores(scores: Sequence[Row]) -> Markup:
    """The headline score of each image, a row per threshold or class; nothing for fewer than two images."""
    key, figure = key_column(scores), headline(scores)
    if key is None or figure is None or len({row["image"] for row in scores}) < 3:  # two images and the pooled row
        return Markup("")
    rows = []
    for value in dict.fromkeys(row[key] for row in scores):
        own = [row for row in scores if row[key] == value]
        dots = [(row["image"], number(row[figure])) for row in own if row["image"] != "pooled"]
        pooled = next((number(row[figure]) for row in own if row["image"] == "pooled"), math.nan)
        rows.append((f"IoU {value}" if key == "threshold" else value, dots, pooled))
    return spread_chart(rows, title="Spread over the images", x_label=title(figure))
