"""Axes, regions, orientations and voxel sizes: laws."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from morula.core import Axes, Image, Orientation, Region, VoxelSize, spacing_of
from morula.core.axes import canonical
from morula.core.image_like import spatial_array
from morula.core.orientation import orientations
from morula.core.region import blocks
from morula.testing.errors import raises

ORIENTATIONS = st.sampled_from([*orientations((1, 1)), *orientations((1, 1, 1))])


def numbered(ndim: int) -> np.ndarray:
    shape = (2, 3, 4, 5)[: ndim + 1]
    return np.arange(np.prod(shape)).reshape(shape)


@given(ORIENTATIONS)
def test_an_orientation_is_undone_by_its_inverse(orientation: Orientation) -> None:
    array = numbered(orientation.ndim)
    np.testing.assert_array_equal(orientation.inverse.apply(orientation.apply(array)), array)
    assert orientation.then(orientation.inverse).is_identity


@pytest.mark.parametrize("spacing", [(1, 1), (2, 1, 1), (1, 1, 1)])
def test_one_orientation_after_another_is_one_orientation(spacing: tuple[int, ...]) -> None:
    array = numbered(len(spacing))
    some = orientations(spacing)[::3]
    for first, second in itertools.product(some, some):
        np.testing.assert_array_equal(first.then(second).apply(array), second.apply(first.apply(array)))


@given(ORIENTATIONS)
def test_offsets_turn_with_the_array(orientation: Orientation) -> None:
    array = np.zeros((7,) * orientation.ndim)
    offset = tuple(range(1, 1 + orientation.ndim))
    array[(3,) * orientation.ndim] = 1
    array[tuple(np.clip(3 + np.array(offset), 0, 6))] = 2
    turned = orientation.apply(array)
    found = np.argwhere(turned == 2)[0] - np.argwhere(turned == 1)[0]
    assert tuple(found) == orientation.reorient_vector(offset)


def test_the_identity_comes_first_and_unequal_edges_stay_apart() -> None:
    assert orientations((2, 1, 1))[0] == Orientation.identity(3)
    assert all(each.permutation[0] == 0 for each in orientations((2, 1, 1)))
    assert len({each.apply(numbered(2)).tobytes() for each in orientations((1, 1))}) == 8


def test_tensors_turn_like_arrays() -> None:
    torch = pytest.importorskip("torch")
    for orientation in orientations((1, 1, 1))[::5]:
        array = numbered(3)
        np.testing.assert_array_equal(orientation.apply(torch.from_numpy(array)).numpy(), orientation.apply(array))


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 4)), min_size=1, max_size=3))
def test_blocks_cover_every_voxel_once(edges: list[tuple[int, int]]) -> None:
    shape, block = zip(*edges, strict=True)
    seen = np.zeros(shape, int)
    for box in blocks(shape, block):
        seen[box.slices] += 1
        assert all(length <= most for length, most in zip(box.shape, block, strict=True))
    assert (seen == 1).all()


def test_regions_grow_meet_and_move() -> None:
    box = Region((2, 3), (5, 7))
    assert box.grow((1, 2)) == Region((1, 1), (6, 9))
    assert Region.whole((4, 5)).intersect(box) == Region((2, 3), (4, 5))
    assert box.intersect(Region((5, 0), (6, 9))) is None
    assert box.shift((-2, 1)) == Region((0, 4), (3, 8))


@pytest.mark.parametrize("axes", ["YX", "ZYX", "CYX", "YXC", "ZCYX", "TZYX", "XY", "YZCX"])
def test_canonical_order_is_the_same_for_all_views_of_an_image(axes: str) -> None:
    lengths = {"T": 1, "C": 2, "Z": 3, "Y": 4, "X": 5}
    order = [letter for letter in "CZYX" if letter in axes]
    base = np.arange(np.prod([lengths[letter] for letter in order])).reshape([lengths[letter] for letter in order])
    stored = base.transpose([order.index(letter) for letter in axes if letter != "T"])
    stored = np.expand_dims(stored, axes.index("T")) if "T" in axes else stored
    image = Image(stored, Axes(axes))
    expected = base if "C" in axes else base[None]
    np.testing.assert_array_equal(image.canonical(), expected)
    np.testing.assert_array_equal(image.lazy()[...], expected)
    np.testing.assert_array_equal(image.lazy()[0, ..., 1:3], expected[0, ..., 1:3])
    assert image.lazy().shape == expected.shape
    assert image.axes.spatial_axes == "".join(letter for letter in "ZYX" if letter in axes)


def test_colour_images_are_told_from_stacks_by_their_last_axis() -> None:
    assert [Axes.guess(shape) for shape in ((9, 9), (9, 9, 3), (9, 9, 9), (3, 3, 3), (2, 9, 9, 9), (1, 2, 9, 9, 9))] == [
        "YX", "YXC", "ZYX", "ZYX", "CZYX", "TCZYX",
    ]  # fmt: skip
    assert Axes("YXS") == "YXC"


@pytest.mark.parametrize(
    ("act", "code", "fields"),
    [
        (lambda: Axes("ZZYX"), "axes.invalid", {"value": "ZZYX"}),
        (lambda: Axes("ZY"), "axes.invalid", {"key": "axes"}),
        (lambda: Axes("QYX"), "axes.invalid", {}),
        (lambda: Axes.guess((3,)), "image.dimensions", {"value": (3,)}),
        (lambda: canonical(np.zeros((4, 4)), "ZYX"), "axes.count", {"value": "ZYX"}),
        (lambda: canonical(np.zeros((2, 4, 4)), "TYX"), "image.time_points", {}),
        (lambda: Image(np.zeros((2, 4, 4)), Axes("TYX"), source="a.tif").lazy(), "image.time_points", {"file": "a.tif"}),
        (lambda: Image(np.zeros((4, 4)), Axes("ZYX"), source="a.tif"), "axes.count", {"file": "a.tif"}),
        (lambda: spatial_array(Image(np.zeros((2, 4, 4)), Axes("CYX"))), "image.channels", {}),
        (lambda: spatial_array(np.zeros(4)), "image.dimensions", {"value": (4,)}),
        (lambda: VoxelSize(0, 1), "voxel_size.not_positive", {"key": "voxel_size.y", "value": 0}),
        (lambda: VoxelSize(1, float("nan")), "voxel_size.not_positive", {"key": "voxel_size.x"}),
        (lambda: VoxelSize(1, 1, unit="parsec"), "voxel_size.unknown_unit", {"value": "parsec"}),
        (lambda: VoxelSize(1, 1).spacing(3), "voxel_size.missing_z", {}),
        (lambda: VoxelSize(1, 1, unit="px").to("um"), "voxel_size.unknown", {}),
        (lambda: VoxelSize.of({"y": 1}, 2), "voxel_size.keys", {"value": {"y": 1}}),
        (lambda: VoxelSize.of([1, 1], 3), "voxel_size.count", {"value": [1, 1]}),
    ],
)
def test_invalid_geometry(act: Callable[[], object], code: str, fields: dict[str, object]) -> None:
    with raises(code, **fields):
        act()


@given(st.floats(0.01, 100), st.sampled_from(["nm", "um", "mm", "cm", "m", "inch"]))
def test_units_there_and_back(length: float, unit: str) -> None:
    size = VoxelSize(length, length, z=2 * length)
    assert size.to(unit).to("um").spacing(3) == pytest.approx(size.spacing(3))
    assert size.to("um") is size


def test_voxel_sizes_in_every_spelling() -> None:
    size = VoxelSize(0.1, 0.1, z=0.5)
    spellings = [size, {"z": 0.5, "y": 0.1, "x": 0.1}, (0.5, 0.1, 0.1), size.asdict()]
    assert {spacing_of(each, 3) for each in spellings} == {(0.5, 0.1, 0.1)}
    assert spacing_of(2, 2) == (2.0, 2.0)
    assert VoxelSize.of(None, 2).unit == "pixel"
    for unit, spellings in {
        "um": ["µm", "micrometre", "Micrometers", "microns", "\\u00B5m"],
        "nm": ["nanometers", "nanometre"],
        "Å": ["angstrom", "Ångström", "\u212b"],
        "inch": ["in", "inches"],
        "m": ["metres", " meter "],
        "pixel": ["", "px", "voxels"],
    }.items():
        assert {VoxelSize(1, 1, unit=spelling).unit for spelling in spellings} == {unit}, unit
    assert spatial_array(Image(np.zeros((3, 4, 4)), Axes("ZYX"), size))[1] == (0.5, 0.1, 0.1)
    assert Image(np.zeros((4, 4)), Axes("YX")).spacing == (1.0, 1.0)
