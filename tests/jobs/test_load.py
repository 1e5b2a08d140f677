"""A job file is right, or everything that is wrong with it is said at once, each with its line."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from morula.core.errors import JobError, MissingFileError, OptionError
from morula.jobs.load import load_job

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


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(JobError) as caught:
        load_job(written(folder, text))
    return [str(problem) for problem in caught.value.problems]


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
    said = problems(
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
    by_line = {int(text.split(":")[1].split()[0]): text for text in said}
    assert "labels" in by_line[2]
    assert "unknown key 'methd'" in by_line[3]
    assert "Did you mean 'method'?" in by_line[3]
    assert any("unknown name 'Dbb'" in text and "Did you mean 'Db'?" in text for text in said)
    assert any("unknown key 'mod'" in text and "Did you mean 'mode'?" in text for text in said)
    assert "unknown name 'unett'" in by_line[7]
    assert "Did you mean 'rotate'?" in by_line[8]
    assert any("training.epochs" in text and "'many'" in text for text in said)
    assert any("lr" in text and "-1" in text for text in said)
    assert len(said) == 8


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "empty"),
        ("images: [", "not YAML"),
        ("images: 3\nimages: 4\n", "stands twice"),
        ("- 1\n- 2\n", "a job is a mapping"),
        ("method: {kind: channels}\n", "images  is missing"),
        ("images: {train: {raw: a}}\n", "method  is missing"),
        (GOOD + "---\n" + GOOD, "2 documents"),
        (GOOD.replace("epochs: 5", "epochs: '5'"), "training.epochs  '5' is not valid"),
        (GOOD.replace("train: {raw", "validate: 120%\n  train: {raw"), "must be a percentage"),
        (GOOD.replace("  channels:", "  losses: {Dn: l1}\n  channels:"), "not among the channels"),
        (GOOD + "objects: {measure: {extra: [solidty]}}\n", "Did you mean 'solidity'"),
        ("PROBLEM: {TYPE: INSTANCE_SEG}\n", "job.yaml:1  PROBLEM  is a section of BiaPy"),
        ("model: {name: UNet3D}\nloaders: {batch_size: 1}\n", "job.yaml:2  loaders  is a section of pytorch-3dunet"),
        (GOOD.replace("  channels:", "  weights: {F: -1}\n  channels:"), "method.weights.F  -1 is not valid"),
        (GOOD.replace("  channels:", "  weights: [1, 2]\n  channels:"), "job.yaml:5  method.weights  [1, 2] is not valid"),
        (GOOD.replace("  channels:", "  thresholds: [50]\n  channels:"), "method.thresholds.0  50 is not valid"),
        (GOOD + "objects: {refine: [remove_small]}\n", "refine.0  remove_small needs the option size. Write {remove_small: {size: ...}}"),
        (GOOD + "objects: {filter: {props: [area], values: [3], sign: [gt]}}\n", "must be lists of lists"),
        (GOOD + "objects: {filter: [[]]}\n", "a list of conditions is empty"),
        (GOOD.replace("[16, 32]", "[16, 32], pools: [2, 2]"), "must have 1 entries for 2 features"),
    ],
)
def test_each_problem_in_words(tmp_path: Path, text: str, expected: str) -> None:
    assert any(expected in said for said in problems(tmp_path, text)), problems(tmp_path, text)


def test_lists_beside_each_other_are_read_as_the_document_writes_them(tmp_path: Path) -> None:
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
    with pytest.raises(MissingFileError, match=r"nowhere\.yaml"):
        load_job(tmp_path / "nowhere.yaml")


def test_overrides_go_before_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD.replace("network: {kind: unet, features: [16, 32]}", "network: unet"))
    job = load_job(path, overrides=["training.epochs=7", "network.features=[8, 16]", "training.optimiser.lr=2e-3"])
    assert (job.training.epochs, job.network.features, job.training.optimiser.lr) == (7, (8, 16), 2e-3)
    with pytest.raises(OptionError, match="key=value"):
        load_job(path, overrides=["training.epochs"])
    with pytest.raises(JobError, match="unknown key 'epoch'"):
        load_job(path, overrides=["training.epoch=7"])


def test_a_mapping_is_a_job_too_and_stays_as_it_was() -> None:
    given = {"images": {"train": {"raw": "a", "labels": "b"}}, "method": {"kind": "semantic"}}
    job = load_job(given, overrides=["training.epochs=3"])
    assert job.training.epochs == 3
    assert "training" not in given
