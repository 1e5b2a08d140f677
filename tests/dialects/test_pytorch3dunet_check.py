"""What `morula check` finds in jobs of pytorch-3dunet before training: each row is a job that used to fail late, or not at all."""

import h5py
import numpy as np
import pytest
import torch
from unet3d_jobs import BUILDER, CLASSES, IDS, changed, small_job, written

from morula.core.errors import JobError
from morula.core.events import Warned
from morula.dialects.pytorch3dunet import build_metric, build_model, original_state_dict
from morula.dialects.pytorch3dunet.check import check3dunet
from morula.dialects.pytorch3dunet.train import train3dunet


@pytest.fixture
def job(tmp_path):
    return small_job(tmp_path)


def problems(tmp_path, document):
    with pytest.raises(JobError) as caught:
        check3dunet(written(tmp_path, document))
    assert all(problem.line or problem.key in ("device",) for problem in caught.value.problems)
    return [problem.key for problem in caught.value.problems]


def test_proof_writes_nothing(tmp_path, job):
    checked = check3dunet(written(tmp_path, job))
    assert checked.proof.weights > 0
    assert checked.remarks == ()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"model.out_channels": 2}, "loss"),
        (
            {"model.out_channels": 5, "model.final_sigmoid": False, "loss.name": "CrossEntropyLoss", "loaders.*.transformer": CLASSES},
            "eval_metric",
        ),
        ({"model.f_maps": [4, 8, 8, 8]}, "loaders.train.slice_builder.patch_shape"),
        ({"loaders.*.transformer": IDS}, "loaders.train.transformer.label"),
        ({"model.final_sigmoid": False}, "model.final_sigmoid"),
        ({"loss.name": "CrossEntropyLoss"}, "model.out_channels"),
        ({"model.name": "UNet2D"}, "loaders.train.slice_builder.patch_shape"),
        ({"trainer.pre_trained": "nowhere.pytorch"}, "trainer.pre_trained"),
        ({"loaders.test": {"file_paths": ["nowhere.h5"], "slice_builder": BUILDER}}, "loaders.test.file_paths"),
        ({"model.in_channels": 3}, "loaders.train.file_paths"),
    ],
)
def test_problems_are_found_before_training(tmp_path, job, changes, key):
    assert problems(tmp_path, changed(job, changes))[0] == key


def test_all_missing_files(tmp_path, job):
    document = changed(job, {"loaders.train.file_paths": ["a.h5", "b.h5"], "loaders.val.file_paths": ["c.h5"]})
    assert problems(tmp_path, document) == ["loaders.train.file_paths"] * 2 + ["loaders.val.file_paths"]


def test_nan(tmp_path, job):
    with h5py.File(tmp_path / "val.h5", "a") as file:
        file["raw"][7, 15, 15] = np.nan
    assert problems(tmp_path, job) == ["loaders.val.file_paths"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is present")
def test_absent_device(tmp_path, job):
    assert problems(tmp_path, changed(job, {"device": "cuda"})) == ["device"]


def test_activation_against_the_loss(tmp_path, job):
    changes = {"model.out_channels": 5, "loss.name": "CrossEntropyLoss", "eval_metric.name": "MeanIoU", "loaders.*.transformer": CLASSES}
    remarks = check3dunet(written(tmp_path, changed(job, changes))).remarks
    assert [remark.code for remark in remarks] == ["model.activation_against_loss"]


def test_instance_ids_as_targets(tmp_path, job):
    events = train3dunet(written(tmp_path, changed(job, {"loaders.*.transformer": IDS})))
    assert any(isinstance(event, Warned) and "between 0 and 1" in event.message for event in events)


def implausible(kind, labels):
    """Raw data and labels that cannot be what the job says."""
    bright = (labels > 0) + 0.1 * np.random.default_rng(0).random(labels.shape)
    if kind == "labels.misplaced":
        return bright, labels[:, ::-1]
    if kind == "labels.grey":
        return bright, (1000 * np.random.default_rng(1).random(labels.shape)).astype(np.uint16)
    if kind == "labels.background_id":
        return bright, np.where(labels == 0, 9, labels)
    return bright, np.zeros_like(labels)


@pytest.mark.parametrize("kind", ["labels.misplaced", "labels.grey", "labels.background_id", "labels.empty", "images.duplicates"])
def test_implausible_volumes(tmp_path, job, kind):
    labels = np.zeros((8, 32, 32), np.uint16)
    labels[:, 2:12, 3:9], labels[:, 4:10, 20:26], labels[:, 15:19, 12:16] = 1, 2, 3
    raw, other = implausible(kind, labels)
    for number, name in enumerate(("train.h5", "val.h5")):
        with h5py.File(tmp_path / name, "w") as file:
            file["raw"] = (raw + (0 if kind == "images.duplicates" else number)).astype(np.float32)
            file["label"] = labels if kind == "images.duplicates" else other.astype(np.uint16)
    path = written(tmp_path, job)
    remarks = check3dunet(path, prove=False).remarks
    assert [remark.code for remark in remarks] == [kind], remarks
    warned = [event.code for event in train3dunet(path) if isinstance(event, Warned)]
    assert kind in warned


def test_proof_of_a_prediction(tmp_path, job):
    torch.save(original_state_dict(build_model(job["model"])), tmp_path / "model.pytorch")
    test = {"file_paths": [str(tmp_path / "val.h5")], "slice_builder": {**BUILDER, "patch_shape": [1, 16, 16], "stride_shape": [1, 16, 16]}}
    predictor = {"performance_metric": "dice", "gt_internal_path": "nothing"}
    document = {"device": "cpu", "model": job["model"], "model_path": str(tmp_path / "model.pytorch"), "loaders": {"test": test}}
    assert problems(tmp_path, document) == ["loaders.test.slice_builder.patch_shape"]
    assert problems(tmp_path, {**document, "predictor": predictor}) == ["predictor.gt_internal_path"]


def test_hdf5_without_suffix(tmp_path, job):
    (tmp_path / "train.h5").rename(tmp_path / "train")
    checked = check3dunet(written(tmp_path, changed(job, {"loaders.train.file_paths": [str(tmp_path / "train")]})))
    assert checked.purpose == "train"


@pytest.mark.parametrize(("name", "perfect"), [("BoundaryAveragePrecision", 1.0), ("BoundaryAdaptedRandError", 0.0)])
def test_integer_boundary_maps(name, perfect):
    boundary = np.zeros((1, 1, 4, 24, 24), np.int32)
    boundary[..., 11] = boundary[..., 12, :] = 1
    labels = np.ones((1, 1, 4, 24, 24), np.int32)
    labels[..., 12:] += 1
    labels[..., 12:, :] += 2
    labels[boundary > 0] = 0
    metric = build_metric({"name": name})
    assert metric(boundary, labels) == metric(boundary.astype(np.float32), labels) == perfect
