"""Measuring in groups gives the table of the whole image."""

from __future__ import annotations

import numpy as np
import pytest

from morula.kernels.geometry import geometry
from morula.measurement.blockwise import Boxes, joined, measure_in_groups
from morula.measurement.evidence import local_evidence
from morula.measurement.measure import measured_columns
from morula.testing.simulate import simulate


def boxes_of(labels: np.ndarray) -> Boxes:
    found = geometry(labels)
    return Boxes(found.sizes[1:], found.starts[1:], found.stops[1:])


@pytest.mark.parametrize(("shape", "spacing"), [((120, 90), (0.5, 0.25)), ((20, 50, 60), (2.0, 0.5, 0.5))])
@pytest.mark.parametrize("room", [6_000, 10**6])
def test_groups_give_the_table_of_the_whole(shape: tuple[int, ...], spacing: tuple[float, ...], room: int) -> None:
    made = simulate(shape=shape, n_objects=25, rng=np.random.default_rng(0), spacing=spacing)
    labels = np.unique(made.labels, return_inverse=True)[1].reshape(shape).astype(np.uint32)
    intensity = np.stack([made.image, made.image[::-1]])
    n = int(labels.max())
    options = {"voxel_size": spacing, "confidence": np.linspace(0, 1, n), "extra": ("solidity",)}
    whole = measured_columns(labels, intensity=intensity, **options)
    groups = measure_in_groups(labels, boxes_of(labels), intensity, block=(16,) * len(shape), room=room, with_evidence=intensity, **options)
    found, evidence = joined(list(groups))
    assert list(found) == list(whole)
    for name, values in whole.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-6, atol=1e-6, err_msg=name)
    for name, values in local_evidence(labels, intensity, whole).items():
        np.testing.assert_allclose(evidence[name], values, rtol=1e-6, err_msg=name)


def test_no_object_gives_the_columns_alone() -> None:
    labels = np.zeros((9, 9), np.uint8)
    found, _ = joined(list(measure_in_groups(labels, boxes_of(labels), block=(4, 4), room=100)))
    assert list(found) == list(measured_columns(labels))
    assert not len(found["label"])


def test_an_object_that_does_not_fit_has_a_size_and_a_box() -> None:
    labels = np.ones((9, 9), np.uint8)
    labels[0] = 2
    found, _ = joined(list(measure_in_groups(labels, boxes_of(labels), block=(9, 9), room=60)))
    assert found["voxels"].tolist() == [72, 9]
    assert found["box_y_start"].tolist() == [1, 0]
    assert np.isnan(found["circularity"][0])
    assert found["area_px"][1] == 9
