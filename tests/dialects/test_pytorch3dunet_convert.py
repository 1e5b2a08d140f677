"""A job of pytorch-3dunet and its conversion train the same weights; where they cannot, the key is refused or named in a note."""

import re
import shutil

import h5py
import numpy as np
import pytest
import tifffile
import torch
import yaml
from PIL import Image
from unet3d_jobs import BUILDER, CLASSES, MASKS, SCHEDULES, changed, small_job, written

from morula.dialects import UNET3D_CHECKPOINT
from morula.dialects.convert import convert
from morula.dialects.pytorch3dunet import build_model, original_state_dict
from morula.dialects.pytorch3dunet.job import read_job
from morula.dialects.pytorch3dunet.losses import LOSSES
from morula.dialects.pytorch3dunet.metrics import METRICS
from morula.dialects.pytorch3dunet.networks import NETWORKS, network_options
from morula.dialects.pytorch3dunet.optimisers import OPTIMIZERS, native_optimiser, native_schedule
from morula.dialects.pytorch3dunet.reference import NAMED, SECTIONS
from morula.dialects.pytorch3dunet.sections import (
    FileOptions,
    FormatterOptions,
    LoadersOptions,
    PhaseOptions,
    PlainOptions,
    SliceBuilderOptions,
    TrainerOptions,
    TransformerOptions,
)
from morula.dialects.pytorch3dunet.train import train3dunet
from morula.dialects.pytorch3dunet.transform_lists import TRANSFORMS, parse_lists
from morula.dialects.verbs import train
from morula.measurement.csv_table import read_table
from morula.models.checkpoint_formats import CHECKPOINT_FORMATS
from morula.nn.options import OrderedUNetOptions
from morula.testing.errors import raises
from morula.training.checkpoint import load_weights_of
from morula.training.optimisers import schedule_names
from morula.training.options import Training

RAW = "loaders.*.transformer.raw"
LABEL = "loaders.*.transformer.label"
TARGETS = "loaders.train.transformer.label"
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
TURNED = {"raw": [STANDARD, ROTATE], "label": [ROTATE, MASK]}
OBJECTS = {"loaders.label_internal_path": "objects", "optimizer": {"name": "SGD", "learning_rate": 0.3}}
"""Labels of whole objects, and steps that are as long as their gradients: other targets near boundaries give other weights."""


def cropped(crop, moves=()):
    """Changes that train on a part of each image in folders."""
    lists = {each: [{"name": "CropToFixed", **crop}, *moves, *transforms] for each, transforms in MASKS.items()}
    return {
        "model.name": "UNet2D",
        "loaders.dataset": "DSB2018Dataset",
        "loaders.train": {"file_paths": ["cells_train", "cells_large"], "transformer": lists},
        "loaders.val": {"file_paths": ["cells_val"], "transformer": lists},
        "optimizer": OBJECTS["optimizer"],
        "loaders.batch_size": 4,
    }


