"""The questions for a new job: which are asked, what answers lead to, and what cannot be used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import morula
from morula.core.errors import MorulaError
from morula.testing.errors import raises
from morula.workflows.consequences import edges
from morula.workflows.interview import Interview
from morula.workflows.questions import QUESTIONS, WHERE, answers_of, asked, checked, next_question, question, segment_command
from morula.workflows.reading import Reading


def keys(interview: Interview) -> list[str]:
    return [each.key for each in asked(interview)]


def wrong(interview: Interview) -> dict[str, str]:
    return {each.question.key: each.error.code for each in checked(interview) if each.error is not None}


@pytest.fixture(scope="session")
def train(data2d: Path) -> dict[str, str]:
    return {"raw": str(data2d / "train/images"), "labels": str(data2d / "train/labels")}


def test_the_module_needs_neither_torch_nor_qt() -> None:
    code = "import morula.workflows.questions, sys; sys.exit(bool({'torch', 'napari', 'qtpy', 'questionary'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_each_question_has_a_key_of_its_own_a_help_and_one_kind_of_answer() -> None:
    assert len({each.key for each in QUESTIONS}) == len(QUESTIONS)
    for each in QUESTIONS:
        assert each.text
        assert each.help
        assert (each.check is None) == (each.kind == "choice")


def test_what_is_asked_follows_from_the_answers(train: dict[str, str], data3d: Path) -> None:
    labelled = keys(Interview(train))
    assert {"labels", "axes", "voxel_size", "classes", "unlabelled", "start", "test", "minutes"} <= set(labelled)
    assert not {"width", "slices", "mask", "class_names", "weights", "model"} & set(labelled)
    volumes = Interview({"raw": str(data3d / "train/images"), "labelling": "none"})
    assert {"width", "slices"} <= set(keys(volumes))
    assert not {"labels", "voxel_size", "unlabelled", "classes"} & set(keys(volumes))  # the files state their voxel size
    assert "pixel_classes" in keys(Interview({**train, "task": "semantic"}))
    assert "none" not in [choice.value for choice in question("labelling").choices(Interview({"task": "semantic"}))]
    assert "labelling" not in keys(Interview({"task": "pretraining"}))
    assert keys(Interview({"purpose": "segment"})) == ["purpose", "images", "model"]
    assert "test" not in keys(Interview({**train, "purpose": "train"}))
    assert "test" not in keys(Interview({**train, "axes": "planes"}))


def test_each_answer_has_a_consequence(train: dict[str, str], data3d: Path) -> None:
    given = {**train, "classes": train["labels"], "class_names": "a, b", "unlabelled": train["raw"], "test": train["raw"], "minutes": "3"}
    volumes = {"labelling": "none", "raw": str(data3d / "train/images"), "width": "8", "slices": "4"}
    for answers in (given, {**train, "labelling": "part", "mask": "255"}, volumes, {"task": "pretraining", "raw": train["raw"]}):
        for each in checked(Interview(answers)):
            assert each.error is None
            assert each.consequence
            assert all(choice.consequence for choice in each.choices)
    assert all(choice.consequence for choice in WHERE)


def test_the_files_are_opened(train: dict[str, str]) -> None:
    found = {each.question.key: each.consequence for each in checked(Interview(train))}
    assert "4 images" in found["raw"]
    assert "64 x 64" in found["raw"]
    assert "4 pairs" in found["labels"]


@pytest.mark.parametrize(
    ("answers", "key", "code"),
    [
        ({"raw": "nowhere"}, "raw", "file.missing"),
        ({"labels": "nowhere"}, "labels", "file.missing"),
        ({"labels": ""}, "labels", "question.not_answered"),
        ({"labelling": "perhaps"}, "labelling", "question.unknown_choice"),
        ({"voxel_size": "fine"}, "voxel_size", "voxel_size.not_numbers"),
        ({"voxel_size": "1,2,3"}, "voxel_size", "voxel_size.count"),
        ({"labelling": "part", "mask": "0"}, "mask", "question.ignore_label"),
        ({"classes": "nowhere"}, "classes", "file.missing"),
        ({"labelling": "none", "width": "wide"}, "width", "question.not_positive"),
        ({"labelling": "none", "width": "2000"}, "width", "question.too_wide"),
        ({"minutes": "-1"}, "minutes", "question.not_positive"),
        ({"start": "own", "weights": "nowhere"}, "weights", "checkpoint.missing"),
        ({"test": "nowhere"}, "test", "file.missing"),
        ({"purpose": "segment", "images": "nowhere"}, "images", "file.missing"),
        ({"purpose": "segment", "model": "nowhere"}, "model", "question.no_model"),
    ],
)
def test_wrong_answers_are_found_at_once(train: dict[str, str], answers: dict[str, str], key: str, code: str) -> None:
    interview = Interview({**train, **answers})
    assert wrong(interview)[key] == code
    with pytest.raises(MorulaError):
        answers_of(interview)


def test_names_of_classes_are_two_or_more_or_a_number(train: dict[str, str]) -> None:
    classes = {**train, "classes": train["labels"]}
    assert wrong(Interview({**classes, "class_names": "tumour"})) == {"class_names": "question.class_names"}
    assert answers_of(Interview({**classes, "class_names": "tumour, stroma"})).class_names == ("tumour", "stroma")
    assert answers_of(Interview({**classes, "class_names": "3"})).class_count == 3
    assert wrong(Interview({**train, "task": "semantic", "pixel_classes": "3"})) == {"pixel_classes": "question.class_names"}


def test_the_axes_can_be_understood_in_another_way(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    np.save(tmp_path / "raw/a.npy", np.arange(3 * 32 * 40, dtype=np.uint16).reshape(3, 32, 40))
    interview = Interview({"raw": str(tmp_path / "raw"), "labelling": "none"})
    read = interview.file_axes
    values = [choice.value for choice in question("axes").choices(interview)]
    assert values[0] == read
    assert {"CYX", "ZYX"} <= set(values)
    assert interview.answered("axes", "ZYX").ndim == 3
    assert interview.answered("axes", "CYX").ndim == 2
    assert answers_of(interview.answered("axes", "CYX")).reading.axes == (None if read == "CYX" else "CYX")
    assert "axes" not in keys(Interview(interview.given, Reading(axes="CYX")))


def test_the_voxel_size_is_asked_in_2d_and_3d(tmp_path: Path) -> None:
    for ndim in (2, 3):
        (tmp_path / f"{ndim}").mkdir()
        morula.write(tmp_path / f"{ndim}/a.tif", np.zeros((4, 40, 40)[-ndim:], np.uint16), axes="ZYX"[-ndim:])
        interview = Interview({"raw": str(tmp_path / f"{ndim}"), "labelling": "none"})
        assert "voxel_size" in keys(interview)
        assert answers_of(interview.answered("voxel_size", "0.5")).voxel_size == edges("0.5", ndim)
        assert "voxel_size" not in keys(Interview(interview.given, Reading(voxel_size=0.5)))


def test_pretraining_needs_many_images(train: dict[str, str], tmp_path: Path) -> None:
    for number in range(17):
        (tmp_path / f"{number}.tif").symlink_to(next(Path(train["raw"]).iterdir()))
    many = Interview({**train, "unlabelled": str(tmp_path)})
    assert "start" not in keys(many)
    few = Interview({**train, "unlabelled": train["raw"]})
    assert "start" in keys(few)
    assert answers_of(many).unlabelled == str(tmp_path)


def test_answers_of_questions_that_are_not_asked_do_not_count(train: dict[str, str]) -> None:
    answers = answers_of(Interview({**train, "labelling": "none", "classes": "nowhere", "mask": "255"}))
    assert (answers.labels, answers.classes, answers.ignore_label) == (None, None, None)


def test_the_next_question_is_the_first_without_answer() -> None:
    interview = Interview()
    for key in ("purpose", "task", "labelling", "raw"):
        found = next_question(interview)
        assert found is not None
        assert found.key == key
        interview = interview.answered(key, "")


def test_the_command_for_images_quotes_what_the_shell_would_change() -> None:
    assert segment_command(Interview({"images": "data/*.tif"})) == "morula segment 'data/*.tif' -o segmentation"


def test_unknown_questions_do_not_exist() -> None:
    with raises("question.unknown_choice"):
        question("task").consequence(Interview({"task": "detection"}))
