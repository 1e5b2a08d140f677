"""What a job leaves out, planned from what its images are."""

from __future__ import annotations

from pathlib import Path

import pytest

from morula.jobs.load import load_job
from morula.jobs.plan import Facts, plan
from morula.methods.planning import Sizes
from morula.testing.errors import raises

JOB = """\
images: {train: {raw: images, labels: labels}}
method: {kind: channels}
"""


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize(("channels", "coloured"), [(1, False), (3, True)])
def test_images_of_several_channels_are_varied_in_colour(tmp_path: Path, ndim: int, channels: int, coloured: bool) -> None:
    (tmp_path / "job.yaml").write_text(JOB)
    facts = Facts(ndim, (1.0,) * ndim, channels, ((64,) * ndim,) * 4)
    for stated in ([], ["augment=[flip]"]):
        planned = plan(load_job(tmp_path / "job.yaml", overrides=stated), facts)
        kinds = [each.kind for each in planned.augment]
        assert ("colour" in kinds) is (coloured and not stated)
        assert not stated or kinds == ["flip"]


@pytest.mark.parametrize(
    ("ndim", "stated", "expected"),
    [
        (2, ["method.preset=stardist"], 64),
        (3, ["method.preset=stardist"], 64),
        (2, ["method.preset=stardist", "network.features=[48, 96]"], 0),
        (2, ["method.preset=stardist", "network.head_features=0"], 0),
        (2, ["method.channels=[F, C, Db]"], 0),
        (3, ["method.preset=embedseg"], 0),
    ],
)
def test_wide_heads_get_a_convolution(tmp_path: Path, ndim: int, stated: list[str], expected: int) -> None:
    (tmp_path / "job.yaml").write_text(JOB)
    sizes = Sizes(20, 4.0) if "embedseg" in stated[0] else None
    facts = Facts(ndim, (1.0,) * ndim, 1, ((64,) * ndim,) * 4, sizes=sizes)
    assert plan(load_job(tmp_path / "job.yaml", overrides=stated), facts).network.head_features == expected


@pytest.mark.parametrize(
    ("stated", "key"),
    [
        ("objects.decoder={kind: watershed, growth_erosion: [1, 1, 1]}", "objects.decoder.growth_erosion"),
        (
            "objects.decoder={kind: watershed, seed_morphology: [{op: erode, radius: [1, 1, 1]}]}",
            "objects.decoder.seed_morphology.0.radius",
        ),
        ("objects.decoder={kind: stardist, grid: [2, 2, 2]}", "objects.decoder.grid"),
        ("objects.decoder={kind: mutex_watershed, strides: [2, 2, 2]}", "objects.decoder.strides"),
    ],
)
def test_decoder_settings_with_a_number_per_axis_are_checked(tmp_path: Path, stated: str, key: str) -> None:
    (tmp_path / "job.yaml").write_text(JOB)
    preset = {"stardist": "[Db, R]", "mutex_watershed": "[A]"}.get(stated.split("kind: ")[1].split(",")[0], "[F, C]")
    job = load_job(tmp_path / "job.yaml", overrides=[stated, f"method.channels={preset}"])
    with raises("decoder.axes", key=key):
        plan(job, Facts(2, (1.0, 1.0), 1, ((64, 64),) * 4))
    assert plan(job, Facts(3, (1.0, 1.0, 1.0), 1, ((64, 64, 64),) * 4))


def test_measures_that_these_voxels_cannot_have(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(JOB)
    job = load_job(tmp_path / "job.yaml", overrides=["objects.measure.extra=[perimeter_crofton]"])
    assert plan(job, Facts(2, (0.5, 0.5), 1, ((64, 64),) * 4, unit="um"))
    with raises("measure.failed", key="objects.measure.extra"):
        plan(job, Facts(2, (0.5, 0.2), 1, ((64, 64),) * 4, unit="um"))


def test_objects_are_removed_by_class_and_by_lengths(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(JOB)
    facts = Facts(2, (1.0, 1.0), 1, ((64, 64),) * 4, unit="um")
    for stated in ("[[class > 1, class_confidence < 0.5]]", "[[area_um2 > 5]]", "[[area > 5]]"):
        job = load_job(tmp_path / "job.yaml", overrides=[f"objects.filter={stated}", "method.classes={count: 2}"])
        assert plan(job, facts).objects.filter
    with raises("condition.unknown_property", key="objects.filter"):
        plan(load_job(tmp_path / "job.yaml", overrides=["objects.filter=[[class > 1]]"]), facts)
    with raises("condition.unknown_property", key="objects.filter"):
        plan(load_job(tmp_path / "job.yaml", overrides=["objects.filter=[[area_px > 1]]"]), facts)
