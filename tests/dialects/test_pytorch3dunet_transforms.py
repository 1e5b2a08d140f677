"""Transforms and patches of pytorch-3dunet: its own numbers, one draw for everything that belongs together, and no repetition."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from morula.core.errors import DataError, JobError
from morula.core.region import Region
from morula.data.augment.elastic_noise import smoothed_noise
from morula.data.loader import make_loader
from morula.dialects.pytorch3dunet.augment import Scaling, Varying, encoded, values
from morula.dialects.pytorch3dunet.job import read_job
from morula.dialects.pytorch3dunet.loaders import SliceBuilderOptions, TransformerOptions
from morula.dialects.pytorch3dunet.patches import Patches, measure, parse_lists
from morula.dialects.pytorch3dunet.slice_builders import PatchGrid
from morula.dialects.pytorch3dunet.targets import appended, renumbered
from morula.dialects.pytorch3dunet.transforms import TRANSFORMS
from morula.dialects.pytorch3dunet.volumes import Volume

GOLDEN = Path(__file__).parent.parent / "golden" / "pytorch3dunet"
CASES = json.loads((GOLDEN / "transforms.json").read_text())
UNIT = (1.0, 1.0, 1.0)


def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def arrays():
    with np.load(GOLDEN / "transforms.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.mark.parametrize("case", [case for case in CASES if case["cls"] != "CropToFixed"], ids=lambda case: case["name"])
def test_values_and_targets_are_the_originals(case, arrays):
    given, expected = arrays[f"{case['name']}_in"], arrays[f"{case['name']}_out"]
    kind = TRANSFORMS[case["cls"]]
    options = kind.model_validate({"name": case["cls"], **case["kwargs"]})
    if case["cls"] == "RandomLabelToAffinities":  # its draw is our own: the result is that of one of the offsets and axes
        found = {encoded([options], given, np.random.default_rng(seed)).tobytes() for seed in range(60)}
        assert expected.astype(np.int32).tobytes() in {np.frombuffer(each, np.int32).tobytes() for each in found}
    elif kind.role == "labels":
        np.testing.assert_array_equal(encoded([options], given, rng()), expected)
    else:
        volume = given if given.ndim == 4 else given[None]
        (change,) = values([options])
        record = change.draw(rng(), volume.shape[1:], UNIT)
        if not isinstance(change, Scaling):  # replay the original's draws
            luck = np.random.RandomState(123)
            luck.uniform()
            options = change.options
            between = change.between if isinstance(change, Varying) else (options.low, options.high)
            record = (luck.uniform(*between), 0) if isinstance(change, Varying) else luck.uniform(*between)
        np.testing.assert_allclose(change.apply(volume, record, UNIT).reshape(expected.shape), expected, atol=1e-6)


def test_every_name_and_default_can_be_written():
    needed = {"offsets": [1], "xy_offsets": [1], "z_offsets": [1], "spline_order": 0}
    for name, kind in TRANSFORMS.items():
        fields = kind.model_fields
        given = {key: value for key, value in needed.items() if key in fields and fields[key].is_required()}
        assert kind.model_validate({"name": name, **given}).name == name


def test_smoothed_noise_is_what_the_gaussian_filter_leaves_of_white_noise():
    shape, sigma, draws = (10, 24, 30), 4.0, 200
    luck = rng()
    own = np.stack([smoothed_noise(luck, shape, sigma, 100) for _ in range(draws)])
    theirs = np.stack([gaussian_filter(luck.standard_normal(shape), sigma, mode="reflect") * 100 for _ in range(draws)])
    assert own.std() == pytest.approx(theirs.std(), rel=0.05)
    for lag in (1, 6):
        pair = [float((each[..., lag:] * each[..., :-lag]).mean() / each.var()) for each in (own, theirs)]
        assert pair[0] == pytest.approx(pair[1], abs=0.05)
    np.testing.assert_allclose(own.std(axis=(0, 2, 3)), theirs.std(axis=(0, 2, 3)), rtol=0.1)  # mirrored borders: stronger there


def test_labels_too_high_for_float32_keep_their_objects_apart():
    labels = np.array([[[0, 2**24 + 1, 2**24 + 2, 7]]])
    assert appended(labels).astype(np.float32).ravel().tolist() == [0, 3, 4, 2]
    small = np.array([[[0, 5]]])
    assert appended(small) is small


def test_relabelling_with_a_label_to_ignore():
    labels = np.array([[[3, 3, 9, 9, 3]]])
    assert renumbered(labels, ignore_label=9).ravel().tolist() == [1, 1, 0, 0, 2]


# --- patches -----------------------------------------------------------------------------------------------------------------------------

MOVES = [
    {"name": "RandomFlip"},
    {"name": "RandomRotate90"},
    {"name": "RandomRotate", "axes": [[2, 1]], "angle_spectrum": 45},
    {"name": "ElasticDeformation", "spline_order": 1, "execution_probability": 0.7, "alpha": 30, "sigma": 4},
]


class Part(np.ndarray):
    """An array as a file gives it."""

    channels = False


def part(array, channels=False):
    found = array.view(Part)
    found.channels = channels
    return found


def patches(raw_list, label_list=(), *, shape=(12, 30, 28), patch=(8, 16, 12), weight_list=(), classes=9, **options):
    labels = rng().integers(0, classes, tuple(n // 2 for n in shape)).repeat(2, 0).repeat(2, 1).repeat(2, 2).astype(np.uint16)
    volume = Volume("a", Path("a.h5"), part(labels[None].astype(np.float32)), (part(labels[None]),), part(labels[None].astype(np.float32)))
    builder = SliceBuilderOptions(patch_shape=patch, stride_shape=patch, skip_shape_check=True)
    lists = parse_lists(TransformerOptions.model_validate({"raw": raw_list, "label": label_list, "weight": weight_list}))
    return Patches([volume], [PatchGrid.of(shape, builder)], lists, **options)


def test_raw_label_and_weight_share_one_draw():
    # flips, quarter turns and whole-voxel crops are exact, so the three stay equal voxel by voxel
    made = patches([*MOVES[:2], {"name": "CropToFixed", "size": [9, 7]}], weight_list=[{"name": "ToTensor", "expand_dims": True}])
    seen = set()
    for epoch in range(3):
        for index in range(len(made)):
            sample = made.sample(epoch, index)
            assert sample["image"].shape == (1, 8, 9, 7)
            np.testing.assert_array_equal(sample["image"][0], sample["targets"])
            np.testing.assert_array_equal(sample["image"], sample["weight"])
            seen.add(sample["image"].tobytes())
    assert len(seen) == 3 * len(made)


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_raw_data_are_interpolated_by_the_order_written_and_labels_by_theirs(order):
    bend = {"name": "ElasticDeformation", "execution_probability": 1, "alpha": 30, "sigma": 4}
    made = patches([{**bend, "spline_order": order}], [{**bend, "spline_order": 0}])
    sample = made.sample(0, 1)
    inside = np.isin(sample["image"], range(9)).mean()  # the raw data hold the labels 0 to 8
    assert (inside == 1) == (order == 0)
    assert (sample["image"].min() < 0 or sample["image"].max() > 8) == (order > 1)  # splines overshoot
    assert set(np.unique(sample["targets"])) <= set(range(9))
    assert (np.abs(sample["image"][0] - sample["targets"]) < 2).mean() > 0.5


def test_turned_bent_and_scaled_patches_stay_together():
    # the values are the places that they come from: a nearest voxel lies at most half a voxel from the interpolated place
    made = patches(MOVES, reach=(4, 0.5))
    places = np.stack(np.meshgrid(*map(np.arange, made.volumes[0].shape), indexing="ij"))
    volume = Volume("a", Path("a"), part(places.astype(np.float32), True), (part(places.astype(np.uint8), True),))
    made = Patches([volume], made.grids, made.lists, reach=made.reach)
    moved = 0
    for index in range(len(made)):
        sample = made.sample(0, index)
        assert np.abs(sample["image"] - sample["targets"]).max() <= 0.5 + 1e-4
        moved += bool(np.any(sample["image"] % 1))
    assert moved == len(made)


def test_no_patch_repeats_between_epochs_and_workers_change_nothing():
    made = patches([*MOVES, {"name": "AdditiveGaussianNoise", "execution_probability": 1.0}], [{"name": "ToTensor", "expand_dims": True}])
    alone, several = (
        [batch for epoch in (0, 1) for batch in make_loader(made, batch=2, workers=workers, epoch=epoch)] for workers in (0, 2)
    )
    for one, other in zip(alone, several, strict=True):
        np.testing.assert_array_equal(one["image"].numpy(), other["image"].numpy())
    images = np.concatenate([batch["image"].numpy() for batch in alone])
    assert len({image.tobytes() for image in images}) == len(images) == 2 * len(made)


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 0), (1.0, 1, 1), (0.1, 0.03, 0.2)])
def test_the_share_of_scaled_patches_is_the_one_written(share, least, most):
    made = patches([], shape=(24, 48, 36), reach=(6, share))
    plain = made.volumes[0].raw[0][made.grids[0][13].slices]  # the one in the middle, which may reach beyond itself on all sides
    changed = np.mean([not np.array_equal(made.sample(epoch, 13)["image"][0], plain) for epoch in range(200)])
    assert least * 0.9 <= changed <= most  # offsets of 0 on all axes leave a patch as it is


def test_a_scaled_patch_is_the_larger_region_brought_to_size():
    made = patches([], reach=(5, 1.0))
    ramp = np.broadcast_to(np.arange(28, dtype=np.float32), (1, 12, 30, 28))
    made = Patches([Volume("a", Path("a"), part(np.ascontiguousarray(ramp)))], made.grids, made.lists, reach=(5, 1.0))
    for epoch in range(8):
        row = made.sample(epoch, 0)["image"][0, 4, 8]
        steps = np.diff(row[1:-1])
        np.testing.assert_allclose(steps, steps[0], atol=1e-4)  # equally spaced
        assert 7 / 12 <= steps[0] <= 17 / 12


def test_a_patch_larger_than_the_volume_is_filled_with_its_mirror_image():
    made = patches([], shape=(6, 10, 8), patch=(8, 16, 12))
    sample = made.sample(0, 0)
    np.testing.assert_array_equal(sample["image"][0, 1:7, 3:13, 2:10], made.volumes[0].raw[0])
    np.testing.assert_array_equal(sample["image"][0, 0], sample["image"][0, 2])


def test_global_normalization_takes_the_whole_volume():
    raw = (rng().random((2, 5, 7, 9)) * 1000 + 50_000).astype(np.float32)
    found = measure(raw)
    assert found.mean == pytest.approx(raw.mean(dtype=np.float64))
    assert found.std == pytest.approx(raw.std(dtype=np.float64), rel=1e-6)
    assert found.percentile(99.6) == pytest.approx(np.percentile(raw, 99.6), rel=1e-6)
    made = patches([{"name": "Standardize"}], shape=(8, 16, 24))
    told = Patches(made.volumes, made.grids, made.lists, statistics=[measure(made.volumes[0].raw)])
    whole = np.concatenate([told.sample(0, index)["image"] for index in range(2)])
    assert whole.mean() == pytest.approx(0, abs=1e-5)
    assert whole.std() == pytest.approx(1, rel=1e-4)
    assert abs(made.sample(0, 0)["image"].mean()) < 1e-5


def test_only_the_patch_is_read_from_a_lazy_volume():
    class Counted:
        shape, ndim, dtype, channels = (1, 64, 512, 512), 4, np.dtype(np.float32), False
        most = 0

        def __getitem__(self, key):
            box = [part.indices(n) for part, n in zip(key, self.shape, strict=True)]
            self.most = max(self.most, int(np.prod([b - a for a, b, _ in box])))
            return np.zeros([b - a for a, b, _ in box], np.float32)

    array = Counted()
    builder = SliceBuilderOptions(patch_shape=(8, 64, 64), stride_shape=(8, 64, 64))
    lists = parse_lists(TransformerOptions.model_validate({"raw": [{"name": "RandomFlip"}]}))
    made = Patches([Volume("a", Path("a"), array)], [PatchGrid.of((64, 512, 512), builder)], lists, in_memory=False)
    made.preload()
    made.sample(0, 100)
    assert array.most == 8 * 64 * 64


def test_channels_are_refused_where_one_label_image_is_expected():
    made = patches([], [{"name": "StandardLabelToBoundary"}])
    two = np.zeros((2, 12, 30, 28), np.uint16)
    broken = Patches([Volume("a", Path("a"), made.volumes[0].raw, (part(two, True),))], made.grids, made.lists)
    with pytest.raises(DataError, match="2 channels"):
        broken.sample(0, 0)


def test_wrong_transforms_are_named_at_their_line(tmp_path):
    path = tmp_path / "a.yml"
    path.write_text("""
