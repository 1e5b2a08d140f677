"""Starts and plans that are chosen by short trainings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import yaml

import morula
from morula.core.events import Logged
from morula.jobs import bundled
from morula.jobs.load import load_job
from morula.nn.options import UNetOptions
from morula.workflows import trial
from morula.workflows.answers import Answers
from morula.workflows.new import new
from morula.workflows.trial import settled_start, tried

FACTS = {"suited": {"dimensions": 2, "channels": 1}, "training": []}


@pytest.fixture
def model(run2d: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a bundled model, of a network of two levels."""
    morula.load(run2d).save(tmp_path / "models/cells", torch.rand(1, 1, 8, 8), half=True)
    card = {"name": "cells", "description": "A test.", "license": "CC0-1.0", "config": {"morula": FACTS}}
    (tmp_path / "models/cells/card.yaml").write_text(yaml.safe_dump(card))
    monkeypatch.setattr(bundled, "SHIPPED", tmp_path / "models")
    monkeypatch.setattr(trial, "STEPS", 2)
    return "cells"


def job_of(data: Path, **sections: object) -> dict[str, object]:
    folder = data / "train"
    images = {"train": {"raw": str(folder / "images"), "labels": str(folder / "labels")}, "validate": "25%"}
    sampling = {"patch": [32, 32], "batch": 2, "patches_per_epoch": 4}
    return {"images": images, "method": "channels", "sampling": sampling, "training": {"epochs": 1}, **sections}


def test_a_job_that_names_a_bundled_model_has_its_network_and_weights(model: str, data2d: Path, run2d: Path, tmp_path: Path) -> None:
    rate = {"epochs": 1, "optimiser": {"kind": "adamw", "lr": 1e-12}}
    list(morula.train(job_of(data2d, network={"from": model}, training=rate), output=tmp_path / "run"))
    own, stored = morula.load(tmp_path / "run").network, morula.load(run2d).network
    assert own.options.features == stored.options.features
    weights = stored.state_dict()
    for name, values in own.named_parameters():
        torch.testing.assert_close(values.detach(), weights[name], atol=1e-6, rtol=1e-3)


def test_the_better_start_is_taken_and_named(model: str, data2d: Path, tmp_path: Path) -> None:
    job = load_job(job_of(data2d, network={"from": "auto"}))
    settled, lines = settled_start(job)
    assert settled.network.from_ in (None, model)
    assert all(name in lines[0] for name in (model, "random weights"))
    assert settled_start(job)[0] == settled
    events = list(morula.train(job_of(data2d, network={"from": "auto"}), output=tmp_path / "run"))
    assert lines[0] in [event.message for event in events if isinstance(event, Logged)]
    assert load_job(tmp_path / "run/job.yaml").network.from_ == settled.network.from_


def test_weights_that_do_not_fit_are_no_candidates(model: str, data2d: Path) -> None:
    job = load_job(job_of(data2d, network={"kind": "unetr", "preset": "small", "from": "auto"}))
    assert settled_start(job)[0].network.from_ is None


def test_none_is_no_start() -> None:
    assert UNetOptions.model_validate({"from": "none"}).from_ is None


def test_a_trial_is_the_same_each_time(data2d: Path) -> None:
    job = load_job(job_of(data2d))
    first, second = (tried("a", job, steps=3) for _ in range(2))
    assert (first.f1, first.loss, first.steps) == (second.f1, second.loss, 3)


def test_new_plans_by_trials_for_a_stated_time(model: str, data2d: Path, tmp_path: Path) -> None:
    answers = Answers(str(data2d / "train/images"), str(data2d / "train/labels"))
    written = new(tmp_path / "job.yaml", answers, trial=0.2, minutes=0.02)
    job = load_job(tmp_path / "job.yaml")
    assert written.proof.minutes < 0.1
    assert job.objects.tune
    assert job.training.epochs < 100
    text = (tmp_path / "job.yaml").read_text()
    assert "F+C+Db from cells" in text
    as_it_is, *trained = written.trials
    assert (as_it_is.name, as_it_is.steps, as_it_is.length) == ("cells", 0, "without training")
    assert re.search(rf"cells +{as_it_is.f1:.3f} without training", text)
    assert all(trial.trained for trial in trained)
    note = "morula segment IMAGES --model cells" in " ".join(written.notes)
    assert note == (as_it_is.f1 >= max(trial.f1 for trial in trained))
    assert job.network.from_ in (None, model)
