"""Stored models come back equal, and are refused in words when they are not what they say."""

import copy
import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from morula.core.errors import FileWriteError, ModelError
from morula.nn import NETWORKS
from morula.nn.build import build_network, to_channels_last
from morula.nn.weights import SIDECAR, WEIGHTS, fill, load_state_dict_file, load_weights, read_sidecar, save_weights
from morula.testing.errors import raises

HEADS = {"F": 1, "input": 2}  # a head may bear any name


def network(kind="unet", ndim=2, **options):
    torch.manual_seed(0)
    return build_network({"kind": kind, "features": (4, 8), **options}, ndim, 1, HEADS)


def stored(folder, net=None, **sidecar):
    net = net or network()
    save_weights(folder, net, {"voxel_size": {"y": 0.5, "x": 0.5, "unit": "um"}, **sidecar}, torch.rand(1, 1, *(10,) * net.ndim))
    return net


def change_sidecar(folder, **changes):
    path = folder / SIDECAR
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def rehashed(folder, tensors):
    """Weights replaced together with their checksum, as another program would."""
    import hashlib

    save_file(tensors, folder / WEIGHTS)
    content = (folder / WEIGHTS).read_bytes()
    change_sidecar(folder, weights={"file": WEIGHTS, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)})


@pytest.mark.parametrize("kind", ["unet", "resunet", "ordered_unet"])  # others survive it by their contract
@pytest.mark.parametrize("ndim", [2, 3])
def test_what_was_stored_comes_back(tmp_path, kind, ndim):
    normed = {"order": "cbr"} if kind == "ordered_unet" else {"norm": "batch"}
    net = to_channels_last(network(kind, ndim, kernels=(3, (1,) * (ndim - 1) + (3,)), **normed))
    net(torch.rand(2, 1, *(8,) * ndim))  # moves the running statistics
    stored(tmp_path / "model", net, channels=["F"])
    assert net.training
    loaded = load_weights(tmp_path / "model")
    assert type(loaded.network) is type(net)
    assert not loaded.network.training
    assert loaded.sidecar["channels"] == ["F"]
    assert loaded.sidecar["voxel_size"]["y"] == 0.5
    assert loaded.sidecar["torch"] == torch.__version__
    assert loaded.network.state_dict().keys() == net.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(loaded.network.state_dict().values(), net.state_dict().values(), strict=True))
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [SIDECAR, WEIGHTS]


def test_a_network_that_enlarges_rounding_errors_is_read_again(tmp_path):
    net = network("hrnet", features=(18, 36, 72, 144), norm="instance")
    image = torch.rand(1, 1, 16, 16)  # one voxel at the coarsest level
    with torch.no_grad():
        differs = (net.eval()(image)["F"] - to_channels_last(copy.deepcopy(net))(image)["F"]).abs().max()
    assert differs > 1e-2
    save_weights(tmp_path, to_channels_last(net), {}, image)
    assert load_weights(tmp_path).network.kind == "hrnet"


def test_storing_again_replaces_both_files(tmp_path):
    stored(tmp_path)
    net = stored(tmp_path, network("resunet"))
    assert type(load_weights(tmp_path).network) is type(net)


def test_the_job_models_options_can_be_stored(tmp_path):
    from morula.core.variants import variant_types

    options = variant_types(NETWORKS)["resunet"](kind="resunet", features=(4, 8))
    stored(tmp_path, build_network(options, 2, 1, HEADS))
    assert load_weights(tmp_path).network.kind == "resunet"


@pytest.mark.parametrize("change", [lambda b: b[:-7], lambda b: b[:100] + b"\x00\xff" + b[102:], lambda b: b""])
def test_damaged_weights(tmp_path, change):
    stored(tmp_path)
    path = tmp_path / WEIGHTS
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ModelError) as caught:
        load_weights(tmp_path)
    assert caught.value.code in ("weights.size", "weights.checksum")
    assert caught.value.file == str(path)


def test_weights_of_another_model(tmp_path):
    stored(tmp_path / "a")
    net = network()
    net.outputs["F"].bias.data += 1
    stored(tmp_path / "b", net)
    (tmp_path / "a" / WEIGHTS).write_bytes((tmp_path / "b" / WEIGHTS).read_bytes())
    with raises("weights.checksum"):
        load_weights(tmp_path / "a")


def test_no_safetensors(tmp_path):
    stored(tmp_path)
    import hashlib

    (tmp_path / WEIGHTS).write_bytes(b"hello there")
    change_sidecar(tmp_path, weights={"file": WEIGHTS, "sha256": hashlib.sha256(b"hello there").hexdigest(), "bytes": 11})
    with raises("weights.no_safetensors"):
        load_weights(tmp_path)