model: {name: UNet3D, in_channels: 1, out_channels: 1}
loss: {name: DiceLoss}
optimizer: {}
trainer: {checkpoint_dir: x, max_num_epochs: 1, max_num_iterations: 1}
loaders:
  val: {file_paths: [b], slice_builder: {patch_shape: [8, 64, 64], stride_shape: [8, 64, 64]}}
  train:
    file_paths: [a]
    slice_builder: {patch_shape: [8, 64, 64], stride_shape: [8, 64, 64]}
    transformer:
      raw:
        - name: RandomFlips
        - {name: ElasticDeformation}
        - name: StandardLabelToBoundary
      label:
        - {name: RandomRotate, angle_spectrum: 200}
""")
    with pytest.raises(JobError) as caught:
        read_job(path)
    said = {problem.line: str(problem) for problem in caught.value.problems}
    assert "Did you mean 'RandomFlip'" in said[13]
    assert "spline_order" in said[14]
    assert "Move it to the list label" in said[15]
    assert "angle_spectrum" in said[17]
    path.write_text(path.read_text().replace("RandomFlips", "RandomFlip").replace("        - name: StandardLabelToBoundary\n", ""))
    path.write_text(path.read_text().replace("{name: ElasticDeformation}", "{name: Identity, axis: 3}").replace("200", "20"))
    remarks = " ".join(map(str, read_job(path).remarks))
    assert "the label is moved as the raw data are" in remarks
    assert "transformer.raw.1.axis" in remarks


def test_a_region_is_never_left():
    made = patches([{"name": "RandomRotate90"}], patch=(8, 28, 12), shape=(8, 28, 28))
    for epoch in range(6):
        for index in range(len(made)):
            drawn, _ = made._drawn((8, 28, 28), made.grids[0][index], (epoch, index), None)
            assert drawn.intersect(Region.whole((8, 28, 28))) == drawn
