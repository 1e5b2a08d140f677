"""Every parameter that CellSeg3D documents for WNet3D is obeyed: changed alone, it changes what comes out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import morula
from morula.core.events import Epoch, FileWritten
from morula.jobs.job import Job
from morula.kernels.crf import CRF, refine_probabilities

PAGE = Path(__file__).resolve().parents[2] / "docs/dialects/cellseg3d.md"
JOB: dict[str, Any] = {
    "images": {"validate": None},
    "method": {"kind": "wnet3d", "intensity_sigma": 20.0, "smoothing": 0.5},
    "network": {"kind": "wnet", "features": [4, 8], "dropout": 0.1, "norm": "group"},
    "sampling": {"patch": [16, 16], "batch": 1, "patches_per_epoch": 4},
    "augment": "none",
    "training": {"epochs": 2, "precision": "fp32", "optimiser": {"kind": "adam", "lr": 1e-3}},
}
TRAINING = {
    "method.classes": "3",
    "method.reconstruction": "bce",
    "method.intensity_sigma": "5",
    "method.spatial_sigma": "1",
    "method.radius": "4",
    "method.ncuts_weight": "1",
    "method.reconstruction_weight": "0.5",
    "method.smoothing": "2",
    "method.ncuts": "pairwise",
    "network.features": "[8, 8]",
    "network.dropout": "0.65",
    "sampling.patch": "[32, 16]",
    "sampling.batch": "2",
    "sampling.patches_per_epoch": "6",
    "sampling.normalise": "{low: 5, high: 90}",
    "augment": "[flip]",
    "training.optimiser.lr": "1e-2",
    "training.optimiser.weight_decay": "0.9",
    "training.clip_norm": "1e-9",
    "training.seed": "1",
}
"""A value of each key that must give other weights."""


def image(seed: int = 0, shape: tuple[int, int] = (40, 48)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    found = rng.normal(20, 3, shape)
    for centre in rng.integers(4, 36, (8, 2)):
        found += 60 * np.exp(-((np.indices(shape) - centre[:, None, None]) ** 2).sum(axis=0) / 8)
    return found.astype(np.float32)


def weights(folder: Path, *overrides: str) -> bytes:
    list(morula.train(JOB, layers={"one": image(), "two": image(1)}, output=folder, overrides=overrides))
    return (folder / "model/weights.safetensors").read_bytes()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    folder = tmp_path_factory.mktemp("plain") / "run"
    return folder, weights(folder)


@pytest.mark.parametrize("key", TRAINING)
def test_what_steers_the_training_changes_the_weights(key: str, plain: tuple[Path, bytes], tmp_path: Path) -> None:
    assert weights(tmp_path / "run", f"{key}={TRAINING[key]}") != plain[1]


def test_nothing_but_the_settings_changes_the_weights(plain: tuple[Path, bytes], tmp_path: Path) -> None:
    assert weights(tmp_path / "again") == plain[1]
    assert weights(tmp_path / "workers", "training.workers=1") == plain[1]


def test_patches_come_in_another_order_in_each_epoch(plain: tuple[Path, bytes]) -> None:
    from morula.data.loader import order

    assert {tuple(order(0, epoch, 50)) for epoch in range(3)} != {tuple(range(50))}
    assert len({tuple(order(0, epoch, 50)) for epoch in range(3)}) == 3
    assert tuple(order(0, 1, 50)) == tuple(order(0, 1, 50))


def test_intervals_and_patience_are_kept(tmp_path: Path) -> None:
    layers = {"one": image(), "two": image(1), "three": image(2)}
    job = {**JOB, "images": {"validate": 0.3}}
    chosen = ["training.epochs=6", "training.validate_every=3 epochs", "training.checkpoint_every=2 epochs"]
    events = list(morula.train(job, layers=layers, output=tmp_path / "run", overrides=chosen))
    assert [event.epoch for event in events if isinstance(event, Epoch)] == [1, 2, 3, 4, 5, 6]
    validated = [event.epoch for event in events if isinstance(event, Epoch) and "validation_loss" in event.figures]
    assert validated == [3, 6]
    assert len([event for event in events if isinstance(event, FileWritten) and event.path.name == "last"]) == 3
    stuck = ["training.epochs=9", "training.patience=2", "training.optimiser={kind: sgd, lr: 1e-30, momentum: 0}"]
    events = list(morula.train(job, layers=layers, output=tmp_path / "stuck", overrides=stuck))
    assert [event.epoch for event in events if isinstance(event, Epoch)] == [1, 2, 3]


def test_the_rate_falls_at_the_plateau_as_told(tmp_path: Path) -> None:
    chosen = ["training.schedule={kind: plateau, patience: 0, factor: 0.25, threshold: 0.9}", "training.epochs=3"]
    events = list(morula.train(JOB, layers={"one": image()}, output=tmp_path / "run", overrides=chosen))
    rates = [event.figures["lr"] for event in events if isinstance(event, Epoch)]
    assert rates == pytest.approx([1e-3, 1e-3, 2.5e-4])


def test_window_and_overlap_are_those_of_the_prediction(plain: tuple[Path, bytes]) -> None:
    model = morula.load(plain[0])

    def laid(**stated: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
        prediction = model.job.prediction.model_copy(update=stated)
        other = type(model)(**{**vars_of(model), "job": model.job.model_copy(update={"prediction": prediction})})
        plan = other.plan((96, 96), 10**9, "cpu")
        return plan.tile, plan.overlap

    assert laid() == ((16, 16), (4, 4))
    assert laid(tile=(32, 24)) == ((32, 24), (8, 6))
    assert laid(overlap=0.5) == ((16, 16), (8, 8))


def vars_of(model: Any) -> dict[str, Any]:
    return {name: getattr(model, name) for name in ("job", "network", "method", "in_channels", "voxel_size", "normalisation")}


def prediction() -> np.ndarray:
    """Peaks that a valley parts, one alone, a faint one, and a scrap."""
    found = np.full((30, 60), 0.02, np.float32)
    place = np.indices(found.shape)
    for y, x, height, width in ((8, 10, 1.0, 4), (8, 21, 0.97, 4), (22, 12, 0.97, 3), (22, 40, 0.7, 4), (8, 50, 0.95, 0.8)):
        found = np.maximum(found, height * np.exp(-((place[0] - y) ** 2 + (place[1] - x) ** 2) / (2 * width**2)).astype(np.float32))
    return found[None]


@pytest.mark.parametrize(
    ("process", "changed"),
    [
        ("voronoi_otsu", {"spot_sigma": 5.0}),
        ("voronoi_otsu", {"outline_sigma": 3.0}),
        ("voronoi_otsu", {"threshold": 0.6}),
        ("voronoi_otsu", {"min_size": 1}),
        ("voronoi_otsu", {"valley": 0.5}),
        ("seeded_watershed", {"foreground": 0.2}),
        ("seeded_watershed", {"seed": 0.6}),
        ("seeded_watershed", {"min_size": 100}),
        ("seeded_watershed", {"min_seed": 8}),
        ("connected_components", {"threshold": 0.3}),
        ("connected_components", {"min_size": 60}),
    ],
)
def test_what_steers_the_objects_changes_them(process: str, changed: dict[str, Any]) -> None:
    before, after = (morula.decode(prediction(), ["F"], process, options) for options in ({}, changed))
    assert not np.array_equal(before, after)


@pytest.mark.parametrize("name", CRF.model_fields)
def test_what_steers_the_random_field_changes_it(name: str) -> None:
    classes = np.concatenate([1 - prediction(), prediction()])
    plane = 100 * prediction()[0]
    base = {"bilateral_weight": 1.0, "spatial_weight": 1.0, "spatial_width": 2.0, "bilateral_width": 4.0}
    changed = {**base, name: 1 if name == "iterations" else 2.5 * getattr(CRF(**base), name)}
    before, after = (refine_probabilities(classes, plane, CRF(**options), spacing=(1, 1)) for options in (base, changed))
    assert np.abs(before - after).max() > 1e-3


def test_the_page_names_keys_that_are_there() -> None:
    rows = [line.split("|")[2] for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    keys = {key for row in rows for key in re.findall(r"`((?:images|method|network|sampling|training|prediction|objects)\.[\w.]+)", row)}
    assert len(keys) > 25
    schema = Job.model_json_schema(by_alias=True)
    assert [key for key in sorted(keys) if not known(schema, key.split("."), schema["$defs"])] == []
    tested = {*TRAINING, "images.train.raw", "images.validate", "network.from", "network.preset", "training.schedule", "training.patience"}
    tested |= {f"training.{name}" for name in ("epochs", "validate_every", "checkpoint_every", "workers", "optimiser", "device")}
    tested |= {"prediction.tile", "prediction.overlap", "method.foreground", "method.crf"}
    tested |= {"objects.decoder", "objects.refine", "objects.measure.statistics"}
    assert keys <= tested


def known(node: dict[str, Any], keys: list[str], definitions: dict[str, Any]) -> bool:
    """Whether a part of the schema, or one of its variants, has this dotted key."""
    if "$ref" in node:
        return known(definitions[node["$ref"].rsplit("/", 1)[-1]], keys, definitions)
    if not keys:
        return True
    inside = node.get("properties", {}).get(keys[0])
    choices = [*node.get("oneOf", []), *node.get("anyOf", []), *node.get("allOf", [])]
    return (inside is not None and known(inside, keys[1:], definitions)) or any(known(each, keys, definitions) for each in choices)
