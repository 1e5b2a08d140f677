"""A sample of the bad inputs that `python -m bench trust` tries in full: each ends in one error that helps."""

import os

import pytest

from morula.dialects.convert import convert
from morula.jobs.load import load_job
from morula.testing.bad_documents import bad_documents
from morula.testing.bad_images import bad_images
from morula.testing.bad_inputs import USES, attempt


def use_job(path):
    if any(program in path.parent.name for program in ("biapy", "unet3d")):
        convert(path)
    else:
        load_job(path)


@pytest.mark.parametrize(("family", "every"), [(bad_images, 4), (bad_documents, 9)])
def test_a_sample_of_bad_inputs(tmp_path, monkeypatch, family, every):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    outcomes = {}
    for number, case in enumerate(family(tmp_path / "inputs", seed=1)):
        if number % every == 0:
            outcomes[case.name] = attempt(case, {**USES, "job": use_job})
    assert not {name: outcome.failure for name, outcome in outcomes.items() if outcome.failure}
    assert sum(outcome.refused for outcome in outcomes.values()) > len(outcomes) / 2
    assert os.listdir() == []
