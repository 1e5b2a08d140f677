"""From channels back to objects: the law, noise, the original's cases, options, messages."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage as ndi

from morula.core.axes import Axes
from morula.core.image import Image
from morula.decoders.decode import build_decoder, decode, decode_objects
from morula.decoders.statistics import ChannelStatistics
from morula.metrics.matching import match
from morula.representations.encode import build_channels, encode
from morula.testing.errors import raises

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "labels" / "channels.npz")
SETS = [
    *(["F", "C"], ["B", "C"], ["F", "C", "Db"], ["F", "Db"], ["B", "Db"], ["Db"], ["C", "Db"], ["F", "P"], ["B", "P"]),
    *(["F", "C", "P"], ["F", "P", "Db"], ["F", "Dc"], ["F", "C", "Dc"], ["F", "B", "C"]),
]
NAMES = ["+".join(codes) for codes in SETS]


def same_partition(one, two):
    pairs = np.unique(np.stack([one.ravel(), two.ravel()]).astype(np.int64), axis=1)
    return all(len(np.unique(side)) == pairs.shape[1] for side in pairs)


def blocks(ndim):
    """Touching blocks of different size, and one apart."""
    labels = np.zeros((38, 44), np.uint32)
    corners = [((3, 14), (3, 16)), ((3, 14), (16, 30)), ((14, 26), (3, 16)), ((14, 26), (16, 30)), ((28, 36), (20, 40))]
    for number, (rows, columns) in enumerate(corners, 1):
        labels[slice(*rows), slice(*columns)] = number * 70_000
    if ndim == 2:
        return labels
    nothing, upper = np.zeros_like(labels), np.where(labels > 0, labels + 1, 0)
    return np.stack([nothing, *[labels] * 9, *[upper] * 8, nothing]).astype(np.uint32)


def overlap(truth, found):
    """Highest IoU with any found object, for each true one."""
    ids = np.unique(truth[truth > 0])
    best = []
    for label in ids:
        mask = truth == label
        over = np.bincount(found[mask].astype(np.int64))
        over[0] = 0
        top = over.argmax()
        best.append(over[top] / (mask.sum() + (found == top).sum() - over[top]) if over[top] else 0.0)
    return np.array(best)


def noisy(channels, sigma=0.05, seed=0):
    return np.clip(channels + np.random.default_rng(seed).normal(0, sigma, channels.shape), 0, 1).astype(np.float32)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("codes", [codes for codes in SETS if ("C" in codes and "F" in codes) or codes == ["F", "Db"]], ids="+".join)
def test_decoding_inverts_encoding_of_thick_objects(codes, ndim):
    labels = blocks(ndim)
    found = decode(encode(labels, codes), codes)
    assert same_partition(labels, found)
    assert found.dtype == np.uint16


@pytest.mark.parametrize("mode", ["thick", "inner", "outer", "subpixel"])
def test_every_contour_that_separates_does(mode):
    labels = blocks(2)
    channels = {"F": {}, "C": {"mode": mode}}
    assert same_partition(labels, decode(encode(labels, channels), channels))


def test_contours_alone_part_an_image_without_background():
    rows, columns = np.indices((40, 60)) // np.array([20, 20])[:, None, None]
    labels = (1 + rows * 3 + columns).astype(np.uint32)
    assert same_partition(labels, decode(encode(labels, ["C"]), ["C"]))
    assert decode(np.zeros((1, 20, 20)), ["C"]).max() == 0
    assert decode(np.zeros((2, 20, 20)), ["P", "C"]).max() == 0


@pytest.mark.parametrize("codes", SETS, ids=NAMES)
@pytest.mark.parametrize("size", ["2d", "3d"])
def test_defaults_part_touching_cells_of_the_original(codes, size):
    labels = GOLDEN[f"labels_{size}"]
    ideal = encode(labels, codes)
    n = len(np.unique(labels)) - 1
    for channels in (ideal, noisy(ideal)):
        objects = decode_objects(channels, codes)
        assert len(objects) == n
        good = overlap(labels, objects.labels) > (0.75 if {"F", "B"} & set(codes) else 0.6)
        assert good.mean() > 0.85
        assert ((objects.confidence > 0.5) & (objects.confidence <= 1)).all()
    assert decode(noisy(np.stack([np.full(labels.shape, float(code == "B")) for code in codes])), codes).max() == 0


@pytest.mark.parametrize("options", [{"norm": False}, {"val_type": "discretize"}, {"act": "linear"}])
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (2.5, 1.0)])
def test_other_distances_part_touching_cells(options, spacing):
    labels = GOLDEN["labels_2d"]
    channels = {"F": {}, "Db": options}
    assert len(decode_objects(encode(labels, channels, voxel_size=spacing), channels, voxel_size=spacing)) == 12
    alone = {"Db": options}
    found = decode(encode(labels, alone, voxel_size=spacing), alone, voxel_size=spacing)
    assert (overlap(labels, found) > 0.75).sum() >= 11


@pytest.mark.parametrize("name", ["2d_FC", "2d_BC", "3d_FC"])
def test_finds_what_the_original_finds(name):
    prediction, wanted = GOLDEN[f"ws_{name}_prediction"].astype(np.float32), GOLDEN[f"ws_{name}_labels"]
    found = decode(prediction, list(name[3:]))
    assert found.max() == wanted.max()
    assert overlap(wanted, found).min() > 0.75


def dumbbell():
    y, x = np.indices((40, 70))
    one = (((y - 20) ** 2 + (x - 20) ** 2 < 150) | ((y - 20) ** 2 + (x - 50) ** 2 < 150)) | ((abs(y - 20) < 9) & (x > 20) & (x < 50))
    return one.astype(np.uint32)


def test_shallow_valleys_do_not_split_an_object():
    labels = dumbbell()
    channels = encode(labels, ["F", "Db"])
    assert decode(channels, ["F", "Db"]).max() == 1
    assert decode(channels, ["F", "Db"], options={"valley": 0.05}).max() == 2


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (2.0, 1.0, 1.0)])
def test_smoothing_keeps_noisy_objects_whole(spacing):
    labels = discs(spacing)
    channels = encode(labels, ["F", "Db"], voxel_size=spacing)
    noise = np.random.default_rng(0).normal(0, 0.3, labels.shape)
    noisy = np.stack([channels[0], np.clip(channels[1] + noise, 0, 1)]).astype(np.float32)
    options = {"growth": {"F": 0.5}, "valley": 0.2}
    assert decode(noisy, ["F", "Db"], options=options, voxel_size=spacing).max() > 6
    found = decode(noisy, ["F", "Db"], options={**options, "smoothing": 3}, voxel_size=spacing)
    (score,) = match(labels, found, thresholds=(0.5,))
    assert (score.tp, score.fp, score.fn) == (2, 0, 0)


def discs(spacing):
    """Two touching balls of radius 10, in physical lengths."""
    shape = [round(length / step) for length, step in zip((24, 24, 44)[-len(spacing) :], spacing)]
    places = np.stack(np.meshgrid(*[np.arange(n) * step for n, step in zip(shape, spacing)], indexing="ij"))
    one, two = (((places - np.reshape([12] * (len(spacing) - 1) + [x], (-1, *[1] * len(spacing)))) ** 2).sum(axis=0) for x in (11.9, 32.1))
    return np.where(np.minimum(one, two) <= 100, 1 + (two < one), 0).astype(np.uint32)


def test_plain_thresholds_are_there_too():
    labels = blocks(2)
    channels = encode(labels, ["F", "C"])
    options = {"valley": None, "seeds": {"F": 0.6, "C": 0.4}, "growth": {"F": 0.3}, "surface": "F"}
    assert same_partition(labels, decode(channels, ["F", "C"], options=options))


def test_seed_morphology_and_sizes():
    labels = blocks(2)
    channels = encode(labels, ["F", "C"])
    gone = decode(channels, ["F", "C"], options={"seed_morphology": [{"op": "erode", "radius": 20}]})
    assert gone.max() == 0
    merged = decode(channels, ["F", "C"], options={"valley": None, "seed_morphology": [{"op": "dilate", "radius": 3}]})
    assert merged.max() == 2
    few = decode_objects(channels, ["F", "C"], options={"min_seed": 115})
    assert len(few) == 1
    assert len(decode_objects(channels, ["F", "C"], options={"min_seed": 115, "keep_unseeded": True})) == 2


def test_growth_mask_is_opened():
    labels = np.zeros((30, 30), np.uint32)
    labels[5:25, 5:15] = 1
    labels[14, 15:28] = 1  # a hair
    channels = encode(labels, ["F"])
    assert decode(channels, ["F"])[14, 25] == 1
    opened = decode(channels, ["F"], options={"growth_erosion": 2, "growth_dilation": 2})
    assert opened[14, 25] == 0
    assert opened[10, 10] == 1


def test_by_slice():
    labels = blocks(3)
    found = decode(encode(labels, ["F", "C"]), ["F", "C"], options={"by_slice": True})
    assert (overlap(labels, found) > 0.7).all()


def test_tiny_objects_can_be_kept():
    labels = np.zeros((12, 12), np.uint32)
    labels[2:4, 2:4], labels[6:11, 6:11] = 1, 2
    channels = encode(labels, ["F", "C"])
    assert decode(channels, ["F", "C"]).max() == 1
    assert same_partition(labels, decode(channels, ["F", "C"], options={"keep_unseeded": True}))


def test_blocks_decode_as_the_whole_with_parameters_fitted_once():
    labels = np.zeros((20, 120), np.uint32)
    for number, left in enumerate(range(4, 110, 12), 1):
        labels[5:15, left : left + 9] = number
    channels = noisy(encode(labels, ["F", "C", "Db"]))
    decoder = build_decoder(build_channels(["F", "C", "Db"]))
    edges = [0, 38, 74, 120]
    parts = [channels[..., a:b] for a, b in pairwise(edges)]
    statistics = ChannelStatistics.of(parts[0])
    for part in parts[1:]:
        statistics = statistics.merge(ChannelStatistics.of(part))
    parameters = decoder.fit(statistics)
    assert parameters == decoder.fit(ChannelStatistics.of(channels))
    whole = decoder.decode(channels, parameters, (1, 1)).labels
    pieces = np.concatenate([decoder.decode(part, parameters, (1, 1)).labels > 0 for part in parts], axis=1)
    np.testing.assert_array_equal(pieces, whole > 0)


def test_objects_carry_what_the_decoder_saw():
    labels = blocks(2)
    objects = decode_objects(encode(labels, ["F", "C"]), ["F", "C"])
    assert set(objects.intermediates) == {"seeds", "surface", "growth"}
    assert all(array.shape == labels.shape for array in objects.intermediates.values())
    np.testing.assert_array_equal(objects.intermediates["growth"], labels > 0)
    assert objects.confidence.tolist() == [1, 1, 1, 1, 1]


def test_images_and_voxel_sizes():
    labels = blocks(3)
    channels = encode(labels, ["F", "Db"], voxel_size=(2.0, 1.0, 1.0))
    image = Image(channels, Axes("CZYX"))
    assert (overlap(labels, decode(image, ["F", "Db"], voxel_size=(2.0, 1.0, 1.0))) > 0.9).all()


def test_more_than_65535_objects():
    labels = np.zeros((520, 520), np.uint32)
    labels[::2, ::2] = np.arange(260 * 260).reshape(260, 260) + 1
    found = decode(encode(labels, ["F"]), ["F"])
    assert found.dtype == np.uint32
    assert same_partition(labels, found)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (3, 1, 7)])
@pytest.mark.parametrize("codes", [["F", "C"], ["F", "C", "Db"], ["Db"], ["F", "P"]], ids="+".join)
def test_tiny_images(shape, codes):
    labels = np.ones(shape, np.uint32)
    assert decode(encode(labels, codes), codes).shape == shape
    assert decode(encode(labels * 0, codes), codes).max() == 0


def test_messages():
    labels = blocks(2)
    channels = encode(labels, ["F", "C"])
    with raises("prediction.channel_count"):
        decode(channels, ["F", "C", "Db"])
    with raises("prediction.shape"):
        decode(channels[0], ["F"])
    with raises("prediction.not_finite", value=1):
        decode(np.where(np.arange(2)[:, None, None] == 1, np.nan, channels), ["F", "C"])
    with raises("decoder.unknown_channel", key="seeds", value="D"):
        decode(channels, ["F", "C"], "watershed", {"seeds": {"D": "auto"}})
    with raises("option.unknown", remedy="Did you mean 'seeds'?"):
        decode(channels, ["F", "C"], "watershed", {"seed": {"F": "auto"}})
    with raises("decoder.none_fits", value="P, Dc"):
        decode(channels, ["P", "Dc"])
    with raises("decoder.unusable_channels", value="P, Dc"):
        decode(channels, ["P", "Dc"], "watershed")
    with raises("name.unknown", key="decoder", value="wathershed"):
        decode(channels, ["F", "C"], "wathershed")


def test_statistics_find_the_threshold():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(-2, 0.3, 5000), rng.normal(3, 0.3, 3000)]).astype(np.float32).reshape(1, 80, 100)
    statistics = ChannelStatistics.of(values)
    assert -1.2 < statistics.otsu(0) < 2.2
    assert 2.5 < statistics.otsu(0, above=0.0) < 3.5
    assert statistics.count == 8000
    assert statistics.histograms[0].sum() == 8000
    assert statistics.minimum[0] == values.min()
    constant = ChannelStatistics.of(np.full((1, 4, 4), 0.25, np.float32))
    assert constant.otsu(0) == pytest.approx(0.25, rel=0.01)
    assert constant.otsu(0, above=1.0) == 1.0


def f1(truth, found, threshold):
    hits = int((overlap(truth, found) >= threshold).sum())
    return hits, int(found.max()) - hits, len(np.unique(truth[truth > 0])) - hits


@pytest.mark.data
@pytest.mark.parametrize(
    ("folder", "spacing", "least"),
    [
        ("nuclei2d", (1.0, 1.0), {"F+C": 0.98, "F+C+Db": 0.975, "F+Db": 0.97, "Db": 0.72}),
        ("nuclei3d_embryo", (1.75, 0.8, 0.8), {"F+C": 0.92, "F+C+Db": 0.89, "F+Db": 0.86, "Db": 0.62}),
    ],
)
def test_real_labels_come_back(data_folder, folder, spacing, least):
    """F1 at an IoU of 0.9 of decoded encoded labels, per channel set (docs/benchmarks.md has the figures)."""
    from morula.io.read import read

    files = sorted((data_folder / folder / "val" / "labels").glob("*.tif"))
    for name, bar in least.items():
        codes = name.split("+")
        counts = np.zeros(3)
        for file in files:
            labels = np.asarray(read(file))
            counts += f1(labels, decode(encode(labels, codes, voxel_size=spacing), codes, voxel_size=spacing), 0.9)
        score = 2 * counts[0] / (2 * counts[0] + counts[1] + counts[2])
        assert score >= bar, f"{folder} {name}: {score:.3f}"


def test_components_of_the_growth_mask_without_contours():
    labels = ndi.label(np.kron(np.eye(4), np.ones((6, 6))) > 0)[0]
    assert same_partition(labels, decode(encode(labels, ["F"]), ["F"]))


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 7, 9), (3, 5, 16, 9)])
def test_statistics_by_sorting(shape):
    values = np.random.default_rng(1).normal(0, 3, shape).astype(np.float32)
    values[values < -2] = 0
    found = ChannelStatistics.of(values)
    for channel, counts, low, high in zip(values, found.histograms.values(), found.minimum, found.maximum, strict=True):
        assert (low, high) == (channel.min(), channel.max())
        ranks = np.repeat(np.arange(65_536), counts)
        upper = np.sort(channel, axis=None).view(np.uint32) >> 16
        np.testing.assert_array_equal(ranks, np.where(upper < 32_768, 32_768 + upper, 65_535 - upper))
    assert found.count == values[0].size
    few = ChannelStatistics.of(values, [shape[0] - 1])
    assert list(few.histograms) == [shape[0] - 1]
    np.testing.assert_array_equal(few.histograms[shape[0] - 1], found.histograms[shape[0] - 1])
    np.testing.assert_array_equal([few.minimum, few.maximum], [found.minimum, found.maximum])
    assert (few.merge(few).count, few.merge(few).otsu(shape[0] - 1)) == (2 * found.count, found.otsu(shape[0] - 1))


@pytest.mark.parametrize("place", [0, 63, 64, 130, -1])
@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("counted", [None, ()])
def test_nan_and_infinity_are_refused_everywhere(place, value, counted):
    values = np.linspace(-3e38, 3e38, 2 * 131, dtype=np.float32).reshape(2, 131)
    ChannelStatistics.of(values, counted)
    values[1, place] = value
    with raises("prediction.not_finite", value=1):
        ChannelStatistics.of(values, counted)


@pytest.mark.parametrize(("step", "code"), [("seeds", "F"), ("growth", "F"), ("seeds", "C")])
def test_thresholds_that_no_value_reaches_are_refused(step: str, code: str) -> None:
    with raises("decoder.threshold_range", key=f"{step}.{code}", value=1.5):
        decode(np.zeros((2, 8, 8), np.float32), ["F", "C"], options={step: {code: 1.5}})


def test_the_confidence_of_channels_that_overshoot_is_a_share() -> None:
    labels = np.zeros((20, 20), np.uint16)
    labels[4:10, 4:10], labels[10:16, 4:10] = 1, 2
    for codes in (["F", "C"], ["B", "C"]):
        objects = decode_objects(encode(labels, codes) * 1.2 - 0.1, codes)
        assert objects.confidence.tolist() == [1.0, 1.0]
