"""Keys of earlier versions stay accepted, with a note that names the present key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from morula.core.remark import code_of
from morula.jobs.load import load_job
from morula.jobs.run_folder import RunFolder
from morula.testing.errors import raises

BASE: dict[str, Any] = {"images": {"train": {"raw": "a", "labels": "b"}}, "method": "channels"}
CASES = [
    ("objects.process", "objects.decoder", "watershed"),
    ("training.optimiser.rate", "training.optimiser.lr", 0.25),
    ("training.average", "training.ema_decay", 0.5),
    ("training.starts", "training.restarts", 3),
    ("training.clip", "training.clip_norm", 2.5),
    ("images.unlabelled", "images.ignore_label", 255),
    ("prediction.augment", "prediction.tta", "flips"),
    ("sampling.least_labelled_validation", "sampling.validation.least_labelled", 0.25),
]


def document(key: str, value: object) -> dict[str, Any]:
    """A job with one more key."""
    job = {name: dict(section) if isinstance(section, dict) else section for name, section in BASE.items()}
    *parents, last = key.split(".")
    section = job
    for parent in parents:
        section = section.setdefault(parent, {})
    section[last] = value
    return job


@pytest.mark.parametrize(("earlier", "present", "value"), CASES)
def test_an_earlier_key_means_the_present_one(earlier: str, present: str, value: object) -> None:
    expected = load_job(document(present, value))
    assert not expected.notes
    for job in (load_job(document(earlier, value)), load_job(BASE, overrides=[f"{earlier}={value}"])):
        assert job.model_dump() == expected.model_dump()
        (note,) = job.notes
        assert code_of(note, "") == "job.earlier_key"
        assert earlier in note
        assert present in note


@pytest.mark.parametrize(("earlier", "present", "value"), CASES)
def test_a_key_is_not_given_under_both_names(earlier: str, present: str, value: object) -> None:
    both = document(earlier, value)
    section = both
    for parent in present.split(".")[:-1]:
        section = section.setdefault(parent, {})
    section[present.split(".")[-1]] = value
    with raises("option.given_twice"):
        load_job(both)


def test_runs_of_before_hold_keys_that_moved() -> None:
    job = load_job(document("sampling", {"leave_out_validation": [], "least_labelled_validation": None}))
    assert (job.sampling.validation.leave_out, job.sampling.validation.least_labelled) == ((), None)  # type: ignore[union-attr]


def test_an_override_replaces_an_earlier_key() -> None:
    job = load_job(document("training.clip", 2.5), overrides=["training.clip_norm=1.0"])
    assert job.training.clip_norm == 1.0


def test_problems_are_at_the_line_of_the_earlier_key(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("images:\n  train: {raw: a, labels: b}\nmethod: channels\ntraining:\n  epochs: 2\n  clip: -1\n")
    with raises("option.range", key="training.clip_norm", line=6):
        load_job(path)


def test_a_saved_job_has_the_present_names(tmp_path: Path) -> None:
    file = RunFolder(tmp_path).write_job(load_job(document("training.starts", 3)))
    assert "restarts: 3" in file.read_text(encoding="utf-8")
    assert not load_job(file).notes


def test_the_record_of_a_search_keeps_its_values() -> None:
    tuned = {"metric": "f1", "images": 1, "trials": 2, "score_before": 0.1, "score_after": 0.2, "before": {"objects.process.valley": 0.5}}
    assert load_job(document("objects.tuned", tuned)).objects.tuned.before == {"objects.decoder.valley": 0.5}  # type: ignore[union-attr]
