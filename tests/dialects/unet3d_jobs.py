"""A small job of pytorch-3dunet with its data, and variants of it."""

import copy

import h5py
import numpy as np
import yaml

BUILDER = {"patch_shape": [4, 16, 16], "stride_shape": [4, 16, 16], "skip_shape_check": True}
MASKS = {"raw": [{"name": "Standardize"}], "label": [{"name": "BlobsToMask"}, {"name": "ToTensor", "expand_dims": False}]}
CLASSES = {"raw": [{"name": "Standardize"}], "label": [{"name": "ToTensor", "expand_dims": False, "dtype": "int64"}]}
IDS = {"raw": [{"name": "Standardize"}], "label": [{"name": "ToTensor", "expand_dims": True}]}
SCHEDULES = {
    "StepLR": {"step_size": 2},
    "MultiStepLR": {"milestones": [1, 2]},
    "ExponentialLR": {"gamma": 0.9},
    "CosineAnnealingLR": {"T_max": 4},
    "CosineAnnealingWarmRestarts": {"T_0": 2},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1},
    "OneCycleLR": {"max_lr": 0.1, "total_steps": 10},
    "ReduceLROnPlateau": {"mode": "max", "patience": 0},
}
"""Arguments of schedules of torch that need some, or that are not their defaults."""


def small_job(tmp_path):
    """A small job that is right, as a mapping; its data are written to the folder."""
    rng = np.random.default_rng(0)
    for name in ("train.h5", "val.h5"):
        with h5py.File(tmp_path / name, "w") as file:
            file["raw"] = rng.normal(size=(8, 16, 16)).astype(np.float32)
            file["label"] = rng.integers(0, 5, (8, 16, 16)).astype(np.uint16)
    phase = {"slice_builder": BUILDER, "transformer": MASKS}
    return {
        "device": "cpu",
        "model": {"name": "UNet3D", "in_channels": 1, "out_channels": 1, "f_maps": [4, 8], "num_groups": 2},
        "loss": {"name": "BCEDiceLoss"},
        "optimizer": {"learning_rate": 0.001},
        "eval_metric": {"name": "DiceCoefficient"},
        "trainer": {"checkpoint_dir": str(tmp_path / "out"), "max_num_epochs": 1, "max_num_iterations": 2},
        "loaders": {
            "num_workers": 0,
            "train": {"file_paths": [str(tmp_path / "train.h5")], **phase},
            "val": {"file_paths": [str(tmp_path / "val.h5")], **phase},
        },
    }


def changed(job, changes):
    """The job with values at dotted keys; a phase key `*` means train and val."""
    document = copy.deepcopy(job)
    for key, value in changes.items():
        for dotted in [key.replace("*", phase) for phase in ("train", "val")] if "*" in key else [key]:
            *parents, last = dotted.split(".")
            inner = document
            for parent in parents:
                inner = inner.setdefault(parent, {})
            inner[last] = copy.deepcopy(value)  # a later change may go into it
    return document


def written(tmp_path, document):
    path = tmp_path / "job.yml"
    path.write_text(yaml.safe_dump(document))
    return path
