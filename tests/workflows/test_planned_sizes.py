"""What a job of embeddings takes from the sizes of the objects that it learns from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import morula
from morula.jobs.load import load_job
from morula.methods import METHODS
from morula.workflows.prepare import prepare


def planned_job(data: Path, text: str, *overrides: str) -> Any:
    path = data.parent / "sizes.yaml"
    path.write_text(text)
    return prepare(load_job(path, overrides=list(overrides))).job


def process_of(data: Path, text: str, *overrides: str) -> dict[str, Any]:
    planned = planned_job(data, text, *overrides).objects.decoder
    return {} if planned is None else planned.model_dump()


def sizes(folder: Path) -> np.ndarray:
    return np.concatenate(
        [np.unique(image[image > 0], return_counts=True)[1] for image in map(np.asarray, map(morula.read, folder.iterdir()))]
    )


def smallest(folder: Path) -> int:
    return int(sizes(folder).min())


def test_half_the_smallest_labelled_object(data2d: Path, job_text: Callable[..., str]) -> None:
    planned = process_of(data2d, job_text("{kind: channels, preset: embedseg}"))
    assert planned["kind"] == "embedseg"
    assert planned["min_object_size"] == smallest(data2d / "train" / "labels") // 2


@pytest.mark.parametrize("process", ["{kind: embedseg, min_object_size: 3}", "{kind: embedseg, min_object_size: 0}"])
def test_a_stated_size_stays(data2d: Path, job_text: Callable[..., str], process: str) -> None:
    planned = process_of(data2d, job_text("{kind: channels, preset: embedseg}"), f"objects.decoder={process}")
    assert planned["min_object_size"] == int(process.split(": ")[-1].rstrip("}"))


def test_other_options_and_unlabelled_values(data3d: Path, job_text: Callable[..., str]) -> None:
    text = job_text("{kind: channels, preset: embedseg}", patch="[8, 32, 32]")
    planned = process_of(data3d, text, "objects.decoder={kind: embedseg, seed_threshold: 0.8}")
    least = smallest(data3d / "train" / "labels")
    assert planned["seed_threshold"] == 0.8
    assert planned["min_object_size"] == least // 2
    assert process_of(data3d, job_text("{kind: channels, channels: [F, C]}", patch="[8, 32, 32]")) == {}


def test_initial_bandwidth_is_the_median_radius(data2d: Path, data3d: Path, job_text: Callable[..., str]) -> None:
    text = job_text("{kind: channels, preset: embedseg}")
    (channel,) = planned_job(data2d, text).method.channels
    area = float(np.median(sizes(data2d / "train" / "labels")))
    assert channel.radius == pytest.approx((area / np.pi) ** 0.5, abs=0.06)
    (channel,) = planned_job(data3d, job_text("{kind: channels, preset: embedseg}", patch="[8, 32, 32]")).method.channels
    volume = 4 * float(np.median(sizes(data3d / "train" / "labels")))  # voxels are four times as long along z
    assert channel.radius == pytest.approx((0.75 * volume / np.pi) ** (1 / 3), abs=0.06)
    (stated,) = planned_job(data2d, text, "method.channels={E: {radius: 9}}").method.channels
    assert stated.radius == 9


@pytest.mark.parametrize("ndim", [2, 3])
def test_membership_at_the_radius_starts_at_half(ndim: int) -> None:
    options = {"kind": "channels", "channels": {"E": {"radius": 12.0, "grid_size": 500}}}
    job = load_job({"images": {"train": {"raw": "a", "labels": "b"}}, "method": options})
    method = METHODS.load("channels")(job.method, job.objects, ndim=ndim, spacing=(1.0,) * ndim)
    begun = method.activate({"channels": torch.zeros((1, 2 * ndim + 1, *(4,) * ndim))})
    sigma = begun[0, ndim:-1].numpy()
    assert sigma.shape[0] == ndim
    np.testing.assert_allclose(np.exp(-((12 / 499) ** 2) * np.exp(10 * sigma)), 0.5, rtol=1e-4)
    assert float(begun[:, :ndim].abs().max()) == 0
    assert float(begun[0, -1].mean()) == 0.5
