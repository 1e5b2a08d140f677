import json

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from morula.core.image import Image
from morula.data import intensity
from morula.data.intensity import Distribution, distributions
from morula.data.normalise import Fixed, MinMax, Normalisation, Options, Percentile, ZScore, data_set_statistics, normalisations, statistics
from morula.testing.errors import raises


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.float32, np.float64, bool])
def test_distribution_equals_numpy(dtype):
    rng = np.random.default_rng(0)
    values = (rng.normal(60, 20, (7, 31, 13)) * 100 % 250).astype(dtype)
    one = Distribution.of(values)
    halves = Distribution.merge([Distribution.of(values[:3]), Distribution.of(values[3:])])
    for found in (one, halves):
        assert found.n == values.size
        assert found.mean == pytest.approx(values.mean(dtype=np.float64))
        assert found.std == pytest.approx(values.std(dtype=np.float64))
        assert (found.low, found.high) == (values.min(), values.max())
        for rank in (0, 1, 37.3, 50, 99.8, 100):
            assert found.percentile(rank) == pytest.approx(np.percentile(values.astype(np.float64), rank), rel=1e-6)


@pytest.mark.parametrize("axes", ["YX", "ZYX", "CYX", "YXC", "ZCYX"])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_kinds_equal_their_formula(axes, dtype):
    shape = tuple({"C": 2, "Z": 5, "Y": 40, "X": 30}[letter] for letter in axes)
    image = Image(np.random.default_rng(1).gamma(2, 500, shape).astype(dtype), axes)
    array = image.canonical()
    spatial = tuple(range(1, array.ndim))
    percentile = statistics(image, Percentile(low=2, high=90)).apply(array)
    assert percentile.dtype == np.float32
    np.testing.assert_allclose(np.percentile(percentile, 2, axis=spatial), 0, atol=1e-5)
    np.testing.assert_allclose(np.percentile(percentile, 90, axis=spatial), 1, atol=1e-5)
    zscore = statistics(image, ZScore()).apply(array)
    np.testing.assert_allclose(zscore.mean(axis=spatial), 0, atol=1e-4)
    np.testing.assert_allclose(zscore.std(axis=spatial), 1, atol=1e-4)
    minmax = statistics(image, MinMax()).apply(array)
    np.testing.assert_allclose([minmax.min(), minmax.max()], [0, 1], atol=1e-6)
    np.testing.assert_allclose(
        statistics(image, Fixed(offset=100, scale=50)).apply(array), (array.astype(float) - 100) / 50, rtol=1e-5, atol=1e-5
    )


def test_clip():
    image = Image(np.arange(1000.0).reshape(20, 50), "YX")
    clipped = statistics(image, Percentile(low=10, high=90, clip=True)).apply(image.canonical())
    assert (clipped.min(), clipped.max()) == (0, 1)
    clipped = statistics(image, ZScore(clip=(-1, 1))).apply(image.canonical())
    assert (clipped.min(), clipped.max()) == (-1, 1)


@pytest.mark.parametrize("options", [Percentile(), ZScore(), MinMax()])
@pytest.mark.parametrize("value", [0, 7, 1e8])
def test_constant_image_is_finite(options, value):
    array = np.full((1, 8, 8), value)
    record = statistics(Image(array, "CYX"), options)
    assert record.scale == (1.0,)
    assert (record.apply(array) == 0).all()


def test_few_bright_voxels_on_black_use_the_full_range():
    array = np.zeros((1, 100, 100), np.uint16)
    array[0, 3, 4] = 500
    record = statistics(Image(array, "CYX"), Percentile())
    assert (record.offset, record.scale) == ((0.0,), (500.0,))


def test_data_set_and_shared_channels():
    images = [Image(np.full((1, 4, 4), v, np.uint8), "CYX") for v in (10, 30)]
    assert data_set_statistics(images, MinMax()).scale == (20.0,)
    assert normalisations(images, MinMax(per="data_set")) == [Normalisation((10.0,), (20.0,))] * 2
    assert normalisations(images, MinMax()) == [Normalisation((v,), (1.0,)) for v in (10.0, 30.0)]
    pair = Image(np.stack([np.full((4, 4), 10), np.full((4, 4), 30)]), "CYX")
    assert statistics(pair, MinMax(channels="together")) == Normalisation((10.0, 10.0), (20.0, 20.0))


def test_record_round_trips_through_json():
    record = Normalisation((1.5, 2.5), (3.0, 4.0), (0.0, 1.0))
    assert Normalisation.from_dict(json.loads(json.dumps(record.as_dict()))) == record


class Spy:
    """An array that remembers how much of it was read."""

    def __init__(self, array):
        self.array, self.read = array, 0
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim
        self.chunks = (1, 16, 16)

    def __getitem__(self, key):
        block = self.array[key]
        self.read += block.size
        return block


