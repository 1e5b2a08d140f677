"""The row `ncuts`: soft normalised cuts compared with dense convolutions, and the memory of their pairwise form."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from figures import Result, figure
from memory import beyond
from pairs import alternating

EDGE, PAIRS = 64, 7


def ncuts(before: Result | None, options: argparse.Namespace) -> Iterator[Result]:
    """Soft normalised cuts with gradient against dense convolutions; the pairwise form alone."""
    import torch

    from morula.losses import soft_ncuts, soft_ncuts_pairwise

    torch.set_num_threads(1)
    figures = []
    for radius, bar in ((2, 4.0), (5, 25.0)):
        own, dense = alternating(partial(timed, soft_ncuts, radius), partial(timed, dense_ncuts, radius), PAIRS)
        figures.append(figure(f"radius {radius}", "CPU-s", own))
        figures.append(figure(f"radius {radius}, dense", "CPU-s", dense))
        ratios = [theirs / ours for ours, theirs in zip(own, dense, strict=True)]
        figures.append(figure(f"radius {radius}: times faster than dense", "x", ratios, bar, value=statistics.median(ratios)))
    figures.append(figure("pairwise, radius 5", "CPU-s", [timed(soft_ncuts_pairwise, 5) for _ in range(PAIRS)], 1.5))
    child = [sys.executable, __file__]
    grown = [float(subprocess.run(child, check=True, capture_output=True, text=True).stdout) for _ in range(3)]
    figures.append(figure("pairwise, radius 5: peak beyond image and probabilities", "MB", grown, 50, value=max(grown)))
    yield {
        "title": "Soft normalised cuts",
        "note": f"Value and gradient for two classes and {EDGE}^3 voxels on one thread, fp32, in alternating pairs after a first one. "
        "Dense: two 3D convolutions with the whole kernel per class, as WNet3D computes them. Memory: maximum of three new "
        "processes that have computed a volume of 8^3 voxels before, so that nothing more is loaded.",
        "complete": True,
        "figures": figures,
    }


def given(edge: int = EDGE) -> tuple[Any, Any]:
    """An image and logits of two classes that require gradients."""
    import torch

    generator = torch.Generator().manual_seed(0)
    image = 100 * torch.rand((1, 1, edge, edge, edge), generator=generator)
    return image, torch.randn((1, 2, edge, edge, edge), generator=generator).requires_grad_()


def timed(loss: Callable[..., Any], radius: int) -> float:
    """CPU-seconds of value and gradient."""
    image, logits = given()
    begin = time.process_time()
    loss(image, logits.softmax(dim=1), intensity_sigma=10.0, radius=radius).backward()
    return time.process_time() - begin


def dense_ncuts(image: Any, probabilities: Any, *, intensity_sigma: float, radius: int, spatial_sigma: float = 4.0) -> Any:
    """The same loss with one dense convolution kernel, per class."""
    import torch
    from torch.nn import functional

    line = torch.exp(-(torch.arange(-radius, radius + 1) ** 2) / (2 * spatial_sigma**2))
    cube = (line[:, None, None] * line[:, None] * line)[None, None]
    loss = probabilities.shape[1]
    for own in probabilities.split(1, dim=1):
        mean = (image * own).mean() / (own.mean() + 1e-5)
        near = torch.exp(-((image - mean) ** 4) / intensity_sigma**2)
        inner = (own * functional.conv3d(own * near, cube, padding=radius)).sum()
        loss = loss - inner / ((own * functional.conv3d(near, cube, padding=radius)).sum() + 1e-6)
    return loss


def grown_megabytes() -> float:
    """Peak memory that value and gradient of the pairwise form add to this process."""
    import torch

    from morula.losses import soft_ncuts_pairwise

    torch.set_num_threads(1)

    def computed(image: Any, probabilities: Any) -> None:
        soft_ncuts_pairwise(image, probabilities, intensity_sigma=10.0, radius=5).backward()

    for edge in (8, EDGE):
        image, logits = given(edge)
        probabilities = logits.detach().softmax(dim=1).requires_grad_()
        grown = beyond(lambda image=image, probabilities=probabilities: computed(image, probabilities))
    return grown / 1e6


if __name__ == "__main__":
    print(grown_megabytes())
