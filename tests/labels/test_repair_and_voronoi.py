"""Repair of objects that several seeds cut, tessellations of a mask, median filters of channels."""

import numpy as np
import pytest
from scipy import ndimage as ndi
from scipy.spatial.distance import cdist

from morula.decoders.foreground_mask import fit_foreground, foreground_mask
from morula.decoders.statistics import ChannelStatistics
from morula.inference.median import median
from morula.kernels.watershed import watershed
from morula.labels.merge_oversegmented import repair_large
from morula.labels.refine import refine
from morula.labels.voronoi import voronoi
from morula.representations.encode import build_channels, encode
from morula.testing.errors import raises


def ball(shape, centre, radius):
    return np.sqrt(sum((axis - c) ** 2 for axis, c in zip(np.indices(shape), centre, strict=True))) < radius


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("parts", [2, 3, 4])
def test_pieces_of_a_large_object_are_merged_and_filled(ndim, parts):
    shape = (15,) * (ndim - 2) + (60, 60)
    centre = (7,) * (ndim - 2) + (25, 25)
    whole = ball(shape, centre, 7 if ndim == 3 else 20)
    y, x = np.indices(shape)[-2:]
    wedge = ((np.arctan2(y - 25, x - 25) + np.pi) / (2 * np.pi) * parts).astype(int).clip(0, parts - 1) + 1
    labels = np.where(whole, wedge, 0).astype(np.uint16)
    labels[ball(shape, centre, 2)] = 0  # a hole in the middle
    labels[ball(shape, (7,) * (ndim - 2) + (50, 50), 5)] = 9  # a small object elsewhere
    repaired = repair_large(labels, int((whole > 0).sum() / parts * 0.8))
    assert len(np.unique(repaired[whole])) == 1
    assert (repaired[whole] > 0).all()
    assert (repaired == 9).sum() == (labels == 9).sum()
    np.testing.assert_array_equal(repair_large(labels, labels.size), labels)


def test_real_neighbours_stay_apart():
    centres = np.array([(r * 21 + 20, c * 24 + 20 + (r % 2) * 12) for r in range(4) for c in range(4)])
    distance = cdist(np.argwhere(np.ones((110, 120))), centres)
    packed = np.where(distance.min(axis=1) < 15, distance.argmin(axis=1) + 1, 0).reshape(110, 120).astype(np.uint16)
    np.testing.assert_array_equal(repair_large(packed, 100), packed)
    touching = np.zeros((40, 70), np.uint16)
    touching[ball((40, 70), (20, 20), 15)], touching[ball((40, 70), (20, 48), 14)] = 1, 2
    np.testing.assert_array_equal(repair_large(touching, 50), touching)


def test_repair_knows_the_voxel_size_and_any_id():
    labels = np.zeros((4, 40, 40), np.uint32)
    labels[:2, 5:35, 5:35], labels[2:, 5:35, 5:35] = 2**31, 70_000  # a flat slab cut along z
    assert np.unique(repair_large(labels, 100)).tolist() == [0, 70_000]
    assert np.unique(repair_large(labels, 100, voxel_size=(400.0, 1.0, 1.0))).tolist() == [0, 70_000, 2**31]
    flipped = repair_large(labels[::-1], 100)
    assert np.unique(flipped).tolist() == [0, 70_000]
    assert repair_large(np.zeros((5, 5), np.uint16), 1).max() == 0
    assert (repair_large(np.full((5, 5), 3, np.uint16), 1) == 3).all()
    with raises("refinement.negative", value=(-1, 0.8)):
        repair_large(labels, -1)


def test_repair_mends_what_a_watershed_with_two_seeds_did():
    mask = ball((50, 80), (25, 40), 22) | ball((50, 80), (25, 30), 18)
    markers = np.zeros(mask.shape, np.uint32)
    markers[25, 30], markers[25, 50] = 1, 2
    cut = watershed(-ndi.distance_transform_edt(mask).astype(np.float32), markers, mask)
    assert len(np.unique(cut)) == 3
    assert len(np.unique(refine(cut, [{"repair_large": 400}]))) == 2