EXACT = {
    "seed": {"manual_seed": 7},
    "two files, batches with a rest": {
        "loaders.train.file_paths": ["train.h5", "second.h5"],
        "loaders.batch_size": 3,
        "loaders.*.slice_builder.stride_shape": [1, 16, 16],
    },
    "a folder, internal paths, alphs": {
        "loss.alphs": 0.3,
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
    "Dice, percentiles, background that is ignored": {
        "loss": {"name": "DiceLoss", "ignore_index": 0},
        RAW: [{"name": "PercentileNormalizer", "pmin": 2, "pmax": 98}],
    },
    "generalised Dice, extremes": {"loss.name": "GeneralizedDiceLoss", RAW: [{"name": "Normalize"}]},
    "BCE, 0 to 1, a label of no target": {
        "loss": {"name": "BCEWithLogitsLoss", "ignore_index": 3},
        RAW: [{"name": "Normalize", "norm01": True}],
    },
    "pos_weight, limits": {
        "loss.name": "BCEWithLogitsLoss",
        "loss.pos_weight": 3.0,
        RAW: [{"name": "Normalize", "min_value": -2.0, "max_value": 2.0}],
    },
    "two classes, a label that no voxel has": {
        **TWO_CLASSES,
        "loss.ignore_index": -1,
        "loaders.*.transformer": CLASSES,
        "loaders.label_internal_path": "mask",
    },
    "weight, ignore_index": {**FIVE, "loss.weight": [1.0, 2.0, 3.0, 4.0, 5.0], "loss.ignore_index": 4},
    "weighted cross-entropy": {**FIVE, "loss.name": "WeightedCrossEntropyLoss"},
    "Adam, StepLR, pre_trained": {
        "trainer.pre_trained": "start.pytorch",
        "optimizer": {"name": "Adam", "weight_decay": 0.01, "betas": [0.8, 0.99]},
        "lr_scheduler": {"name": "StepLR", "step_size": 1, "gamma": 0.3},
    },
    "SGD, MultiStepLR": {
        "optimizer": {"name": "SGD", "learning_rate": 0.1, "momentum": 0.9, "nesterov": True},
        "lr_scheduler": {"name": "MultiStepLR", "milestones": [1, 2], "gamma": 0.3},
    },
    "dampening, mean and std, gaps": {
        "loaders.train.slice_builder.stride_shape": [6, 20, 16],
        "optimizer": {"name": "SGD", "momentum": 0.9, "dampening": 0.2},
        RAW: [{"name": "Standardize", "mean": 0.5, "std": 2.0}],
    },
    "RMSprop, no normalisation": {"optimizer": {"name": "RMSprop", "alpha": 0.9}, RAW: [{"name": "ToTensor", "expand_dims": True}]},
    "AdamW, global_normalization": {"optimizer.name": "AdamW", "optimizer.weight_decay": 0.01, "loaders.global_normalization": True},
    "flip, noise": {
        RAW: [STANDARD, FLIP, {"name": "AdditiveGaussianNoise", "execution_probability": 0.7}],
        LABEL: [FLIP, MASK],
    },
    "filtered patches, batches with a rest": {
        "loaders.train.slice_builder.name": "FilterSliceBuilder",
        "loaders.train.slice_builder.stride_shape": [1, 16, 16],
        "loaders.train.slice_builder.threshold": 0.8,
        "loaders.train.slice_builder.slack_acceptance": 0.5,
        "loaders.batch_size": 3,
    },
    "quarter turns of rectangles, contrast, gamma": {
        "loaders.*.slice_builder.patch_shape": [4, 16, 8],
        "loaders.*.slice_builder.stride_shape": [4, 16, 8],
        RAW: [STANDARD, TURN, CONTRAST, GAMMA],
        LABEL: [TURN, MASK],
    },
    "elastic, random_scale": {RAW: [STANDARD, BEND], LABEL: [{**BEND, "spline_order": 0}, MASK], "loaders.random_scale": 3},
    "elastic 2D": {
        "model.name": "UNet2D",
        "loaders.*.slice_builder": PLANES,
        RAW: [STANDARD, {**BEND, "apply_3d": False}],
        LABEL: [{**BEND, "apply_3d": False, "spline_order": 0}, MASK],
    },
    "quarter turns and blurs of voxels of unequal edges": {
        "optimizer": OBJECTS["optimizer"],
        "loaders.raw_internal_path": "uneven",
        RAW: [STANDARD, TURN, {"name": "GaussianBlur3D", "execution_probability": 1.0}],
        LABEL: [TURN, MASK],
    },
    "two channels": {"loaders.raw_internal_path": "two", "model.in_channels": 2, RAW: [{**STANDARD, "channelwise": True}]},
    "one plane": {
        "model.name": "ResidualUNet2D",
        "loaders.raw_internal_path": "plane_raw",
        "loaders.label_internal_path": "plane_label",
        "loaders.*.slice_builder": PLANES,
    },
    "one plane of two channels": {
        "model.name": "UNet2D",
        "model.in_channels": 2,
        "loaders.raw_internal_path": "plane_two",
        "loaders.label_internal_path": "plane_label",
        "loaders.*.slice_builder": PLANES,
    },
    "files by name, HDF5 without suffix": {
        "loaders.train.file_paths": ["plain", {"raw": "train.h5", "label": "second.h5"}, {"raw": "a.tif", "label": "b.tif"}]
    },
    "folders of images and masks": {
        "model.name": "UNet2D",
        "loaders.dataset": "DSB2018Dataset",
        "loaders.expand_dims": True,
        **{f"loaders.{phase}": {"file_paths": [f"cells_{phase}"], "transformer": MASKS} for phase in ("train", "val")},
        "loaders.batch_size": 2,
    },
    "patches that poolings do not divide": {
        "model.f_maps": [4, 8, 8],
        "optimizer": OBJECTS["optimizer"],
        "loaders.*.slice_builder": {**BUILDER, "patch_shape": [8, 15, 14], "stride_shape": [8, 15, 14]},
    },
    "crops of the middle": cropped({"size": [13, 20], "centered": True}),
    "crops of several images that are turned and bent": cropped({"size": [12, 20]}, [FLIP, TURN, ROTATE, {**BEND, "spline_order": 0}]),
    "groups, squeeze and excitation, kernels and pools": {
        "model.name": "ResidualUNetSE3D",
        "model.layer_order": "gcl",
        "model.num_groups": 4,
        "model.conv_padding": [1, 1, 1],
        "model.kernels": [[1, 3, 3], 3],
        "model.pools": [[1, 2, 2]],
    },
    "appended labels, new numbers": {
        LABEL: [{"name": "Relabel"}, {**MASK, "append_label": True}],
        "loss.skip_last_target": True,
        "eval_metric": {"name": "BlobsAveragePrecision", "use_last_target": True},
    },
    "nothing that moves a weight": {
        "trainer.log_after_iters": 1,
        "trainer.skip_train_validation": True,
        "trainer.max_val_images": 3,
        "trainer.eval_score_higher_is_better": False,
        "trainer.tensorboard_formatter": {"skip_last_target": True, "log_channelwise": True},
        "trainer.precision": "fp32",
        "loaders.dataset": "LazyHDF5Dataset",
        "loaders.output_dir": "predictions",
        "loaders.*.slice_builder.halo_shape": [0, 2, 2],
        "loaders.test": {"file_paths": ["val.h5"], "slice_builder": BUILDER},
        "loss.squeeze_channel": True,
        RAW: [STANDARD, {"name": "Identity"}, {"name": "ToTensor", "expand_dims": True, "dtype": "float32"}],
        LABEL: [MASK, {"name": "LabelToTensor"}],
    },
    "all options of intensities": {
        RAW: [
            {"name": "ToTensor", "normalize": True},
            {**CONTRAST, "alpha": [0.6, 1.2], "mean": 0.3},
            {**GAMMA, "gamma": [0.7, 1.4]},
            {"name": "GaussianBlur3D", "execution_probability": 1.0, "sigma": [0.5, 1.0]},
            {"name": "AdditiveGaussianNoise", "execution_probability": 1.0, "scale": [0.1, 0.2]},
            {**POISSON, "lam": [0.5, 2.0]},
        ]
    },
    "all options of positions": {
        RAW: [{"name": "PercentileNormalizer", "channelwise": True}, {**ROTATE, "mode": "reflect", "order": 3}, {**BEND, "apply_3d": True}],
        LABEL: [{**ROTATE, "mode": "reflect", "order": 0}, {**BEND, "apply_3d": True, "spline_order": 0}, MASK],
        "loaders.random_scale": 2,
        "loaders.random_scale_probability": 0.9,
    },
    "foreground and boundaries": {
        **OBJECTS,
        LABEL: [{"name": "StandardLabelToBoundary", "mode": "inner", "foreground": True}],
        "model.out_channels": 2,
    },
    "outer boundaries, flip": {
        **OBJECTS,
        RAW: [STANDARD, FLIP],
        LABEL: [FLIP, {**MASK, "boundary": True}],
        "model.out_channels": 2,
        "loss.name": "BCEWithLogitsLoss",
    },
    "ignored labels of boundaries": {
        **OBJECTS,
        LABEL: [{"name": "StandardLabelToBoundary", "ignore_index": 3, "foreground": True}],
        "model.out_channels": 2,
        "loss.ignore_index": 3,
    },
    "ignored labels of the filter": {
        **OBJECTS,
        LABEL: [{"name": "StandardLabelToBoundary", "ignore_index": 3}],
        "loss": {"name": "BCEWithLogitsLoss", "ignore_index": 3},
        "loaders.train.slice_builder": {**BUILDER, "name": "FilterSliceBuilder", "ignore_index": 3, "threshold": 0.605},
    },
    "classes that the filter ignores": {
        **FIVE,
        "loss.ignore_index": 4,
        "loaders.train.slice_builder": {**BUILDER, "name": "FilterSliceBuilder", "ignore_index": 4, "threshold": 0.605},
    },
    "affinities": {
        **OBJECTS,
        LABEL: [{"name": "LabelToAffinities", "offsets": [1, 2], "z_offsets": [1, 3]}],
        "model.out_channels": 6,
    },
    "affinities along z, ignore_index, flip": {
        **OBJECTS,
        "loss.ignore_index": 3,
        RAW: [STANDARD, FLIP],
        LABEL: [FLIP, {"name": "LabelToZAffinities", "offsets": [1, 2], "ignore_index": 3}],
        "model.out_channels": 2,
    },
    "boundaries and affinities": {
        **OBJECTS,
        "loss": {"name": "BCEWithLogitsLoss"},
        LABEL: [{"name": "LabelToBoundaryAndAffinities", "xy_offsets": [1], "z_offsets": [1], "foreground": True}],
        "model.out_channels": 5,
    },
    "mask and affinities": {
        **OBJECTS,
        LABEL: [{"name": "LabelToMaskAndAffinities", "xy_offsets": [1], "z_offsets": [1]}],
        "model.out_channels": 4,
    },
    "masks as labels, ignore_index": {
        "loaders.label_internal_path": "partial",
        "optimizer": OBJECTS["optimizer"],
        LABEL: [{"name": "LabelToTensor"}, {"name": "ToTensor", "expand_dims": True}],
        "loss.ignore_index": 255,
    },
    "classes that are absent": {**FIVE, "model.out_channels": 9, "loaders.label_internal_path": "even"},
}

PLATEAU = {"name": "ReduceLROnPlateau", "patience": 0, "factor": 0.2, "threshold": 0.5}
"""Falls at the second validation unless the figure that it follows improves a lot."""

EXACT |= {
    "plateau of MeanIoU, best weights": {
        **FIVE,
        "trainer.validate_after_iters": 1,
        "lr_scheduler": {**PLATEAU, "mode": "max"},
        "eval_metric.name": "MeanIoU",
        "optimizer.learning_rate": 0.1,
    },
    "plateau of Dice that follows a fall": {
        "trainer.validate_after_iters": 1,
        "lr_scheduler": PLATEAU,
        "eval_metric.name": "DiceCoefficient",
        "optimizer.learning_rate": 0.1,
    },
    "plateau of MeanIoU of ignored masks": {
        **OBJECTS,
        "trainer.validate_after_iters": 1,
        LABEL: [{"name": "StandardLabelToBoundary", "ignore_index": 3, "foreground": True}],
        "model.out_channels": 2,
        "loss.ignore_index": 3,
        "lr_scheduler": {**PLATEAU, "mode": "max"},
        "eval_metric": {"name": "MeanIoU", "ignore_index": 3},
    },
    "plateau of filtered validation patches": {
        "trainer.validate_after_iters": 1,
        "lr_scheduler": {**PLATEAU, "mode": "max"},
        "optimizer.learning_rate": 0.1,
        "eval_metric.name": "DiceCoefficient",
        "loaders.train.slice_builder": {**BUILDER, "name": "FilterSliceBuilder", "threshold": 0.7, "slack_acceptance": 0.0},
        "loaders.val.slice_builder": {**BUILDER, "name": "FilterSliceBuilder", "threshold": 0.803, "slack_acceptance": 0.0},
    },
    "eps": {RAW: [{**STANDARD, "eps": 2.0}], "optimizer": OBJECTS["optimizer"]},
    "eps of percentiles": {RAW: [{"name": "PercentileNormalizer", "eps": 2.0}], "optimizer": OBJECTS["optimizer"]},
    "lower limit": {RAW: [{"name": "Normalize", "min_value": 0.0, "eps": 0.3}], "optimizer": OBJECTS["optimizer"]},
    "upper limit": {RAW: [{"name": "Normalize", "max_value": 1.0, "norm01": True}], "optimizer": OBJECTS["optimizer"]},
    "large volumes": {
        "loaders.global_normalization": True,
        "loaders.train.file_paths": ["large.h5"],
        "loaders.raw_internal_path": "bright",
        "loaders.label_internal_path": "dim",
        "loaders.val.file_paths": ["large_val.h5"],
        "loaders.*.slice_builder": {**BUILDER, "patch_shape": [16, 16, 16], "stride_shape": [1000, 1000, 1000]},
        "optimizer": OBJECTS["optimizer"],
    },
    "patches of ignored voxels": {
        "loaders.label_internal_path": "half",
        LABEL: [{"name": "StandardLabelToBoundary", "ignore_index": 3}],
        "loss.ignore_index": 3,
        "optimizer.learning_rate": 0.1,
    },
    "random crops with ignored voxels": {
        **cropped({"size": [12, 8]}),
        "loaders.*.transformer.label": [{"name": "CropToFixed", "size": [12, 8]}, {"name": "StandardLabelToBoundary", "ignore_index": 2}],
        "loss.ignore_index": 2,
    },
    "weights of Dice": {
        **OBJECTS,
        LABEL: [{**MASK, "boundary": True}],
        "model.out_channels": 2,
        "loss": {"name": "DiceLoss", "weight": [0.5, 2.0]},
    },
    "weights of Dice of affinities": {
        **OBJECTS,
        LABEL: [{"name": "LabelToZAffinities", "offsets": [1, 2]}],
        "model.out_channels": 2,
        "loss": {"name": "DiceLoss", "weight": [0.5, 2.0]},
    },
    "a weight of Dice": {"loss.name": "DiceLoss", "loss.weight": [3.0], "optimizer": {"name": "SGD", "learning_rate": 0.3}},
}

APPENDED = [{"name": "Relabel"}, {"name": "StandardLabelToBoundary", "foreground": True, "append_label": True}]
SCORED = {
    **OBJECTS,
    "trainer.validate_after_iters": 1,
    "trainer.max_num_iterations": 6,
    "lr_scheduler": {"name": "ReduceLROnPlateau", "patience": 0, "factor": 0.5, "mode": "max"},
    LABEL: APPENDED,
    "loss.skip_last_target": True,
    "model.out_channels": 2,
}
"""The learning rate follows scores of objects, each step validated."""

ONE = {"model.out_channels": 1, "loss.skip_last_target": False}

EXACT |= {
    f"{name} of {'labels' if given.get('use_last_target', True) else 'a target'}": SCORED | {"eval_metric": {"name": name, **given}} | more
    for name, given, more in (
        ("BlobsAveragePrecision", {"thresholds": [0.45, 0.5, 0.52], "metric": "acc"}, {}),
        ("BlobsBoundaryAveragePrecision", {"thresholds": [-0.1, 0.0, 0.02], "min_instance_size": 20}, {}),
        ("BoundaryAveragePrecision", {"thresholds": [0.48, 0.5, 0.52], "input_channel": 1}, {}),
        ("AveragePrecision", {"thresholds": [0.48, 0.5, 0.52], "use_last_target": False}, {}),
        ("Accuracy", {"thresholds": [0.48, 0.5, 0.52], "use_last_target": False}, {"trainer.eval_score_higher_is_better": False}),
        ("BoundaryAdaptedRandError", {"thresholds": [0.48, 0.5, 0.52]}, {"trainer.eval_score_higher_is_better": False}),
        ("AdaptedRandError", {"thresholds": [0.48, 0.5], "invert_pmaps": False, "use_last_target": False}, {}),
        ("GenericAdaptedRandError", {"thresholds": [0.48, 0.5, 0.52], "input_channels": [1, 0], "invert_channels": [1]}, {}),
        (
            "BlobsAveragePrecision",
            {"thresholds": [0.48, 0.52], "use_last_target": False},
            {"loaders.label_internal_path": "mask", LABEL: [{"name": "ToTensor"}], **ONE},
        ),
        (
            "MeanIoU",
            {"skip_channels": [0]},
            {LABEL: [*APPENDED[:1], {**APPENDED[1], "append_label": False}], "loss.skip_last_target": False},
        ),
        ("DiceCoefficient", {"epsilon": 3000.0}, {LABEL: [MASK], **ONE}),
        ("PSNR", {}, {LABEL: [MASK], **ONE}),
        ("MSE", {}, {LABEL: [MASK], **ONE}),
    )
}
WATCHED = {"trainer.validate_after_iters": 1, "lr_scheduler": {**PLATEAU, "mode": "max"}, "optimizer.learning_rate": 0.1}
"""The learning rate follows the Dice coefficient, each step validated."""

VALUES = {LABEL: [{"name": "ToTensor"}], "model.is_segmentation": False}
PSNR = {"eval_metric": {"name": "PSNR"}, "trainer.validate_after_iters": 1, "lr_scheduler": {**PLATEAU, "mode": "max"}}
"""Images as targets, and the learning rate follows how they are predicted."""

EXACT |= {
    "L1 of real numbers, moved": {
        **VALUES,
        **PSNR,
        "loaders.label_internal_path": "other_raw",
        "loss.name": "L1Loss",
        RAW: [STANDARD, FLIP, ROTATE],
        LABEL: [FLIP, ROTATE, {"name": "ToTensor"}],
    },
    "MSE of two channels": {**VALUES, **PSNR, "loaders.label_internal_path": "two", "model.out_channels": 2, "loss.name": "MSELoss"},
    "SmoothL1 of ids": {**VALUES, **PSNR, "loss": {"name": "SmoothL1Loss", "ignore_index": 3}},
    "several masks": {
        LABEL: [{"name": "ToTensor"}],
        "loaders.label_internal_path": "masks",
        "model.out_channels": 2,
        "optimizer": OBJECTS["optimizer"],
        "loss": {"name": "DiceLoss", "weight": [0.5, 2.0]},
        "trainer.validate_after_iters": 1,
        "eval_metric.name": "MeanIoU",
        "lr_scheduler": {**PLATEAU, "mode": "max"},
    },
    "several masks that exclude each other": {
        LABEL: [{"name": "ToTensor"}],
        "loaders.label_internal_path": "masks",
        "model.out_channels": 2,
        "model.final_sigmoid": False,
        "optimizer": OBJECTS["optimizer"],
        "loss": {"name": "GeneralizedDiceLoss", "normalization": "softmax"},
        "trainer.validate_after_iters": 1,
        "eval_metric.name": "DiceCoefficient",
        "lr_scheduler": {**PLATEAU, "mode": "max"},
    },
    "labels as targets": {**OBJECTS, LABEL: [{"name": "LabelToTensor"}, {"name": "ToTensor"}]},
    "MeanIoU of all classes": {
        **FIVE,
        "trainer.validate_after_iters": 1,
        "lr_scheduler": {**PLATEAU, "mode": "max"},
        "eval_metric": {"name": "MeanIoU", "skip_background": False, "skip_channels": [2]},
        "optimizer.learning_rate": 0.1,
    },
    "objects of classes": {
        **FIVE,
        "trainer.validate_after_iters": 1,
        "lr_scheduler": {**PLATEAU, "mode": "max"},
        "eval_metric": {"name": "BlobsAveragePrecision", "input_channel": 1, "thresholds": [0.15, 0.2]},
        "loaders.label_internal_path": "objects",
        "optimizer.learning_rate": 0.1,
    },
    "objects of partly annotated patches": {
        **SCORED,
        LABEL: [{"name": "StandardLabelToBoundary", "ignore_index": 3, "foreground": True, "append_label": True}],
        "loss.ignore_index": 3,
        "eval_metric": {"name": "BlobsAveragePrecision", "thresholds": [0.48, 0.5, 0.52], "metric": "acc"},
    },
    "a label that only the filter ignores, another filter of the validation": {
        **WATCHED,
        "loaders.train.slice_builder": {**BUILDER, "name": "FilterSliceBuilder", "ignore_index": 1, "threshold": 0.605},
        "loaders.val.slice_builder": {**BUILDER, "name": "FilterSliceBuilder", "threshold": 0.803, "slack_acceptance": 0.0},
    },
    "an ignored label that the filter counts": {
        **OBJECTS,
        LABEL: [{"name": "StandardLabelToBoundary", "ignore_index": 3}],
        "loss": {"name": "BCEWithLogitsLoss", "ignore_index": 3},
        "loaders.train.slice_builder": {**BUILDER, "name": "FilterSliceBuilder", "threshold": 0.805},
    },
    "validation patches of another shape, random_scale": {
        **WATCHED,
        "loaders.random_scale": 2,
        "loaders.val.slice_builder": {**BUILDER, "patch_shape": [8, 16, 12], "stride_shape": [8, 16, 4]},
    },
    "validation strides": {**WATCHED, "loaders.val.slice_builder": {**BUILDER, "stride_shape": [2, 16, 16]}},
    "crops of patches": {
        **WATCHED,
        "loaders.train.slice_builder.stride_shape": [2, 16, 16],
        RAW: [STANDARD, FLIP, {"name": "CropToFixed", "size": [10, 12]}],
        LABEL: [FLIP, {"name": "CropToFixed", "size": [10, 12]}, MASK],
    },
    "crops of the middle of patches": {
        **WATCHED,
        RAW: [{"name": "CropToFixed", "size": [8, 10], "centered": True}, STANDARD],
        LABEL: [{"name": "CropToFixed", "size": [8, 10], "centered": True}, MASK],
    },
    "validation that is changed at random": {
        **WATCHED,
        "loaders.val.transformer": {"raw": [FLIP, STANDARD, POISSON], "label": [FLIP, MASK]},
    },
    "two normalisations, noise between": {
        **OBJECTS,
        RAW: [{"name": "Normalize", "norm01": True}, POISSON, {"name": "PercentileNormalizer", "pmin": 5}],
    },
    "noise before the normalisation": {**WATCHED, RAW: [POISSON, {"name": "GaussianBlur3D"}, STANDARD]},
    "two normalisations of whole volumes": {**OBJECTS, "loaders.global_normalization": True, RAW: [STANDARD, {"name": "Normalize"}]},
    "validate_iters": {**WATCHED, "trainer.validate_iters": 1},
    "background of two channels that is ignored": {
        **OBJECTS,
        LABEL: [{**MASK, "boundary": True}],
        "model.out_channels": 2,
        "loss.ignore_index": 0,
    },
    "generalised Dice of two channels": {
        **OBJECTS,
        LABEL: [{**MASK, "boundary": True}],
        "model.out_channels": 2,
        "loss.name": "GeneralizedDiceLoss",
    },
    "weights of several channels": {
        **OBJECTS,
        LABEL: [{**MASK, "boundary": True}],
        "model.out_channels": 2,
        "loss": {"name": "BCEWithLogitsLoss", "pos_weight": [1.0, 3.0]},
    },
    "weights of Dice of channels of different kinds": {
        **OBJECTS,
        LABEL: [{"name": "LabelToMaskAndAffinities", "xy_offsets": [1], "z_offsets": [1]}],
        "model.out_channels": 4,
        "loss": {"name": "DiceLoss", "weight": [1.0, 2.0, 1.0, 0.5]},
    },
    "boundaries and distant affinities": {
        **OBJECTS,
        "loss": {"name": "BCEWithLogitsLoss"},
        LABEL: [{"name": "LabelToBoundaryAndAffinities", "xy_offsets": [2, 3], "z_offsets": [1, 2]}],
        "model.out_channels": 7,
    },
    "masks and affinities of distant voxels": {
        **OBJECTS,
        LABEL: [{"name": "LabelToMaskAndAffinities", "xy_offsets": [2], "z_offsets": [3]}],
        "model.out_channels": 4,
    },
    "labels that are moved with splines": {**OBJECTS, RAW: [STANDARD, BEND], LABEL: [BEND, MASK]},
    "eps of whole volumes": {**OBJECTS, "loaders.global_normalization": True, RAW: [{**STANDARD, "eps": 0.1}]},
    "affinities of connected parts": {
        **OBJECTS,
        "loaders.label_internal_path": "label",
        LABEL: [{"name": "Relabel"}, {"name": "LabelToAffinities", "offsets": [1, 2]}],
        "model.out_channels": 6,
    },
    "new numbers of patches without background": {
        **OBJECTS,
        "loaders.label_internal_path": "full",
        LABEL: [{"name": "Relabel", "run_cc": False}, MASK],
    },
}

WEIGHT = "loaders.*.transformer.weight"
WEIGHTED = {**OBJECTS, **WATCHED, "loaders.weight_internal_path": "weight", WEIGHT: [{"name": "ToTensor", "expand_dims": False}]}

EXACT |= {
    "weights of voxels that are moved": {
        **WEIGHTED,
        RAW: [STANDARD, FLIP, BEND],
        LABEL: [FLIP, {**BEND, "spline_order": 0}, MASK],
        WEIGHT: [FLIP, BEND],
    },
    "weights of classes and voxels": {
        **FIVE,
        **WATCHED,
        "loss": {"name": "PixelWiseCrossEntropyLoss", "weight": [1.0, 2.0, 3.0, 4.0, 5.0], "ignore_index": 4},
        "loaders.train.file_paths": [{"raw": "train.h5", "label": "train.h5", "weight": "second.h5"}],
        "loaders.weight_internal_path": "weight",
        "eval_metric.name": "MeanIoU",
    },
    "weights of single planes": {
        **WEIGHTED,
        "model.name": "UNet2D",
        "loaders.raw_internal_path": "plane_raw",
        "loaders.label_internal_path": "plane_label",
        "loaders.weight_internal_path": "plane_weight",
        "loaders.*.slice_builder": PLANES,
    },
    **{
        f"weights {'below' if below else 'from'} a value": {
            **VALUES,
            **PSNR,
            "loaders.label_internal_path": "other_raw",
            "loss": {"name": "WeightedSmoothL1Loss", "threshold": 0.2, "initial_weight": 3.0, "apply_below_threshold": below},
        }
        for below in (True, False)
    },
    "several data sets, one of two channels": {
        "loaders.raw_internal_path": ["other_raw", "two"],
        "model.in_channels": 3,
        "optimizer": OBJECTS["optimizer"],
        RAW: [{**STANDARD, "channelwise": True}, FLIP, ROTATE],
        LABEL: [FLIP, ROTATE, MASK],
    },
    "labels of several data sets": {
        **VALUES,
        **PSNR,
        "loaders.train.file_paths": ["plain"],
        "loaders.raw_internal_path": ["raw", "/other_raw"],
        "model.in_channels": 2,
        "loaders.label_internal_path": ["mask", "label"],
        "model.out_channels": 2,
        "loss.name": "MSELoss",
    },
    "the third step is the first": {**WATCHED, "trainer.num_iterations": 3, "trainer.max_num_iterations": 5},
    "weights that nothing reads": {"loaders.weight_internal_path": "nowhere"},
}

NOTED = {
    "three normalisations": ({RAW: [STANDARD, {"name": "Normalize"}, STANDARD]}, "loaders.train.transformer.raw"),
    "noise between the normalisations": ({RAW: [POISSON, STANDARD, POISSON]}, "loaders.train.transformer.raw"),
    "a normalisation of whole volumes after noise": (
        {"loaders.global_normalization": True, RAW: [POISSON, STANDARD]},
        "loaders.train.transformer.raw",
    ),
    "normalization": ({"loss.name": "DiceLoss", "loss.normalization": "none"}, "loss.normalization"),
    "voxel size": (
        {"loaders.raw_internal_path": "uneven", RAW: [STANDARD, {"name": "RandomRotate"}], LABEL: [{"name": "RandomRotate"}, MASK]},
        "loaders.train.transformer.raw",
    ),
    "images of several shapes": (
        {
            "model.name": "UNet2D",
            "loaders.dataset": "DSB2018Dataset",
            "loaders.train": {"file_paths": ["cells_train", "cells_large"], "transformer": MASKS},
            "loaders.val": {"file_paths": ["cells_val"], "transformer": MASKS},
        },
        "loaders.dataset",
    ),
    "first step": ({"trainer.num_iterations": 2, "trainer.validate_after_iters": 2}, "trainer.num_iterations"),
    "first epoch": ({"trainer.num_epoch": 1}, "trainer.num_epoch"),
    "weights of 0": ({**WEIGHTED, "loaders.weight_internal_path": "mask"}, "loaders.weight_internal_path"),
    "weights that are moved otherwise": (
        {**WEIGHTED, RAW: [STANDARD, BEND], LABEL: [BEND, MASK], WEIGHT: [{**BEND, "spline_order": 1}]},
        "loaders.train.transformer.weight",
    ),
    "negative ignore_index": ({**FIVE, "loss.ignore_index": -1, "loaders.label_internal_path": "signed"}, "loss.ignore_index"),
    "final_sigmoid": ({**FIVE, "model.final_sigmoid": True}, "model.final_sigmoid"),
    "validation normalisation": (
        {"loaders.val.transformer": {"raw": [{"name": "Normalize"}], "label": MASKS["label"]}},
        "loaders.val.transformer.raw",
    ),
}

REFUSED = {
    "resume": ({"trainer.resume": "start.pytorch"}, "trainer.resume"),
    "weights that are normalised": ({**WEIGHTED, WEIGHT: [STANDARD]}, "loaders.train.transformer.weight"),
    "several weights of a voxel": ({**WEIGHTED, "loaders.weight_internal_path": "two"}, "loaders.weight_internal_path"),
    "regression": ({"loss.name": "MSELoss"}, "loss.name"),
    "no final activation": ({"model.is_segmentation": False}, "loss.name"),
    "several data sets of a file without any": (
        {
            "loaders.raw_internal_path": ["raw", "other_raw"],
            "model.in_channels": 2,
            "loaders.train.file_paths": [{"raw": "a.tif", "label": "b.tif"}],
        },
        "loaders.raw_internal_path",
    ),
    "several data sets that are filtered by the first": (
        {
            **VALUES,
            "loaders.label_internal_path": ["label", "mask"],
            "loaders.train.slice_builder.name": "FilterSliceBuilder",
        },
        "loaders.label_internal_path",
    ),
    "values and numbers that are moved": (
        {
            **VALUES,
            "loaders.label_internal_path": ["other_raw", "mask"],
            "model.out_channels": 2,
            RAW: [STANDARD, ROTATE],
            LABEL: [ROTATE, {"name": "ToTensor"}],
        },
        "loaders.label_internal_path",
    ),
    "labels of several channels that are changed": ({"loaders.label_internal_path": "masks"}, "loaders.label_internal_path"),
    "signed numbers": ({"loaders.label_internal_path": "signed", **VALUES, "loss.name": "MSELoss"}, "loaders.label_internal_path"),
    "several label data sets": ({"loaders.label_internal_path": ["label", "mask"]}, "loaders.label_internal_path"),
    "conv_padding": ({"model.conv_padding": 0}, "model.conv_padding"),
    "boundary as a class": ({LABEL: [{"name": "BlobsToMask", "boundary": True, "cross_entropy": True}]}, TARGETS),
    "another number of channels": ({LABEL: [{**MASK, "boundary": True}]}, "model.out_channels"),
    "a target that is left out": ({LABEL: [{**MASK, "boundary": True}], "loss.skip_last_target": True}, "loss.skip_last_target"),
    "labels among the targets": ({LABEL: [{**MASK, "append_label": True}]}, "loss.skip_last_target"),
    "weights of another number of channels": ({"loss": {"name": "DiceLoss", "weight": [1.0, 2.0]}}, "loss.weight"),
    "two offsets along z": (
        {LABEL: [{"name": "LabelToAffinities", "offsets": [1, 2], "z_offsets": [1, 1]}], "model.out_channels": 6},
        TARGETS,
    ),
    "an ignored label that the loss compares": ({LABEL: [{"name": "StandardLabelToBoundary", "ignore_index": 3}]}, TARGETS),
    "an ignored label that is a value of targets": (
        {LABEL: [{"name": "StandardLabelToBoundary", "ignore_index": 1}], "loss.ignore_index": 1},
        "loss.ignore_index",
    ),
    "an ignored label with a new number": (
        {LABEL: [{"name": "Relabel"}, {"name": "StandardLabelToBoundary", "ignore_index": 3}], "loss.ignore_index": 3},
        TARGETS,
    ),
    "labels that are normalised": ({LABEL: [{"name": "Normalize"}]}, TARGETS),
    "targets of targets": ({LABEL: [MASK, {"name": "StandardLabelToBoundary"}]}, TARGETS),
    "classes from objects": (
        {
            **FIVE,
            LABEL: [{"name": "Relabel", "append_original": True, "ignore_label": 4}],
            "loss.skip_last_target": True,
            "loss.squeeze_channel": True,
        },
        TARGETS,
    ),
    "a 3D network on single planes": (
        {"loaders.raw_internal_path": "plane_raw", "loaders.label_internal_path": "plane_label"},
        "model.name",
    ),
    "a 3D network on images of two dimensions": (
        {
            "loaders.dataset": "DSB2018Dataset",
            **{f"loaders.{phase}": {"file_paths": [f"cells_{phase}"], "transformer": MASKS} for phase in ("train", "val")},
        },
        "model.name",
    ),
    **{
        each["name"]: ({LABEL: [each]}, TARGETS)
        for each in (
            {"name": "RandomLabelToAffinities", "max_offset": 3, "z_offset_scale": 1},
            {"name": "LabelToAffinities", "offsets": [1], "aggregate_affinities": True},
            {"name": "LabelToZAffinities", "offsets": [2]},
            {"name": "LabelToMaskAndAffinities", "xy_offsets": [1], "z_offsets": [1], "background": 1},
            {"name": "RgbToLabel"},
        )
    },
    **{
        loss["name"]: ({"loss": loss}, "loss.name")
        for loss in (
            {"name": "L1Loss"},
            {"name": "SmoothL1Loss"},
            {"name": "WeightedSmoothL1Loss", "threshold": 0.5, "initial_weight": 2.0, "apply_below_threshold": False},
        )
    },
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The small job with more data sets, files and a checkpoint to start from, and their folder."""
    folder = tmp_path_factory.mktemp("data")
    document = changed(small_job(folder), {"trainer.max_num_iterations": 4, "trainer.max_num_epochs": 3, "trainer.validate_after_iters": 2})
    rng = np.random.default_rng(1)
    (folder / "folder").mkdir()
    for name in ("train.h5", "val.h5", "second.h5", "folder/a.h5", "folder/b.h5"):
        with h5py.File(folder / name, "a") as file:
            for key in ("raw", "other_raw"):
                file.require_dataset(key, (8, 16, 16), np.float32)[...] = rng.normal(size=(8, 16, 16))
            for key, highest in (("label", 5), ("other_label", 5), ("mask", 2)):
                file.require_dataset(key, (8, 16, 16), np.uint16)[...] = rng.integers(0, highest, (8, 16, 16))
            file["channels"] = np.zeros((2, 8, 16, 16), np.uint8)
            file["two"] = rng.normal(size=(2, 8, 16, 16)).astype(np.float32)
            file["masks"] = np.stack([np.indices((8, 16, 16)).sum(axis=0) % 7 > 3, rng.random((8, 16, 16)) > 0.5]).astype(np.uint8)
            cells = rng.permutation(np.arange(32) % 5).reshape(2, 4, 4).astype(np.uint16)
            file["objects"] = cells.repeat(4, 0).repeat(4, 1).repeat(4, 2)
            file["partial"] = rng.choice(np.array([0, 1, 255], np.uint8), (8, 16, 16))
            file["full"] = rng.integers(1, 5, (8, 16, 16)).astype(np.uint16)
            file["signed"] = rng.integers(-1, 5, (8, 16, 16)).astype(np.int16)
            file["half"] = np.repeat(np.array([3, 1, 0], np.uint16), [4, 3, 1])[:, None, None].repeat(16, 1).repeat(16, 2)
            file["even"] = 2 * rng.integers(0, 5, (8, 16, 16)).astype(np.uint16)
            file["weight"] = np.random.default_rng(2).uniform(0.1, 3.0, (8, 16, 16))
            file["plane_weight"] = np.random.default_rng(3).uniform(0.1, 3.0, (1, 16, 16))
            file["plane_raw"] = rng.normal(size=(1, 16, 16)).astype(np.float32)
            file["plane_two"] = rng.normal(size=(2, 1, 16, 16)).astype(np.float32)
            file["plane_label"] = rng.integers(0, 5, (1, 16, 16)).astype(np.uint16)
            for key, edges in (("flat", (4.0, 1.0, 1.0)), ("uneven", (4.0, 2.0, 1.0))):
                file[key] = np.asarray(file["raw"])
                file[key].attrs["element_size_um"] = edges
    for name in ("large.h5", "large_val.h5"):
        with h5py.File(folder / name, "w") as file:
            for key, highest in (("bright", 255), ("dim", 2)):
                values = np.zeros((16, 1024, 1056), np.uint8)
                values[:, :16, :16] = rng.integers(0, highest, (16, 16, 16))  # which blocks that are spread over the volume may miss
                file.create_dataset(key, data=values, chunks=(16, 256, 264), compression="gzip", compression_opts=1)
    shutil.copyfile(folder / "second.h5", folder / "plain")
    tifffile.imwrite(folder / "a.tif", rng.normal(size=(8, 16, 16)).astype(np.float32), metadata={"axes": "ZYX"})
    tifffile.imwrite(folder / "b.tif", rng.integers(0, 5, (8, 16, 16)).astype(np.uint16), metadata={"axes": "ZYX"})
    for name, edge in (("cells_train", 16), ("cells_val", 16), ("cells_large", 24)):
        for inner in ("images", "masks"):
            (folder / name / inner).mkdir(parents=True)
        for number in range(3):
            Image.fromarray(rng.integers(0, 255, (edge, 16)).astype(np.uint8)).save(folder / name / f"images/{number}.png")
            Image.fromarray(rng.integers(0, 3, (edge, 16)).astype(np.uint8)).save(folder / name / f"masks/{number}.png")
    torch.manual_seed(5)
    torch.save({"model_state_dict": original_state_dict(build_model(document["model"]))}, folder / "start.pytorch")
    return document, folder


@pytest.fixture
def job(tmp_path, small, monkeypatch):
    """The small job, with its results in the folder of the test; relative paths are relative to the folder of the data."""
    document, data = small
    monkeypatch.chdir(data)
    # also where the package was installed before this format existed
    monkeypatch.setitem(vars(CHECKPOINT_FORMATS), "members", {"3dunet": UNET3D_CHECKPOINT})
    return changed(document, {"trainer.checkpoint_dir": str(tmp_path / "out")})


def weights_of(folder, checkpoint):
    """Weights of a run by the names that both jobs share; kernels of 2D networks without the axis z."""
    stored = load_weights_of(folder / "checkpoints" / checkpoint)
    heads = re.compile(r"\.(classes|image)\.")
    return {heads.sub(".channels.", name.removeprefix("model.network.")): values.squeeze() for name, values in stored.items()}


@pytest.mark.parametrize("changes", EXACT.values(), ids=EXACT)
def test_conversion_trains_the_same_weights(tmp_path, job, changes):
    path = written(tmp_path, changed(job, changes))
    list(train3dunet(path))
    text, _ = convert(path)
    (tmp_path / "native.yaml").write_text(text)
    objects = yaml.safe_load(text)["method"]["kind"] != "regression"
    list(train(tmp_path / "native.yaml", output=tmp_path / "native", overrides=["objects.calibrate=false"] if objects else []))
    # the best weights, too, where a native figure is the metric
    for checkpoint in ("last", "best") if "monitor" in yaml.safe_load(text)["training"] else ("last",):
        ours, theirs = weights_of(tmp_path / "out" / "run", checkpoint), weights_of(tmp_path / "native", checkpoint)
        assert set(ours) == set(theirs)
        for name, values in ours.items():
            torch.testing.assert_close(values, theirs[name], rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")
        # the figure and the learning rate after each validation
        ours, theirs = (read_table(folder / "logs" / "training.csv") for folder in (tmp_path / "out" / "run", tmp_path / "native"))
        figure = Training.model_validate(yaml.safe_load(text)["training"]).monitor
        if figure is not None:
            np.testing.assert_allclose(ours["validation_score"], theirs[figure.monitor.figure], rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(ours["lr"], theirs["lr"], rtol=1e-6)


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


@pytest.mark.parametrize("changes", [{}, {"loaders.raw_internal_path": "flat", "loaders.train.transformer": TURNED}])
def test_plain_job_has_no_note(tmp_path, job, changes):
    text, warnings = convert(written(tmp_path, changed(job, changes)))
    assert not [line for line in text.splitlines() if line.startswith("#")]
    assert warnings == []
    assert yaml.safe_load(text)["training"]["steps"] == 4


def options_of(tmp_path, document):
    """The settings of the training in the native job of a document."""
    return yaml.safe_load(convert(written(tmp_path, document))[0])


OPTIMISERS = [
    *({"name": name, "betas": [0.8, 0.99], "weight_decay": 0.01} for name in ("Adam", "AdamW", "Adamax", "RAdam")),
    {"name": "NAdam", "betas": [0.8, 0.99], "momentum_decay": 0.01},
    {"name": "Adadelta", "rho": 0.8},
    {"name": "Adagrad", "lr_decay": 0.1},
    {"name": "RMSprop", "alpha": 0.9},
    {"name": "Rprop", "etas": [0.4, 1.1], "step_sizes": [1e-5, 10.0]},
    {"name": "SGD", "momentum": 0.9, "dampening": 0.1, "nesterov": False},
]


@pytest.mark.parametrize("section", OPTIMISERS, ids=lambda section: section["name"])
def test_optimisers(tmp_path, job, section):
    made = options_of(tmp_path, changed(job, {"optimizer": {**section, "learning_rate": 0.02}}))
    assert Training.model_validate(made["training"]).optimiser == native_optimiser({**section, "learning_rate": 0.02})


@pytest.mark.parametrize("name", schedule_names())
def test_schedules(tmp_path, job, name):
    section = {"name": name, **SCHEDULES.get(name, {})}
    made = options_of(tmp_path, changed(job, {"lr_scheduler": section}))
    wanted = native_schedule(section)
    assert Training.model_validate(made["training"]).schedule == wanted


@pytest.mark.parametrize("way", ["default", "nearest", "linear", "bilinear", "trilinear", "area", "deconv", "none"])
@pytest.mark.parametrize("name", ["UNet3D", "ResidualUNetSE3D"])
def test_networks(tmp_path, job, name, way):
    document = changed(job, {"model.name": name, "model.upsample": way, "model.pools": 1 if way == "none" else 2})
    made = options_of(tmp_path, document)
    assert OrderedUNetOptions.model_validate(made["network"]) == network_options(NETWORKS.read(document["model"], "model"))


METRIC_KEYS = {"input_channels": [0], "input_channel": 0}


def metric(kind):
    """A section ``eval_metric`` with all of its keys."""
    given = {key: METRIC_KEYS.get(key, row.get_default()) for key, row in kind.model_fields.items()}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in given.items()} | {"name": kind.__name__}


NATIVE_METRICS = {"MeanIoU": "iou", "DiceCoefficient": "dice", "MSE": "mse", "PSNR": "psnr"}


@pytest.mark.parametrize("kind", METRICS.values(), ids=METRICS)
def test_metrics(tmp_path, job, kind):
    text, _ = convert(written(tmp_path, changed(job, {"eval_metric": metric(kind)})))
    assert yaml.safe_load(text)["training"]["monitor"]["kind"] == NATIVE_METRICS.get(kind.__name__, "objects")
    assert "# eval_metric: " not in text


@pytest.mark.parametrize(
    "changes",
    [
        {"eval_metric": {"name": "MeanIoU", "ignore_index": 4}},
        {LABEL: [{**MASK, "boundary": True}], "model.out_channels": 2, "model.final_sigmoid": False},
    ],
)
def test_other_scores_are_no_monitor(tmp_path, job, changes):
    text, _ = convert(written(tmp_path, changed(job, changes)))
    assert "monitor" not in yaml.safe_load(text)["training"]
    assert "# eval_metric: " in text


def sections_of(job):
    """All sections of a checked job."""
    found = [job.plain, job.model, job.loaders, *filter(None, (job.loaders.train, job.loaders.val, job.loaders.test))]
    for phase in found[3:]:
        found += [phase.slice_builder, phase.transformer, *(each for each in phase.file_paths if not isinstance(each, str))]
        found += [each for transforms in parse_lists(phase.transformer) for each in transforms]
    if job.learning is None:
        return [*found, job.predictor]
    trainer = job.learning.trainer
    return [*found, trainer, trainer.tensorboard_formatter, job.learning.loss, job.learning.metric, job.learning.optimizer]


def defining(kind, key):
    """The class that introduced a key."""
    return next(each for each in reversed(kind.__mro__) if key in vars(each).get("__annotations__", {})).__name__, key


def test_every_key_has_a_case(tmp_path, job):
    """Each key of each section is in a case above: the same weights, a note, or a refusal."""
    changes = [*EXACT.values(), *(each for each, _ in (*NOTED.values(), *REFUSED.values()))]
    changes += [*({"optimizer": each} for each in OPTIMISERS), *({"eval_metric": metric(kind)} for kind in METRICS.values())]
    jobs = [read_job(written(tmp_path, changed(job, each))) for each in changes]
    covered, names = set(), set()
    for each in jobs:
        for section in filter(None, sections_of(each)):
            covered |= {defining(type(section), key) for key in section.model_fields_set}
            names.add(type(section))
    tables = [kind for table in (NETWORKS, OPTIMIZERS, LOSSES, METRICS, TRANSFORMS) for kind in table.values()]
    plain = [
        PlainOptions,
        FileOptions,
        SliceBuilderOptions,
        TransformerOptions,
        PhaseOptions,
        LoadersOptions,
        FormatterOptions,
        TrainerOptions,
    ]
    assert set(tables) <= names
    wanted = {defining(kind, key) for kind in (*tables, *plain) for key in kind.model_fields}
    assert wanted - covered == {("PlainOptions", "model_path")}  # of jobs that predict, which are not converted


def test_every_row_says_what_becomes_of_it():
    for kind in (*SECTIONS.values(), *(kind for table in NAMED.values() for kind in table.values())):
        for key in kind.model_fields:
            stated = kind.conversion(key)
            assert stated.words or kind.native_form, (kind, key)
            assert sum(map(bool, stated)) <= 1, (kind, key)
