"""BiaPy's command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import morula
from morula.cli.app import app
from morula.cli.biapy import app as biapy_app
from morula.core.manifest import RESULTS, recording
from morula.dialects.biapy.experiment import _copy_job, device_of, run_experiment
from morula.dialects.biapy.folders import Experiment
from morula.testing.errors import raises
from morula.testing.simulate import simulate_data_set
from morula.workflows.run_settings import RunSettings


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A small job that trains and predicts."""
    simulate_data_set(tmp_path / "data", n_train=3, n_test=1, shape=(32, 32), n_objects=3, seed=1)
    job = {
        "PROBLEM": {"TYPE": "INSTANCE_SEG", "NDIM": "2D"},
        "DATA": {
            "PATCH_SIZE": "(32, 32, 1)",
            "TRAIN": {"PATH": str(tmp_path / "data/train/images"), "GT_PATH": str(tmp_path / "data/train/labels")},
            "VAL": {"SPLIT_TRAIN": 0.34},
            "TEST": {"PATH": str(tmp_path / "data/test/images")},
        },
        "MODEL": {"FEATURE_MAPS": [2, 4, 4]},
        "TRAIN": {"ENABLE": True, "EPOCHS": 1},
        "TEST": {"ENABLE": True},
    }
    path = tmp_path / "nuclei.yaml"
    path.write_text(yaml.safe_dump(job), encoding="utf-8")
    return path


def test_a_run_and_one_that_continues_from_its_weights(tmp_path: Path, config: Path) -> None:
    flags = ["--config", str(config), "--result_dir", str(tmp_path / "out"), "--name", "exp", "--run_id", "2", "--gpu", ""]
    done = CliRunner().invoke(app, ["run", *flags])
    assert done.exit_code == 0, done.output
    folder = tmp_path / "out" / "exp"
    assert {path.name[:8] for path in (folder / "config_files").iterdir()} == {"nuclei_2", "nuclei.y"}
    assert (folder / "results" / "exp_2" / "report.html").is_file()
    assert list((folder / "results" / "exp_2" / "objects").glob("*.tif"))

    job = yaml.safe_load(config.read_text())
    job["MODEL"]["LOAD_CHECKPOINT"] = True
    config.write_text(yaml.safe_dump(job), encoding="utf-8")
    done = CliRunner().invoke(biapy_app, flags)
    assert done.exit_code == 0, done.output
    kept = folder / "results" / "exp_2_before_1"
    assert (kept / "model" / "model.json").is_file()
    assert morula.load(folder / "results" / "exp_2").job.network.from_ == str(kept / "model")


def test_a_run_needs_a_job(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["run"]).exit_code == 2


def test_flags_about_processes_are_accepted(tmp_path: Path) -> None:
    flags = ["--dist_backend", "gloo", "--world_size", "2", "--dist_on_itp", "--dist_url", "env://", "--local_rank", "0"]
    done = CliRunner().invoke(biapy_app, ["-config", str(tmp_path / "none.yaml"), "-rdir", str(tmp_path), *flags])
    assert done.exit_code == 1  # there is no such job: the flags were no error
    assert "--dist_backend" in done.stderr
    assert "none.yaml" in done.stderr


def test_graphics_cards() -> None:
    assert device_of("") == ("cpu", 1, "")
    with raises("biapy.gpu", key="--gpu", value="first"):
        device_of("first")


def test_folders() -> None:
    experiment = Experiment(Path("out"), "nuclei", 3)
    assert experiment.run_folder == Path("out/nuclei/results/nuclei_3")
    assert experiment.checkpoint is None


@pytest.mark.parametrize(
    ("result_dir", "name", "code"),
    [
        ("out", "../data", "biapy.name"),
        ("out", "", "biapy.name"),
        ("data/train", "images", "output.inside_input"),
        ("nuclei.yaml", "exp", "file.not_written"),
        ("taken", "exp", "output.is_input"),
    ],
)
def test_results_among_the_images_are_refused(tmp_path: Path, config: Path, result_dir: str, name: str, code: str) -> None:
    if result_dir == "taken":  # the images lie where the checkpoints would
        (tmp_path / "taken/exp").mkdir(parents=True)
        images = (tmp_path / "data/train/images").rename(tmp_path / "taken/exp/checkpoints")
        config.write_text(config.read_text().replace(str(tmp_path / "data/train/images"), str(images)))
    before = sorted(tmp_path.rglob("*"))
    with raises(code):
        list(run_experiment(config, Experiment(tmp_path / result_dir, name), RunSettings()))
    assert [path for path in sorted(tmp_path.rglob("*")) if path.is_file() and path not in before] == []


def test_a_stored_job_file_is_run_again(tmp_path: Path, config: Path) -> None:
    experiment = Experiment(tmp_path / "out", "exp")
    experiment.folder.mkdir(parents=True)
    with recording(experiment.folder, RESULTS):
        assert list(_copy_job(config, experiment, "now")) == []
        stored = experiment.folder / "config_files" / config.name
        assert list(_copy_job(stored, experiment, "later")) == []
    assert stored.read_bytes() == config.read_bytes()
    assert len(list(stored.parent.iterdir())) == 3
