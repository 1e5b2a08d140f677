"""Job files of BiaPy become native jobs; what cannot be obeyed is reported, all at once, at their own keys."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from morula.cli.app import app
from morula.core.errors import JobError, Problem
from morula.dialects.biapy.convert import convert
from morula.dialects.biapy.settings import read_settings
from morula.dialects.biapy.table import FORMER, KEYS, documentation
from morula.dialects.biapy.today import with_defaults
from morula.dialects.convert import convert as convert_text
from morula.dialects.verbs import iter_run
from morula.io.read import read
from morula.jobs.load import load_job
from morula.jobs.plan import Facts, plan
from morula.jobs.yaml_lines import parse_documents
from morula.testing.simulate import simulate_data_set

GOLDEN = Path(__file__).parents[1] / "golden" / "biapy"
SEG, POST = "PROBLEM.INSTANCE_SEG", "TEST.POST_PROCESSING"
SMALL = {
    "PROBLEM.TYPE": "INSTANCE_SEG",
    "PROBLEM.NDIM": "2D",
    "DATA.PATCH_SIZE": "(32, 32, 1)",
    "DATA.TRAIN.PATH": "data/train/images",
    "DATA.TRAIN.GT_PATH": "data/train/labels",
    "MODEL.FEATURE_MAPS": [4, 8, 16],
    "TRAIN.ENABLE": True,
}


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """Dotted keys as sections."""
    found: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, last = key.split(".")
        node = found
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return found


def written(folder: Path, keys: dict[str, Any], **more: Any) -> Path:
    path = folder / "biapy.yaml"
    path.write_text(yaml.safe_dump(nested({**SMALL, **keys, **more}), sort_keys=False), encoding="utf-8")
    return path


def problems(folder: Path, keys: dict[str, Any]) -> list[Problem]:
    with pytest.raises(JobError) as caught:
        convert(written(folder, keys))
    return caught.value.problems


def planned(text: str, ndim: int = 2) -> Any:
    """The job of a converted text, as it would be trained."""
    shape, spacing = ((64,) * 2, (1.0,) * 2) if ndim == 2 else ((16, 64, 64), (1.0,) * 3)
    return plan(load_job(parse_documents(text)[0].data), Facts(ndim, spacing, 1, (shape,) * 4))


# combinations that the document names, and the decoder that it makes objects with
COMBINATIONS = {
    "F C": "watershed",
    "F C Db": "watershed",
    "F H V": "watershed",
    "Db R": "stardist",
    "F C Db Dn": "watershed",
    "F P": "watershed",
    "C": "watershed",
    "D": "watershed",
    "A": "watershed",
    "E": "embedseg",
    "E_offset E_sigma E_seediness": "embedseg",
    "F Gv Gh": "flows",
}


@pytest.mark.parametrize(("channels", "decoder"), COMBINATIONS.items())
def test_documented_channels_can_be_planned(tmp_path: Path, channels: str, decoder: str) -> None:
    found = convert(written(tmp_path, {f"{SEG}.DATA_CHANNELS": channels.split()}))
    job = planned(found.text())
    assert job.objects.decoder.kind == decoder
    assert job.sampling.patch == (32, 32)
    assert found.job["method"].get("weights") is None


def test_every_key_of_the_program_is_known_at_its_default(tmp_path: Path) -> None:
    lines = (GOLDEN / "defaults.txt").read_text().splitlines()
    keys = {key: ast.literal_eval(value) for key, value in (line.split(" = ", 1) for line in lines)}
    assert len(keys) > 500
    kept = ("PROBLEM.TYPE", "PROBLEM.NDIM", "TRAIN.ENABLE", f"{SEG}.DATA_CHANNELS")  # these alone give no job
    text = convert(written(tmp_path, {key: value for key, value in keys.items() if key not in kept})).text()
    assert planned(text).training.epochs == 360


def test_defaults_that_differ_are_written_out(tmp_path: Path) -> None:
    job = convert(written(tmp_path, {})).job
    assert job["network"] == {
        "kind": "classic_unet", "features": [4, 8, 16], "kernels": [[3, 3]] * 3, "pools": [[2, 2]] * 2, "norm": "instance", "groups": 16,
        "activation": "elu", "convolutions": 2, "decoder_convolutions": 2, "dropout": [0.0] * 3, "upsample": "transpose",
        "head_features": 0,
    }  # fmt: skip
    assert job["images"]["voxel_size"] == {"y": 1.0, "x": 1.0, "unit": "pixel"}
    assert job["images"]["validate"] == 0.1
    assert job["method"]["losses"] == {"F": "bce", "C": "bce"}
    assert job["method"]["rebalance"] is True
    assert job["method"]["thresholds"] == [0.3, 0.5, 0.75]
    assert job["sampling"] == {
        "patch": [32, 32],
        "batch": 2,
        "kind": "grid",
        "patches_per_epoch": "grid",
        "overlap": 0.0,
        "normalise": {"kind": "zscore", "per": "image"},
    }
    rule = {"kind": "adamw", "lr": 1e-4, "weight_decay": 0.02, "betas": [0.9, 0.999], "decay_all": True}
    assert job["training"]["optimiser"] == rule
    assert (job["training"]["schedule"], job["augment"], job["prediction"]) == ("constant", "none", {"overlap": 0.0, "save_channels": True})


def test_the_document_s_examples(tmp_path: Path) -> None:
    keys = {
        f"{SEG}.DATA_CHANNELS": ["F", "C", "Db"],
        f"{SEG}.DATA_CHANNELS_EXTRA_OPTS": {"F": {"erosion": 3}, "C": {"mode": "thick"}},
        f"{SEG}.DATA_CHANNEL_WEIGHTS": "(1.0, 1.0, 0.5)",
        f"{POST}.INSTANCE_REFINEMENT.ENABLE": True,
        f"{POST}.INSTANCE_REFINEMENT.OPERATIONS": ["fill_holes", "remove_small_objects", "remove_large_objects", "clear_border"],
        f"{POST}.INSTANCE_REFINEMENT.VALUES": ["none", 10, 2000, "none"],
        f"{POST}.MEASURE_PROPERTIES.REMOVE_BY_PROPERTIES.ENABLE": True,
        f"{POST}.MEASURE_PROPERTIES.REMOVE_BY_PROPERTIES.PROPS": [["area"], ["npixels", "circularity"]],
        f"{POST}.MEASURE_PROPERTIES.REMOVE_BY_PROPERTIES.VALUES": [[500], [100, 0.7]],
        f"{POST}.MEASURE_PROPERTIES.REMOVE_BY_PROPERTIES.SIGN": [["gt"], ["lt", "le"]],
    }
    found = convert(written(tmp_path, keys))
    job = planned(found.text())
    assert [channel.kind for channel in job.method.channels] == ["F", "C", "Db"]
    assert job.method.channels[0].erosion == 3
    assert job.method.weights == {"F": 1.0, "C": 1.0, "Db": 0.5}
    assert [each.kind for each in job.objects.refine] == ["fill_holes", "remove_small", "remove_large", "clear_border"]
    assert [[str(each) for each in group] for group in job.objects.filter] == [["area > 500"], ["npixels < 100", "circularity <= 0.7"]]


@pytest.mark.parametrize(
    ("document", "program"),
    [
        ({f"{SEG}.DATA_CHANNELS_EXTRA_OPTS": {"C": {"mode": "inner"}}}, {f"{SEG}.DATA_CHANNELS_EXTRA_OPTS": [{"C": {"mode": "inner"}}]}),
        ({f"{SEG}.DATA_CHANNELS": "BC"}, {f"{SEG}.DATA_CHANNELS": ["F", "C"]}),
        ({f"{SEG}.DATA_CHANNELS": "BCDv2"}, {f"{SEG}.DATA_CHANNELS": ["F", "C", "D"]}),
        ({f"{SEG}.WATERSHED_BY_2D_SLICES": True}, {f"{SEG}.WATERSHED.BY_2D_SLICES": True}),
        ({"TRAIN.OPTIMIZER": "SGD", "TRAIN.LR": 0.01}, {"TRAIN.OPTIMIZER": ["SGD"], "TRAIN.LR": [0.01]}),
        ({"MODEL.BATCH_NORMALIZATION": True}, {"MODEL.NORMALIZATION": "bn"}),
        ({f"{POST}.Z_FILTERING": False}, {f"{POST}.MEDIAN_FILTER": False}),
        (
            {f"{SEG}.DATA_CHANNELS": ["Db", "R"]},
            {f"{SEG}.DATA_CHANNELS": ["Db", "R"], f"{SEG}.INSTANCE_CREATION_PROCESS": "stardist"},
        ),
        ({f"{SEG}.DATA_CHANNELS": ["E"]}, {f"{SEG}.DATA_CHANNELS": ["E_offset", "E_sigma", "E_seediness"]}),
    ],
)
def test_documented_and_actual_spellings_mean_the_same(tmp_path: Path, document: dict[str, Any], program: dict[str, Any]) -> None:
    plain = convert(written(tmp_path, {})).job
    one, other = (convert(written(tmp_path, keys)).job for keys in (document, program))
    assert one == other
    assert one != plain or document in ({f"{SEG}.DATA_CHANNELS": "BC"}, {f"{POST}.Z_FILTERING": False})


def test_the_steps_of_the_watershed(tmp_path: Path) -> None:
    of = f"{SEG}.WATERSHED"
    keys = {
        f"{of}.SEED_CHANNELS": ["F", "C"], f"{of}.SEED_CHANNELS_THRESH": [0.6, "auto"], f"{of}.TOPOGRAPHIC_SURFACE_CHANNEL": "F",
        f"{of}.GROWTH_MASK_CHANNELS": ["F"], f"{of}.SEED_MORPH_SEQUENCE": ["erode", "dilate"], f"{of}.SEED_MORPH_RADIUS": [1, 2],
        f"{of}.ERODE_AND_DILATE_GROWTH_MASK": True, f"{of}.FORE_EROSION_RADIUS": 3, f"{of}.DATA_REMOVE_BEFORE_MW": True,
        f"{of}.DATA_CHECK_MW": True,
    }  # fmt: skip
    job = convert(written(tmp_path, keys)).job["objects"]
    assert job["decoder"] == {
        "kind": "watershed", "seeds": {"F": 0.6, "C": "auto"}, "growth": {"F": "auto"}, "surface": "F", "valley": None,
        "seed_morphology": [{"op": "erode", "radius": 1}, {"op": "dilate", "radius": 2}], "growth_erosion": 3, "growth_dilation": 5,
        "min_seed": 10,
    }  # fmt: skip
    assert job["intermediates"] is True


def test_volumes(tmp_path: Path) -> None:
    keys = {
        "PROBLEM.NDIM": "3D", "DATA.PATCH_SIZE": [8, 32, 32, 1], "MODEL.ARCHITECTURE": "resunet", "MODEL.Z_DOWN": [1, 2],
        "MODEL.ISOTROPY": [False, True, True], "DATA.TEST.RESOLUTION": [2.0, 0.5, 0.5], "DATA.TEST.PADDING": [0, 4, 4],
        f"{SEG}.DATA_CHANNELS": "BCF", f"{POST}.YZ_FILTERING": True, "TEST.AUGMENTATION": True,
    }  # fmt: skip
    job = planned(convert(written(tmp_path, keys)).text(), 3)
    assert job.network.kernels == ((1, 3, 3), (3, 3, 3), (3, 3, 3))
    assert job.network.pools == ((1, 2, 2), (2, 2, 2))
    assert job.images.voxel_size == {"z": 2.0, "y": 0.5, "x": 0.5, "unit": "um"}
    assert [channel.kind for channel in job.method.channels] == ["F", "C", "V", "H", "Z"]
    assert (job.prediction.overlap, job.prediction.tta, job.prediction.median[0].axes) == (0.25, "all", "yz")


def test_pretraining(tmp_path: Path) -> None:
    keys = {"PROBLEM.TYPE": "SELF_SUPERVISED", "MODEL.ARCHITECTURE": "mae", "MODEL.VIT_EMBED_DIM": 48, "MODEL.MAE_MASK_TYPE": "random"}
    masked = planned(convert(written(tmp_path, keys)).text())
    assert (masked.method.kind, masked.method.ratio, masked.network.kind, masked.network.width) == ("masked_autoencoder", 0.5, "mae", 48)
    assert masked.images.train.labels is None
    keys = {"PROBLEM.TYPE": "SELF_SUPERVISED", "PROBLEM.SELF_SUPERVISED.PRETEXT_TASK": "crappify", "LOSS.TYPE": ["MSE"]}
    crappy = planned(convert(written(tmp_path, keys)).text())
    assert (crappy.method.kind, crappy.method.factor, crappy.method.losses) == ("crappify", 2.0, {"mse": 1.0})


# keys of a job, the key that is reported, the code, and the name that is offered
WRONG: list[tuple[dict[str, Any], str, str, str]] = [
    ({"TRAIN.EPOCS": 3}, "TRAIN.EPOCS", "biapy.unknown_key", "EPOCHS"),
    ({"TRIAN.ENABLE": True}, "TRIAN.ENABLE", "biapy.unknown_key", "TRAIN.ENABLE"),
    ({"TRAIN.EPOCHS": "ten"}, "TRAIN.EPOCHS", "biapy.wrong_type", ""),
    ({"TRAIN.ENABLE": False}, "TRAIN.ENABLE", "biapy.nothing_to_train", ""),
    ({f"{SEG}.DATA_CHANNELS": ["F", "Dbb"]}, f"{SEG}.DATA_CHANNELS", "biapy.unknown_channel", "Db"),
    ({f"{SEG}.DATA_CHANNELS_EXTRA_OPTS": {"C": {"mod": "thick"}}}, f"{SEG}.DATA_CHANNELS_EXTRA_OPTS.C.mod", "", ""),
    ({f"{SEG}.DATA_CHANNELS_LOSSES": ["bce", "bse"]}, f"{SEG}.DATA_CHANNELS_LOSSES", "biapy.unknown_value", ""),
    ({f"{SEG}.DATA_CHANNEL_WEIGHTS": [1, 2, 3]}, f"{SEG}.DATA_CHANNEL_WEIGHTS", "biapy.wrong_length", ""),
    ({f"{SEG}.WATERSHED.SEED_CHANNELS": ["Db"]}, f"{SEG}.WATERSHED.SEED_CHANNELS", "biapy.unknown_channel", ""),
    ({"DATA.PATCH_SIZE": [32, 32]}, "DATA.PATCH_SIZE", "biapy.wrong_length", ""),
    ({"DATA.PREPROCESS.CLAHE.ENABLE": True}, "DATA.PREPROCESS.CLAHE.ENABLE", "biapy.not_supported", ""),
    ({"MODEL.ARCHITECTURE": "unett"}, "MODEL.ARCHITECTURE", "biapy.unknown_value", "unet"),
    ({"TRAIN.LR_SCHEDULER.NAME": "warmupcosine"}, "TRAIN.LR_SCHEDULER.MIN_LR", "biapy.missing_key", ""),
    ({"AUGMENTOR.ENABLE": True, "AUGMENTOR.MOTION_BLUR": True}, "AUGMENTOR.MOTION_BLUR", "biapy.not_supported", ""),
    (
        {"AUGMENTOR.ENABLE": True, "AUGMENTOR.ELASTIC": True, "AUGMENTOR.E_SIGMA": 0.0},
        "AUGMENTOR.E_SIGMA",
        "biapy.out_of_range",
        "above 0",
    ),
    ({"AUGMENTOR.ENABLE": True, "AUGMENTOR.ZOOM": True, "AUGMENTOR.ZOOM_RANGE": [-1.0, 1.5]}, "AUGMENTOR.ZOOM_RANGE", "", ""),
    ({"AUGMENTOR.ENABLE": True, "AUGMENTOR.CUTOUT": True, "AUGMENTOR.CUTOUT_PROB": 1.5}, "AUGMENTOR.CUTOUT_PROB", "", ""),
    ({"DATA.N_CLASSES": 2, "MODEL.N_CLASSES": 3}, "MODEL.N_CLASSES", "biapy.stated_twice", ""),
]


@pytest.mark.parametrize(("keys", "key", "code", "offered"), WRONG)
def test_problems_are_reported_at_their_key(tmp_path: Path, keys: dict[str, Any], key: str, code: str, offered: str) -> None:
    found = problems(tmp_path, keys)
    about = [problem for problem in found if problem.key == key]
    assert about, found
    assert not code or about[0].code == code
    assert offered in about[0].remedy
    if key in keys:
        lines = written(tmp_path, keys).read_text().splitlines()
        assert about[0].line is not None
        assert key.rpartition(".")[2] in lines[about[0].line - 1]


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    keys = {key: value for wrong, *_ in (WRONG[0], WRONG[2], WRONG[5], WRONG[10]) for key, value in wrong.items()}
    assert len(problems(tmp_path, keys)) == 4


def test_one_problem_of_the_native_job_does_not_hide_another(tmp_path: Path) -> None:
    of = f"{SEG}.WATERSHED"
    keys = {"TRAIN.LR": 0, "TRAIN.OPTIMIZER": "ADAMV", f"{of}.SEED_CHANNELS": ["F"], f"{of}.SEED_CHANNELS_THRESH": ["otsu"]}
    assert sorted(problem.key for problem in problems(tmp_path, keys)) == [f"{of}.SEED_CHANNELS_THRESH", "TRAIN.LR", "TRAIN.OPTIMIZER"]


WAYS = {
    "watershed": {},
    "tested": {"TEST.ENABLE": True, "DATA.TEST.LOAD_GT": True},
    "stardist": {f"{SEG}.DATA_CHANNELS": ["Db", "R"]},
    "embedseg": {f"{SEG}.DATA_CHANNELS": ["E"]},
    "flows": {f"{SEG}.DATA_CHANNELS": ["F", "Gv", "Gh"]},
    "agglomeration": {f"{SEG}.DATA_CHANNELS": ["A"], f"{SEG}.INSTANCE_CREATION_PROCESS": "agglomeration"},
}


def another(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, list):
        return [another(each) for each in value] or ["another"]
    return "another" if isinstance(value, str) else value + 1 if isinstance(value, int) else value / 2 + 0.17


def without_effect(key: str) -> bool:
    return bool(KEYS[key].no_effect) and not KEYS[key].target


def test_every_key_of_the_program_has_a_row() -> None:
    """All keys of 3.7.1, and no others but former spellings and those of the documents."""
    program = {line.split(" = ")[0] for line in (GOLDEN / "defaults.txt").read_text().splitlines()}
    assert program <= set(KEYS)
    present = {key for key, row in KEYS.items() if not row.former and not key.startswith(("PATHS.", "LOG."))}
    assert present - program == {f"{SEG}.EMBEDSEG.MIN_OBJECT_SIZE"}
    assert not set(FORMER) & set(KEYS)


@pytest.mark.parametrize("keys", [{}, {f"{SEG}.DATA_CHANNELS": ["E"]}, {f"{SEG}.DATA_CHANNELS": "BC", "TRAIN.LR": "1.E-3"}])
def test_settings_that_checkpoints_hold_are_keys_of_the_program_with_values_of_their_types(tmp_path: Path, keys: dict[str, Any]) -> None:
    """The program merges them into its own, and rejects other keys and types."""
    lines = [line.split(" = ", 1) for line in (GOLDEN / "defaults.txt").read_text().splitlines()]
    program = {key: ast.literal_eval(value) for key, value in lines}
    stored = with_defaults(read_settings(written(tmp_path, keys)))
    assert {key for key in stored if not key.startswith(("PATHS.", "LOG."))} <= set(program)

    def kind(value: Any) -> str:
        return "list" if isinstance(value, list | tuple) else type(value).__name__

    wrong = {key: stored[key] for key, value in program.items() if value is not None and kind(stored[key]) != kind(value)}
    assert wrong == {}


def test_every_key_without_effect_is_noted_with_the_reason(tmp_path: Path) -> None:
    rows = {key: row for key, row in KEYS.items() if without_effect(key)}
    # values that state what is done anyway are not worth a line
    keys = {key: (not row.default if isinstance(row.default, bool) else 7) if row.as_done else row.default for key, row in rows.items()}
    remarks = {remark.key: remark for remark in convert(written(tmp_path, keys)).remarks}
    assert set(remarks) == set(keys)
    assert all(remarks[key].code == "biapy.no_effect" and KEYS[key].no_effect in remarks[key].rule for key in keys)


@pytest.mark.parametrize("way", WAYS)
def test_no_key_is_swallowed(tmp_path: Path, way: str) -> None:
    """Every key with another value changes the job, is refused, or is noted with the reason."""
    keys = WAYS[way]
    before = convert(written(tmp_path, keys))
    silent = []
    for key, row in KEYS.items():
        if key in keys or key in SMALL or without_effect(key) or isinstance(row.default, dict):
            continue
        if way != "watershed" and not key.startswith((SEG, "DATA.TEST")):
            continue
        try:
            after = convert(written(tmp_path, {**keys, key: another(row.default)}))
        except JobError as error:
            silent += [key for problem in error.problems if problem.code == "biapy.unknown_key"]
            continue
        if after.job == before.job and not any(remark.key == key and remark.code == "biapy.no_effect" for remark in after.remarks):
            silent.append(key)
    assert silent == []


def test_a_key_without_effect_names_its_switch(tmp_path: Path) -> None:
    keys = {f"{SEG}.WATERSHED.DATA_REMOVE_SMALL_OBJ_BEFORE": 30, f"{POST}.MEDIAN_FILTER_AXIS": ["z"], "AUGMENTOR.DA_PROB": 0.3}
    remarks = convert(written(tmp_path, keys)).remarks
    assert [remark.code for remark in remarks] == ["biapy.no_effect"] * 3
    assert "DATA_REMOVE_BEFORE_MW is not set" in remarks[0].rule
    used = {"AUGMENTOR.ENABLE": True, "AUGMENTOR.VFLIP": True, "AUGMENTOR.DA_PROB": 0.3}
    assert convert(written(tmp_path, used)).remarks == ()


def test_classes_are_weighted_and_left_out_as_the_file_says(tmp_path: Path) -> None:
    keys = {"DATA.N_CLASSES": 4, "LOSS.CLASS_REBALANCE": "manual", "LOSS.CLASS_WEIGHTS": [1, 1, 2, 0.5], "LOSS.IGNORE_INDEX": 200}
    classes = convert(written(tmp_path, keys)).job["method"]["classes"]
    assert classes == {"count": 3, "class_weights": [1.0, 2.0, 0.5], "ignore": 200, "weight": 1.0}
    (problem,) = problems(tmp_path, keys | {"LOSS.CLASS_WEIGHTS": [1, 2]})
    assert (problem.key, problem.code, problem.value) == ("LOSS.CLASS_WEIGHTS", "biapy.wrong_length", [1, 2])


def test_masks_in_another_order_of_axes_are_refused(tmp_path: Path) -> None:
    orders = {f"DATA.{part}.INPUT_IMG_AXES_ORDER": "YXC" for part in ("TRAIN", "VAL", "TEST")}
    masks = {f"DATA.{part}.INPUT_MASK_AXES_ORDER": "YX" for part in ("TRAIN", "VAL", "TEST")}
    assert convert(written(tmp_path, orders | masks)).job["images"]["train"]["axes"] == "YXC"
    assert problems(tmp_path, orders | {"DATA.TRAIN.INPUT_MASK_AXES_ORDER": "XY"})[0].key == "DATA.TRAIN.INPUT_MASK_AXES_ORDER"


@pytest.mark.parametrize(
    ("channels", "keys"),
    [
        ("Db R", {"STARDIST.PROB_THRESH": 1.5}),
        ("E", {"EMBEDSEG.SEED_THRESH": -1.0, "EMBEDSEG.MIN_OBJECT_SIZE": -1, "EMBEDSEG.FG_THRESH": 2.0}),
        ("F Gv Gh", {"CELLPOSE.N_STEPS": 0}),
        ("A", {"INSTANCE_CREATION_PROCESS": "agglomeration", "AGGLOMERATION.MERGE_TH": 2.0, "AGGLOMERATION.MERGE_QUANTILE": 150.0}),
        ("F C", {"WATERSHED.ERODE_AND_DILATE_GROWTH_MASK": True, "WATERSHED.FORE_EROSION_RADIUS": -3}),
        ("F C", {"WATERSHED.DATA_REMOVE_BEFORE_MW": True, "WATERSHED.DATA_REMOVE_SMALL_OBJ_BEFORE": -3}),
        ("F Q", {}),
    ],
)
def test_values_of_decoders_are_refused_at_their_own_keys_once(tmp_path: Path, channels: str, keys: dict[str, Any]) -> None:
    stated = {f"{SEG}.{key}": value for key, value in keys.items()}
    with pytest.raises(JobError) as caught:
        convert(written(tmp_path, {f"{SEG}.DATA_CHANNELS": channels.split(), **stated}))
    wrong = {key for key, value in stated.items() if not isinstance(value, str | bool)} or {f"{SEG}.DATA_CHANNELS"}
    assert sorted(problem.key for problem in caught.value.problems) == sorted(wrong)


def test_accumulated_batches(tmp_path: Path) -> None:
    assert convert(written(tmp_path, {"TRAIN.ACCUM_ITER": 4})).job["training"]["accumulate"] == 4


def test_keys_without_effect_are_listed(tmp_path: Path) -> None:
    keys = {"SYSTEM.NUM_GPUS": 1, f"{POST}.INSTANCE_REFINEMENT.ENABLE": False, "AUGMENTOR.VFLIP": True}
    keys[f"{POST}.INSTANCE_REFINEMENT.OPERATIONS"] = ["fill_holes"]
    _, warnings = convert_text(written(tmp_path, keys))
    assert len(warnings) == 3
    assert all("has no effect" in warning.message and "biapy.yaml:" in warning.message for warning in warnings)


def test_differences_come_from_the_table(tmp_path: Path) -> None:
    used = {"SHIFT", "G_BLUR"}
    keys = {"AUGMENTOR.ENABLE": True, **{f"AUGMENTOR.{name}": True for name in used}}
    notes = convert(written(tmp_path, keys)).notes
    rows = [row for row in KEYS.values() if row.note]
    assert {row.name for row in rows if row.note in notes} == {f"AUGMENTOR.{name}" for name in used}
    pages = "\n".join(documentation())
    assert all(row.note in pages for row in rows)


@pytest.mark.parametrize(
    ("workflow", "offered"),
    [
        ("DETECTION", "[F, P]"),
        ("CLASSIFICATION", "DATA.N_CLASSES"),
    ],
)
def test_other_kinds_of_problems_are_refused_by_name(tmp_path: Path, workflow: str, offered: str) -> None:
    (problem,) = problems(tmp_path, {"PROBLEM.TYPE": workflow})
    assert (problem.key, problem.code, problem.value) == ("PROBLEM.TYPE", "biapy.workflow_not_supported", workflow)
    assert offered in problem.remedy


def test_a_job_runs_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    simulate_data_set(tmp_path / "data", n_train=4, n_test=1, shape=(64, 64), n_objects=6, seed=1)
    keys = {
        "TRAIN.EPOCHS": 1, "TRAIN.LR": 3e-3, "TEST.ENABLE": True, "DATA.TEST.PATH": "data/test/images",
        "DATA.TEST.GT_PATH": "data/test/labels", "DATA.TEST.LOAD_GT": True, "DATA.VAL.SPLIT_TRAIN": 0.25, "AUGMENTOR.ENABLE": True,
        "AUGMENTOR.HFLIP": True, "SYSTEM.NUM_GPUS": 0,
    }  # fmt: skip
    path = written(tmp_path, keys)
    events = list(iter_run(path))
    assert any("SYSTEM.NUM_GPUS" in getattr(event, "message", "") for event in events)
    folder = tmp_path / "runs" / "biapy"
    assert (folder / "report.html").is_file()
    assert (folder / "scores.csv").is_file()
    labels = read(next((folder / "objects").glob("*.tif")))
    assert labels.spatial_shape == (64, 64)
    assert np.issubdtype(labels.dtype, np.unsignedinteger)


def test_missing_images_are_told_at_the_file_s_own_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["check", str(written(tmp_path, {}))])
    assert done.exit_code == 1
    assert "DATA.TRAIN.PATH" in done.output
    assert "biapy.yaml:" in done.output
