"""Targets on a finer grid: images are interpolated to it, learned, predicted and scored there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio
from skimage.transform import resize

import morula
from morula.core.image import Image
from morula.core.voxel_size import VoxelSize
from morula.jobs.load import load_job
from morula.measurement.csv_table import read_table
from morula.models.enlarge import enlarged, enlarged_shape
from morula.models.zoo.package import exportable
from morula.testing.errors import raises
from morula.workflows.build import build_with_seed
from morula.workflows.prepare import prepare

FACTORS = {2: (2, 2), 3: (1, 2, 2)}


@pytest.mark.parametrize(("shape", "factors"), [((5, 7), (2, 3)), ((3, 4, 5), (1, 2, 2)), ((1, 4, 5), (2, 2))])
def test_images_are_interpolated_as_scikit_image_does(shape: tuple[int, ...], factors: tuple[int, ...]) -> None:
    values, lengths = np.random.default_rng(0).random((2, *shape)).astype(np.float32), {"z": 2.0, "y": 1.0, "x": 0.5}
    size = VoxelSize(**{name: lengths[name] for name in "zyx"[-len(shape) :]})
    image = Image(values, "C" + "ZYX"[-len(shape) :], size)
    every = (1, *factors) if len(factors) < len(shape) else factors
    finer = enlarged(image, factors)
    assert finer.spatial_shape == enlarged_shape(image, factors) == tuple(n * f for n, f in zip(shape, every, strict=True))
    expected = [resize(channel, finer.spatial_shape, order=1, mode="edge", anti_aliasing=False) for channel in values]
    np.testing.assert_allclose(np.asarray(finer), expected, rtol=1e-5)
    assert finer.spacing == tuple(step / factor for step, factor in zip(image.spacing, every, strict=True))
    assert enlarged(image, (1,) * len(shape)) is image
    with raises("enlarge.axes", key="method.enlarge"):
        enlarged(image, (2,) * 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images with sharp edges of another brightness each, and the same with mean values of 2 x 2 voxels."""
    place = tmp_path_factory.mktemp("finer")
    for ndim, shape in ((2, (80, 64)), (3, (8, 40, 32))):
        for number in range(3):
            smooth = gaussian_filter(np.random.default_rng(number).normal(size=shape), (1, 3, 3)[-ndim:], mode="wrap")
            fine = 1000 * (number + 1) + 300 * (smooth > 0) + 40 * smooth / smooth.std()
            coarse = fine.reshape(*shape[:-2], shape[-2] // 2, 2, shape[-1] // 2, 2).mean(axis=(-3, -1))
            size = VoxelSize(z=1.0, y=0.4, x=0.4) if ndim == 3 else VoxelSize(y=0.4, x=0.4)
            for kind, image in (("fine", fine), ("coarse", coarse)):
                image = np.rint(image).astype(np.uint16)
                morula.write(
                    place / f"{ndim}/{kind}/{number}.tif", image, axes="ZYX"[-ndim:], voxel_size=size if kind == "coarse" else None
                )
    return place


def document(folder: Path, ndim: int, **method: object) -> dict[str, object]:
    return {
        "images": {
            "train": {"raw": f"{folder}/{ndim}/coarse", "labels": f"{folder}/{ndim}/fine"},
            "validate": 0.34,
            "test": {"raw": f"{folder}/{ndim}/coarse", "labels": f"{folder}/{ndim}/fine"},
        },
        "method": {"kind": "regression", "enlarge": list(FACTORS[ndim]), "units": "image", **method},
        "network": {"kind": "wdsr", "features": [8], "blocks": 1, "expansion": 4},
        "sampling": {"patch": [8, 16, 16] if ndim == 3 else [32, 32], "batch": 2, "patches_per_epoch": 64, "normalise": {"kind": "zscore"}},
        "augment": ["flip"],
        "training": {"epochs": 8 if ndim == 3 else 5, "monitor": "psnr", "optimiser": {"kind": "adam", "lr": 0.02}},
    }


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_run_is_better_than_interpolation(folder: Path, tmp_path: Path, ndim: int) -> None:
    morula.run(document(folder, ndim), output=tmp_path / "run")
    scores, names = read_table(tmp_path / "run/scores.csv"), sorted(file.stem for file in (folder / f"{ndim}/fine").iterdir())
    assert list(scores["image"]) == [*names, "pooled"]
    for row, name in enumerate(names):
        coarse, fine = (np.asarray(morula.read(folder / f"{ndim}/{kind}/{name}.tif")).astype(np.float64) for kind in ("coarse", "fine"))
        predicted = morula.read(tmp_path / f"run/predictions/{name}_predicted.tif")
        assert predicted.spatial_shape == fine.shape
        assert predicted.spacing == pytest.approx((1.0, 0.2, 0.2)[-ndim:])
        width = float(np.ptp(fine))
        after = peak_signal_noise_ratio(fine, np.asarray(predicted).astype(np.float64), data_range=width)
        before = peak_signal_noise_ratio(fine, resize(coarse, fine.shape, order=1, mode="edge", anti_aliasing=False), data_range=width)
        assert scores["psnr"][row] == pytest.approx(after, abs=1e-3)
        assert after > before + 0.1
    model = morula.load(tmp_path / "run")
    again = model.predict(morula.read(folder / f"{ndim}/coarse/{name}.tif"))
    np.testing.assert_allclose(again[0], np.asarray(predicted), rtol=1e-4)
    assert model.voxel_size.spacing(ndim) == pytest.approx((1.0, 0.2, 0.2)[-ndim:])


def test_patches_are_the_same_place_of_both(folder: Path) -> None:
    prepared = prepare(load_job(document(folder, 2)))
    data = prepared.train
    for index in range(6):
        sample, (number, box) = data.sample(0, index), data.place(0, index)
        orientation = data.draw(0, index).orientation
        name = data.sources[number].title
        coarse, fine = (np.asarray(morula.read(folder / f"2/{kind}/{name}.tif")).astype(np.float64) for kind in ("coarse", "fine"))
        finer = resize(coarse, fine.shape, order=1, mode="edge", anti_aliasing=False)
        for key, whole in (("image", finer), ("targets", fine)):
            expected = orientation.apply(((whole - whole.mean()) / whole.std())[None, *box.slices])
            np.testing.assert_allclose(sample[key], expected, atol=2e-3)
        assert sample["image"].shape == (1, 32, 32)


def test_targets_of_another_size_are_named(folder: Path) -> None:
    with raises("images.labels_do_not_match") as caught:
        prepare(load_job(document(folder, 2, enlarge=[2, 3])))
    assert caught.problem is not None
    text = str(caught.problem)
    assert all(part in text for part in ("fine/0.tif", "coarse/0.tif", "80 x 64", "40 x 32", "80 x 96"))
    with raises("enlarge.axes"):
        prepare(load_job(document(folder, 2, enlarge=[1, 2, 2])))
    with raises("images.labels_do_not_match"):  # without the factors
        prepare(load_job(document(folder, 2, enlarge=None)))


def test_no_package_says_how_images_are_interpolated(folder: Path) -> None:
    prepared = prepare(load_job(document(folder, 2, units="targets")))
    with raises("zoo.grid", key="method.enlarge"):
        exportable(prepared.model(build_with_seed(prepared)))
