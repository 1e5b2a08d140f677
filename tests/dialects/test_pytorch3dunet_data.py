"""Job files, volumes and patches of pytorch-3dunet."""

import hashlib
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from morula.core.errors import JobError
from morula.data.labelled_voxels import labelled_voxels
from morula.dialects.pytorch3dunet.job import read_job
from morula.dialects.pytorch3dunet.patches import build_slices, grid_of
from morula.dialects.pytorch3dunet.sections import LoadersOptions, SliceBuilderOptions
from morula.dialects.pytorch3dunet.volumes import Volume, open_array, open_volumes
from morula.io.lazy import Stack
from morula.io.write import write
from morula.testing.errors import raises

TRAIN = """
model: {name: UNet3D, in_channels: 1, out_channels: 1, f_maps: [4, 8], num_groups: 4, pool_kernel_size: 3}
loss: {name: BCEDiceLoss, skip_last_target: true}
optimizer: {learning_rate: 2e-4}
eval_metric: {name: BoundaryAdaptedRandError, threshold: 0.4}
trainer: {checkpoint_dir: out, max_num_epochs: 3, max_num_iterations: 5}
loaders:
  raw_internal_path: raw
  train:
    file_paths: [a.h5]
    slice_builder: {name: FilterSliceBuilder, patch_shape: [8, 64, 64], stride_shape: [4, 32, 32], threshold: 0.1}
    transformer: {raw: [{name: Standardize}], label: []}
  val:
    file_paths: [b.h5]
    slice_builder: {name: SliceBuilder, patch_shape: [8, 64, 64], stride_shape: [8, 64, 64]}
"""


def job(tmp_path, text):
    path = tmp_path / "train.yml"
    path.write_text(textwrap.dedent(text))
    return path


def test_keys_without_effect(tmp_path):
    read = read_job(job(tmp_path, TRAIN))
    assert read.loaders.train.slice_builder.stride_shape == (4, 32, 32)
    assert read.learning.trainer.validate_after_iters == 200
    assert [(each.key, each.line) for each in read.remarks] == [("model.pool_kernel_size", 2), ("eval_metric.threshold", 5)]
    assert "Write pools" in read.remarks[0].message


def test_all_problems_at_once(tmp_path):
    text = TRAIN.replace("max_num_epochs", "max_num_epoch").replace("UNet3D", "UNet4D").replace("threshold: 0.1", "threshold: 2")
    text = text.replace("[8, 64, 64], stride_shape: [8, 64, 64]", "[8, 64, 32], stride_shape: [8, 64, 64]")
    with pytest.raises(JobError) as caught:
        read_job(job(tmp_path, text))
    assert {problem.key: problem.code for problem in caught.value.problems} == {
        "model.name": "job.unknown_name",
        "trainer.max_num_epoch": "job.unknown_key",
        "trainer.max_num_epochs": "option.missing",
        "loaders.val.slice_builder": "patch.too_small",
        "loaders.train.slice_builder.threshold": "option.range",
    }
    assert {problem.line for problem in caught.value.problems if problem.code == "option.range"} == {11}


def test_overrides(tmp_path):
    text = "model: {name: UNet3D, in_channels: 1, out_channels: 1}\nloaders: {test: {file_paths: [a.h5], slice_builder: " + (
        "{patch_shape: [8, 64, 64], stride_shape: [8, 64, 64]}}}\n"
    )
    read = read_job(
        job(tmp_path, text),
        "predict",
        overrides={
            "model_path": "best.pytorch",
            "loaders.test.file_paths": ["c.h5"],
            "loaders.test.slice_builder.patch_shape": [16, 64, 64],
        },
    )
    assert read.plain.model_path == "best.pytorch"
    assert read.loaders.test.file_paths == ("c.h5",)
    assert read.loaders.test.slice_builder.patch_shape == (16, 64, 64)
    with raises("job.no_section", key="predictor.name"):
        read_job(tmp_path / "train.yml", "predict", overrides={"predictor.name": "x"})


@given(st.integers(1, 40), st.integers(1, 20), st.integers(1, 25))
def test_positions_of_the_original(length, patch, stride):
    options = SliceBuilderOptions(patch_shape=(1, 1, patch), stride_shape=(1, 1, stride), skip_shape_check=True)
    starts = grid_of((1, 1, length), options).starts[2]
    if length < patch:
        assert len(starts) == 1
        return
    expected = list(range(0, length - patch + 1, stride))
    expected += [length - patch] if expected[-1] + patch < length else []
    assert starts.tolist() == expected


@pytest.mark.parametrize("ignore", [None, 3])
@pytest.mark.parametrize("shape", [(1, 9, 20, 17), (2, 5, 12, 30)])
def test_labelled_voxels_per_patch(shape, ignore, monkeypatch):
    monkeypatch.setattr("morula.data.labelled_voxels._BLOCK", 200)
    labels = np.random.default_rng(0).integers(0, 5, shape)
    grid = grid_of(shape[1:], SliceBuilderOptions(patch_shape=(4, 7, 6), stride_shape=(3, 2, 5), skip_shape_check=True))
    counts = labelled_voxels(labels, grid, ignore).ravel()
    for index in range(len(grid)):
        patch = labels[(slice(None), *grid[index].slices)]
        assert counts[index] == np.count_nonzero((patch != 0) & (patch != ignore))


