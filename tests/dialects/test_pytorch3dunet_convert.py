"""A job of pytorch-3dunet and its conversion train the same weights; where they cannot, the key is refused or named in a note."""

import h5py
import numpy as np
import pytest
import torch
import yaml
from unet3d_jobs import BUILDER, CLASSES, changed, small_job, written

from morula.dialects import UNET3D_CHECKPOINT
from morula.dialects.convert import convert
from morula.dialects.pytorch3dunet import build_model, original_state_dict
from morula.dialects.pytorch3dunet.train import train3dunet
from morula.dialects.verbs import train
from morula.models.checkpoint_formats import CHECKPOINT_FORMATS
from morula.testing.errors import raises
from morula.training.checkpoint import load_weights_of

RAW = "loaders.*.transformer.raw"
LABEL = "loaders.*.transformer.label"
TWO_CLASSES = {"model.out_channels": 2, "model.final_sigmoid": False, "loss.name": "CrossEntropyLoss", "eval_metric.name": "MeanIoU"}
FIVE = {**TWO_CLASSES, "model.out_channels": 5, "loaders.*.transformer": CLASSES}
PLANES = {**BUILDER, "patch_shape": [1, 16, 16], "stride_shape": [1, 16, 16]}
STANDARD = {"name": "Standardize"}

FLIP = {"name": "RandomFlip", "axis_prob": 0.4}
ROTATE = {"name": "RandomRotate", "angle_spectrum": 20, "axes": [[2, 1]]}
TURN = {"name": "RandomRotate90"}
CONTRAST = {"name": "RandomContrast", "execution_probability": 0.8}
GAMMA = {"name": "RandomGammaCorrection", "execution_probability": 0.5}
BEND = {"name": "ElasticDeformation", "spline_order": 3, "alpha": 20, "sigma": 3, "execution_probability": 0.8}
POISSON = {"name": "AdditivePoissonNoise", "execution_probability": 0.8}
MASK = {"name": "BlobsToMask"}

