"""Job files of pytorch-3dunet on the command line."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner, Result

from morula.cli.app import app
from morula.dialects.pytorch3dunet.convert import convert
from morula.dialects.pytorch3dunet.job import read_job
from morula.jobs.load import validate
from morula.jobs.yaml_lines import parse_documents

JOB = """\
device: cpu
model: {name: UNet3D, in_channels: 1, out_channels: 1, f_maps: [4, 8], num_groups: 4, pool_kernel_size: 3}
loss: {name: BCEDiceLoss, skip_last_target: true}
optimizer: {learning_rate: 1e-2}
eval_metric: {name: BoundaryAdaptedRandError, thresold: [0.4]}
lr_scheduler: {name: ReduceLROnPlateau, mode: min, patience: 3, verbose: true}
trainer: {checkpoint_dir: out, max_num_epochs: 2, max_num_iterations: 2, eval_score_higher_is_better: false}
loaders:
  num_workers: 0
  train:
    file_paths: [train.h5]
    slice_builder: {name: SliceBuilder, patch_shape: [4, 16, 16], stride_shape: [4, 16, 16], skip_shape_check: true}
    transformer:
      raw: [{name: Standardize}, {name: RandomFlip}, {name: ElasticDeformation, spline_order: 3}]
      label: [{name: RandomFlip}, {name: ElasticDeformation, spline_order: 0}, {name: StandardLabelToBoundary, append_label: true}]
  val:
    file_paths: [val.h5]
    slice_builder: {name: SliceBuilder, patch_shape: [4, 16, 16], stride_shape: [4, 16, 16], skip_shape_check: true}
    transformer:
      raw: [{name: Standardize}]
      label: [{name: StandardLabelToBoundary, append_label: true}]
"""


def typed(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("train.h5", "val.h5"):
        labels = rng.integers(0, 5, (2, 4, 4)).repeat(4, 0).repeat(8, 1).repeat(8, 2).astype(np.uint16)
        with h5py.File(tmp_path / name, "w") as file:
            file["raw"], file["label"] = (labels % 2 + rng.normal(0, 0.1, labels.shape)).astype(np.float32), labels
    (tmp_path / "train.yml").write_text(JOB)
    return tmp_path


def test_check_names_keys_without_effect_and_planned_values(folder: Path) -> None:
    result = typed("check", "train.yml")
    assert result.exit_code == 0, result.output
    assert "train.yml:5  eval_metric.thresold  is ignored" in result.output
    assert "Did you mean 'thresholds'?" in result.output
    assert "model.pool_kernel_size" in result.output
    assert "lr_scheduler.verbose" in result.output
    assert re.search(r"trainer.validate_after_iters +200", result.output)
    assert not (folder / "out").exists()


def test_check_reports_all_problems(folder: Path) -> None:
    wrong = JOB.replace("ReduceLROnPlateau", "ReduceLROnPlato").replace("optimizer: {", "optimizer: {name: adamm, ")
    wrong = wrong.replace("max_num_epochs", "max_epochs").replace("verbose: true", "patiense: 3")
    (folder / "train.yml").write_text(wrong)
    result = typed("check", "train.yml")
    assert result.exit_code == 1
    for said in ("Did you mean 'ReduceLROnPlateau'", "Did you mean 'Adam", "trainer.max_epochs", "trainer.max_num_epochs  is required"):
        assert said in result.output
    (folder / "train.yml").write_text(JOB.replace("[train.h5]", "[tarin.h5]"))
    assert "tarin.h5" in typed("check", "train.yml").output


@pytest.mark.parametrize("command", [("train3dunet", "--config"), ("run",), ("train",)])
def test_file_is_recognised_and_trained(folder: Path, command: tuple[str, ...]) -> None:
    result = typed(*command, "train.yml")
    assert result.exit_code == 0, result.output
    assert (folder / "out" / "last_checkpoint.pytorch").is_file()
    assert (folder / "out" / "run" / "report.html").is_file()


def test_options_that_the_file_decides_are_rejected(folder: Path) -> None:
    result = typed("run", "train.yml", "-o", "elsewhere")
    assert result.exit_code == 2
    assert "--output: cannot be used" in result.output


def test_converted_job_is_valid(folder: Path) -> None:
    result = typed("convert", "train.yml", "-o", "native.yaml")
    assert result.exit_code == 0, result.output
    assert typed("check", "native.yaml", "--no-prove").exit_code == 0
    assert typed("convert", "train.yml", "-o", "native.yaml").exit_code == 1  # it exists
    assert typed("convert", "native.yaml").exit_code == 1
    shown = typed("convert", "train.yml").stdout
    document = yaml.safe_load(shown)
    assert document["method"]["channels"] == [{"C": {"mode": "thick", "connectivity": 2}}]
    assert document["network"]["features"] == [4, 8]
    assert document["training"]["steps"] == 2
    assert document["training"]["schedule"]["options"]["patience"] == 3


@pytest.mark.parametrize(
    ("changes", "place", "expected"),
    [
        ({"loss": {"name": "CrossEntropyLoss", "ignore_index": 2}, "out": 3, "label": [{"name": "RandomFlip"}]}, ("method", "classes"), 3),
        ({"label": [{"name": "BlobsToMask", "append_label": True}]}, ("method", "channels"), ["F"]),
        (
            {"label": [{"name": "BlobsToMask", "boundary": True, "append_label": True}], "out": 2},
            ("method", "channels"),
            ["F", {"C": {"mode": "outer", "connectivity": 2}}],
        ),
        (
            {"label": [{"name": "LabelToAffinities", "offsets": [1], "z_offsets": [2], "append_label": True}], "out": 3},
            ("method", "channels"),
            [{"A": {"offsets": [[0, 0, -1], [0, -1, 0], [-2, 0, 0]], "mode": "different"}}],
        ),
        ({"optimizer": {"name": "SGD", "learning_rate": 0.1, "momentum": 0.5}}, ("training", "optimiser", "momentum"), 0.5),
        ({"raw": [{"name": "PercentileNormalizer", "pmin": 2, "pmax": 98}]}, ("sampling", "normalise", "low"), 2.0),
    ],
)
def test_sections_become_their_counterparts(folder: Path, changes: dict, place: tuple[str, ...], expected: object) -> None:
    document = yaml.safe_load(JOB)
    document["model"]["out_channels"] = changes.pop("out", 1)
    lists = document["loaders"]["train"]["transformer"]
    for key in ("raw", "label"):
        lists[key] = changes.pop(key, lists[key])
    document["optimizer"]["learning_rate"] = 0.01
    (folder / "other.yml").write_text(yaml.safe_dump({**document, **changes}))
    text = convert(read_job("other.yml")).text()
    validate(parse_documents(text)[0])
    found = yaml.safe_load(text)
    for key in place:
        found = found[key]
    assert found == expected


def test_jobs_without_counterpart_say_so(folder: Path) -> None:
    (folder / "train.yml").write_text(JOB.replace("BCEDiceLoss", "SmoothL1Loss"))
    result = typed("convert", "train.yml")
    assert result.exit_code == 1
    assert "morula train3dunet --config" in result.output
