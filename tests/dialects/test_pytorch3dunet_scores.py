"""Losses and metrics of pytorch-3dunet: its own numbers where it is right, the right ones where it is not."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from morula.dialects.pytorch3dunet import IgnoredKeyWarning, build_loss, build_metric
from morula.dialects.pytorch3dunet.losses import LOSSES
from morula.dialects.pytorch3dunet.metrics import METRICS
from morula.testing.errors import raises

GOLDEN = Path(__file__).parent.parent / "golden" / "pytorch3dunet"
CASES = json.loads((GOLDEN / "losses_metrics.json").read_text())
MORE = {"WeightedSmoothL1Loss": {"threshold": 0.0, "initial_weight": 0.5}, "GenericAdaptedRandError": {"input_channels": [0]}}


@pytest.fixture(scope="module")
def arrays():
    with np.load(GOLDEN / "losses_metrics.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_original_values_and_gradients(case, arrays):
    prediction, target = (torch.from_numpy(arrays[case[each]].astype(case[f"{each}_dtype"])) for each in ("input", "target"))
    if case["kind"] == "metric":
        assert build_metric(case["config"])(prediction, target) == pytest.approx(case["value"], rel=1e-5)
        return
    prediction.requires_grad_()
    value = build_loss(case["config"])(prediction, target)
    value.backward()
    assert value.item() == pytest.approx(case["value"], rel=1e-5)
    expected = torch.from_numpy(arrays[f"g_{case['name']}"])
    torch.testing.assert_close(prediction.grad.flatten()[::7], expected, rtol=0, atol=1e-4 * case["grad_max"] + 1e-9)


def logits_and_target(name, ignore=None):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((2, 3, 4, 5, 6), generator=generator, dtype=torch.float64)
    if "CrossEntropy" in name:
        target = torch.randint(0, 3, (2, 4, 5, 6), generator=generator)
    else:
        target = (torch.rand(logits.shape, generator=generator) > 0.5).double()
    if ignore is not None:
        target[..., :3] = ignore
    weight = torch.rand(target.shape, generator=generator, dtype=torch.float64) if name.startswith("PixelWise") else None
    return logits, target, weight


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_voxels(name):
    logits, target, weight = logits_and_target(name, ignore=-1)
    loss = build_loss({"name": name, "ignore_index": -1, **MORE.get(name, {})})
    cut = [None if each is None else each[..., 3:] for each in (logits, target, weight)]
    logits.requires_grad_()
    value = loss(logits, target, weight)
    value.backward()
    if name != "WeightedCrossEntropyLoss":  # its class weights come from all of the prediction, as in the original
        assert value.item() == pytest.approx(loss(*cut).item(), rel=1e-12)
    assert not logits.grad[..., :3].any()
    assert logits.grad[..., 3:].any()
    nothing = loss(logits.detach(), torch.full_like(target, -1), weight)
    assert nothing.item() == 0


@pytest.mark.parametrize("name", LOSSES)
def test_parts_add_over_samples(name):
    logits, target, weight = logits_and_target(name)
    loss = build_loss({"name": name, **MORE.get(name, {})})
    whole = loss.sums(logits, target, weight)
    pieces = [loss.sums(logits[i : i + 1], target[i : i + 1], None if weight is None else weight[i : i + 1]) for i in range(2)]
    assert pieces[0].value(pieces[0].parts + pieces[1].parts).item() == pytest.approx(whole.total.item(), rel=1e-9)


@pytest.mark.parametrize(
    ("config", "shares"),
    [
        ({}, (1, 1)),
        ({"alpha": 0.3}, (1, 0.3)),  # 1.9
        ({"alpha": 0.3, "beta": 2.0}, (0.3, 2)),  # the document, 1.8
        ({"alphs": 0.3}, (0.3, 1)),  # up to 1.8.2
        ({"alphs": 0.3, "beta": 2.0}, (0.3, 2)),
        ({"beta": 2.0}, (1, 2)),
    ],
)
def test_bce_dice_in_every_version(config, shares):
    logits, target, _ = logits_and_target("BCEDiceLoss")
    p = logits.sigmoid()
    axes = (0, 2, 3, 4)
    dice = 1 - (2 * (p * target).sum(axes) / (p.square() + target.square()).sum(axes)).mean()
    expected = shares[0] * functional.binary_cross_entropy_with_logits(logits, target) + shares[1] * dice
    assert build_loss({"name": "BCEDiceLoss", **config})(logits, target).item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize(
    ("loss", "target", "expected"),
    [
        ({"name": "DiceLoss", "ignore_index": 255}, [[[0, 1, 255]]], [[True, True, False]]),
        ({"name": "DiceLoss", "ignore_index": 1}, [[[0, 1, 255]]], None),  # a target as well
        ({"name": "DiceLoss", "ignore_index": 9, "skip_last_target": True}, [[[0, 9, 9]], [[0, 9, 1]], [[4, 4, 9]]], [[True, False, True]]),
        ({"name": "CrossEntropyLoss", "ignore_index": 1}, [[0, 1, 2]], [[True, False, True]]),
        ({"name": "CrossEntropyLoss"}, [[0, 1, 2]], None),
    ],
)
def test_voxels_that_a_metric_compares(loss, target, expected):
    channels = torch.tensor(target)[None]
    found = build_loss(loss).scored(torch.zeros(1, 3, 1, 3), channels)
    assert (found if expected is None else found[0, 0].tolist()) == expected


def test_pixel_wise_cross_entropy():
    logits, target, weight = logits_and_target("PixelWiseCrossEntropyLoss")
    classes = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)
    one_hot = functional.one_hot(target, 3).movedim(-1, 1)
    expected = -(weight[:, None] * classes.reshape(1, 3, 1, 1, 1) * one_hot * logits.log_softmax(1)).mean()
    loss = build_loss({"name": "PixelWiseCrossEntropyLoss", "weight": classes.tolist()})
    assert loss(logits, target, weight).item() == pytest.approx(expected.item(), rel=1e-12)
    assert loss(logits, target[:, None], weight[:, None]).item() == pytest.approx(expected.item(), rel=1e-12)
    with raises("loss.weight_missing"):
        loss(logits, target)


def test_foreground_weight_per_channel():
    logits, target, _ = logits_and_target("BCEWithLogitsLoss")
    expected = functional.binary_cross_entropy_with_logits(logits, target, pos_weight=torch.tensor([1.0, 2, 3]).reshape(3, 1, 1, 1))
    assert build_loss({"name": "BCEWithLogitsLoss", "pos_weight": [1, 2, 3]})(logits, target).item() == pytest.approx(expected.item())


def test_generalised_dice_of_an_absent_class():
    logits, target, _ = logits_and_target("GeneralizedDiceLoss")
    target[:, 1] = 0
    logits.requires_grad_()
    build_loss({"name": "GeneralizedDiceLoss"})(logits, target).backward()
    assert logits.grad[:, [0, 2]].abs().max() > 1e-6
    assert logits.grad[:, 1].abs().max() > 1e-6


def test_invalid_losses():
    logits, target, _ = logits_and_target("MSELoss")
    with raises("loss.no_channel_to_skip"):
        build_loss({"name": "MSELoss", "skip_last_target": True})(logits, target[:, :1])
    with raises("job.unknown_name"):
        build_loss({"name": "diceloss"})
    with raises("option.missing", key="loss.threshold"):
        build_loss({"name": "WeightedSmoothL1Loss", "initial_weight": 1.0})
    with pytest.warns(IgnoredKeyWarning, match=r"loss\.beta"):
        build_loss({"name": "DiceLoss", "beta": 1.0})


# --- metrics -----------------------------------------------------------------------------------------------------------------------------


def grid(ndim=3, background=True):
    """Cubes of 6 voxels, walls of one voxel between them where there is background."""
    labels = np.zeros((24,) * ndim, np.int64)
    for number, corner in enumerate(np.ndindex(*(3,) * ndim), start=1):
        labels[tuple(slice(8 * c, 8 * c + 7 + (not background)) for c in corner)] = number
    return labels


def walls(labels):
    return torch.from_numpy((labels == 0).astype(np.float32))[None, None]


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("name", [name for name in METRICS if "Rand" in name or "Precision" in name or name == "Accuracy"])
def test_a_perfect_prediction_of_objects(name, ndim):
    labels = grid(ndim)
    target = torch.from_numpy(labels)[None, None]
    metric = build_metric({"name": name, **MORE.get(name, {})})
    boundary = walls(labels)
    inside = 1 - boundary
    prediction = inside if name.startswith(("Blobs", "Generic")) else boundary
    if name == "BlobsBoundaryAveragePrecision":
        prediction = torch.cat([inside, boundary], dim=1)
    perfect = metric(prediction, target)
    assert perfect == (1 if metric.native(2, exclusive=False).monitor.higher_is_better else 0)
    merged = metric(torch.cat([torch.ones_like(inside), torch.zeros_like(inside)], dim=1) if prediction.shape[1] == 2 else
                    torch.full_like(prediction, float(prediction is inside)), target)  # fmt: skip
    assert merged < 0.2 if metric.native(2, exclusive=False).monitor.higher_is_better else merged > 0.5


def test_objects_without_background():
    labels = grid(background=False)
    target = torch.from_numpy(labels)[None, None]
    metric = build_metric({"name": "AveragePrecision"})
    assert metric(target, target) == 1
    first = torch.where(target == 1, 0, target)
    assert metric(first, target) == pytest.approx(26 / 27)


def test_no_objects():
    nothing, empty = torch.zeros(1, 1, 4, 8, 8), torch.zeros(1, 1, 4, 8, 8, dtype=torch.int64)
    assert build_metric({"name": "BlobsAveragePrecision"})(nothing, empty) == 1
    assert build_metric({"name": "BlobsAveragePrecision"})(nothing + 1, empty) == 0
    assert build_metric({"name": "BoundaryAdaptedRandError"})(nothing, empty) == 0
    both = torch.cat([empty, torch.from_numpy(grid())[None, None, :4, :8, :8]])
    shattered = (torch.arange(8) % 2).float().expand(2, 1, 4, 8, 8)
    alone = build_metric({"name": "BoundaryAdaptedRandError"})(shattered[1:], both[1:])
    assert build_metric({"name": "BoundaryAdaptedRandError"})(shattered, both) == alone  # the empty sample is left out


def test_small_objects_are_left_out():
    target = torch.zeros(1, 1, 8, 8, dtype=torch.int64)
    target[..., :4, :4], target[..., 6, 6] = 1, 2
    prediction = (target == 1).float()
    prediction[..., 0, 7] = 1
    assert build_metric({"name": "BlobsAveragePrecision", "min_instance_size": 4})(prediction, target) == 1
    assert build_metric({"name": "BlobsAveragePrecision"})(prediction, target) == pytest.approx(1 / 3)


def test_mean_iou():
    probabilities = torch.eye(3)[:, :, None, None].movedim(0, 2).reshape(1, 3, 3, 1)
    assert build_metric(None).name == "MeanIoU"
    assert build_metric({})(probabilities, torch.tensor([[[0], [1], [2]]])) == 1
    assert build_metric({})(probabilities, torch.tensor([[[0], [257], [2]]])) == 0.5  # 257 is not 1
    ignoring = build_metric({"name": "MeanIoU", "ignore_index": 9})
    assert ignoring(probabilities, torch.tensor([[[0], [9], [2]]])) == 1
    assert build_metric({"name": "MeanIoU", "skip_channels": [1]})(probabilities, torch.tensor([[[0], [0], [2]]])) == 1
    assert build_metric({})(probabilities[:, 1:2], torch.tensor([[[0], [1], [0]]])) == 1
    with raises("metric.no_class"):
        build_metric({"name": "MeanIoU", "skip_channels": [1, 2]})(probabilities, torch.tensor([[[0], [1], [2]]]))


def test_psnr_of_standardised_images():
    target = torch.tensor([[[[-2.0, 2.0]]]])
    assert build_metric({"name": "PSNR"})(target + 0.4, target) == pytest.approx(20, abs=1e-4)
    assert build_metric({"name": "PSNR"})(target, target) == math.inf


def test_invalid_metrics():
    with raises("job.unknown_name"):
        build_metric({"name": "MeanIou"})
    with raises("option.missing", key="eval_metric.input_channels"):
        build_metric({"name": "GenericAdaptedRandError"})
    with raises("metric.shapes_differ"):
        build_metric(None)(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 5))
    with raises("metric.no_such_channel"):
        build_metric({"name": "BlobsAveragePrecision", "input_channel": 3})(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4))
    with pytest.warns(IgnoredKeyWarning, match=r"eval_metric\.threshold"):
        build_metric({"name": "BoundaryAdaptedRandError", "threshold": 0.4})