def test_large_images_are_sampled_reproducibly(monkeypatch):
    monkeypatch.setattr(intensity, "_BLOCK", 1024)
    array = np.random.default_rng(0).normal(500, 100, (40, 64, 64)).astype(np.uint16)
    spies = [Spy(array), Spy(array)]
    found = [distributions(Image(spy, "ZYX"), limit=16384)[0] for spy in spies]
    assert spies[0].read == spies[1].read <= 17000
    assert found[0].percentile(50) == found[1].percentile(50) == pytest.approx(500, abs=10)
    whole = Spy(array)
    distributions(Image(whole, "ZYX"))
    assert whole.read == array.size


def test_floats_are_thinned_with_their_extremes(monkeypatch):
    monkeypatch.setattr(intensity, "_KEPT", 1000)
    array = np.random.default_rng(0).normal(0, 1, (64, 100)).astype(np.float32)
    array[3, 7], array[9, 1] = 55, -44
    (found,) = distributions(Image(array, "YX"))
    assert found.n < 1100
    assert (found.low, found.high) == (-44, 55)
    assert found.percentile(50) == pytest.approx(0, abs=0.1)


def test_errors():
    with raises("image.empty", file="a.tif"):
        statistics(Image(np.zeros((0, 5)), "YX", source="a.tif"), ZScore())
    bad = np.zeros((3, 3))
    bad[1, 1] = np.nan
    with raises("image.not_finite"):
        statistics(Image(bad, "YX"), ZScore())
    with raises("normalisation.channels", value=2):
        Normalisation((0.0,), (1.0,)).apply(np.zeros((2, 3, 3)))
    with raises("images.channels", value=[1, 2]):
        data_set_statistics([Image(np.zeros((n, 3, 3)), "CYX") for n in (1, 2)], ZScore())
    with raises("images.none"):
        data_set_statistics([], ZScore())
    with raises("normalisation.channels", key="offset", value=(1, 2, 3)):
        statistics(Image(np.zeros((3, 3)), "YX"), Fixed(offset=(1, 2, 3)))
    adapter = TypeAdapter(Options)
    assert adapter.validate_python({"kind": "percentile"}) == Percentile()
    for wrong in ({"kind": "zscore", "low": 1}, {"kind": "percentile", "low": 9, "high": 3}, {"kind": "fixed", "scale": 0.0}):
        with pytest.raises(ValidationError):
            adapter.validate_python(wrong)


@pytest.mark.parametrize("per", ["image", "patch"])
@pytest.mark.parametrize(("low", "high"), [(2.0, None), (None, 6.0), (2.0, 6.0)])
def test_limits_take_the_place_of_the_extremes(per, low, high):
    array = np.array([[0.0, 1, 4, 8]])
    found = statistics(Image(array, "YX"), MinMax(per=per, low=low, high=high, range=(-1, 1))).apply(array[None])
    bottom, top = 0.0 if low is None else low, 8.0 if high is None else high
    np.testing.assert_allclose(found[0], np.clip(2 * (array - bottom) / (top - bottom) - 1, -1, 1), atol=1e-6)


def test_limits_in_the_wrong_order():
    with pytest.raises(ValidationError):
        MinMax(low=3.0, high=3.0)


def test_all_voxels_of_a_large_image(monkeypatch):
    array = np.zeros((64, 64), np.uint16)
    array[:4, :4] = 1000
    monkeypatch.setattr("morula.data.normalise.LIMIT", 256)
    monkeypatch.setattr("morula.data.intensity._BLOCK", 64)
    monkeypatch.setattr("morula.data.intensity._MERGED", 3)
    for measured in (statistics(Image(array, "YX"), ZScore(voxels="all")), data_set_statistics([Image(array, "YX")], ZScore(voxels="all"))):
        assert (measured.offset, measured.scale) == (pytest.approx((array.mean(),)), pytest.approx((array.std(),)))
    assert statistics(Image(array, "YX"), ZScore()).offset != pytest.approx((array.mean(),))


def test_eps_of_a_patch():
    array = np.array([[[1.0, 3.0]]])
    assert statistics(Image(array[0], "YX"), ZScore(per="patch", eps=4)).apply(array).tolist() == [[[-0.25, 0.25]]]
    assert statistics(Image(array[0], "YX"), MinMax(per="patch", eps=2)).apply(array).tolist() == [[[0.0, 0.5]]]


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_mean_and_deviation_of_many_values_are_exact(dtype, monkeypatch):
    monkeypatch.setattr("morula.data.intensity._KEPT", 1000)
    monkeypatch.setattr("morula.data.intensity._BLOCK", 3000)
    values = (1e4 + 300 * np.random.default_rng(0).standard_normal((2, 20, 30, 40))).astype(dtype)
    values[:, :7] += 2000  # blocks differ
    for channels in ("each", "together"):
        found = statistics(Image(values, "CZYX"), ZScore(channels=channels))
        axes = (1, 2, 3) if channels == "each" else None
        np.testing.assert_allclose(found.offset, np.broadcast_to(values.mean(axes, np.float64), 2), rtol=1e-12)
        np.testing.assert_allclose(found.scale, np.broadcast_to(values.std(axes, np.float64), 2), rtol=1e-9)
