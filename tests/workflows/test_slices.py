"""2D models on volumes, from the command line to the files."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import morula
from morula.cli.app import app
from morula.measurement.csv_table import read_table
from morula.models.by_slice import by_slices
from morula.testing.errors import raises
from morula.testing.simulate import simulate
from morula.workflows.segment import sliced


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    made = simulate("nuclei", shape=(6, 32, 32), n_objects=6, rng=np.random.default_rng(0))
    return morula.write(tmp_path_factory.mktemp("volume") / "volume.tif", made.image, axes="ZYX", voxel_size=(2.0, 0.5, 0.5))


@pytest.mark.parametrize("slices", ["z", "zyx"])
def test_files_hold_what_the_function_returns(run2d, volume, tmp_path, slices):
    output = tmp_path / "labels.tif"
    model = by_slices(morula.load(run2d), slices, stitch_threshold=0.4)
    list(morula.segment(volume, model=model, output=output))
    expected = model.segment(morula.read(volume))
    got = morula.read(output)
    np.testing.assert_array_equal(np.asarray(got), np.asarray(expected))
    assert got.voxel_size == morula.VoxelSize(0.5, 0.5, z=2.0)
    assert list(read_table(output.with_suffix(".csv"))["label"]) == list(range(1, int(np.asarray(got).max()) + 1))


def test_the_command(run2d, volume, tmp_path):
    command = ["segment", str(volume), "--model", str(run2d), "--slices", "z", "--stitch-threshold", "0.5", "-o", str(tmp_path / "a.tif")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    expected = by_slices(morula.load(run2d), stitch_threshold=0.5).segment(morula.read(volume))
    np.testing.assert_array_equal(np.asarray(morula.read(tmp_path / "a.tif")), np.asarray(expected))
    facts = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert facts["slices"] == {"axes": "z", "stitch_threshold": 0.5}


def test_a_volume_without_the_option_names_it_in_the_remedy(run2d, volume, tmp_path):
    with raises("model.image_dimensions") as error:
        list(morula.segment(volume, model=run2d, output=tmp_path / "a.tif"))
    assert "by_slices" in error.error.remedy


def test_wrong_use(run2d, volume, data2d, tmp_path):
    with raises("slices.no_model", key="slices", value="z"):
        sliced(None, "z", stitch_threshold=0.25)
    with raises("slices.axes", key="slices", value="xyz"):
        sliced(run2d, "xyz", stitch_threshold=0.25)
    with raises("stitch.threshold", key="stitch_threshold", value=2.0):
        sliced(run2d, "z", stitch_threshold=2.0)
    with raises("model.image_dimensions"):
        list(morula.segment(data2d / "test/images", model=sliced(run2d, "z", stitch_threshold=0.25), output=tmp_path / "b"))
    assert not list(tmp_path.iterdir())
