"""BiaPy's results tree is written name for name beside the native run, from its events, and replaces own files only."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.dialects.test_biapy_checkpoint import CASES, tensors
from tests.dialects.test_biapy_versions import SEG, Keys, written

import morula
from morula.core.events import Artefact, Event, FileWritten, Warned
from morula.dialects.biapy import load_biapy_checkpoint
from morula.dialects.biapy.experiment import run_experiment
from morula.dialects.biapy.folders import Experiment
from morula.dialects.biapy.networks import native_network
from morula.dialects.biapy.results.names import biapy_tensors
from morula.dialects.biapy.results.tree import ResultsTree
from morula.dialects.biapy.settings import read_settings
from morula.measurement.csv_table import read_table
from morula.testing.errors import raises
from morula.testing.simulate import simulate_data_set
from morula.workflows.run_settings import RunSettings

TREES = Path(__file__).parents[1] / "golden" / "biapy" / "trees"
FILTER = "TEST.POST_PROCESSING.MEASURE_PROPERTIES.REMOVE_BY_PROPERTIES"


def data(folder: Path, part: str, kind: str) -> str:
    return str(folder / "data" / part / kind)


def keys_of(folder: Path, **more: object) -> Keys:
    """A job that trains, predicts and scores in seconds."""
    simulate_data_set(folder / "data", n_train=3, n_test=1, shape=(32, 32), n_objects=3, seed=1)
    keys: Keys = {
        "PROBLEM.TYPE": "INSTANCE_SEG", "PROBLEM.INSTANCE_SEG.DATA_CHANNELS": ["F", "C"], "DATA.PATCH_SIZE": "(16, 16, 1)",
        "DATA.TRAIN.PATH": data(folder, "train", "images"), "DATA.TRAIN.GT_PATH": data(folder, "train", "labels"),
        "DATA.VAL.SPLIT_TRAIN": 0.34, "DATA.TEST.PATH": data(folder, "test", "images"), "DATA.TEST.GT_PATH": data(folder, "test", "labels"),
        "DATA.TEST.LOAD_GT": True, "MODEL.FEATURE_MAPS": [2, 4, 4], "TRAIN.ENABLE": True, "TRAIN.EPOCHS": 2, "TEST.ENABLE": True,
        "AUGMENTOR.ENABLE": True, "AUGMENTOR.VFLIP": True, "AUGMENTOR.HFLIP": True, "AUGMENTOR.RANDOM_ROT": True,
    }  # fmt: skip
    return keys | more  # type: ignore[operator]


def run(folder: Path, keys: Keys, number: int = 1, name: str = "inst", **options: bool) -> list[Event]:
    settings = RunSettings(device="cpu", **options)
    return list(run_experiment(written(folder, keys), Experiment(folder / "out", name, number), settings))


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def shape_of(name: str) -> str:
    """A name with the parts that differ from run to run replaced: times, numbers of samples, of images and of processes."""
    name = re.sub(r"\d{4}(_\d\d){5}", "TIME", name)
    name = re.sub(r"tfevents\.[\w.]+", "tfevents.N", name)
    name = re.sub(r"/aug/\d+_\d+_", "/aug/N_N_", name)
    return re.sub(r"(im|nuclei)_\d+", "im", name)


def documented(name: str) -> set[str]:
    """Files that BiaPy 3.7.1 wrote for such a job."""
    lines = (TREES / f"{name}.txt").read_text().splitlines()
    return {shape_of(line.split()[-1].partition("/")[2]) for line in lines if line.startswith("f")}


def test_instances_have_the_tree_of_the_program_and_of_the_documents(tmp_path: Path) -> None:
    keys = keys_of(tmp_path)
    run(tmp_path, keys)
    made = {shape_of(name) for name in files(tmp_path / "out/inst")}
    # the copy of the job has the name of the job file
    assert documented("inst") - {name.replace("biapy", "inst") for name in made} == set()
    # a second run of another number has a folder of its own and shares those of the experiment
    run(tmp_path, keys | {"AUGMENTOR.AUG_SAMPLES": False, "LOG.CHART_CREATION_FREQ": 1, "TEST.FULL_IMG": True}, number=2)
    made = files(tmp_path / "out/inst")
    assert {"config_files/biapy.yaml", "checkpoints/inst_1-checkpoint-best.pth", "checkpoints/inst_2-checkpoint-best.pth"} <= made
    second = {name.removeprefix("results/inst_2/") for name in made if name.startswith("results/inst_2/")}
    assert {
        "charts/inst_2_loss.png",
        "full_image/nuclei_000.tif",
        "full_image_instances/nuclei_000.tif",
        "train_logs/inst_2_log.txt",
    } <= second
    assert not any(name.startswith(("aug/", "per_image", "watershed/")) for name in second)
    rows = [json.loads(line) for line in (tmp_path / "out/inst/results/inst_2/train_logs/inst_2_log.txt").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [0, 1]
    assert {"train_loss", "test_loss", "train_lr"} <= set(rows[0])


def test_results_of_post_processing(tmp_path: Path) -> None:
    keys = keys_of(tmp_path) | {
        "PROBLEM.INSTANCE_SEG.DATA_CHANNELS_EXTRA_OPTS": [{"F": {"erosion": 1, "dilation": 1}}],
        "PROBLEM.INSTANCE_SEG.WATERSHED.DATA_CHECK_MW": True, "DATA.NORMALIZATION.TYPE": "custom", "AUGMENTOR.AUG_SAMPLES": False,
        f"{FILTER}.ENABLE": True, f"{FILTER}.PROPS": [["npixels"]], f"{FILTER}.VALUES": [[9]], f"{FILTER}.SIGNS": [["lt"]],
        "TEST.MATCHING_STATS_THS": [0.3, 0.5], "TEST.MATCHING_STATS_THS_COLORED_IMG": [0.5], "TRAIN.EPOCHS": 1,
    }  # fmt: skip
    run(tmp_path, keys)
    out = tmp_path / "out/inst/results/inst_1"
    assert {f"watershed/{name}.tif" for name in ("seed_map", "semantic", "foreground")} <= files(out)
    # without an ending: before post-processing
    for folder in ("point_associations", "instance_associations"):
        for part in ("", "_post-proc"):
            names = {f"nuclei_000{part}_th_{t}_{kind}.csv" for t in ("0.3", "0.5") for kind in ("fp", "gt_assoc")}
            assert names | {f"nuclei_000{part}_th_0.5.tif"} <= files(out / folder)
    before, after = read_table(out / "point_associations/nuclei_000_th_0.5_fp.csv"), read_table(out / "scores.csv")
    assert len(before["pred_id"]) == after["fp_before"][after["threshold"].tolist().index(0.5)]
    all_of = read_table(out / "per_image_instances/nuclei_000_full_stats.csv")
    kept = read_table(out / "per_image_post_processing/nuclei_000_filtered_stats.csv")
    assert ",".join(all_of) == "label,axis-0,axis-1,npixels,area,circularity,diameter,perimeter,elongation,comment,conditions"
    assert list(all_of) == list(kept)
    assert set(all_of["comment"].tolist()) <= {"Correct", "Removed"}
    assert kept["label"].tolist() == all_of["label"][all_of["npixels"] >= 9].tolist()
    labels = np.asarray(morula.read(out / "per_image_post_processing/nuclei_000.tif"))
    assert set(np.unique(labels)) - {0} == set(kept["label"].tolist())
    metrics = read_table(out / "test_results_metrics.csv")
    assert list(metrics)[:4] == ["file", "iou (f channel)", "iou (c channel)", "0.3 TH fp"]
    assert {"0.5 TH f1", "0.5 TH (post)f1", "0.3 TH (post)panoptic_quality"} <= set(metrics)
    assert metrics["0.5 TH (post)tp"][0] == after["tp"][1]
    for name in ("mean", "std"):
        assert np.load(tmp_path / f"out/inst/checkpoints/normalization_{name}_value.npy").shape == (1,)
    assert (out / "per_image/nuclei_000.tif").stat().st_ino == (out / "predictions/nuclei_000.tif").stat().st_ino


def test_a_job_that_only_tests_has_the_scores_of_the_one_that_trained(tmp_path: Path) -> None:
    keys = keys_of(tmp_path)
    run(tmp_path, keys | {"TEST.ENABLE": False})
    for number, stated in enumerate(([0.3, 0.5, 0.75], [0.6]), start=1):
        more = {"TEST.MATCHING_STATS_THS": stated} if number > 1 else {}  # the first is the default of BiaPy
        checkpoint = str(tmp_path / "out/inst/checkpoints/inst_1-checkpoint-best.pth")
        tested: Keys = {"TRAIN.ENABLE": False, "MODEL.LOAD_CHECKPOINT": True, "PATHS.CHECKPOINT_FILE": checkpoint, **more}
        run(tmp_path, keys | tested, number=number + 1)
        metrics = read_table(tmp_path / f"out/inst/results/inst_{number + 1}/test_results_metrics.csv")
        assert [name.split()[0] for name in metrics if name.endswith(" TH fp")] == [f"{value:g}" for value in stated]
        assert metrics["file"].tolist() == ["nuclei_000.tif"]


def test_the_checkpoint_is_the_model_with_the_names_of_biapy(tmp_path: Path) -> None:
    run(tmp_path, keys_of(tmp_path) | {"AUGMENTOR.AUG_SAMPLES": False, "TRAIN.EPOCHS": 1, "TEST.ENABLE": False})
    path = tmp_path / "out/inst/checkpoints/inst_1-checkpoint-best.pth"
    stored, native = load_biapy_checkpoint(path), morula.load(tmp_path / "out/inst/results/inst_1")
    image = np.random.default_rng(0).random((32, 32)).astype(np.float32)
    assert np.array_equal(stored.predict(image), native.predict(image))
    content = torch.load(path, weights_only=True)
    assert {"model", "cfg", "optimizer", "epoch", "biapy_version", "model_build_kwargs"} <= set(content)
    assert next(iter(content["model"])) == "down_path.0.block.0.block.0.weight"
    assert content["cfg"]["PROBLEM"]["INSTANCE_SEG"]["DATA_CHANNELS"] == ["F", "C"]
    # without what Morula adds it is a checkpoint as BiaPy writes it
    del content["morula"]
    torch.save(content, path)
    batch = torch.from_numpy(image)[None, None]
    assert torch.equal(load_biapy_checkpoint(path).forward(batch), native.forward(batch))


def test_the_checkpoint_of_many_rays_has_the_names_of_biapy(tmp_path: Path) -> None:
    keys = keys_of(tmp_path) | {"AUGMENTOR.AUG_SAMPLES": False, "TRAIN.EPOCHS": 1, "TEST.ENABLE": False}
    run(tmp_path, keys | {f"{SEG}.DATA_CHANNELS": ["Db", "R"], f"{SEG}.INSTANCE_CREATION_PROCESS": "stardist"})
    stored = torch.load(tmp_path / "out/inst/checkpoints/inst_1-checkpoint-best.pth", weights_only=True)["model"]
    assert stored["heads.0.weight"].shape[0] == 1 + 32


def test_heads_that_divide_a_channel_are_stored_as_they_were_built(tmp_path: Path) -> None:
    """Offsets and seediness have one decoder here, whose weights BiaPy can load with the settings beside them."""
    keys = keys_of(tmp_path) | {"AUGMENTOR.AUG_SAMPLES": False, "TRAIN.EPOCHS": 1, "TEST.ENABLE": False}
    keys |= {f"{SEG}.DATA_CHANNELS": ["E_offset", "E_sigma", "E_seediness"], f"{SEG}.CHANNELS_PER_HEAD_INFO": [4, 1]}
    run(tmp_path, keys | {f"{SEG}.SEPARATED_DECODERS_PER_HEAD": True})
    path = tmp_path / "out/inst/checkpoints/inst_1-checkpoint-best.pth"
    content = torch.load(path, weights_only=True)
    section = content["cfg"]["PROBLEM"]["INSTANCE_SEG"]
    assert (section["CHANNELS_PER_HEAD_INFO"], section["SEPARATED_DECODERS_PER_HEAD"]) == ([], False)
    assert content["model"]["heads.0.weight"].shape[0] == 5
    assert load_biapy_checkpoint(path).network.heads == {"channels": 5}


NOT_STORED = ("unet_3D_anisotropic", "seunet_2D_dropout")
"""Cases that a loaded network does not show: several heads that are one here, and the share of dropout."""


@pytest.mark.parametrize("tag", [tag for tag, case in CASES.items() if case["version"] == "3.7.1" and tag not in NOT_STORED])
def test_networks_have_the_tensors_that_biapy_gives_them(tag: str) -> None:
    """Names, shapes and values of a loaded checkpoint are those of the checkpoint."""
    case = CASES[tag]
    heads = ["first", "second"] if "two_decoders" in tag else ["out"]
    given = tensors(case)
    network = native_network(case["cfg"]["MODEL"]["ARCHITECTURE"], given, case["kwargs"], version=case["version"], heads=heads)
    made = biapy_tensors(network, tuple(case["input_shape"][2:]))
    assert set(made) == set(given)
    assert all(torch.equal(made[name], given[name]) for name in given)


def test_pretraining_has_the_tree_of_the_program_and_of_the_documents(tmp_path: Path) -> None:
    keys = {key: value for key, value in keys_of(tmp_path).items() if "GT" not in key and "INSTANCE_SEG" not in key}
    keys |= {"PROBLEM.TYPE": "SELF_SUPERVISED", "PROBLEM.SELF_SUPERVISED.PRETEXT_TASK": "crappify", "TRAIN.EPOCHS": 1}
    folders = {part: tmp_path / f"{part}_source" for part in ("TRAIN", "TEST")}
    run(tmp_path, keys | {f"DATA.{part}.SSL_SOURCE_DIR": str(folder) for part, folder in folders.items()}, name="ssl_crappify")
    # two of the three images are trained on
    assert {part: len(list(folder.glob("nuclei_*.tif"))) for part, folder in folders.items()} == {"TRAIN": 2, "TEST": 1}
    degraded, image = (np.asarray(morula.read(place / "nuclei_000.tif")) for place in (folders["TEST"], tmp_path / "data/test/images"))
    assert degraded.dtype == image.dtype
    assert not np.array_equal(degraded, image)
    made = {shape_of(name).replace("biapy", "ssl_crappify") for name in files(tmp_path / "out/ssl_crappify")}
    assert documented("ssl_crappify") - made == set()
    small = {
        "VIT_EMBED_DIM": 8,
        "VIT_NUM_LAYERS": 1,
        "VIT_NUM_HEADS": 2,
        "MAE_DEC_HIDDEN_SIZE": 16,
        "MAE_DEC_NUM_LAYERS": 1,
        "VIT_TOKEN_SIZE": 8,
    }
    keys |= {f"MODEL.{name}": value for name, value in small.items()}
    keys |= {"PROBLEM.SELF_SUPERVISED.PRETEXT_TASK": "masking", "MODEL.ARCHITECTURE": "mae"}
    run(tmp_path, keys, name="ssl_mae")
    made = {shape_of(name).replace("biapy", "ssl_mae") for name in files(tmp_path / "out/ssl_mae")}
    assert documented("ssl_mae") - made == set()
    checks = {f"im_{kind}.tif" for kind in ("original", "masked", "reconstruction", "reconstruction_and_visible")}
    assert {f"results/ssl_mae_1/MAE_checks/{name}" for name in checks} <= made


def test_degraded_images_are_not_written_beside_the_images(tmp_path: Path) -> None:
    keys = keys_of(tmp_path) | {"DATA.TEST.SSL_SOURCE_DIR": data(tmp_path, "test", "images")}
    with raises("output.inside_input", key="DATA.TEST.SSL_SOURCE_DIR"):
        run(tmp_path, keys)
    assert not (tmp_path / "out/inst/results").exists()


def test_own_files_alone_are_replaced(tmp_path: Path) -> None:
    keys = keys_of(tmp_path) | {"AUGMENTOR.AUG_SAMPLES": False, "TRAIN.EPOCHS": 1, "TEST.ENABLE": False}
    folder = tmp_path / "out/inst"
    weights = folder / "checkpoints/inst_1-checkpoint-best.pth"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"of BiaPy")
    warned = {event.code for event in run(tmp_path, keys) if isinstance(event, Warned)}
    assert "biapy.not_own" in warned
    assert weights.read_bytes() == b"of BiaPy"
    weights.unlink()
    # an own checkpoint and an own copy of the job are replaced, and nothing else in the run folder hinders --overwrite
    for _ in range(2):
        events = run(tmp_path, keys, overwrite=True)
        assert not any(isinstance(event, Warned) and event.code == "biapy.not_own" for event in events)
        assert any(isinstance(event, FileWritten) and event.path == weights for event in events)
    (folder / "config_files/biapy.yaml").write_text("mine")
    assert any(isinstance(event, Warned) and "biapy.yaml" in event.message for event in run(tmp_path, keys, overwrite=True))
    assert (folder / "config_files/biapy.yaml").read_text() == "mine"


def test_without_hard_links_files_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from morula.dialects.biapy.results.links import link

    def refuse(*names: str) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "a.tif").write_bytes(b"pixels")
    assert list(link(tmp_path / "a.tif", tmp_path / "new" / "b.tif")) == []
    assert (tmp_path / "new" / "b.tif").read_bytes() == b"pixels"


def test_a_resumed_run_has_the_whole_tree(tmp_path: Path) -> None:
    keys = keys_of(tmp_path) | {"AUGMENTOR.AUG_SAMPLES": False, "TRAIN.EPOCHS": 1}
    run(tmp_path, keys)
    folder = tmp_path / "out/inst"
    whole = {shape_of(name) for name in files(folder)}
    for name in ("results/inst_1/per_image_instances/nuclei_000.tif", "checkpoints/inst_1-checkpoint-best.pth"):
        (folder / name).unlink()
    run(tmp_path, keys, resume=True)
    assert whole <= {shape_of(name) for name in files(folder)}


def test_images_are_analysed_as_a_stack(tmp_path: Path) -> None:
    """Objects of equal planes continue through all planes."""
    keys = keys_of(tmp_path) | {"AUGMENTOR.AUG_SAMPLES": False, "TRAIN.EPOCHS": 1, "TEST.ANALIZE_2D_IMGS_AS_3D_STACK": True}
    keys |= {"TEST.POST_PROCESSING.MEASURE_PROPERTIES.ENABLE": True, "TEST.POST_PROCESSING.Z_FILTERING": True}
    # circularity is a property in 2D alone
    keys |= {f"{FILTER}.ENABLE": True, f"{FILTER}.PROPS": [["circularity"], ["npixels"]], f"{FILTER}.VALUES": [[0.01], [2]]}
    keys |= {f"{FILTER}.SIGNS": [["lt"], ["lt"]]}
    image = tmp_path / "data/test/images/nuclei_000.tif"
    shutil.copyfile(image, image.with_name("nuclei_001.tif"))
    shutil.copyfile(tmp_path / "data/test/labels/nuclei_000.tif", tmp_path / "data/test/labels/nuclei_001.tif")
    assert "biapy.stack_filter" in {event.code for event in run(tmp_path, keys) if isinstance(event, Warned)}
    folder = tmp_path / "out/inst/results/inst_1/as_3d_stack"
    labels = np.asarray(morula.read(folder / "inst_1_stack.tif"))
    assert labels.shape == (2, 32, 32)
    assert np.array_equal(labels[0], labels[1])
    table = read_table(folder / "inst_1_stack_full_stats.csv")
    assert {"axis-2", "volume", "sphericity", "perimeter (surface area)"} <= set(table)
    assert set(table["label"][table["npixels"] >= 2].tolist()) == set(np.unique(labels)) - {0}


def test_predictions_by_chunks_are_containers_in_the_stated_order(tmp_path: Path) -> None:
    from tests.dialects.biapy_table import base, make_images

    make_images(tmp_path)
    chunks = {"ENABLE": True, "INPUT_IMG_AXES_ORDER": "YZX", "INPUT_MASK_AXES_ORDER": "ZYX"}
    keys = base(tmp_path, 3) | {f"TEST.BY_CHUNKS.{name}": value for name, value in chunks.items()}
    volume = np.asarray(morula.read(tmp_path / "3d/test/images/nuclei_000.tif"))
    morula.write(tmp_path / "x/a.zarr", np.ascontiguousarray(volume.transpose(1, 0, 2)), axes="YZX")
    keys |= {
        "DATA.TEST.PATH": str(tmp_path / "x"),
        "DATA.TEST.LOAD_GT": False,
        "DATA.TEST.GT_PATH": "none",
        "TEST.BY_CHUNKS.INPUT_MASK_AXES_ORDER": "YZX",
    }
    run(tmp_path, keys | {"AUGMENTOR.AUG_SAMPLES": False})
    out = tmp_path / "out/inst/results/inst_1"
    channels, labels = morula.read(out / "per_image/a.zarr"), morula.read(out / "per_image_instances/a.zarr")
    stored = np.asarray(morula.read(out / "predictions/a.tif").canonical())
    assert channels.shape == (16, 8, 16, 2)
    assert np.array_equal(np.asarray(channels), stored.transpose(2, 1, 3, 0))
    assert labels.shape == (16, 8, 16)
    assert not (out / "per_image/a.tif").exists()


@pytest.mark.parametrize(("stated", "suffix", "tiff"), [({"FORMAT": "h5", "SAVE_OUT_TIF": True}, "h5", True), ({}, "zarr", False)])
def test_predictions_by_chunks_in_the_stated_container(tmp_path: Path, stated: Keys, suffix: str, tiff: bool) -> None:
    keys = keys_of(tmp_path) | {"PROBLEM.NDIM": "3D", "DATA.PATCH_SIZE": "(8, 16, 16, 1)", "DATA.TEST.INPUT_IMG_AXES_ORDER": "YZX"}
    keys |= {f"TEST.BY_CHUNKS.{name}": value for name, value in ({"ENABLE": True} | stated).items()}
    tree = ResultsTree(Experiment(tmp_path, "exp"), read_settings(written(tmp_path, keys), with_tree=True))
    values = np.random.default_rng(0).random((2, 3, 4, 5)).astype(np.float32)
    made = morula.write(tmp_path / "exp/results/exp_1/predictions/a.tif", values, axes="CZYX")
    list(tree.take(FileWritten(made, Artefact.CHANNELS, run="")))
    folder = tmp_path / "exp/results/exp_1/per_image"
    assert {path.name for path in folder.iterdir()} == {f"a.{suffix}", *(["a.tif"] if tiff else [])}
    found = morula.read(folder / f"a.{suffix}")
    # channels come last where the order has none
    assert np.array_equal(np.asarray(found), values.transpose(2, 1, 3, 0))
    if tiff:
        assert (folder / "a.tif").stat().st_ino == made.stat().st_ino
