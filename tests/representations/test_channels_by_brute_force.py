"""Channels against what their documentation says, spelt out by loops, dense matrices and sampling, none of them the package's."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import ndimage as ndi
from skimage.morphology import skeletonize
from skimage.segmentation import find_boundaries

from morula.labels.skeleton import skeleton
from morula.representations.encode import encode

CASES = [((18, 21), (1.0, 1.0)), ((18, 21), (1.0, 0.4)), ((7, 12, 13), (1.0, 1.0, 1.0)), ((7, 12, 13), (2.5, 0.5, 0.8))]


def cells(shape: tuple[int, ...], spacing: tuple[float, ...], seed: int = 0) -> np.ndarray:
    """Touching cells with gaps of background, ids far apart, one of them in two pieces."""
    rng = np.random.default_rng(seed)
    places = np.moveaxis(np.indices(shape), 0, -1) * np.asarray(spacing)
    seeds = rng.random((7, len(shape))) * np.asarray(shape) * spacing
    away = np.linalg.norm(places[..., None, :] - seeds, axis=-1)
    labels = (away.argmin(axis=-1) + 1).astype(np.uint32) * 1000
    labels[ndi.gaussian_filter(rng.normal(size=shape), 1.5) > 0.12] = 0
    labels[labels == 7000] = 3000
    assert len(np.unique(labels)) >= 4
    return labels


def neighbours(place: tuple[int, ...], shape: tuple[int, ...], reach: tuple[int, ...]):
    """Places around one, itself included, inside the image."""
    return itertools.product(*(range(max(p - r, 0), min(p + r + 1, n)) for p, r, n in zip(place, reach, shape, strict=True)))


# --- C and M -----------------------------------------------------------------------------------------------------------------------------


def faces(labels: np.ndarray, place: tuple[int, ...]) -> list[tuple[int, int]]:
    """Axis and side (-1, 1) of each face neighbour with another id."""
    found = []
    for axis, side in itertools.product(range(labels.ndim), (-1, 1)):
        other = tuple(p + side * (i == axis) for i, p in enumerate(place))
        if 0 <= other[axis] < labels.shape[axis] and labels[other] != labels[place]:
            found.append((axis, side))
    return found


@pytest.mark.parametrize(("shape", "spacing"), CASES)
def test_contours_as_they_are_described(shape, spacing):
    labels = cells(shape, spacing)
    want = {mode: np.zeros(shape) for mode in ("thick", "inner", "dense", "subpixel")}
    samples = np.stack(np.meshgrid(*[[-0.25, 0.25]] * len(shape), indexing="ij"), axis=-1).reshape(-1, len(shape))
    for place in np.ndindex(shape):
        ends = faces(labels, place)
        want["thick"][place] = bool(ends)
        want["inner"][place] = bool(ends) and labels[place] > 0
        want["dense"][place] = bool(ends) and labels[place] == 0
        # a line as wide as a voxel along each face covers the half of the voxel that lies at it
        want["subpixel"][place] = np.mean([any(sample[axis] * side > 0 for axis, side in ends) for sample in samples])
    for mode, expected in want.items():
        np.testing.assert_array_equal(encode(labels, {"C": {"mode": mode}}, voxel_size=spacing)[0], expected.astype(np.float32), mode)
    np.testing.assert_array_equal(encode(labels, {"M": {}}, voxel_size=spacing)[0], (labels > 0) | (want["thick"] > 0))
    np.testing.assert_array_equal(encode(labels, {"M": {"mode": "inner"}}, voxel_size=spacing)[0], labels > 0)


@pytest.mark.parametrize(("shape", "spacing"), CASES)
def test_subpixel_contours_lie_where_scikit_image_puts_them(shape, spacing):
    """There they are on a grid of twice the voxels; a voxel's faces are its neighbours in it."""
    labels = cells(shape, spacing)
    fine = find_boundaries(labels.astype(np.int64), mode="subpixel")
    free = np.ones(shape)
    for axis in range(labels.ndim):
        between = fine[tuple(slice(1, None, 2) if i == axis else slice(None, None, 2) for i in range(labels.ndim))].astype(float)
        sides = [np.pad(between, [(pad if i == axis else (0, 0)) for i in range(labels.ndim)]) for pad in ((1, 0), (0, 1))]
        free *= 1 - (sides[0] + sides[1]) / 2
    np.testing.assert_array_equal(encode(labels, {"C": {"mode": "subpixel"}})[0], (1 - free).astype(np.float32))


