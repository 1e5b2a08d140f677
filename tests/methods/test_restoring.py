"""Pretraining without labels: hidden boxes and degraded images, their scores, and a complete run."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import median_filter
from skimage.metrics import structural_similarity as reference_ssim

import morula
from morula.losses.ssim import ssim_sums
from morula.methods.crappify import Crappify, degraded
from morula.methods.crappify_options import Options as CrappifyOptions
from morula.methods.masked_autoencoder import MaskedAutoencoder, chessboard, random_mask
from morula.methods.masked_autoencoder_options import Options as MaskOptions
from morula.metrics.restoration import structural_similarity
from morula.testing.errors import raises
from morula.workflows.predict_images import in_type


def rng(seed=0):
    return np.random.default_rng(seed)


def masked(ndim=2, token=(4, 4), channels=1, **options):
    made = MaskOptions(in_channels=channels, token=token, **options)
    return MaskedAutoencoder(made, None, ndim=ndim, spacing=(1.0,) * ndim)


@given(st.lists(st.integers(1, 6), min_size=2, max_size=3), st.integers(0, 9))
def test_neighbouring_boxes_of_a_chessboard_differ(grid, seed):
    mask = chessboard(grid, rng(seed))
    for axis in range(mask.ndim):
        a, b = np.moveaxis(mask, axis, 0)[:-1], np.moveaxis(mask, axis, 0)[1:]
        assert (a != b).all()
    assert abs(int(mask.sum()) * 2 - mask.size) <= 1


@given(st.lists(st.integers(1, 5), min_size=2, max_size=3).filter(lambda grid: np.prod(grid) > 1), st.floats(0.01, 0.99))
def test_random_masks_hide_the_share_asked_for(grid, ratio):
    mask = random_mask(grid, ratio, rng())
    assert mask.shape == tuple(grid)
    assert 1 <= mask.sum() < mask.size
    assert mask.sum() == np.clip(round(mask.size * ratio), 1, mask.size - 1)


def test_both_colours_are_drawn_with_as_many_boxes():
    assert {bool(chessboard((4, 4), rng(seed))[0, 0]) for seed in range(9)} == {True, False}
    assert len({int(chessboard((3, 3, 3), rng(seed)).sum()) for seed in range(9)}) == 1


@pytest.mark.parametrize(("ndim", "token", "channels"), [(2, (4, 4), 1), (2, (2, 4), 3), (3, (2, 4, 4), 2)])
def test_only_hidden_boxes_are_scored(ndim, token, channels):
    method = masked(ndim, token, channels, mask="random", ratio=0.5)
    shape = (channels, *(4 * edge for edge in token))
    image = torch.rand((2, *shape), generator=torch.Generator().manual_seed(0))
    hidden = torch.stack([torch.from_numpy(method.pretext(np.zeros(shape), rng(i))["hidden"]) for i in range(2)])
    output = torch.rand(image.shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
    batch = {"image": image, "hidden": hidden, "weights": torch.ones(2, 1, *shape[1:])}
    (sums,) = method.loss({"image": output}, batch).values()
    where = method.voxel_mask(hidden).expand_as(image)
    assert float(sums.total.detach()) == pytest.approx(float(((output.detach() - image) ** 2)[where].mean()))
    (gradient,) = torch.autograd.grad(sums.total, output)
    assert bool((gradient[where] != 0).all())
    assert not bool(gradient[~where].any())


def test_normalised_boxes_ignore_gain_and_offset():
    plain, normalised = masked(), masked(normalise_boxes=True)
    image = torch.rand((1, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    hidden = torch.tensor([[[True, False], [False, True]]])
    output = torch.rand(image.shape, generator=torch.Generator().manual_seed(1))
    weights = torch.ones(1, 1, 8, 8)

    def loss(method, factor):
        return float(method.loss({"image": output}, {"image": image * factor + 3, "hidden": hidden, "weights": weights})["hidden"].total)

    assert loss(normalised, 1.0) == pytest.approx(loss(normalised, 9.0), rel=1e-3)
    assert loss(plain, 1.0) != pytest.approx(loss(plain, 9.0), rel=1e-1)
    boxes = normalised.on_image_scale(torch.zeros_like(image), image)  # mean 0 in every box is the box's mean
    assert torch.allclose(boxes[0, 0, :4, :4], image[0, 0, :4, :4].mean().expand(4, 4))
    assert plain.on_image_scale(output, image) is output


def test_a_task_of_any_size_hides_whole_boxes():
    method = masked()
    image = rng().random((1, 10, 13)).astype(np.float32)
    task = method.task(image, rng(1))
    assert task.shape == (2, 10, 13)
    assert set(np.unique(task[1])) == {0, 1}
    seen = {}

    def network(x, hidden):
        seen["hidden"] = hidden
        return {"image": torch.full_like(x, 7.0)}

    tile = torch.from_numpy(np.pad(task, ((0, 0), (0, 2), (0, 3)), mode="symmetric"))[None]
    assert float(method.restore(network, tile).mean()) == 7.0
    assert torch.equal(seen["hidden"][0, :2, :3], torch.from_numpy(task[1][:8:4, :12:4] > 0))
    pictures = method.pictures(image, task, np.full_like(image, 7.0))
    assert set(pictures) == {"original", "masked", "reconstruction", "reconstruction_and_visible"}
    both = pictures["reconstruction_and_visible"]
    assert np.array_equal(both[task[1:] == 0], image[task[1:] == 0])
    assert (both[task[1:] == 1] == 7).all()
    assert not pictures["masked"][task[1:] == 1].any()


def test_a_tile_whose_boxes_are_all_hidden_shows_one():
    def network(x, hidden):
        assert (~hidden).sum() == 1
        return {"image": x}

    masked().restore(network, torch.ones(1, 2, 8, 8))


@pytest.mark.parametrize(("shape", "factors"), [((1, 12, 9), (2, 3)), ((2, 5, 8, 8), (1, 2, 2.5)), ((1, 7), (10,))])
def test_lower_resolution_keeps_constants_means_and_other_axes(shape, factors):
    constant = np.full(shape, 3.0, np.float32)
    np.testing.assert_allclose(degraded(constant, 0.5, factors, rng()), constant, rtol=1e-6)
    image = rng().random(shape).astype(np.float32)
    worse = degraded(image, 0.0, factors, rng())
    assert worse.shape == image.shape
    assert worse.std() < image.std()
    assert image.min() <= worse.min()
    assert worse.max() <= image.max()
    for axis, factor in enumerate(factors, start=1):
        if factor == 1:  # a plane is changed as if it were alone
            plane = [slice(None)] * len(shape)
            plane[axis] = slice(2, 3)
            np.testing.assert_allclose(degraded(image[tuple(plane)], 0.0, factors, rng()), worse[tuple(plane)], rtol=1e-5)


def test_the_resampling_is_linear_interpolation_between_middles():
    image = rng().random(12)
    fewer = np.interp((np.arange(5) + 0.5) * 12 / 5 - 0.5, np.arange(12), image)
    expected = np.interp((np.arange(12) + 0.5) * 5 / 12 - 0.5, np.arange(5), fewer)
    np.testing.assert_allclose(degraded(image[None], 0.0, (12 / 5,), rng())[0], expected, rtol=1e-5)


def test_noise_is_a_share_of_the_range_whatever_the_units():
    image = rng().random((1, 200, 200)).astype(np.float32)
    noisy = degraded(image, 0.05, (1, 1), rng(1))
    inside = (image > 0.3) & (image < 0.7)
    assert float((noisy - image)[inside].std()) == pytest.approx(0.05 * np.ptp(image), rel=0.05)
    np.testing.assert_allclose(degraded(100 * image + 7, 0.05, (1, 1), rng(1)), 100 * noisy + 7, rtol=1e-4)
    with raises("crappify.axes", key="factors", value=(1, 1)):
        degraded(image[0], 0.1, (1, 1), rng())


def test_losses_of_crappify_are_weighted_and_masked():
    method = Crappify(CrappifyOptions(losses={"l1": 2.0, "mse": 0.5, "ssim": 1.0}), None, ndim=2, spacing=(1.0, 1.0))
    target = torch.rand((1, 1, 16, 16), generator=torch.Generator().manual_seed(0))
    batch = {"targets": target, "weights": torch.ones(1, 1, 16, 16)}
    parts = method.loss({"image": target + 0.5}, batch)
    assert float(parts["l1"].total) == pytest.approx(1.0, rel=1e-5)
    assert float(parts["mse"].total) == pytest.approx(0.125, rel=1e-5)
    assert float(method.loss({"image": target}, batch)["ssim"].total) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("shape", [(20, 24), (7, 7), (9, 12, 11), (3, 20, 20)])
def test_similarity_equals_that_of_scikit_image(shape):
    a, b = rng().random((2, *shape))
    b = (a + b) / 2
    ours = structural_similarity(a, b, data_range=1.0, window=3 if min(shape) < 7 else 7)
    assert ours == pytest.approx(reference_ssim(a, b, data_range=1.0, win_size=3 if min(shape) < 7 else 7), abs=1e-10)
    if min(shape) >= 7:
        x, y = (torch.from_numpy(each)[None, None] for each in (b, a))
        expected = 1 - reference_ssim(a, b, data_range=float(np.ptp(a)))
        assert float(ssim_sums(x, y).total) == pytest.approx(expected, abs=1e-6)


def test_similarity_adds_up_over_samples_and_has_a_gradient():
    x, y = torch.rand((2, 3, 2, 9, 10), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = ssim_sums(x, y)
    pieces = [ssim_sums(x[i : i + 1], y[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(whole.value(sum(piece.parts for piece in pieces)), whole.total)
    assert torch.autograd.gradcheck(
        lambda values: ssim_sums(values, y[:1, :1, :4, :5]).total, (x[:1, :1, :4, :5].clone().requires_grad_(),)
    )


def test_values_go_back_to_the_images_own_type():
    assert in_type(np.array([1.6]), np.dtype(np.float32)).dtype == np.float32
    assert in_type(np.array([-5.0, 70000.0]), np.dtype(np.uint16)).tolist() == [0, 65535]


def test_hidden_boxes_are_inferred_from_those_that_are_seen():
    """Waves of any direction and phase: after a few steps hidden boxes are rebuilt far better than by the mean."""
    from morula.nn.build import build_network

    method, generator = masked(), rng()
    torch.manual_seed(0)
    sizes = {"width": 24, "layers": 2, "heads": 2, "decoder_width": 24, "decoder_layers": 1, "decoder_heads": 2}
    network = build_network({"kind": "mae", "token": 4, **sizes}, 2, 1, {"image": 1})
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3)
    rows, columns = np.mgrid[:16, :16]
    for _ in range(70):
        angle, phase = generator.uniform(0, 2 * np.pi, (2, 16, 1, 1))
        waves = np.sin(0.25 * (np.cos(angle) * rows + np.sin(angle) * columns) + phase)[:, None].astype(np.float32)
        hidden = torch.from_numpy(np.stack([method.pretext(wave, generator)["hidden"] for wave in waves]))
        batch = {"image": torch.from_numpy(waves), "hidden": hidden, "weights": torch.ones(16, 1, 16, 16)}
        loss = method.loss(network(batch["image"], hidden=hidden), batch)["hidden"].total
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.5 * waves.var()


@pytest.fixture
def images(tmp_path):
    for number in range(4):
        ramp = np.add.outer(np.arange(40), np.arange(36)) * 20 + 1000 * np.sin(np.arange(36) / (3 + number))
        noisy = (ramp + 2000 + rng(number).normal(0, 20, ramp.shape)).astype(np.uint16)
        morula.write(tmp_path / "raw" / f"{number}.tif", noisy, axes="YX")
    return tmp_path


def job(folder, **changes):
    base = {
        "images": {"train": {"raw": f"{folder}/raw"}, "validate": "25%", "test": {"raw": f"{folder}/raw/0.tif"}},
        "sampling": {"patch": [16, 32], "batch": 2},
        "training": {"epochs": 1, "steps_per_epoch": 2},
        "augment": "none",
    }
    return {**base, **changes}


TINY = {"kind": "mae", "width": 8, "layers": 1, "heads": 2, "decoder_width": 8, "decoder_layers": 1, "decoder_heads": 2}


def test_masking_from_end_to_end(images):
    run = images / "run"
    list(morula.iter_run(job(images, method={"kind": "masked_autoencoder"}, network=TINY), output=run))
    raw = np.asarray(morula.read(images / "raw" / "0.tif"))
    checks = {path.name.removeprefix("0_").removesuffix(".tif"): np.asarray(morula.read(path)) for path in (run / "MAE_checks").iterdir()}
    assert set(checks) == {"original", "masked", "reconstruction", "reconstruction_and_visible"}
    assert all(each.dtype == raw.dtype and each.shape == raw.shape for each in checks.values())
    assert np.array_equal(checks["original"], raw)
    hidden = checks["masked"] == 0
    assert 0.3 < hidden.mean() < 0.7
    assert np.array_equal(checks["reconstruction_and_visible"][~hidden], raw[~hidden])
    assert np.array_equal(checks["reconstruction_and_visible"][hidden], checks["reconstruction"][hidden])
    lines = (run / "scores.csv").read_text().splitlines()
    assert lines[0] == "image,psnr,ssim,mae,mse,psnr_everywhere,ssim_everywhere,mae_everywhere,mse_everywhere"
    assert [line.split(",")[0] for line in lines[1:]] == ["0", "pooled"]
    for column, picture in ((4, "reconstruction_and_visible"), (8, "reconstruction")):
        mse = ((raw.astype(float) - checks[picture]) ** 2).mean()
        assert float(lines[1].split(",")[column]) == pytest.approx(mse)
    model = morula.load(run)
    assert model.method.token == (8, 16)
    assert (run / "report.html").is_file()
    with raises("model.finds_no_objects"):
        model.segment(raw)


def test_crappify_writes_nothing_beside_the_images(images):
    before = sorted(images.rglob("*"))
    run = images / "run"
    list(morula.iter_run(job(images, method={"kind": "crappify", "factor": [1, 2]}, network={"features": [4, 8]}), output=run))
    assert sorted(path for path in images.rglob("*") if run not in (path, *path.parents)) == before
    assert sorted(path.name for path in (run / "predictions").iterdir()) == ["0_restored.tif", "0_worse.tif"]
    assert (run / "scores.csv").read_text().startswith("image,psnr,ssim,mae,mse,psnr_worse,ssim_worse,mae_worse,mse_worse\n")


def test_predictions_of_crappify_are_turned_and_filtered(images):
    options = {"tta": "flips", "median": [{"axes": "xy", "size": 3}]}
    settings = {"method": {"kind": "crappify", "factor": 2}, "network": {"features": [4, 8]}, "prediction": options}
    list(morula.iter_run(job(images, **settings), output=images / "run"))
    model, image = morula.load(images / "run"), morula.read(images / "raw/0.tif")
    scaling = model.scaling(image)
    task = torch.from_numpy(model.method.task(scaling.apply(image.canonical()), np.random.default_rng((model.job.training.seed, 0))))[None]
    with torch.inference_mode():
        turned = sum(model.forward(task.flip(axes)).flip(axes) for axes in ((), (2,), (3,), (2, 3))) / 4
    expected = scaling.undo(median_filter(turned[0].numpy(), size=(1, 3, 3)))
    restored = np.asarray(morula.read(images / "run/predictions/0_restored.tif"))
    assert np.abs(restored - expected[0]).max() <= 1  # rounded to whole numbers


def test_worse_images_on_disk_follow_settings_and_images(images):
    from morula.jobs.load import load_job
    from morula.workflows.prepare import prepare

    def prepared(**method):
        settings = {"kind": "crappify", "folder": str(images / "worse"), "noise": 0.1, **method}
        return prepare(load_job(job(images, method=settings, network={"features": [4, 8]}))).train

    first = prepared()
    stamps = {path.name: path.stat().st_mtime_ns for path in (images / "worse").iterdir() if not path.name.startswith(".")}
    assert sorted(stamps) == ["0.tif", "1.tif", "2.tif", "3.tif", "settings.json"]
    sample = first.sample(0, 0)
    assert sample["image"].shape == sample["targets"].shape == (1, 16, 32)
    assert not np.array_equal(sample["image"], sample["targets"])
    np.testing.assert_array_equal(prepared().sample(0, 0)["image"], sample["image"])
    assert {name: (images / "worse" / name).stat().st_mtime_ns for name in stamps} == stamps
    assert not np.array_equal(prepared(noise=0.3).sample(0, 0)["image"], sample["image"])
    prepared()
    morula.write(images / "raw" / "1.tif", np.full((40, 36), 7, np.uint16) + np.eye(40, 36, dtype=np.uint16), axes="YX", overwrite=True)
    kept = (images / "worse" / "0.tif").stat().st_mtime_ns
    prepared()
    assert np.asarray(morula.read(images / "worse" / "1.tif")).max() <= 8
    assert (images / "worse" / "0.tif").stat().st_mtime_ns == kept
    list(
        morula.train(
            job(images, method={"kind": "crappify", "folder": str(images / "worse")}, network={"features": [4, 8]}), output=images / "r"
        )
    )
    assert morula.load(images / "r").predict(np.eye(16, 32, dtype=np.float32)).shape == (1, 16, 32)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"method": {"kind": "masked_autoencoder"}, "network": {**TINY, "token": 12}}, "masked_autoencoder.patch"),
        ({"method": {"kind": "masked_autoencoder"}, "network": {"kind": "unet"}}, "network.method"),
        ({"method": {"kind": "masked_autoencoder"}, "prediction": {"tta": "flips"}, "network": TINY}, "masked_autoencoder.tta"),
        ({"method": {"kind": "masked_autoencoder", "ratio": 0.75}, "network": TINY}, "masked_autoencoder.ratio_unused"),
        ({"method": {"kind": "crappify"}, "network": TINY}, "network.method"),
        ({"method": {"kind": "crappify", "factor": [2, 2, 2]}}, "crappify.axes"),
        ({"method": {"kind": "crappify", "factor": 1.0, "noise": 0.0}}, "crappify.no_change"),
        ({"method": {"kind": "crappify", "losses": {"lpips": 1.0}}}, "loss.unknown"),
        ({"method": {"kind": "crappify"}, "objects": {"refine": ["fill_holes"]}}, "objects.no_effect"),
    ],
)
def test_a_job_that_does_not_fit_is_rejected_before_training(images, changes, code):
    with raises(code):
        list(morula.train(job(images, **changes), output=images / "run"))


def test_labels_of_validation_images_do_not_end_the_training(images):
    place = f"{images}/raw/1.tif"
    changes = {"train": {"raw": f"{images}/raw/0.tif"}, "validate": {"raw": place, "labels": place}}
    list(morula.train(job(images, images=changes, method={"kind": "crappify"}, network={"features": [4, 8]}), output=images / "run"))
    assert "validation_loss" in (images / "run/logs/training.csv").read_text().splitlines()[0]
