"""Confidences are calibrated on the validation images after a training."""

from pathlib import Path
from shutil import copytree

import numpy as np
import pytest

import morula
from morula.core.events import Finished
from morula.jobs.load import load_job
from morula.measurement.csv_table import read_table
from morula.models.load import load


def calibration(run: Path):
    """The calibration of a run; job and model hold the same."""
    found = load_job(run / "job.yaml").objects.calibration
    assert load(run).job.objects.calibration == found
    return found


def test_tables_hold_both_confidences(run2d):
    assert calibration(run2d).objects >= 20
    table = read_table(run2d / "objects/nuclei_000.csv")
    names = list(table)
    assert names.index("confidence") == names.index("decoder_confidence") + 1
    assert np.all((np.asarray(table["confidence"]) > 0) & (np.asarray(table["confidence"]) < 1))
    # two epochs find nothing: the decoder is sure of objects that are all wrong
    assert np.mean(table["confidence"]) < np.mean(table["decoder_confidence"]) / 2


def test_new_settings_and_weights_are_calibrated_anew(run2d, tmp_path):
    run = Path(copytree(run2d, tmp_path / "run"))
    first = calibration(run)
    list(morula.tune(run))
    tuned = calibration(run)
    assert tuned != first
    *_, last = morula.train(run / "job.yaml", output=run, resume=True, overrides=["training.epochs=3", "training.schedule=constant"])
    assert isinstance(last, Finished)
    assert last.task == ("calibrate",)
    assert calibration(run) not in (None, first, tuned)


@pytest.mark.parametrize("override", ["objects.calibrate=false", "images.validate=null"])
def test_jobs_without_calibration(data2d, tmp_path, override):
    *_, last = morula.train(data2d.parent / "job.yaml", output=tmp_path / "run", overrides=[override, "training.epochs=1"])
    assert isinstance(last, Finished)
    assert last.task == ("train",)
    assert calibration(tmp_path / "run") is None
