"""Job files that BiaPy 3.7.1 ends with an error at: all problems at once, at its own key and line, with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.dialects.test_biapy_versions import SEG, Keys, written

from morula.core.errors import JobError
from morula.dialects.biapy.convert import convert
from morula.testing.simulate import simulate_data_set

SCHEDULE = "TRAIN.LR_SCHEDULER"
SMALL: Keys = {"PROBLEM.TYPE": "INSTANCE_SEG", "DATA.PATCH_SIZE": "(64, 64, 1)", "TRAIN.ENABLE": True, "MODEL.FEATURE_MAPS": [4, 8, 16]}
CRAPPIFY: Keys = {"PROBLEM.TYPE": "SELF_SUPERVISED", "PROBLEM.SELF_SUPERVISED.PRETEXT_TASK": "crappify", "MODEL.FEATURE_MAPS": None}
# what is stated, and the code of the problem at each key
WRONG: dict[str, tuple[Keys, dict[str, str]]] = {
    "unknown key": ({"MODEL.FOO": 1}, {"MODEL.FOO": "biapy.unknown_key"}),
    "unknown section": ({"FOO": 1}, {"FOO": "biapy.unknown_key"}),
    "workflow": ({"PROBLEM.TYPE": "SEMANTIC"}, {"PROBLEM.TYPE": "biapy.workflow_not_supported"}),
    "architecture": ({"MODEL.ARCHITECTURE": "foonet"}, {"MODEL.ARCHITECTURE": "biapy.unknown_value"}),
    "patch without channels": ({"DATA.PATCH_SIZE": "(256, 256)"}, {"DATA.PATCH_SIZE": "biapy.wrong_length"}),
    "rate": ({"TRAIN.LR": "fast"}, {"TRAIN.LR": "biapy.wrong_type"}),
    "epochs": ({"TRAIN.EPOCHS": "ten"}, {"TRAIN.EPOCHS": "biapy.wrong_type"}),
    "no epochs": ({"TRAIN.EPOCHS": 0}, {"TRAIN.EPOCHS": "option.range"}),
    "dimensions": ({"PROBLEM.NDIM": "4D"}, {"PROBLEM.NDIM": "biapy.unknown_value"}),
    "optimiser": ({"TRAIN.OPTIMIZER": "ADAMX"}, {"TRAIN.OPTIMIZER": "biapy.unknown_value"}),
    "schedule": ({f"{SCHEDULE}.NAME": "cosine"}, {f"{SCHEDULE}.NAME": "biapy.unknown_value"}),
    "plateau": (
        {f"{SCHEDULE}.NAME": "reduceonplateau"},
        {f"{SCHEDULE}.MIN_LR": "biapy.missing_key", f"{SCHEDULE}.REDUCEONPLATEAU_PATIENCE": "biapy.missing_key"},
    ),
    "warm-up": (
        {f"{SCHEDULE}.NAME": "warmupcosine", f"{SCHEDULE}.MIN_LR": 1e-5},
        {f"{SCHEDULE}.WARMUP_COSINE_DECAY_EPOCHS": "biapy.missing_key"},
    ),
    "masks": (CRAPPIFY | {"MODEL.ARCHITECTURE": "mae"}, {"MODEL.ARCHITECTURE": "biapy.contradiction"}),
    "classifier": (CRAPPIFY | {"MODEL.ARCHITECTURE": "vit"}, {"MODEL.ARCHITECTURE": "biapy.unknown_value"}),
    "factor": (
        CRAPPIFY | {"PROBLEM.SELF_SUPERVISED.RESIZING_FACTOR": 0},
        {"PROBLEM.SELF_SUPERVISED.RESIZING_FACTOR": "option.range"},
    ),
    "checkpoint": ({"MODEL.LOAD_CHECKPOINT": True}, {"PATHS.CHECKPOINT_FILE": "biapy.missing_key"}),
    "nothing to do": ({"TRAIN.ENABLE": False}, {"TRAIN.ENABLE": "biapy.nothing_to_train"}),
    "norm": ({"MODEL.NORMALIZATION": "ln"}, {"MODEL.NORMALIZATION": "biapy.unknown_value"}),
    "channel": ({f"{SEG}.DATA_CHANNELS": ["F", "v"]}, {f"{SEG}.DATA_CHANNELS": "biapy.unknown_channel"}),
}
# what BiaPy refuses, or breaks at later, and what is done here
RUNS: dict[str, Keys] = {
    "patch that is no multiple of the levels": {"DATA.PATCH_SIZE": "(250, 250, 1)"},
    "rate as YAML reads 1e-4": {"TRAIN.LR": "1e-4"},
    "lowest rate without optimiser": {
        f"{SCHEDULE}.NAME": "reduceonplateau",
        f"{SCHEDULE}.MIN_LR": 1e-5,
        f"{SCHEDULE}.REDUCEONPLATEAU_PATIENCE": 3,
    },
    "export of earlier versions": {"MODEL.BMZ.EXPORT_MODEL.ENABLE": True, "MODEL.BMZ.EXPORT_MODEL.NAME": "x"},
    "letters": {f"{SEG}.DATA_CHANNELS": "BCDv2"},
    "no norm": {"MODEL.NORMALIZATION": "none"},
    "gamma of standardised images": {"AUGMENTOR.ENABLE": True, "AUGMENTOR.GAMMA_CONTRAST": True},
    "sections of earlier versions": {"MODEL.HRNET_48.Z_DOWN": True, "MODEL.HRNET_48.STAGE2.NUM_BLOCKS": [4, 4]},
    "warm-up longer than the training": {
        f"{SCHEDULE}.NAME": "warmupcosine",
        f"{SCHEDULE}.MIN_LR": 1e-5,
        f"{SCHEDULE}.WARMUP_COSINE_DECAY_EPOCHS": 10,
        "TRAIN.EPOCHS": 2,
    },
}


def file(folder: Path, keys: Keys) -> Path:
    return written(folder, {key: value for key, value in (SMALL | keys).items() if value is not None})


@pytest.mark.parametrize("name", WRONG)
def test_each_problem_is_told_at_its_key_and_line(tmp_path: Path, name: str) -> None:
    keys, expected = WRONG[name]
    path = file(tmp_path, keys)
    with pytest.raises(JobError) as caught:
        convert(path)
    problems = caught.value.problems
    assert {problem.key: problem.code for problem in problems} == expected
    lines = path.read_text().splitlines()
    for problem in problems:
        assert problem.remedy
        assert problem.file == "biapy.yaml"
        if problem.key in keys:
            assert problem.line is not None
            assert lines[problem.line - 1].strip().startswith(problem.key.rpartition(".")[2])


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    names = ("unknown key", "patch without channels", "rate", "epochs", "optimiser", "plateau", "norm", "channel")
    keys, expected = {}, {}
    for name in names:
        keys |= WRONG[name][0]
        expected |= WRONG[name][1]
    with pytest.raises(JobError) as caught:
        convert(file(tmp_path, keys))
    problems = caught.value.problems
    assert {problem.key: problem.code for problem in problems} == expected
    lines = [problem.line for problem in problems if problem.line is not None]
    assert lines == sorted(lines)


@pytest.mark.parametrize("name", RUNS)
def test_what_biapy_refuses_without_need_is_a_job(tmp_path: Path, name: str) -> None:
    assert "method:" in convert(file(tmp_path, RUNS[name])).text()


def test_problems_of_images_are_told_at_the_keys_of_the_file(tmp_path: Path) -> None:
    from morula.dialects.verbs import check

    simulate_data_set(tmp_path / "data", n_train=3, n_test=1, shape=(64, 64), n_objects=4, seed=1)
    folders: Keys = {
        "TEST.ENABLE": True,
        "DATA.TEST.LOAD_GT": True,
        "DATA.TEST.PATH": str(tmp_path / "data/test/images"),
        "DATA.TEST.GT_PATH": str(tmp_path / "data/test/labels"),
        "DATA.TRAIN.PATH": str(tmp_path / "data/train/images"),
        "DATA.TRAIN.GT_PATH": str(tmp_path / "data/train/labels"),
    }
    objects_as_classes: Keys = {"PROBLEM.TYPE": "SEMANTIC_SEG"}
    missing: Keys = {"DATA.TRAIN.PATH": "/nope", "DATA.TEST.PATH": "/nowhere"}
    for keys, found, code in (
        (folders | missing, ["DATA.TEST.PATH", "DATA.TRAIN.PATH"], "file.missing"),
        (folders | objects_as_classes, ["DATA.TEST.GT_PATH", "DATA.TRAIN.GT_PATH"], "labels.unknown_class"),
    ):
        with pytest.raises(JobError) as caught:
            check(file(tmp_path, keys), prove=False)
        problems = caught.value.problems
        assert sorted((problem.key, problem.code) for problem in problems) == [(key, code) for key in found]
        assert all(problem.line is not None and "method." not in problem.remedy for problem in problems)
