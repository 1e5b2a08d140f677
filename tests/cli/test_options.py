"""Groups of options: written once, expanded into the commands."""

from __future__ import annotations

from pathlib import Path

import typer
from typer.testing import CliRunner

from morula.cli.options import ComputeOptions, LabelOptions, Run, RunOptions, with_groups
from morula.cli.segment import ModelOptions
from morula.testing.errors import raises
from morula.workflows.reading import Reading


def test_groups_become_options() -> None:
    got: list[tuple[Path, ComputeOptions, RunOptions]] = []

    @with_groups
    def command(run: Run, *, compute: ComputeOptions, options: RunOptions) -> None:
        """Work."""
        got.append((run, compute, options))

    app = typer.Typer()
    app.command()(command)
    for arguments in (["a"], ["b", "--device", "cpu", "--set", "x=1", "--set", "y=2", "--resume"]):
        assert CliRunner().invoke(app, arguments).exit_code == 0
    plain = (Path("a"), ComputeOptions(), RunOptions())
    assert got == [plain, (Path("b"), ComputeOptions("cpu"), RunOptions(set_=["x=1", "y=2"], resume=True))]
    assert CliRunner().invoke(app, ["a", "--quiet"]).exit_code == 2


def test_file_options_are_those_of_the_workflows() -> None:
    stated = LabelOptions(axes="ZYX", voxel_size="2,1,1", region="0:5,:,:", components=True)
    assert stated.reading() == Reading(axes="ZYX", voxel_size=[2.0, 1.0, 1.0], region="0:5,:,:", components=True)
    with raises("reading.missing"):
        LabelOptions(missing="guess").reading()


def test_channels_need_a_model() -> None:
    with raises("segment.channels", key="channels", value="F,C"):
        ModelOptions(channels="F,C").chosen()
