"""Touching areas, signed and neighbour distances, offsets, rays, affinities, flows: brute force, the original's numbers, the edges."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage as ndi

from morula.core.orientation import orientations
from morula.kernels.star_rays import directions
from morula.labels.neighbour_distance import distance_to_others
from morula.representations import REPRESENTATIONS
from morula.representations.encode import build_channels, encode
from morula.representations.reorient import common_orientations, reorient
from morula.testing.errors import raises

FOLDER = Path(__file__).parents[1] / "golden" / "labels"
LABELS = np.load(FOLDER / "channels.npz")
GOLDEN = np.load(FOLDER / "more_channels.npz")
CODES = ["T", "D", "Dn", "H", "V", "Z", "R", "A", "G", "M"]
SHAPES = [((30, 34), (1.0, 1.0)), ((28, 30), (2.5, 1.0)), ((10, 18, 20), (1.0, 1.0, 1.0)), ((8, 18, 16), (3.0, 1.0, 1.0))]


def blobs(shape, n=9, seed=0):
    """Touching objects of all shapes, with background between."""
    rng = np.random.default_rng(seed)
    noise = ndi.gaussian_filter(rng.random(shape), 2)
    points = np.zeros(shape, np.uint32)
    points[tuple(rng.integers(0, s, n) for s in shape)] = np.arange(1, n + 1)
    nearest = ndi.distance_transform_edt(points == 0, return_distances=False, return_indices=True)
    return np.where(noise > np.quantile(noise, 0.3), points[tuple(nearest)], 0).astype(np.uint32)


def ids_of(labels):
    return np.unique(labels[labels > 0])


# --- T -----------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(40, 50), (10, 20, 22)])
def test_touching_is_a_neighbour_of_another_object(shape):
    labels = blobs(shape)
    want = np.zeros(shape)
    block = np.ones((3,) * len(shape))
    for label in ids_of(labels):
        others = (labels > 0) & (labels != label)
        want[(labels == label) & ndi.binary_dilation(others, block)] = 1
    np.testing.assert_array_equal(encode(labels, ["T"])[0], want)
    assert want.any()


@pytest.mark.parametrize("thickness", [1, 2, 3, 4, 7])
def test_touching_obeys_its_thickness(thickness):
    labels = np.zeros((12, 40), np.uint32)
    labels[:, 2:20], labels[:, 20:38] = 1, 2
    inside = encode(labels, {"T": {"thickness": thickness}})[0]
    assert (inside.sum(axis=1) == 2 * -(-thickness // 2)).all()
    apart = labels.copy()
    apart[:, 20] = 0
    assert not encode(apart, {"T": {"thickness": thickness}}).any()


def test_touching_across_a_coarse_axis():
    labels = np.zeros((6, 12, 12), np.uint32)
    labels[1:3, 2:10, 2:10], labels[3:5, 2:10, 2:10] = 1, 2
    for thickness in (1, 2, 4):
        planes = encode(labels, {"T": {"thickness": thickness}}, voxel_size=(4.0, 1.0, 1.0))[0].any(axis=(1, 2))
        assert planes.tolist() == [False, False, True, True, False, False]


# --- D -----------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "spacing"), SHAPES)
def test_signed_distance_by_brute_force(shape, spacing):
    labels = blobs(shape)
    half = min(spacing) / 2
    want = half - np.minimum(ndi.distance_transform_edt(labels == 0, sampling=spacing), 32 * min(spacing))
    for label in ids_of(labels):
        inside = labels == label
        deep = ndi.distance_transform_edt(inside, sampling=spacing)
        want[inside] = deep[inside] - half
    raw = encode(labels, {"D": {"norm": False, "activation": "linear"}}, voxel_size=spacing)[0]
    np.testing.assert_allclose(raw, want, atol=1e-4)
    assert ((raw > 0) == (labels > 0)).all()
    scaled = encode(labels, {"D": {"act": "linear"}}, voxel_size=spacing)[0]
    assert scaled.min() >= -1
    assert ndi.maximum(scaled, labels, ids_of(labels)).tolist() == [1.0] * len(ids_of(labels))
    bent = encode(labels, {"D": {"alpha": 2.0, "beta": 3.0}}, voxel_size=spacing)[0]
    np.testing.assert_allclose(bent, np.tanh(np.where(scaled > 0, 3, 2) * scaled), atol=1e-6)


def test_signed_distance_without_objects_is_far():
    for norm, want in ((True, -1.0), (False, -31.5)):
        values = encode(np.zeros((9, 9), int), {"D": {"activation": "linear", "norm": norm}})
        assert (values == want).all()
    with raises("option.given_twice"):
        build_channels({"D": {"act": "tanh", "activation": "tanh"}})


# --- Dn ----------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "spacing"), SHAPES)
@pytest.mark.parametrize("limit", [3.0, 500.0])
def test_distance_to_others_by_brute_force(shape, spacing, limit):
    for seed in range(3):
        labels = blobs(shape, seed=seed)
        want = np.zeros(shape)
        for label in ids_of(labels):
            away = ndi.distance_transform_edt((labels == 0) | (labels == label), sampling=spacing)
            want[labels == label] = np.minimum(away, limit)[labels == label]
        np.testing.assert_allclose(distance_to_others(labels, spacing, limit), want, atol=1e-4)


def test_neighbour_distance_equals_the_original():
    np.testing.assert_allclose(encode(LABELS["labels_2d"], ["Dn"]), GOLDEN["ch_2d_Dn_close0"], atol=1e-4)
    closed = encode(LABELS["labels_2d"], {"Dn": {"closing_size": 3}})
    inside = ndi.binary_erosion(LABELS["labels_2d"] > 0, iterations=3)
    assert np.mean(np.abs(closed - GOLDEN["ch_2d_Dn"])[0][inside] > 1e-3) < 0.02


def test_neighbour_distance_without_neighbours_is_zero():
    alone = np.pad(np.full((9, 9), 5), 4)
    for options in ({}, {"norm": False}, {"closing_size": 3}):
        assert not encode(alone, {"Dn": options}).any()
    two = np.pad(np.full((9, 9), 5), 60)
    two[5, 5] = 1
    assert not encode(two, ["Dn"]).any()
    raw = encode(np.array([[1, 1, 2, 2]]), {"Dn": {"norm": False, "decline_power": 1}}, voxel_size=(0.5, 0.5))
    np.testing.assert_allclose(raw[0, 0], [15, 15.5, 15.5, 15])


# --- H, V, Z -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "spacing"), SHAPES)
def test_offsets_lead_to_the_centroid(shape, spacing):
    labels = blobs(shape)
    codes = ["Z", "V", "H"][-len(shape) :]
    raw = encode(labels, {code: {"norm": False} for code in codes}, voxel_size=spacing)
    normed = encode(labels, codes, voxel_size=spacing)
    assert not raw[:, labels == 0].any()
    where = np.stack(np.meshgrid(*[np.arange(n) * length for n, length in zip(shape, spacing, strict=True)], indexing="ij"))
    for label in ids_of(labels):
        inside = labels == label
        centre = where[:, inside].mean(axis=1)
        np.testing.assert_allclose((where + raw)[:, inside], np.repeat(centre[:, None], inside.sum(), axis=1), atol=1e-4)
        for one, scaled in zip(raw[:, inside], normed[:, inside], strict=True):
            for side in (one > 1e-4, one < -1e-4):
                if side.any():
                    np.testing.assert_allclose(scaled[side], one[side] / np.abs(one[side]).max(), atol=1e-5)


def test_offsets_are_zero_at_the_centre_and_one_at_the_ends():
    labels = np.zeros((9, 9), np.uint32)
    labels[1:8, 2:7] = 3
    vertical, horizontal = encode(labels, ["V", "H"])
    assert horizontal[4].tolist() == [0, 0, 1, 0.5, 0, -0.5, -1, 0, 0]
    assert (vertical[4, 4], vertical[1, 4], vertical[7, 4]) == (0, 1, -1)
    assert not encode(labels, ["Z"]).any()
    with raises("channel.activation"):
        build_channels({"H": {"norm": False, "activation": "tanh"}})


@pytest.mark.parametrize("codes", [["V", "H"], ["F", "H", "Db", "V"], ["H", "F"], ["Z", "V", "H"], ["F", "V", "H"]])
@pytest.mark.parametrize(("shape", "spacing"), [SHAPES[0], SHAPES[1], ((6, 12, 12), (2.0, 1.0, 1.0))])
def test_offsets_turn_together(codes, shape, spacing):
    labels = blobs(shape, 5)
    channels = build_channels(codes)
    plain = encode(labels, codes, voxel_size=spacing)
    found = common_orientations(channels, spacing)
    together = ("H" in codes) == ("V" in codes)
    assert len(found) == (len(orientations(spacing)) if together else 2 ** len(shape))
    for orientation in found:
        turned = encode(np.ascontiguousarray(orientation.apply(labels)), codes, voxel_size=spacing)
        np.testing.assert_allclose(turned, reorient(channels, plain, orientation), atol=1e-4)


# --- R -----------------------------------------------------------------------------------------------------------------------------------


def test_rays_equal_the_original():
    for name in ("rays_2d_32", "rays_3d_96"):
        want = GOLDEN[name][:, ::-1]
        np.testing.assert_allclose(directions(*want.shape), want, atol=1e-4)
    got = encode(LABELS["labels_2d"], {"R": {"nrays": 8, "norm": False}})
    assert np.mean(np.abs(got - GOLDEN["ch_2d_DbR8"]) > 0.05) < 0.005


@pytest.mark.parametrize(("shape", "spacing"), SHAPES)
def test_rays_by_brute_force(shape, spacing):
    labels = blobs(shape, 6)
    got = encode(labels, {"R": {"nrays": 7, "norm": False}}, voxel_size=spacing)
    rng = np.random.default_rng(0)
    inside = np.argwhere(labels > 0)
    for ray, plane in zip(directions(7, len(shape)), got, strict=True):
        step = ray / spacing
        step /= np.linalg.norm(step)
        for voxel in inside[rng.choice(len(inside), 60)]:
            k = 1
            while True:
                there = np.rint(voxel + k * step).astype(int)
                if (there < 0).any() or (there >= shape).any() or labels[tuple(there)] != labels[tuple(voxel)]:
                    break
                k += 1
            want = (k - 1 + 0.5 / np.abs(step).max()) * np.linalg.norm(step * spacing)
            assert plane[tuple(voxel)] == pytest.approx(want, rel=1e-5)


def test_normed_rays_keep_their_scale():
    labels = blobs((30, 34))
    raw = encode(labels, {"R": {"norm": False}}, voxel_size=(0.5, 0.5))
    scaled = encode(labels, {"R": {"scale": 8}}, voxel_size=(0.5, 0.5))
    np.testing.assert_allclose(scaled * 4, raw, rtol=1e-5)
    assert len(raw) == 32
    assert build_channels(["R"])[0].width(3) == 96
    assert len(build_channels(["R"])[0].orientations((1.0, 1.0))) == 8
    assert len(build_channels({"R": {"nrays": 6}})[0].orientations((1.0, 1.0))) == 4
    assert len(build_channels(["R"])[0].orientations((1.0, 1.0, 1.0))) == 1


# --- A -----------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ndim", "name", "count"),
    [(2, "4-connectivity", 2), (2, "8-connectivity", 4), (3, "6-connectivity", 3), (3, "18-connectivity", 9), (3, "26-connectivity", 13)],
)
def test_affinities_of_each_neighbourhood(ndim, name, count):
    labels = blobs((20, 22) if ndim == 2 else (7, 14, 15))
    channel = build_channels({"A": {"neighborhood": name}})[0]
    steps = channel.options.steps(ndim)
    assert channel.width(ndim) == count == len({min(step, tuple(-s for s in step)) for step in steps})
    got = channel.encode(labels, (1.0,) * ndim)
    for plane, step in zip(got, steps, strict=True):
        for voxel in np.ndindex(labels.shape):
            there = tuple(v + s for v, s in zip(voxel, step, strict=True))
            within = all(0 <= t < n for t, n in zip(there, labels.shape, strict=True))
            assert plane[voxel] == (within and labels[voxel] > 0 and labels[there] == labels[voxel])


def test_affinities_equal_the_original():
    options = {"z_affinities": [1], "y_affinities": [1], "x_affinities": [1], "widen_borders": 1}
    got = encode(LABELS["labels_3d"], {"A": options}, voxel_size=(3.0, 1.0, 1.0))
    inner = (slice(1, None), slice(2, -2), slice(2, -2))
    for plane, want in zip(got, GOLDEN["ch_3d_A"], strict=True):
        np.testing.assert_array_equal(plane[inner], want[inner])


APART = [
    ((20, 22), [(0, -1), (-1, 0), (2, 0), (-3, 0), (2, -3), (0, -30)]),
    ((7, 14, 15), [(-1, 0, 0), (0, -2, 0), (0, 0, -5), (3, 1, -2)]),
]


@pytest.mark.parametrize(("shape", "steps"), APART)
def test_labels_that_differ_are_those_of_a_convolution(shape, steps):
    labels = blobs(shape)
    for plane, step in zip(encode(labels, {"A": {"offsets": steps, "mode": "different"}}), steps, strict=True):
        edges = tuple(abs(s) + 1 for s in step)
        kernel = np.zeros(edges)
        kernel[tuple(n - 1 if s < 0 else 0 for n, s in zip(edges, step, strict=True))] = 1
        kernel[tuple(0 if s < 0 else n - 1 for n, s in zip(edges, step, strict=True))] -= 1
        # of a kernel of even length, the voxel before its middle is that of the result, for pairs along either direction of an axis
        origin = [-1 if n % 2 == 0 and s < 0 else 0 for n, s in zip(edges, step, strict=True)]
        want = ndi.correlate(labels.astype(float), kernel, mode="reflect", origin=origin)
        np.testing.assert_array_equal(plane, want != 0, err_msg=str(step))


@pytest.mark.parametrize(("shape", "steps"), APART)
def test_labels_that_differ_as_affinities_in_every_orientation(shape, steps):
    """They are those of the labels with the background as an object, wherever both voxels are in the image."""
    labels, spacing = blobs(shape), (1.0,) * len(shape)
    different, same = (build_channels({"A": {"offsets": steps, "mode": mode}})[0] for mode in ("different", "same"))
    encoded = different.encode(labels, spacing)
    turns = different.orientations(spacing)
    assert len(turns) > 1
    for turn in turns:
        turned = np.ascontiguousarray(turn.apply(labels))
        found = different.pair_affinities(different.reorient(encoded, turn))
        np.testing.assert_array_equal(found, same.encode(turned + 1, spacing), err_msg=str(turn))
    unlabelled = labels == labels.max()
    known = different.pair_affinities(1 - different.annotated_targets(unlabelled).astype(np.float32))
    within = same.encode(np.ones_like(labels), spacing) > 0
    np.testing.assert_array_equal(known[within], same.annotated_targets(unlabelled)[within])


def test_affinity_options_that_are_wrong():
    for options, code in (
        ({"offsets": [[0, -1], [0, 1]]}, "affinity.duplicate"),
        ({"offsets": [[0, 0]]}, "affinity.zero_offset"),
        ({"offsets": [[0, -1], [0, 0, -1]]}, "affinity.axis_count"),
        ({"offsets": [[0, -1]], "neighborhood": "4-connectivity"}, "affinity.given_twice"),
        ({"y_affinities": [1], "x_affinities": [1, 2]}, "affinity.step_count"),
        ({"widen_borders": 1, "mode": "different"}, "affinity.widened"),
    ):
        with raises(code):
            build_channels({"A": options})
    with raises("affinity.axis_count", key="neighborhood"):
        encode(np.ones((5, 5), int), {"A": {"neighborhood": "6-connectivity"}})
    with raises("affinity.axis_count", key="offsets"):
        encode(np.ones((5, 5, 5), int), {"A": {"offsets": [[0, -1]]}})
    assert not encode(np.ones((5, 5), int), {"A": {"offsets": [[0, -9]]}}).any()


# --- G and M -----------------------------------------------------------------------------------------------------------------------------


def test_flows_equal_the_original():
    labels = LABELS["labels_2d"]
    got, want = encode(labels, ["G"]), GOLDEN["ch_2d_G_cellpose"]
    cosine = (got * want).sum(axis=0)[labels > 0]
    assert np.mean(cosine > 0.99) > 0.98


@pytest.mark.parametrize(("shape", "spacing"), SHAPES)
def test_flows_are_unit_vectors_that_stay_inside_and_meet(shape, spacing):
    labels = blobs(shape, 5)
    flows = encode(labels, ["G"], voxel_size=spacing)
    size = np.sqrt((flows**2).sum(axis=0))
    assert not size[labels == 0].any()
    moving = size > 0
    np.testing.assert_allclose(size[moving], 1, atol=1e-5)
    assert moving[labels > 0].mean() > 0.5


def shapes_for_heat():
    """Objects of which some need all rounds: symmetric ones, long ones, ones in two pieces."""
    z, y, x = np.mgrid[:20, :26, :30]
    lump = np.random.default_rng(3).random((20, 26, 30)) < 1.2 - np.hypot(np.hypot((z - 9.3) / 9, (y - 12.1) / 12), (x - 14.2) / 14)
    yield "lump", lump
    yield "ball", (z - 9) ** 2 + (y - 12) ** 2 + (x - 14) ** 2 < 81
    yield "ring", (abs(z - 9) < 2) & (abs(np.hypot(y - 12, x - 14) - 9) < 2.5)
    yield "pieces", (lump & (x < 14)) | (x > 27)
    yield "tube", np.ones((3, 3, 90), bool)
    yield "plane", lump[9:10]
    yield "small", lump[9:10, 8:15, 10:16]
    yield "2D, rough", np.random.default_rng(4).random((60, 50)) < 1.3 - np.hypot(*(np.mgrid[:60, :50] - 25.3)) / 24
    yield "2D", np.hypot(*(np.mgrid[:70, :60] - np.array([34.2, 29.4])[:, None, None])) < 28


@pytest.mark.parametrize(("name", "shape"), list(shapes_for_heat()), ids=lambda value: value if isinstance(value, str) else "")
@pytest.mark.parametrize("length", [1.0, 2.5])
def test_flows_are_those_of_all_rounds(name, shape, length):
    spacing = (length,) + (1.0,) * (shape.ndim - 1)
    inside = np.argwhere(shape)
    box = inside.max(axis=0) - inside.min(axis=0) + 1
    away = (((inside - inside.mean(axis=0)) * spacing) ** 2).sum(axis=1)
    rounds = 2 * (sum(box) + 4) if shape.ndim == 2 else 6 * (sum(box) + 3)
    heat, mask = np.zeros([n + 2 for n in shape.shape]), np.pad(shape, 1)
    for _ in range(rounds):
        heat[tuple(inside[int(np.round(away, 6).argmin())] + 1)] += 1
        for axis in np.flatnonzero(box > 1):
            heat = ndi.correlate1d(heat, [1 / 3] * 3, axis, mode="constant")
        heat *= mask
    up = np.stack([(np.roll(heat, -1, axis) - np.roll(heat, 1, axis)) / spacing[axis] for axis in range(shape.ndim)])
    size = np.sqrt((up**2).sum(axis=0))
    want = np.where(mask & (size > 1e-9 * heat), up / np.maximum(size, 1e-300), 0)[(slice(None), *[slice(1, -1)] * shape.ndim)]
    np.testing.assert_allclose(encode(shape.astype(np.uint32), ["G"], voxel_size=spacing), want, atol=3e-6)


@pytest.mark.parametrize(("shape", "spacing"), SHAPES)
def test_flows_of_many_objects_are_those_of_each(shape, spacing):
    labels = blobs(shape, 9)
    want = np.zeros((len(shape), *shape), np.float32)
    for label in np.unique(labels[labels > 0]):
        want += encode((labels == label).astype(np.uint32), ["G"], voxel_size=spacing)
    assert len(np.unique(labels)) > 4
    np.testing.assert_allclose(encode(labels, ["G"], voxel_size=spacing), want, atol=3e-6)


def test_mask_is_inside_and_contour():
    labels = blobs((30, 34))
    foreground, contour, mask = encode(labels, ["F", "C", "M"])
    np.testing.assert_array_equal(mask, np.maximum(foreground, contour))


@pytest.mark.parametrize("ndim", [2, 3])
def test_edges(ndim):
    flat = {
        "empty": np.zeros((7, 8), np.uint32),
        "one": np.pad(np.ones((4, 4), np.uint32), 2),
        "full": np.full((6, 7), 9, np.uint32),
        "one voxel": np.pad(np.ones((1, 1), np.uint32), 3),
        "ring": np.pad(np.pad(np.zeros((2, 2), np.uint32), 2, constant_values=3), 1),
        "pieces": np.array([[1, 1, 0, 1, 1], [1, 1, 0, 1, 1]], np.uint32),
    }
    for name, labels in flat.items():
        image = labels if ndim == 2 else np.stack([labels] * 3)
        image.flags.writeable = False
        for code in CODES:
            values = encode(image, [code])
            assert np.isfinite(values).all(), (name, code)
            if name == "empty" and code != "D":
                assert not values.any(), code
            if name in ("one", "full") and code in ("D", "R", "A", "M"):
                assert values.max() > 0, (name, code)
        large = np.where(image > 0, np.uint32(2**31) + image, 0)
        np.testing.assert_array_equal(encode(large, CODES), encode(image, CODES))


@pytest.mark.parametrize("code", REPRESENTATIONS.names)
def test_default_options_fit_any_number_of_axes(code):
    """So that a job with the defaults is checked without encoding an image."""
    for ndim in (2, 3):
        found = REPRESENTATIONS.load(code)().encode(np.ones((4,) * ndim, np.uint32), (1.0,) * ndim)
        assert found.shape[-ndim:] == (4,) * ndim
