"""The laws of decoders; see `morula.testing.contracts`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from morula.testing.contracts import Case, Law, frozen, label_cases, renamed, same_partition
from morula.testing.simulate import simulate


def thick_objects() -> Iterator[Case]:
    """Objects whose inside is one piece thicker than a contour: touching blocks, discs, balls; in 2D and 3D; none and one."""
    for kind, shape, spacing, n in (("membranes", (72, 72), (1.0, 1.0), 9), ("nuclei", (96, 96), (1.0, 1.0), 12)):
        made = simulate(kind, shape=shape, n_objects=n, rng=np.random.default_rng(1), spacing=spacing)  # type: ignore[arg-type]
        yield Case(f"{kind} 2D", _thick(made.labels), spacing)
    blocks = np.zeros((20, 45, 45), np.uint32)
    for number, corner in enumerate(np.ndindex(2, 3, 3), start=1):
        blocks[tuple(slice(1 + 9 * c, 10 + 9 * c + 3 * (axis > 0)) for axis, c in enumerate(corner))] = number
    yield Case("touching blocks 3D", blocks, (1.0, 1.0, 1.0))
    made = simulate(shape=(24, 64, 64), n_objects=8, rng=np.random.default_rng(2), spacing=(1.0, 1.0, 1.0))
    yield Case("nuclei 3D", _thick(made.labels), (1.0, 1.0, 1.0))
    one = np.zeros((30, 30), np.uint32)
    one[5:22, 4:25] = 70_000
    yield Case("one object", one, (1.0, 1.0))
    yield Case("no object", np.zeros((20, 24), np.uint32), (1.0, 1.0))


def _thick(labels: np.ndarray) -> np.ndarray:
    """Objects without their parts thinner than 5 voxels: each is opened, small ones are dropped."""
    from scipy import ndimage

    ball = ndimage.iterate_structure(ndimage.generate_binary_structure(labels.ndim, 1), 2)
    out = np.zeros(labels.shape, np.uint32)
    for label in range(1, int(labels.max()) + 1):
        opened = ndimage.binary_opening(np.pad(labels == label, 1), ball)
        pieces, _ = ndimage.label(opened)
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        inner = ndimage.binary_erosion(pieces == sizes.argmax(), ball) if sizes.max() else opened
        if inner.any() and ndimage.label(inner)[1] == 1:
            out[(pieces == sizes.argmax())[(slice(1, -1),) * labels.ndim]] = label
    return out


def channel_sets(name: str) -> list[tuple[str, ...]]:
    """The channel sets that the decoder names in `channel_sets`; they are those that it accepts, too."""
    from morula.decoders import DECODERS

    return [tuple(codes) for codes in DECODERS.load(name).channel_sets]


def accepted_sets(name: str) -> list[tuple[str, ...]]:
    """The channel sets that the decoder names; F alone for one that tells no touching objects apart and so names none."""
    return channel_sets(name) or [("F",)]


def decoder_inverts_encoding(name: str) -> None:
    """Decoding encoded labels gives their partition back, for every named channel set, on thick objects.

    A decoder whose objects are of one kind of shape alone states in `min_iou` how much of each object it gives back at least, as
    intersection over union; there are as many objects in any case.
    """
    from morula.decoders import DECODERS
    from morula.decoders.decode import decode_objects
    from morula.metrics.matching import match
    from morula.representations.encode import encode

    min_iou = DECODERS.load(name).min_iou
    for codes in channel_sets(name):
        for case in thick_objects():
            channels = frozen(encode(case.labels, codes, voxel_size=case.spacing))
            found = decode_objects(channels, codes, process=name, voxel_size=case.spacing)
            if min_iou == 1.0:
                assert same_partition(found.labels, case.labels), f"{'+'.join(codes)}: {case.name}"
            else:
                assert len(found) == len(np.unique(case.labels[case.labels > 0])), f"{'+'.join(codes)}: {case.name}"
                (score,) = match(case.labels, found.labels, thresholds=(min_iou,))
                assert score.fp == score.fn == 0, f"{'+'.join(codes)}: {case.name}: {score}"


def decoder_gives_objects(name: str) -> None:
    """Ids are 1 to n in an unsigned type of 16 bits or more, with one confidence from 0 to 1 each; also where objects are thin or none."""
    from morula.decoders.decode import decode_objects
    from morula.representations.encode import encode

    for codes in accepted_sets(name):
        for case in label_cases():
            found = decode_objects(encode(case.labels, codes, voxel_size=case.spacing), codes, process=name, voxel_size=case.spacing)
            assert found.labels.shape == case.labels.shape, case.name
            assert found.labels.dtype in (np.uint16, np.uint32), case.name
            ids = np.unique(found.labels)
            n = len(ids[ids > 0])
            assert ids[ids > 0].tolist() == list(range(1, n + 1)), case.name
            assert np.shape(found.confidence) == (n,), case.name
            assert np.isfinite(found.confidence).all(), case.name
            assert ((found.confidence >= 0) & (found.confidence <= 1)).all(), case.name


def decoder_follows_orientations_and_ignores_ids(name: str) -> None:
    """Turned channels of objects with other ids, up to 2**31, give the turned objects; for one orientation that all channels follow."""
    from morula.decoders import DECODERS
    from morula.decoders.decode import decode_objects
    from morula.representations.encode import build_channels, encode
    from morula.representations.reorient import common_orientations, reorient

    exact = DECODERS.load(name).min_iou == 1.0
    cases = [case for case in thick_objects() if case.name in ("membranes 2D", "touching blocks 3D")]
    for codes in channel_sets(name):
        for case in cases:
            built = build_channels(codes)
            orientation = common_orientations(built, case.spacing)[-1]
            turned = np.ascontiguousarray(reorient(built, encode(renamed(case.labels), codes, voxel_size=case.spacing), orientation))
            found = decode_objects(frozen(turned), codes, process=name, voxel_size=case.spacing).labels
            expected = np.ascontiguousarray(orientation.apply(case.labels))
            assert found.max() == len(np.unique(expected[expected > 0])), f"{'+'.join(codes)}: {case.name}"
            assert not exact or same_partition(found, expected), f"{'+'.join(codes)}: {case.name}"


def decoder_accepts_what_it_names(name: str) -> None:
    """It accepts its named channel sets; its parameters can be written as JSON and need no other histograms than those of `counted`."""
    import json

    from morula.decoders import DECODERS
    from morula.decoders.statistics import ChannelStatistics
    from morula.decoders.watershed_inputs import channel_slices
    from morula.representations.encode import build_channels, encode

    implementation = DECODERS.load(name)
    case = next(label_cases())
    for codes in accepted_sets(name):
        channels = build_channels(codes)
        assert implementation.accepts(channels), codes
        decoder = implementation(None, channels)
        encoded = encode(case.labels, codes, voxel_size=case.spacing)
        parameters = decoder.fit(ChannelStatistics.of(encoded))
        assert json.loads(json.dumps(parameters)) == parameters
        rows = channel_slices(channels, len(encoded))
        assert decoder.fit(ChannelStatistics.of(encoded, [rows[code].start for code in decoder.counted])) == parameters, codes


def decoder_states_its_search_space(name: str) -> None:
    """`search_space` lists values of its options, the one in force first, none twice; with each of them the decoder can be built."""
    from morula.decoders.decode import build_decoder
    from morula.representations.encode import build_channels

    for codes in channel_sets(name):
        channels = build_channels(codes)
        space = build_decoder(channels, name).search_space()
        assert space, codes
        first = {key: values[0] for key, values in space.items()}
        for key, values in space.items():
            assert len({repr(value) for value in values}) == len(values), key
            for value in values:
                stated = build_decoder(channels, name, _nested({**first, key: value}))
                assert stated.search_space()[key][0] == value, key


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    """Values at dotted keys as nested mappings."""
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, last = key.split(".")
        inner = nested
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = value
    return nested


DECODER_LAWS: tuple[Law, ...] = (
    decoder_accepts_what_it_names,
    decoder_gives_objects,
    decoder_inverts_encoding,
    decoder_follows_orientations_and_ignores_ids,
    decoder_states_its_search_space,
)
