"""What would end a command after its work is said before: sizes beyond the images, space on the disk, damaged records."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import morula
from morula.core import outputs
from morula.core.errors import JobError
from morula.dialects.verbs import train
from morula.jobs.load import load_job
from morula.jobs.run_folder import RunFolder
from morula.testing.errors import raises
from morula.workflows.measure import measure_file
from morula.workflows.prepare import prepare
from morula.workflows.segment import segment


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("setting", "key"),
    [
        ("objects.refine=[fill_holes, {remove_small: 100000}]", "objects.refine.1.size"),
        ("objects.refine=[{clear_border: {margin: 100000}}]", "objects.refine.0.margin"),
        ("objects.decoder={kind: watershed, smoothing: 1e9}", "objects.decoder.smoothing"),
        ("objects.decoder={kind: watershed, growth_dilation: 5000}", "objects.decoder.growth_dilation"),
        ("objects.decoder={kind: watershed, min_seed: 10000000}", "objects.decoder.min_seed"),
        ("prediction.median=[{axes: yx, size: 100001}]", "prediction.median.size"),
    ],
)
def test_sizes_beyond_the_images(finished: Path, setting: str, key: str) -> None:
    with raises("objects.beyond_images", key=key):
        prepare(load_job(finished / "job.yaml", overrides=[setting]))
    prepare(load_job(finished / "job.yaml", overrides=["objects.refine=[{dilation: 3}, {remove_large: 1000000}]"]))


@pytest.mark.parametrize(
    ("setting", "code"),
    [
        ("prediction.memory=lots", "memory.size"),
        ("objects.tune={thresholds: [2.0]}", "option.range"),
        ("training.freeze=['*']", "training.all_frozen"),
        ("training.workers=5000", "workers.too_many"),
        ("sampling.patch=[100000, 100000]", "patch.beyond_images"),
        ("network.features=[8, 10000000]", "network.too_large"),
        ("prediction.backend=openvino", "openvino.missing"),
    ],
)
def test_what_would_fail_later_is_found_before_training(finished: Path, setting: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None)
    with pytest.raises(JobError) as caught:
        prepare(load_job(finished / "job.yaml", overrides=[setting]))
    assert code in [problem.code for problem in caught.value.problems]


@pytest.mark.parametrize(("name", "code"), [("", "measure.no_name"), (f"{'x' * 300}.csv", "file.not_accessible")])
def test_names_of_tables_that_no_disk_takes(finished: Path, tmp_path: Path, name: str, code: str) -> None:
    labels = next((finished / "data/test/labels").glob("*.tif"))
    with raises(code):
        list(measure_file(labels, tmp_path / name if name else name))
    assert not list(tmp_path.iterdir())


def commands(project: Path) -> dict[str, Callable[[], object]]:
    run, images = project / "run", project / "data/test/images"
    return {
        "train": lambda: list(train(project / "job.yaml", output=project / "new")),
        "predict": lambda: list(morula.predict(run)),
        "tune": lambda: list(morula.tune(run)),
        "evaluate": lambda: list(morula.evaluate(run)),
        "segment": lambda: list(segment(images, model=run, output=project / "out")),
    }


@pytest.mark.parametrize("name", ["train", "predict", "tune", "evaluate", "segment"])
def test_space_is_checked_before_the_work(project: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    job = RunFolder(project / "run").job_file
    job.write_text(job.read_text().replace("colour: []", "colour: [0.5]"))
    monkeypatch.setattr(outputs, "free_space", lambda path: 10)
    before = files(project)
    with raises("output.no_space"):
        commands(project)[name]()
    after = files(project)
    for written in ("run/logs/log.txt", "run/events.jsonl"):  # which say that there is no space
        before.pop(written), after.pop(written)
    assert {name: text for name, text in after.items() if "tuning" not in name} == before


@pytest.mark.parametrize("name", ["predict", "tune", "evaluate"])
def test_runs_on_a_read_only_disk(project: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    before = files(project)
    with raises("file.not_written", file=str(project / "run")):
        commands(project)[name]()
    assert files(project) == before


def test_a_damaged_search(project: Path) -> None:
    run = project / "run"
    stops = iter([False, True])
    list(morula.tune(run, stop=lambda: next(stops)))
    for name, content in (("search.json", "{"), ("trials.csv", "a,b\n1,2\n"), ("predictions/0.npy", "no array")):
        shutil.copytree(run, project / "copy")
        (project / "copy" / "tuning" / name).write_text(content)
        with raises("run_folder.damaged_file", file=str(project / "copy" / "tuning" / name)):
            list(morula.tune(project / "copy"))
        shutil.rmtree(project / "copy")
    list(morula.tune(run))


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"nuclei_000": 3})])
def test_damaged_settings_of_stored_images(finished: Path, tmp_path: Path, content: str) -> None:
    degraded = {"images": {"train": {"raw": str(finished / "data/train/images")}}}
    method = {"kind": "crappify", "folder": str(tmp_path / "degraded")}
    job = load_job({**degraded, "method": method, "sampling": {"patch": [32, 32], "batch": 2}})
    prepare(job)
    first = {path: np.asarray(morula.read(path)) for path in (tmp_path / "degraded").glob("*.tif")}
    assert first
    (tmp_path / "degraded" / "settings.json").write_text(content)
    if content.startswith('{"'):  # of another image and another setting: computed again
        prepare(job)
    else:
        with raises("run_folder.damaged_file"):
            prepare(job)
    assert all(np.array_equal(np.asarray(morula.read(path)), pixels) for path, pixels in first.items())


@pytest.mark.parametrize(("number", "code"), [(28, "file.not_accessible"), (30, "file.not_accessible"), (2, "file.vanished")])
def test_errors_of_the_system_are_errors_of_morula(project: Path, number: int, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, "it failed", str(project / "file"))

    monkeypatch.setattr("morula.workflows.unfinished_batch.append_lines", fail)
    for name in ("predict", "segment"):
        with raises(code, file=str(project / "file")):
            commands(project)[name]()


def test_check_compares_the_run_with_the_free_space(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from morula.workflows.check import check

    checked = check(finished / "job.yaml", prove=False)
    taken = sum(path.stat().st_size for path in (finished / "run").rglob("*") if path.is_file())
    assert 0 < checked.disk_bytes <= taken
    assert checked.disk_bytes < check(finished / "job.yaml", overrides=["training.restarts=3"], prove=False).disk_bytes
    usage = shutil.disk_usage(finished)._replace(free=checked.disk_bytes - 1)
    monkeypatch.setattr(outputs.shutil, "disk_usage", lambda _: usage)
    said = check(finished / "job.yaml", prove=False).prepared.warnings
    assert [remark.code for remark in said if getattr(remark, "code", "") == "output.little_space"]
