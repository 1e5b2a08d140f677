"""Denoising without clean images: which voxels are hidden and how, what is learned, and what a run writes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio

import morula
from morula.core.remark import code_of
from morula.jobs.load import load_job
from morula.measurement.csv_table import read_table
from morula.methods.noise2void import Noise2Void, drawn_places, replaced
from morula.methods.noise2void_options import Options
from morula.methods.object_options import ObjectOptions
from morula.models.zoo.package import exportable
from morula.testing.errors import raises
from morula.workflows.prepare import prepare


def method(ndim: int = 2, **options: object) -> Noise2Void:
    return Noise2Void(Options.model_validate(options), ObjectOptions(), ndim=ndim, spacing=(1.0,) * ndim)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(st.lists(st.integers(1, 30), min_size=2, max_size=3), st.integers(1, 9), st.integers(0, 99))
def test_one_voxel_of_each_square_is_hidden(shape: list[int], edge: int, seed: int) -> None:
    places = drawn_places(shape, edge, rng(seed))
    assert len(places) >= 1
    assert (places >= 0).all()
    assert (places < shape).all()
    squares = {tuple(place // edge) for place in places}
    assert len(squares) == len(places)
    whole = [n // edge for n in shape]  # squares that are inside the image as a whole have one each
    assert squares >= set(np.ndindex(*whole))


@pytest.mark.parametrize(("ndim", "share", "edge"), [(2, 0.00198, 22), (2, 0.25, 2), (3, 22**-3, 22), (3, 0.00198, 8)])
def test_the_share_gives_the_edge(ndim: int, share: float, edge: int) -> None:
    assert method(ndim, share=share).edge == edge


@pytest.mark.parametrize("shape", [(9, 11), (4, 7, 6), (1, 8), (1, 1)])
@pytest.mark.parametrize("replacement", ["voxel", "other_voxel", "near_voxel", "mean", "median", "normal", "noise"])
def test_hidden_voxels_are_replaced_from_their_neighbourhood(shape: tuple[int, ...], replacement: str) -> None:
    image = rng().permutation(int(np.prod(shape))).reshape(shape).astype(np.float64)
    options = Options.model_validate({"replacement": replacement, "radius": 2})
    drawn = rng(1)
    places = np.array(list(np.ndindex(*shape)))
    values = np.array([replaced(image, places, options, drawn) for _ in range(60)])
    for place, got in zip(map(tuple, places), values.T, strict=True):
        around = image[tuple(slice(max(0, a - 2), a + 3) for a in place)]
        others = around[around != image[place]] if around.size > 1 else around
        match replacement:
            case "voxel":
                assert np.isin(got, around).all()
            case "other_voxel":
                assert np.isin(got, others).all()
            case "near_voxel":
                assert all(a != b for value in got for a, b, n in zip(place, np.argwhere(image == value)[0], shape, strict=True) if n > 1)
            case "mean" | "median":
                np.testing.assert_allclose(got, getattr(np, replacement)(others))
            case "normal":
                assert abs(got.mean() - around.mean()) <= 5 * around.std() / 60**0.5
            case _:
                assert abs(got.mean() - image[place]) <= 5 * 2 / 60**0.5
    if replacement == "voxel" and image.size > 25:  # every voxel of the neighbourhood is drawn alike, also the voxel itself
        centre = tuple(n // 2 for n in shape)
        drawn_values = replaced(image, np.tile(centre, (20000, 1)), options, rng(2))
        counts = np.unique(drawn_values, return_counts=True)[1]
        assert len(counts) == image[tuple(slice(max(0, c - 2), c + 3) for c in centre)].size
        assert counts.min() > 0.7 * counts.mean()


@pytest.mark.parametrize("ndim", [2, 3])
def test_only_hidden_voxels_are_compared(ndim: int) -> None:
    task, shape = method(ndim, share=0.04), (2, *(9, 12, 14)[-ndim:])
    image = rng().normal(size=shape).astype(np.float32)
    made = task.pretext(image, rng(3))
    hidden = made["hidden"]
    assert np.array_equal(made["image"][~hidden], image[~hidden])
    assert (made["image"][hidden] != image[hidden]).mean() > 0.8
    assert np.array_equal(made["targets"], image)
    assert not np.array_equal(hidden[0], hidden[1])  # channels are hidden independently
    inside = rng(4).random((1, *shape[1:])) > 0.2  # the padding of a patch
    output = torch.from_numpy(rng(5).normal(size=shape).astype(np.float32))[None].requires_grad_()
    batch = {name: torch.from_numpy(values)[None] for name, values in {**made, "weights": inside.astype(np.float32)}.items()}
    loss = task.loss({"image": output}, batch)["hidden"].total
    counted = hidden & inside
    assert float(loss.detach()) == pytest.approx(np.square(output.detach().numpy()[0] - image)[counted].mean(), rel=1e-5)
    loss.backward()
    assert output.grad is not None
    assert np.array_equal(output.grad[0].numpy() != 0, counted)


def test_a_line_is_hidden_beside_each_voxel() -> None:
    image = np.full((1, 6, 40), 5.0, np.float32)
    made = method(share=1 / 36, replacement="noise", radius=1, line=2).pretext(image, rng())
    changed = made["image"] != image
    expected = made["hidden"].copy()
    for _, row, column in np.argwhere(made["hidden"]):
        expected[0, row, max(0, column - 2) : column + 3] = True
    assert np.array_equal(changed, expected)
    beside = made["image"][expected & ~made["hidden"]]
    assert beside.min() >= -2
    assert beside.max() <= 2
    assert beside.std() > 0.8  # 4 / sqrt(12) = 1.15


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> object:
    """Smooth images of another brightness each, and the same with noise."""
    place = tmp_path_factory.mktemp("noise")
    for ndim, shape in ((2, (64, 72)), (3, (12, 24, 24))):
        for number in range(3):
            smooth = gaussian_filter(rng(number).normal(size=shape), 4 if ndim == 2 else 3, mode="wrap")
            clean = 1000 * (number + 1) + 100 * smooth / smooth.std()
            noisy = clean + rng(10 + number).normal(0, 100, shape)
            for kind, image in (("clean", clean), ("noisy", noisy)):
                morula.write(place / f"{ndim}/{kind}/{number}.tif", np.rint(image).astype(np.uint16), axes="ZYX"[-ndim:])
    return place


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_run_lowers_the_noise(folder, tmp_path, ndim):
    document = {
        "images": {
            "train": {"raw": f"{folder}/{ndim}/noisy"},
            "validate": 0.34,
            "test": {"raw": f"{folder}/{ndim}/noisy", "labels": f"{folder}/{ndim}/clean"},
        },
        "method": {"kind": "noise2void", "share": 0.1, "radius": 3},
        "network": {"kind": "unet", "features": [8, 8], "norm": "none"},
        "sampling": {
            "patch": [8, 16, 16] if ndim == 3 else [32, 32], "batch": 2, "patches_per_epoch": 32, "normalise": {"kind": "zscore"},
        },
        "training": {"epochs": 5, "optimiser": {"kind": "adam", "lr": 0.01}},
    }  # fmt: skip
    morula.run(document, output=tmp_path / "run")
    scores = read_table(tmp_path / "run/scores.csv")
    assert list(scores)[:5] == ["image", "psnr", "ssim", "mae", "mse"]
    for row, name in enumerate("012"):
        clean, noisy = (np.asarray(morula.read(folder / f"{ndim}/{kind}/{name}.tif")) for kind in ("clean", "noisy"))
        denoised = np.asarray(morula.read(tmp_path / f"run/predictions/{name}_denoised.tif"))
        assert denoised.dtype == noisy.dtype
        before, after = (peak_signal_noise_ratio(clean, image, data_range=int(np.ptp(clean))) for image in (noisy, denoised))
        assert after > before + 2
        assert scores["psnr"][row] == pytest.approx(after, abs=1e-4)
        assert scores["psnr_noisy"][row] == pytest.approx(before, abs=1e-4)
    model = morula.load(tmp_path / "run")
    predicted = model.predict(morula.read(folder / f"{ndim}/noisy/2.tif"))  # in the units of the image, too
    np.testing.assert_allclose(predicted[0], denoised, atol=0.51)
    with raises("zoo.units", key="method.kind"):
        exportable(model)


def test_a_run_without_clean_images_has_no_scores(folder, tmp_path):
    document = {
        "images": {"train": {"raw": f"{folder}/2/noisy"}, "test": {"raw": f"{folder}/2/noisy/0.tif"}},
        "method": "noise2void", "network": {"kind": "unet", "features": [4, 8]},
        "sampling": {"patch": [16, 16], "patches_per_epoch": 2}, "training": {"epochs": 1},
    }  # fmt: skip
    morula.run(document, output=tmp_path / "run")
    assert list(read_table(tmp_path / "run/scores.csv")) == ["image"]
    assert (tmp_path / "run/predictions/0_denoised.tif").is_file()
    assert (tmp_path / "run/report.html").is_file()


def test_augmentations_that_spread_noise_are_told(folder):
    job = {"images": {"train": {"raw": f"{folder}/2/noisy"}}, "method": "noise2void", "sampling": {"patch": [16, 16]}}
    assert [options.kind for options in prepare(load_job(job)).job.augment or ()] == ["flip", "rotate90"]
    remarks = prepare(load_job(job | {"augment": ["flip", "rotate", "blur", "brightness"]})).warnings
    assert [code_of(text, "") for text in remarks if "(rotate, blur)" in text] == ["noise2void.spread_noise"]


@pytest.mark.parametrize("key", ["normalise", "renormalise"])
def test_scales_that_cannot_be_found_again(folder, key):
    sampling = {"patch": [16, 16], key: {"kind": "zscore", "per": "patch"}}
    job = {"images": {"train": {"raw": f"{folder}/2/noisy"}}, "method": "noise2void", "sampling": sampling}
    with raises("restoring.not_invertible"):
        prepare(load_job(job))


def test_images_in_place_of_labels_are_no_score_of_the_training(folder):
    images = {"train": {"raw": f"{folder}/2/noisy"}, "validate": {"raw": f"{folder}/2/noisy", "labels": f"{folder}/2/clean"}}
    job = {"images": images, "method": "noise2void", "sampling": {"patch": [16, 16]}, "training": {"monitor": "score"}}
    with raises("training.monitor"):
        prepare(load_job(job))
