"""Models that rescale images, by their names, and the choice of a model."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from scipy import ndimage

import morula
from morula.core.events import Event, Logged, drained
from morula.core.voxel_size import VoxelSize
from morula.data.normalise import Normalisation
from morula.inference.rescale import rescaled
from morula.jobs import bundled
from morula.labels.objects import Objects
from morula.models.scale import estimate_diameter, fit_scale, with_labels
from morula.nn.weights import load_weights
from morula.testing.errors import raises
from morula.workflows.choose_model import choose
from morula.workflows.predict import sources_of


@pytest.fixture
def models(run2d: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models by name, `dark` for grey images and `stained` for colour; the weights are those of a small run."""
    folder = tmp_path / "models"
    for name, channels, background in (("dark", 1, "dark"), ("stained", 3, "bright")):
        model = replace(morula.load(run2d), diameter=14.0)
        model.save(folder / name, torch.rand(1, 1, 8, 8), half=True)
        suited = {"dimensions": 2, "channels": channels, "background": background}
        card = {"name": name, "description": "A test.", "license": "CC0-1.0", "config": {"morula": {"suited": suited, "training": []}}}
        (folder / name / "card.yaml").write_text(yaml.safe_dump(card))
    monkeypatch.setattr(bundled, "SHIPPED", folder)
    monkeypatch.delenv("MORULA_MODELS", raising=False)
    return folder


def image_of(data: Path) -> np.ndarray:
    return np.asarray(morula.read(data / "test/images/nuclei_000.tif"))


def test_weights_in_half_precision_predict_what_was_stored(models: Path, run2d: Path) -> None:
    half, full = (load_weights(folder).network for folder in (models / "dark", run2d / "model"))
    assert (models / "dark/weights.safetensors").stat().st_size < (run2d / "model/weights.safetensors").stat().st_size
    for name, values in full.state_dict().items():
        assert half.state_dict()[name].dtype == values.dtype
        torch.testing.assert_close(half.state_dict()[name], values, atol=1e-6, rtol=1e-3)


class Threshold:
    """Stands for a model: objects are what is brighter than 0.5."""

    factors, sample = morula.Model.factors, morula.Model.sample

    def __init__(self, diameter: float = 14.0, ndim: int = 2) -> None:
        self.diameter, self.ndim = diameter, ndim
        self.voxel_size = VoxelSize.of(None, ndim)

    def scaling(self, image: morula.Image) -> Normalisation:
        return Normalisation((0.0,), (1.0,))

    def predict_steps(self, image: morula.Image, **_: object) -> Generator[Event, None, np.ndarray]:
        yield from ()
        return image.canonical()

    def decode(self, prediction: np.ndarray) -> Objects:
        labels, count = ndimage.label(prediction[0] > 0.5)
        return Objects(labels, np.full(count, 0.9, np.float32))


def discs(diameter: float, shape: tuple[int, int] = (400, 300)) -> morula.Image:
    """Discs of this diameter on a grid, and a stripe that is none."""
    step = int(2 * diameter)
    y, x = np.indices(shape)
    pixels = ((y % step - diameter) ** 2 + (x % step - diameter) ** 2 < (diameter / 2) ** 2).astype(np.float32)
    return morula.Image(pixels, "YX")


def balls(diameter: float, spacing: tuple[float, float, float]) -> morula.Image:
    """Balls of this diameter on a grid, in a volume with voxels of this shape; the diameter is in voxels of the last axis."""
    shape = tuple(round(48 / step) for step in spacing)
    inside = sum((index * step % 24 - 12) ** 2 for index, step in zip(np.indices(shape), spacing, strict=True)) < (diameter / 2) ** 2
    return morula.Image(inside.astype(np.float32), "ZYX", VoxelSize.of(spacing, 3))


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 1.0, 1.0)])
def test_volumes_get_the_voxels_that_the_model_was_trained_on(spacing: tuple[float, float, float]) -> None:
    image, model = balls(12, spacing), Threshold(10.0, ndim=3)
    estimate = drained(estimate_diameter(model, image))
    assert estimate is not None
    assert estimate.diameter == pytest.approx(12, rel=0.15)
    fitted = drained(fit_scale(model, image, 12))
    assert fitted.image.spatial_shape == (40, 40, 40)
    assert fitted.image.spacing == pytest.approx((1.2, 1.2, 1.2))
    labels = fitted.objects(model.decode(drained(model.predict_steps(fitted.image)))).labels
    assert labels.shape == image.spatial_shape
    assert labels.max() == 8


