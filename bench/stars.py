"""The row `stars`: non-maximum suppression of 20,000 stars, compared with StarDist's compiled function on the same stars and one thread.

StarDist is not a dependency. To measure this row, install it beside Morula (`pip install stardist==0.9.2`; TensorFlow is not needed).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

import numpy as np
from cells import cells
from figures import Result, figure
from objects import one_thread
from pairs import alternating

CANDIDATES, RAYS, PAIRS = 20_000, 32, 7
LIMITS = (0.3, 0.5)


class Stars(NamedTuple):
    """Lengths of the rays (rays, Y, X), scores (Y, X) and flat indices of the candidates."""

    rays: np.ndarray
    scores: np.ndarray
    candidates: np.ndarray


def stars(before: Result | None, options: argparse.Namespace) -> Iterator[Result]:
    """CPU-seconds of both in alternating pairs, and the share of candidates that only one of them keeps."""
    try:
        release = version("stardist")
    except PackageNotFoundError:
        print("stars: left out; it needs StarDist and Morula in one environment (pip install stardist==0.9.2)", flush=True)
        return
    one_thread()
    figures = []
    scenes = {"nuclei": nuclei(), "small stars at random": at_random()}
    for limit in LIMITS:
        mine, other = alternating(*(partial(timed, call) for call in both(scenes["nuclei"], limit)), PAIRS)
        median = statistics.median
        figures.append(figure(f"nuclei, limit {limit}", "CPU-s", mine, value=median(mine)))
        figures.append(figure(f"nuclei, limit {limit}, StarDist", "CPU-s", other, value=median(other)))
        ratios = [their / own for own, their in zip(mine, other, strict=True)]
        figures.append(figure(f"nuclei, limit {limit}: times as fast", "x", ratios, 1.0, value=median(ratios)))
    for scene, given in scenes.items():
        for corners in ("exact", "whole"):
            shares = []
            for limit in LIMITS:
                ours, theirs = both(given, limit, whole=corners == "whole")
                shares.append(100 * len(np.setxor1d(ours(), theirs())) / CANDIDATES)
            bar = 0.1 if scene == "nuclei" else None
            figures.append(figure(f"{scene}, corners: {corners}, kept by one only", "% of the candidates", shares, bar, value=max(shares)))
    yield {
        "title": "Non-maximum suppression of stars",
        "note": f"{CANDIDATES} stars of {RAYS} rays with 5 % noise, compared with the compiled function of StarDist {release}; one "
        f"process, one thread, medians of {PAIRS} alternating pairs. Differences: the larger one of the limits {LIMITS[0]} and "
        f"{LIMITS[1]}. StarDist rounds corners and crossings of edges to whole pixels, so its areas of small stars differ from the "
        "exact ones.",
        "complete": True,
        "figures": figures,
    }


def nuclei() -> Stars:
    """Candidates inside touching nuclei, as a network might predict them."""
    import morula

    rng = np.random.default_rng(0)
    labels = cells((1024, 1024), n=1600, radius=15.0)
    encoded = np.asarray(morula.encode(labels, {"Db": {}, "R": {"nrays": RAYS, "norm": False}}), np.float32)
    scores = encoded[0] + rng.normal(0, 0.02, labels.shape).astype(np.float32)
    rays = encoded[1:] * rng.normal(1, 0.05, encoded[1:].shape).astype(np.float32)
    candidates = np.sort(rng.choice(np.flatnonzero((encoded[0] > 0.2) & (labels > 0)), CANDIDATES, replace=False))
    return Stars(rays, scores, candidates)


def at_random() -> Stars:
    """Stars of 3 to 9 pixels, anywhere."""
    rng = np.random.default_rng(1)
    shape = (512, 512)
    rays = rng.uniform(3, 9, shape) * rng.normal(1, 0.05, (RAYS, *shape))
    candidates = np.sort(rng.choice(rays[0].size, CANDIDATES, replace=False))
    return Stars(rays.astype(np.float32), rng.random(shape).astype(np.float32), candidates)


def both(given: Stars, limit: float, *, whole: bool = False) -> tuple[Callable[[], np.ndarray], Callable[[], np.ndarray]]:
    """Our suppression and StarDist's; each returns the flat indices of the stars it keeps."""
    from stardist.nms import non_maximum_suppression_inds

    from morula.kernels.star_nms import OverlapRule, suppress
    from morula.kernels.star_painting import ray_field
    from morula.kernels.star_shapes import fan_of

    width = given.scores.shape[1]
    spacing = (1.0, 1.0)
    field = ray_field(given.rays, float(given.rays.max()), 1.0, spacing)
    fan = fan_of(RAYS, spacing)
    order = given.candidates[np.argsort(-given.scores.ravel()[given.candidates], kind="stable")]
    lengths = np.ascontiguousarray(given.rays.reshape(RAYS, -1)[:, order].T)
    places = np.stack([order // width, order % width], axis=1)

    def ours() -> np.ndarray:
        return suppress(given.scores, given.candidates, field, fan, spacing, OverlapRule(limit, union=False, whole=whole))

    def theirs() -> np.ndarray:
        return order[non_maximum_suppression_inds(lengths, places, given.scores.ravel()[order], thresh=limit, verbose=0)]

    return ours, theirs


def timed(call: Callable[[], object]) -> float:
    """CPU-seconds of one call."""
    begin = time.process_time()
    call()
    return time.process_time() - begin
