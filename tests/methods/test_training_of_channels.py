"""Every set of channels is learned: a small network, some steps on one simulated image, and objects come out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from morula.decoders.statistics import ChannelStatistics
from morula.jobs.load import load_job
from morula.methods import METHODS
from morula.methods.loss_sums import loss_sums
from morula.nn.build import build_network
from morula.testing.errors import raises
from morula.testing.simulate import simulate


def made(ndim=2, process=None, **options):
    document = {"images": {"train": {"raw": "a", "labels": "b"}}, "method": {"kind": "channels", **options}}
    job = load_job(document | ({"objects": {"decoder": process}} if process else {}))
    return METHODS.load("channels")(job.method, job.objects, ndim=ndim, spacing=(2.0, 1.0, 1.0)[-ndim:])


def learned(method, *, steps, ndim=2, separate=False):
    """Losses of the steps, and the objects of the image that was learned by heart, beside the true ones."""
    shape = (48, 48) if ndim == 2 else (6, 24, 24)
    picture = simulate(shape=shape, n_objects=6 if ndim == 2 else 3, rng=np.random.default_rng(4), spacing=method.spacing)
    labels = picture.labels.astype(np.uint32)
    targets = method.targets(labels)
    image = torch.from_numpy(((picture.image - picture.image.mean()) / picture.image.std()).astype(np.float32))[None, None]
    batch = {"targets": torch.from_numpy(targets.channels)[None], "weights": torch.from_numpy(targets.weights)[None]}
    if targets.instances is not None:
        batch["instances"] = torch.from_numpy(targets.instances.astype(np.int64))[None]
    torch.manual_seed(0)
    network = build_network({"kind": "unet", "features": [8, 16], "separate_decoders": separate}, ndim, 1, method.heads)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    for _ in range(steps):
        loss = sum(sums.total for sums in method.loss(network(image), batch).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    with torch.no_grad():
        prediction = method.activate(network(image))[0].numpy()
    assert np.isfinite(prediction).all()
    return losses, method.decode(prediction, method.fit(ChannelStatistics.of(prediction))), labels


SETS = [
    {"channels": ["F", "C"]},
    {"channels": ["B", "C"], "rebalance": True},
    {"channels": ["F", "P", "Db"], "weights": {"Db": 0.5}},
    {"channels": {"F": {}, "C": {}, "D": {"activation": "tanh"}}, "losses": {"D": "mse"}},
    {"channels": ["F", "H", "V"], "losses": {"H": "smooth_l1"}},
    {"channels": ["F", "C", "Dc", "T", "Dn"]},
    {"channels": {"F": {}, "Db": {"val_type": "discretize"}}, "weights": {"Db": 0.3}},
    {"preset": "affinities"},
    {"preset": "embedseg"},
    {"preset": "stardist"},
]


@pytest.mark.slow
@pytest.mark.parametrize("options", SETS, ids=[str(each.get("preset") or "+".join(each["channels"])) for each in SETS])
def test_the_loss_falls_and_objects_come_out(options):
    method = made(**options)
    losses, objects, labels = learned(method, steps=320 if options.get("preset") == "stardist" else 80)
    assert losses[-1] < 0.6 * losses[0]
    assert len(objects) > 0
    score = method.score(labels, objects.labels)[0]
    assert score.f1 > 0.6


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"preset": "affinities"}, {"preset": "embedseg"}, {"channels": ["F", "C", "Db"]}])
def test_volumes_with_longer_z_are_learned(options):
    method = made(3, **options)
    losses, objects, labels = learned(method, steps=30, ndim=3)
    assert losses[-1] < 0.75 * losses[0]
    assert len(objects) > 0
    if options.get("preset") == "embedseg":  # offsets along every axis are learned before bandwidths are wide enough for several objects
        assert method.score(labels, objects.labels)[0].f1 > 0.8


@pytest.mark.parametrize("separate", [False, True])
def test_channels_of_several_heads_are_put_in_order(separate):
    plain, headed = made(channels=["F", "C", "Db"]), made(channels=["F", "C", "Db"], heads=[["Db"], ["F", "C"]])
    assert headed.heads == {"Db": 1, "F_C": 2}
    logits = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    outputs = {"Db": logits[:, 2:], "F_C": logits[:, :2]}
    torch.testing.assert_close(headed.activate(outputs), plain.activate({"channels": logits}))
    batch = {"targets": torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(1)), "weights": torch.ones(1, 3, 6, 6)}
    one, two = (each.loss(given, batch) for each, given in ((plain, {"channels": logits}), (headed, outputs)))
    assert {name: float(part.total) for name, part in one.items()} == {name: float(part.total) for name, part in two.items()}
    losses, _, _ = learned(headed, steps=5, separate=separate)
    assert losses[-1] < losses[0]


def test_presets_state_channels_losses_and_decoder():
    assert made(preset="embedseg").channels == ("E0", "E1", "E2", "E3", "E4")
    affinities = made(preset="affinities")
    assert len(affinities.channels) == 6
    assert affinities.options.rebalance is None  # balanced, objects on much background come out too large
    assert type(affinities.decoder).__name__ == "MutexWatershed"
    assert type(made(preset="stardist").decoder).__name__ == "StarDist"
    assert made(preset="stardist").options.losses == {"Db": "bce"}
    assert type(made(preset="embedseg").decoder).__name__ == "EmbedSeg"
    assert len(made(3, preset="affinities", channels={"A": {"reach": [1, 5]}}).channels) == 6
    again = load_job(load_job_of(preset="affinities").model_dump(mode="json", by_alias=True))
    assert again.method == load_job_of(preset="affinities").method


@pytest.mark.parametrize("name", ["bce", "dice", "generalized_dice"])
def test_a_joint_loss_is_that_of_one_representation_with_all_channels(name):
    labels = simulate(shape=(32, 32), n_objects=5, rng=np.random.default_rng(1)).labels.astype(np.uint32)
    offsets = [[0, -1], [-1, 0]]
    joint = made(
        channels={"F": {}, "A": {"offsets": offsets}}, losses={"F": name, "A": name}, joint_loss=True, weights={"F": 0.5, "A": 0.5}
    )
    targets = joint.targets(labels)
    logits = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    batch = {"targets": torch.from_numpy(targets.channels)[None], "weights": torch.from_numpy(targets.weights)[None]}
    (value,) = joint.loss({"channels": logits}, batch).values()
    expected = loss_sums(name, logits, batch["targets"], batch["weights"], activation="sigmoid", share=0.5)
    torch.testing.assert_close(value.total, expected.total)


def load_job_of(**options):
    return load_job({"images": {"train": {"raw": "a", "labels": "b"}}, "method": {"kind": "channels", **options}})


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"preset": "embedseg", "channels": ["F", "C"]}, "channels.preset"),
        ({"preset": "embedsag"}, "option.choice"),
        ({"channels": ["F", "C"], "heads": [["F"]]}, "heads.channels"),
        ({"channels": ["E"], "losses": {"E": "l1"}}, "loss.embedding"),
        ({"channels": ["F"], "losses": {"F": "embedseg"}}, "loss.unknown"),
        ({"channels": {"A": {"reach": [1, 1]}}}, "affinity.duplicate"),
        ({"channels": ["F", "C"], "joint_loss": True}, "loss.joint"),
        ({"channels": ["F", "C"], "joint_loss": True, "losses": {"F": "bce", "C": "dice"}}, "loss.joint"),
        ({"channels": ["F"], "joint_loss": True, "losses": {"F": "bce"}, "rebalance": True}, "loss.joint"),
        ({"channels": {"A": {"reach": [1], "neighborhood": "4-connectivity"}}}, "affinity.given_twice"),
    ],
)
def test_wrong_options_are_problems_of_the_job(options, code):
    with raises(code):
        load_job_of(**options)
