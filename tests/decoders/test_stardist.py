"""Star-convex objects: geometry by brute force, the greedy choice against a plain one, the original's case, options, messages."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import ConvexHull
from skimage.draw import polygon2mask

from morula.core.label_image import as_volume, to_3d
from morula.decoders.decode import build_decoder, decode, decode_objects
from morula.kernels import star_nms
from morula.kernels.star_nms import Comparison, OverlapRule, Workspace, suppress
from morula.kernels.star_painting import paint_stars, ray_field
from morula.kernels.star_polyhedra import Blocks, blocks_of, lanes_of
from morula.kernels.star_rays import directions
from morula.kernels.star_shapes import fan_of, star_volume
from morula.representations.encode import build_channels, encode
from morula.testing.errors import raises

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "labels" / "shapes.npz")

GOLDEN_STARS = Path(__file__).parents[1] / "golden" / "labels" / "stardist_kept.npz"


def stars(shape, spacing, rays, n, seed=0, longest=9.0):
    """Scores, candidates and noisy lengths of stars of many sizes that overlap."""
    rng = np.random.default_rng(seed)
    scores = rng.random(shape).astype(np.float32)
    candidates = np.sort(rng.choice(scores.size, n, replace=False))
    size = rng.uniform(0.3, 1, shape) * longest
    return scores, candidates, (size * rng.uniform(0.6, 1, (rays, *shape))).astype(np.float32)


def inside(fan, lengths, centre, shape):
    """Voxels of a star, cone by cone in float64."""
    places = np.stack(np.indices((1,) * (3 - len(shape)) + shape), axis=-1) - centre
    mask = np.zeros(places.shape[:-1], bool)
    for edges, inverse in zip(fan.cones, fan.inverse, strict=True):
        shares = places @ inverse.T / lengths[edges]
        mask |= (shares >= -1e-9).all(axis=-1) & (shares.sum(axis=-1) <= 1)
    return mask


@pytest.mark.parametrize(("count", "spacing"), [(5, (1.0, 1.0)), (32, (1.0, 0.5)), (12, (1.0, 1.0, 1.0)), (96, (3.0, 1.0, 1.0))])
def test_cones_fill_the_space(count, spacing):
    fan = fan_of(count, spacing)
    lengths = np.ones(count)
    solid = ConvexHull(fan.ray_steps[:, 3 - len(spacing) :])
    assert star_volume(lengths, fan.cones, fan.volumes) == pytest.approx(solid.volume)
    for cone, edge in itertools.product(range(len(fan.cones)), range(fan.cones.shape[1])):
        wall = set(fan.cones[cone]) - {fan.cones[cone, edge]}
        assert wall < set(fan.cones[fan.across[cone, edge]])
        assert fan.across[cone, edge] != cone


@pytest.mark.parametrize(
    ("shape", "spacing", "rays"), [((40, 44), (1.0, 1.0), 16), ((30, 50), (2.0, 1.0), 32), ((16, 24, 24), (2.0, 1.0, 1.0), 40)]
)
def test_painting_fills_what_lies_inside(shape, spacing, rays):
    scores, _, values = stars(shape, spacing, rays, 1)
    fan, field = fan_of(rays, spacing), ray_field(values, float(values.max()), 1.0, spacing)
    for flat in (0, scores.size // 2 + shape[-1] // 2, scores.size - 1):
        labels = np.zeros(shape, np.uint32)
        paint_stars(labels, np.array([flat]), field, fan, spacing)
        centre = np.array((0,) * (3 - len(shape)) + np.unravel_index(flat, shape))
        limit = inside(fan, values.reshape(rays, -1)[:, flat].astype(float), centre, shape)
        assert (labels > 0).sum() == limit.sum()
        np.testing.assert_array_equal(labels.reshape(limit.shape) > 0, limit)


def fine_overlap(one, two, fan, scale=12):
    """Common area of two stars, counted on a fine raster."""
    shape = (40 * scale, 40 * scale)
    masks = [
        polygon2mask(shape, (np.array(centre) + lengths[:, None] * fan.ray_steps[:, 1:] + 0.5) * scale - 0.5)
        for centre, lengths in (one, two)
    ]
    return (masks[0] & masks[1]).sum() / scale**2


@pytest.mark.parametrize("union", [False, True])
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (1.0, 1.6)])
def test_polygons_go_exactly_when_they_share_too_much(spacing, union):
    rng = np.random.default_rng(3)
    fan = fan_of(16, spacing)
    for _ in range(6):
        values = np.zeros((16, 40, 40), np.float32)
        places = [(20, 20), (20 + rng.integers(-6, 7), 20 + rng.integers(1, 7))]
        for y, x in places:
            values[:, y, x] = rng.uniform(4, 11, 16)
        scores = np.zeros((40, 40), np.float32)
        scores[places[0]], scores[places[1]] = 0.9, 0.8
        sizes = [star_volume(values[:, y, x].astype(float), fan.cones, fan.volumes) for y, x in places]
        common = fine_overlap(*[(place, values[:, place[0], place[1]].astype(float)) for place in places], fan)
        share = common / (sum(sizes) - common if union else min(sizes))
        field = ray_field(values, float(values.max()), 1.0, spacing)
        for factor, left in ((0.96, 1), (1.04, 2)):
            kept = suppress(scores, np.flatnonzero(scores), field, fan, spacing, OverlapRule(share * factor, union))
            assert len(kept) == left


def chosen(candidates, scores, shares, limit):
    """Plain greedy choice by shares of all pairs."""
    kept: list[int] = []
    for i in candidates[np.argsort(-scores.ravel()[candidates], kind="stable")]:
        if all(shares(i, j) <= limit for j in kept):
            kept.append(i)
    return set(kept)


@pytest.mark.parametrize(("spacing", "limit"), [((1.0, 1.0, 1.0), 0.2), ((2.0, 1.0, 1.0), 0.5)])
def test_polyhedra_are_chosen_as_by_comparing_all_with_all(spacing, limit):
    scores, candidates, values = stars((16, 30, 30), spacing, 24, 150, longest=7.0)
    fan, field = fan_of(24, spacing), ray_field(values, float(values.max()), 1.0, spacing)
    flat = values.reshape(24, -1).astype(float)
    sizes = {i: star_volume(flat[:, i], fan.cones, fan.volumes) for i in candidates}
    voxels = {
        i: set(map(tuple, np.argwhere(inside(fan, flat[:, i], (7, 7, 7), (15, 15, 15))) + np.unravel_index(i, scores.shape)))
        for i in candidates
    }
    expected = chosen(candidates, scores, lambda i, j: len(voxels[i] & voxels[j]) / min(sizes[i], sizes[j]), limit)
    assert set(suppress(scores, candidates, field, fan, spacing, OverlapRule(limit, False)).tolist()) == expected


@pytest.mark.parametrize(("spacing", "union"), [((1.0, 1.0, 1.0), False), ((2.0, 1.0, 1.0), True)])
def test_blocks_of_polyhedra_decide_as_all_voxels_do(monkeypatch, spacing, union):
    rng = np.random.default_rng(5)
    shape = (14, 36, 37)
    scores = rng.random(shape).astype(np.float32)
    middles = rng.uniform(0, 1, (9, 3)) * np.array(shape) * spacing
    offset = np.linalg.norm(np.stack(np.indices(shape), axis=-1)[..., None, :] * spacing - middles, axis=-1).min(axis=-1)
    candidates = np.flatnonzero((offset < 5) & (rng.random(shape) < 0.7))
    values = ((11 - offset) * rng.uniform(0.9, 1, (24, *shape))).astype(np.float32)
    fan, field = fan_of(24, spacing), ray_field(values, float(values.max()), 1.0, spacing)
    kept = suppress(scores, candidates, field, fan, spacing, OverlapRule(0.3, union))
    made = star_nms.blocks_of(star_nms.table_for(field.high, fan, spacing, shape), np.array(spacing))
    assert len(made.near) > 100
    none = Blocks(made.starts[:0], made.near[:0], made.first[:1], made.cones[:0], made.boxes[:0])
    monkeypatch.setattr(star_nms, "blocks_of", lambda *_: none)
    assert 5 < len(kept) < len(candidates) / 20
    np.testing.assert_array_equal(kept, suppress(scores, candidates, field, fan, spacing, OverlapRule(0.3, union)))


def nuclei(spacing, noise, seed=4):
    """Scores, candidates and noisy lengths of the voxels of a few round objects."""
    rng = np.random.default_rng(seed)
    ndim = len(spacing)
    shape = (34, 37) if ndim == 2 else (13, 30, 31)
    rays = 32 if ndim == 2 else 60
    middles = rng.uniform(0.1, 0.9, (5, ndim)) * np.array(shape) * spacing
    places = np.stack(np.indices(shape), axis=-1).reshape(-1, ndim) * spacing
    distance = np.linalg.norm(places[:, None] - middles, axis=-1)
    own, distance = distance.argmin(axis=1), distance.min(axis=1)
    offset = places - middles[own]
    along = offset @ directions(rays, ndim).T
    lengths = np.sqrt(np.maximum(along**2 - (distance**2 - 64)[:, None], 0.01)) - along
    values = np.maximum(lengths * rng.normal(1, noise, lengths.shape), 0.3).T.reshape(rays, *shape).astype(np.float32)
    scores = ((1 - distance / 8) * rng.uniform(0.9, 1, len(distance))).astype(np.float32)
    return scores.reshape(shape), np.flatnonzero(scores > 0.3), values


@pytest.mark.parametrize("union", [False, True])
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (2.0, 1.0), (1.0, 1.0, 1.0), (2.0, 1.0, 1.0)])
def test_ellipsoids_decide_as_the_exact_comparison_does(spacing, union):
    scores, candidates, values = nuclei(spacing, 0.02)
    fan, field, rule = fan_of(len(values), spacing), ray_field(values, float(values.max()), 1.0, spacing), OverlapRule(0.3, union)
    table, lengths = star_nms.table_for(field.high, fan, spacing, scores.shape), to_3d(spacing, 1.0)
    comparison = Comparison(field, fan, lengths, table, blocks_of(table, lengths), rule)
    rays, cones = len(fan.ray_steps), len(fan.cones)
    workspace = Workspace(
        np.empty(rays), np.empty((3, cones), np.float32), np.empty((3, 2), np.int64),
        np.empty((2, rays + 1)), np.empty((2, 2)), np.empty((3, rays + 1)),
    )  # fmt: skip
    places = [np.array(np.unravel_index(flat, as_volume(scores).shape)) for flat in candidates]
    lanes = lanes_of(fan)
    decided = exact = 0
    for one in range(0, len(candidates), len(candidates) // 4):
        star = star_nms._star(places[one], comparison)
        ellipsoid, local = star_nms._ellipsoid(star, comparison, lanes)
        assert ellipsoid.size_inside > 0
        overlaps = np.array([star_nms._overlap(star, place, comparison, workspace) for place in places])
        alive = np.zeros(as_volume(scores).shape, np.uint8)
        alive.ravel()[candidates] = 1
        near = star_nms._candidates_near(star, ellipsoid, alive, comparison)
        star_nms._suppress_by_ellipsoid(near, star_nms._gather(field, near), star, ellipsoid, local, alive, comparison, lanes)
        size_inside = alive.ravel()[candidates] == 0
        assert not (size_inside & ~overlaps).any()
        decided, exact = decided + size_inside.sum(), exact + overlaps.sum()
    assert 0.4 * exact < decided <= exact < 4 * len(candidates)
    order = candidates[np.argsort(-scores.ravel()[candidates], kind="stable")]
    kept: list[int] = []
    stars = []
    for flat in order:
        place = np.array(np.unravel_index(flat, as_volume(scores).shape))
        if not any(star_nms._overlap(star, place, comparison, workspace) for star in stars):
            kept.append(flat)
            stars.append(star_nms._star(place, comparison))
    assert suppress(scores, candidates, field, fan, spacing, rule).tolist() == kept


def distances(corners):
    """Least squared distance from 0 to lines (n, 2, 3) or triangles (n, 3, 3), in float64, by a search that halves its steps."""
    least = np.full(len(corners), np.inf)
    shares = np.full((len(corners), corners.shape[1]), 1 / corners.shape[1])
    step = 1.0
    while step > 1e-5:
        moved = False
        for one, two in itertools.permutations(range(corners.shape[1]), 2):
            tried = shares.copy()
            given = np.minimum(tried[:, one], step)
            tried[:, one] -= given
            tried[:, two] += given
            offset = ((tried[:, :, None] * corners).sum(axis=1) ** 2).sum(axis=1)
            better = offset < least - 1e-12
            least, shares = np.where(better, offset, least), np.where(better[:, None], tried, shares)
            moved |= bool(better.any())
        step = step if moved else step / 2
    return least


@pytest.mark.parametrize("noise", [0.02, 0.2])
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (1.0, 1.0, 1.0), (2.0, 1.0, 1.0)])
def test_an_ellipsoid_is_contained_if_no_surface_intersects_it(spacing, noise):
    scores, candidates, values = nuclei(spacing, noise)
    fan, field = fan_of(len(values), spacing), ray_field(values, float(values.max()), 1.0, spacing)
    table, lengths = star_nms.table_for(field.high, fan, spacing, scores.shape), to_3d(spacing, 1.0)
    comparison = Comparison(field, fan, lengths, table, blocks_of(table, lengths), OverlapRule(0.3, False))
    lanes, alive = lanes_of(fan), np.zeros(as_volume(scores).shape, np.uint8)
    alive.ravel()[candidates] = 1
    for flat in candidates[np.argsort(-scores.ravel()[candidates])]:  # where rays are noisy not every polygon holds its own ellipsoid
        star = star_nms._star(np.array(np.unravel_index(flat, alive.shape)), comparison)
        ellipsoid, local = star_nms._ellipsoid(star, comparison, lanes)
        if ellipsoid.size_inside > 0:
            break
    near = star_nms._candidates_near(star, ellipsoid, alive, comparison)[::3]
    assert len(near) > 20
    star_nms._suppress_by_ellipsoid(near, star_nms._gather(field, near), star, ellipsoid, local, alive, comparison, lanes)
    size_inside = alive.ravel()[near] == 0
    for flat, yes in zip(near, size_inside, strict=True):
        lengths = values.reshape(len(values), -1)[:, flat, None] * fan.ray_steps
        from_middle = (lengths - ellipsoid.middle - star.centre + np.unravel_index(flat, alive.shape)) @ ellipsoid.inverse_axes.T
        nearest = distances(from_middle[fan.cones]).min()
        assert nearest > 1 if yes else nearest < 1.001
    assert size_inside.any()
    assert noise < 0.1 or not size_inside.all()


@pytest.mark.parametrize("limit", [0.25, 0.5])
def test_polygons_are_chosen_as_by_comparing_all_with_all(limit):
    scores, candidates, values = stars((40, 40), (1.0, 1.0), 16, 80, longest=7.0)
    fan, field = fan_of(16, (1.0, 1.0)), ray_field(values, float(values.max()), 1.0, (1.0, 1.0))
    masks = {}
    for i in candidates:
        corners = np.array(np.unravel_index(i, scores.shape)) + values.reshape(16, -1)[:, i, None] * fan.ray_steps[:, 1:]
        masks[i] = polygon2mask((540, 540), (corners + 7) * 10)
    shares = lambda i, j: (masks[i] & masks[j]).sum() / min(masks[i].sum(), masks[j].sum())  # noqa: E731
    assert set(suppress(scores, candidates, field, fan, (1.0, 1.0), OverlapRule(limit, False)).tolist()) == chosen(
        candidates, scores, shares, limit
    )


def test_finds_what_the_original_finds():
    prediction, expected = GOLDEN["stardist_prediction"].astype(np.float32), GOLDEN["stardist_labels"]
    channels = {"Db": {}, "R": {"nrays": 16, "norm": False}}
    objects = decode_objects(prediction, channels, "stardist", {"threshold": 0.4, "overlap": 0.3})
    assert len(objects) == expected.max() == 12
    same = {label: np.bincount(objects.labels[expected == label]).argmax() for label in range(1, 13)}
    mapped = np.vectorize({0: 0, **same}.get)(expected)
    assert (mapped == objects.labels).mean() >= 0.98


@pytest.mark.parametrize(("limit", "kept", "fewest"), [(0.3, "kept_03", 3), (0.5, "kept_05", 10)])
def test_whole_corners_keep_what_the_compiled_original_keeps(limit, kept, fewest):
    golden = np.load(GOLDEN_STARS)
    shape, candidates = tuple(golden["shape"]), golden["candidates"].astype(int)
    scores, values = np.zeros(shape, np.float32), np.zeros((16, *shape), np.float32)
    scores.ravel()[candidates] = np.linspace(1, 0.1, len(candidates))
    values.reshape(16, -1)[:, candidates] = golden["lengths"]
    fan, field = fan_of(16, (1.0, 1.0)), ray_field(values, float(values.max()), 1.0, (1.0, 1.0))
    exact, whole = (
        set(suppress(scores, np.sort(candidates), field, fan, (1.0, 1.0), OverlapRule(limit, False, cut)).tolist()) for cut in (False, True)
    )
    expected = set(golden[kept].tolist())
    assert whole == expected
    # so that the case distinguishes the two kinds of corners
    assert len(exact ^ expected) >= fewest


def test_corners_are_an_option_of_the_decoder():
    values, score = np.full((16, 30, 40), 5.2, np.float32), np.zeros((30, 40), np.float32)
    score[15, 12], score[15, 21] = 0.6, 0.9
    prediction = np.concatenate([score[None], values])
    channels = {"F": {}, "R": {"nrays": 16, "norm": False}}
    found = {
        corners: decode(prediction, channels, "stardist", {"overlap": 0.05, "corners": corners}).max() for corners in ("exact", "whole")
    }
    assert found == {"exact": 1, "whole": 2}


def test_overlap_is_of_the_smaller_star_or_of_the_union():
    values, score = np.zeros((16, 30, 40), np.float32), np.zeros((30, 40), np.float32)
    for x, radius, each in ((15, 10.0, 0.9), (24, 4.0, 0.6)):  # most of the small star lies in the large one
        score[15, x], values[:, 15, x] = each, radius
    prediction, channels = np.concatenate([score[None], values]), {"F": {}, "R": {"nrays": 16, "norm": False}}
    found = {of: decode(prediction, channels, "stardist", {"overlap_of": of}).max() for of in ("smaller", "union")}
    assert found == {"smaller": 1, "union": 2}


def ellipsoids(ndim):
    shape, spacing = ((60, 64), (1.0, 1.0)) if ndim == 2 else ((20, 48, 48), (2.0, 1.0, 1.0))
    places = np.stack(np.indices(shape), axis=-1) * spacing
    labels = np.zeros(shape, np.uint32)
    for number, centre in enumerate(itertools.product(*[(0.25 * n * s, 0.75 * n * s) for n, s in zip(shape, spacing, strict=True)]), 1):
        stretch = np.array([1.0, 1.0, 1.3])[-ndim:]
        labels[((((places - centre) / stretch) ** 2).sum(axis=-1)) < (8 + number % 3) ** 2] = number * 100_000
    return labels, spacing


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("options", [{}, {"norm": False}, {"scale": 5.0}])
def test_lengths_come_back_in_any_scale_and_voxel_size(ndim, options):
    labels, spacing = ellipsoids(ndim)
    channels = {"Db": {}, "R": options}
    found = decode_objects(encode(labels, channels, voxel_size=spacing), channels, voxel_size=spacing)
    n = len(np.unique(labels)) - 1
    assert len(found) == n
    assert found.labels.dtype == np.uint16
    assert (found.confidence == 1).all()
    for label in np.unique(labels[labels > 0]):
        mask = labels == label
        own = np.bincount(found.labels[mask]).argmax()
        assert own > 0
        assert (mask & (found.labels == own)).sum() / (mask | (found.labels == own)).sum() > 0.85


def test_the_better_one_is_on_top():
    values, score = np.full((16, 30, 40), 8.0, np.float32), np.zeros((30, 40), np.float32)
    score[15, 12], score[15, 24] = 0.6, 0.9
    prediction = np.concatenate([score[None], values])
    channels = {"F": {}, "R": {"nrays": 16, "norm": False}}
    found = decode_objects(prediction, channels, "stardist", {"overlap": 0.9})
    np.testing.assert_allclose(found.confidence, [0.9, 0.6])
    assert found.labels[15, 18] == 1  # in both
    assert found.labels[15, 12] == 2
    assert found.intermediates["centres"][15, 24] == 1
    assert decode(prediction, channels, "stardist", {"overlap": 0.9, "threshold": 0.7}).max() == 1
    assert decode(prediction, channels, "stardist", {"overlap": 0.05}).max() == 1
    assert decode(prediction, channels, "stardist", {"overlap": 0.9, "grid": [1, 5]}).max() == 0
    assert decode(prediction, channels, "stardist", {"overlap": 0.9, "grid": 3}).max() == 2


def test_other_channels_count_in_the_score():
    score, rays = np.full((1, 20, 20), 0.9, np.float32), np.full((8, 20, 20), 0.1, np.float32)
    channels = ["F", "B", "C", "R"]
    made = np.concatenate([score, np.full((2, 20, 20), 0.5, np.float32), rays])
    options = {"R": {"nrays": 8}}
    found = decode_objects(made, {code: options.get(code) for code in channels})
    np.testing.assert_allclose(found.confidence, 0.225, rtol=1e-5)


def test_blocks_are_decoded_with_the_parameters_of_the_whole():
    labels, spacing = ellipsoids(2)
    channels = build_channels({"Db": {"norm": False}, "R": {}})
    made = encode(labels, {"Db": {"norm": False}, "R": {}})
    decoder = build_decoder(channels)
    from morula.decoders.statistics import ChannelStatistics

    parameters = decoder.fit(ChannelStatistics.of(made))
    part = decoder.decode(made[:, :, :32], parameters, spacing)
    whole = decoder.decode(made, parameters, spacing)
    np.testing.assert_array_equal(part.labels > 0, whole.labels[:, :32] > 0)


def test_nothing_and_messages():
    assert len(decode_objects(np.zeros((33, 20, 20)), ["Db", "R"])) == 0
    assert len(decode_objects(np.zeros((97, 4, 9, 9)), ["F", "R"])) == 0
    noise = np.abs(np.random.default_rng(0).normal(0, 0.05, (33, 40, 40)))
    assert len(decode_objects(noise, ["Db", "R"])) == 0
    with raises("decoder.unusable_channels", value="R"):
        decode(np.zeros((32, 9, 9)), ["R"], "stardist")
    with raises("decoder.unusable_channels", value="F"):
        decode(np.zeros((1, 9, 9)), ["F"], "stardist")
    with raises("decoder.unusable_channels", value="F, Dn, R"):
        decode(np.zeros((34, 9, 9)), ["F", "Dn", "R"], "stardist")
    with raises("option.axis_count", key="grid", value=[1, 2, 3]):
        decode(np.zeros((33, 9, 9)), ["F", "R"], "stardist", {"grid": [1, 2, 3]})
    with raises("rays.too_few", key="nrays", value=3):
        decode(np.ones((4, 5, 9, 9)), {"F": {}, "R": {"nrays": 3}}, "stardist")


def test_a_giant_among_the_rays_is_cut_at_the_image():
    prediction = np.zeros((33, 24, 30), np.float32)
    prediction[0, 12, 15], prediction[1:, 12, 15] = 1, 1e30
    found = decode_objects(prediction, ["Db", "R"])
    assert (found.labels == 1).all()
