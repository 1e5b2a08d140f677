"""Laws that every augmentation holds by being listed, then each one's own."""

from itertools import permutations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.measure import block_reduce

from morula.core.errors import UnknownNameError
from morula.core.orientation import Orientation
from morula.data.augment import AUGMENTATIONS
from morula.data.augment.base import Intensity, Reorienting, Spatial, draw
from morula.data.augment.orient import square_planes
from morula.data.augment.parse import as_entries, parse_augmentations, parse_entry
from morula.testing.errors import raises

SHAPES = [((24, 32), (1.0, 1.0)), ((8, 24, 24), (2.0, 1.0, 1.0)), ((12, 12, 12), (1.0, 1.0, 1.0))]


def one(name, **options):
    (augmentation,) = parse_augmentations([{name: options}])
    return augmentation


@pytest.mark.parametrize("name", AUGMENTATIONS.names)
@pytest.mark.parametrize(("shape", "spacing"), SHAPES)
def test_draw_then_apply(name, shape, spacing):
    always, never = one(name, probability=1), one(name, probability=0)
    assert all(never.draw(np.random.default_rng(i), shape, spacing) is None for i in range(5))
    image = np.random.default_rng(0).random((2, *shape), dtype=np.float32)
    before = image.copy()
    for seed in range(5):
        record = always.draw(np.random.default_rng(seed), shape, spacing)
        again = always.draw(np.random.default_rng(seed), shape, spacing)
        if isinstance(always, Intensity):
            changed = always.apply(image, record, spacing)
            assert changed.dtype == np.float32
            assert changed.shape == image.shape
            assert np.isfinite(changed).all()
            assert (changed != image).any()
            np.testing.assert_array_equal(changed, always.apply(image, again, spacing))
            np.testing.assert_array_equal(image, before)
        elif isinstance(always, Spatial):
            np.testing.assert_array_equal(record.matrix, again.matrix)
            assert record.region(shape, spacing, np.zeros(len(shape))).shape
        else:
            assert isinstance(always, Reorienting)
            assert record == again


@pytest.mark.parametrize("name", AUGMENTATIONS.names)
def test_constant_image_stays_finite(name):
    augmentation = one(name, probability=1)
    if isinstance(augmentation, Intensity):
        for value in (0, 3):
            image = np.full((1, 8, 16, 16), value, np.float32)
            assert np.isfinite(
                augmentation.apply(image, augmentation.draw(np.random.default_rng(0), image.shape[1:], (1, 1, 1)), (1, 1, 1))
            ).all()


def test_probability():
    rng = np.random.default_rng(0)
    happened = [one("brightness", probability=0.3).draw(rng, (8, 8), (1, 1)) is not None for _ in range(2000)]
    assert np.mean(happened) == pytest.approx(0.3, abs=0.04)


def test_flip_axes():
    rng = np.random.default_rng(0)
    drawn = {one("flip", axes="x").draw(rng, (4, 8, 8), (1, 1, 1)) for _ in range(20)}
    assert drawn == {None, Orientation((0, 1, 2), (False, False, True))}
    assert {one("flip").draw(rng, (8, 8), (1, 1)) for _ in range(60)} == {
        None,
        *(Orientation((0, 1), f) for f in ((True, False), (False, True), (True, True))),
    }


def test_rotate90_keeps_shape_and_spacing():
    assert square_planes((8, 8, 8), (2, 1, 1)) == [(1, 2)]
    assert square_planes((8, 8, 8), (1, 1, 1)) == [(0, 1), (0, 2), (1, 2)]
    assert square_planes((8, 16), (1, 1)) == []
    assert square_planes((8, 16), (1, 1), rectangles=True) == [(0, 1)]
    rng = np.random.default_rng(0)
    turn = one("rotate90", probability=1)
    assert turn.draw(rng, (8, 16), (1, 1)) is None
    drawn = {turn.draw(rng, (8, 8), (1, 1)) for _ in range(60)}
    image = np.arange(64).reshape(8, 8)
    assert {o.apply(image).tobytes() for o in drawn} == {np.rot90(image, k).tobytes() for k in (1, 2, 3)}


def test_orientations_compose_in_order():
    augmentations = parse_augmentations([{"flip": 1.0}, {"rotate90": 1.0}])
    drawn = draw(augmentations, np.random.default_rng(1), (8, 8), (1, 1))
    rng = np.random.default_rng(1)
    image = np.arange(64).reshape(8, 8)
    for augmentation in augmentations:
        image = augmentation.draw(rng, (8, 8), (1, 1)).apply(image)
    np.testing.assert_array_equal(drawn.orientation.apply(np.arange(64).reshape(8, 8)), image)


def test_rotation_about_z_keeps_z():
    warp = one("rotate", probability=1).draw(np.random.default_rng(0), (8, 16, 16), (3, 1, 1))
    assert warp.matrix[0].tolist() == [1, 0, 0]
    about = {
        int(np.argmax(np.diag(one("rotate", probability=1, about=["z", "x"]).draw(np.random.default_rng(i), (8, 8, 8), (1, 1, 1)).matrix)))
        for i in range(20)
    }
    assert about == {0, 2}


