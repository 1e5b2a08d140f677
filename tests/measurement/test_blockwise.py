"""Measuring in groups gives the table of the whole image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from morula.core.region import blocks
from morula.kernels.geometry import geometry
from morula.measurement.blockwise import joined, measure_in_groups
from morula.measurement.evidence import local_evidence
from morula.measurement.measure import measured_columns
from morula.measurement.measures import Boxes, Measures
from morula.measurement.shape import Surface, outlines, outlines_in
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
    confidence = np.linspace(0, 1, int(labels.max()))
    whole = measured_columns(labels, spacing, intensity, extra=("solidity",), confidence=confidence)
    measures = Measures(spacing, ("solidity",), confidence, intensity=True, evidence=True)
    found, evidence = joined(
        list(measure_in_groups(labels, boxes_of(labels), intensity, block=(16,) * len(shape), room=room, measures=measures))
    )
    assert list(found) == list(whole)
    for name, values in whole.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-6, atol=1e-6, err_msg=name)
    for name, values in local_evidence(labels, intensity, whole).items():
        np.testing.assert_allclose(evidence[name], values, rtol=1e-6, err_msg=name)


def test_no_object_gives_the_columns_alone() -> None:
    labels = np.zeros((9, 9), np.uint8)
    found, _ = joined(list(measure_in_groups(labels, boxes_of(labels), block=(4, 4), room=100, measures=Measures())))
    assert list(found) == list(measured_columns(labels))
    assert not len(found["label"])


def wool(shape: tuple[int, ...], n: int) -> np.ndarray:
    """Objects that reach through the whole image and into one another: more of the voxels are nearer to one sum of waves than to others."""
    rng = np.random.default_rng(len(shape))
    places = np.stack(np.meshgrid(*(np.arange(k) for k in shape), indexing="ij"))
    waves = [np.sin(np.tensordot(rng.normal(0, 0.25, len(shape)), places, 1) + phase) for phase in rng.uniform(0, 6, 2 * n)]
    return np.argmax([np.full(shape, 0.6), *(a + b for a, b in zip(waves[:n], waves[n:], strict=True))], axis=0).astype(np.uint32)


@pytest.mark.parametrize("surface", ["crofton", "mesh"])
@pytest.mark.parametrize(
    ("shape", "spacing", "room"),
    [((90, 70), (0.5, 0.25), 1200), ((24, 40, 44), (2.0, 0.5, 0.5), 25_000), ((1, 90, 70), (1.0, 0.5, 0.25), 1200)],
)
def test_objects_that_do_not_fit_are_measured_as_in_the_whole(
    shape: tuple[int, ...], spacing: tuple[float, ...], room: int, surface: Surface
) -> None:
    labels = wool(shape, 4)
    labels[..., 60:66] = 0
    labels[(0,) * (len(shape) - 2)][5:8, 61:64] = 5  # one that fits
    intensity = np.random.default_rng(1).integers(0, 60_000, (2, *shape)).astype(np.uint16)
    extra = ("axis_major_length", "axis_minor_length", "extent", "equivalent_diameter_area", "solidity", "area_bbox")
    confidence = np.linspace(0, 1, 5)
    whole = measured_columns(labels, spacing, intensity, extra=extra, confidence=confidence, surface=surface)
    boxes = boxes_of(labels)
    assert boxes.too_large(room).sum() >= 3
    measures = Measures(spacing, extra, confidence, surface, intensity=True, evidence=True)
    found, evidence = joined(list(measure_in_groups(labels, boxes, intensity, block=(16,) * len(shape), room=room, measures=measures)))
    assert list(found) == list(whole)
    for name, values in whole.items():
        if name == "solidity":
            assert np.isnan(found[name]).tolist() == boxes.too_large(room).tolist()
        else:
            np.testing.assert_allclose(found[name], values, rtol=1e-9, atol=1e-9, err_msg=name)
    for name, values in local_evidence(labels, intensity, whole).items():
        np.testing.assert_allclose(evidence[name], values, rtol=1e-9, err_msg=name)


@given(st.integers(0, 2**32 - 1), st.integers(2, 3), st.sampled_from(["crofton", "mesh"]))
@settings(max_examples=25)
def test_outlines_of_parts_add_up_to_those_of_the_whole(seed: int, ndim: int, kind: Surface) -> None:
    rng = np.random.default_rng(seed)
    shape, spacing = tuple(rng.integers(1, 9, ndim).tolist()), tuple(rng.uniform(0.5, 2, ndim).tolist())
    labels = rng.integers(0, 3, shape).astype(np.uint32)
    total = np.zeros(3)
    for core in blocks(shape, rng.integers(1, 5, ndim).tolist()):
        window = core.grow((2,) * ndim, within=shape)
        total += outlines_in(labels[window.slices], core.shift([-a for a in window.start]), 3, spacing, kind)
    np.testing.assert_allclose(total, outlines(labels, 3, spacing, kind), atol=1e-9)


def test_objects_of_one_plane_of_a_volume_are_measured_in_three_dimensions() -> None:
    labels = np.zeros((5, 20, 20), np.uint8)
    labels[2, 2:4, 2:4], labels[:, 12:, 12:] = 1, 2
    found, _ = joined(list(measure_in_groups(labels, boxes_of(labels), block=(5, 10, 10), room=400, measures=Measures())))
    assert list(found) == list(measured_columns(labels))
    assert found["voxels"].tolist() == [4, 320]
