"""Measuring in groups gives the table of the whole image."""

from __future__ import annotations

import numpy as np
import pytest

from morula.kernels.geometry import geometry
from morula.measurement.blockwise import joined, measure_in_groups
from morula.measurement.measure import measured_columns
from morula.testing.simulate import simulate


@pytest.mark.parametrize(("shape", "spacing"), [((120, 90), (0.5, 0.25)), ((20, 50, 60), (2.0, 0.5, 0.5))])
@pytest.mark.parametrize("room", [6_000, 10**6])
def test_groups_give_the_table_of_the_whole(shape: tuple[int, ...], spacing: tuple[float, ...], room: int) -> None:
    made = simulate(shape=shape, n_objects=25, rng=np.random.default_rng(0), spacing=spacing)
    labels = np.unique(made.labels, return_inverse=True)[1].reshape(shape).astype(np.uint32)
    intensity = np.stack([made.image, made.image[::-1]])
    n = int(labels.max())
    options = {"voxel_size": spacing, "confidence": np.linspace(0, 1, n), "extra": ("solidity",)}
    whole = measured_columns(labels, intensity=intensity, **options)
    boxes = geometry(labels, n)
    groups = measure_in_groups(
        labels, boxes.starts[1:], boxes.stops[1:], intensity, block=(16,) * len(shape), room=room, voxels=boxes.sizes[1:], **options
    )
    found = joined(list(groups))
    assert list(found) == list(whole)
    for name, values in whole.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-6, atol=1e-6, err_msg=name)


def test_no_object_gives_the_columns_alone() -> None:
    nothing = np.empty((0, 2), np.int64)
    found = joined(list(measure_in_groups(np.zeros((9, 9), np.uint8), nothing, nothing, block=(4, 4), room=100, voxels=nothing)))
    assert list(found) == list(measured_columns(np.zeros((9, 9), np.uint8)))
    assert not len(found["label"])


def test_an_object_that_does_not_fit_has_a_size_and_a_box() -> None:
    labels = np.ones((9, 9), np.uint8)
    labels[0] = 2
    boxes = geometry(labels)
    groups = measure_in_groups(labels, boxes.starts[1:], boxes.stops[1:], block=(9, 9), room=60, voxels=boxes.sizes[1:])
    found = joined(list(groups))
    assert found["voxels"].tolist() == [72, 9]
    assert found["box_y_start"].tolist() == [1, 0]
    assert np.isnan(found["circularity"][0])
    assert found["area_px"][1] == 9