EXACT = {
    "seed": {"manual_seed": 7},
    "two files, batches with a rest": {
        "loaders.train.file_paths": ["train.h5", "second.h5"],
        "loaders.batch_size": 3,
        "loaders.*.slice_builder.stride_shape": [1, 16, 16],
    },
    "a folder, internal paths": {
        "loaders.train.file_paths": ["folder"],
        "loaders.raw_internal_path": "other_raw",
        "loaders.label_internal_path": "other_label",
    },
    "overlap, f_maps, alpha": {
        "loaders.train.slice_builder.stride_shape": [3, 16, 16],
        "model.f_maps": 4,
        "model.num_levels": 2,
        "loss.alpha": 0.3,
    },
    "residual, alpha and beta": {"model.name": "ResidualUNet3D", "loss.alpha": 0.3, "loss.beta": 0.6},
    "2D network": {"model.name": "UNet2D", "model.upsample": "bilinear", "loaders.*.slice_builder": PLANES},
    "residual 2D network": {"model.name": "ResidualUNetSE2D", "loaders.*.slice_builder": PLANES},
    "dropout, deconv, conv_upscale": {
        "model.layer_order": "cbrd",
        "model.dropout_prob": 0.3,
        "model.upsample": "deconv",
        "model.conv_upscale": 1,
    },
    "Dice, percentiles": {"loss.name": "DiceLoss", RAW: [{"name": "PercentileNormalizer", "pmin": 2, "pmax": 98}]},
    "generalised Dice, extremes": {"loss.name": "GeneralizedDiceLoss", RAW: [{"name": "Normalize"}]},
    "BCE, 0 to 1": {"loss.name": "BCEWithLogitsLoss", RAW: [{"name": "Normalize", "norm01": True}]},
    "pos_weight, limits": {
        "loss.name": "BCEWithLogitsLoss",
        "loss.pos_weight": 3.0,
        RAW: [{"name": "Normalize", "min_value": -2.0, "max_value": 2.0}],
    },
    "two classes": {**TWO_CLASSES, "loaders.*.transformer": CLASSES, "loaders.label_internal_path": "mask"},
    "weight, ignore_index": {**FIVE, "loss.weight": [1.0, 2.0, 3.0, 4.0, 5.0], "loss.ignore_index": 4},
    "weighted cross-entropy": {**FIVE, "loss.name": "WeightedCrossEntropyLoss"},
    "Adam, StepLR": {
        "optimizer": {"name": "Adam", "weight_decay": 0.01, "betas": [0.8, 0.99]},
        "lr_scheduler": {"name": "StepLR", "step_size": 1, "gamma": 0.3},
    },
    "SGD, MultiStepLR": {
        "optimizer": {"name": "SGD", "learning_rate": 0.1, "momentum": 0.9, "nesterov": True},
        "lr_scheduler": {"name": "MultiStepLR", "milestones": [1, 2], "gamma": 0.3},
    },
    "dampening, mean and std": {
        "optimizer": {"name": "SGD", "momentum": 0.9, "dampening": 0.2},
        RAW: [{"name": "Standardize", "mean": 0.5, "std": 2.0}],
    },
    "RMSprop, no normalisation": {"optimizer": {"name": "RMSprop", "alpha": 0.9}, RAW: [{"name": "ToTensor", "expand_dims": True}]},
    "AdamW, global_normalization": {"optimizer.name": "AdamW", "optimizer.weight_decay": 0.01, "loaders.global_normalization": True},
    "flip, noise": {
        RAW: [STANDARD, FLIP, {"name": "AdditiveGaussianNoise", "execution_probability": 0.7}],
        LABEL: [FLIP, MASK],
    },
    "quarter turns, contrast, gamma": {RAW: [STANDARD, TURN, CONTRAST, GAMMA], LABEL: [TURN, MASK]},
    "filtered patches, batches with a rest": {
        "loaders.train.slice_builder.name": "FilterSliceBuilder",
        "loaders.train.slice_builder.stride_shape": [1, 16, 16],
        "loaders.train.slice_builder.threshold": 0.8,
        "loaders.train.slice_builder.slack_acceptance": 0.5,
        "loaders.batch_size": 3,
    },
    "quarter turns of rectangles": {
        "loaders.*.slice_builder.patch_shape": [4, 16, 8],
        "loaders.*.slice_builder.stride_shape": [4, 16, 8],
        RAW: [STANDARD, TURN],
        LABEL: [TURN, MASK],
    },
    "elastic, random_scale": {RAW: [STANDARD, BEND], LABEL: [{**BEND, "spline_order": 0}, MASK], "loaders.random_scale": 3},
    "elastic 2D": {
        "model.name": "UNet2D",
        "loaders.*.slice_builder": PLANES,
        RAW: [STANDARD, {**BEND, "apply_3d": False}],
        LABEL: [{**BEND, "apply_3d": False, "spline_order": 0}, MASK],
    },
    "blur, Poisson noise": {RAW: [STANDARD, {"name": "GaussianBlur3D", "execution_probability": 1.0}, POISSON]},
    "gaps": {"loaders.train.slice_builder.stride_shape": [6, 20, 16]},
    "rotate": {RAW: [STANDARD, ROTATE], LABEL: [ROTATE, MASK]},
    "pre_trained": {"trainer.pre_trained": "start.pytorch"},
}

NOTED = {
    "validate_iters": ({"trainer.validate_iters": 1}, "trainer.validate_iters"),
    "ignored labels of the filter": (
        {"loaders.train.slice_builder.name": "FilterSliceBuilder", "loaders.train.slice_builder.ignore_index": 1},
        "loaders.train.slice_builder.ignore_index",
    ),
    "ignore_index of masks": ({"loss.ignore_index": 255}, "loss.ignore_index"),
    "weights of Dice": ({"loss.name": "DiceLoss", "loss.weight": [2.0]}, "loss.weight"),
    "normalization": ({"loss.name": "DiceLoss", "loss.normalization": "none"}, "loss.normalization"),
    "plateau": ({"lr_scheduler": {"name": "ReduceLROnPlateau", "mode": "max"}}, "lr_scheduler.name"),
    "crop": ({RAW: [{"name": "CropToFixed", "size": [8, 8]}]}, "loaders.train.transformer.raw"),
    "boundaries": ({LABEL: [{"name": "StandardLabelToBoundary"}]}, "loaders.train.transformer.label"),
    "affinities": ({LABEL: [{"name": "LabelToAffinities", "offsets": [1, 2]}]}, "loaders.train.transformer.label"),
    "resume": ({"trainer.resume": "start.pytorch"}, "trainer.resume"),
    "weights of voxels": ({"loaders.weight_internal_path": "weight"}, "loaders.weight_internal_path"),
    "eval_metric": ({"eval_metric.name": "MeanIoU"}, "eval_metric"),
    "final_sigmoid": ({**FIVE, "model.final_sigmoid": True}, "model.final_sigmoid"),
    "validation strides": ({"loaders.val.slice_builder": {**BUILDER, "stride_shape": [2, 8, 8]}}, "loaders.val.slice_builder"),
}

