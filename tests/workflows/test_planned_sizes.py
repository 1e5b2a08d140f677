"""What a job takes for too small, from the labels that it learns from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import morula
from morula.jobs.load import load_job
from morula.workflows.prepare import prepare


def process_of(data: Path, text: str, *overrides: str) -> dict[str, object]:
    path = data.parent / "sizes.yaml"
    path.write_text(text)
    planned = prepare(load_job(path, overrides=list(overrides))).job.objects.process
    return {} if planned is None else planned.model_dump()


def smallest(folder: Path) -> int:
    images = [np.asarray(morula.read(path)) for path in folder.iterdir()]
    return min(int(np.bincount(image.ravel())[1:][np.bincount(image.ravel())[1:] > 0].min()) for image in images)


def test_half_the_smallest_labelled_object(data2d: Path, job_text: Callable[..., str]) -> None:
    planned = process_of(data2d, job_text("{kind: channels, preset: embedseg}"))
    assert planned["kind"] == "embedseg"
    assert planned["min_object_size"] == smallest(data2d / "train" / "labels") // 2


@pytest.mark.parametrize("process", ["{kind: embedseg, min_object_size: 3}", "{kind: embedseg, min_object_size: 0}"])
def test_a_stated_size_stays(data2d: Path, job_text: Callable[..., str], process: str) -> None:
    planned = process_of(data2d, job_text("{kind: channels, preset: embedseg}"), f"objects.process={process}")
    assert planned["min_object_size"] == int(process.split(": ")[-1].rstrip("}"))


def test_other_options_and_unlabelled_values(data3d: Path, job_text: Callable[..., str]) -> None:
    text = job_text("{kind: channels, preset: embedseg}", patch="[8, 32, 32]")
    planned = process_of(data3d, text, "objects.process={kind: embedseg, seed_threshold: 0.8}")
    least = smallest(data3d / "train" / "labels")
    assert planned["seed_threshold"] == 0.8
    assert planned["min_object_size"] == least // 2
    assert process_of(data3d, job_text("{kind: channels, channels: [F, C]}", patch="[8, 32, 32]")) == {}
