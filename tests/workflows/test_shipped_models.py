"""The models that ship: they load without a network connection, find nuclei of several sizes, and their cards are complete."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

import morula
from morula.core.events import Logged
from morula.inference.rescale import rescaled
from morula.jobs.bundled import SHIPPED, Bundled, bundled_models
from morula.metrics.matching import match
from morula.testing.simulate import Simulated, simulate

MODELS = [model for model in bundled_models() if model.folder.parent == SHIPPED]
LARGEST = 6_000_000


@pytest.fixture(scope="module")
def nuclei() -> Simulated:
    return simulate("nuclei", shape=(192, 192), n_objects=25, rng=np.random.default_rng(5), touching=0.3)


def test_the_models_for_nuclei_ship() -> None:
    assert {"nuclei", "nuclei-stained"} <= {model.name for model in MODELS}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_the_card_is_complete_and_the_weights_are_small(model: Bundled) -> None:
    assert (model.folder / "weights.safetensors").stat().st_size <= LARGEST
    assert model.card.license
    assert model.facts.training
    assert model.facts.scores
    assert model.picture is not None
    with Picture.open(model.picture) as picture:
        assert min(picture.size) >= 64
    described = json.loads((model.folder / "model.json").read_text())
    assert described["job"]["images"]["train"]["raw"] == "images"  # no path of the machine that trained it


@pytest.mark.parametrize("factor", [0.7, 1.0, 2.0])
def test_nuclei_of_several_sizes_are_found(nuclei: Simulated, factor: float) -> None:
    edge = round(192 * factor)
    image = rescaled(np.asarray(nuclei.image)[None], (edge, edge))[0]
    labels = np.asarray(morula.load("nuclei").segment(image))
    truth = np.asarray(nuclei.labels)
    nearest = (np.arange(192) * edge // 192)[:, None], (np.arange(192) * edge // 192)[None]
    assert match(truth, labels[nearest], thresholds=(0.5,))[0].f1 > 0.8


def test_the_stained_model_takes_colours_and_grey(nuclei: Simulated) -> None:
    grey = np.asarray(nuclei.image).astype(float)
    share = np.clip((grey - np.percentile(grey, 1)) / np.ptp(np.percentile(grey, [1, 99.8])), 0, 1)
    stained = (np.array([232, 214, 236]) - share[..., None] * np.array([150, 170, 110])).astype(np.uint8)
    model = morula.load("nuclei-stained")
    truth = np.asarray(nuclei.labels)
    for image in (morula.Image(stained, "YXC"), stained[..., 0]):
        assert match(truth, np.asarray(model.segment(image)), thresholds=(0.5,))[0].f1 > 0.7


def test_a_file_needs_no_option(nuclei: Simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MORULA_MODELS", raising=False)
    morula.write("scan.tif", np.asarray(nuclei.image), axes="YX")
    events = list(morula.segment("scan.tif"))
    assert any("model nuclei" in event.message for event in events if isinstance(event, Logged))
    assert int(np.asarray(morula.read("segmentation/scan.tif")).max()) > 15
