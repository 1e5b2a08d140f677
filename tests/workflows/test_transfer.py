"""Training that starts from a former run: what is loaded, what is reported, and what is rejected."""

import json

import numpy as np
import pytest
import torch

import morula
from morula.core.events import Logged
from morula.nn.build import build_network
from morula.nn.weights import save_weights
from morula.testing.errors import raises
from morula.training.optimisers import build_optimiser, freeze
from morula.training.options import AdamW
from morula.workflows.transfer import planned_transfer, start_from

TINY = {"width": 8, "layers": 2, "heads": 2, "token": 4}
MAE = {"kind": "mae", **TINY, "decoder_width": 8, "decoder_layers": 1, "decoder_heads": 2}


def network(ndim=2, in_channels=1, outputs=None, seed=0, **options):
    torch.manual_seed(seed)
    return build_network(options, ndim, in_channels, outputs or {"image": in_channels})


def stored(folder, net):
    save_weights(folder / "model", net, {}, torch.rand(1, net.in_channels, *(16,) * net.ndim))
    return folder


@pytest.mark.parametrize("ndim", [2, 3])
def test_masked_autoencoder_encoder_transfers_to_unetr(tmp_path, ndim):
    former = network(ndim, **MAE)
    later = network(ndim, outputs={"channels": 2}, seed=1, kind="unetr", features=4, **TINY)
    transfer = start_from(later, stored(tmp_path, former))
    assert transfer.encoder_share == 1
    assert all(torch.equal(values, former.state_dict()[name]) for name, values in later.encoder.state_dict(prefix="encoder.").items())
    assert set(transfer.skipped) == {name for name in later.state_dict() if not name.startswith("encoder.")}
    assert set(transfer.unused) == {name for name in former.state_dict() if not name.startswith("encoder.")}
    said = transfer.lines(tmp_path)
    assert "100.0% of the encoder" in said[0]
    assert any(line.startswith("initialised randomly, not in the earlier run: ") for line in said)


def test_other_heads_transfer_the_rest(tmp_path):
    former, later = (network(outputs=outputs, seed=seed, features=(4, 8)) for outputs, seed in (({"image": 1}, 0), ({"channels": 3}, 1)))
    transfer = start_from(later, stored(tmp_path, former))
    assert set(transfer.skipped) == {"outputs.channels.weight", "outputs.channels.bias"}
    assert set(transfer.unused) == {"outputs.image.weight", "outputs.image.bias"}


def test_position_grids_are_interpolated(tmp_path):
    former = network(**MAE, position="stored", grid=(4, 4))
    later = network(outputs={"F": 1}, seed=1, kind="unetr", features=4, **TINY, position="stored", grid=(2, 4))
    transfer = start_from(later, stored(tmp_path, former))
    assert transfer.interpolated == ("encoder.positions.stored (4 x 4 to 2 x 4)",)
    before, after = (net.encoder.positions.stored.detach().reshape(-1, 4, 8) for net in (former, later))
    torch.testing.assert_close(after, (before[0::2] + before[1::2]) / 2)


def test_transfer_of_less_than_half_is_an_error(tmp_path):
    former = stored(tmp_path, network(features=(4, 8, 8)))
    with raises("transfer.too_little"):
        planned_transfer(network(features=(6, 12, 12)), former)
    other = network(in_channels=2, features=(4, 8, 8), outputs={"image": 1})  # only the first convolution differs
    assert 0.5 < planned_transfer(other, former).encoder_share < 1


