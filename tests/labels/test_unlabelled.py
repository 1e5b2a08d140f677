"""Label images of which a part was never looked at."""

from __future__ import annotations

import numpy as np
import pytest

from morula.jobs.load import load_job
from morula.labels.representations import REPRESENTATIONS
from morula.labels.unlabelled import continued, labelled_only
from morula.methods import METHODS
from morula.testing.simulate import simulate

IN_A_PLANE = [code for code in REPRESENTATIONS.names if code != "Z"]  # one plane does not tell the way along z


@pytest.mark.parametrize(("shape", "spacing"), [((23, 31), (1.0, 1.0)), ((7, 12, 9), (1.0, 1.0, 1.0)), ((7, 12, 9), (2.5, 0.5, 0.8))])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_each_unlabelled_voxel_gets_the_label_of_a_nearest_labelled_one(
    shape: tuple[int, ...], spacing: tuple[float, ...], share: float
) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2**32, shape, dtype=np.uint32)
    unlabelled = rng.random(shape) < share
    found = continued(labels, unlabelled, spacing)
    np.testing.assert_array_equal(found[~unlabelled], labels[~unlabelled])
    known = np.argwhere(~unlabelled) * spacing
    values = labels[~unlabelled]
    for voxel in np.argwhere(unlabelled)[:200]:
        distances = np.sqrt((((voxel * spacing) - known) ** 2).sum(axis=1))
        assert found[tuple(voxel)] in values[distances <= distances.min() + 1e-4]


def test_without_any_label_everything_is_background() -> None:
    labels = np.full((5, 6), 255, np.uint32)
    assert not continued(labels, labels == 255, (1, 1)).any()


def test_nothing_is_copied_where_everything_is_labelled() -> None:
    labels = np.ones((5, 6), np.uint32)
    assert continued(labels, labels == 255, (1, 1)) is labels


def test_what_nobody_has_looked_at_is_not_scored() -> None:
    truth, result = labelled_only(np.array([[3, 255, 255, 0]], np.uint8), np.array([[1, 1, 2, 0]], np.uint16), 255)
    assert truth.tolist() == [[3, 0, 0, 0]]
    assert result.tolist() == [[1, 0, 0, 0]]
    assert (truth.dtype, result.dtype) == (np.uint8, np.uint16)


def _method(code: str, ndim: int):
    options = load_job({"images": {"train": {"raw": "a", "labels": "b"}}, "method": {"kind": "channels", "channels": [code]}})
    return METHODS.load("channels")(options.method, options.objects, ndim=ndim, spacing=(1.0,) * ndim)


@pytest.mark.parametrize("code", IN_A_PLANE)
def test_painted_slices_teach_the_channels_of_their_plane_and_nothing_between(code: str) -> None:
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
