"""Job files, model descriptions and run folders of somebody else end in one error of Morula with a code, never in a traceback."""

import json
import resource
import time

import pytest
import torch
import yaml

from morula.core.errors import JobError, MorulaError
from morula.core.text import as_cell, printable
from morula.dialects import program_of
from morula.jobs.load import load_job
from morula.jobs.run_folder import RunFolder
from morula.jobs.yaml_lines import MAX_BYTES, parse_documents, read_documents
from morula.measurement.csv_table import write_table
from morula.nn.build import build_network
from morula.nn.weights import load_weights, save_weights
from morula.report.build import write_report
from morula.testing.errors import raises
from morula.testing.mutations import BOMB, HOSTILE_YAML, damaged_texts, mutated
from morula.training.tracking import CurveTable

JOB = {
    "images": {"train": {"raw": "a", "labels": "b"}, "validate": "10%", "voxel_size": {"y": 1.0, "x": 1.0, "unit": "um"}},
    "method": {"kind": "channels", "channels": ["F", "C", "Db"]},
    "network": {"kind": "unet", "features": [8, 16]},
    "sampling": {"patch": [64, 64], "normalise": {"kind": "percentile"}},
    "augment": [{"rotate": {"degrees": 45.0}}, "flip"],
    "training": {"epochs": 3, "seed": 0, "optimiser": {"kind": "adamw"}},
    "prediction": {"memory": "8GB", "tile": [64, 64]},
    "objects": {"refine": [{"dilation": 1}], "tune": {"thresholds": [0.5]}, "filter": ["npixels < 100"]},
}


def refused(call):
    """Whether a call ends in an error of Morula, which then has a code; any other error fails the test."""
    error = None
    try:
        call()
    except MorulaError as raised:
        error = raised
    problems = error.problems if isinstance(error, JobError) else [error] if error else []
    assert not [problem for problem in problems if problem.code == "unclassified"]
    return bool(problems)


@pytest.mark.parametrize("text", HOSTILE_YAML, ids=range(len(HOSTILE_YAML)))
def test_hostile_yaml(tmp_path, text):
    file = tmp_path / "job.yaml"
    file.write_text(text, encoding="utf-8", errors="surrogatepass")
    assert refused(lambda: load_job(file))
    refused(lambda: program_of(file))
    refused(lambda: load_job(JOB, overrides=[f"training.seed={text}"]))


def test_mutated_jobs(tmp_path):
    file = tmp_path / "job.yaml"
    found = []
    for document in mutated(JOB, seed=1, count=150):
        file.write_text(yaml.safe_dump(document), encoding="utf-8", errors="surrogatepass")
        found.append(refused(lambda: load_job(file)))
    assert sum(found) > 75


def test_aliases_are_bounded():
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with raises("job.too_many_values"):
        parse_documents(BOMB)
    assert time.monotonic() - began < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


def test_long_files(tmp_path):
    file = tmp_path / "job.yaml"
    file.write_text("a" * (MAX_BYTES + 1))
    with raises("job.too_large"):
        read_documents(file)


def test_scalars_of_yaml_1_2():
    text = "[010, 1:30, yes, off, 2020-01-01, 1e-3, 0o17, 0x1F, true, ~, 1_000]"
    expected = [10, "1:30", "yes", "off", "2020-01-01", 1e-3, 15, 31, True, None, "1_000"]
    assert parse_documents(text)[0].data == expected


def test_mutated_model_descriptions(tmp_path):
    network = build_network({"kind": "unet", "features": [4, 8]}, 2, 1, {"F": 1})
    save_weights(tmp_path, network, {"channels": ["F"]}, torch.rand(1, 1, 8, 8))
    file = tmp_path / "model.json"
    stored = json.loads(file.read_text())
    contents = [json.dumps(document).encode() for document in mutated(stored, seed=2, count=80)]
    found = []
    for content in [*contents, *damaged_texts(json.dumps(stored), seed=3, count=20)]:
        file.write_bytes(content)
        found.append(refused(lambda: load_weights(tmp_path)))
    assert sum(found) > 50


def test_networks_are_sized_before_they_are_built():
    for options in ({"features": [20000, 400000]}, {"features": [8] * 50_000}, {"convolutions": 10**9}):
        with pytest.raises(MorulaError) as caught:
            build_network({"kind": "unet", **options}, 2, 1, {"F": 1})
        assert caught.value.code in ("network.too_large", "network.not_buildable")


def test_swapped_channels_are_noticed(tmp_path):
    network = build_network({"kind": "unet", "features": [4, 8]}, 2, 1, {"channels": 2})
    save_weights(tmp_path, network, {"channels": ["F", "C"]}, torch.rand(1, 1, 8, 8))
    file = tmp_path / "model.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"channels": ["C", "F"]}))
    with raises("model.channels_differ", key="channels"):
        load_weights(tmp_path)


PARTS = {
    "job.yaml": "images: {train: {raw: a}}\nmethod: {kind: channels}\n",
    "scores.csv": "image,threshold,tp,fp,fn,f1\na,0.5,1,0,0,1.0\npooled,0.5,1,0,0,1.0\n",
    "logs/training.csv": "epoch,step,seconds,best,loss\n1,40,2.0,0,0.5\n",
    "provenance.json": '{"environment": {"python": "3.11"}, "written": "2026-01-01T00:00:00"}',
    "report/images.json": '[{"name": "a", "raw": null, "truth": null, "prediction": null}]',
}


@pytest.mark.parametrize("part", PARTS)
def test_damaged_run_folders(tmp_path, part):
    for name, text in PARTS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    folder = RunFolder(tmp_path)
    for content in [b"[1, 2]", b"{", b"a,b\n1,2\n", b"image\npooled\n", *damaged_texts(PARTS[part], seed=4, count=8)]:
        (tmp_path / part).write_bytes(content)
        (tmp_path / "report.html").unlink(missing_ok=True)
        # a report leaves damaged parts out; only without a job there is nothing to report on
        assert refused(lambda: write_report(tmp_path)) == (not (tmp_path / "report.html").is_file())
        refused(folder.read_images)
        refused(lambda: CurveTable(tmp_path / "logs" / "training.csv"))


@pytest.mark.parametrize("name", ["../x", "/etc/x", "", "a/../../x"])
def test_names_that_leave_the_run_folder(tmp_path, name):
    folder = RunFolder(tmp_path)
    folder.write_images([{"name": name, "raw": "a", "truth": None}])
    with raises("run_folder.damaged_file"):
        folder.read_images()


def test_formulas_and_escapes(tmp_path):
    assert write_table(tmp_path / "t.csv", {"name": ["=1+1", "\x1b[2J", "-0.5"]}).read_text() == "name\n'=1+1\n\\x1b[2J\n-0.5\n"
    assert as_cell("@sum") == "'@sum"
    assert printable("a\x1b]0;b\x07") == "a\\x1b]0;b\\x07"


def test_names_are_escaped_in_the_report(tmp_path):
    for name, text in PARTS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text.replace('"a"', '"<script>x</script>"').replace("\na,", "\n<script>x</script>,"))
    assert "<script>x" not in write_report(tmp_path).read_text()
