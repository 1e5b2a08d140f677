"""The laws of decoders; see `morula.testing.contracts`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from scipy import ndimage

from morula.decoders import DECODERS
from morula.decoders.decode import AnyDecoder, build_decoder, decode_objects
from morula.decoders.statistics import ChannelStatistics
from morula.decoders.watershed_inputs import channel_slices
from morula.kernels.geometry import geometry
from morula.metrics.matching import match
from morula.representations.encode import build_channels, encode
from morula.representations.reorient import common_orientations, reorient
from morula.testing.contracts import Case, Law, frozen, label_cases, renamed, same_partition
from morula.testing.simulate import simulate


def thick_objects() -> Iterator[Case]:
    """Objects whose inside is connected and thicker than a contour: blocks, discs and balls in 2D and 3D, one or none."""
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
    """Objects without their parts thinner than 5 voxels: each one is opened, small ones are removed."""

    ball = ndimage.iterate_structure(ndimage.generate_binary_structure(labels.ndim, 1), 2)
    out = np.zeros(labels.shape, np.uint32)
    for label in range(1, int(labels.max()) + 1):
        opened = ndimage.binary_opening(np.pad(labels == label, 1), ball)
        pieces, _ = ndimage.label(opened)
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        # a decoder that works with contours sees the object without its outline: that must be one piece, too
        inner = ndimage.binary_erosion(pieces == sizes.argmax(), ball) if sizes.max() else opened
        if inner.any() and ndimage.label(inner)[1] == 1:
            out[(pieces == sizes.argmax())[(slice(1, -1),) * labels.ndim]] = label
    return out


def channel_sets(name: str) -> list[tuple[str, ...]]:
    """The channel sets that the decoder names."""

    return [tuple(codes) for codes in DECODERS.load(name).channel_sets]


def accepted_sets(name: str) -> list[tuple[str, ...]]:
    """The channel sets that the decoder names; F alone for one that cannot separate touching objects and so names none."""
    return channel_sets(name) or [("F",)]


def decoder_inverts_encoding(name: str) -> None:
    """Decoding encoded labels gives their partition back, for every named channel set, on thick objects.

    A decoder of a fixed kind of shape, such as star-convex objects, states in `min_iou` the intersection over union that it reaches; the
    number of objects is exact in any case.
    """

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
    """Ids are 1 to n in uint16 or uint32, with one confidence from 0 to 1 per object; also for thin objects and empty images."""

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
    """Reoriented channels of objects with other ids, up to 2**31, give the reoriented objects, for one common orientation."""

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
    """It accepts its named channel sets; its parameters can be written as JSON and need no histograms but those of `counted`."""

    implementation = DECODERS.load(name)
    case = next(label_cases())
    for codes in accepted_sets(name):
        channels = build_channels(codes)
        assert implementation.accepts(channels), codes
        decoder = implementation(None, channels)
        encoded = encode(case.labels, codes, voxel_size=case.spacing)
        parameters = decoder.fit(ChannelStatistics.of(encoded))
        assert json.loads(json.dumps(parameters)) == parameters
        # histograms are expensive for many channels: the ones that `counted` leaves out must not matter
        rows = channel_slices(channels, len(encoded))
        assert decoder.fit(ChannelStatistics.of(encoded, [rows[code].start for code in decoder.counted])) == parameters, codes


def decode_in_blocks(
    decoder: AnyDecoder,
    prediction: np.ndarray,
    parameters: Mapping[str, object],
    spacing: Sequence[float],
    *,
    block: Sequence[int],
    max_diameter: float,
) -> np.ndarray:
    """Labels (Z)YX of a prediction that is decoded block by block: the plain reference of the law, in memory and without any speed.

    Every block is decoded with the decoder's halo. It provides the objects whose first voxel is in its core, whole.

    Args:
        decoder: the decoder.
        prediction: channels C(Z)YX.
        parameters: complete ones, from `fit` and `calibrate`.
        spacing: edge lengths of a voxel.
        block: edge lengths of the core in voxels; rounded up to the decoder's alignment.
        max_diameter: largest extent of an object, in voxels of the finest axis.
    """
    shape = prediction.shape[1:]
    align = decoder.alignment(len(shape))
    # halo and core are multiples of the alignment, so that every block samples the same voxels
    halo = [-(-size // step) * step for size, step in zip(decoder.context(parameters, spacing, max_diameter), align, strict=True)]
    core = [-(-size // step) * step for size, step in zip(block, align, strict=True)]
    out, number = np.zeros(shape, np.uint32), 0
    for place in np.ndindex(*(-(-n // size) for n, size in zip(shape, core, strict=True))):
        begin = [index * size for index, size in zip(place, core, strict=True)]
        end = [min(start + size, n) for start, size, n in zip(begin, core, shape, strict=True)]
        window = tuple(slice(max(a - h, 0), b + h) for a, b, h in zip(begin, end, halo, strict=True))
        labels = decoder.decode(np.ascontiguousarray(prediction[(slice(None), *window)]), parameters, spacing).labels
        # the first voxel in C order is in exactly one core, so that every object is taken from one block
        ids, first = np.unique(labels, return_index=True)
        for label, flat in zip(ids, first, strict=True):
            voxel = [int(n) + w.start for n, w in zip(np.unravel_index(flat, labels.shape), window, strict=True)]
            if label and all(a <= n < b for a, n, b in zip(begin, voxel, end, strict=True)):
                number += 1
                out[window][labels == label] = number
    return out


def noisy_predictions(codes: Sequence[str], ndim: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels of small touching objects, and their channels with some noise, as a network might predict them."""
    rng = np.random.default_rng(seed)
    shape, n = ((128, 160), 150) if ndim == 2 else ((24, 56, 64), 90)
    labels = simulate(shape=shape, n_objects=n, rng=rng, spacing=(1.0,) * ndim).labels
    channels = encode(labels, list(codes))
    for channel in channels:
        scale = float(np.abs(channel).max())
        channel += rng.normal(0, 0.02 * scale, channel.shape).astype(np.float32)
        if channel.min() > -0.2 * scale and scale <= 1:  # probabilities stay within 0 and 1
            np.clip(channel, 0, 1, out=channel)
    return labels, channels