def test_filtered_patches_of_the_original():
    labels = (np.random.default_rng(1).random((1, 8, 30, 30)) < np.linspace(0, 1, 30)).astype(np.uint16)
    options = SliceBuilderOptions(
        name="FilterSliceBuilder", patch_shape=(4, 6, 6), stride_shape=(2, 3, 3), skip_shape_check=True, threshold=0.5, slack_acceptance=0.2
    )
    everywhere = grid_of((8, 30, 30), options)
    luck = np.random.RandomState(47)
    expected = [
        box.start
        for box in (everywhere[i] for i in range(len(everywhere)))
        if np.count_nonzero(labels[(0, *box.slices)]) / 144 > 0.5 or luck.rand() < 0.2
    ]
    found = build_slices(Volume("a", Path("a"), labels, (labels,)), options)
    assert [found[i].start for i in range(len(found))] == expected
    with raises("patch.nothing_labelled"):
        build_slices(Volume("a", Path("a"), labels, (labels * 0,)), options.model_copy(update={"slack_acceptance": 0.0}))


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("shape", "seen"), [((4, 6, 5), (1, 4, 6, 5)), ((3, 4, 6, 5), (3, 4, 6, 5)), ((1, 6, 5), (1, 1, 6, 5)), ((2, 1, 6, 3), (2, 1, 6, 3))]
)
def test_data_sets_are_czyx(tmp_path, shape, seen):
    path = tmp_path / "a.h5"
    values = np.random.default_rng(0).random(shape).astype(np.float32)
    with h5py.File(path, "w") as file:
        file["raw"] = values
        file["other/label"] = np.ones(shape[-3:], np.uint16)
    before = digest(path)
    array = open_array(path, "raw")
    assert array.shape == seen
    np.testing.assert_array_equal(array[:, 0:1, 2:5, 1:3], values.reshape(seen)[:, 0:1, 2:5, 1:3])
    assert open_array(f"{path}:/other/label").shape == (1, *shape[-3:])
    assert digest(path) == before
    with raises("dataset.missing", value="rawr"):
        open_array(path, "rawr")


def loaders(paths, **options):
    builder = {"patch_shape": [2, 3, 3], "stride_shape": [2, 3, 3], "skip_shape_check": True}
    return LoadersOptions.model_validate({"train": {"file_paths": paths, "slice_builder": builder}, **options})


def test_folders_and_weights(tmp_path):
    for name in ("s10.h5", "s2.hdf5"):
        with h5py.File(tmp_path / name, "w") as file:
            file["r1"], file["r2"] = np.zeros((4, 6, 5), np.uint8), np.ones((2, 4, 6, 5), np.uint16)
            file["l1"], file["l2"], file["w"] = (np.full((4, 6, 5), n, np.uint16) for n in (1, 2, 3))
    (tmp_path / "notes.txt").write_text("x")
    options = loaders([str(tmp_path)], raw_internal_path=["r1", "r2"], label_internal_path=["l1", "l2"], weight_internal_path="w")
    volumes = open_volumes(options, "train", weights=True)
    assert [volume.name for volume in volumes] == ["s2.hdf5", "s10.h5"]
    first = volumes[0]
    assert isinstance(first.raw, Stack)
    assert first.raw.shape == (3, 4, 6, 5)
    assert first.raw[:, 0:1, 0:1, 0:1].ravel().tolist() == [0, 1, 1]
    assert [int(each[0, 0, 0, 0]) for each in first.labels] == [1, 2]
    assert int(first.weight[0, 0, 0, 0]) == 3


def test_tiff_and_ome_zarr(tmp_path):
    raw, label = np.arange(120, dtype=np.uint16).reshape(4, 6, 5), np.ones((4, 6, 5), np.uint16)
    for folder, values in (("images", raw), ("labels", label)):
        (tmp_path / "tif" / folder).mkdir(parents=True)
        write(tmp_path / "tif" / folder / "a.tif", values, axes="ZYX", voxel_size=[2.0, 0.5, 0.5])
    write(tmp_path / "b_raw.ome.zarr", raw, axes="ZYX")
    write(tmp_path / "b_label.ome.zarr", label, axes="ZYX")
    named = {"raw": str(tmp_path / "tif/images/a.tif"), "label": str(tmp_path / "b_label.ome.zarr")}
    volumes = open_volumes(loaders([str(tmp_path / "tif"), str(tmp_path / "b_raw.ome.zarr"), named]), "train")
    assert [volume.shape for volume in volumes] == [(4, 6, 5)] * 3
    assert volumes[0].spacing == (2.0, 0.5, 0.5)
    for volume in volumes:
        np.testing.assert_array_equal(np.asarray(volume.raw)[0], raw)
        np.testing.assert_array_equal(np.asarray(volume.labels[0])[0], label)


def test_missing_and_mismatched_files(tmp_path):
    write(tmp_path / "a.tif", np.zeros((4, 6, 5), np.uint8), axes="ZYX")
    with raises("volume.labels_missing"):
        open_volumes(loaders([str(tmp_path / "a.tif")]), "train")
    with raises("file.missing", file=str(tmp_path / "none.h5")):
        open_volumes(loaders([str(tmp_path / "none.h5")]), "train")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["raw"], file["label"] = np.zeros((4, 6, 5)), np.zeros((4, 6, 6), np.uint8)
    with raises("image.shapes_differ"):
        open_volumes(loaders([str(tmp_path / "b.h5")]), "train")
