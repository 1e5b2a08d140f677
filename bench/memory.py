"""The row `memory`: memory of each operation beyond its input and output, in float32 arrays of the size of the volume."""

from __future__ import annotations

import argparse
import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from cells import cells

from decoders import CHANNELS, noisy

Result = dict[str, Any]


def resident() -> int:
    """Resident bytes of the process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def beyond(call: Callable[[], Any]) -> int:
    """Peak bytes during a call, minus those before it and those of its result."""
    ctypes.CDLL(None).malloc_trim(0)  # freed memory is returned; otherwise it would be reused without being counted
    base = top = resident()
    done = threading.Event()

    def watch() -> None:
        nonlocal top
        while not done.is_set():
            top = max(top, resident())
            time.sleep(0.0005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        result = call()
    finally:
        done.set()
        watcher.join()
    return max(0, top - base - held(result))


def held(result: Any) -> int:
    """Bytes of an array, or of all arrays of some objects."""
    if isinstance(result, np.ndarray):
        return result.nbytes
    return 0 if result is None else result.labels.nbytes + sum(array.nbytes for array in result.intermediates.values())


def memory(before: Result | None, options: argparse.Namespace) -> Iterator[Result]:
    """Peak of each operation on 64 x 256 x 256 voxels, after one on a small image that compiles it; stored one by one."""
    if not Path("/proc/self/statm").is_file():
        print("memory: left out; it reads /proc, which this system does not have", flush=True)
        return
    figures = list(before["figures"]) if before else []
    done = {figure["what"] for figure in figures}
    small, labels = steps(cells((12, 40, 40), 10, 9)), cells()
    for name, step in steps(labels).items():
        if name not in done:
            small[name]()
            arrays = beyond(step) / (4 * labels.size)
            figures.append({"what": name, "unit": "arrays", "value": arrays, "runs": [arrays], "bar": 6})
            yield _result(figures, complete=False)
    yield _result(figures, complete=True)


def _result(figures: list[dict[str, Any]], *, complete: bool) -> Result:
    return {
        "title": "Memory",
        "note": "64 x 256 x 256 voxels, 300 touching cells. Peak memory of the process beyond its input and the result (for decoders: "
        "labels and intermediate images), in float32 arrays of the size of the volume. Lower is better.",
        "complete": complete,
        "figures": figures,
    }


def decoding(prediction: Any, channels: Any, process: str = "auto") -> Callable[[], Any]:
    """A call that decodes these channels."""
    import morula

    return lambda: morula.decode_objects(prediction, channels, process)


def steps(labels: np.ndarray) -> dict[str, Callable[[], Any]]:
    """The measured operations by name."""
    import morula
    from morula.labels.merge_oversegmented import repair_large
    from morula.labels.voronoi import voronoi
    from morula.metrics.association import association_image
    from morula.metrics.image_scores import ImageScores
    from morula.metrics.matching import associate

    found: dict[str, Callable[[], Any]] = {}
    channels: list[tuple[str, dict[str, Any]]] = [
        ("F", {"erosion": 1, "dilation": 2}), ("B", {"erosion": 1}), ("P", {}), ("C", {}), ("T", {}), ("Db", {}), ("Dc", {}), ("D", {}),
        ("Dn", {"closing_size": 3}), ("Z", {}),
    ]  # fmt: skip
    for code, given in channels:
        found[f"encode {code}"] = lambda code=code, given=given: morula.encode(labels, [code], options={code: given})
    for codes in (["F", "C"], ["F", "C", "Db"], ["F", "H", "V", "Z"]):
        found[f"decode {' + '.join(codes)}"] = decoding(morula.encode(labels, codes), codes)
    for name, given in CHANNELS.items():
        prediction = noisy(np.asarray(morula.encode(labels, given)), name)
        found[f"decode {' + '.join(given)} by {name}"] = decoding(prediction, given, name)
    moved = np.roll(labels, 2, axis=-1)

    def scored() -> None:
        morula.match(labels, moved, (0.3, 0.5))
        ImageScores.of(labels, moved)

    def measured() -> None:
        morula.measure(labels)

    found["match, Rand error, variation of information"] = scored
    found["coloured associations"] = lambda: association_image(labels, moved, associate(labels, moved))
    found["measure"] = measured
    found["repair_large"] = lambda: repair_large(labels, 20_000)
    found["voronoi"] = lambda: voronoi(labels, labels > 0)
    for name in ("dilation", "erosion", "fill_holes", "clear_border"):
        found[name] = lambda name=name: morula.refine(labels, [name])
    return found
