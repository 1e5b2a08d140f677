"""The conditional random field against its definition, summed over all pairs."""

import numpy as np
import pytest

from morula.kernels.crf import CRF, refine_probabilities
from morula.testing.errors import raises


def exact(probabilities, image, options, spacing):
    """The mean field with dense kernels in float64."""
    places = np.indices(image.shape).reshape(image.ndim, -1).T * (np.asarray(spacing) / min(spacing))
    apart = ((places[:, None] - places[None]) ** 2).sum(axis=2)
    unlike = (image.ravel()[:, None] - image.ravel()[None]) ** 2
    kernels = [
        (options.bilateral_weight, np.exp(-apart / (2 * options.bilateral_width**2) - unlike / (2 * options.intensity_width**2))),
        (options.spatial_weight, np.exp(-apart / (2 * options.spatial_width**2))),
    ]
    given = np.log(np.clip(probabilities.reshape(len(probabilities), -1), 1e-5, 1))
    found = np.exp(given) / np.exp(given).sum(axis=0)
    for _ in range(options.iterations):
        energy = given.copy()
        for weight, kernel in kernels:
            root = 1 / np.sqrt(kernel.sum(axis=1))
            energy += weight * found @ (root[:, None] * kernel * root)
        found = np.exp(energy - energy.max(axis=0))
        found /= found.sum(axis=0)
    return found.reshape(probabilities.shape)


def scene(shape, classes=2, seed=0):
    rng = np.random.default_rng(seed)
    place = np.indices(shape)
    middle = np.array(shape).reshape(-1, *[1] * len(shape)) / 2
    inside = (((place - middle) / (np.array(shape).reshape(middle.shape) / 3)) ** 2).sum(axis=0) < 1
    image = np.where(inside, 70, 15) + rng.normal(0, 4, shape)
    logits = rng.normal(0, 1, (classes, *shape))
    logits[1] += np.where(inside, 1.2, -1.2)
    raised = np.exp(logits)
    return raised / raised.sum(axis=0), np.clip(image, 0, 100), inside


@pytest.mark.parametrize(
    ("shape", "spacing", "classes"), [((24, 28), (1, 1), 2), ((8, 12, 12), (1, 1, 1), 2), ((6, 14, 12), (2.0, 0.8, 0.8), 3)]
)
@pytest.mark.parametrize(
    "options", [CRF(), CRF(bilateral_width=4, intensity_width=15, bilateral_weight=3, spatial_weight=2, spatial_width=1.5, iterations=2)]
)
def test_it_is_the_mean_field_over_all_pairs(shape, spacing, classes, options):
    probabilities, image, _ = scene(shape, classes)
    found, expected = refine_probabilities(probabilities, image, options, spacing=spacing), exact(probabilities, image, options, spacing)
    assert (found.argmax(axis=0) == expected.argmax(axis=0)).mean() > 0.99
    assert np.abs(found - expected).mean() < 0.03
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-5)


def test_noise_in_the_probabilities_goes_and_edges_stay():
    probabilities, image, inside = scene((10, 24, 24), seed=3)
    before = (probabilities.argmax(axis=0) == inside).mean()
    after = (refine_probabilities(probabilities, image, spacing=(1, 1, 1)).argmax(axis=0) == inside).mean()
    assert before < 0.9
    assert after > 0.99


def test_a_constant_image_and_weights_of_zero():
    probabilities, _, _ = scene((9, 11))
    flat = refine_probabilities(probabilities, np.full((9, 11), 5.0), spacing=(1, 1))
    assert np.isfinite(flat).all()
    same = refine_probabilities(probabilities, np.zeros((9, 11)), CRF(bilateral_weight=0, spatial_weight=0), spacing=(1, 1))
    np.testing.assert_allclose(same, probabilities, rtol=1e-4)


def test_shapes_that_differ_are_refused():
    with raises("crf.shapes", value=(4, 5)):
        refine_probabilities(np.zeros((2, 4, 4)), np.zeros((4, 5)), spacing=(1, 1))