def decoder_in_blocks_equals_whole(name: str) -> None:
    """Decoding block by block with the halo of `context` gives the partition of decoding the whole, for objects smaller than the halo."""
    for codes in accepted_sets(name):
        for ndim, seed, block in ((2, 0, (40, 56)), (2, 1, (64, 33)), (3, 2, (24, 20, 24))):
            spacing = (1.0,) * ndim
            _, prediction = noisy_predictions(codes, ndim, seed)
            decoder = build_decoder(build_channels(codes), name)
            parameters = decoder.calibrate(prediction, decoder.fit(ChannelStatistics.of(prediction)), spacing)
            whole = decoder.decode(prediction, parameters, spacing).labels
            boxes = geometry(whole.astype(np.uint32))
            diameter = float((boxes.stops - boxes.starts)[boxes.ids].max(initial=1))
            # the halo must do for the largest object that decoding the whole has found
            blocks = decode_in_blocks(decoder, prediction, parameters, spacing, block=block, max_diameter=diameter)
            assert same_partition(blocks, whole), f"{'+'.join(codes)} {ndim}D: {whole.max()} objects, {blocks.max()} in blocks"


def decoder_states_its_search_space(name: str) -> None:
    """`search_space` lists values of its options, the current one first, none twice; the decoder can be built with each of them."""

    for codes in channel_sets(name):
        channels = build_channels(codes)
        space = build_decoder(channels, name).search_space()
        assert space, codes
        first = {key: values[0] for key, values in space.items()}
        for key, values in space.items():
            assert len({repr(value) for value in values}) == len(values), key
            for value in values:
                # beside the first values of all others: the combinations that tuning begins with
                stated = build_decoder(channels, name, _nested({**first, key: value}))
                assert stated.search_space()[key][0] == value, key


def _nested(flat: dict[str, object]) -> dict[str, object]:
    """Values at dotted keys as nested mappings."""
    nested: dict[str, object] = {}
    for key, value in flat.items():
        first, _, rest = key.partition(".")
        inner = nested.setdefault(first, {}) if rest else nested
        assert isinstance(inner, dict)
        inner[rest or first] = value
    return nested


DECODER_LAWS: tuple[Law, ...] = (
    decoder_accepts_what_it_names,
    decoder_gives_objects,
    decoder_inverts_encoding,
    decoder_follows_orientations_and_ignores_ids,
    decoder_states_its_search_space,
    decoder_in_blocks_equals_whole,
)
