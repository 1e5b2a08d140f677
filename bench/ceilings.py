"""Rows on real labels: how well they survive encoding and decoding, one line per channel set and decoder."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from figures import Result, figure
from real import images_of

NAMES = ("nuclei2d", "nuclei3d_embryo", "neurons3d_fib25")
SPACING = {"nuclei3d_embryo": (1.75, 0.8, 0.8)}
PLAIN = {"valley": None, "seeds": {"F": 0.5, "C": 0.5}, "growth": {"F": 0.5}}
"""A simple watershed: connected components of F minus C, flooded."""
MORE = ("F+Db", "B+C", "F+T", "F+D", "F+P", "F+H+V+Z", "A:watershed", "A:agglomeration")
"""Channel sets in addition to those of the decoders."""
NO_STARS = {
    "neurons3d_fib25": " Stars are left out: neurons are not star-convex, and the decoding of stars that span the whole cube was "
    "stopped after an hour."
}
"""Data sets that are measured without R, and the reason."""


def sets(ndim: int) -> list[str]:
    """All channel sets to be measured, as `morula evaluate --representations` takes them."""
    from morula.decoders import DECODERS
    from morula.workflows.compare import Representation

    named = [f"{'+'.join(codes)}:{name}" for name in DECODERS.names for codes in DECODERS.load(name).channel_sets]
    texts = [text if ndim == 3 else text.replace("+Z", "") for text in (*named, *MORE)]
    return list({str(Representation.of(text)): text for text in texts}.values())


def ceilings(name: str) -> Callable[[Result | None, argparse.Namespace], Iterator[Result]]:
    """The row of a data set."""

    def row(before: Result | None, options: argparse.Namespace) -> Iterator[Result]:
        from morula.workflows.compare import Representation, ceiling
        from morula.workflows.recommend import recommend

        images = images_of(name)
        if images is None:
            return
        truths = labels_in(images)
        lines: list[list[Any]] = [] if before is None else before["table"]["rows"]
        done = {line[0] for line in lines}
        every = {"F+C by the plain steps": "F+C:watershed"}
        every |= {str(Representation.of(text)): text for text in sets(truths.labels[0].ndim_spatial)}
        for title, text in every.items():
            if title not in done and not (name in NO_STARS and "+R" in title):
                found = ceiling(truths, Representation.of(text), PLAIN if "plain" in title else None)
                lines.append([title, found.decoder, *(round(f1, 3) for f1 in (found.f1_50, found.f1_75, found.f1_90))])
                yield result(name, len(truths.labels), lines, "")
        chosen = recommend(truths)
        words = f" `morula new` recommends {chosen.representation}; on its sample of the labels it finds {chosen.words()}."
        yield result(name, len(truths.labels), lines, words + NO_STARS.get(name, ""))

    return row


def labels_in(images: Path) -> Any:
    """All label images of a data set: training, validation and test."""
    from morula.core.voxel_size import VoxelSize
    from morula.workflows.compare import Truths

    labels = [image for split in ("train", "val", "test") for image in Truths.of(images / split / "labels").labels]
    size = SPACING.get(images.name)
    return Truths(tuple(image if size is None else replace(image, voxel_size=VoxelSize.of(size, 3)) for image in labels))


def result(name: str, images: int, lines: list[list[Any]], recommended: str) -> Result:
    """The row, best channel set first; it is complete with the recommendation."""
    lines = sorted(lines, key=lambda line: -line[4])
    return {
        "title": f"Labels of {name}, encoded and decoded",
        "note": f"F1 of decode(encode(labels)) over all {images} label images (training, validation, test) without a network. What a "
        f"channel set loses here, no network can recover.{recommended}",
        "complete": bool(recommended),
        "table": {"titles": ["channels", "decoder", "F1@0.5", "F1@0.75", "F1@0.9"], "rows": lines},
        "figures": [figure(f"{line[0]} F1@0.9", "", [line[4]]) for line in lines],
    }


ROWS = {f"ceilings_{name}": ceilings(name) for name in NAMES}
