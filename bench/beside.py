"""The operations of the row `objects`, each by Morula and by BiaPy with equivalent options."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from decoders import CHANNELS, noisy

Calls = tuple[Callable[[], Any], Callable[[], Any]]


def unsaid(labels: np.ndarray, ours: Any, theirs: Any) -> str:
    """No remark on the results."""
    del labels, ours, theirs
    return ""


@dataclass(frozen=True)
class Operation:
    """An operation on a label image, and how many times as fast ours must be.

    `build` makes the inputs and gives the two calls; `same` says how near their results are.
    """

    name: str
    bar: float
    build: Callable[[np.ndarray], Calls]
    same: Callable[[np.ndarray, Any, Any], str] = unsaid


def operations(ndim: int) -> Iterator[Operation]:
    """All operations on images of these dimensions."""
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
        yield Operation(f"encode {name}", bar, partial(_encode, codes, given))
    yield Operation(f"encode Db, R ({32 if ndim == 2 else 96} rays)", 8, _encode_rays, _same_channels)
    yield Operation("encode flow fields", 5, _encode_flows, _same_channels)
    yield Operation("decode F + C by watershed, 5 % noise", 4, _decode_watershed, _same_objects)
    yield Operation("decode Db + R by StarDist", 30, _decode_stars, _same_objects)
    yield Operation("decode E by EmbedSeg", 30, _decode_embedding, _same_objects)
    yield Operation("decode F and flows", 30, _decode_flows, _same_objects)
    yield Operation("match at 3 thresholds", 30, _match)
    yield Operation("measure with surfaces", 10, _measure)


def _same_objects(labels: np.ndarray, ours: Any, theirs: Any) -> str:
    """F1@0.75 of ours and theirs against the truth, and of theirs against ours."""
    if theirs is None:
        return f"F1 {_f1(labels, ours):.3f}"
    theirs = np.asarray(theirs).astype(np.uint32).reshape(labels.shape)
    return f"F1 {_f1(labels, ours):.3f} and {_f1(labels, theirs):.3f}, {_f1(ours, theirs):.3f} to each other"


def _f1(truth: np.ndarray, found: np.ndarray) -> float:
    import morula

    return float(morula.match(truth, found, thresholds=(0.75,))[0].f1)


def _same_channels(labels: np.ndarray, ours: Any, theirs: Any) -> str:
    """Share of the values inside objects that differ by at most one hundredth of the range."""
    if theirs is None:
        return ""
    inside = labels > 0
    theirs = np.moveaxis(np.asarray(theirs).reshape(*labels.shape, -1), -1, 0)
    near = [np.abs(a[inside] - b[inside] * (a.max() / max(b.max(), 1e-9))) <= 0.01 * np.ptp(a) for a, b in zip(ours, theirs, strict=True)]
    return f"{100 * np.mean([part.mean() for part in near]):.1f} % of the values alike"


def _encode(codes: list[str], given: dict[str, Any], labels: np.ndarray) -> Calls:
    import morula

    return partial(morula.encode, labels, codes, options=given), partial(_their_channels, labels, codes, given)


def _encode_rays(labels: np.ndarray) -> Calls:
    import morula

    theirs = {"Db": {"mask_values": False}, "R": {"nrays": 32 if labels.ndim == 2 else 96}}
    return partial(morula.encode, labels, ["Db", "R"]), partial(_their_channels, labels, ["Db", "R"], theirs)


def _encode_flows(labels: np.ndarray) -> Calls:
    import morula

    return partial(morula.encode, labels, ["G"]), partial(_their_channels, labels, _flow_codes(labels.ndim), {})


def _flow_codes(ndim: int) -> list[str]:
    return ["Gz", "Gv", "Gh"][3 - ndim :]


_EXTRA: dict[str, dict[str, Any]] = {
    "F": {"erosion": 0, "dilation": 0},
    "T": {"thickness": 2},
    "Db": {"val_type": "norm", "act": "sigmoid", "mask_values": True},
    "Dc": {"type": "centroid", "norm": True, "mask_values": True},
    "D": {"act": "tanh"},
    "Dn": {"closing_size": 0, "norm": True, "mask_values": True, "decline_power": 3},
    **{code: {"norm": True, "act": "linear"} for code in "HVZ"},
    **{code: {"gradient_type": "cellpose"} for code in ("Gz", "Gv", "Gh")},
    "R": {"mask_values": True},
}


def _their_channels(labels: np.ndarray, codes: list[str], given: dict[str, Any]) -> Any:
    from biapy.data.pre_processing import labels_into_channels

    return labels_into_channels(labels[..., None], codes, {code: {**_EXTRA[code], **given.get(code, {})} for code in codes})


def _decode_watershed(labels: np.ndarray) -> Calls:
    import morula

    noise = np.random.default_rng(0).normal(0, 0.05, (2, *labels.shape)).astype(np.float32)
    channels = np.clip(morula.encode(labels, ["F", "C"]) + noise, 0, 1)
    return partial(morula.decode, channels, ["F", "C"]), partial(_their_watershed, channels)


def _their_watershed(channels: np.ndarray) -> Any:
    from biapy.data.post_processing.post_processing import watershed_by_channels

    data = np.moveaxis(channels if channels.ndim == 4 else channels[:, None], 0, -1)
    return watershed_by_channels(data, ["F", "C"], ["F", "C"], ["auto", "auto"], "F", ["F"], ["auto"], verbose=False)


def _decode_stars(labels: np.ndarray) -> Calls:
    """Rays in voxels for BiaPy, and the same thresholds.

    BiaPy proposes a star only at local maxima and divides the overlap of two stars by their union within the common box, which is less
    than the union. Ours proposes a star at each voxel and divides by the smaller star, as StarDist does.
    """
    from biapy.data.post_processing.polygon_nms import stardist_instances_from_prediction

    channels, ours = _predicted(labels, "stardist", {"threshold": 0.4, "overlap": 0.3})
    channels[0] = np.clip(channels[0], 0, 1)
    one = (1,) * labels.ndim
    rays = np.ascontiguousarray(np.moveaxis(channels[1:], 0, -1)) * np.float32(32)
    given = {"prob_thresh": 0.4, "nms_iou_thresh": 0.3, "anisotropy": one, "grid": one}
    return ours, lambda: stardist_instances_from_prediction(channels[0], rays, **given)[0]


def _decode_embedding(labels: np.ndarray) -> Calls:
    """Both keep objects of any size; offsets and bandwidths have the same order, x first."""
    import torch
    from biapy.data.post_processing.embedseg import Embedding_cluster

    channels, ours = _predicted(labels, "embedseg", {"seed_threshold": 0.5, "foreground_threshold": 0.5, "min_object_size": 0})
    pred = np.ascontiguousarray(np.moveaxis(channels, 0, -1))
    clusters = Embedding_cluster(torch.device("cpu"), ndims=labels.ndim, grid_size=1024)
    return ours, partial(clusters.create_instances, pred, fg_thresh=0.5, seed_thresh=0.5, min_object_size=0)


def _decode_flows(labels: np.ndarray) -> Calls:
    """BiaPy's networks predict five times the flow, and its cells are not rescaled; both check the flows and keep objects of any size."""
    from biapy.data.post_processing.gradient_tracking import cellpose_flows_to_instances

    channels, ours = _predicted(labels, "flows", {"threshold": 0.5, "flow_error": 0.4, "min_size": 0})
    pred = np.moveaxis(channels, 0, -1).copy()
    pred[..., 1:] *= 5
    given = {"fg_channel": "F", "fg_thresh": 0.5, "flow_threshold": 0.4, "diameter": 30.0, "diam_mean": 30.0}
    return ours, partial(cellpose_flows_to_instances, pred, ["F", *_flow_codes(labels.ndim)], **given)


def _predicted(labels: np.ndarray, decoder: str, options: dict[str, Any]) -> tuple[np.ndarray, Callable[[], Any]]:
    """Channels as a network might predict them, and our decoder for them."""
    import morula

    channels = noisy(np.asarray(morula.encode(labels, CHANNELS[decoder])), decoder)
    return channels, partial(morula.decode, channels, CHANNELS[decoder], process=decoder, options=options)


def _match(labels: np.ndarray) -> Calls:
    from biapy.utils.matching import matching

    import morula

    moved, thresholds = np.roll(labels, 2, axis=-1), (0.3, 0.5, 0.75)
    return partial(morula.match, labels, moved, thresholds), partial(matching, labels, moved, thresh=thresholds)


def _measure(labels: np.ndarray) -> Calls:
    from biapy.data.post_processing.post_processing import measure_morphological_props_and_filter

    from morula.measurement.measure import measure

    intensity = labels.astype(np.float32)
    return partial(measure, labels), partial(measure_morphological_props_and_filter, labels, intensity, [1, 1, 1], extra_props=[])
