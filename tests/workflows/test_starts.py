"""Trainings from several seeds, of which the best is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import morula
from morula.core.events import Epoch, Finished, Logged
from morula.jobs.load import load_job
from morula.measurement.csv_table import read_table
from morula.workflows.prepare import prepare
from morula.workflows.train import with_seed

JOB = """\
images: {{train: {{raw: data/train/images}}, validate: {validate}}}
method: wnet3d
network: {{kind: wnet, preset: light, features: [4, 8]}}
sampling: {{patch: [16, 32, 32], batch: 1, patches_per_epoch: 3}}
training: {{epochs: 2, restarts: {starts}, seed: {seed}, optimiser: {{kind: adamw, lr: 5e-3}}}}
"""


def written(folder: Path, name: str, *, starts: int = 2, seed: int = 4, validate: str = "null") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(JOB.format(starts=starts, seed=seed, validate=validate))
    return path


def weights(run: Path) -> bytes:
    return (run / "model/weights.safetensors").read_bytes()


@pytest.fixture(scope="module")
def alone(data3d: Path) -> dict[int, Path]:
    """A training of each of two seeds by itself."""
    for seed in (4, 5):
        list(morula.train(written(data3d.parent, f"alone{seed}", starts=1, seed=seed), output=data3d.parent / f"alone{seed}"))
    return {seed: data3d.parent / f"alone{seed}" for seed in (4, 5)}


def lowest_loss(run: Path) -> float:
    return float(read_table(run / "logs/training.csv")["loss"].min())


def test_restart_with_the_lowest_loss_is_kept(alone: dict[int, Path], data3d: Path, tmp_path: Path) -> None:
    for first in (3, 4):
        run = tmp_path / str(first)
        events = list(morula.train(written(data3d.parent, "starts", seed=first), output=run))
        losses = {first + i: lowest_loss(run / f"starts/{i + 1}") for i in range(2)}
        kept = min(losses, key=losses.__getitem__)
        assert lowest_loss(run) == losses[kept]
        assert weights(run) == weights(run / f"starts/{kept - first + 1}")
        for seed in set(losses) & set(alone):
            assert losses[seed] == lowest_loss(alone[seed])
            assert weights(run / f"starts/{seed - first + 1}") == weights(alone[seed])
        finished = [event for event in events if isinstance(event, Finished)]
        assert [event.figures["kept"] for event in finished] == [kept - first + 1]
        assert any(
            f"start {kept - first + 1} of 2 is kept; losses of all" in event.message for event in events if isinstance(event, Logged)
        )
        assert "restarts: 2" in (run / "job.yaml").read_text()


def test_stopped_restarts_resume_to_the_same_weights(data3d: Path, tmp_path: Path) -> None:
    path = written(data3d.parent, "stopped")
    list(morula.train(path, output=tmp_path / "whole"))
    asked = iter([False] * 10 + [True] * 50)
    list(morula.train(path, output=tmp_path / "run", stop=lambda: next(asked)))
    assert (tmp_path / "run/starts/1/model/model.json").is_file()
    assert not (tmp_path / "run/model").exists()
    events = list(morula.train(path, output=tmp_path / "run", resume=True))
    epochs = [event for event in events if isinstance(event, Epoch)]
    assert 1 <= len(epochs) <= 2  # those of the second start alone
    for part in (".", "starts/1", "starts/2"):
        assert weights(tmp_path / "run" / part) == weights(tmp_path / "whole" / part)


def test_best_restart_is_chosen_by_labels(data3d: Path, tmp_path: Path) -> None:
    path = written(data3d.parent, "judged", validate="{raw: data/test/images, labels: data/test/labels}")
    list(morula.train(path, output=tmp_path / "run"))
    scores = [float(read_table(tmp_path / f"run/starts/{i}/logs/training.csv")["score"].max()) for i in (1, 2)]
    assert scores[0] != scores[1]
    assert weights(tmp_path / "run") == weights(tmp_path / f"run/starts/{1 + (scores[1] > scores[0])}")


def test_the_run_of_several_starts_is_a_model(data3d: Path, tmp_path: Path) -> None:
    path = written(data3d.parent, "model")
    list(morula.iter_run(path, output=tmp_path / "run"))
    assert morula.load(tmp_path / "run").job.method.kind == "wnet3d"
    assert (tmp_path / "run/report.html").is_file()


def test_all_starts_are_judged_on_the_same_images(data3d: Path) -> None:
    prepared = prepare(load_job(written(data3d.parent, "shares", validate="40%")))
    other = with_seed(prepared, 5)
    assert other.validation is prepared.validation
    assert [source.title for source in other.train.sources] == [source.title for source in prepared.train.sources]
    assert not np.array_equal(other.train.sample(0, 0)["image"], prepared.train.sample(0, 0)["image"])


def test_longer_training_keeps_tuned_settings(data3d: Path, tmp_path: Path) -> None:
    path = written(data3d.parent, "tuned", validate="{raw: data/test/images, labels: data/test/labels}")
    path.write_text(f"{path.read_text()}objects: {{tune: true}}\n")
    list(morula.train(path, output=tmp_path / "run"))
    tuned = morula.load(tmp_path / "run").job.objects
    assert tuned.tuned is not None
    list(morula.train(path, output=tmp_path / "run", resume=True))
    assert morula.load(tmp_path / "run").job.objects == tuned
    events = list(morula.train(path, output=tmp_path / "run", resume=True, overrides=["training.epochs=3"]))
    assert sum(isinstance(event, Epoch) for event in events) == 2  # one more in each start
