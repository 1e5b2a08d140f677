"""The simulator: exact labels, the same bytes for the same seed, round objects in physical space, touching objects."""

import subprocess
import sys

import numpy as np
import pytest

from morula.testing.errors import raises
from morula.testing.simulate import Optics, simulate, simulate_data_set

CASES = [("nuclei", (64, 80), None, 12), ("nuclei", (12, 48, 48), (2.0, 1.0, 1.0), 12), ("membranes", (64, 64), None, 12)]
CASES += [("membranes", (12, 40, 40), (3.0, 1.0, 1.0), 10), ("nuclei", (1, 32, 32), None, 3), ("nuclei", (9, 5), (0.5, 0.5), 1)]


def make(kind, shape, spacing, n, seed=0, **more):
    return simulate(kind, shape=shape, n_objects=n, rng=np.random.default_rng(seed), spacing=spacing, **more)


@pytest.mark.parametrize(("kind", "shape", "spacing", "n"), CASES)
def test_shapes_types_and_ids(kind, shape, spacing, n):
    made = make(kind, shape, spacing, n)
    assert made.image.shape == made.labels.shape == shape
    assert made.image.dtype == made.labels.dtype == np.uint16
    assert made.spacing == (spacing or (1.0,) * len(shape))
    ids = np.unique(made.labels)
    assert ids.tolist() == list(range(int(ids[0]), len(ids) + int(ids[0])))
    assert len(ids[ids > 0]) <= n
    assert made.image.std() > 0


@pytest.mark.parametrize(("kind", "shape", "spacing", "n"), CASES)
def test_same_seed_same_bytes(kind, shape, spacing, n):
    one, two, other = (make(kind, shape, spacing, n, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.image, two.image)
    np.testing.assert_array_equal(one.labels, two.labels)
    assert (one.image != other.image).any()


@pytest.mark.parametrize("kind", ["nuclei", "membranes"])
@pytest.mark.parametrize("shape", [(40, 40), (10, 24, 24)])
def test_no_object(kind, shape):
    made = make(kind, shape, None, 0)
    assert not made.labels.any()
    assert made.image.min() > 0


def test_each_object_is_one_piece():
    import cc3d

    for kind, shape in [("nuclei", (128, 128)), ("membranes", (128, 128)), ("nuclei", (16, 64, 64))]:
        labels = make(kind, shape, None, 30).labels
        assert cc3d.connected_components(labels, connectivity=4 if len(shape) == 2 else 6).max() == labels.max()


def test_objects_touch_and_cover():
    made = make("nuclei", (256, 256), None, 60)
    assert made.labels.max() == 60
    assert 0.28 < (made.labels > 0).mean() < 0.45
    right = (made.labels[:, 1:] != made.labels[:, :-1]) & (made.labels[:, 1:] > 0) & (made.labels[:, :-1] > 0)
    pairs = {tuple(sorted(pair)) for pair in np.stack([made.labels[:, 1:][right], made.labels[:, :-1][right]], 1).tolist()}
    assert len(pairs) > 15
    alone = make("nuclei", (256, 256), None, 60, touching=0.0, coverage=0.15)
    assert alone.labels.max() == 60
    assert make("membranes", (128, 128), None, 30).labels.astype(bool).mean() > 0.75


def test_objects_are_round_in_physical_space():
    """Along z, where voxels are 4 long, objects span a quarter of the voxels that they span along x."""
    labels = make("nuclei", (16, 64, 64), (4.0, 1.0, 1.0), 10, touching=0.0, coverage=0.1).labels
    spans = []
    for index in range(1, int(labels.max()) + 1):
        where = np.nonzero(labels == index)
        if all(axis.min() > 0 and axis.max() < n - 1 for axis, n in zip(where, labels.shape)):
            spans.append([np.ptp(axis) + 1 for axis in where])
    assert 3.0 < np.mean([x / z for z, _, x in spans]) < 5.0


def test_nuclei_are_bright_and_walls_too():
    nuclei = make("nuclei", (128, 128), None, 20)
    assert nuclei.image[nuclei.labels > 0].mean() > 1.8 * nuclei.image[nuclei.labels == 0].mean()
    cells = make("membranes", (128, 128), None, 20)
    across = cells.labels[:, 1:] != cells.labels[:, :-1]
    assert cells.image[:, 1:][across].mean() > 1.5 * cells.image[:, 1:][~across].mean()


def test_optics_steer_the_picture():
    clear = Optics(blur=0.0, haze=0.0, illumination=0.0, read_noise=0.0, photons=1000.0)
    sharp, blurred = (make("nuclei", (64, 64), None, 10, optics=optics) for optics in (clear, Optics()))
    np.testing.assert_array_equal(sharp.labels, blurred.labels)
    edges = [np.abs(np.diff(made.image.astype(float), axis=1)).max() / np.ptp(made.image) for made in (sharp, blurred)]
    assert edges[0] > edges[1]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"kind": "nucleus"}, "simulate.kind"),
        ({"shape": (5,)}, "simulate.shape"),
        ({"n_objects": -1}, "simulate.count"),
        ({"spacing": (1.0,)}, "simulate.spacing"),
        ({"spacing": (1.0, 0.0)}, "simulate.spacing"),
        ({"coverage": 1.5}, "simulate.fraction"),
        ({"touching": -0.5}, "simulate.fraction"),
    ],
)
def test_bad_arguments(change, code):
    arguments = {"kind": "nuclei", "shape": (16, 16), "n_objects": 2, "rng": np.random.default_rng(0)} | change
    with raises(code):
        simulate(arguments.pop("kind"), **arguments)


def test_data_set(tmp_path):
    from morula.io.read import read, read_labels

    small = {"shape": (40, 48), "n_objects": 5, "spacing": (0.5, 0.5)}
    folder = simulate_data_set(tmp_path / "a", n_train=2, n_test=1, seed=4, **small)
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.tif"))
    assert names == sorted(
        f"{split}/{what}/nuclei_{i:03d}.tif" for split, n in (("train", 2), ("test", 1)) for what in ("images", "labels") for i in range(n)
    )
    image, labels = read(folder / "train/images/nuclei_001.tif"), read_labels(folder / "train/labels/nuclei_001.tif")
    assert image.shape == labels.shape == (40, 48)
    assert image.spacing == pytest.approx((0.5, 0.5))
    assert 1 <= np.asarray(labels).max() <= 6
    larger = simulate_data_set(tmp_path / "b", n_train=3, n_test=1, seed=4, **small)
    for name in names:
        np.testing.assert_array_equal(np.asarray(read(larger / name)), np.asarray(read(folder / name)))


def test_data_set_3d(tmp_path):
    from morula.io.read import read

    folder = simulate_data_set(tmp_path, "membranes", n_train=1, n_test=0, shape=(6, 20, 24), n_objects=4, spacing=(2.0, 0.5, 0.5))
    image = read(folder / "train" / "images" / "membranes_000.tif")
    assert image.axes == "ZYX"
    assert image.spacing == pytest.approx((2.0, 0.5, 0.5))


def test_the_simulator_is_light():
    code = "import sys, morula.testing.simulate; print(sorted({'hypothesis', 'torch', 'scipy', 'pytest'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
