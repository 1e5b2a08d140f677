"""Label images of which a part was never looked at."""

from __future__ import annotations

import numpy as np
import pytest

from morula.jobs.load import load_job
from morula.labels.partial_labels import extrapolate_objects, labelled_only, nearest_labels
from morula.methods import METHODS
from morula.methods.channels import GUESSED
from morula.representations import REPRESENTATIONS
from morula.testing.simulate import simulate

IN_A_PLANE = ["F", "B", "C", "T", "Db", "D", "M"]
"""Channels of which a painted plane, however its objects go on beyond it, tells all."""
VIEWS = [((24, 31), (1.0, 1.0)), ((24, 31), (2.0, 0.7)), ((9, 14, 12), (1.0, 1.0, 1.0)), ((9, 14, 12), (2.5, 0.5, 0.8))]


@pytest.mark.parametrize(("shape", "spacing"), [((23, 31), (1.0, 1.0)), ((7, 12, 9), (1.0, 1.0, 1.0)), ((7, 12, 9), (2.5, 0.5, 0.8))])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_unlabelled_voxels_get_the_nearest_label(shape: tuple[int, ...], spacing: tuple[float, ...], share: float) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2**32, shape, dtype=np.uint32)
    unlabelled = rng.random(shape) < share
    found = nearest_labels(labels, unlabelled, spacing)
    np.testing.assert_array_equal(found[~unlabelled], labels[~unlabelled])
    known = np.argwhere(~unlabelled) * spacing
    values = labels[~unlabelled]
    for voxel in np.argwhere(unlabelled)[:200]:
        distances = np.sqrt((((voxel * spacing) - known) ** 2).sum(axis=1))
        assert found[tuple(voxel)] in values[distances <= distances.min() + 1e-4]


def test_without_any_label_everything_is_background() -> None:
    labels = np.full((5, 6), 255, np.uint32)
    assert not nearest_labels(labels, labels == 255, (1, 1)).any()


def test_nothing_is_copied_where_everything_is_labelled() -> None:
    labels = np.ones((5, 6), np.uint32)
    assert nearest_labels(labels, labels == 255, (1, 1)) is labels


def test_what_nobody_has_looked_at_is_not_scored() -> None:
    truth, result = labelled_only(np.array([[3, 255, 255, 0]], np.uint8), np.array([[1, 1, 2, 0]], np.uint16), 255)
    assert truth.tolist() == [[3, 0, 0, 0]]
    assert result.tolist() == [[1, 0, 0, 0]]
    assert (truth.dtype, result.dtype) == (np.uint8, np.uint16)


def _method(code: str, ndim: int, spacing: tuple[float, ...] | None = None):
    options = load_job({"images": {"train": {"raw": "a", "labels": "b"}}, "method": {"kind": "channels", "channels": [code]}})
    return METHODS.load("channels")(options.method, options.objects, ndim=ndim, spacing=spacing or (1.0,) * ndim)