@pytest.mark.parametrize("diameter", [6, 11, 25, 50, 70])
def test_the_size_of_objects_is_estimated(diameter: float) -> None:
    estimate = drained(estimate_diameter(Threshold(), discs(diameter)))
    assert estimate is not None
    assert estimate.diameter == pytest.approx(diameter, rel=0.15)


def test_an_image_without_objects_stays_as_it_is() -> None:
    image = morula.Image(np.zeros((50, 50), np.float32), "YX")
    events = fit_scale(Threshold(), image, None)
    assert drained(events).image is image


@pytest.mark.parametrize("diameter", [7, 21, 40])
def test_labels_return_to_the_grid_of_the_image(diameter: float) -> None:
    model, image = Threshold(), discs(diameter)
    fitted = drained(fit_scale(model, image, diameter))
    assert fitted.image.spatial_shape == tuple(round(n * 14 / diameter) for n in image.spatial_shape)
    objects = fitted.objects(model.decode(fitted.image.canonical()))
    truth = model.decode(image.canonical()).labels
    assert objects.labels.shape == truth.shape
    assert ((objects.labels > 0) == (truth > 0)).mean() > 0.97
    assert set(np.unique(objects.labels)) == set(range(len(objects) + 1))
    assert objects.labels.max() == truth.max()


@pytest.mark.parametrize(("diameter", "finer"), [(40, "image"), (7, "model")])
def test_objects_are_decoded_on_the_finer_grid(diameter: float, finer: str) -> None:
    model, image = Threshold(), discs(diameter)
    fitted = drained(fit_scale(model, image, diameter))
    assert fitted.decoded is (image if finer == "image" else fitted.image)
    channels = fitted.channels(fitted.image.canonical())
    assert channels.shape[1:] == fitted.decoded.spatial_shape
    assert channels.dtype == np.float32


def test_outlines_have_no_steps_of_the_coarser_grid() -> None:
    model, image = Threshold(), discs(45)
    fitted = drained(fit_scale(model, image, 45))
    truth = image.canonical()[0] > 0.5
    fine, coarse = (
        fitted.objects(model.decode(each)).labels > 0 for each in (fitted.channels(fitted.image.canonical()), fitted.image.canonical())
    )
    assert (fine != truth).sum() < 0.7 * (coarse != truth).sum()


def test_a_model_of_one_size_segments_at_its_scale(models: Path, data2d: Path) -> None:
    model, image = morula.load("dark"), image_of(data2d)
    fine = rescaled(image[None], (96, 96))[0]
    assert model.segment(fine, diameter=21).shape == fine.shape
    assert (model.segment(image, diameter=14) == replace(model, diameter=None).segment(image)).all()


def test_a_model_without_a_size_takes_no_diameter(run2d: Path, data2d: Path, tmp_path: Path) -> None:
    with raises("model.no_diameter", key="diameter", value=9):
        morula.load(run2d).segment(image_of(data2d), diameter=9)
    with raises("model.no_diameter", key="diameter", value=9):
        list(morula.segment(image_of(data2d), model=run2d, output=tmp_path / "a.tif", diameter=9))


def test_a_diameter_is_positive(models: Path, data2d: Path) -> None:
    with raises("model.diameter", key="diameter", value=0):
        morula.load("dark").segment(image_of(data2d), diameter=0)


def test_objects_without_room_are_left_out() -> None:
    found = Objects(np.arange(17).reshape(1, 17), np.arange(1, 17) / 16)
    fitted = with_labels(found, np.array([[0, 3, 16]]))
    np.testing.assert_array_equal(fitted.labels, [[0, 1, 2]])
    np.testing.assert_array_equal(fitted.confidence, [3 / 16, 1])


def test_segment_chooses_the_model_and_says_so(models: Path, data2d: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    events = list(morula.segment(data2d / "test/images/nuclei_000.tif"))
    texts = [event.message for event in events if isinstance(event, Logged)]
    assert texts[0].startswith("model dark")
    assert "--model" in texts[0]
    assert (tmp_path / "segmentation/nuclei_000.tif").is_file()


def test_what_decides_about_the_model(models: Path, data2d: Path) -> None:
    grey = image_of(data2d)
    pale = grey.max() - grey
    colour = morula.Image(np.stack([pale, pale // 2, pale]), "CYX")
    as_colour = morula.Image(np.stack([grey, grey, grey]), "CYX")
    assert [choose(sources_of(image))[0].name for image in (grey, colour, as_colour, pale)] == ["dark", "stained", "dark", "stained"]
    assert choose(sources_of(as_colour))[1][0].raw.n_channels == 1
    with raises("models.several_fit"):
        choose(sources_of([grey, colour]))
    with raises("models.none_fits"):
        choose(sources_of(np.zeros((5, 9, 9))))
