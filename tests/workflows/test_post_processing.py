"""Objects after the decoder: refined, filtered and measured as the job says, in a run and from the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import morula
from morula.cli.app import app
from morula.measurement.csv_table import read_table
from morula.testing.errors import raises

OBJECTS = """
objects:
  refine: [fill_holes, {remove_small_objects: 5}, {repair_large: 2000}, {voronoi: object}]
  filter: [[npixels < 40], [circularity <= 0.5, area > 100]]
  measure: {extra: [solidity]}
  intermediates: true
  colour: [0.5]
prediction: {median: [{axes: xy, size: 3}]}
"""


def test_a_run_keeps_objects_before_and_after(data2d: Path, tmp_path: Path, job_text: Callable[..., str]) -> None:
    job = data2d.parent / "filtered.yaml"
    job.write_text(job_text() + OBJECTS)
    list(morula.iter_run(job, output=tmp_path / "run"))
    folder = tmp_path / "run/objects"
    everything, kept = (read_table(folder / name) for name in ("nuclei_000_all.csv", "nuclei_000.csv"))
    removed = (everything["voxels"] < 40) | ((everything["circularity"] <= 0.5) & (everything["voxels"] > 100))
    assert (everything["comment"] == np.where(removed, "Removed", "Correct")).all()
    assert kept["label"].tolist() == everything["label"][~removed].tolist()
    labels = np.asarray(morula.read(folder / "nuclei_000.tif"))
    assert sorted(set(np.unique(labels)) - {0}) == kept["label"].tolist()
    before = np.asarray(morula.read(folder / "before/nuclei_000.tif"))
    assert before.shape == labels.shape
    assert (before > 0).sum() >= (labels > 0).sum()
    assert {path.name for path in (folder / "intermediates").iterdir()} == {
        f"nuclei_00{i}_{name}.tif" for i in (0, 1) for name in ("seeds", "surface", "growth")
    }
    check_scores(tmp_path / "run", data2d)
    model = morula.load(tmp_path / "run")
    again = model.segment(morula.read(data2d / "test/images/nuclei_000.tif"))
    np.testing.assert_array_equal(np.asarray(again), labels)


def check_scores(run: Path, data2d: Path) -> None:
    """Scores before and after post-processing are those of the written labels; associations lie beside them."""
    scores = read_table(run / "scores.csv")
    pooled = scores["image"] == "pooled"
    truths = [np.asarray(morula.read(data2d / "test/labels" / f"nuclei_00{i}.tif")) for i in (0, 1)]
    for folder, column in (("objects", "tp"), ("objects/before", "tp_before")):
        found = [np.asarray(morula.read(run / folder / f"nuclei_00{i}.tif")) for i in (0, 1)]
        tp = sum(morula.match(*pair, thresholds=(0.5,))[0].tp for pair in zip(truths, found, strict=True))
        assert scores[column][pooled & (scores["threshold"] == 0.5)].tolist() == [tp]
    assert {"average_precision", "adapted_rand_error_before", "variation_merge"} <= set(scores)
    tables = {path.name for path in (run / "associations").iterdir()}
    assert {f"nuclei_000{when}_th_{t}_{kind}.csv" for when in ("", "_before") for t in (0.5, 0.9) for kind in ("gt_assoc", "fp")} <= tables
    assert morula.read(run / "associations/nuclei_000_th_0.5.tif").n_channels == 3
    assert "nuclei_000_th_0.9.tif" not in tables
    page = (run / "report.html").read_text()
    assert "Before and after post-processing" in page
    assert "variation of information" in page


def test_conditions_are_checked_before_anything_runs(data2d: Path, job_text: Callable[..., str]) -> None:
    job = data2d.parent / "wrong.yaml"
    for text, key, code in (
        ("objects: {filter: [[sphericity < 0.5]]}", "objects.filter", "condition.unknown_property"),
        ("objects: {filter: [[area about 5]]}", "objects.filter", "condition.syntax"),
        ("objects: {filter: [[area_nm2 > 5]]}", "objects.filter", "condition.unknown_property"),
        ("objects: {refine: [{voronoi: {channel: B}}]}", "objects.refine", "refinement.no_mask_channel"),
        ("prediction: {median: [{axes: yz}]}", "prediction.median", "median.needs_3d"),
        ("prediction: {median: [{axes: xy, size: 4}]}", "prediction.median", "median.size"),
    ):
        job.write_text(job_text() + text + "\n")
        with raises(code) as caught:
            list(morula.train(job, output=data2d.parent / "never"))
        assert caught.problem is not None
        assert caught.problem.key.startswith(key)
        assert not (data2d.parent / "never").exists()


def test_measure_from_the_command_line(tmp_path: Path) -> None:
    labels = np.zeros((20, 30), np.uint16)
    labels[2:10, 2:10], labels[12:14, 4:25] = 4, 9
    morula.write(tmp_path / "labels.tif", labels, axes="YX", labels=True)
    call = ["measure", str(tmp_path / "labels.tif"), "-o", str(tmp_path / "t.csv"), "--extra", "solidity", "--voxel-size", "0.5,0.5"]
    call += ["--remove", "npixels > 10 and circularity < 0.6", "--kept", str(tmp_path / "kept.tif")]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 0, result.output
    assert read_table(tmp_path / "t.csv")["label"].tolist() == [4]
    assert read_table(tmp_path / "t_all.csv")["comment"].tolist() == ["Correct", "Removed"]
    assert "perimeter_um" in read_table(tmp_path / "t.csv")
    kept = morula.read(tmp_path / "kept.tif")
    assert np.unique(np.asarray(kept)).tolist() == [0, 4]
    assert kept.voxel_size.spacing(2) == pytest.approx((0.5, 0.5))
    assert CliRunner().invoke(app, call).exit_code != 0
    assert CliRunner().invoke(app, [*call, "--overwrite"]).exit_code == 0
    wrong = CliRunner().invoke(app, [*call[:4], "--remove", "roundness < 1", "--overwrite"])
    assert wrong.exit_code != 0
    assert "roundness" in wrong.output
