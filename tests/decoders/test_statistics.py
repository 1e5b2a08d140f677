"""Otsu's threshold of channel statistics equals its definition: the split with the largest variance between the two classes."""

import numpy as np
import pytest

from morula.decoders.statistics import ChannelStatistics


def by_definition(values, above=-np.inf):
    """The middle between the two classes, and the variance between the classes of each possible split, in float64.

    The variance is (mean * share - mass below)^2 / (share * (1 - share)), which differs from the library's formula.
    """
    centres, counts = np.unique(values[values > above].astype(np.float64), return_counts=True)
    below, total = np.cumsum(counts)[:-1], counts.sum()
    mass = np.cumsum(counts * centres)
    between = (mass[-1] * below / total - mass[:-1]) ** 2 / (below * (total - below.astype(np.float64)))
    return (centres[:-1] + centres[1:]) / 2, between


def bin_centres(values):
    """Values as the histogram resolves them: the middle of those with the same upper 16 bits; 0 exactly for those around 0."""
    upper = values.astype(np.float32).view(np.uint32) >> np.uint32(16)
    middle = ((upper << np.uint32(16)) | np.uint32(0x8000)).view(np.float32)
    return np.where(upper & np.uint32(0x7FFF), middle, np.float32(0))


def distributions(rng):
    """Values as channels have them: probabilities, intensities, signed distances."""
    probability = np.concatenate([rng.beta(0.3, 6, 3000), rng.beta(6, 0.5, int(rng.integers(30, 2000)))])
    intensity = np.concatenate([rng.gamma(2, 10, 3000), rng.normal(rng.uniform(100, 400), 40, 800)])
    distance = np.concatenate([rng.normal(-3, 1, 2000), rng.uniform(0, 9, 600), np.zeros(400)])
    return probability, intensity, distance


def statistics_of(values):
    return ChannelStatistics.of(np.asarray(values, np.float32).reshape(1, 1, -1))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("above", [-np.inf, 0.0])
def test_threshold_is_that_of_the_definition(seed, above):
    for values in distributions(np.random.default_rng(seed)):
        thresholds, between = by_definition(bin_centres(values), above)
        assert statistics_of(values).otsu(0, above) == thresholds[between.argmax()]


@pytest.mark.parametrize("copies", [10**3, 10**6])
def test_large_images_have_the_threshold_of_small_ones(copies):
    # the library sums the counts in float32, which is exact only up to 2^24 values
    for values in distributions(np.random.default_rng(11)):
        one = statistics_of(values)
        many = ChannelStatistics({0: one.histograms[0] * copies}, one.minimum, one.maximum, one.count * copies)
        assert many.otsu(0) == one.otsu(0)


@pytest.mark.parametrize(
    "values",
    [
        [0, 1],
        [0] * 1000 + [1],
        [0] + [1] * 1000,
        [-2, -1, 1, 2],
        [0, 1, 2, 3, 4],
        [5, 5, 5, 7, 9, 9, 9],
        [-8] * 5 + [0] * 5 + [8] * 5,
        list(range(1, 65)),
    ],
    ids=["two", "rare_high", "rare_low", "symmetric", "even", "symmetric_middle", "two_equal_splits", "uniform"],
)
def test_degenerate_histograms_are_split_as_well_as_possible(values):
    # where several splits have the same variance, any of them is right
    thresholds, between = by_definition(bin_centres(np.array(values)))
    chosen = np.flatnonzero(thresholds == statistics_of(values).otsu(0))
    assert len(chosen) == 1
    assert between[chosen[0]] >= between.max() * (1 - 1e-6)


def test_single_values_and_none_have_no_split():
    single = statistics_of([0.25] * 9)
    assert single.otsu(0) == bin_centres(np.array([0.25]))[0]
    assert single.otsu(0, above=1.0) == 1.0
    assert statistics_of([-1, 0, 0]).otsu(0, above=0.0) == 0.0
