"""Job files: every spelling loads, and all problems are reported at once with code, key and line."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from morula.core.errors import JobError, Problem
from morula.jobs.load import load_job
from morula.testing.errors import raises

GOOD = """\
images:
  train: {raw: data/images, labels: data/labels}
method:
  kind: channels
  channels: {F: {erosion: 1}, C: {mode: inner}, Db: {}}
network: {kind: unet, features: [16, 32]}
augment: [flip, {rotate: {degrees: 45}}, {brightness: 0.1}]
training: {epochs: 5, optimiser: {kind: adamw, lr: 1e-3}, schedule: one_cycle}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "job.yaml"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def problems(folder: Path, text: str) -> list[Problem]:
    with pytest.raises(JobError) as caught:
        load_job(written(folder, text))
    return caught.value.problems


def test_a_good_job_loads_with_every_spelling(tmp_path: Path) -> None:
    job = load_job(written(tmp_path, GOOD))
    assert [channel.kind for channel in job.method.channels] == ["F", "C", "Db"]
    assert job.method.channels[0].erosion == 1
    assert job.training.optimiser.lr == 1e-3
    assert [each.kind for each in job.augment] == ["flip", "rotate", "brightness"]
    assert job.augment[2].strength == 0.1
    assert job.images.train.raw == str(tmp_path / "data/images")
    assert job.images.validate_ == 0.1


def test_the_order_of_channels_is_kept(tmp_path: Path) -> None:
    job = load_job(written(tmp_path, GOOD.replace("{F: {erosion: 1}, C: {mode: inner}, Db: {}}", "[Db, C, F]")))
    assert [channel.kind for channel in job.method.channels] == ["Db", "C", "F"]


def test_a_resolved_job_loads_again_and_is_the_same(tmp_path: Path) -> None:
    import yaml

    job = load_job(written(tmp_path, GOOD))
    again = load_job(written(tmp_path, yaml.safe_dump(job.model_dump(mode="json", by_alias=True), sort_keys=False)))
    assert again == job


def test_all_problems_come_at_once_with_line_and_nearest_name(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        """\
        images:
          train: {raw: data/images, labels: 3}
        methd: 5
        method:
          kind: channels
          channels: {F: {}, Dbb: {}, C: {mod: inner}}
        network: {kind: unett}
        augment: [flip, {rotat: {degrees: 45}}]
        training: {epochs: many, optimiser: {kind: adamw, lr: -1}}
        """,
    )
    assert [(problem.line, problem.code, problem.key.rsplit(".", 1)[-1]) for problem in found] == [
        (2, "option.type", "labels"),
        (3, "option.unknown", "methd"),
        (6, "option.choice", "Dbb"),
        (6, "option.unknown", "mod"),
        (7, "option.choice", "network"),
        (8, "option.choice", "rotat"),
        (9, "option.type", "epochs"),
        (9, "option.range", "lr"),
    ]
    nearest = [problem.remedy for problem in found]
    assert [text.split("'")[1] for text in nearest if "'" in text] == ["method", "Db", "mode", "unet", "rotate"]


