"""Voronoi-Otsu, seeded watershed and connected components on a foreground probability."""

from itertools import product

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree

import morula
from morula.decoders.decode import build_decoder
from morula.decoders.voronoi_otsu import connected_cells, otsu_voronoi, otsu_watershed, spots, typical_radius
from morula.kernels.smoothing import gaussian_smooth
from morula.representations.encode import build_channels
from morula.testing.contracts import same_partition
from morula.testing.errors import raises

SPACINGS = {2: [(1.0, 1.0), (2.0, 0.5)], 3: [(1.0, 1.0, 1.0), (1.75, 0.8, 0.8)]}


@pytest.mark.parametrize(
    ("name", "stated"),
    [
        ("voronoi_otsu", {"threshold": 0.35, "spot_sigma": 0.9}),
        ("seeded_watershed", {}),
        ("seeded_watershed", {"foreground": 0.75, "seed": 0.75}),
        ("seeded_watershed", {"foreground": 0.1, "seed": 0.2}),
        ("connected_components", {"min_size": 7}),
    ],
)
def test_all_settings_of_the_search_space_stand_together(name, stated):
    space = build_decoder(build_channels("F"), name, stated).search_space()
    assert {key: values[0] for key, values in space.items()}.items() >= stated.items()
    for key, values in space.items():
        assert len({repr(value) for value in values}) == len(values), key
    for setting in product(*space.values()):
        build_decoder(build_channels("F"), name, dict(zip(space, setting, strict=True)))


def balls(shape, centres, radius, spacing):
    """Labels of ellipsoids, each voxel to the nearest centre."""
    places = np.indices(shape).reshape(len(shape), -1).T * spacing
    away, nearest = cKDTree(np.asarray(centres) * spacing).query(places)
    return np.where(away <= radius, nearest + 1, 0).reshape(shape).astype(np.uint32)


def smooth_probability(labels, spacing):
    """A peak in the middle of each object, from 0.5 on."""
    depth = np.zeros(labels.shape, np.float32)
    for label in range(1, int(labels.max()) + 1):
        own = ndimage.distance_transform_edt(labels == label, sampling=spacing)
        depth += own / max(own.max(), 1e-6)
    return np.where(labels > 0, 0.5 + 0.5 * depth, 0.02).astype(np.float32)[None]


@pytest.mark.parametrize(
    ("process", "options"),
    [
        ("voronoi_otsu", {"outline_sigma": 0}),
        ("seeded_watershed", {"min_size": 1, "connectivity": 1}),
        ("connected_components", {"threshold": 0.3, "connectivity": 1}),
    ],
)
@pytest.mark.parametrize("spacing", [each for spacings in SPACINGS.values() for each in spacings])
def test_objects_that_touch_none_come_back(process, options, spacing):
    ndim = len(spacing)
    shape, middle = ((30, 60), (15,)) if ndim == 2 else ((12, 30, 60), (6, 15))
    labels = balls(shape, [(*middle, x) for x in (10, 30, 50)], 6 * min(spacing), spacing)
    found = morula.decode(smooth_probability(labels, spacing), ["F"], process, options, spacing)
    assert same_partition(found, labels)


@pytest.mark.parametrize("process", ["voronoi_otsu", "seeded_watershed"])
@pytest.mark.parametrize("spacing", SPACINGS[3])
def test_touching_objects_are_parted_halfway(process, spacing):
    labels = balls((16, 24, 48), [(8, 12, 16), (8, 12, 30)], 8 * min(spacing), spacing)
    found = morula.decode(smooth_probability(labels, spacing), ["F"], process, {"min_size": 1}, spacing)
    scores = morula.match(labels, found, thresholds=(0.9,))[0]
    assert (scores.tp, scores.fp) == (2, 0)


def test_objects_above_the_threshold_are_kept():
    prediction = np.zeros((1, 9, 9), np.float32)
    prediction[0, 1:4, 1:4], prediction[0, 5:8, 5:8] = 0.93, 1.0
    assert morula.decode(prediction, ["F"], "connected_components").max() == 2


@pytest.mark.parametrize("process", ["voronoi_otsu", "seeded_watershed", "connected_components"])
@pytest.mark.parametrize("value", [0.0, 0.1, 1.0])
def test_empty_and_full_images(process, value):
    objects = morula.decode_objects(np.full((1, 6, 7, 8), value, np.float32), ["F"], process)
    assert len(objects) == (value == 1)
    assert (objects.labels > 0).all() == (value == 1)


def test_sizes_and_seeds_are_obeyed():
    prediction = np.zeros((1, 10, 30), np.float32)
    prediction[0, 2:8, 2:8] = 0.6  # no seed
    prediction[0, 2:8, 12:18] = 0.95
    prediction[0, 4, 25:27] = 0.95  # two voxels
    count = lambda **options: int(morula.decode(prediction, ["F"], "seeded_watershed", options).max())  # noqa: E731
    assert count() == 1
    assert count(min_seed=1, min_size=1) == 2
    assert count(seed=0.55, min_seed=1, min_size=1) == 3
    assert count(foreground=0.97, seed=0.97) == 0


@pytest.mark.parametrize("spacing", SPACINGS[3])
def test_flooded_objects_meet_in_the_valley_and_not_halfway(spacing):
    large, small = (
        balls((20, 36, 60), [(10, 18, 18)], 11 * min(spacing), spacing),
        balls((20, 36, 60), [(10, 18, 34)], 5 * min(spacing), spacing),
    )
    labels = np.where(large > 0, 1, np.where(small > 0, 2, 0)).astype(np.uint32)
    prediction = smooth_probability(labels, spacing)
    given = {"spot_sigma": 1.5, "outline_sigma": 0.0, "min_size": 1}
    halfway, flooded = (morula.decode(prediction, ["F"], "voronoi_otsu", {**given, "flood": flood}, spacing) for flood in (False, True))
    shared = [float((each == labels).mean()) for each in (halfway, flooded)]
    scores = [morula.match(labels, each, thresholds=(0.5,))[0].mean_true_score for each in (halfway, flooded)]
    assert scores[1] > scores[0] + 0.05, shared


