"""Job files of pytorch-3dunet through the verbs that take any job file."""

from __future__ import annotations

from pathlib import Path

import yaml
from unet3d_jobs import changed, small_job, written

import morula
from morula.core.events import Epoch
from morula.dialects.pytorch3dunet.places import checkpoint_folder, run_folder_of
from morula.testing.errors import raises


def test_a_training_is_run_and_resumed(tmp_path: Path) -> None:
    job = small_job(tmp_path)
    outcome = morula.run(written(tmp_path, job))
    assert outcome.folder == tmp_path / "out/run"
    assert outcome.report is not None
    longer = changed(job, {"trainer.max_num_iterations": 4, "trainer.max_num_epochs": 2})
    steps = [event.step for event in morula.iter_run(written(tmp_path, longer), resume=True) if isinstance(event, Epoch)]
    assert steps[-1] == 4
    assert min(steps) > 2
    assert (tmp_path / "out/last_checkpoint.pytorch").is_file()
    assert not (tmp_path / "out/run_1").exists()  # continued, not set aside


def test_settings_without_a_place_in_the_file_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, small_job(tmp_path))
    for settings in ({"output": tmp_path / "run"}, {"overrides": ["training.epochs=1"]}):
        with raises("pytorch3dunet.option"):
            morula.run(path, **settings)
    assert not (tmp_path / "out").exists()


def test_the_folders_of_a_file(tmp_path: Path) -> None:
    path = written(tmp_path, small_job(tmp_path))
    assert checkpoint_folder(path) == tmp_path / "out"
    assert run_folder_of(path) == tmp_path / "out/run"
    path.write_text(yaml.safe_dump({"model": {"name": "UNet3D"}, "model_path": "a.pytorch", "loaders": {}}))
    assert run_folder_of(path) is None
