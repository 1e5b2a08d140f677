"""Training by job files of pytorch-3dunet: exact counts, checkpoints that both programs load, exact continuation, its curves."""

import copy
import math
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml
from torch.optim import lr_scheduler
from unet3d_jobs import SCHEDULES

import morula
from morula.core.errors import ModelError
from morula.core.events import Epoch, Finished, Warned
from morula.dialects.pytorch3dunet import build_model, load_state_dict
from morula.dialects.pytorch3dunet.checkpoints import OWN, read_checkpoint
from morula.dialects.pytorch3dunet.optimisers import OPTIMIZERS, native_optimiser, native_schedule
from morula.dialects.pytorch3dunet.sections import FormatterOptions
from morula.dialects.pytorch3dunet.tensorboard import tagged
from morula.dialects.pytorch3dunet.train import train3dunet
from morula.jobs.provenance import checksum
from morula.models.load import load
from morula.testing.errors import raises
from morula.training.optimisers import build_optimiser, build_schedule, schedule_names

LISTS = {
    "raw": [{"name": "Standardize"}, {"name": "RandomFlip"}, {"name": "AdditiveGaussianNoise", "execution_probability": 0.5}],
    "label": [
        {"name": "RandomFlip"},
        {"name": "StandardLabelToBoundary", "append_label": True},
        {"name": "ToTensor", "expand_dims": False},
    ],
}


