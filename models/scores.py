"""Scores of a model on test images, beside those of Otsu's threshold with a watershed on the same images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from recipes import TestSet

import morula
from morula.decoders.voronoi_otsu import otsu_watershed
from morula.metrics.matching import match, pool
from morula.workflows.choose_model import background_of

THRESHOLDS = (0.5, 0.75)
DARK_IN_BRIGHT = "bright"


def scored(model: morula.Model, test: TestSet, data: Path) -> dict[str, Any]:
    """The entry of a card for one test set: F1 at 0.5 and 0.75, pooled over the images."""
    own, plain, objects = [], [], 0
    files = test.files(data)
    for raw, labels in files:
        image, truth = read(raw, model, test.voxel_size), np.asarray(morula.read(labels))
        objects += len(np.unique(truth[truth > 0]))
        own.append(match(truth, np.asarray(model.segment(image)), thresholds=THRESHOLDS))
        plain.append(match(truth, otsu(image), thresholds=THRESHOLDS))
    found, beside = ([score.f1 for score in pool(matches)] for matches in (own, plain))
    name = f"{test.data} ({', '.join(test.words)})" if test.words != ("",) else test.data
    figures = {"f1_50": found[0], "f1_75": found[1], "otsu_50": beside[0], "otsu_75": beside[1]}
    rounded = {key: round(float(value), 4) for key, value in figures.items()}
    return {"data": f"{name} {'+'.join(test.splits)}", "images": len(files), "objects": objects, **rounded, "note": test.note}


def read(path: Path, model: morula.Model, voxel_size: tuple[float, ...] | None = None) -> morula.Image:
    """A test image; the files of colour images do not state which axis holds the colours."""
    image = morula.read(path, voxel_size=voxel_size)
    return morula.read(path, axes="YXC") if model.colour and len(image.shape) == 3 else image


def otsu(image: morula.Image) -> np.ndarray:
    """Otsu's threshold with a watershed; an image with a bright background is inverted, of colours the mean is taken."""
    channels = image.canonical()
    grey = channels.mean(axis=0, dtype=np.float32)
    grey = grey.max() - grey if background_of(channels) == DARK_IN_BRIGHT else grey
    if grey.ndim == 3:  # bright specks in a dark volume would decide about the threshold
        grey = np.minimum(grey, np.percentile(grey, 99.8))
    return np.asarray(otsu_watershed(grey, image.spacing))
