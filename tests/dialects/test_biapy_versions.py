"""Job files of BiaPy 3.0 to 3.7: every key and value that public job files state is obeyed, refused with a reason, or noted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

import morula
from morula.core.errors import JobError, Problem
from morula.dialects.biapy.convert import convert
from morula.dialects.biapy.settings import read_settings
from morula.dialects.biapy.today import todays_text
from morula.dialects.converted import Converted, Value, nested
from morula.dialects.verbs import check, check_prediction, iter_run
from morula.testing.errors import raises
from morula.testing.simulate import simulate_data_set

GOLDEN = Path(__file__).parents[1] / "golden" / "biapy"
SEG, POST = "PROBLEM.INSTANCE_SEG", "TEST.POST_PROCESSING"
FILTER = f"{POST}.MEASURE_PROPERTIES.REMOVE_BY_PROPERTIES"
Keys = dict[str, Value]

SAMPLES: tuple[tuple[str, Value], ...] = (("PROPS", [["mean"]]), ("VALUES", [[0.05]]), ("SIGNS", [["lt"]]))
# keys that go together with a key, by the key and its value
BESIDE: list[tuple[str, str, Keys]] = [
    ("DATA.NORMALIZATION.PERC_CLIP.ENABLE", "", {"DATA.NORMALIZATION.PERC_CLIP.LOWER_PERC": 1.0}),
    ("DATA.NORMALIZATION.PERC_CLIP.ENABLE", "", {"DATA.NORMALIZATION.PERC_CLIP.UPPER_PERC": 99.0}),
    (f"{SEG}.CHANNELS_PER_HEAD_INFO", r"\[1, 1, 1\]", {f"{SEG}.DATA_CHANNELS": ["F", "H", "V"]}),
    (f"{SEG}.CHANNELS_PER_HEAD_INFO", r"\[1, 2\]", {f"{SEG}.DATA_CHANNELS": ["F", "Gh", "Gv"]}),
    (f"{SEG}.CHANNELS_PER_HEAD_INFO", r"\[1, 32\]", {f"{SEG}.DATA_CHANNELS": ["Db", "R"]}),
    (f"{SEG}.CHANNELS_PER_HEAD_INFO", r"\[4, 1\]", {f"{SEG}.DATA_CHANNELS": ["E_offset", "E_sigma", "E_seediness"]}),
    (f"{SEG}.DATA_CHANNELS_LOSSES", "", {f"{SEG}.DATA_CHANNELS": ["Db", "Gh", "Gv"]}),
    (f"{SEG}.DATA_CHANNEL_WEIGHTS", r"\[1, [\d.]+, ", {f"{SEG}.DATA_CHANNELS": ["F", "Gh", "Gv"]}),
    (f"{SEG}.DATA_CHANNELS_EXTRA_OPTS", "omnipose", {f"{SEG}.DATA_CHANNELS": ["Db", "Gh", "Gv"]}),
    (f"{SEG}.DATA_CHANNELS_EXTRA_OPTS", "mask_values", {f"{SEG}.DATA_CHANNELS": ["Db", "R"]}),
    (f"{SEG}.WATERSHED", "", {f"{SEG}.DATA_CHANNELS": ["F", "P"]}),
    (f"{SEG}.WATERSHED.SEED_CHANNELS_THRESH", "", {f"{SEG}.WATERSHED.SEED_CHANNELS": ["P"]}),
    (f"{SEG}.WATERSHED.GROWTH_MASK_CHANNELS_THRESH", "", {f"{SEG}.WATERSHED.GROWTH_MASK_CHANNELS": ["F"]}),
    (f"{SEG}.INSTANCE_CREATION_PROCESS", "stardist", {f"{SEG}.DATA_CHANNELS": ["Db", "R"]}),
    (f"{POST}.INSTANCE_REFINEMENT.ENABLE", "", {f"{POST}.INSTANCE_REFINEMENT.OPERATIONS": ["clear_border"]}),
    (f"{POST}.INSTANCE_REFINEMENT.ENABLE", "", {f"{POST}.INSTANCE_REFINEMENT.VALUES": ["none"]}),
    (f"{POST}.INSTANCE_REFINEMENT.OPERATIONS", r", ", {f"{POST}.INSTANCE_REFINEMENT.VALUES": [10, 10]}),
    (f"{POST}.INSTANCE_REFINEMENT.OPERATIONS", r"^\[\S+\]$", {f"{POST}.INSTANCE_REFINEMENT.VALUES": [10]}),
    (f"{FILTER}.ENABLE", "true", {f"{FILTER}.PROPS": [["npixels"]], f"{FILTER}.VALUES": [[150]], f"{FILTER}.SIGNS": [["le"]]}),
    ("TRAIN.LR_SCHEDULER.NAME", "warmup|plateau", {"TRAIN.LR_SCHEDULER.MIN_LR": 1e-5}),
    ("TRAIN.LR_SCHEDULER.NAME", "warmup", {"TRAIN.LR_SCHEDULER.WARMUP_COSINE_DECAY_EPOCHS": 5}),
    ("TRAIN.LR_SCHEDULER.NAME", "plateau", {"TRAIN.LR_SCHEDULER.REDUCEONPLATEAU_PATIENCE": 80}),
    (r"DATA.TRAIN.FILTER_SAMPLES.ENABLE", "", {f"DATA.TRAIN.FILTER_SAMPLES.{name}": value for name, value in SAMPLES}),
    ("MODEL.LOAD_CHECKPOINT", "true", {"PATHS.CHECKPOINT_FILE": "model.pth"}),
    ("MODEL.CONV_LAYERS", "", {"MODEL.ARCHITECTURE": "resunet", "MODEL.FEATURE_MAPS": [32, 64, 128, 256]}),
    ("MODEL.CONV_BLOCK_ORDER", "", {"MODEL.ARCHITECTURE": "resunet"}),
    ("MODEL.(MAE|VIT)", "", {"MODEL.ARCHITECTURE": "mae"}),
    (r"PROBLEM.SELF_SUPERVISED.PRETEXT_TASK", "masking", {"MODEL.ARCHITECTURE": "mae"}),
    ("AUGMENTOR.(?!ENABLE)", "", {"AUGMENTOR.ENABLE": True}),
    ("AUGMENTOR.GRID_RATIO", "", {"AUGMENTOR.GRIDMASK": True}),
    ("MODEL.FEATURE_MAPS|MODEL.DROPOUT_VALUES", r"^\[[^,]+,[^,]+,[^,]+\]$", {"MODEL.FEATURE_MAPS": [36, 48, 64]}),
    ("MODEL.DROPOUT_VALUES", r"^\[[^,]+,[^,]+,[^,]+,[^,]+\]$", {"MODEL.FEATURE_MAPS": [48, 64, 80, 96]}),
    ("MODEL.Z_DOWN", r"^\[1, 1\]$", {"MODEL.FEATURE_MAPS": [36, 48, 64]}),
]  # fmt: skip
# what these job files state and what cannot be obeyed: key, value where not all, code
REFUSED = {
    ("TRAIN.ENABLE", "biapy.nothing_to_train"),
}


def written(folder: Path, keys: Keys) -> Path:
    path = folder / "biapy.yaml"
    path.write_text(yaml.safe_dump(nested(keys), sort_keys=False), encoding="utf-8")
    return path


def job(folder: Path, keys: Keys) -> Converted:
    small: Keys = {"PROBLEM.TYPE": "INSTANCE_SEG", "DATA.PATCH_SIZE": "(64, 64, 1)", "TRAIN.ENABLE": True}
    return convert(written(folder, small | keys))


def in_use() -> Iterator[tuple[str, str, Value]]:
    """Workflow, key and value of every entry of the list."""
    for line in (GOLDEN / "keys_in_use.tsv").read_text().splitlines():
        if line.startswith("#"):
            continue
        workflow, key, _, values = line.split("\t")
        for text in re.split(r" \(\d+\)(?: \| )?", values):
            if text and text != "<path>":
                yield workflow, key, json.loads(text)


def beside(workflow: str, key: str, value: Value) -> Keys:
    """The key with those that go together with it."""
    text = value if isinstance(value, str) else json.dumps(value)
    axes = text.count(",") + 1
    in_3d = (
        key == "MODEL.Z_DOWN" or (key == "DATA.PATCH_SIZE" and axes == 4) or ("(" in text and axes == 3 and "TEST" in key) or text == "3D"
    )
    keys: Keys = {"PROBLEM.TYPE": workflow, "TRAIN.ENABLE": True, "TEST.ENABLE": True, "DATA.PATCH_SIZE": "(64, 64, 1)"}
    if in_3d:
        keys |= {"PROBLEM.NDIM": "3D", "DATA.PATCH_SIZE": "(32, 64, 64, 1)"}
    for pattern, wanted, more in BESIDE:
        if re.match(pattern, key) and re.search(wanted, text):
            keys |= more
    return keys | {key: value}


def test_every_value_in_use_is_obeyed_or_refused_with_a_reason(tmp_path: Path) -> None:
    refused: dict[str, list[Problem]] = {}
    for workflow, key, value in in_use():
        try:
            convert(written(tmp_path, beside(workflow, key, value)))
        except JobError as error:
            refused[f"{key}: {value}"] = error.problems
    unexpected = {
        name: list(map(str, found)) for name, found in refused.items() if any((each.key, each.code) not in REFUSED for each in found)
    }
    assert unexpected == {}
    assert all(problem.remedy for found in refused.values() for problem in found)


@pytest.mark.parametrize(
    ("stated", "codes"),
    [
        ("B", ["F"]), ("D", ["Db"]), ("BC", ["F", "C"]), ("BCD", ["F", "C", "Db"]), ("BP", ["F", "P"]), ("BCM", ["F", "C", "M"]),
        ("Dv2", ["D"]), ("BDv2", ["F", "D"]), ("['B', 'C']", ["B", "C"]), (["D"], ["D"]), (["F", "C"], ["F", "C"]), ("BF", ["F", "V", "H"]),
    ],
)  # fmt: skip
def test_letters_of_earlier_versions(tmp_path: Path, stated: Value, codes: list[str]) -> None:
    """A text is in the letters of 3.0 to 3.5, a list in those of today; what was decided is noted."""
    made = job(tmp_path, {f"{SEG}.DATA_CHANNELS": stated})
    assert list(made.job["method"]["channels"]) == codes  # type: ignore[index, call-overload, arg-type]
    is_letters = isinstance(stated, str) and not stated.startswith("[")
    assert any(note.startswith("DATA_CHANNELS") for note in made.notes) is is_letters


def objects(made: Converted) -> dict[str, Value]:
    found = made.job["objects"]
    assert isinstance(found, dict)
    return found


def test_thresholds_of_earlier_versions(tmp_path: Path) -> None:
    former = {f"{SEG}.DATA_CHANNELS": "BC", f"{SEG}.DATA_MW_TH_BINARY_MASK": 0.3, f"{SEG}.DATA_MW_TH_CONTOUR": 0.2}
    former[f"{SEG}.DATA_MW_TH_FOREGROUND"] = 0.25
    expected = {"kind": "watershed", "seeds": {"F": 0.3, "C": 0.2}, "growth": {"F": 0.25}, "valley": None}
    assert objects(job(tmp_path, former))["decoder"] == expected
    for place in ("DATA.MW_TH", f"{SEG}.MW_TH", f"{SEG}.DATA_MW_TH"):
        assert objects(job(tmp_path, {"DATA.CHANNELS": "BC", f"{place}1": 0.3, f"{place}2": 0.2, f"{place}3": 0.25}))["decoder"] == expected
    today = {f"{SEG}.WATERSHED.SEED_CHANNELS": ["F", "C"], f"{SEG}.WATERSHED.SEED_CHANNELS_THRESH": [0.3, 0.2]}
    today |= {f"{SEG}.WATERSHED.GROWTH_MASK_CHANNELS": ["F"], f"{SEG}.WATERSHED.GROWTH_MASK_CHANNELS_THRESH": [0.25]}
    assert objects(job(tmp_path, today))["decoder"] == expected
    automatic = job(tmp_path, former | {f"{SEG}.DATA_MW_TH_TYPE": "auto"})
    assert objects(automatic)["decoder"] == {"kind": "watershed"}
    assert len(automatic.remarks) == 3
    points = {f"{SEG}.DATA_CHANNELS": "BP", f"{SEG}.DATA_MW_TH_POINTS": 0.4, f"{SEG}.DATA_MW_TH_FOREGROUND": 0.2}
    assert objects(job(tmp_path, points))["decoder"] == {"kind": "watershed", "seeds": {"P": 0.4}, "growth": {"F": 0.2}, "valley": None}


def test_reasons_name_no_switch_that_is_set(tmp_path: Path) -> None:
    """A key beside a switch that is set, or below one that no other key belongs to, has another reason."""
    section = "DATA.TEST.FILTER_SAMPLES"
    keys: Keys = {f"{section}.{name}": value for name, value in (*SAMPLES, ("ENABLE", True), ("VALUES", [[7.0]]))}
    made = job(tmp_path, keys | {"TEST.ENABLE": True, "AUGMENTOR.ENABLE": True, "AUGMENTOR.DA_PROB": 0.3})
    reasons = {remark.key: remark.rule for remark in made.remarks}
    assert reasons[f"{section}.VALUES"] == reasons[f"{section}.ENABLE"]
    assert "AUGMENTOR." not in reasons["AUGMENTOR.DA_PROB"]


def test_augmentations_for_restoration(tmp_path: Path) -> None:
    """As in templates for images with several channels; the channels are in another order in 5 of 6 draws."""
    names = ("DROPOUT", "CUTBLUR", "CHANNEL_SHUFFLE")
    keys: Keys = {"AUGMENTOR.ENABLE": True, **{f"AUGMENTOR.{name}": True for name in names}, "AUGMENTOR.CHANNEL_SHUFFLE_PROB": 0.6}
    made = job(tmp_path, keys | {"DATA.PATCH_SIZE": "(64, 64, 3)", "AUGMENTOR.DROP_RANGE": "(0.1, 0.3)", "AUGMENTOR.CBLUR_INSIDE": False})
    assert made.job["augment"] == [
        {"cutblur": {"probability": 0.5, "low": 0.2, "high": 0.4, "least_factor": 2, "factor": 8, "inside": False}},
        {"dropout": {"probability": 0.5, "low": 0.1, "high": 0.3}},
        {"shuffle_channels": {"probability": 0.5}},
    ]
    grey = job(tmp_path, keys)
    assert [list(entry) for entry in grey.job["augment"]] == [["cutblur"], ["dropout"]]  # type: ignore[union-attr]
    assert [remark.key for remark in grey.remarks] == ["AUGMENTOR.CHANNEL_SHUFFLE"]


def test_values_that_state_what_is_done_anyway_are_not_reported(tmp_path: Path) -> None:
    keys: Keys = {"SYSTEM.NUM_CPUS": -1, "DATA.REFLECT_TO_COMPLETE_SHAPE": True, "AUGMENTOR.AFFINE_MODE": "reflect", "TEST.EVALUATE": True}
    keys |= {"DATA.TRAIN.CHECK_DATA": True, "TEST.MATCHING_STATS": True, "MODEL.VIT_NORM_EPS": "1.E-6"}
    assert not job(tmp_path, keys).remarks
    others: Keys = {"SYSTEM.NUM_CPUS": 2, "DATA.REFLECT_TO_COMPLETE_SHAPE": False, "AUGMENTOR.AFFINE_MODE": "wrap", "TEST.EVALUATE": False}
    others |= {"DATA.TRAIN.CHECK_DATA": False, "TEST.MATCHING_STATS": False, "MODEL.VIT_NORM_EPS": 0.001}
    assert {remark.key for remark in job(tmp_path, others).remarks} == set(others)


def test_the_switch_of_a_key_that_is_used_has_an_effect(tmp_path: Path) -> None:
    keys: Keys = {f"{SEG}.DATA_CHANNELS": "BCM", f"{SEG}.DATA_REMOVE_SMALL_OBJ": 5, f"{SEG}.DATA_REMOVE_BEFORE_MW": True}
    made = job(tmp_path, keys)
    assert made.job["objects"]["decoder"]["min_seed"] == 5  # type: ignore[index,call-overload]
    assert not made.remarks
    stars = job(tmp_path, {f"{SEG}.DATA_CHANNELS": ["Db", "R"], f"{SEG}.DATA_REMOVE_BEFORE_MW": True})
    assert [remark.key for remark in stars.remarks] == [f"{SEG}.DATA_REMOVE_BEFORE_MW"]


def test_a_missing_folder_is_reported_at_its_key(tmp_path: Path) -> None:
    """Not at the switch that makes it be read; no template of version 1 states its folders."""
    folders = {"DATA.TRAIN.PATH": str(tmp_path / "x"), "DATA.TRAIN.GT_PATH": str(tmp_path / "y")}
    for folder in folders.values():
        morula.write(Path(folder) / "im.tif", np.ones((64, 64), np.uint8), axes="YX")
    made = {"PROBLEM.TYPE": "INSTANCE_SEG", "DATA.PATCH_SIZE": "(64, 64, 1)", "TRAIN.ENABLE": True, **folders}
    with pytest.raises(JobError) as caught:
        check(written(tmp_path, made | {"DATA.VAL.FROM_TRAIN": False, "TEST.ENABLE": True}), prove=False)
    assert {problem.key for problem in caught.value.problems} == {"DATA.VAL.PATH", "DATA.TEST.PATH"}


def test_the_loss_of_early_pretraining_is_the_mean_absolute_error(tmp_path: Path) -> None:
    keys: Keys = {"PROBLEM.TYPE": "SELF_SUPERVISED", "LOSS.TYPE": "CE"}
    made = job(tmp_path, keys)
    assert made.job["method"]["losses"] == {"l1": 1.0}  # type: ignore[index, call-overload]
    assert any("LOSS.TYPE" in note for note in made.notes)
    path = tmp_path / "biapy.yaml"
    path.write_text(todays_text(read_settings(path)), encoding="utf-8")
    assert convert(path).job == made.job
    with raises("biapy.unknown_value", key="LOSS.TYPE"):
        job(tmp_path, keys | {"LOSS.TYPE": "DICE"})


def test_widths_of_hrnet(tmp_path: Path) -> None:
    """3.5 and 3.6 have the width in the name and halve z, 3.7 has a key for it and keeps z."""

    def network(**keys: Value) -> dict[str, Value]:
        found = job(tmp_path, {f"MODEL.{name}": value for name, value in keys.items()} | base).job["network"]
        assert isinstance(found, dict)
        return found

    base: Keys = {}
    widest = network(ARCHITECTURE="hrnet48")
    assert (widest["features"], widest["activation"]) == ([48, 96, 192, 384], "relu")
    assert network(ARCHITECTURE="hrnet") == widest == network(ARCHITECTURE="HRNet18", **{"HRNET.VARIANT": "custom", **CUSTOM})
    assert network(ARCHITECTURE="hrnet", **{"HRNET.VARIANT": "W18"})["features"] == [18, 36, 72, 144]
    base = {"PROBLEM.NDIM": "3D", "DATA.PATCH_SIZE": "(32, 64, 64, 1)"}
    assert network(ARCHITECTURE="hrnet32")["stem"] == [2, 2, 2]
    for former in ("HRNET.Z_DOWN", "HRNET_32.Z_DOWN"):
        assert network(ARCHITECTURE="hrnet32", **{former: False})["pools"] == [[1, 2, 2]] * 3
    assert network(ARCHITECTURE="hrnet")["pools"] == [[1, 2, 2]] * 3
    mixed = network(ARCHITECTURE="hrnet", **{"HRNET.VARIANT": "custom", **CUSTOM, "HRNET.Z_DOWN": [1, 2, 2]})
    assert (mixed["stem"], mixed["pools"]) == ([1, 2, 2], [[1, 2, 2], [2, 2, 2], [2, 2, 2]])


CUSTOM: Keys = {
    "HRNET.NUM_CHANNELS": [[48, 96], [48, 96, 192], [48, 96, 192, 384]], "HRNET.NUM_BLOCKS": [[4, 4], [4, 4, 4], [4, 4, 4, 4]],
    "HRNET.NUM_MODULES": [1, 4, 3], "HRNET.NUM_BRANCHES": [2, 3, 4],
}  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("HRNET.HEAD_TYPE", "OCR"), ("HRNET_48.BLOCK_TYPE", "BOTTLENECK"), ("HRNET.CUSTOM", True), ("HRNET.YX_DOWN", [1, 2, 2]),
        ("HRNET.NUM_CHANNELS", [[18, 36], [20, 40, 80]]), ("HRNET.NUM_BLOCKS", [[4, 2], [4, 4, 4], [4, 4, 4, 4]]),
    ],
)  # fmt: skip
def test_other_hrnets_are_refused(tmp_path: Path, key: str, value: Value) -> None:
    variant = "custom" if key.startswith("HRNET.") and key[6:] in ("YX_DOWN", "NUM_CHANNELS", "NUM_BLOCKS") else "W48"
    keys: Keys = {"MODEL.ARCHITECTURE": "hrnet48", "MODEL.HRNET.VARIANT": variant, f"MODEL.{key}": value}
    with pytest.raises(JobError) as caught:
        job(tmp_path, keys)
    assert {(each.code, each.key) for each in caught.value.problems} >= {("biapy.not_supported", f"MODEL.{key}")}


def test_patches_with_few_labelled_voxels_are_left_out(tmp_path: Path) -> None:
    section = "DATA.TRAIN.FILTER_SAMPLES"
    today: Keys = {
        f"{section}.ENABLE": True,
        f"{section}.PROPS": [["foreground"]],
        f"{section}.VALUES": [[0.05]],
        f"{section}.SIGNS": [["lt"]],
    }
    for keys in (today, {"DATA.TRAIN.MINIMUM_FOREGROUND_PER": 0.05}):
        assert job(tmp_path, keys).job["sampling"]["leave_out"] == [["foreground < 0.05"]]  # type: ignore[index, call-overload]
    several = {
        f"{section}.PROPS": [["mean", "max"], ["min"]],
        f"{section}.VALUES": [[1, 2], [3]],
        f"{section}.SIGNS": [["lt", "le"], ["gt"]],
    }
    found = job(tmp_path, today | several | {f"{section}.NORM_BEFORE": True}).job["sampling"]
    assert found["leave_out"] == [["mean < 1", "max <= 2"], ["min > 3"]]  # type: ignore[index, call-overload]
    assert found["leave_out_normalised"] is True  # type: ignore[index, call-overload]
    with pytest.raises(JobError) as caught:
        job(tmp_path, today | {f"{section}.PROPS": [["target_mean"]]})
    assert [(each.code, each.key) for each in caught.value.problems] == [("biapy.unknown_value", f"{section}.PROPS")]
    # a validation that is a part of the training images has their conditions, another one its own
    assert found["validation"]["leave_out"] == found["leave_out"]  # type: ignore[index, call-overload]
    own: Keys = {f"DATA.VAL.FILTER_SAMPLES.{name}": value for name, value in (*SAMPLES, ("ENABLE", True), ("VALUES", [[7.0]]))}
    paths: Keys = {"DATA.VAL.FROM_TRAIN": False, "DATA.VAL.PATH": "/v", "DATA.VAL.GT_PATH": "/v"}
    found = job(tmp_path, own | paths).job["sampling"]
    assert "leave_out" not in found  # type: ignore[operator]
    assert found["validation"]["leave_out"] == [["mean < 7.0"]]  # type: ignore[index, call-overload]
    # random patches have no fixed positions: images are left out as a whole, as in BiaPy
    found = job(tmp_path, {"DATA.TRAIN.MINIMUM_FOREGROUND_PER": 0.05, "DATA.TRAIN.EXTRACT_RANDOM_PATCH": True}).job["sampling"]
    assert found["leave_out_images"] is True  # type: ignore[index, call-overload]
    assert job(tmp_path, today | {"DATA.FILTER_BY_IMAGE": True}).job["sampling"]["leave_out_images"] is True  # type: ignore[index, call-overload]
    with raises("biapy.contradiction", key="DATA.VAL.FILTER_SAMPLES.NORM_BEFORE"):
        job(tmp_path, today | own | paths | {f"{section}.NORM_BEFORE": True})


def test_switches_of_earlier_versions(tmp_path: Path) -> None:
    keys: Keys = {f"{POST}.FILL_HOLES": True, f"{POST}.CLEAR_BORDER": True, f"{SEG}.DATA_REMOVE_AFTER_MW": True}
    assert objects(job(tmp_path, keys))["refine"] == ["fill_holes", {"remove_small": 100}, "clear_border"]
    keys = {f"{POST}.REMOVE_BY_PROPERTIES": [["area"]], f"{POST}.REMOVE_BY_PROPERTIES_VALUES": [[500]]}
    keys[f"{POST}.REMOVE_BY_PROPERTIES_SIGN"] = [["gt"]]
    assert objects(job(tmp_path, keys))["filter"] == [["area > 500"]]


def test_the_channels_of_the_patch_are_those_of_the_images(tmp_path: Path) -> None:
    simulate_data_set(tmp_path / "data", n_train=3, n_test=1, shape=(64, 64), n_objects=4, seed=1)
    keys: Keys = {
        "PROBLEM.TYPE": "INSTANCE_SEG", "DATA.PATCH_SIZE": "(64, 64, 3)", "TRAIN.ENABLE": True, "MODEL.FEATURE_MAPS": [4, 8, 16],
        "DATA.TRAIN.PATH": str(tmp_path / "data/train/images"), "DATA.TRAIN.GT_PATH": str(tmp_path / "data/train/labels"),
    }  # fmt: skip
    with raises("biapy.channel_count", key="DATA.PATCH_SIZE", value="(64, 64, 3)"):
        check(written(tmp_path, keys), prove=False)
    # an epoch is as long as in BiaPy: each patch of the grid once, or one random patch per image; of three images one is validated on
    keys |= {"DATA.PATCH_SIZE": "(32, 32, 1)", "DATA.VAL.SPLIT_TRAIN": 0.34}
    assert len(check(written(tmp_path, keys), prove=False).prepared.train) == 2 * 4
    dark: Keys = {f"DATA.TRAIN.FILTER_SAMPLES.{name}": value for name, value in (*SAMPLES, ("ENABLE", True), ("VALUES", [[1e6]]))}
    with raises("patch.all_left_out", key="DATA.TRAIN.FILTER_SAMPLES.VALUES"):
        check(written(tmp_path, keys | dark), prove=False)
    drawn = check(written(tmp_path, keys | {"DATA.TRAIN.EXTRACT_RANDOM_PATCH": True}), prove=False).prepared.train
    assert [drawn.place(5, index)[0] for index in range(len(drawn))] == [0, 1]


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((40, 48, 2), "YXC"), ((2, 40, 48), "CYX"), ((8, 40, 48, 2), "ZYXC"), ((8, 2, 40, 48), "ZCYX"), ((2, 8, 40, 48), "CZYX")],
)
def test_the_shortest_axis_is_that_of_the_channels(tmp_path: Path, shape: tuple[int, ...], axes: str) -> None:
    """Files without names of axes: by their shape alone they could be volumes, or have other channels."""
    ndim, rng = len(shape) - 1, np.random.default_rng(0)
    for kind, size in (("x", shape), ("y", tuple(n for n, axis in zip(shape, axes, strict=True) if axis != "C"))):
        (tmp_path / kind).mkdir()
        for number in range(3):
            pixels = rng.integers(0, 9, size).astype(np.uint16)
            np.save(tmp_path / kind / f"{number}.npy", pixels if kind == "x" else pixels // 8)
    keys: Keys = {
        "PROBLEM.TYPE": "INSTANCE_SEG", "PROBLEM.NDIM": f"{ndim}D", "DATA.PATCH_SIZE": [*[8, 16, 16][-ndim:], 2], "TRAIN.ENABLE": True,
        "MODEL.FEATURE_MAPS": [4, 8], "DATA.TRAIN.PATH": str(tmp_path / "x"), "DATA.TRAIN.GT_PATH": str(tmp_path / "y"),
    }  # fmt: skip
    path = written(tmp_path, keys)
    train = convert(path).job["images"]["train"]  # type: ignore[index, call-overload]
    assert train.get("axes", axes) == axes  # type: ignore[union-attr]
    assert len(check(path, prove=False).prepared.train) > 0  # with another number of channels there would be an error


def test_a_job_that_only_predicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.dialects.test_biapy_checkpoint import checkpoint, stored

    monkeypatch.chdir(tmp_path)
    path = stored(tmp_path, checkpoint())
    rng = np.random.default_rng(0)
    morula.write(tmp_path / "x" / "a.tif", rng.integers(0, 200, (32, 32)).astype(np.uint8), axes="YX")
    labels = np.zeros((32, 32), np.uint16)
    labels[4:20, 4:20] = 1
    morula.write(tmp_path / "y" / "a.tif", labels, axes="YX", labels=True)
    keys: Keys = {
        "PROBLEM.TYPE": "INSTANCE_SEG", "DATA.PATCH_SIZE": "(16, 16, 1)", "TRAIN.ENABLE": False, "TEST.ENABLE": True,
        "DATA.TEST.PATH": "x", "DATA.TEST.GT_PATH": "y", "DATA.TEST.LOAD_GT": True,
        "MODEL.LOAD_CHECKPOINT": True, "PATHS.CHECKPOINT_FILE": str(path),
        f"{POST}.INSTANCE_REFINEMENT.OPERATIONS": ["remove_small_objects"], f"{POST}.INSTANCE_REFINEMENT.VALUES": [3],
    }  # fmt: skip
    check_prediction(written(tmp_path, keys))
    list(iter_run(written(tmp_path, keys), output=tmp_path / "run"))
    assert (tmp_path / "run" / "objects" / "a.tif").is_file()
    assert (tmp_path / "run" / "scores.csv").is_file()
    assert morula.load(tmp_path / "run").job.objects.refine[0].kind == "remove_small"
    with raises("biapy.no_checkpoint", key="MODEL.LOAD_CHECKPOINT"):
        check_prediction(written(tmp_path, keys | {"MODEL.LOAD_CHECKPOINT": False}))
    with raises("biapy.no_checkpoint", key="PATHS.CHECKPOINT_FILE"):
        check_prediction(written(tmp_path, keys | {"PATHS.CHECKPOINT_FILE": "none.pth"}))


def test_earlier_job_files_in_the_keys_of_today_are_the_same_jobs(tmp_path: Path) -> None:
    """Every value in use, rewritten in the keys of 3.7.1, gives the same native job, and states no earlier spelling."""
    differ = []
    for workflow, key, value in in_use():
        path = written(tmp_path, beside(workflow, key, value))
        if value == "custom":  # 3.7 has no normalisation for the whole data set
            continue
        try:
            before = convert(path)
        except JobError:
            continue
        path.write_text(todays_text(read_settings(path)), encoding="utf-8")
        after = convert(path)
        if after.job != before.job or any("former spellings" in note for note in after.notes):
            differ.append(f"{key}: {value}")
    assert differ == []


def test_lines_say_which_key_they_come_from(tmp_path: Path) -> None:
    made = job(tmp_path, {"AUGMENTOR.ENABLE": True, "AUGMENTOR.VFLIP": True, "TRAIN.LR": 0.002, f"{SEG}.DATA_CHANNELS": "BC"})
    lines = {line.strip().partition(":")[0]: line for line in made.text().splitlines() if not line.startswith("#")}
    assert lines["lr"].endswith("lr: 0.002  # TRAIN.LR")
    assert lines["epochs"].endswith("# TRAIN.EPOCHS by default")
    assert lines["- flip"].endswith("# AUGMENTOR.VFLIP_PROB by default, AUGMENTOR.VFLIP")
    assert lines["F"].endswith(f"# {SEG}.DATA_CHANNELS")
    silent = [line for name, line in lines.items() if "#" not in line and not line.rstrip().endswith(":")]
    assert silent == []


def test_a_converted_job_gives_the_same_bytes(tmp_path: Path) -> None:
    from morula.dialects.convert import convert as convert_text

    simulate_data_set(tmp_path / "data", n_train=3, n_test=1, shape=(32, 32), n_objects=3, seed=1)
    folders = {
        f"DATA.{part.upper()}.{key}": str(tmp_path / "data" / part / kind)
        for part in ("train", "test")
        for key, kind in (("PATH", "images"), ("GT_PATH", "labels"))
    }
    keys: Keys = folders | {
        "PROBLEM.TYPE": "INSTANCE_SEG", "DATA.PATCH_SIZE": "(16, 16, 1)", "DATA.VAL.SPLIT_TRAIN": 0.34, "DATA.TEST.LOAD_GT": True,
        f"{SEG}.DATA_CHANNELS": "BCD", "MODEL.FEATURE_MAPS": [2, 4, 4], "TRAIN.ENABLE": True, "TRAIN.EPOCHS": 1, "TEST.ENABLE": True,
        "AUGMENTOR.ENABLE": True, "AUGMENTOR.RANDOM_ROT": True, "AUGMENTOR.ELASTIC": True, "TRAIN.LR": "1.E-3",
        f"{POST}.INSTANCE_REFINEMENT.OPERATIONS": ["fill_holes"], f"{POST}.INSTANCE_REFINEMENT.VALUES": ["none"],
    }  # fmt: skip
    path = written(tmp_path, keys)
    (tmp_path / "native.yaml").write_text(convert_text(path)[0], encoding="utf-8")
    list(iter_run(path, output=tmp_path / "first", device="cpu"))
    list(iter_run(tmp_path / "native.yaml", output=tmp_path / "second", device="cpu"))
    names = [path.relative_to(tmp_path / "first") for path in sorted((tmp_path / "first").rglob("*")) if path.is_file()]
    results = [name for name in names if name.parts[0] in ("model", "objects", "predictions", "associations", "scores.csv", "job.yaml")]
    assert len(results) > 10
    differ = [str(name) for name in results if (tmp_path / "first" / name).read_bytes() != (tmp_path / "second" / name).read_bytes()]
    assert differ == []