@pytest.mark.parametrize("spacing", SPACINGS[3])
def test_scraps_below_half_the_typical_radius_are_dropped(spacing):
    shape, ball = (24, 48, 72), 7 * min(spacing)
    labels = balls(shape, [(12, 12, 12), (12, 12, 36), (12, 36, 12), (12, 36, 60)], ball, spacing)
    small, scrap = balls(shape, [(12, 36, 36)], 4.5 * min(spacing), spacing), balls(shape, [(12, 12, 60)], 2 * min(spacing), spacing)
    prediction = smooth_probability(np.where(small, 5, np.where(scrap, 6, labels)).astype(np.uint32), spacing)
    planned, kept = (morula.decode(prediction, ["F"], "voronoi_otsu", given, spacing) for given in ({}, {"min_size": 1}))
    assert (planned.max(), kept.max()) == (5, 6)
    assert planned[12, 36, 36] > 0
    assert planned[12, 12, 60] == 0


def test_shallow_valleys_make_no_objects_where_that_is_asked_for():
    peaks = np.array([0.9, 0.85, 0.9, 0.6, 0.9], np.float32).repeat(5)  # one shallow valley, one deep
    prediction = np.pad(np.broadcast_to(peaks, (5, 25)), 3)[None]
    given = {"spot_sigma": 1.0, "outline_sigma": 0.0, "threshold": 0.5}
    counts = [morula.decode(prediction, ["F"], "voronoi_otsu", {**given, "valley": valley}).max() for valley in (0.0, 0.1, 0.6)]
    assert counts == [3, 2, 1]


def test_more_than_65535_objects():
    prediction = np.zeros((1, 530, 530), np.float32)
    prediction[0, ::2, ::2] = 1
    labels = morula.decode(prediction, ["F"], "connected_components", {"min_size": 1})
    assert labels.dtype == np.uint32
    assert labels.max() == 265**2


def test_other_channels_are_refused():
    with raises("decoder.unusable_channels", value="F, C"):
        morula.decode(np.zeros((2, 4, 4), np.float32), ["F", "C"], "voronoi_otsu")
    with raises("option.unknown"):
        morula.decode(np.zeros((1, 4, 4), np.float32), ["F"], "voronoi_otsu", {"spot_sgma": 1})


@pytest.mark.parametrize("spacing", SPACINGS[3])
def test_voronoi_gives_each_voxel_to_the_nearest_seed(spacing):
    shape = (10, 20, 20)
    centres = np.array([(2, 3, 4), (8, 15, 3), (5, 10, 17), (1, 18, 12), (9, 2, 14)])
    seeds = np.zeros(shape, np.uint32)
    seeds[tuple(centres.T)] = np.arange(1, 6)
    found = connected_cells(seeds, np.ones(shape, bool), spacing)
    away = np.linalg.norm(np.indices(shape).reshape(3, -1).T[:, None] * spacing - centres * spacing, axis=2)
    own = np.take_along_axis(away, found.reshape(-1, 1).astype(int) - 1, axis=1)[:, 0]
    # water runs from neighbour to neighbour: where cells meet, a voxel may go to a seed that is further by less than a step
    assert (own <= away.min(axis=1) + np.linalg.norm(spacing)).all()
    assert (own == away.min(axis=1)).mean() > 0.97


def test_smoothing_is_as_wide_in_physical_units_along_every_axis():
    image = np.zeros((21, 41, 41), np.float32)
    image[10, 20, 20] = 1
    smoothed = gaussian_smooth(image, 4.0, (2.0, 1.0, 1.0))
    assert smoothed[12, 20, 20] == pytest.approx(smoothed[10, 24, 20], rel=0.02)


def test_plateaus_are_one_spot_and_slopes_none():
    values = np.array([[0, 1, 1, 1, 0, 2, 1, 1, 0]], np.float32)
    np.testing.assert_array_equal(spots(values, values > 0), [[0, 1, 1, 1, 0, 2, 0, 0, 0]])


def test_the_typical_radius_is_that_of_balls_that_touch_or_not():
    spacing = (2.0, 1.0, 1.0)
    apart = balls((20, 40, 80), [(10, 20, 20), (10, 20, 60)], 8, spacing) > 0
    touching = balls((20, 40, 80), [(10, 20, 32), (10, 20, 46)], 8, spacing) > 0
    assert typical_radius(apart, spacing) == pytest.approx(8, rel=0.2)
    assert typical_radius(touching, spacing) == pytest.approx(8, rel=0.3)


@pytest.mark.parametrize("method", [otsu_voronoi, otsu_watershed])
def test_plain_methods_find_bright_balls(method):
    spacing = (1.75, 0.8, 0.8)
    labels = balls((14, 40, 80), [(7, 20, 20), (7, 20, 36), (7, 20, 60)], 7, spacing)
    image = np.where(labels > 0, 80, 5) + np.random.default_rng(0).normal(0, 2, labels.shape)
    image = ndimage.gaussian_filter(image, 1).astype(np.float32)
    scores = morula.match(labels, method(image, spacing), thresholds=(0.6,))[0]
    assert (scores.tp, scores.fp) == (3, 0)
    assert method(np.full((6, 6), 3.0), (1, 1)).max() == 0