@pytest.fixture
def config(tmp_path):
    """A small job: 12 patches of training, 2 of validation."""
    rng = np.random.default_rng(0)
    for name, depth in (("train.h5", 8), ("val.h5", 4)):
        labels = rng.integers(1, 6, (depth // 2, 8, 12)).repeat(2, 0).repeat(4, 1).repeat(4, 2).astype(np.uint16)
        with h5py.File(tmp_path / name, "w") as file:
            file["raw"] = (rng.normal(0, 0.2, labels.shape) + labels % 2).astype(np.float32)
            file["label"] = labels
    builder = {"name": "SliceBuilder", "patch_shape": [4, 16, 16], "stride_shape": [4, 16, 16], "skip_shape_check": True}
    return {
        "manual_seed": 3,
        "device": "cpu",
        "model": {"name": "UNet3D", "in_channels": 1, "out_channels": 1, "f_maps": [4, 8], "num_groups": 4},
        "loss": {"name": "BCEDiceLoss", "skip_last_target": True},
        "optimizer": {"learning_rate": 0.01, "weight_decay": 1e-5},
        "eval_metric": {"name": "BoundaryAdaptedRandError", "use_last_target": True},
        "lr_scheduler": {"name": "ReduceLROnPlateau", "mode": "min", "factor": 0.5, "patience": 30},
        "trainer": {
            "checkpoint_dir": str(tmp_path / "out"),
            "max_num_epochs": 10,
            "max_num_iterations": 7,
            "validate_after_iters": 3,
            "log_after_iters": 2,
            "eval_score_higher_is_better": False,
            "tensorboard_formatter": {"skip_last_target": True},
        },
        "loaders": {
            "num_workers": 0,
            "batch_size": 2,
            "train": {"file_paths": [str(tmp_path / "train.h5")], "slice_builder": builder, "transformer": LISTS},
            "val": {"file_paths": [str(tmp_path / "val.h5")], "slice_builder": builder, "transformer": LISTS},
        },
    }


def run(tmp_path, config, **changes):
    document = copy.deepcopy(config)
    document["trainer"] |= changes
    path = tmp_path / "train.yml"
    path.write_text(yaml.safe_dump(document))
    return list(train3dunet(path))


def last(tmp_path):
    return read_checkpoint(tmp_path / "out" / "last_checkpoint.pytorch")


def test_steps_and_outputs(tmp_path, config):
    events = run(tmp_path, config)
    assert isinstance(events[-1], Finished)
    assert events[-1].figures["steps"] == 7
    validated = [event for event in events if isinstance(event, Epoch) and "validation_score" in event.figures]
    assert [event.step for event in validated] == [3, 6, 7]  # the last step too
    state = last(tmp_path)
    assert list(state)[:5] == ["num_epochs", "num_iterations", "model_state_dict", "best_eval_score", "optimizer_state_dict"]
    assert (state["num_epochs"], state["num_iterations"]) == (2, 7)  # 6 steps an epoch, the second begun
    assert state["best_eval_score"] == pytest.approx(min(event.figures["validation_score"] for event in validated))
    best = read_checkpoint(tmp_path / "out" / "best_checkpoint.pytorch")
    assert best["num_iterations"] == min(validated, key=lambda event: event.figures["validation_score"]).step
    for checkpoint in (state, best):
        load_state_dict(build_model(config["model"]), checkpoint)
    names = list(state["model_state_dict"])
    assert names[0] == "encoders.0.basic_module.SingleConv1.groupnorm.weight"
    assert names[-1] == "final_conv.bias"
    run_folder = tmp_path / "out" / "run"
    assert {path.name for path in run_folder.iterdir()} >= {"job.yaml", "provenance.json", "report.html", "checkpoints", "logs"}
    with raises("model.missing", file=str(run_folder)) as caught:
        load(run_folder)
    assert str(tmp_path / "out" / "best_checkpoint.pytorch") in caught.error.remedy
    (copied,) = (tmp_path / "out" / "logs").glob("*/train.yml")
    assert yaml.safe_load(copied.read_text())["manual_seed"] == 3


def test_checkpoint_after_the_last_step(tmp_path, config):
    run(tmp_path, config, max_num_iterations=2, validate_after_iters=100)
    assert last(tmp_path)["num_iterations"] == 2
    assert (tmp_path / "out" / "best_checkpoint.pytorch").is_file()


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
def test_mixed_precision(tmp_path, config):
    config["trainer"]["precision"] = "bf16"
    with torch.backends.mkldnn.flags(enabled=False):  # oneDNN's 16-bit convolutions are wrong on some processors (PyTorch issue 163347)
        events = run(tmp_path, config, max_num_iterations=3)
    validated = [event.figures for event in events if isinstance(event, Epoch) and "validation_loss" in event.figures]
    assert all(math.isfinite(figures["validation_loss"]) for figures in validated)
    assert last(tmp_path)["model_state_dict"]["final_conv.weight"].dtype == torch.float32


@pytest.mark.skipif("MORULA_TEST_START_METHOD" not in os.environ, reason="the native test covers it; .ci/environments runs this one, too")
def test_two_processes_equal_twice_the_batch(tmp_path, config):
    config["optimizer"] = {"name": "SGD", "learning_rate": 0.1}  # Adam enlarges the rounding of tiny gradients to whole steps
    run(tmp_path, config, precision="fp32", max_num_iterations=6)
    expected = last(tmp_path)
    config["loaders"]["batch_size"] = 1
    config["trainer"] |= {"precision": "fp32", "max_num_iterations": 6, "checkpoint_dir": str(tmp_path / "two")}
    job = tmp_path / "two.yml"
    job.write_text(yaml.safe_dump(config))
    launchers = ("SLURM_", "LOCAL_RANK", "MASTER_", "WORLD_SIZE", "NODE_RANK")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(launchers)}
    script = Path(__file__).with_name("two_processes3dunet.py")
    command = [sys.executable, str(script), str(job)]
    done = subprocess.run(command, env={**environment, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = read_checkpoint(tmp_path / "two" / "last_checkpoint.pytorch")
    assert (found["num_iterations"], found["num_epochs"]) == (expected["num_iterations"], expected["num_epochs"])
    for name, value in expected["model_state_dict"].items():
        torch.testing.assert_close(found["model_state_dict"][name], value, rtol=1e-3, atol=1e-4)


def test_epochs_limit_a_training(tmp_path, config):
    events = run(tmp_path, config, max_num_epochs=1, max_num_iterations=100)
    assert events[-1].figures == {"epochs": 1, "steps": 6}
    assert last(tmp_path)["num_epochs"] == 1


def test_tensorboard(tmp_path, config):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run(tmp_path, config)
    (folder,) = (tmp_path / "out" / "logs").iterdir()
    found = accumulator.EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    found.Reload()
    assert set(found.Tags()["scalars"]) == {
        *("train_loss_avg", "train_eval_score_avg", "val_loss_avg", "val_eval_score_avg", "learning_rate")
    }
    assert [each.step for each in found.Scalars("train_loss_avg")] == [2, 4, 6]
    assert [each.step for each in found.Scalars("val_loss_avg")] == [3, 6, 7]
    tags = set(found.Tags()["images"])
    assert {f"train_{kind}/batch_1/slice_2" for kind in ("inputs", "targets", "predictions")} <= tags
    assert {f"val_2_{kind}/batch_1/slice_2" for kind in ("inputs", "targets", "predictions")} <= tags


def test_resumed_training_equals_an_uninterrupted_one(tmp_path, config):
    run(tmp_path, config, max_num_iterations=9, checkpoint_dir=str(tmp_path / "whole"))
    whole = read_checkpoint(tmp_path / "whole" / "last_checkpoint.pytorch")
    run(tmp_path, config, max_num_iterations=6)
    events = run(tmp_path, config, max_num_iterations=9, resume=str(tmp_path / "out" / "last_checkpoint.pytorch"), checkpoint_dir="ignored")
    assert events[-1].figures["steps"] == 9
    gone_on = last(tmp_path)
    assert gone_on["num_iterations"] == 9
    for name, value in whole["model_state_dict"].items():
        torch.testing.assert_close(gone_on["model_state_dict"][name], value, rtol=0, atol=0)
    assert gone_on["best_eval_score"] == whole["best_eval_score"]


def test_finished_training_is_extended(tmp_path, config):
    run(tmp_path, config, max_num_epochs=1, max_num_iterations=100)
    epoch = last(tmp_path)["num_iterations"]
    run(tmp_path, config, max_num_epochs=3, max_num_iterations=100, resume=str(tmp_path / "out" / "last_checkpoint.pytorch"))
    assert last(tmp_path)["num_iterations"] == 3 * epoch


def test_resume_from_a_checkpoint_of_the_original(tmp_path, config):
    run(tmp_path, config, max_num_iterations=6)
    path = tmp_path / "out" / "last_checkpoint.pytorch"
    theirs = {key: value for key, value in read_checkpoint(path).items() if key != OWN}
    torch.save(theirs, path)
    events = run(tmp_path, config, max_num_iterations=8, resume=str(path))
    assert events[-1].figures["steps"] == 8
    assert last(tmp_path)["optimizer_state_dict"]["state"][0]["step"] == 8
    with raises("training.nothing_left"):
        run(tmp_path, config, max_num_iterations=8, resume=str(path))


def test_pre_trained_weights(tmp_path, config):
    run(tmp_path, config, max_num_iterations=3)
    first = tmp_path / "out" / "best_checkpoint.pytorch"
    config["optimizer"] = {"name": "SGD", "learning_rate": 1e-9}
    events = run(tmp_path, config, max_num_iterations=1, pre_trained=str(first), checkpoint_dir=str(tmp_path / "tuned"))
    assert isinstance(events[-1], Finished)
    before, after = read_checkpoint(first), read_checkpoint(tmp_path / "tuned" / "last_checkpoint.pytorch")
    for name, value in before["model_state_dict"].items():
        torch.testing.assert_close(after["model_state_dict"][name], value, rtol=0, atol=1e-6)
    config["model"]["f_maps"] = [8, 16]
    with pytest.raises(ModelError):
        run(tmp_path, config, pre_trained=str(first))
    with raises("checkpoint.missing"):
        run(tmp_path, config, pre_trained="none.pytorch")


def test_a_training_is_repeated(tmp_path, config):
    run(tmp_path, config, max_num_iterations=4)
    source = tmp_path / "out" / "run"
    before = checksum(source)
    *_, last_event = morula.replay(source)
    assert last_event.figures == {"files": 2, "different files": 0, "largest weight difference": 0}
    assert checksum(source) == before
    assert read_checkpoint(tmp_path / "out_replay" / "last_checkpoint.pytorch")["num_iterations"] == 4
    for code, options in (("run_folder.not_empty", {}), ("replay.no_prediction", {"fast": True})):
        with raises(code):
            list(morula.replay(source, **options))
    with h5py.File(tmp_path / "train.h5", "a") as file:
        file["raw"][0, 0, 0] = 7
    with raises("replay.inputs_changed"):
        list(morula.replay(source, output=tmp_path / "again"))
    run(tmp_path, config, max_num_iterations=6, resume=str(tmp_path / "out" / "last_checkpoint.pytorch"))
    with raises("replay.resumed"):
        list(morula.replay(source, output=tmp_path / "again"))
    assert not (tmp_path / "again").exists()


def test_former_training_is_moved_aside(tmp_path, config):
    run(tmp_path, config, max_num_iterations=2)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    events = run(tmp_path, config, max_num_iterations=3)
    assert "run_folder.moved_aside" in [event.code for event in events if isinstance(event, Warned)]
    assert read_checkpoint(tmp_path / "out" / "run_1" / "last_checkpoint.pytorch")["num_iterations"] == 2
    assert last(tmp_path)["num_iterations"] == 3
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_classes_and_weights_in_2d(tmp_path, config):
    rng = np.random.default_rng(0)
    for name in ("train.h5", "val.h5"):
        with h5py.File(tmp_path / name, "w") as file:
            file["raw"] = rng.normal(0, 1, (3, 1, 32, 32)).astype(np.float32)
            file["label"] = rng.integers(0, 3, (1, 32, 32)).astype(np.uint8)
            file["weight"] = np.ones((1, 32, 32), np.float32)
    config["model"] = {"name": "UNet2D", "in_channels": 3, "out_channels": 3, "f_maps": [4, 8], "num_groups": 4, "final_sigmoid": False}
    config["loss"] = {"name": "PixelWiseCrossEntropyLoss", "weight": [1, 2, 1]}
    config["eval_metric"] = None
    config["trainer"] |= {"eval_score_higher_is_better": True, "max_num_iterations": 3}
    config["lr_scheduler"] = {"name": "StepLR", "step_size": 1, "gamma": 0.5}
    config["loaders"]["weight_internal_path"] = "weight"
    lists = {
        "raw": [{"name": "Standardize"}, {"name": "RandomRotate90"}, {"name": "ToTensor", "expand_dims": True}],
        "label": [{"name": "RandomRotate90"}, {"name": "ToTensor", "expand_dims": False, "dtype": "int64"}],
        "weight": [{"name": "RandomRotate90"}, {"name": "ToTensor", "expand_dims": False}],
    }
    for phase in ("train", "val"):
        config["loaders"][phase]["slice_builder"] |= {"patch_shape": [1, 16, 16], "stride_shape": [1, 16, 16]}
        config["loaders"][phase]["transformer"] = lists
    events = run(tmp_path, config)
    assert isinstance(events[-1], Finished)
    rates = [event.figures["lr"] for event in events if isinstance(event, Epoch) and "validation_score" in event.figures]
    assert rates == pytest.approx([0.01])
    assert last(tmp_path)["optimizer_state_dict"]["param_groups"][0]["lr"] == pytest.approx(0.005)


def test_data_science_bowl(tmp_path, config):
    from PIL import Image

    rng = np.random.default_rng(0)
    for phase in ("train", "val"):
        for number, size in enumerate(((40, 30), (30, 52), (28, 28))):
            for folder in ("images", "masks"):
                place = tmp_path / phase / folder
                place.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 4 if folder == "masks" else 255, size).astype(np.uint8)).save(place / f"{number}.png")
        config["loaders"][phase] = {
            "file_paths": [str(tmp_path / phase)],
            "transformer": {
                "raw": [{"name": "CropToFixed", "size": [32, 32]}, {"name": "Standardize"}, {"name": "ToTensor", "expand_dims": True}],
                "label": [
                    {"name": "CropToFixed", "size": [32, 32]},
                    {"name": "Relabel"},
                    {"name": "BlobsToMask", "append_label": True},
                    {"name": "ToTensor", "expand_dims": True},
                ],
            },
        }
    config["loaders"]["dataset"] = "DSB2018Dataset"
    config["model"] = {"name": "UNet2D", "in_channels": 1, "out_channels": 1, "f_maps": [4, 8], "layer_order": "bcr"}
    config["eval_metric"] = {"name": "BlobsAveragePrecision", "use_last_target": True, "metric": "ap"}
    events = run(tmp_path, config, max_num_iterations=2, eval_score_higher_is_better=True)
    assert events[-1].figures["steps"] == 2


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_all_optimisers(name):
    layer = torch.nn.Linear(2, 1)
    optimizer = build_optimiser(layer, native_optimiser({"name": name, "learning_rate": 0.1}))
    before = layer.weight.detach().clone()
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert type(optimizer).__name__ == name
    assert not torch.equal(layer.weight, before)


def test_invalid_optimisers():
    with raises("optimiser.unknown", key="optimizer.name", value="adam"):
        native_optimiser({"name": "adam"})
    with raises("optimiser.cannot_train", key="optimizer.name", value="LBFGS"):
        native_optimiser({"name": "LBFGS"})


@pytest.mark.parametrize("name", schedule_names())
def test_all_schedules_of_torch(name):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5, momentum=0.9)
    schedule = build_schedule(optimizer, native_schedule({"name": name, "verbose": True, **SCHEDULES.get(name, {})}), total=1)
    theirs = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5, momentum=0.9)
    scheduler = getattr(lr_scheduler, name)(theirs, **SCHEDULES.get(name, {}))
    for figure in (0.5, 0.4, 0.3):
        schedule.after("steps")
        for each in (optimizer, theirs):
            each.step()
        schedule.after("validations", figure)
        scheduler.step(figure) if name == "ReduceLROnPlateau" else scheduler.step()
        assert schedule.lr == pytest.approx(theirs.param_groups[0]["lr"])


