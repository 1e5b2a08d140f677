"""A run repeated from its record: equal on the same machine, every difference listed, the run itself never changed."""

from __future__ import annotations

import html
import json
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from typer.testing import CliRunner

import morula
from morula.cli.app import app
from morula.core.events import Finished, Warned
from morula.jobs.provenance import checksum, checksums, command
from morula.measurement.csv_table import read_table
from morula.methods.channel_objects import ChannelPostprocessing
from morula.metrics.matching import match, pool
from morula.report.build import write_report
from morula.testing.errors import raises
from morula.workflows.differences import object_differences, weight_difference
from morula.workflows.segment import weights_checksum
from morula.workflows.training_parts import StopAfter

WEIGHTS = "model/weights.safetensors"


@pytest.fixture
def copied(run2d: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run2d, tmp_path / "run"))


def figures(run: Path, output: Path, *, fast: bool = True) -> dict[str, float]:
    *_, last = morula.replay(run, output=output, fast=fast)
    assert isinstance(last, Finished)
    return last.figures


def changed_record(run: Path, **entries: object) -> None:
    record = json.loads((run / "provenance.json").read_text())
    (run / "provenance.json").write_text(json.dumps(record | entries))


@pytest.mark.parametrize("fast", [False, True])
def test_a_run_is_repeated_byte_by_byte(run2d: Path, tmp_path: Path, fast: bool) -> None:
    before = checksum(run2d)
    found = figures(run2d, tmp_path / "again", fast=fast)
    assert found["different files"] == found["different objects"] == found["largest weight difference"] == 0
    assert found["files"] >= 9
    assert found["objects"] > 0
    assert set(read_table(tmp_path / "again/replay.csv")["state"]) == {"equal"}
    assert checksum(run2d) == before
    assert (tmp_path / "again/scores.csv").read_bytes() == (run2d / "scores.csv").read_bytes()


@pytest.mark.parametrize("fast", [False, True])
def test_a_replay_into_the_images_changes_nothing(run2d: Path, data2d: Path, fast: bool) -> None:
    before = sorted(data2d.rglob("*"))
    place = data2d / "train/images/again"
    with raises("output.inside_input"):
        list(morula.replay(run2d, output=place, fast=fast))
    with raises("output.inside_input"):
        list(morula.compare(run2d, [], output=place, runs=[run2d]))
    assert sorted(data2d.rglob("*")) == before