# --- P and Dc ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "spacing"), CASES)
def test_the_centre_is_inside_nearest_to_the_centroid(shape, spacing):
    labels = cells(shape, spacing)
    marks = encode(labels, {"P": {"dilation": 0}}, voxel_size=spacing)[0]
    for label in np.unique(labels)[1:]:
        voxels = np.argwhere(labels == label)
        (mark,) = voxels[marks[labels == label] > 0]
        centroid = voxels.mean(axis=0)
        rounded = np.rint(centroid).astype(int)
        if labels[tuple(rounded)] == label:
            assert mark.tolist() == rounded.tolist()
        else:
            away = np.linalg.norm((voxels - centroid) * spacing, axis=1)
            assert np.linalg.norm((mark - centroid) * spacing) == pytest.approx(away.min())


@pytest.mark.parametrize(("shape", "spacing"), CASES)
def test_centres_grow_by_lengths_inside_their_objects(shape, spacing):
    labels = cells(shape, spacing)
    points = np.argwhere(encode(labels, {"P": {"dilation": 0}}, voxel_size=spacing)[0])
    want = np.zeros(shape)
    radius = [max(1, round(2 * min(spacing) / length)) for length in spacing]  # a voxel at least
    for point in points:
        for place in neighbours(tuple(point), shape, tuple(radius)):
            apart = [(a - b) / r for a, b, r in zip(place, point, radius, strict=True) if r]
            want[place] += labels[place] == labels[tuple(point)] and sum(part**2 for part in apart) <= 1 + 1e-9
    np.testing.assert_array_equal(encode(labels, {"P": {"dilation": 2}}, voxel_size=spacing)[0], want > 0)


def lengths_between(voxels: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Length of the shortest way between each two voxels of a skeleton, by Floyd's three loops; infinite between pieces."""
    apart = voxels[:, None] - voxels[None]
    steps = np.linalg.norm(apart * spacing, axis=-1)
    steps[abs(apart).max(axis=-1) > 1] = np.inf
    for middle in range(len(voxels)):
        steps = np.minimum(steps, steps[:, middle, None] + steps[None, middle])
    return steps


SHAPES = {
    "branches": ["#.....#", "#.....#", "##...##", ".#####.", "...#...", "...##..", "....###"],
    "ring with tails": [
        "....##########..",
        "...##........##.",
        "####..........#.",
        "...##........##.",
        "....##########..",
        "........#.......",
        "........#######.",
    ],
    "two rings": [".###...####.", "#...#.#....#", "#....#.....#", "#...#.#....#", ".###...####."],
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (3.0, 1.0), (1.0, 3.0)])
@pytest.mark.parametrize("turned", [False, True])
def test_the_main_skeleton_joins_the_farthest_voxels(name, spacing, turned):
    check_longest_path(np.array([[each == "#" for each in row] for row in SHAPES[name]]), spacing, turned)


@pytest.mark.parametrize("seed", [13, 23, 88, 99])
def test_the_main_skeleton_is_the_longest_path_with_rings(seed):
    """Of these the voxel that is farthest from any first one does not lie at the end of the longest way."""
    lump = ndi.gaussian_filter(np.random.default_rng(seed).normal(size=(30, 34)), 2) > -0.02
    pieces, _ = ndi.label(lump)
    check_longest_path(pieces == np.bincount(pieces.ravel())[1:].argmax() + 1, (1.0, 1.0), turned=False)


def check_longest_path(mask: np.ndarray, spacing: tuple[float, ...], turned: bool) -> None:
    if turned:  # in a volume, along z and x
        mask, spacing = mask[:, None, :], (spacing[0], 1.0, spacing[1])
    main = skeleton(mask, spacing, "main")
    voxels = np.argwhere(skeletonize(np.pad(mask, 1))[(slice(1, -1),) * mask.ndim])
    lengths = lengths_between(voxels, spacing)
    longest = lengths[np.isfinite(lengths)].max()
    path = lengths_between(np.argwhere(main), spacing)
    assert np.isfinite(path).all()
    assert path.max() == pytest.approx(longest)


