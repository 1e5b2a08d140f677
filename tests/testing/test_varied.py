"""Simulated volumes under varied conditions."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import tifffile

from morula.testing.varied import Arrangement, Conditions, draw_conditions, simulate_varied, varied_data_set

EXTENT = (3.0, 4.0, 4.0)
CLEAN = Conditions(
    diameter=10, anisotropy=1, texture=0, nucleoli=0, haze=0, specimen=0, attenuation=0, photons=1e5, read_noise=0, brightness_spread=0
)


def made(conditions, seed=0, extent=EXTENT):
    return simulate_varied(conditions, extent=extent, rng=np.random.default_rng(seed))


def contrast(simulated):
    """Mean grey value of the nuclei minus that of the background."""
    return float(simulated.image[simulated.labels > 0].mean()) - float(simulated.image[simulated.labels == 0].mean())


@pytest.mark.parametrize("seed", range(4))
def test_drawn_conditions_give_valid_volumes(seed):
    rng = np.random.default_rng(seed)
    conditions = replace(draw_conditions(rng), diameter=8.0, anisotropy=1.5)  # small, so that the test is fast
    one, again = made(conditions, seed), made(conditions, seed)
    np.testing.assert_array_equal(one.image, again.image)
    np.testing.assert_array_equal(one.labels, again.labels)
    assert one.image.dtype == np.uint16
    assert one.image.shape == one.labels.shape == (16, 32, 32)
    assert np.array_equal(np.unique(one.labels), np.arange(one.labels.max() + 1))


def test_conditions_stay_in_their_ranges():
    rng = np.random.default_rng(0)
    drawn = [draw_conditions(rng) for _ in range(300)]
    assert all(1 <= each.anisotropy <= 5 and each.diameter / each.anisotropy >= 2.99 for each in drawn)
    assert max(each.anisotropy for each in drawn) > 4
    assert {each.arrangement for each in drawn} == set(get_args(Arrangement))


@pytest.mark.parametrize("arrangement", get_args(Arrangement))
def test_nuclei_lie_in_their_place(arrangement):
    simulated = made(replace(CLEAN, arrangement=arrangement, coverage=0.3), extent=(5, 6, 6))
    assert simulated.labels.max() >= 3
    covered = (simulated.labels > 0).mean(axis=(1, 2))
    if arrangement == "layer":
        assert (covered == 0).any()
        assert covered.max() > 0.05
    assert contrast(simulated) > 300


def test_voxels_follow_the_anisotropy():
    simulated = made(replace(CLEAN, anisotropy=2.5, diameter=10))
    assert simulated.spacing == (2.5, 1.0, 1.0)
    assert simulated.image.shape == (12, 40, 40)
    assert made(CLEAN).image.shape == (30, 40, 40)


def test_no_nuclei():
    simulated = made(replace(CLEAN, coverage=1e-9, debris=0))
    assert not simulated.labels.any()
    assert simulated.image.std() < 20


def test_nuclei_are_longer_along_z_where_asked():
    def extent_ratio(stretch):
        conditions = replace(CLEAN, coverage=0.02, z_stretch=stretch, stretch=0, size_spread=0, touching=0)
        labels = made(conditions, seed=3, extent=(6, 6, 6)).labels
        inner = [i for i in range(1, labels.max() + 1) if not _touches(labels == i)]
        spans = [[np.ptp(where) + 1 for where in np.nonzero(labels == i)] for i in inner]
        return np.mean([z / x for z, _, x in spans])

    assert extent_ratio(1.0) == pytest.approx(1, abs=0.15)
    assert extent_ratio(1.8) == pytest.approx(1.8, abs=0.3)


def _touches(mask):
    return any(np.take(mask, end, axis=axis).any() for axis in range(3) for end in (0, -1))


@pytest.mark.parametrize(("change", "lower"), [({"attenuation": 0.8}, -1), ({"attenuation": -0.8}, 0)])
def test_light_is_lost_in_depth(change, lower):
    conditions = replace(CLEAN, coverage=0.4, specimen=0.3, **change)
    planes = made(conditions).image.mean(axis=(1, 2)) - 600  # without the background
    assert planes[lower] < 0.6 * planes[-1 - lower]


def test_noise_blur_background_and_debris():
    plain = made(CLEAN)
    assert contrast(made(replace(CLEAN, blur=0.14, axial_blur=2))) < 0.9 * contrast(plain)
    assert made(replace(CLEAN, background=0.4)).image.min() > plain.image.min() + 200
    noisy = made(replace(CLEAN, photons=5)).image.astype(float)
    assert np.diff(noisy[plain.labels == 0]).std() > 5 * np.diff(plain.image[plain.labels == 0].astype(float)).std()
    assert made(replace(CLEAN, debris=8)).image.max() > 1.2 * plain.image.max()
    striped = made(replace(CLEAN, stripes=0.2, coverage=1e-9, background=0.4)).image.mean(axis=0)
    assert striped.std() > 20


def test_a_data_set_continues_and_begins_with_the_smaller_one(tmp_path):
    folder = varied_data_set(tmp_path / "a", n_train=1, n_val=1, diameter=6, shape=(16, 24, 24), seed=5)
    files = sorted(folder.rglob("*.tif"))
    assert [str(file.relative_to(folder)) for file in files] == [
        f"{split}/{what}/volume_0000.tif" for split in ("train", "val") for what in ("images", "labels")
    ]
    before = {file: file.read_bytes() for file in files}
    image, labels = (tifffile.imread(folder / "train" / what / "volume_0000.tif") for what in ("images", "labels"))
    assert image.shape == labels.shape
    assert all(abs(n - m) <= 2 for n, m in zip(image.shape, (16, 24, 24), strict=True))
    files[0].unlink()
    varied_data_set(folder, n_train=2, n_val=1, diameter=6, shape=(16, 24, 24), seed=5)
    assert {file: file.read_bytes() for file in files} == before
    assert (folder / "train" / "images" / "volume_0001.tif").is_file()
