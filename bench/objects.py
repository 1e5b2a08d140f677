"""The row `objects`: encoding, decoding, matching and measuring beside BiaPy, in one process, on the same inputs and one thread.

BiaPy is no dependency. Install it beside Morula (`pip install biapy==3.7.1`) where this row is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from cells import cells

Result = dict[str, Any]
SHAPES = {"512 x 512": ((512, 512), 20.0), "64 x 256 x 256": ((64, 256, 256), 17.0)}
REPEATS, LONG = 3, 5.0
"""Pairs of an operation; one where the other program takes more than so many seconds."""


@dataclass(frozen=True)
class Operation:
    """Ours and theirs on the same input, and how many times faster ours has to be."""

    name: str
    bar: float
    ours: Callable[[], object]
    theirs: Callable[[], object]


def objects(before: Result | None, options: argparse.Namespace) -> Iterator[Result]:
    """CPU-seconds of each operation, in pairs; stored operation by operation."""
    try:
        release = version("biapy")
    except PackageNotFoundError:
        print("objects: left out; it needs BiaPy beside Morula in one environment (pip install biapy==3.7.1)", flush=True)
        return
    done: dict[str, Any] = dict(before["pairs"]) if before else {}
    for shape in SHAPES:
        for operation in operations((24,) * len(SHAPES[shape][0]), 6.0):
            operation.ours()  # imports and compiles
            operation.theirs()
        for operation in operations(*SHAPES[shape]):
            key = f"{operation.name}, {shape}"
            if key in done:
                continue
            pairs: list[tuple[float, float]] = []
            while len(pairs) < REPEATS:
                slow = bool(pairs) and pairs[0][1] > LONG
                pairs.append((seconds(operation.ours), pairs[0][1] if slow else seconds(operation.theirs)))
            done[key] = {"bar": operation.bar, "pairs": pairs}
            yield _result(done, release, complete=False)
    yield _result(done, release, complete=True)


def seconds(call: Callable[[], object]) -> float:
    """CPU-seconds of the process during a call."""
    begin = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        call()
    return time.process_time() - begin


def _result(done: dict[str, Any], release: str, *, complete: bool) -> Result:
    figures = []
    for key, each in done.items():
        ours, theirs = (min(side) for side in zip(*each["pairs"], strict=True))
        ratios = [b / a for a, b in each["pairs"]]
        what = f"{key}: {ours:.3g} s, BiaPy {theirs:.3g} s"
        figures.append({"what": what, "unit": "x", "value": theirs / ours, "runs": ratios, "bar": each["bar"]})
    return {
        "title": "Objects, beside BiaPy",
        "note": f"300 touching cells; CPU-seconds of one process on one thread, the best of {REPEATS} pairs after a call on a small image "
        f"(where BiaPy takes more than {LONG:g} s it runs once). BiaPy {release} with the options that mean the same. Higher is better.",
        "complete": complete,
        "pairs": done,
        "figures": figures,
    }


def operations(shape: tuple[int, ...], radius: float) -> Iterator[Operation]:
    """The operations on one image."""
    import morula
    from morula.measurement.measure import measure

    labels = cells(shape, radius=radius)
    ndim = labels.ndim
    offsets = ["V", "H"] if ndim == 2 else ["Z", "V", "H"]
    encoders: list[tuple[str, list[str], dict[str, Any], float]] = [
        ("F, erosion 1", ["F"], {"F": {"erosion": 1}}, 50),
        ("T", ["T"], {}, 50),
        ("Dn", ["Dn"], {"Dn": {"closing_size": 0}}, 40),
        ("Db", ["Db"], {}, 5),
        ("D", ["D"], {}, 5),
        ("Dc", ["Dc"], {}, 5),
        (", ".join(reversed(offsets)), offsets, {}, 5),
    ]
    for name, codes, given, bar in encoders:
        ours = partial(morula.encode, labels, codes, options=given)
        yield Operation(f"encode {name}", bar, ours, partial(_their_channels, labels, codes, given))
    noise = np.random.default_rng(0).normal(0, 0.05, (2, *shape)).astype(np.float32)
    channels = np.clip(morula.encode(labels, ["F", "C"]) + noise, 0, 1)
    yield Operation(
        "decode F + C by watershed, 5 % noise", 4, partial(morula.decode, channels, ["F", "C"]), partial(_their_watershed, channels)
    )
    moved = np.roll(labels, 2, axis=-1)
    thresholds = (0.3, 0.5, 0.75)
    yield Operation(
        "match at 3 thresholds", 30, partial(morula.match, labels, moved, thresholds), partial(_their_matching, labels, moved, thresholds)
    )
    yield Operation("measure with surfaces", 10, partial(measure, labels), partial(_their_measures, labels))


_EXTRA = {
    "F": {"erosion": 0, "dilation": 0},
    "T": {"thickness": 2},
    "Db": {"val_type": "norm", "act": "sigmoid", "mask_values": True},
    "Dc": {"type": "centroid", "norm": True, "mask_values": True},
    "D": {"act": "tanh"},
    "Dn": {"closing_size": 0, "norm": True, "mask_values": True, "decline_power": 3},
    "H": {"norm": True, "act": "linear"},
    "V": {"norm": True, "act": "linear"},
    "Z": {"norm": True, "act": "linear"},
}


def _their_channels(labels: np.ndarray, codes: list[str], given: dict[str, Any]) -> object:
    from biapy.data.pre_processing import labels_into_channels

    return labels_into_channels(labels[..., None], codes, {code: {**_EXTRA[code], **given.get(code, {})} for code in codes})


def _their_watershed(channels: np.ndarray) -> object:
    from biapy.data.post_processing.post_processing import watershed_by_channels

    data = np.moveaxis(channels if channels.ndim == 4 else channels[:, None], 0, -1)
    return watershed_by_channels(data, ["F", "C"], ["F", "C"], ["auto", "auto"], "F", ["F"], ["auto"], verbose=False)


def _their_matching(truth: np.ndarray, prediction: np.ndarray, thresholds: tuple[float, ...]) -> object:
    from biapy.utils.matching import matching

    return matching(truth, prediction, thresh=thresholds)


def _their_measures(labels: np.ndarray) -> object:
    from biapy.data.post_processing.post_processing import measure_morphological_props_and_filter

    return measure_morphological_props_and_filter(labels, labels.astype(np.float32), [1, 1, 1], extra_props=[])