def test_a_tuned_run_is_tuned_again(copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = {"objects.refine.remove_small": (0, 20, 40)}
    monkeypatch.setattr(ChannelPostprocessing, "search_space", lambda *_: space)
    list(morula.tune(copied))
    list(morula.predict(copied))
    assert figures(copied, tmp_path / "again", fast=False)["different files"] == 0


@pytest.mark.parametrize("stopped", [False, True])
def test_an_extended_training_is_repeated_in_its_parts(run2d: Path, tmp_path: Path, stopped: bool) -> None:
    job, run, stop = run2d / "job.yaml", tmp_path / "run", StopAfter(3 if stopped else None)
    list(stop.read(morula.train(job, output=run, overrides=["training.epochs=2"], stop=stop.reached)))
    for settings in (["training.epochs=3", "training.schedule=constant"], ["training.epochs=4"]):
        list(morula.train(run / "job.yaml", output=run, resume=True, overrides=settings))
    record = json.loads((run / "provenance.json").read_text())
    assert [part["until"] for part in record["parts"]] == [3 if stopped else None, None]
    found = figures(run, tmp_path / "again", fast=False)
    assert found["different files"] == found["largest weight difference"] == 0
    changed_record(run, parts=[{"training": {"lr": 1}, "until": None}])
    with raises("run_folder.damaged_file", file=str(run / "provenance.json")):
        figures(run, tmp_path / "never", fast=False)
    assert not (tmp_path / "never").exists()


def test_every_object_that_differs_is_listed(copied: Path, tmp_path: Path) -> None:
    file = copied / "objects/nuclei_000.tif"
    labels = np.array(morula.read(file))
    labels[labels == labels.max()] = 0
    tifffile.imwrite(file, labels)
    found = figures(copied, tmp_path / "again")
    assert (found["different files"], found["different objects"]) == (1, 1)
    table = read_table(tmp_path / "again/replay.csv")
    assert table["image"][table["state"] == "new"].tolist() == ["nuclei_000"]


def test_states_of_objects() -> None:
    before, after = np.array([[1, 1, 1, 0, 2, 2, 0]]), np.array([[5, 5, 0, 0, 0, 0, 7]])
    assert [row["state"] for row in object_differences(before, after)] == ["changed", "lost", "new"]
    assert {row["state"] for row in object_differences(before, before)} == {"equal"}


def test_files_of_the_user_in_a_run_are_not_compared(copied: Path, tmp_path: Path) -> None:
    tifffile.imwrite(copied / "objects/mine.tif", np.ones((8, 8), np.uint16))
    assert figures(copied, tmp_path / "again")["different files"] == 0


@pytest.mark.parametrize("fast", [False, True])
def test_changed_inputs_and_weights_are_refused(copied: Path, tmp_path: Path, fast: bool) -> None:
    for entries, code in (
        ({"predict": {"inputs": {str(tmp_path / "gone.tif"): "0"}}}, "replay.inputs_missing"),
        ({"predict": {"inputs": {str(copied / "job.yaml"): "0"}}}, "replay.inputs_changed"),
        ({"weights": "0"}, "replay.weights_changed"),
        ({"inputs": []}, "run_folder.damaged_file"),
    ):
        kept = (copied / "provenance.json").read_text()
        changed_record(copied, **entries)
        with raises(code):
            list(morula.replay(copied, output=tmp_path / "again", fast=fast))
        (copied / "provenance.json").write_text(kept)
    assert not (tmp_path / "again").exists()


def test_runs_that_cannot_be_repeated(copied: Path, tmp_path: Path) -> None:
    with raises("output.inside_input"):
        list(morula.replay(copied, output=copied / "again"))
    changed_record(copied, threads={"torch": 10**9})  # their stacks would end the process
    with raises("run_folder.damaged_file"):
        list(morula.replay(copied, output=tmp_path / "again"))
    (copied / "provenance.json").write_text("{}")
    with raises("replay.no_record"):
        list(morula.replay(copied, output=tmp_path / "again"))
    shutil.rmtree(copied / "model")
    with raises("replay.not_finished"):
        list(morula.replay(copied, output=tmp_path / "again"))


def test_other_circumstances_are_named(copied: Path, tmp_path: Path) -> None:
    changed_record(copied, environment={"torch": "1.0"}, code={"version": "0.0", "commit": "abc"})
    events = list(morula.replay(copied, output=tmp_path / "again", fast=True))
    told = [event.message for event in events if isinstance(event, Warned) and event.code == "replay.other_circumstances"]
    assert len(told) == 2


def test_the_thread_count_is_that_of_the_run(copied: Path, tmp_path: Path) -> None:
    # sums over patches and voxels are divided among the threads, so their order and their rounding differ
    changed_record(copied, threads={"torch": 2})
    found = figures(copied, tmp_path / "again", fast=False)
    assert json.loads((tmp_path / "again/provenance.json").read_text())["threads"]["torch"] == 2
    assert torch.get_num_threads() == 1
    assert found["largest weight difference"] < 1e-2
    assert agreement(copied, tmp_path / "again") >= 0.9


def test_objects_of_equal_weights_across_thread_counts(copied: Path, tmp_path: Path) -> None:
    # the prediction itself differs in last digits only, which moves no more than voxels at the very threshold
    changed_record(copied, threads={"torch": 2})
    figures(copied, tmp_path / "again")
    assert agreement(copied, tmp_path / "again", threshold=0.95) == 1
    labels = [[morula.read(file).canonical() for file in sorted((run / "objects").glob("*.tif"))] for run in (copied, tmp_path / "again")]
    assert all(np.mean((one > 0) != (two > 0)) < 1e-4 for one, two in zip(*labels, strict=True))


def agreement(one: Path, two: Path, threshold: float = 0.75) -> float:
    """F1 of the objects of two runs, as if one were the truth of the other."""
    pairs = [(morula.read(file), morula.read(two / "objects" / file.name)) for file in sorted((one / "objects").glob("*.tif"))]
    assert any(np.asarray(labels.canonical()).any() for labels, _ in pairs)
    return pool([match(*pair, thresholds=(threshold,)) for pair in pairs])[0].f1


def test_command_line(copied: Path, tmp_path: Path) -> None:
    call = ["replay", str(copied), "--fast", "-o", str(tmp_path / "again")]
    assert CliRunner().invoke(app, call).exit_code == 0
    (copied / "objects/nuclei_001.csv").write_text("label,voxels\n")
    assert CliRunner().invoke(app, [*call, "--overwrite"]).exit_code == 1


def test_record_of_a_run(run2d: Path, data2d: Path) -> None:
    record = json.loads((run2d / "provenance.json").read_text())
    assert record["weights"] == checksum(run2d / WEIGHTS) == weights_checksum(run2d)
    assert record["job"] == checksum(run2d / "job.yaml")
    for part in (record, record["predict"]):
        assert part["device"] == "cpu"
        assert part["threads"]["torch"] >= 1
        assert part["command"] == command()
        assert len(part["code"]["sha256"]) == 64
        assert part["environment"]["torch"] == torch.__version__
        assert part["inputs"] == checksums(part["inputs"])
    tested = {str(file) for kind in ("images", "labels") for file in (data2d / "test" / kind).iterdir()}
    assert set(record["predict"]["inputs"]) == tested


@pytest.fixture
def image(data2d: Path) -> Path:
    return data2d / "test/images/nuclei_000.tif"


def test_record_beside_labels(run2d: Path, image: Path, tmp_path: Path) -> None:
    list(morula.segment(image, model=run2d, output=tmp_path / "cells.tif"))
    record = json.loads((tmp_path / "cells.provenance.json").read_text())
    assert record["inputs"] == {str(image): checksum(image)}
    assert record["weights"] == checksum(run2d / WEIGHTS)
    assert record["reading"]["axes"] is None
    list(morula.segment(image, model=morula.load(run2d), output=tmp_path / "cells.tif", overwrite=True))
    assert json.loads((tmp_path / "cells.provenance.json").read_text())["model"] == str(run2d)
    (tmp_path / "cells.provenance.json").write_text("{}")
    with raises("output.not_own"):
        list(morula.segment(image, model=run2d, output=tmp_path / "cells.tif", overwrite=True))


def test_difference_of_weights(run2d: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    tensors = load_file(run2d / WEIGHTS)
    name = next(name for name in tensors if name.endswith("weight"))
    save_file(tensors | {name: tensors[name] + np.float32(0.5)}, tmp_path / "other")
    assert weight_difference(run2d / WEIGHTS, tmp_path / "other") == pytest.approx(0.5)
    save_file({"a": tensors[name]}, tmp_path / "other")
    assert weight_difference(run2d / WEIGHTS, tmp_path / "other") == np.inf


def test_nothing_uses_the_network(run2d: Path, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was used")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    list(morula.train(run2d / "job.yaml", output=tmp_path / "run", overrides=["training.epochs=1"]))
    list(morula.segment(image, model=tmp_path / "run", output=tmp_path / "cells.tif"))
    assert (tmp_path / "cells.tif").is_file()


SCRIPT = """
import multiprocessing, sys, torch
torch.set_num_threads(1)
multiprocessing.set_start_method("spawn")
import morula
for event in morula.iter_run(sys.argv[1], output=sys.argv[2], overrides=["training.epochs=1", "training.workers=2"]):
    pass
print("ran once")
"""


def forked(job: Path, run: Path) -> None:
    list(morula.iter_run(job, output=run, overrides=["training.epochs=1", "training.workers=2"]))


def spawned(job: Path, run: Path) -> None:
    """A plain script without a guard for its main module."""
    script = run.parent / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, str(script), str(job), str(run)], capture_output=True, text=True, check=False, timeout=200)
    assert done.stdout.count("ran once") == 1, done.stderr


def test_workers_change_no_byte(run2d: Path, tmp_path: Path) -> None:
    """Weights, learning curves, labels, tables and report."""
    alone = tmp_path / "run"
    list(morula.iter_run(run2d / "job.yaml", output=alone, overrides=["training.epochs=1", "training.workers=0"]))
    names = [file.relative_to(alone).as_posix() for file in (alone / "objects").rglob("*") if file.is_file()]
    assert len(names) >= 4
    for start in (forked, spawned):
        run = tmp_path / start.__name__ / "run"
        run.parent.mkdir()
        start(run2d / "job.yaml", run)
        for name in (WEIGHTS, "scores.csv", *names):
            assert (run / name).read_bytes() == (alone / name).read_bytes(), name
        one, two = (read_table(folder / "logs/training.csv") for folder in (alone, run))
        assert all((one[name] == two[name]).all() for name in one if name != "seconds")
        texts = [timeless_report(folder) for folder in (alone, run)]
        assert [line for line in texts[0] if line not in texts[1] and "workers" not in line] == []


def test_reports_differ_in_times_only(run2d: Path, tmp_path: Path) -> None:
    """What differs are durations, the name of the folder, and the record of when and how the run was computed."""
    list(morula.replay(run2d, output=tmp_path / run2d.name))
    texts = [timeless_report(folder) for folder in (run2d, tmp_path / run2d.name)]
    assert [line for line in texts[0] if line not in texts[1]] == []


def timeless_report(folder: Path) -> list[str]:
    """The lines of a report without durations, the name of the folder, and when and by which job it was computed."""
    text = write_report(folder).read_text()
    record = json.loads((folder / "provenance.json").read_text())
    for value in (str(folder), record["written"], record["job"]):
        text = text.replace(value, "").replace(value[:12], "")
    lines = re.sub(r"\d+(\.\d+)? (s|min)\b", "", text).splitlines()
    given = {*record["command"], *record["predict"]["command"]}
    lines = [line for line in lines if "base64" not in line and "<dt>command</dt>" not in line and "memory" not in line]
    return [line for line in lines if html.unescape(line).strip(' ",') not in given]