def test_zoom_axes():
    rng = np.random.default_rng(0)
    plane = np.diag(one("zoom", probability=1, axes="plane").draw(rng, (8, 8, 8), (1, 1, 1)).matrix)
    assert plane[0] == 1
    assert plane[1] == plane[2] != 1
    assert len(set(np.diag(one("zoom", probability=1, axes="each").draw(rng, (8, 8, 8), (1, 1, 1)).matrix))) == 3


def test_intensities_equal_their_formula():
    image = np.random.default_rng(0).random((2, 64, 64), dtype=np.float32)
    np.testing.assert_allclose(one("brightness").apply(image, 0.25, (1, 1)), image + 0.25, rtol=1e-6)
    stretched = one("contrast").apply(image, 2.0, (1, 1))
    np.testing.assert_allclose(stretched.mean(axis=(1, 2)), image.mean(axis=(1, 2)), rtol=1e-5)
    np.testing.assert_allclose(stretched.std(axis=(1, 2)), 2 * image.std(axis=(1, 2)), rtol=1e-5)
    bent = one("gamma").apply(image, 2.0, (1, 1))
    np.testing.assert_allclose([bent.min(), bent.max()], [image.min(), image.max()], atol=1e-6)
    assert bent.mean() < image.mean()
    coloured = one("colour", contrast=0.5, brightness=0.2).apply(image, 7, (1, 1))
    moved = coloured.mean(axis=(1, 2)) - image.mean(axis=(1, 2))
    widened = coloured.std(axis=(1, 2)) / image.std(axis=(1, 2))
    assert (abs(moved) <= 0.2).all()
    assert (abs(widened - 1) <= 0.5).all()
    assert moved[0] != pytest.approx(moved[1])
    assert widened[0] != pytest.approx(widened[1])
    np.testing.assert_array_equal(coloured, one("colour", contrast=0.5, brightness=0.2).apply(image, 7, (1, 1)))
    noise = one("gaussian_noise").apply(image, (0.5, 3), (1, 1)) - image
    assert noise.std() == pytest.approx(0.5, rel=0.05)
    counted = one("poisson_noise").apply(np.concatenate([image, image * 0 + 1, image * 0], 1), (100.0, 3), (1, 1))
    assert counted[:, 64:128].std() == pytest.approx(0.1, rel=0.1)
    assert (counted[:, 128:] == 0).all()
    (region,) = one("cutout", probability=1).draw(np.random.default_rng(0), (64, 64), (1, 1))
    covered = one("cutout").apply(image, [region], (1, 1))
    assert (covered[(slice(None), *region.slices)].std(axis=(1, 2)) < 1e-6).all()
    # squares of (1 - ratio) units, in rows and columns: the hidden share is its square
    grid = one("gridmask", probability=1, ratio=0.5, low=0.25, high=0.25)
    hidden = grid.draw(np.random.default_rng(0), (64, 64), (1, 1))
    assert hidden.mean() == 0.25
    assert np.array_equal(hidden, np.roll(hidden, 16, axis=0))
    masked = grid.apply(image, hidden, (1, 1))
    assert np.array_equal(masked[:, ~hidden], image[:, ~hidden])
    np.testing.assert_allclose(masked[:, hidden], image.mean(axis=(1, 2))[:, None].repeat(hidden.sum(), 1), rtol=1e-5)
    inverse = one("gridmask", probability=1, ratio=0.5, low=0.25, high=0.25, invert=True).draw(np.random.default_rng(0), (64, 64), (1, 1))
    assert np.array_equal(inverse, ~hidden)
    assert (covered != image).mean() == pytest.approx(np.prod(region.shape) / 64**2)


def test_dropout_loses_a_share_of_the_voxels_in_all_channels():
    image = np.random.default_rng(0).normal(size=(2, 10, 64, 64)).astype(np.float32)
    dropout = one("dropout", probability=1, low=0.1, high=0.3)
    shares = [dropout.draw(np.random.default_rng(i), image.shape[1:], (1, 1, 1))[0] for i in range(50)]
    assert 0.1 <= min(shares) < 0.15 < 0.25 < max(shares) <= 0.3
    changed = dropout.apply(image, (0.25, 7), (1, 1, 1))
    lost = changed == 0
    assert np.array_equal(lost[0], lost[1])
    assert lost.mean() == pytest.approx(0.25, abs=0.01)
    assert np.array_equal(changed[~lost], image[~lost])


