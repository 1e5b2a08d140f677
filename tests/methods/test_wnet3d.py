"""The method `wnet3d`: its loss, which class is the foreground, its scores, pictures and advice."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import ndimage
from torch.nn import functional

from morula.decoders.statistics import ChannelStatistics
from morula.losses import soft_ncuts, soft_ncuts_pairwise
from morula.methods.object_options import ObjectOptions
from morula.methods.unlabelled import advice_on_balance, image_warnings
from morula.methods.wnet3d import WNet3D
from morula.methods.wnet3d_loss import smoothed
from morula.methods.wnet3d_options import Options
from morula.testing.errors import option_codes


def method(ndim=3, objects=None, **options):
    return WNet3D(Options(**options), objects or ObjectOptions(), ndim=ndim, spacing=(1.0,) * ndim)


def batch(ndim=3, classes=2):
    generator = torch.Generator().manual_seed(0)
    shape = (2, 1, *(6, 9, 8)[:ndim])
    image = 100 * torch.rand(shape, generator=generator)
    outputs = {
        "classes": torch.randn((2, classes, *shape[2:]), generator=generator),
        "reconstruction": 50 * torch.randn(shape, generator=generator),
    }
    return outputs, {"image": image, "weights": torch.ones(shape)}


def values(parts):
    return {name: float(sums.value(sums.parts)) for name, sums in parts.items()}


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("ncuts", ["class_mean", "pairwise"])
def test_the_loss_is_both_parts_with_the_documented_weights(ndim, ncuts):
    outputs, given = batch(ndim)
    widths = {"intensity_sigma": 30.0, "spatial_sigma": 2.0, "radius": 3}
    parts = values(method(ndim, ncuts=ncuts, **widths).loss(outputs, given))
    cuts = {"class_mean": soft_ncuts, "pairwise": soft_ncuts_pairwise}[ncuts](given["image"], outputs["classes"].softmax(1), **widths)
    assert parts["ncuts"] == pytest.approx(0.5 * float(cuts), rel=1e-5)
    assert parts["reconstruction"] == pytest.approx(5e-3 * float(functional.mse_loss(outputs["reconstruction"], given["image"])), rel=1e-5)


def test_bce_compares_on_the_scale_of_0_to_1():
    outputs, given = batch()
    parts = values(method(reconstruction="bce", reconstruction_weight=0.5).loss(outputs, given))
    expected = functional.binary_cross_entropy_with_logits(outputs["reconstruction"], given["image"] / 100)
    assert parts["reconstruction"] == pytest.approx(0.5 * float(expected), rel=1e-5)


@pytest.mark.parametrize(
    "changed", [{"intensity_sigma": 50.0}, {"spatial_sigma": 1.0}, {"radius": 1}, {"ncuts_weight": 1.0}, {"ncuts": "pairwise"}]
)
def test_every_parameter_of_the_cuts_is_obeyed(changed):
    outputs, given = batch()
    base = {"intensity_sigma": 20.0}
    assert values(method(**base).loss(outputs, given))["ncuts"] != values(method(**{**base, **changed}).loss(outputs, given))["ncuts"]


def test_mirrored_voxels_are_not_rebuilt():
    outputs, given = batch()
    given["weights"][..., 4:] = 0
    cut = method().loss(outputs, given)["reconstruction"]
    expected = 5e-3 * functional.mse_loss(outputs["reconstruction"][..., :4], given["image"][..., :4])
    assert float(cut.value(cut.parts)) == pytest.approx(float(expected), rel=1e-5)


def test_smoothing_is_that_of_an_image_before_the_losses():
    spacing = (2.0, 1.0, 1.0)
    image = 100 * torch.rand((2, 1, 8, 20, 20), generator=torch.Generator().manual_seed(2))
    expected = [ndimage.gaussian_filter(each[0].numpy(), [0.75, 1.5, 1.5], mode="nearest") for each in image]
    np.testing.assert_allclose(smoothed(image, 1.5, spacing)[:, 0].numpy(), expected, atol=0.05)
    outputs, given = batch()
    plain, wide = (values(method(intensity_sigma=30.0, smoothing=width).loss(outputs, given)) for width in (0.0, 2.0))
    assert all(plain[name] != wide[name] for name in plain)


@pytest.mark.parametrize("value", [0.0, 100.0])
def test_a_constant_patch_gives_finite_gradients(value):
    outputs, given = batch()
    given["image"] = torch.full_like(given["image"], value)
    outputs = {name: tensor.requires_grad_() for name, tensor in outputs.items()}
    parts = method().loss(outputs, given)
    sum(sums.value(sums.parts) for sums in parts.values()).backward()
    assert all(bool(tensor.grad.isfinite().all()) for tensor in outputs.values())


def predicted(order=(0, 1, 2)):
    """Three classes in strips: background, halo and bright objects, in this order of the channels."""
    strips = np.zeros((3, 4, 12), np.float32)
    strips[0, :, :8] = strips[1, :, 8:10] = strips[2, :, 10:] = 1
    image = np.where(strips[2] > 0, 90, np.where(strips[1] > 0, 20, 2)).astype(np.float32)[None]
    return strips[list(order)], image


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_the_brightest_class_is_the_foreground_and_it_is_told(order):
    prediction, image = predicted(order)
    settled, told = method(2, classes=3).settle(prediction, lambda: image)
    np.testing.assert_array_equal(settled, prediction[[order.index(2)]])
    assert len(told) == 1
    assert f"class {order.index(2)} is the foreground" in told[0]
    assert "90.0" in told[0]


def test_a_stated_foreground_is_taken():
    prediction, image = predicted()
    settled, told = method(2, classes=3, foreground=(1, 2)).settle(prediction, lambda: image)
    np.testing.assert_array_equal(settled[0], prediction[1] + prediction[2])
    assert told == []
    with pytest.raises(ValidationError) as caught:
        Options(classes=3, foreground=3)
    assert option_codes(caught.value) == ["wnet3d.unknown_class"]


def test_the_random_field_is_off_until_it_is_asked_for():
    prediction, image = predicted()
    prediction = 0.6 * prediction + 0.4 / 3
    prediction[:, 1, 11] = prediction[[2, 1, 0], 1, 11]  # one voxel of the bright strip taken for background
    plain, refined = (method(2, classes=3, crf=crf).settle(prediction, lambda: image)[0] for crf in (None, {}))
    assert plain[0, 1, 11] < 0.5 < refined[0, 1, 11]


def test_without_the_image_the_rarest_class_is_the_foreground():
    prediction, _ = predicted()
    settled, _ = method(2, classes=3).settle(prediction, None)
    assert settled.mean() == pytest.approx(2 / 12)


@pytest.mark.parametrize("decoder", [None, "voronoi_otsu", "seeded_watershed", "connected_components", "watershed"])
def test_every_decoder_separates_two_objects(decoder):
    chosen = method(2, objects=ObjectOptions(decoder=decoder))
    prediction = np.zeros((1, 20, 40), np.float32)
    prediction[0, 5:14, 5:14] = prediction[0, 6:15, 25:35] = 0.95
    objects = chosen.decode(prediction, chosen.fit(ChannelStatistics.of(prediction)))
    assert len(objects) == 2
    assert objects.labels[9, 9] != objects.labels[9, 30]


def test_brightness_separates_objects_of_flat_probability():
    image = np.zeros((1, 11, 30), np.float32)
    image[0, 3:8, 3:13], image[0, 3:8, 13:27] = 90, 80
    image[0, 3:8, 12:14] = 40
    prediction = np.stack([image[0] == 0, image[0] > 0]).astype(np.float32)
    counts = []
    for part_by in ("probability", "brightness"):
        chosen = method(2, part_by=part_by)
        settled, _ = chosen.settle(prediction, lambda: image)
        assert settled.shape == (1 + (part_by == "brightness"), 11, 30)
        np.testing.assert_array_equal(settled[0], prediction[1])
        counts.append(len(chosen.decode(settled, chosen.fit(ChannelStatistics.of(settled)))))
    assert counts == [1, 2]
    assert len(method(2, part_by="brightness").settle(prediction, None)[0]) == 1  # without the image, by the probability


def test_scores_hold_3d_slices_and_the_foreground():
    truth = np.zeros((4, 10, 10), np.uint16)
    truth[:, 1:4, 1:4], truth[:, 6:9, 6:9] = 1, 2
    result = truth.copy()
    result[2:][result[2:] == 2] = 0  # half of an object: missed in 3D, half of its planes found
    result[result == 2] = 0
    result[:2, 6:9, 6:9] = 2
    rows = method(thresholds=(0.6,)).score_rows({"a": method(thresholds=(0.6,)).score(truth, result)})
    assert [row["image"] for row in rows] == ["a", "pooled"]
    assert rows[0]["f1"] == pytest.approx(0.5)
    assert rows[0]["slice_f1"] == pytest.approx(2 * 6 / (8 + 6))
    assert rows[0]["foreground_dice"] == pytest.approx(2 * 54 / (72 + 54))
    assert rows[1]["slice_f1"] == rows[0]["slice_f1"]


def test_the_preview_is_a_strip_of_five_pictures():
    outputs, given = batch()
    strip = method().preview(given, outputs)["wnet3d"]
    assert strip.shape == (9, 5 * 8 + 4 * 2)
    assert 0 <= strip.min() <= strip.max() <= 1
    labels = strip[:, 30:38]
    np.testing.assert_array_equal(labels, outputs["classes"][0].argmax(0)[3])


def epochs(ncuts, reconstruction, weights=(0.5, 5e-3)):
    return [
        {"loss": 1.0, "ncuts": c, "reconstruction": r, "loss_ncuts": weights[0] * c, "loss_reconstruction": weights[1] * r}
        for c, r in zip(ncuts, reconstruction, strict=True)
    ]


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        (epochs([0.9, 0.7, 0.5, 0.4, 0.4, 0.35], [80, 70, 60, 50, 45, 40]), None),
        (epochs([0.9, 0.5, 0.4, 0.6, 0.8, 0.95], [80, 70, 60, 50, 45, 40]), "diverge"),
        (epochs([0.9, 0.7, 0.5, 0.4, 0.3, 0.2], [60, 55, 58, 62, 66, 70]), "dominate"),
        (epochs([0.9, 0.8, 0.7, 0.7, 0.7, 0.7], [8, 7, 6, 5, 4, 1]), "dominate"),
        (epochs([0.9] * 12, [80.0] * 11 + [79.0]), "hardly improves"),
    ],
)
def test_advice_follows_the_losses(history, expected):
    said = advice_on_balance(history, "mse")
    assert said == [] if expected is None else any(expected in text for text in said)


def test_figures_hold_both_losses_and_their_balance():
    told = method().epoch_figures({"loss_ncuts": 0.3, "loss_reconstruction": 0.1, "validation_loss_ncuts": 0.2})
    assert told == pytest.approx({"ncuts": 0.6, "reconstruction": 20.0, "balance": 0.75, "validation_ncuts": 0.4})


def scene(shape=(16, 64, 64), spots=30, radius=3, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.normal(10, 1, shape).astype(np.float32)
    for centre in rng.integers(0, shape, (spots, 3)):
        near = ((np.indices(shape) - centre[:, None, None, None]) ** 2).sum(axis=0) <= radius**2
        image[near] += 40
    return image[None]


def test_images_that_the_document_says_to_avoid_are_warned_of():
    assert image_warnings(scene(), "good.tif", (1, 1, 1)) == []
    large = scene()
    large[:, :, :24, :24] += 60
    assert "very large bright region" in image_warnings(large, "large.tif", (1, 1, 1))[0]
    assert "almost empty" in image_warnings(scene(spots=1), "bare.tif", (1, 1, 1))[0]
    half = scene((16, 96, 96), spots=60)
    half[:, :, :, 32:] = np.random.default_rng(1).normal(10, 1, half[:, :, :, 32:].shape)
    assert "large empty regions" in image_warnings(half, "half.tif", (1, 1, 1))[0]
    assert "is empty" in image_warnings(np.ones((1, 8, 8)), "none.tif", (1, 1))[0]


def test_a_hole_of_one_value_does_not_hide_the_objects():
    image, bare = scene(), scene(spots=1)
    for each in (image, bare):
        each[..., : each.shape[-1] // 4] = 0
    assert image_warnings(image, "hole.tif", (1, 1, 1)) == []
    assert "almost empty" in image_warnings(bare, "bare.tif", (1, 1, 1))[0]