def test_other_tensors(tmp_path):
    stored(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    del tensors["outputs.F.bias"]
    tensors["outputs.G.bias"] = torch.zeros(1)
    tensors["outputs.F.weight"] = torch.zeros(2, 4, 1, 1)
    rehashed(tmp_path, tensors)
    with raises("weights.other_network", file=str(tmp_path / WEIGHTS)) as caught:
        load_weights(tmp_path)
    for name in ("outputs.F.bias", "outputs.G.bias", "outputs.F.weight", "(2, 4, 1, 1)"):
        assert name in caught.error.rule


def test_many_problems_are_counted():
    with raises("weights.other_network", file="nowhere") as caught:
        fill(network(), {}, source="nowhere")
    assert caught.error.rule.count(";") == 5  # five are named, the rest are counted


def test_changed_output(tmp_path):
    stored(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    tensors["outputs.F.bias"] += 0.01
    rehashed(tmp_path, tensors)
    with raises("weights.test_output", key="F"):
        load_weights(tmp_path)


def test_missing_test_data(tmp_path):
    stored(tmp_path)
    rehashed(tmp_path, {name: values for name, values in load_file(tmp_path / WEIGHTS).items() if name != "test:output:F"})
    with raises("weights.no_test_data"):
        load_weights(tmp_path)


def test_newer_format(tmp_path):
    stored(tmp_path)
    change_sidecar(tmp_path, format=99, morula="9.0.0", network={"new": 1})
    with raises("model.newer_format", value=99):
        load_weights(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": "x"}', '{"format": 1}', '{"format": 1, "network": 3}', "\xff"])
def test_damaged_description(tmp_path, text):
    stored(tmp_path)
    (tmp_path / SIDECAR).write_bytes(text.encode("latin-1"))
    with raises("model.damaged", file=str(tmp_path / SIDECAR)):
        read_sidecar(tmp_path)


@pytest.mark.parametrize(("key", "value"), [("kind", "unetx"), ("options", {"colour": 1}), ("options", {"features": [20000, 40000]})])
def test_unknown_network(tmp_path, key, value):
    stored(tmp_path)
    described = read_sidecar(tmp_path)["network"]
    change_sidecar(tmp_path, network={**described, key: value})
    with raises("model.unknown_network"):
        load_weights(tmp_path)


def test_missing_files(tmp_path):
    with raises("model.missing", file=str(tmp_path / SIDECAR)):
        load_weights(tmp_path)
    stored(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    with raises("model.weights_missing", file=str(tmp_path / WEIGHTS)):
        load_weights(tmp_path)


def test_failed_save_keeps_the_old_model(tmp_path):
    stored(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with raises("model.reserved_key", key="sidecar", value=["format"]):
        stored(tmp_path, format=3)
    with raises("weights.not_finite"):
        save_weights(tmp_path, network(), {}, torch.full((1, 1, 8, 8), torch.nan))
    with pytest.raises(TypeError):
        stored(tmp_path, thing=object())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileWriteError):
        stored(tmp_path / "file" / "model")


def test_old_style_checkpoints(tmp_path):
    net = network()
    for name, content in (
        ("bare", net.state_dict()),
        ("nested", {"model_state_dict": net.state_dict(), "num_epochs": 3, "best_eval_score": 0.5}),
        ("lightning", {"state_dict": dict(net.state_dict()), "epoch": 1}),
    ):
        torch.save(content, tmp_path / name)
        loaded = load_state_dict_file(tmp_path / name)
        assert all(torch.equal(values, net.state_dict()[key]) for key, values in loaded.items())
        assert loaded.keys() == net.state_dict().keys()
        fill(network(), loaded, source=name)


class Evil:
    def __reduce__(self):
        return print, ("this must not run",)


def test_checkpoints_that_could_run_code_are_refused(tmp_path, capsys):
    torch.save({"model": Evil()}, tmp_path / "evil.pth")
    torch.save(network(), tmp_path / "whole.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.pth", "whole.pth", "plain.pth"):
        with raises("checkpoint.objects", file=str(tmp_path / name)):
            load_state_dict_file(tmp_path / name)
    assert "must not run" not in capsys.readouterr().out


def test_what_is_no_checkpoint(tmp_path):
    with raises("checkpoint.missing"):
        load_state_dict_file(tmp_path / "none.pth")
    torch.save({"model_state_dict": network().state_dict()}, tmp_path / "cut.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "cut.pth").read_bytes()[:-2000])
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "text.pth").write_text("some words, no tensors")
    torch.save({"epoch": 3}, tmp_path / "numbers.pth")
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    for name in ("cut.pth", "empty.pth", "text.pth", "numbers.pth", "list.pth"):
        with pytest.raises(ModelError) as caught:
            load_state_dict_file(tmp_path / name)
        assert caught.value.file == str(tmp_path / name)
        assert caught.value.code in ("checkpoint.damaged", "checkpoint.no_weights", "checkpoint.objects")
