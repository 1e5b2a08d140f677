"""What the methods answer, against what can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.segmentation import find_boundaries

from morula.core.errors import JobError
from morula.core.orientation import Orientation
from morula.jobs.load import load_job
from morula.methods import METHODS
from morula.methods.base import Method
from morula.methods.loss_sums import loss_sums
from morula.methods.training_task import advice_on_losses
from morula.testing.errors import raises


def method(kind: str = "channels", *, ndim: int = 2, spacing: tuple[float, ...] | None = None, **options: object) -> Method:
    job = load_job({"images": {"train": {"raw": "a", "labels": "b"}}, "method": {"kind": kind, **options}})
    return METHODS.load(kind)(job.method, job.objects, ndim=ndim, spacing=spacing or (1.0,) * ndim)


LABELS = np.zeros((12, 12), np.uint32)
LABELS[1:6, 1:6] = 1
LABELS[6:11, 1:6] = 70_000


def test_channels_are_named_and_counted() -> None:
    made = method(channels=["F", "C", "Db"])
    assert made.channels == ("F", "C", "Db")
    assert made.heads == {"channels": 3}
    targets = made.targets(LABELS)
    assert targets.channels.shape == targets.weights.shape == (3, 12, 12)


def test_distances_are_scored_inside_if_a_channel_tells_it() -> None:
    with_foreground = method(channels=["F", "Db"]).targets(LABELS)
    assert (with_foreground.weights[0] == 1).all()
    assert (with_foreground.weights[1] == (LABELS > 0)).all()
    assert (method(channels=["Db"]).targets(LABELS).weights == 1).all()
    everywhere = method(channels={"F": {}, "Db": {"mask_values": False}}).targets(LABELS)
    assert (everywhere.weights == 1).all()


def test_what_is_unlabelled_is_not_scored() -> None:
    unlabelled = np.zeros((12, 12), bool)
    unlabelled[:3] = True
    for made in (method(channels=["F", "C", "Db"]), method("semantic", classes=2)):
        weights = made.targets((LABELS > 0).astype(np.uint32), unlabelled=unlabelled).weights
        assert (weights[:, :3] == 0).all()
        assert (weights[:1, 3:] == 1).all()


@pytest.mark.parametrize("shape", [(24, 28), (8, 16, 20)])
def test_unannotated_voxels_are_one_more_object_on_request(shape: tuple[int, ...]) -> None:
    labels = np.kron(np.arange(2 ** len(shape), dtype=np.uint32).reshape((2,) * len(shape)), np.ones([n // 2 for n in shape], np.uint32))
    unlabelled = np.zeros(shape, bool)
    unlabelled[2:-2, 5:9] = True
    made = method(ndim=len(shape), channels=["F", "C", "A"], extrapolate=False).targets(labels, unlabelled=unlabelled)
    known = np.where(unlabelled, np.uint32(99), labels)
    np.testing.assert_array_equal(made.channels[:2], [known > 0, find_boundaries(known)])
    assert (made.weights == ~unlabelled).all()


def test_perfect_outputs_decode_to_the_labels() -> None:
    made = method(channels=["F", "C", "Db"])
    targets = made.targets(LABELS)
    batch = {"targets": torch.from_numpy(targets.channels)[None], "weights": torch.from_numpy(targets.weights)[None]}
    logits = torch.logit(batch["targets"].clamp(1e-4, 1 - 1e-4))
    good = sum(float(sums.total) for sums in made.loss({"channels": logits}, batch).values())
    bad = sum(float(sums.total) for sums in made.loss({"channels": -logits}, batch).values())
    assert good < 0.01 < bad
    prediction = made.activate({"channels": logits})[0].numpy()
    from morula.decoders.statistics import ChannelStatistics

    decoded = made.decode(prediction, made.fit(ChannelStatistics.of(prediction)))
    assert made.score(LABELS, decoded.labels)[0].f1 == 1.0


def test_the_activation_of_training_is_that_of_prediction() -> None:
    made = method(channels=["F", "Db"], losses={"F": "mse"})
    logits = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    activated = made.activate({"channels": logits})
    batch = {"targets": activated, "weights": torch.ones_like(activated)}
    assert sum(float(sums.total) for sums in made.loss({"channels": logits}, batch).values()) == pytest.approx(0, abs=1e-6)


def test_weights_multiply_and_rebalancing_raises_the_rare_class() -> None:
    plain, doubled, even = (
        method(channels=["F"], weights=weights, rebalance=rebalance)
        for weights, rebalance in (({}, False), ({"F": 2.0}, False), ({}, True))
    )
    target = torch.zeros(1, 1, 10, 10)
    target[..., 0, 0] = 1
    batch = {"targets": target, "weights": torch.ones_like(target)}
    silent = {"channels": torch.full_like(target, -3.0)}
    once, twice, balanced = (float(each.loss(silent, batch)["F"].total) for each in (plain, doubled, even))
    assert twice == pytest.approx(2 * once)
    assert balanced > 2 * once


def test_discretised_distances_are_classes_of_a_softmax() -> None:
    made = method(channels={"F": {}, "Db": {"val_type": "discretize"}})
    assert (made.channels, made.heads) == (("F", "Db"), {"channels": 12})
    targets = made.targets(LABELS).channels
    logits = torch.zeros(1, 12, *LABELS.shape)
    logits[:, 0] = torch.from_numpy(targets[0]) * 40 - 20
    logits[:, 1:].scatter_(1, torch.from_numpy(targets[1:])[None].long(), 30.0)
    np.testing.assert_allclose(made.activate({"channels": logits})[0].numpy(), targets, atol=1e-4)
    batch = {"targets": torch.from_numpy(targets)[None], "weights": torch.ones(1, 2, *LABELS.shape)}
    assert sum(float(sums.total) for sums in made.loss({"channels": logits}, batch).values()) < 1e-4
    prior = float(made.loss({"channels": torch.zeros_like(logits)}, batch)["Db"].total)
    assert prior == pytest.approx(np.log(11), rel=1e-5)
    plain = method(channels={"F": {}, "Db": {"val_type": "discretize", "activation": "linear"}})
    assert (plain.heads, plain.representations[1].loss) == ({"channels": 2}, "l1")


@pytest.mark.parametrize("classes", [2, 3])
def test_classes_are_weighted(classes: int) -> None:
    labels = np.zeros((8, 8), np.uint32)
    labels[0, :4] = classes - 1
    each = {}
    for wanted in (None, "balanced", [1.0] * (classes - 1) + [4.0]):
        made = method("semantic", classes=classes, losses={"bce" if classes == 2 else "ce": 1.0}, class_weights=wanted)
        targets = made.targets(labels)
        batch = {"targets": torch.from_numpy(targets.channels)[None], "weights": torch.from_numpy(targets.weights)[None]}
        silent = torch.zeros(1, made.heads["classes"], 8, 8)
        silent[:, 0] = -3.0 if classes == 2 else 3.0  # sure of the background
        (part,) = made.loss({"classes": silent}, batch).values()
        each[str(wanted)] = float(part.total)
    background, foreground = (float(np.log1p(np.exp(x))) for x in (-3.0, 3.0)) if classes == 2 else (np.log1p(2 * np.exp(-3)), 0.0)
    foreground = foreground or background + 3
    shares = {"None": 4 / 64, "balanced": 0.5, str([1.0] * (classes - 1) + [4.0]): 16 / 76}
    for wanted, share in shares.items():
        assert each[wanted] == pytest.approx(share * foreground + (1 - share) * background, rel=1e-5), wanted


def test_class_weights_of_another_number_are_refused() -> None:
    with raises("class_weights.length", key="method.class_weights"):
        method("semantic", classes=3, class_weights=[1, 2])
    with raises("class_weights.length", key="method.classes.class_weights"):
        method(classes={"count": 2, "class_weights": [1, 2, 3]})
    with raises("loss.unknown", value="ce"):
        method(channels=["F", "Db"], losses={"Db": "ce"})


@pytest.mark.parametrize(
    ("channels", "losses", "right"),
    [
        (["F", "H", "V"], {"H": "bce"}, False),
        ({"F": {}, "Db": {"norm": False}}, {"Db": "bce_dice"}, False),
        ({"F": {}, "Db": {"val_type": "discretize"}}, {"Db": "dice"}, False),
        (["D"], {"D": "generalized_dice"}, False),
        (["Db", "R"], {"Db": "bce"}, True),
        (["F", "H", "V"], {"H": "mse", "F": "dice"}, True),
    ],
)
def test_losses_of_probabilities_need_such_channels(channels, losses, right) -> None:
    made = method(channels=channels, losses=losses)
    found = type(made).option_problems(made.options, made.objects)
    assert [(problem.code, problem.key) for problem in found] == ([] if right else [("loss.not_a_probability", "method.losses")])


@pytest.mark.parametrize(
    ("channels", "wrong"),
    [
        ({"F": {"erosion": [1, 1, 1]}}, "F"),
        ({"A": {"neighborhood": "26-connectivity"}}, "A"),
        ({"E": {"n_sigma": 3}}, "E"),
        (["F", "H", "V", "Z"], "Z"),
        (["F", "C"], ""),
    ],
)
def test_options_for_other_dimensions_name_their_channel(channels, wrong) -> None:
    assert [problem.key for problem in method(channels=channels).dimension_problems()] == ([f"method.channels.{wrong}"] if wrong else [])


def test_the_loss_that_others_call_mae_is_named() -> None:
    with raises("loss.unknown", value="mae", remedy="l1 is the mean absolute error."):
        method(losses={"Db": "mae"})


def test_centres_are_balanced_unless_the_job_says_otherwise() -> None:
    target = torch.zeros(1, 2, 20, 20)
    target[..., 10, 10] = 1
    batch = {"targets": target, "weights": torch.ones_like(target)}
    silent = {"channels": torch.full_like(target, -3.0)}
    each = {given: method(channels=["F", "P"], rebalance=given).loss(silent, batch) for given in (None, False, True)}
    figures = {given: {code: float(part.total) for code, part in parts.items()} for given, parts in each.items()}
    assert figures[None]["P"] == figures[True]["P"] > 2 * figures[False]["P"]
    assert figures[None]["F"] == figures[False]["F"] < figures[True]["F"]


@pytest.mark.parametrize(("filled", "balanced"), [(0.2, False), (0.8, True)])
def test_affinities_are_balanced_where_what_parts_is_rare(filled: float, balanced: bool) -> None:
    target = torch.zeros(1, 4, 20, 20)
    target[..., : round(20 * filled), :] = 1
    batch = {"targets": target, "weights": torch.ones_like(target)}
    parted = {"channels": torch.full_like(target, -3.0 if filled < 0.5 else 3.0)}  # the rarer side is wrong
    made = {given: method(channels={"A": {"reach": (1, 3)}}, rebalance=given) for given in (None, False, True)}
    loss = {given: float(each.loss(parted, batch)["A"].total) for given, each in made.items()}
    assert loss[True] > 1.5 * loss[False]
    assert loss[None] == loss[balanced]


def test_reorient_moves_channels_as_their_labels() -> None:
    made = method(channels=["F", "C", "Db"])
    for orientation in made.orientations():
        turned = np.ascontiguousarray(orientation.apply(LABELS))
        assert np.allclose(made.reorient(made.targets(LABELS).channels, orientation), made.targets(turned).channels, atol=1e-6)
    assert len(made.orientations()) == 8
    assert len(method(ndim=3, spacing=(2.0, 1.0, 1.0)).orientations()) == 16
    assert made.orientations()[0] == Orientation.identity(2)


@pytest.mark.parametrize("classes", [2, 4])
def test_semantic_targets_decode_to_themselves(classes: int) -> None:
    made = method("semantic", classes=classes, ndim=3)
    labels = np.random.default_rng(0).integers(0, classes, (4, 5, 6)).astype(np.uint32)
    targets = made.targets(labels)
    assert (made.decode(targets.channels, made.fit(None)).labels == labels).all()  # type: ignore[arg-type]
    rows = made.score_rows({"a": made.score(labels, labels), "b": made.score(labels, 0 * labels)})
    assert all(row["iou"] == 1 for row in rows if row["image"] == "a")
    assert all(row["iou"] < 0.6 for row in rows if row["image"] == "pooled")


def test_semantic_ignores_a_value_and_names_what_is_no_class() -> None:
    made = method("semantic", classes=3, ignore=255)
    labels = np.array([[0, 1, 2, 255]], np.uint32)
    assert made.targets(labels).weights[:, 0, 3].tolist() == [0, 0, 0]
    assert made.score(labels, np.array([[0, 1, 2, 0]])).sum() == 3
    with raises("labels.unknown_class", value=9):
        made.targets(labels + (labels == 2) * 7)


def test_cross_entropy_takes_one_hot_targets() -> None:
    logits = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    classes = torch.randint(0, 3, (2, 4, 4), generator=torch.Generator().manual_seed(1))
    one_hot = torch.nn.functional.one_hot(classes, 3).movedim(-1, 1).float()
    expected = torch.nn.functional.cross_entropy(logits, classes)
    assert float(loss_sums("ce", logits, one_hot, torch.ones_like(one_hot)).total) == pytest.approx(float(expected))


@pytest.mark.parametrize("kind", ["channels", "semantic"])
def test_previews_are_pictures(kind: str) -> None:
    made = method(kind, ndim=3)
    targets = made.targets((LABELS[None].repeat(4, 0) > 0).astype(np.uint32))
    width = len(targets.channels)
    batch = {
        "image": torch.rand(1, 1, 4, 12, 12),
        "targets": torch.from_numpy(targets.channels)[None],
        "weights": torch.from_numpy(targets.weights)[None],
    }
    for picture in made.preview(batch, {next(iter(made.heads)): torch.zeros(1, width, 4, 12, 12)}).values():
        assert picture.ndim == 2
        assert 0 <= picture.min() <= picture.max() <= 1


def test_advice() -> None:
    falling = [{"loss": 1 / (i + 1), "validation_loss": 0.5 + 0.1 * i} for i in range(12)]
    assert "overfitting" in advice_on_losses(falling)[0]
    assert advice_on_losses(falling[:5]) == []
    assert "has not fallen" in advice_on_losses([{"loss": 1.0}] * 10)[0]


@pytest.mark.parametrize(
    ("kind", "options", "code"),
    [
        ("channels", {"channels": ["F"], "losses": {"F": "diec"}}, "loss.unknown"),
        ("channels", {"channels": ["F"], "losses": {"F": "ce"}}, "loss.unknown"),
        ("channels", {"channels": ["F"], "losses": {"C": "bce"}}, "channels.not_predicted"),
        ("semantic", {"losses": {"dicce": 1.0}}, "loss.unknown"),
        ("semantic", {"classes": 3, "names": ["a", "b"]}, "classes.names"),
        ("semantic", {"threshold": "high"}, "option.type"),
    ],
)
def test_options_are_rejected_with_the_job(kind: str, options: dict[str, object], code: str) -> None:
    with raises(code):
        method(kind, **options)


def test_an_unknown_loss_is_reported_beside_other_problems() -> None:
    method = {"kind": "channels", "channels": ["F", "Q"], "losses": {"F": "bcee"}}
    with pytest.raises(JobError) as caught:
        load_job({"images": {"train": {"raw": "a", "labels": "b"}}, "method": method})
    assert [problem.key for problem in caught.value.problems] == ["method.channels.1", "method.losses"]


def test_cross_entropy_of_two_classes_predicts_two_channels() -> None:
    made = method("semantic", classes=2, losses={"ce": 1.0})
    targets = made.targets(np.array([[0, 1, 1]]))
    batch = {"targets": torch.from_numpy(targets.channels[None]), "weights": torch.from_numpy(targets.weights[None])}
    logits = torch.tensor([[[[0.0, 2.0, 0.0]], [[0.0, 0.0, 2.0]]]])
    assert made.heads == {"classes": 2}
    expected = float(torch.nn.functional.cross_entropy(logits, torch.tensor([[[0, 1, 1]]])))
    assert float(made.loss({"classes": logits}, batch)["ce"].total) == pytest.approx(expected)
    prediction = made.activate({"classes": logits})[0].numpy()
    assert made.decode(prediction, {"threshold": 0.5}).labels.tolist() == [[0, 0, 1]]