def test_parts_are_frozen_and_learn_at_their_own_rates():
    net = network(features=(4, 8))
    names = freeze(net, ["encoder.0.*"])
    assert names
    assert all(name.startswith("encoder.0.") for name in names)
    optimiser = build_optimiser(net, AdamW(lr=1e-2), {"encoder.*": 0.1, "outputs.*": 3.0})
    rates = {id(weight): group["lr"] for group in optimiser.param_groups for weight in group["params"]}
    found = {name: rates.get(id(weight)) for name, weight in net.named_parameters()}
    assert optimiser.param_groups[0]["lr"] == 1e-2
    for name, rate in found.items():
        part = name.split(".")[0]
        expected = None if name in names else {"encoder": 1e-3, "outputs": 3e-2}.get(part, 1e-2)
        assert rate == (expected if expected is None else pytest.approx(expected))
    before = {name: values.clone() for name, values in net.state_dict().items()}
    net.train()
    net(torch.rand(2, 1, 16, 16))["image"].square().mean().backward()
    optimiser.step()
    changed = {name for name, values in net.state_dict().items() if not torch.equal(values, before[name])}
    still = [name for name in before if name.startswith("encoder.0.") and not name.endswith("num_batches_tracked")]
    assert not changed & set(still)
    assert any(name.startswith("encoder.1.") for name in changed)


def test_patterns_that_fit_nothing_are_refused():
    with raises("training.pattern_without_weights", key="training.freeze", value="encoders.*"):
        freeze(network(features=(4, 8)), ["encoders.*"])
    with raises("training.pattern_without_weights", key="training.rates", value="x"):
        build_optimiser(network(features=(4, 8)), AdamW(), {"x": 0.5})


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(3):
        labels = np.zeros((32, 32), np.uint16)
        labels[4:14, 4:14], labels[18:28, 16:29] = 1, 2
        morula.write(tmp_path / "labels" / f"{number}.tif", labels, axes="YX", labels=True)
        morula.write(
            tmp_path / "raw" / f"{number}.tif", (500 * (labels > 0) + rng.normal(100, 9, labels.shape)).astype(np.uint16), axes="YX"
        )
    return tmp_path


def job(folder, *, labels=True, **changes):
    train = {"raw": f"{folder}/raw", **({"labels": f"{folder}/labels"} if labels else {})}
    base = {
        "images": {"train": train, "validate": None},
        "sampling": {"patch": [16, 16], "batch": 2},
        "training": {"epochs": 1, "steps_per_epoch": 2},
        "augment": "none",
    }
    return {**base, **changes}


def test_two_stages_from_end_to_end(images):
    first, second = images / "pretrained", images / "run"
    list(morula.train(job(images, labels=False, method={"kind": "masked_autoencoder"}, network=MAE), output=first))
    later = job(
        images,
        method={"kind": "channels", "channels": ["F", "C"]},
        network={"kind": "unetr", "from": str(first), "features": 4},
        training={"epochs": 1, "steps_per_epoch": 2, "freeze": ["encoder.*"]},
    )
    told = [event.message for event in morula.train(later, output=second) if isinstance(event, Logged)]
    assert any("100.0% of the encoder" in text for text in told)
    model = morula.load(second)
    assert type(model.network).__name__ == "UNETR"
    assert model.network.options.width == 8  # the encoder's sizes are those of the former run
    weights = morula.load(first).network.encoder.state_dict()
    assert all(torch.equal(values, weights[name]) for name, values in model.network.encoder.state_dict().items())
    record = json.loads((second / "provenance.json").read_text())
    assert "tensors taken" in record["started_from"]["weights_to_start_from"]
    assert "initialised randomly, not in the earlier run" in record["started_from"]["and_the_others"]
    assert record["drawn_anew"]["outputs.channels.bias"] == "not in the earlier run"


@pytest.mark.parametrize(
    ("network_options", "training", "code"),
    [
        ({"kind": "resunet"}, {}, "transfer.other_network"),
        ({"features": [5, 7]}, {}, "transfer.too_little"),
        ({}, {"freeze": ["encodr.*"]}, "training.pattern_without_weights"),
        ({}, {"rates": {"decodr.*": 0.1}}, "training.pattern_without_weights"),
    ],
)
def test_a_later_job_never_becomes_another_network(images, network_options, training, code):
    former = stored(images / "former", network(features=(4, 8)))
    changes = {"network": {**network_options, "from": str(former)}, "training": {"epochs": 1, "steps_per_epoch": 1, **training}}
    with raises(code):
        list(morula.train(job(images, method={"kind": "channels"}, **changes), output=images / "run"))
    assert not (images / "run").exists()
