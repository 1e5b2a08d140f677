"""The commands as a user types them."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import morula
from morula.cli.app import app
from morula.testing.errors import raises
from morula.testing.simulate import simulate_data_set

JOB = """\
images:
  train: {raw: data/train/images, labels: data/train/labels}
  validate: 25%
  test: {raw: data/test/images, labels: data/test/labels}
method: {kind: channels, channels: [F, C]}
network: {kind: unet, features: [4, 8]}
sampling: {patch: [32, 32], batch: 2, patches_per_epoch: 4}
augment: none
training: {epochs: 1}
"""


def typed(*words: object, text: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], input=text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    simulate_data_set(folder / "data", n_train=4, n_test=1, shape=(64, 64), n_objects=8, seed=3)
    (folder / "job.yaml").write_text(JOB)
    result = typed("run", folder / "job.yaml", "-o", folder / "run")
    assert result.exit_code == 0, result.output
    return folder


def test_help_lists_every_command() -> None:
    result = typed("--help")
    assert result.exit_code == 0
    for command in (
        "demo",
        "new",
        "check",
        "run",
        "train",
        "predict",
        "segment",
        "evaluate",
        "tune",
        "measure",
        "report",
        "info",
        "models",
        "doctor",
    ):
        assert command in result.output


@pytest.mark.parametrize(
    "command",
    ["demo", "new", "check", "run", "train", "predict", "segment", "evaluate", "tune", "measure", "report", "info", "models", "doctor"],
)
def test_every_command_has_help(command: str) -> None:
    assert typed(command, "--help").exit_code == 0


def test_wrong_call_exits_with_2() -> None:
    assert typed("segment").exit_code == 2
    assert typed("rnu").exit_code == 2


def test_wrong_job_exits_with_1_and_all_problems(folder: Path) -> None:
    job = folder / "wrong.yaml"
    job.write_text(JOB.replace("epochs: 1", "epochs: x").replace("unet", "unett"))
    for command in ("check", "run", "train"):
        result = typed(command, job)
        assert result.exit_code == 1
        assert "wrong.yaml:6  network  " in result.output
        assert "wrong.yaml:9  training.epochs" in result.output
        assert "2 problems; nothing was started." in result.output
    assert not (Path("runs") / "wrong").exists()


def test_missing_files_are_problems_of_the_job(folder: Path) -> None:
    job = folder / "missing.yaml"
    job.write_text(JOB.replace("data/train/images", "data/nowhere").replace("data/test/images", "data/neither"))
    result = typed("check", job)
    assert result.exit_code == 1
    assert "nowhere" in result.output
    assert "neither" in result.output


def test_check_prints_plan_and_cost(folder: Path) -> None:
    result = typed("check", folder / "job.yaml")
    assert result.exit_code == 0, result.output
    assert "training.optimiser.lr" in result.output
    assert "one real step" in result.output
    assert "no problems found" in result.output
    assert "on the disk" in result.output
    assert "GB" not in typed("check", folder / "job.yaml", "--no-prove").output


def test_set_overrides_the_file(folder: Path) -> None:
    result = typed("check", folder / "job.yaml", "--no-prove", "--set", "sampling.patch=[48, 48]", "--set", "training.epochs=7")
    assert "patches of 48 x 48" in result.output
    assert typed("check", folder / "job.yaml", "--set", "training.epoch=7").exit_code == 1


def test_plain_lines_and_quiet(folder: Path, tmp_path: Path) -> None:
    result = typed("train", folder / "job.yaml", "-o", tmp_path / "loud")
    assert "epoch 1/1" in result.output
    assert "\x1b" not in result.output
    quiet = typed("train", folder / "job.yaml", "-o", tmp_path / "still", "--quiet").output.splitlines()
    assert len(quiet) == 1
    assert quiet[0].startswith("train: epochs 1")


def test_run_is_not_overwritten(folder: Path) -> None:
    result = typed("run", folder / "job.yaml", "-o", folder / "run")
    assert result.exit_code == 1
    assert "is not empty" in result.output
    assert "--resume" in result.output
    assert typed("run", folder / "job.yaml", "-o", folder / "run", "--resume").exit_code == 0


@pytest.mark.parametrize("call", [["run", "JOB"], ["train", "JOB"], ["run", "--config", "JOB"]])
def test_a_run_is_either_continued_or_replaced(folder: Path, call: list[str]) -> None:
    before = sorted(folder.rglob("*"))
    words = [str(folder / "job.yaml") if word == "JOB" else word for word in call]
    result = typed(*words, *([] if "--config" in call else ["-o", folder / "run"]), "--resume", "--overwrite")
    assert result.exit_code == 2
    assert len(result.output.splitlines()) == 1
    assert "resume" in result.output
    assert sorted(folder.rglob("*")) == before
    with raises("run.resume_and_overwrite", key="resume"):
        list(morula.train(folder / "job.yaml", output=folder / "run", resume=True, overwrite=True))


def test_other_folders_are_never_removed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    result = typed("train", folder / "job.yaml", "-o", tmp_path, "--overwrite")
    assert result.exit_code == 1
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_segment_measure_report_and_info(folder: Path, tmp_path: Path) -> None:
    image = folder / "data/test/images/nuclei_000.tif"
    assert typed("segment", image, "-m", folder / "run", "-o", tmp_path / "cells.tif").exit_code == 0
    again = typed("segment", image, "-m", folder / "run", "-o", tmp_path / "cells.tif")
    assert again.exit_code == 1
    assert "already exists" in again.output
    assert typed("measure", tmp_path / "cells.tif", "-o", tmp_path / "table.csv", "-i", image).exit_code == 0
    assert "intensity_mean" in (tmp_path / "table.csv").read_text().splitlines()[0]
    wrong_size = typed("measure", tmp_path / "cells.tif", "-o", tmp_path / "other.csv", "--voxel-size", "1,b")
    assert wrong_size.exit_code == 2
    assert "voxel_size = '1,b': must be numbers" in wrong_size.output
    assert typed("report", folder / "run").output.strip().endswith("report.html")
    assert "unet, 2D" in typed("info", folder / "run").output
    assert "axes YX" in typed("info", image).output
    assert "4 images in 2D, uint16, 64 x 64 voxels" in typed("info", folder / "data/train/images").output
    assert "job of Morula" in typed("info", folder / "job.yaml").output
    assert "channels    F, C" in typed("info", folder / "run/model").output
    for wrong in (folder, folder / "run/scores.csv", folder / "nothing.tif"):
        assert typed("info", wrong).exit_code == 1


def test_predict_and_evaluate(folder: Path) -> None:
    assert typed("predict", folder / "run").exit_code == 0
    result = typed("evaluate", folder / "run")
    assert "F1@0.5" in result.output


def test_comparison_of_representations(folder: Path, tmp_path: Path) -> None:
    result = typed("evaluate", folder / "job.yaml", "--representations", "F+C,F+Db", "--run", folder / "run", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in result.output.splitlines() if " watershed " in line] == ["F+C", "F+Db", "F+C"]
    assert (tmp_path / "out/comparison.csv").is_file()
    assert (tmp_path / "out/comparison.png").is_file()
    refused = typed("evaluate", folder / "job.yaml", "--representations", "P")
    assert refused.exit_code == 2
    labels = folder / "data/train/labels"
    read = typed("evaluate", labels, "--representations", "F+C", "--axes", "YX", "-o", tmp_path / "labels")
    assert read.exit_code == 0, read.output
    assert typed("evaluate", folder / "run", "--axes", "YX").exit_code == 2


def test_tune(folder: Path) -> None:
    result = typed("tune", folder / "run", "--metric", "panoptic_quality", "--threshold", "0.5")
    assert result.exit_code == 0, result.output
    assert "panoptic_quality at 0.5 before: " in result.output
    assert "tuned:" in (folder / "run/job.yaml").read_text()
    assert typed("tune", folder / "data").exit_code == 1


def test_doctor() -> None:
    result = typed("doctor")
    assert result.exit_code == 0
    assert "memory" in result.output


def test_new_writes_a_valid_job(folder: Path) -> None:
    job = folder / "new.yaml"
    data = folder / "data"
    result = typed("new", job, "--raw", data / "train/images", "--labels", data / "train/labels", "--yes", "--trial", 0)
    assert result.exit_code == 0, result.output
    assert "measured" in result.output
    text = job.read_text()
    assert text.startswith("#")
    assert "data/train/images" in text
    assert typed("check", job, "--no-prove").exit_code == 0
    assert typed("new", job, "--raw", "x", "--labels", "y", "--yes").exit_code == 1


def test_new_plans_pretraining(folder: Path, tmp_path: Path) -> None:
    data = folder / "data"
    few, many = tmp_path / "few", tmp_path / "many"
    names = [path.name for path in sorted((data / "train/images").iterdir())]
    for part in ("images", "labels"):
        (few / part).mkdir(parents=True)
        for name in names[:2]:
            (few / part / name).symlink_to(data / "train" / part / name)
    many.mkdir()
    for number in range(8):
        (many / f"{number}.tif").symlink_to(data / "train/images" / names[number % 4])
    job = tmp_path / "two.yaml"
    given = ("--raw", few / "images", "--labels", few / "labels", "--yes", "--trial", 0)
    result = typed("new", job, *given, "--unlabelled", many)
    assert result.exit_code == 0, result.output
    assert "pretraining on 8 images without labels comes first" in result.output
    text = job.read_text()
    assert "# Stage 1: " in text
    assert "network: {from: stage 1}" in text
    small = ("--set", "training={epochs: 1, steps_per_epoch: 2}", "--set", "sampling={patch: [32, 32], batch: 2}")
    assert typed("check", job, "--no-prove", *small).exit_code == 0
    result = typed("run", job, "-o", tmp_path / "run", *small)
    assert result.exit_code == 0, result.output
    assert "100.0% of the encoder" in result.output
    assert (tmp_path / "run" / "2_channels" / "report.html").is_file()
    (many / "7.tif").unlink()
    result = typed("new", job, *given, "--unlabelled", many, "--overwrite")
    assert result.exit_code == 0, result.output
    assert "no pretraining is planned: 7 images" in result.output
    assert "stage 1" not in job.read_text()


def test_interrupt_names_the_next_command(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object, **kwargs: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr("morula.workflows.run.train_into", interrupted)
    job, run = folder / "job.yaml", tmp_path / "run"
    result = typed("run", job, "-o", run)
    assert result.exit_code == 1
    assert result.output.strip().endswith(f"Continue with: morula run {job} -o {run}")  # nothing is there to be resumed yet
    run.mkdir()
    (run / "job.yaml").write_text(JOB)
    assert f"morula run {job} -o {run} --resume" in typed("run", job, "-o", run).output


def test_labels_of_other_size(folder: Path, tmp_path: Path) -> None:
    for what in ("images", "labels"):
        (tmp_path / what).mkdir()
    morula.write(tmp_path / "images/a.tif", np.zeros((32, 32), np.uint8))
    morula.write(tmp_path / "labels/a.tif", np.zeros((32, 16), np.uint8), labels=True)
    job = tmp_path / "job.yaml"
    job.write_text(JOB.replace("data/train", str(tmp_path)).replace("data/test", str(folder / "data/test")))
    result = typed("check", job)
    assert result.exit_code == 1
    assert "32" in result.output
    assert "16" in result.output


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        ("refine: [fill_holes, {dilation: [1, 1, 1]}]", "late.yaml:10 objects.refine.1 "),
        ("measure: {extra: [slice]}", "'slice': is not a number per object"),
        ("measure: {extra: [intensity_mean]}", "'intensity_mean': is in the table already. Leave it out."),
    ],
)
def test_late_failures_are_found_by_check(folder: Path, objects: str, expected: str) -> None:
    job = folder / "late.yaml"
    job.write_text(JOB + f"objects: {{{objects}}}\n")
    result = typed("check", job, "--no-prove")
    assert result.exit_code == 1
    assert expected in " ".join(result.output.split())


def test_impossible_combinations(folder: Path) -> None:
    job = folder / "impossible.yaml"
    job.write_text(JOB.replace("[F, C]", "[P]").replace("data/train/images", "data/nowhere"))
    result = typed("check", job)
    assert result.exit_code == 1
    assert "impossible.yaml:5  method.channels  " in result.output
    assert "do not say how far objects reach" in result.output or "no decoder" in result.output
    assert "impossible.yaml:2  images.train  " in result.output


def test_classes_have_no_objects_to_refine(folder: Path) -> None:
    job = folder / "classes.yaml"
    job.write_text(JOB.replace("{kind: channels, channels: [F, C]}", "semantic") + "objects: {refine: [fill_holes]}\n")
    result = typed("check", job)
    assert "classes.yaml:10  objects.refine  has no effect on classes" in result.output


def test_a_patch_that_cannot_be_pooled(folder: Path) -> None:
    job = folder / "patch.yaml"
    job.write_text(JOB.replace("patch: [32, 32]", "patch: [31, 32]"))
    result = typed("check", job)
    assert "patch.yaml:7  sampling.patch  [31, 32] is not a multiple of [2, 2]" in result.output


def test_demo_restores_the_number_of_threads():
    import torch

    from morula.cli.demo import one_thread

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread():
            inside = torch.get_num_threads()
        assert (inside, torch.get_num_threads()) == (1, 2)
    finally:
        torch.set_num_threads(before)


def test_the_package_runs_as_a_module(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["morula", "--version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("morula", run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"morula {morula.__version__}\n"