@pytest.mark.parametrize(
    ("text", "code", "key"),
    [
        ("", "job.empty", ""),
        ("images: [", "job.not_yaml", ""),
        ("images: 3\nimages: 4\n", "job.key_twice", "images"),
        ("- 1\n- 2\n", "job.not_a_mapping", ""),
        ("method: {kind: channels}\n", "option.missing", "images"),
        ("images: {train: {raw: a}}\n", "option.missing", "method"),
        (GOOD + "---\n" + GOOD, "job.several_stages", ""),
        (GOOD.replace("epochs: 5", "epochs: '5'"), "option.type", "training.epochs"),
        (GOOD.replace("train: {raw", "validate: 120%\n  train: {raw"), "fraction.invalid", "images.validate"),
        (GOOD.replace("  channels:", "  losses: {Dn: l1}\n  channels:"), "channels.not_predicted", "method.losses"),
        (GOOD + "objects: {measure: {extra: [solidty]}}\n", "measure.unknown", "objects.measure.extra"),
        ("PROBLEM: {TYPE: INSTANCE_SEG}\n", "job.other_program", "PROBLEM"),
        ("model: {name: UNet3D}\nloaders: {batch_size: 1}\n", "job.other_program", "loaders"),
        (GOOD.replace("  channels:", "  weights: {F: -1}\n  channels:"), "option.range", "method.weights.F"),
        (GOOD.replace("  channels:", "  weights: [1, 2]\n  channels:"), "option.type", "method.weights"),
        (GOOD.replace("  channels:", "  thresholds: [50]\n  channels:"), "option.range", "method.thresholds.0"),
        (GOOD + "objects: {refine: [remove_small]}\n", "option.missing", "objects.refine.0"),
        (GOOD + "objects: {filter: {props: [area], values: [3], sign: [gt]}}\n", "condition.nested_lists", "objects.filter"),
        (GOOD + "objects: {filter: [[]]}\n", "condition.empty_list", "objects.filter.0"),
        (GOOD.replace("[16, 32]", "[16, 32], pools: [2, 2]"), "network.entries", "network.pools"),
    ],
)
def test_each_problem_has_a_code_and_a_key(tmp_path: Path, text: str, code: str, key: str) -> None:
    with raises(code, key=key):
        load_job(written(tmp_path, text))


def test_lists_beside_each_other_are_read_as_written(tmp_path: Path) -> None:
    objects = """
        objects:
          refine: [{fill_holes: none}, {remove_small_objects: 10}]
          filter: {PROPS: [[area], [npixels, circularity]], VALUES: [[500], [100, 0.7]], SIGN: [[gt], [lt, le]]}
        """
    job = load_job(written(tmp_path, GOOD + textwrap.dedent(objects)))
    assert [[str(each) for each in group] for group in job.objects.filter] == [["area > 500"], ["npixels < 100", "circularity <= 0.7"]]
    assert [each.kind for each in job.objects.refine] == ["fill_holes", "remove_small_objects"]
    steps = GOOD.replace("{F: {erosion: 1}, C: {mode: inner}, Db: {}}", "{A: {y_affinities: [1, 3], x_affinities: [1, 3]}}")
    assert load_job(written(tmp_path, steps)).method.channels[0].offsets == ((-1, 0), (0, -1), (-3, 0), (0, -3))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with raises("job.no_file", file=str(tmp_path / "nowhere.yaml")):
        load_job(tmp_path / "nowhere.yaml")
    with raises("job.no_file", file=str(tmp_path), rule="is a folder, not a job file"):
        load_job(tmp_path)


def test_overrides_go_before_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD.replace("network: {kind: unet, features: [16, 32]}", "network: unet"))
    job = load_job(path, overrides=["training.epochs=7", "network.features=[8, 16]", "training.optimiser.lr=2e-3"])
    assert (job.training.epochs, job.network.features, job.training.optimiser.lr) == (7, (8, 16), 2e-3)
    with raises("override.invalid", value="training.epochs"):
        load_job(path, overrides=["training.epochs"])
    with raises("option.unknown", key="training.epoch"):
        load_job(path, overrides=["training.epoch=7"])


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("training.batch_size", "sampling.batch"),
        ("training.learning_rate", "training.optimiser.lr"),
        ("training.lr", "training.optimiser.lr"),
        ("network.patch_size", "sampling.patch"),
        ("epochs", "training.epochs"),
        ("training.tune", "objects.tune"),
    ],
)
def test_options_of_another_section_are_named(key: str, place: str) -> None:
    with raises("option.unknown", key=key, remedy=f"Did you mean {place}?"):
        load_job({"images": {"train": {"raw": "a", "labels": "b"}}, "method": {"kind": "semantic"}}, overrides=[f"{key}=7"])


def test_a_mapping_is_a_job_too_and_stays_as_it_was() -> None:
    given = {"images": {"train": {"raw": "a", "labels": "b"}}, "method": {"kind": "semantic"}}
    job = load_job(given, overrides=["training.epochs=3"])
    assert job.training.epochs == 3
    assert "training" not in given
