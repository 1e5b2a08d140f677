"""The bundled model of nuclei in volumes."""

import numpy as np
import pytest
import yaml

import morula
from morula.jobs.bundled import SHIPPED
from morula.metrics.matching import match
from morula.testing.simulate import simulate

FOLDER = SHIPPED / "nuclei-3d"


def test_the_card_states_what_the_weights_come_from():
    card = yaml.safe_load((FOLDER / "card.yaml").read_text())
    facts = card["config"]["morula"]
    assert card["license"] == "CC0-1.0"
    assert facts["suited"] == {"dimensions": 3, "channels": 1, "background": "dark"}
    assert facts["simulator"]["seed"] == 0
    assert facts["provenance"]["images"] == 2 * (facts["simulator"]["n_train"] + facts["simulator"]["n_val"])
    assert {scores["data"] for scores in facts["scores"]} >= {"nuclei3d_embryo test", "nuclei3d_ovule train+val"}
    assert (FOLDER / "weights.safetensors").stat().st_size < 6_000_000


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.5, 1.0, 1.0)])
def test_nuclei_of_another_simulator_are_found(spacing):
    """`simulate` makes the touching nuclei of the demo; the model was trained on those of `morula.testing.varied`."""
    made = simulate(
        "nuclei", shape=(round(40 / spacing[0]), 56, 56), n_objects=20, spacing=spacing, coverage=0.2, rng=np.random.default_rng(0)
    )
    diameter = float(np.cbrt(6 * np.median(np.bincount(made.labels.ravel())[1:]) * spacing[0] / np.pi))
    labels = morula.load("nuclei-3d").segment(morula.Image(made.image, "ZYX", morula.VoxelSize.of(spacing, 3)), diameter=diameter)
    score = match(made.labels, np.asarray(labels), thresholds=(0.5,))[0]
    assert score.f1 >= 0.8


def test_an_empty_volume_has_no_nuclei():
    noise = np.random.default_rng(0).normal(100, 5, (12, 32, 32)).astype(np.float32)
    assert morula.load("nuclei-3d").segment(noise, diameter=10).max() <= 1
