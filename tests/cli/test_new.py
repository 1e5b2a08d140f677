"""`morula new`: questions on a terminal, and the answers that options give."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput
from typer.testing import CliRunner, Result

from morula.cli.app import app
from morula.cli.new import asked_on_terminal, interview_of
from morula.jobs.load import load_job
from morula.testing.errors import raises
from morula.testing.simulate import simulate_data_set
from morula.workflows.interview import Interview
from morula.workflows.questions import answers_of
from morula.workflows.reading import Reading

ENTER, DOWN = "\r", "\x1b[B"


def typed(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate_data_set(tmp_path_factory.mktemp("new") / "data", n_train=4, n_test=1, shape=(64, 64), n_objects=8, seed=1)


@pytest.fixture
def keyboard() -> Iterator[PipeInput]:
    with create_pipe_input() as pipe, create_app_session(input=pipe, output=DummyOutput()):
        yield pipe


def test_the_proposed_answers_are_taken_with_enter(data: Path, keyboard: PipeInput) -> None:
    answers = [ENTER, ENTER, ENTER, f"{data / 'train/images'}{ENTER}", ENTER, f"0.5{ENTER}", f"{data / 'train/labels'}{ENTER}"]
    keyboard.send_text("".join(answers) + ENTER * 7)
    found = asked_on_terminal(Interview(), input=keyboard)
    assert found.answer("purpose") == "both"
    assert (found.answer("labelling"), found.answer("voxel_size"), found.answer("start")) == ("all", "0.5", "auto")
    assert answers_of(found).labels == str(data / "train/labels")


def test_no_labels_is_reached_with_the_arrows(data: Path, keyboard: PipeInput) -> None:
    answers = [DOWN + ENTER, ENTER, DOWN + DOWN + ENTER, f"{data / 'train/images'}{ENTER}", ENTER, ENTER, f"12{ENTER}", ENTER, ENTER, ENTER]
    keyboard.send_text("".join(answers))
    found = answers_of(asked_on_terminal(Interview(), input=keyboard))
    assert (found.labels, found.width, found.start) == (None, 12, "none")


def test_a_wrong_answer_is_asked_again(data: Path, keyboard: PipeInput) -> None:
    interview = Interview({"purpose": "segment"})
    keyboard.send_text(f"nowhere{ENTER}\x15{data / 'test/images'}{ENTER}{ENTER}")  # control U empties the line
    assert asked_on_terminal(interview, input=keyboard).answer("images") == str(data / "test/images")


def test_options_are_not_asked_for(data: Path, keyboard: PipeInput) -> None:
    options = {"raw": str(data / "train/images"), "labels": str(data / "train/labels"), "task": "semantic", "start": "none"}
    interview = interview_of(options, Reading(voxel_size=0.5), no_labels=False, ask=True)
    keyboard.send_text(DOWN + ENTER + ENTER * 5)  # purpose, axes, classes, unlabelled, minutes, where
    found = asked_on_terminal(interview, input=keyboard)
    assert found.given.items() >= options.items()
    assert found.answer("purpose") == "train"


def test_a_job_is_written_from_answers(data: Path, tmp_path: Path, keyboard: PipeInput, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("morula.cli.new.on_terminal", lambda: True)
    options = ("--raw", data / "train/images", "--labels", data / "train/labels", "--task", "semantic", "--start", "none")
    keyboard.send_text(DOWN + ENTER + ENTER * 4 + DOWN + DOWN + ENTER)
    result = typed("new", tmp_path / "job.yaml", *options, "--voxel-size", "0.5,0.5")
    assert result.exit_code == 0, result.output
    assert "sbatch" in result.output
    job = load_job(tmp_path / "job.yaml")
    assert job.method.kind == "semantic"
    assert job.images.voxel_size == {"y": 0.5, "x": 0.5, "unit": "um"}


def test_without_a_terminal_nothing_is_asked(tmp_path: Path) -> None:
    result = typed("new", tmp_path / "job.yaml")
    assert result.exit_code == 2
    assert "--yes" in result.output


def test_an_existing_file_is_refused_before_the_questions(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("mine")
    result = typed("new", tmp_path / "job.yaml")
    assert result.exit_code == 1
    assert (tmp_path / "job.yaml").read_text() == "mine"


def test_without_labels_wnet3d_is_planned(data: Path, tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    result = typed("new", job, "--raw", data / "train/images", "--no-labels", "--width", 20, "--yes", "--minutes", 0.02)
    assert result.exit_code == 0, result.output
    found = load_job(job)
    assert found.method.kind == "wnet3d"
    assert found.method.smoothing == 2
    assert found.training.restarts == 3
    assert found.images.validate_ is None
    assert min(found.sampling.patch_shape) >= 40


def test_weights_alone_are_planned(data: Path, tmp_path: Path) -> None:
    result = typed("new", tmp_path / "job.yaml", "--raw", data / "train/images", "--task", "pretraining", "--yes", "--minutes", 0.02)
    assert result.exit_code == 0, result.output
    assert load_job(tmp_path / "job.yaml").method.kind == "crappify"


def test_classes_and_the_annotated_part_reach_the_job(data: Path, tmp_path: Path) -> None:
    given = ("--raw", data / "train/images", "--labels", data / "train/labels", "--yes", "--minutes", 0.02, "--trial", 0)
    labels = data / "train/labels"
    result = typed("new", tmp_path / "job.yaml", *given, "--mask", 255, "--classes", labels, "--class-names", ",".join("abcdefghijkl"))
    assert result.exit_code == 0, result.output
    job = load_job(tmp_path / "job.yaml")
    assert job.images.ignore_label == 255
    assert job.images.train is not None
    assert job.images.train.classes == str(labels)
    assert job.method.object_classes is not None
    assert job.method.object_classes.number == 12


def test_labels_cannot_be_given_and_denied() -> None:
    with raises("new.labels_denied"):
        interview_of({"labels": "a"}, Reading(), no_labels=True, ask=True)