def test_invalid_schedules():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    for config, key in (
        ({"name": "StepLr", "step_size": 1}, "lr_scheduler.name"),
        ({"name": "StepLR"}, "lr_scheduler.step_size"),
        ({"name": "StepLR", "step_size": 1, "gama": 0.1}, "lr_scheduler.gama"),
        ({"name": "CyclicLR", "base_lr": 0.1, "max_lr": 0.2, "mode": "x"}, "training.schedule.options"),
    ):
        with raises("schedule.arguments", key=key):
            build_schedule(optimizer, native_schedule(config), total=1)


def test_lowest_rate_ends_the_training(tmp_path, config):
    config["lr_scheduler"] = {"name": "ReduceLROnPlateau", "mode": "max", "factor": 1e-9, "patience": 0}
    config["optimizer"]["learning_rate"] = 1e-6  # nothing gets better
    events = run(tmp_path, config, max_num_iterations=50, validate_after_iters=1)
    assert events[-1].figures["steps"] < 20


@pytest.mark.parametrize(
    ("kind", "shape", "channelwise", "tags"),
    [
        ("inputs", (2, 2, 8, 8), False, ["inputs/batch_0/channel_0/slice_4", "inputs/batch_0/channel_1/slice_4"]),
        ("inputs", (1, 3, 8, 8), False, ["inputs/batch_0/slice_4"]),
        ("targets", (1, 2, 8, 8), False, ["targets/batch_0/slice_4"]),
        ("targets", (1, 8, 8), False, ["targets/batch_0/slice_4"]),
        ("predictions", (1, 3, 8, 8), False, ["predictions/batch_0/slice_4"]),
        ("predictions", (1, 2, 8, 8), True, ["predictions/batch_0/channel_0/slice_4", "predictions/batch_0/channel_1/slice_4"]),
    ],
)
def test_tags_of_pictures(kind, shape, channelwise, tags):
    batch = np.random.default_rng(0).integers(0, 3, shape)
    options = FormatterOptions(skip_last_target=True, log_channelwise=channelwise)
    made = list(tagged(kind, batch, 4, options))
    assert [tag for tag, _ in made][: len(tags)] == tags
    for _, image in made:
        assert image.shape[0] in (1, 3)
        assert 0 <= image.min() <= image.max() <= 1
        assert not math.isnan(float(image.sum()))
