"""Laws of the warp: what it does to coordinates is checked on images whose values are coordinates."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from morula.core.region import Region
from morula.data.augment.affine import Rotate, RotateOptions, Zoom, ZoomOptions
from morula.data.augment.parse import parse_augmentations
from morula.data.augment.resample import SPLINE_REACH, Fetched, fetch_region
from morula.data.augment.warp import Warp, random_displacement

CASES = [
    ((40, 50), (1.0, 1.0)),
    ((33, 47), (2.0, 1.0)),
    ((12, 30, 34), (1.0, 1.0, 1.0)),
    ((10, 33, 30), (4.0, 1.0, 1.0)),
    ((1, 30, 34), (1.0, 1.0, 1.0)),
]


def resampled(array, warp, region, spacing, margin=None):
    """Linear and nearest values of array (C, ...) through the room's path."""
    extent = Region.whole(array.shape[1:])
    centre = (np.array(region.start) + np.array(region.stop) - 1) / 2
    outer = region.grow(margin) if margin else region
    box = fetch_region(warp.region(outer.shape, spacing, centre), extent)
    fetched = Fetched(array[(slice(None), *box.slices)], box.start, extent)
    where = warp.map(outer.shape, spacing, centre)
    inner = where.inner(margin or (0,) * len(region.shape))
    return fetched.linear(inner), inner.inside(extent), fetched.nearest(where)


def reference(array, warp, region, spacing, order):
    """The same by SciPy on the whole image."""
    places = np.stack(np.meshgrid(*[np.arange(a, b) for a, b in zip(region.start, region.stop)], indexing="ij")).astype(float)
    centre = (np.array(region.start) + np.array(region.stop) - 1) / 2
    shape = (-1,) + (1,) * len(spacing)
    step = np.array(spacing).reshape(shape)
    moved = np.tensordot(warp.matrix, (places - centre.reshape(shape)) * step, axes=1) + warp.shift.reshape(shape)
    moved = moved + sum(d.field(region.shape, spacing) for d in warp.displacements)
    return np.stack([map_coordinates(channel, moved / step + centre.reshape(shape), order=order, mode="mirror") for channel in array])


def drawn_warp(rng, shape, spacing):
    turn = Rotate(RotateOptions(probability=1, about=("z", "y", "x"))).draw(rng, shape, spacing)
    zoom = Zoom(ZoomOptions(probability=1, axes="each")).draw(rng, shape, spacing)
    field = random_displacement(rng, shape, spacing, amplitude=2.0, knot=9.0)
    return turn.then(zoom).then(Warp(np.eye(len(shape)), np.array([1.5] * len(shape)), (field,)))


