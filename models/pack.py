"""From a trained run to a bundled model: weights in float16, description, card with scores, picture."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image as Picture
from recipes import Recipe
from safetensors import safe_open
from scores import scored
from skimage.segmentation import find_boundaries

import morula
from morula.jobs.run_folder import RunFolder

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
JOBS = Path(__file__).resolve().parent / "jobs"
LARGEST = 6_000_000
"""Bytes of the weights of a model at most."""
KEPT = ("job", "seed", "weights", "precision", "environment", "written")
"""Entries of the provenance of the training that the card repeats."""


def pack(name: str, recipe: Recipe, run: Path, data: Path, target: Path) -> None:
    """Write the bundled model of a run and measure its scores."""
    trained = morula.load(run)
    # the training images are not part of a bundled model, and its calibration is for objects at their trained scale
    job = trained.job.model_dump(mode="json", by_alias=True)
    job["images"] = {"train": {"raw": "images"}}
    job["objects"] |= {"calibrate": False, "calibration": None, "tune": False}
    if not recipe.tune:  # the settings of the objects are those of the job file, and may be changed without a new training
        stated = yaml.safe_load((JOBS / f"{name}.yaml").read_text())["objects"]
        job["objects"] |= {key: stated[key] for key in ("refine", "filter") if key in stated}
    job["network"]["from"] = None
    job = type(trained.job).model_validate(job)
    packed = replace(trained, job=job, diameter=recipe.diameter, colour=recipe.colour)
    with safe_open(run / "model" / "weights.safetensors", framework="pt") as file:
        example = file.get_tensor("test:input")
    target.mkdir(parents=True, exist_ok=True)
    weights, _ = packed.save(target, example, half=True)
    if weights.stat().st_size > LARGEST:
        raise SystemExit(f"{weights} has {weights.stat().st_size} bytes, more than {LARGEST}")
    card = dict(recipe.card)
    card["config"] = {"morula": {**card["config"]["morula"], "provenance": provenance(run)}}
    write_card(target, card)
    model = morula.load(target)
    card["config"]["morula"]["scores"] = [scored(model, test, data) for test in recipe.tests]
    write_card(target, card)
    picture(model, recipe.picture(), target / card["covers"][0], IMAGES / f"model-{name}.webp")
    print(f"{name}: {json.dumps(card['config']['morula']['scores'])}", flush=True)


def provenance(run: Path) -> dict[str, Any]:
    """What the weights come from: job, seed, images by a checksum of all their checksums, versions, command, time."""
    import hashlib

    facts = json.loads(RunFolder(run).provenance_file.read_text())
    facts = facts.get("train", facts)
    inputs = hashlib.sha256(json.dumps(sorted(facts["inputs"].values())).encode()).hexdigest()
    return {**{key: facts[key] for key in KEPT if key in facts}, "images": len(facts["inputs"]), "images_sha256": inputs}


def write_card(target: Path, card: dict[str, Any]) -> None:
    """Write a card; keys stay in their order."""
    (target / "card.yaml").write_text(yaml.safe_dump(card, sort_keys=False, allow_unicode=True, width=120))


def picture(model: morula.Model, pixels: np.ndarray, *files: Path) -> None:
    """Write a simulated image with the outlines of the objects that the model finds in it; of a volume the middle plane."""
    labels = np.asarray(model.segment(morula.Image(pixels, f"C{'ZYX'[-(pixels.ndim - 1) :]}")))
    if labels.ndim == 3:
        pixels, labels = pixels[:, len(labels) // 2], labels[len(labels) // 2]
    low, high = np.percentile(pixels, [0.5, 99.8])
    grey = (np.clip((pixels - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    colours = np.moveaxis(grey if len(grey) == 3 else np.repeat(grey[:1], 3, axis=0), 0, -1).copy()
    colours[find_boundaries(labels, mode="inner")] = (255, 200, 0)
    for file in files:
        Picture.fromarray(colours).save(file, optimize=True, quality=80)
