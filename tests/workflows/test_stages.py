"""From no label to a trained instance model: two documents in one file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import morula
from morula.core.events import Artefact, FileWritten, Logged, Warned
from morula.jobs.load import load_job
from morula.testing.errors import raises
from morula.workflows.check import Checked, check_stages

JOB = """\
images: {train: {raw: data/train/images}, validate: null}
method: {kind: wnet3d, smoothing: 1}
network: {kind: wnet, preset: light, features: [4, 8]}
sampling: {patch: [16, 32, 32], batch: 1, patches_per_epoch: 8}
training: {epochs: 1, optimiser: {kind: adamw, lr: 1e-2}}
---
images:
  train: {raw: data/train/images, pseudo: {}}
  validate: null
  test: {raw: data/test/images, labels: data/test/labels}
method: {kind: channels, channels: [F, C]}
network: {kind: unet, features: [4, 8]}
sampling: {patch: [16, 32, 32], batch: 1, patches_per_epoch: 4}
training: {epochs: 2}
"""


@pytest.fixture(scope="module")
def job(data3d: Path) -> Path:
    path = data3d.parent / "stages.yaml"
    path.write_text(JOB)
    return path


def test_second_stage_learns_from_pseudo_labels(job: Path, data3d: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    events = list(morula.iter_run(job, output=folder, overrides=["2.training.epochs=1"]))
    assert (folder / "1_wnet3d/model/model.json").is_file()
    assert (folder / "2_channels/scores.csv").is_file()
    assert (folder / "2_channels/report.html").is_file()
    assert any(isinstance(event, FileWritten) and event.kind is Artefact.PSEUDO_LABELS for event in events)
    assert len((folder / "2_channels/logs/training.csv").read_text().splitlines()) == 2
    names = sorted(path.name for path in (data3d / "train/images").iterdir())
    assert sorted(path.name for path in (folder / "pseudo_labels/labels").iterdir()) == names
    labels, masks = (np.asarray(morula.read(folder / "pseudo_labels" / kind / names[0])) for kind in ("labels", "masks"))
    assert set(np.unique(masks)) <= {0, 1}
    assert masks[labels > 0].all()
    again = [event.message for event in morula.iter_run(job, output=folder, resume=True) if isinstance(event, Logged)]
    assert any(text.startswith("stage 2 of 2") for text in again)


def test_pseudo_labels_need_a_stage_before(job: Path, tmp_path: Path) -> None:
    first = tmp_path / "first.yaml"
    text = JOB.replace("{raw: data/train/images}", "{raw: data/train/images, pseudo: {}}", 1)
    first.write_text(text)
    with raises("stages.no_earlier_stage", key="images.train.pseudo"):
        list(morula.iter_run(first, output=tmp_path / "a"))
    single = job.parent / "single.yaml"
    single.write_text(JOB.split("---\n")[1])
    with raises("images.labels_missing", key="images.train.labels"):
        list(morula.iter_run(single, output=tmp_path / "b"))
    with raises("job.several_stages"):
        list(morula.train(job, output=tmp_path / "c"))


PRETRAINED = """\
images: {train: {raw: data/train/images}, validate: null}
method: {kind: crappify}
network: {kind: unet, features: [4, 8]}
sampling: {patch: [16, 32, 32], batch: 1, patches_per_epoch: 2}
training: {epochs: 1}
---
images:
  train: {raw: data/train/images, labels: data/train/labels}
  validate: null
method: {kind: channels, channels: [F, C]}
network: {kind: unet, from: stage 1}
sampling: {patch: [16, 32, 32], batch: 1, patches_per_epoch: 2}
training: {epochs: 1}
"""


def test_second_stage_starts_from_first_weights(data3d: Path, tmp_path: Path) -> None:
    path = data3d.parent / "pretrained.yaml"
    path.write_text(PRETRAINED)
    said = [event.message for event in morula.iter_run(path, output=tmp_path / "run") if isinstance(event, Logged)]
    first, second = (morula.load(tmp_path / "run" / name) for name in ("1_crappify", "2_channels"))
    assert second.job.network.features == first.job.network.features == (4, 8)
    assert Path(second.job.network.from_) == tmp_path / "run/1_crappify"
    assert any("1_crappify" in text and "taken" in text for text in said), said
    longer = ["1.training.epochs=9", "1.training.schedule=constant", "2.prediction.tta=none"]
    warned = [event for event in morula.iter_run(path, output=tmp_path / "run", resume=True, overrides=longer) if isinstance(event, Warned)]
    assert [event.code for event in warned if event.code.startswith("stages")] == ["stages.of_former_weights"]
    assert len((tmp_path / "run/1_crappify/logs/training.csv").read_text().splitlines()) == 10
    assert load_job(tmp_path / "run/2_channels/job.yaml").prediction.tta == "none"
    refused = ["1.training.seed=5"]
    with raises("resume.other_settings"):
        list(morula.iter_run(path, output=tmp_path / "run", resume=True, overrides=refused))


def test_all_stages_are_checked(data3d: Path) -> None:
    path = data3d.parent / "checked.yaml"
    path.write_text(PRETRAINED)
    first, second = check_stages(path, prove=False)
    assert isinstance(first, Checked)
    assert second == "channels"
    path.write_text(PRETRAINED.replace("stage 1", "stage 2"))
    with raises("stages.not_earlier", key="network.from", value="stage 2"):
        check_stages(path, prove=False)
    path.write_text(PRETRAINED.replace("channels: [F, C]", "channels: [F, Cx]"))
    with raises("option.choice", value="Cx"):
        check_stages(path, prove=False)