@pytest.mark.parametrize(("shape", "spacing"), [((23, 31), (1, 1)), ((17, 20), (2.0, 0.7)), ((9, 12, 11), (3.0, 1.0, 0.5))])
def test_tessellation_by_brute_force(shape, spacing):
    rng = np.random.default_rng(0)
    seeds = np.zeros(shape, np.uint32)
    places = rng.permutation(seeds.size)[:9]
    seeds.ravel()[places] = rng.permutation(9) + 70_000
    points = np.argwhere(np.ones(shape)) * spacing
    distance = cdist(points, points[places])
    found = voronoi(seeds, np.ones(shape, bool), voxel_size=spacing).ravel()
    chosen = distance[np.arange(len(points)), (found[:, None] == seeds.ravel()[places]).argmax(axis=1)]
    np.testing.assert_allclose(chosen, distance.min(axis=1), rtol=1e-5)


def test_tessellation_covers_the_mask_and_nothing_else():
    labels = np.zeros((30, 40), np.uint16)
    labels[5:9, 5:9], labels[20:24, 30:38], labels[2:4, 30:32] = 3, 900, 7
    mask = ball(labels.shape, (15, 20), 22) & (labels != 7)
    for nearest in ("centroid", "object"):
        covered = voronoi(labels, mask, nearest=nearest)
        assert covered.dtype == labels.dtype
        np.testing.assert_array_equal(covered > 0, mask)
        assert (covered[(labels == 3) & mask] == 3).all()
    assert voronoi(np.zeros_like(labels), mask).max() == 0
    assert (voronoi(np.full_like(labels, 5), mask)[mask] == 5).all()
    with raises("labels.mask_shape", key="mask"):
        voronoi(labels, mask[1:])
    with raises("refinement.no_mask"):
        refine(labels, ["voronoi"])
    with raises("option.choice", key="nearest", value="edge"):
        voronoi(labels, mask, nearest="edge")


def test_centroids_divide_objects_too():
    labels = np.array([[1] * 8 + [2] * 2], np.uint16)
    assert voronoi(labels, labels > 0).tolist() == [[1] * 7 + [2] * 3]
    assert voronoi(labels, labels > 0, nearest="object").tolist() == labels.tolist()


@pytest.mark.parametrize(("codes", "used"), [(["F", "C"], "F"), (["B", "C"], "B"), (["C"], "C"), (["F", "C", "M"], "M")])
def test_the_inside_is_told_by_the_documented_channels(codes, used):
    labels = np.zeros((40, 40), np.uint16)
    labels[5:20, 5:20], labels[5:20, 20:35] = 1, 2
    channels = encode(labels, codes)
    made = build_channels(codes)
    fitted = fit_foreground(made, ChannelStatistics.of(channels))
    mask = foreground_mask(channels, made, fitted)
    np.testing.assert_array_equal(mask, channels[codes.index(used)] > 0 if used == "M" else labels > 0)
    with raises("refinement.no_mask_channel"):
        foreground_mask(channels, made, fitted, code="B" if used != "B" else "M")


def test_median_takes_out_single_planes():
    values = np.zeros((7, 6, 6), np.float32)
    values[2:6, 1:5, 1:5] = 1
    spoilt = values.copy()
    spoilt[3] = 0
    np.testing.assert_array_equal(median(spoilt, "z", 3)[3], values[3])
    assert median(values, "yz", 3).shape == values.shape
    np.testing.assert_array_equal(median(values, "z", 1), values)
    with raises("median.size", key="size", value=4):
        median(values, "z", 4)
    with raises("median.dimensions"):
        median(values[0], "yz", 3)
    with raises("median.axes", key="axes", value="t"):
        median(values, "t", 3)