def _partly(shape: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Blocks of four ids and background, and two painted planes with some loose voxels: labels and what is unlabelled."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 5, [n // 4 + 1 for n in shape], dtype=np.uint32)
    for axis in range(len(shape)):
        labels = labels.repeat(4, axis)
    unlabelled = rng.random(shape) < 0.98
    unlabelled[shape[0] // 2] = False
    unlabelled[..., shape[-1] // 3] = False
    return labels[tuple(slice(n) for n in shape)] * np.uint32(2**29), unlabelled


@pytest.mark.parametrize(("shape", "spacing"), VIEWS)
@pytest.mark.parametrize("seed", [0, 1])
def test_an_object_goes_on_as_far_as_each_voxel_is_deep(shape: tuple[int, ...], spacing: tuple[float, ...], seed: int) -> None:
    labels, unlabelled = _partly(shape, seed)
    found = extrapolate_objects(labels, unlabelled, spacing)
    np.testing.assert_array_equal(found[~unlabelled], labels[~unlabelled])
    places, values = np.argwhere(~unlabelled) * spacing, labels[~unlabelled]
    squares = ((places[:, None] - places) ** 2).sum(axis=2)
    depth = np.where(values[:, None] != values, squares, np.inf).min(axis=1)[values > 0]
    places, values = places[values > 0], values[values > 0]
    there = 0
    for voxel in np.argwhere(unlabelled):
        power = depth - ((voxel * spacing - places) ** 2).sum(axis=1)
        best = power.max()
        wanted = set(values[power > best - 1e-4].tolist()) if best > 1e-3 * min(spacing) ** 2 else {0}
        assert int(found[tuple(voxel)]) in wanted
        there += best > 0
    assert 20 < there < unlabelled.sum()


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 0.5, 0.5)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_painted_middle_slice_of_a_ball_tells_the_ball(spacing: tuple[float, ...], axis: int) -> None:
    shape = [round(24 / length) + 1 for length in spacing]
    away = sum(((np.arange(n) - n // 2).reshape([-1 if a == b else 1 for b in range(3)]) * spacing[a]) ** 2 for a, n in enumerate(shape))
    ball = (away <= 8.2**2).astype(np.uint32)
    unlabelled = np.ones(ball.shape, bool)
    unlabelled[tuple(n // 2 if a == axis else slice(None) for a, n in enumerate(shape))] = False
    found = extrapolate_objects(np.where(unlabelled, 0, ball), unlabelled, spacing)
    np.testing.assert_array_equal(found[away <= 7.8**2], 1)
    np.testing.assert_array_equal(found[away > 9.2**2], 0)


def test_an_object_beside_which_nothing_is_known_fills_the_image() -> None:
    labels = np.full((6, 7), 9, np.uint32)
    labels[2, 3] = 5
    assert (extrapolate_objects(labels, labels == 9, (1, 1)) == 5).all()
    assert not extrapolate_objects(np.full((6, 7), 9, np.uint32), np.ones((6, 7), bool), (1, 1)).any()


def _codes(ndim: int) -> list[str]:
    return [code for code in REPRESENTATIONS.names if code != "Z" or ndim == 3]


def _seen(code: str, unlabelled: np.ndarray) -> np.ndarray | None:
    """What `seen` is to tell, voxel by voxel."""
    ndim = unlabelled.ndim

    def known(place: np.ndarray) -> bool:
        return bool((place < 0).any() or (place >= unlabelled.shape).any()) or not unlabelled[tuple(place)]

    unit = np.eye(ndim, dtype=int)
    if code == "A":
        looks = [[step] for step in _method("A", ndim).representations[0].options.steps(ndim)]
    elif code in ("H", "V", "Z"):
        axis = ndim - 1 - "HVZ".index(code)
        looks = [[unit[axis], -unit[axis]]]
    elif code == "G":
        looks = [[unit[axis], -unit[axis]] for axis in range(ndim)]
    else:
        return None
    each = [[known(place) and all(known(place + step) for step in steps) for place in np.argwhere(unlabelled >= 0)] for steps in looks]
    return np.array(each).reshape(-1, *unlabelled.shape)


@pytest.mark.parametrize(("shape", "spacing"), [((14, 17), (1.0, 1.0)), ((6, 9, 8), (2.5, 0.5, 0.8))])
def test_what_was_guessed_counts_little_beside_what_was_seen(shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    labels, unlabelled = _partly(shape, 2)
    labels = extrapolate_objects(labels, unlabelled, spacing)
    told = set()
    for code in _codes(len(shape)):
        method = _method(code, len(shape), spacing)
        made, whole = method.targets(np.where(unlabelled, 0, labels), unlabelled=unlabelled), method.targets(labels)
        np.testing.assert_array_equal(made.channels, whole.channels)
        wanted = np.broadcast_to(whole.weights, whole.channels.shape) * ~unlabelled
        seen = _seen(code, unlabelled)
        if seen is not None:
            told.add(code)
            assert (seen & ~unlabelled).any()
            assert (~seen & ~unlabelled).any()
            wanted = np.where(seen, wanted, wanted * np.float32(GUESSED))
        np.testing.assert_array_equal(made.weights, wanted)
    assert told == {"A", "H", "V", "G", "Z"} - (set() if len(shape) == 3 else {"Z"})


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_mask_that_hides_nothing_changes_nothing(ndim: int) -> None:
    labels = _partly((14, 17, 9)[:ndim], 3)[0]
    for code in _codes(ndim):
        masked, plain = _method(code, ndim).targets(labels, unlabelled=np.zeros(labels.shape, bool)), _method(code, ndim).targets(labels)
        np.testing.assert_array_equal(masked.channels, plain.channels)
        np.testing.assert_array_equal(masked.weights, plain.weights)


@pytest.mark.parametrize("code", IN_A_PLANE)
def test_painted_slices_teach_channels_of_their_plane_only(code: str) -> None:
    plane = simulate(shape=(48, 48), n_objects=7, rng=np.random.default_rng(3)).labels.astype(np.uint32)
    painted = np.zeros((9, 48, 48), np.uint32)
    painted[4] = plane
    unlabelled = np.ones(painted.shape, bool)
    unlabelled[4] = False
    made = _method(code, 3).targets(painted, unlabelled=unlabelled)
    assert not made.weights[:, unlabelled].any()
    whole = _method(code, 3).targets(np.broadcast_to(plane, painted.shape).copy())
    np.testing.assert_allclose(made.channels[:, 4], whole.channels[:, 4], atol=1e-5)
    np.testing.assert_array_equal(made.weights[:, 4], whole.weights[:, 4])


@pytest.mark.parametrize("code", IN_A_PLANE)
def test_an_unlabelled_part_is_no_background(code: str) -> None:
    labels = np.zeros((40, 40), np.uint32)
    labels[5:35, 5:35] = 1
    unlabelled = np.zeros(labels.shape, bool)
    unlabelled[:, 20:] = True
    made = _method(code, 2).targets(np.where(unlabelled, 0, labels), unlabelled=unlabelled)
    continued_labels = labels.copy()
    continued_labels[5:35, 20:] = 1
    whole = _method(code, 2).targets(continued_labels)
    np.testing.assert_allclose(made.channels[:, :, :20], whole.channels[:, :, :20], atol=1e-5)
    assert not made.weights[:, :, 20:].any()