@pytest.mark.parametrize(("shape", "spacing"), CASES)
@pytest.mark.parametrize("channels", [1, 3])
def test_equals_scipy_on_the_whole_image(shape, spacing, channels):
    rng = np.random.default_rng(3)
    array = rng.random((channels, *shape)).astype(np.float32)
    for _ in range(4):
        start = tuple(int(rng.integers(0, n - n // 2)) for n in shape)
        region = Region(start, tuple(a + max(n // 2, 1) for a, n in zip(start, shape)))
        warp = drawn_warp(rng, region.shape, spacing)
        linear, _, nearest = resampled(array, warp, region, spacing)
        np.testing.assert_allclose(linear, reference(array, warp, region, spacing, 1), atol=2e-4)
        differing = nearest != reference(array, warp, region, spacing, 0)
        assert differing.mean() < 2e-3  # places half-way between two voxels


@pytest.mark.parametrize(("shape", "spacing"), [*CASES, ((60, 64), (1.0, 1.0))])
@pytest.mark.parametrize("order", [2, 3])
def test_splines_equal_scipy_on_the_whole_image(shape, spacing, order):
    rng = np.random.default_rng(4)
    array = rng.random((2, *shape)).astype(np.float32)
    extent = Region.whole(shape)
    region = Region(tuple(n // 4 for n in shape), tuple(n // 4 + max(n // 3, 1) for n in shape))
    warp = drawn_warp(rng, region.shape, spacing)
    centre = (np.array(region.start) + np.array(region.stop) - 1) / 2
    box = fetch_region(warp.region(region.shape, spacing, centre).grow((SPLINE_REACH,) * len(shape)), extent)
    fetched = Fetched(array[(slice(None), *box.slices)], box.start, extent)
    found = fetched.spline(warp.map(region.shape, spacing, centre), order)
    np.testing.assert_allclose(found, reference(array, warp, region, spacing, order), atol=1e-5)


@pytest.mark.parametrize(("shape", "spacing"), CASES)
def test_identity_changes_nothing(shape, spacing):
    array = np.random.default_rng(0).random((2, *shape)).astype(np.float32)
    region = Region(tuple(n // 4 for n in shape), tuple(max(n * 3 // 4, 1) for n in shape))
    linear, inside, nearest = resampled(array, Warp.affine(ndim=len(shape)), region, spacing)
    expected = array[(slice(None), *region.slices)]
    np.testing.assert_array_equal(linear, expected)
    np.testing.assert_array_equal(nearest, expected)
    assert inside.all()


def test_reflection_and_mask_beyond_the_image():
    array = np.arange(5, dtype=np.float32)[None, None].repeat(4, axis=1)
    linear, inside, nearest = resampled(array, Warp.affine(), Region((0, -6), (4, 12)), (1.0, 1.0))
    expected = np.pad(array, ((0, 0), (0, 0), (6, 7)), mode="reflect")
    np.testing.assert_array_equal(linear, expected)
    np.testing.assert_array_equal(nearest, expected)
    np.testing.assert_array_equal(inside[0], [False] * 6 + [True] * 5 + [False] * 7)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (3.0, 1.0)])
def test_rotation_is_rigid_in_micrometres(spacing):
    warp = Rotate(RotateOptions(probability=1, degrees=180)).draw(np.random.default_rng(1), (64, 64), spacing)
    np.testing.assert_allclose(warp.matrix @ warp.matrix.T, np.eye(2), atol=1e-12)
    # a disk in micrometres stays a disk when turned about its centre
    y, x = np.meshgrid(*[(np.arange(64) - 31.5) * s for s in spacing], indexing="ij")
    disk = (np.hypot(y, x) < 20).astype(np.float32)[None]
    linear, _, _ = resampled(disk, warp, Region((0, 0), (64, 64)), spacing)
    assert np.abs(linear - disk).mean() < 0.02


def test_quarter_turn_equals_rot90():
    array = np.random.default_rng(0).random((1, 32, 32)).astype(np.float32)
    linear, _, nearest = resampled(array, Warp.affine([[0, 1], [-1, 0]]), Region((0, 0), (32, 32)), (1.0, 1.0))
    np.testing.assert_allclose(linear[0], np.rot90(array[0]), atol=1e-5)  # row 0 comes from the last column
    np.testing.assert_allclose(linear, nearest, atol=1e-5)


def test_zoom_magnifies():
    zoom = Zoom(ZoomOptions(probability=1, low=2, high=2)).draw(np.random.default_rng(0), (32, 32), (1.0, 1.0))
    ramp = np.arange(64, dtype=np.float32)[None, None].repeat(64, axis=1)
    linear, _, _ = resampled(ramp, zoom, Region((16, 16), (48, 48)), (1.0, 1.0))
    np.testing.assert_allclose(np.diff(linear[0, 0]), 0.5, atol=1e-5)


def test_affine_maps_compose():
    rng = np.random.default_rng(0)
    one, two = (Warp.affine(rng.normal(size=(3, 3)), rng.normal(size=3)) for _ in range(2))
    u = rng.normal(size=3)
    both = one.then(two)
    inner = two.matrix @ u + two.shift
    np.testing.assert_allclose(both.matrix @ u + both.shift, one.matrix @ inner + one.shift)


@pytest.mark.parametrize(("shape", "spacing"), CASES[:4])
def test_displacement_has_the_given_strength(shape, spacing):
    rng = np.random.default_rng(0)
    fields = [random_displacement(rng, shape, spacing, amplitude=3.0, knot=8.0) for _ in range(40)]
    values = np.stack([field.field(shape, spacing) for field in fields])
    assert values.std() == pytest.approx(3.0, rel=0.25)
    assert all((np.abs(f.field(shape, spacing)).reshape(len(shape), -1).max(axis=1) <= f.reach + 1e-4).all() for f in fields)
    # the field is smooth: neighbours a voxel apart along the finest axis differ by little
    assert np.abs(np.diff(values, axis=-1)).max() < 3.0 * spacing[-1]


def test_margin_keeps_the_warp():
    rng = np.random.default_rng(5)
    array = rng.random((1, 60, 60)).astype(np.float32)
    region = Region((20, 20), (40, 40))
    warp = drawn_warp(rng, (26, 30), (1.0, 1.0))
    linear, _, wide = resampled(array, warp, region, (1.0, 1.0), margin=(3, 5))
    assert (linear.shape, wide.shape) == ((1, 20, 20), (1, 26, 30))
    exact, _, _ = resampled(array, warp, region.grow((3, 5)), (1.0, 1.0))
    np.testing.assert_allclose(linear, exact[:, 3:-3, 5:-5], atol=1e-5)


def test_labels_above_65535_survive():
    labels = np.zeros((1, 30, 30), np.uint32)
    labels[0, 5:25, 5:25] = 4_000_000_001
    warp = Rotate(RotateOptions(probability=1)).draw(np.random.default_rng(0), (30, 30), (1.0, 1.0))
    _, _, nearest = resampled(labels, warp, Region((0, 0), (30, 30)), (1.0, 1.0))
    assert set(np.unique(nearest)) == {0, 4_000_000_001}


@pytest.mark.parametrize("name", ["rotate", "zoom", "shear", "shift", "elastic"])
def test_2d_equals_a_flat_volume(name):
    rng = np.random.default_rng(2)
    array = rng.random((1, 40, 40)).astype(np.float32)
    (augmentation,) = parse_augmentations([{name: {"probability": 1}}])
    flat = augmentation.draw(np.random.default_rng(7), (30, 30), (1.0, 1.0))
    lifted = Warp(
        np.pad(flat.matrix, ((1, 0), (1, 0))) + np.diag([1, 0, 0]),
        np.pad(flat.shift, (1, 0)),
        tuple(
            type(d)(np.pad(d.controls, ((1, 0), (0, 0), (0, 0)))[:, None].repeat(4, axis=1), (1.0, *d.knots)) for d in flat.displacements
        ),
    )
    two, _, _ = resampled(array, flat, Region((5, 5), (35, 35)), (1.0, 1.0))
    three, _, _ = resampled(array[:, None], lifted, Region((0, 5, 5), (1, 35, 35)), (1.0, 1.0, 1.0))
    np.testing.assert_allclose(two, three[:, 0], atol=1e-5)