def test_cutblur_is_the_mean_of_blocks_in_a_rectangle():
    image = np.random.default_rng(0).random((2, 3, 20, 30), np.float32)
    area = (slice(3, 13), slice(5, 16))  # 10 x 11 pixels: the last blocks of a row have one column
    inside = one("cutblur").apply(image, (area, 2, True), (1, 1, 1))
    expected = block_reduce(image[..., 3:13, 5:15], (1, 1, 2, 2), np.mean).repeat(2, axis=-2).repeat(2, axis=-1)
    np.testing.assert_allclose(inside[..., 3:13, 5:15], expected, rtol=1e-5)
    np.testing.assert_allclose(inside[..., 3:13, 15], image[..., 3:13, 15].reshape(2, 3, 5, 2).mean(-1).repeat(2, axis=-1), rtol=1e-5)
    outside = one("cutblur").apply(image, (area, 2, False), (1, 1, 1))
    within = np.zeros(image.shape, bool)
    within[(..., *area)] = True
    assert np.array_equal(inside[~within], image[~within])
    assert np.array_equal(outside[within], image[within])
    np.testing.assert_allclose(outside[..., :2, :2].mean((-1, -2)), image[..., :2, :2].mean((-1, -2)), rtol=1e-5)
    both = one("cutblur", probability=1, inside=False, low=0.5, high=0.5, least_factor=2, factor=3)
    drawn = [both.draw(np.random.default_rng(i), (4, 20, 30), (1, 1, 1)) for i in range(40)]
    assert {factor for _, factor, _ in drawn} == {2, 3}
    assert 10 < sum(coarse for *_, coarse in drawn) < 30
    assert {tuple(part.stop - part.start for part in found) for found, *_ in drawn} == {(10, 15)}
    with raises("augmentation.range", key="cutblur.least_factor", value=9):
        one("cutblur", least_factor=9, factor=8)


def test_shuffled_channels_are_the_same_channels():
    image = np.arange(3, dtype=np.float32)[:, None, None] + np.zeros((3, 4, 4), np.float32)
    orders = {tuple(one("shuffle_channels").apply(image, seed, (1, 1))[:, 0, 0]) for seed in range(60)}
    assert orders == set(permutations((0.0, 1.0, 2.0))) - {(0.0, 1.0, 2.0)}
    assert np.array_equal(one("shuffle_channels").apply(image[:1], 0, (1, 1)), image[:1])


def test_blur_is_that_of_scipy():
    patch = np.random.default_rng(0).random((1, 6, 20), np.float32)
    blurred = one("blur", border="nearest").apply(patch, 1.5, (1, 1))
    np.testing.assert_allclose(blurred[0], gaussian_filter(patch[0], 1.5, mode="nearest"), atol=1e-6)
    drawn = [one("blur", least=1.0, sigma=2.0, probability=1.0).draw(np.random.default_rng(i), (6, 20), (1, 1)) for i in range(50)]
    assert 1.0 <= min(drawn) < max(drawn) <= 2.0


def test_poisson_offset_does_not_depend_on_the_image():
    noise = one("poisson_offset", mean=3.0)
    added = [noise.apply(np.full((1, 100, 100), level, np.float32), (2.0, 7), (1, 1)) - level for level in (0.0, 50.0)]
    np.testing.assert_array_equal(*added)
    assert (added[0] == np.round(added[0])).all()
    assert added[0].mean() == pytest.approx(2.0, abs=0.05)


def test_blur_is_isotropic():
    point = np.zeros((1, 21, 41, 41), np.float32)
    point[0, 10, 20, 20] = 1
    blurred = one("blur").apply(point, 3.0, (3, 1, 1))[0]
    assert blurred[10, 23, 20] == pytest.approx(blurred[11, 20, 20], rel=0.02)


def test_spellings_round_trip():
    entries = ["flip", {"rotate": {"degrees": 30}}, {"brightness": 0.2}, {"kind": "blur", "sigma": 2.0}]
    parsed = parse_augmentations(entries)
    assert [a.name for a in parsed] == ["flip", "rotate", "brightness", "blur"]
    assert (parsed[1].options.degrees, parsed[2].options.strength, parsed[3].options.sigma) == (30, 0.2, 2.0)
    assert [a.options for a in parse_augmentations(as_entries(parsed))] == [a.options for a in parsed]
    assert [a.options for a in parse_augmentations([a.options for a in parsed])] == [a.options for a in parsed]


def test_errors():
    with pytest.raises(UnknownNameError):
        parse_entry("rotat")
    with raises("augmentation.unknown_option", key="rotate.degree"):
        parse_entry({"rotate": {"degree": 3}})
    with raises("augmentation.value", key="rotate.degrees", value=200):
        parse_entry({"rotate": 200})
    with raises("augmentation.range", key="zoom.low", value=2):
        parse_entry({"zoom": {"low": 2, "high": 1}})
    with raises("augmentation.form", value={"flip": {}, "rotate": {}}):
        parse_entry({"flip": {}, "rotate": {}})
    with raises("augmentation.several") as caught:
        parse_augmentations([{"flip": {"a": 1}}, "x"])
    assert all(name in str(caught.error) for name in ("flip.a", "x"))


def test_options_import_without_scipy():
    import subprocess
    import sys

    code = (
        "import sys; from morula.core.variants import variant_types; from morula.data.augment import AUGMENTATIONS; "
        "variant_types(AUGMENTATIONS); "
        "import morula.data.normalise, morula.data.sampling; print([m for m in ('torch', 'scipy', 'numba', 'skimage') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
