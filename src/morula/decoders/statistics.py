"""Statistics of predicted channels that can be collected block by block and merged.

Thresholds are chosen from histograms, so that a prediction of any size needs one pass and a few kilobytes. The bins are the upper 16 bits
of the floats (sign, exponent, 7 bits of the fraction): they suit any range of values with a relative resolution of 1 %, and need not be
known in advance.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from morula.core.compiled import njit
from morula.core.errors import DataError
from morula.core.label_image import read_only

LANES = 64
"""Values that are compared at once (SIMD)."""


@dataclass(frozen=True, eq=False)
class ChannelStatistics:
    """Smallest and largest value of each channel, (C,) float32, and histograms (65536,) int64 of the counted channels, by row; bins ascend.

    Examples:
        >>> one, two = (ChannelStatistics.of(np.full((1, 4, 4), value, np.float32)) for value in (0.0, 1.0))
        >>> both = one.merge(two)
        >>> both.minimum, both.maximum, both.count, round(both.otsu(0), 2)
        (array([0.], dtype=float32), array([1.], dtype=float32), 32, 0.5)
    """

    histograms: dict[int, np.ndarray]
    minimum: np.ndarray
    maximum: np.ndarray
    count: int
    """Values of a channel."""

    @classmethod
    def of(cls, prediction: np.ndarray, counted: Collection[int] | None = None) -> ChannelStatistics:
        """Statistics of channels C(Z)YX, with histograms of the rows in `counted`; of all where left out.

        Raises:
            DataError: for NaN or infinite values.
        """
        prediction = np.asarray(prediction, np.float32)
        histograms: dict[int, np.ndarray] = {}
        low, high = np.empty(len(prediction), np.float32), np.empty(len(prediction), np.float32)
        for row, channel in enumerate(prediction):
            flat = read_only(channel).reshape(-1)
            if counted is None or row in counted:
                counts = np.zeros((2, 65_536), np.int64)
                low[row], high[row] = _count_and_extremes(flat, flat.view(np.uint32), counts)
                bins = counts.sum(axis=0)
                # all exponent bits set: infinity or NaN, of either sign
                finite = not (bins[0x7F80:0x8000].any() or bins[0xFF80:].any())
                # ascending order of floats: negative ones run backwards below the positive ones
                histograms[row] = np.concatenate((bins[:32_767:-1], bins[:32_768]))
            else:
                low[row], high[row], finite = _extremes(flat, flat.view(np.uint32))
            if not finite:
                raise DataError(
                    "prediction.not_finite",
                    "contains NaN or infinite values",
                    key="channel",
                    value=row,
                    remedy="Check the loss of the training, and the image.",
                )
        return cls(histograms, low, high, prediction[0].size if len(prediction) else 0)

    def merge(self, other: ChannelStatistics) -> ChannelStatistics:
        """Statistics of two blocks together."""
        histograms = {row: counts + other.histograms[row] for row, counts in self.histograms.items()}
        low, high = np.minimum(self.minimum, other.minimum), np.maximum(self.maximum, other.maximum)
        return ChannelStatistics(histograms, low, high, self.count + other.count)

    def as_arrays(self) -> dict[str, np.ndarray]:
        """The statistics as arrays, for a file."""
        histograms = {f"histogram_{row}": counts for row, counts in self.histograms.items()}
        return {"minimum": self.minimum, "maximum": self.maximum, "count": np.array(self.count), **histograms}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> ChannelStatistics:
        """The statistics that `as_arrays` has given."""
        start = "histogram_"
        histograms = {int(name.removeprefix(start)): counts for name, counts in arrays.items() if name.startswith(start)}
        return cls(histograms, arrays["minimum"], arrays["maximum"], int(arrays["count"]))

    def first(self, count: int) -> ChannelStatistics:
        """Statistics of the first channels."""
        return ChannelStatistics(self.histograms, self.minimum[:count], self.maximum[:count], self.count)

    def otsu(self, channel: int, above: float = -np.inf) -> float:
        """Threshold of a counted channel by Otsu's method (IEEE Trans. SMC 9, 1979), over its values greater than `above`.

        A channel with a single such value returns that value, one without any returns `above`.
        """
        from skimage.filters import threshold_otsu

        histogram = self.histograms[channel]
        bins = np.flatnonzero(histogram)
        values = _centre(bins)
        bins, values = bins[values > above], values[values > above]
        if len(bins) < 2:
            return float(values[0]) if len(bins) else float(above)
        # the library returns the centre of the last bin of the lower class; the middle between both classes is never a value itself
        cut = int(np.searchsorted(values, threshold_otsu(hist=(histogram[bins], values))))
        return float((values[cut] + values[cut + 1]) / 2)


@njit(cache=True, nogil=True)
def _count_and_extremes(values: np.ndarray, bits: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """Smallest and largest value; counts the values by the upper half of their bits.

    Two histograms are filled alternately: where neighbouring values are equal, an addition need not wait for the previous one.
    """
    least, most = np.full(LANES, np.inf, np.float32), np.full(LANES, -np.inf, np.float32)
    first, second, half = counts[0], counts[1], np.uint32(16)
    whole = len(values) // LANES * LANES
    for begin in range(0, whole, LANES):
        part, upper = values[begin : begin + LANES], bits[begin : begin + LANES]
        for lane in range(LANES):
            least[lane] = part[lane] if part[lane] < least[lane] else least[lane]
            most[lane] = part[lane] if part[lane] > most[lane] else most[lane]
        for lane in range(0, LANES, 2):
            first[upper[lane] >> half] += 1
            second[upper[lane + 1] >> half] += 1
    for i in range(whole, len(values)):
        least[0], most[0] = min(least[0], values[i]), max(most[0], values[i])
        first[bits[i] >> half] += 1
    return least.min(), most.max()


@njit(cache=True, nogil=True)
def _extremes(values: np.ndarray, bits: np.ndarray) -> tuple[float, float, bool]:
    """Smallest and largest value, and whether all are finite: NaN and infinity have the largest bits of all, the sign aside."""
    least, most = np.full(LANES, np.inf, np.float32), np.full(LANES, -np.inf, np.float32)
    top, size, beyond = np.zeros(LANES, np.uint32), np.uint32(0x7FFFFFFF), np.uint32(0x7F800000)
    whole = len(values) // LANES * LANES
    for begin in range(0, whole, LANES):
        part, same = values[begin : begin + LANES], bits[begin : begin + LANES]
        for lane in range(LANES):
            least[lane] = part[lane] if part[lane] < least[lane] else least[lane]
            most[lane] = part[lane] if part[lane] > most[lane] else most[lane]
            top[lane] = max(top[lane], same[lane] & size)
    for i in range(whole, len(values)):
        least[0], most[0] = min(least[0], values[i]), max(most[0], values[i])
        top[0] = max(top[0], bits[i] & size)
    return least.min(), most.max(), top.max() < beyond


def _centre(bins: np.ndarray) -> np.ndarray:
    """Middle value of each bin; 0 exactly for the two bins at 0."""
    # 0x8000: half of the 16 bits that the bin leaves open
    magnitude = np.where(bins >= 32_768, bins - 32_768, 32_767 - bins).astype(np.uint32)
    middle = ((magnitude << np.uint32(16)) | np.uint32(0x8000)).view(np.float32).astype(np.float64)
    middle[magnitude == 0] = 0
    return np.where(bins >= 32_768, middle, -middle)