REFUSED = {
    "regression": ({"loss.name": "MSELoss"}, "loss.name"),
    "no final activation": ({"model.is_segmentation": False}, "loss.name"),
    "several raw data sets": ({"loaders.raw_internal_path": ["raw", "other_raw"]}, "loaders.raw_internal_path"),
    "several label data sets": ({"loaders.label_internal_path": ["label", "mask"]}, "loaders.label_internal_path"),
    "labels of several channels": ({"loaders.label_internal_path": "channels"}, "loaders.label_internal_path"),
    "conv_padding": ({"model.conv_padding": 0}, "model.conv_padding"),
    "random affinities": ({LABEL: [{"name": "RandomLabelToAffinities"}]}, "loaders.train.transformer.label"),
    "boundary as a class": ({LABEL: [{"name": "BlobsToMask", "cross_entropy": True}]}, "loaders.train.transformer.label"),
}


@pytest.fixture
def job(tmp_path, monkeypatch):
    """The small job with more data sets, files and a checkpoint to start from; relative paths are relative to its folder."""
    monkeypatch.chdir(tmp_path)
    # also where the package was installed before this format existed
    monkeypatch.setitem(vars(CHECKPOINT_FORMATS), "members", {"3dunet": UNET3D_CHECKPOINT})
    document = changed(
        small_job(tmp_path), {"trainer.max_num_iterations": 4, "trainer.max_num_epochs": 3, "trainer.validate_after_iters": 2}
    )
    rng = np.random.default_rng(1)
    (tmp_path / "folder").mkdir()
    for name in ("train.h5", "val.h5", "second.h5", "folder/a.h5", "folder/b.h5"):
        with h5py.File(tmp_path / name, "a") as file:
            for key in ("raw", "other_raw"):
                file.require_dataset(key, (8, 16, 16), np.float32)[...] = rng.normal(size=(8, 16, 16))
            for key, highest in (("label", 5), ("other_label", 5), ("mask", 2)):
                file.require_dataset(key, (8, 16, 16), np.uint16)[...] = rng.integers(0, highest, (8, 16, 16))
            file["channels"] = np.zeros((2, 8, 16, 16), np.uint8)
    torch.manual_seed(5)
    torch.save({"model_state_dict": original_state_dict(build_model(document["model"]))}, tmp_path / "start.pytorch")
    return document


def weights_of(folder):
    """Last weights of a run by the names that both jobs share; kernels of 2D networks without the axis z."""
    stored = load_weights_of(folder / "checkpoints" / "last")
    return {name.removeprefix("model.network.").replace(".classes.", ".channels."): values.squeeze() for name, values in stored.items()}


@pytest.mark.parametrize("changes", EXACT.values(), ids=EXACT)
def test_conversion_trains_the_same_weights(tmp_path, job, changes):
    path = written(tmp_path, changed(job, changes))
    list(train3dunet(path))
    (tmp_path / "native.yaml").write_text(convert(path)[0])
    list(train(tmp_path / "native.yaml", output=tmp_path / "native"))
    ours, theirs = weights_of(tmp_path / "out" / "run"), weights_of(tmp_path / "native")
    assert set(ours) == set(theirs)
    for name, values in ours.items():
        torch.testing.assert_close(values, theirs[name], rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize(("changes", "key"), NOTED.values(), ids=NOTED)
def test_differences_are_noted(tmp_path, job, changes, key):
    text, _ = convert(written(tmp_path, changed(job, changes)))
    assert any(line.startswith(f"# {key}: ") for line in text.splitlines())


@pytest.mark.parametrize(("changes", "key"), REFUSED.values(), ids=REFUSED)
def test_keys_without_counterpart(tmp_path, job, changes, key):
    with raises("convert.no_counterpart", key=key):
        convert(written(tmp_path, changed(job, changes)))


def test_prediction_job(tmp_path, job):
    document = {
        "model": job["model"],
        "model_path": "start.pytorch",
        "loaders": {"test": {"file_paths": ["val.h5"], "slice_builder": BUILDER}},
    }
    with raises("convert.predicts"):
        convert(written(tmp_path, document))


def test_plain_job_has_one_note(tmp_path, job):
    text, warnings = convert(written(tmp_path, job))
    assert [line.split(":")[0] for line in text.splitlines() if line.startswith("#")] == ["# eval_metric"]
    assert warnings == []
    assert yaml.safe_load(text)["training"]["steps"] == 4