@pytest.mark.parametrize("kind", ["centroid", "skeleton"])
@pytest.mark.parametrize(("shape", "spacing"), CASES)
def test_distances_to_the_centre(shape, spacing, kind):
    labels = cells(shape, spacing, 1)
    raw = encode(labels, {"Dc": {"type": kind, "norm": False}}, voxel_size=spacing)[0]
    normed = encode(labels, {"Dc": {"type": kind}}, voxel_size=spacing)[0]
    assert not raw[labels == 0].any()
    for label in np.unique(labels)[1:]:
        mask = labels == label
        voxels = np.argwhere(mask)
        if kind == "centroid":
            goals = voxels.mean(axis=0)[None]
        else:
            box = ndi.find_objects(mask.astype(int))[0]
            thin = np.zeros_like(mask)
            thin[box] = skeletonize(np.pad(mask[box], 1))[(slice(1, -1),) * mask.ndim]
            goals = np.argwhere(thin)
        away = np.linalg.norm((voxels[:, None] - goals[None]) * spacing, axis=-1).min(axis=1)
        np.testing.assert_allclose(raw[mask], away, atol=1e-5)
        spread = away.max() - away.min()
        np.testing.assert_allclose(normed[mask], (away - away.min()) / spread if spread else np.zeros_like(away), atol=1e-5)


# --- T -----------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("thickness", [1, 2, 3, 6])
@pytest.mark.parametrize(("shape", "spacing"), CASES)
def test_touching_areas_reach_half_their_thickness(shape, spacing, thickness):
    labels = cells(shape, spacing)
    lengths = np.minimum(np.asarray(spacing) / min(spacing), max(thickness / 2, 1))
    contacts: dict[int, list[tuple[int, ...]]] = {int(label): [] for label in np.unique(labels)[1:]}
    for place in map(tuple, np.argwhere(labels)):
        for label in {int(labels[other]) for other in neighbours(place, shape, (1,) * len(shape))} - {0, int(labels[place])}:
            contacts[label].append(place)
    want = np.zeros(shape)
    for place in map(tuple, np.argwhere(labels)):
        # the voxels of another object that touch this one's are one voxel beyond the area
        away = (np.reshape(contacts[int(labels[place])], (-1, len(shape))) - place) * lengths
        want[place] = (np.linalg.norm(away, axis=1) < thickness / 2 + 1 - 1e-9).any()
    np.testing.assert_array_equal(encode(labels, {"T": {"thickness": thickness}}, voxel_size=spacing)[0], want)
    assert want.any()


# --- G -----------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "spacing"), CASES)
def test_flows_climb_the_heat_of_a_dense_matrix(shape, spacing):
    """Heat after n rounds is (M + M^2 + ... + M^n) e, with M the matrix of means and e the centre: here with matrices in full."""
    labels = cells(shape, spacing, 2)
    flows = encode(labels, ["G"], voxel_size=spacing)
    assert not flows[:, labels == 0].any()
    compared = 0
    for label in np.unique(labels)[1:]:
        voxels = np.argwhere(labels == label)
        sides = int((np.ptp(voxels, axis=0) + 1).sum())
        rounds = 2 * (sides + 4) if labels.ndim == 2 else 6 * (sides + 3)
        away = np.linalg.norm((voxels - voxels.mean(axis=0)) * spacing, axis=1)
        nearest = np.flatnonzero(away < away.min() + 1e-6)
        if len(nearest) > 1:
            continue  # any of them may be the centre
        mean = (abs(voxels[:, None] - voxels[None]).max(axis=-1) <= 1) / 3.0**labels.ndim
        heat = np.zeros(len(voxels))
        warmed = np.eye(len(voxels))[nearest[0]]
        for _ in range(rounds):
            heat = mean @ (heat + warmed)
        image = np.zeros(tuple(n + 2 for n in shape))
        image[tuple((voxels + 1).T)] = heat
        slope = np.stack([each[tuple((voxels + 1).T)] / length for each, length in zip(np.gradient(image), spacing, strict=True)])
        size = np.linalg.norm(slope, axis=0)
        clear = size > 1e-9 * heat.max()  # elsewhere neighbours are equally warm
        np.testing.assert_allclose(flows[(slice(None), *voxels[clear].T)], slope[:, clear] / size[clear], atol=2e-5)
        compared += int(clear.sum())
    assert compared > 0.5 * np.count_nonzero(labels)
