"""Transforms and patches of pytorch-3dunet: its own numbers, one draw for everything that belongs together, and no repetition."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.segmentation import find_boundaries
from unet3d_jobs import changed, small_job, written

from morula.core.axes import Axes
from morula.core.errors import JobError
from morula.core.image import Image
from morula.core.region import Region
from morula.data.augment.blur import Blur
from morula.data.augment.elastic_noise import smoothed_noise
from morula.data.loader import make_loader
from morula.dialects.pytorch3dunet.job import read_job
from morula.dialects.pytorch3dunet.patches import build_dataset, grid_of, patches_of
from morula.dialects.pytorch3dunet.sections import SliceBuilderOptions, TransformerOptions
from morula.dialects.pytorch3dunet.targets import appended, renumbered
from morula.dialects.pytorch3dunet.transform_lists import TRANSFORMS, encoded, parse_lists, transform_label, values
from morula.dialects.pytorch3dunet.transforms import Scaling, records_of
from morula.dialects.pytorch3dunet.volumes import Volume
from morula.testing.errors import raises

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
def test_original_values_and_targets(case, arrays):
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
            blur = isinstance(change, Blur)
            record = luck.uniform(*((options.least, options.sigma) if blur else (options.low, options.high)))
        np.testing.assert_allclose(change.apply(volume, record, UNIT).reshape(expected.shape), expected, atol=1e-6)


def test_all_names():
    needed = {"offsets": [1], "xy_offsets": [1], "z_offsets": [1], "spline_order": 0}
    for name, kind in TRANSFORMS.items():
        fields = kind.model_fields
        given = {key: value for key, value in needed.items() if key in fields and fields[key].is_required()}
        assert kind.model_validate({"name": name, **given}).name == name


def test_smoothed_noise_has_the_statistics_of_filtered_noise():
    shape, sigma, draws = (10, 24, 30), 4.0, 200
    luck = rng()
    own = np.stack([smoothed_noise(luck, shape, sigma, 100) for _ in range(draws)])
    theirs = np.stack([gaussian_filter(luck.standard_normal(shape), sigma, mode="reflect") * 100 for _ in range(draws)])
    assert own.std() == pytest.approx(theirs.std(), rel=0.05)
    for lag in (1, 6):
        pair = [float((each[..., lag:] * each[..., :-lag]).mean() / each.var()) for each in (own, theirs)]
        assert pair[0] == pytest.approx(pair[1], abs=0.05)
    np.testing.assert_allclose(own.std(axis=(0, 2, 3)), theirs.std(axis=(0, 2, 3)), rtol=0.1)  # mirrored borders: stronger there


def test_ids_too_high_for_float32():
    labels = np.array([[[0, 2**24 + 1, 2**24 + 2, 7]]])
    assert appended(labels).astype(np.float32).ravel().tolist() == [0, 2, 3, 1]
    small = np.array([[[0, 5]]])
    assert appended(small) is small


def test_relabelling_with_an_ignored_label():
    labels = np.array([[[3, 3, 9, 9, 3]]])
    assert renumbered(labels, ignore_label=9).ravel().tolist() == [1, 1, 0, 0, 2]
    for connected in (True, False):  # no object of a patch without background becomes background
        assert renumbered(np.array([[[4, 4, 2, 7]]]), connected=connected).all()


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


def patches(raw_list, label_list=(), *, shape=(12, 30, 28), patch=(8, 16, 12), weight_list=(), classes=9, stored=np.uint16, **options):
    labels = rng().integers(0, classes, tuple(n // 2 for n in shape)).repeat(2, 0).repeat(2, 1).repeat(2, 2).astype(stored)
    volume = Volume("a", Path("a.h5"), part(labels[None].astype(np.float32)), (part(labels[None]),), part(labels[None].astype(np.float32)))
    builder = SliceBuilderOptions(patch_shape=patch, stride_shape=patch, skip_shape_check=True)
    lists = parse_lists(TransformerOptions.model_validate({"raw": raw_list, "label": label_list, "weight": weight_list}))
    return patches_of([volume], [grid_of(shape, builder)], lists, **options)


@pytest.mark.parametrize("mode", ["thick", "inner", "outer"])
@pytest.mark.parametrize("kind", [np.uint16, np.int64, np.float32, "signed", "large"])
def test_boundaries_of_ids_of_every_type(kind, mode):
    """Minimum filters of SciPy, which scikit-image uses for outer boundaries, compute with real numbers: 64-bit ids overflow there."""
    labels = rng().integers(0, 5, (2, 4, 4)).repeat(3, 0).repeat(4, 1).repeat(4, 2).astype(np.int32)
    given = {"signed": np.where(labels == 4, -1, labels), "large": np.where(labels == 4, np.int64(2**40), labels)}.get(kind)
    found = transform_label([{"name": "StandardLabelToBoundary", "mode": mode}], labels.astype(kind) if given is None else given)
    np.testing.assert_array_equal(found[0], find_boundaries(labels, connectivity=2, mode=mode))


def test_ids_that_are_stored_as_real_numbers_move_like_integers():
    turn = {"name": "RandomRotate"}
    made = [patches([turn], [turn, {"name": "BlobsToMask", "append_label": True}], stored=kind) for kind in (np.uint16, np.float32)]
    for index in range(2):
        np.testing.assert_array_equal(*(each.sample(0, index)["targets"] for each in made))


def test_one_draw_for_raw_label_and_weight():
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
def test_interpolation_order(order):
    bend = {"name": "ElasticDeformation", "execution_probability": 1, "alpha": 30, "sigma": 4}
    made = patches([{**bend, "spline_order": order}], [{**bend, "spline_order": 0}])
    sample = made.sample(0, 1)
    inside = np.isin(sample["image"], range(9)).mean()  # the raw data hold the labels 0 to 8
    assert (inside == 1) == (order == 0)
    assert (sample["image"].min() < 0 or sample["image"].max() > 8) == (order > 1)  # splines overshoot
    assert set(np.unique(sample["targets"])) <= set(range(9))
    assert (np.abs(sample["image"][0] - sample["targets"]) < 2).mean() > 0.5


def test_image_and_target_stay_aligned():
    # the values are the places that they come from: a nearest voxel lies at most half a voxel from the interpolated place
    made = patches(MOVES, scale=(4, 0.5))
    places = np.stack(np.meshgrid(*map(np.arange, made.volumes[0].shape), indexing="ij"))
    volume = Volume("a", Path("a"), part(places.astype(np.float32), True), (part(places.astype(np.uint8), True),))
    made = patches_of([volume], made.grids, made.lists, scale=(4, 0.5))
    moved = 0
    for index in range(len(made)):
        sample = made.sample(0, index)
        assert np.abs(sample["image"] - sample["targets"]).max() <= 0.5 + 1e-4
        moved += bool(np.any(sample["image"] % 1))
    assert moved == len(made)


def test_patches_differ_by_epoch_but_not_by_workers():
    made = patches([*MOVES, {"name": "AdditiveGaussianNoise", "execution_probability": 1.0}], [{"name": "ToTensor", "expand_dims": True}])
    alone, several = (
        [batch for epoch in (0, 1) for batch in make_loader(made, batch=2, workers=workers, epoch=epoch)] for workers in (0, 2)
    )
    for one, other in zip(alone, several, strict=True):
        np.testing.assert_array_equal(one["image"].numpy(), other["image"].numpy())
    images = np.concatenate([batch["image"].numpy() for batch in alone])
    assert len({image.tobytes() for image in images}) == len(images) == 2 * len(made)


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 0), (1.0, 1, 1), (0.1, 0.03, 0.2)])
def test_share_of_scaled_patches(share, least, most):
    made = patches([], shape=(24, 48, 36), scale=(6, share))
    plain = made.volumes[0].raw[0][made.grids[0][13].slices]  # the one in the middle, which may reach beyond itself on all sides
    changed = np.mean([not np.array_equal(made.sample(epoch, 13)["image"][0], plain) for epoch in range(200)])
    assert least * 0.9 <= changed <= most  # offsets of 0 on all axes leave a patch as it is


def test_scaled_patch_is_a_resampled_region():
    made = patches([], scale=(5, 1.0))
    ramp = np.broadcast_to(np.arange(28, dtype=np.float32), (1, 12, 30, 28))
    made = patches_of([Volume("a", Path("a"), part(np.ascontiguousarray(ramp)))], made.grids, made.lists, scale=(5, 1.0))
    for epoch in range(8):
        row = made.sample(epoch, 0)["image"][0, 4, 8]
        steps = np.diff(row[1:-1])
        np.testing.assert_allclose(steps, steps[0], atol=1e-4)  # equally spaced
        assert 7 / 12 <= steps[0] <= 17 / 12


def test_patches_of_another_process():
    # where processes are not forked, a loader gives its workers a copy
    made = patches([*MOVES, {"name": "Standardize"}, {"name": "GaussianBlur3D"}], [{"name": "StandardLabelToBoundary"}])
    copied = pickle.loads(pickle.dumps(made))
    for name, array in made.sample(1, 2).items():
        np.testing.assert_array_equal(array, copied.sample(1, 2)[name])


def test_patch_larger_than_the_volume():
    made = patches([], shape=(6, 10, 8), patch=(8, 16, 12))
    sample = made.sample(0, 0)
    np.testing.assert_array_equal(sample["image"][0, 1:7, 3:13, 2:10], made.volumes[0].raw[0])
    np.testing.assert_array_equal(sample["image"][0, 0], sample["image"][0, 2])


def test_global_normalization():
    raw = (rng().random((2, 5, 7, 9)) * 1000 + 50_000).astype(np.float32)
    lists = parse_lists(
        TransformerOptions(raw=[{"name": "Standardize", "channelwise": True}, {"name": "PercentileNormalizer"}, {"name": "Normalize"}])
    )
    standard, percentiles, none = records_of(lists.raw, Image(raw, Axes("CZYX")))
    assert standard.offset == pytest.approx((raw.mean(dtype=np.float64),) * 2)
    assert standard.scale == pytest.approx((raw.std(dtype=np.float64),) * 2, rel=1e-6)
    low, high = np.percentile(raw, [1, 99.6])
    assert percentiles.offset == pytest.approx((low, low), rel=1e-6)
    assert percentiles.scale == pytest.approx((high - low,) * 2, rel=1e-4)
    assert none is None
    made = patches([{"name": "Standardize"}], shape=(8, 16, 24))
    told = patches_of(made.volumes, made.grids, made.lists, whole=True)
    whole = np.concatenate([told.sample(0, index)["image"] for index in range(2)])
    assert whole.mean() == pytest.approx(0, abs=1e-5)
    assert whole.std() == pytest.approx(1, rel=1e-4)
    assert abs(made.sample(0, 0)["image"].mean()) < 1e-5


def test_lazy_volume_reads_only_the_patch():
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
    made = patches_of([Volume("a", Path("a"), array)], [grid_of((64, 512, 512), builder)], lists, in_memory=False)
    made.preload()
    made.sample(0, 100)
    assert array.most == 8 * 64 * 64


def test_channels_for_a_single_label_image():
    made = patches([], [{"name": "StandardLabelToBoundary"}])
    two = np.zeros((2, 12, 30, 28), np.uint16)
    broken = patches_of([Volume("a", Path("a"), made.volumes[0].raw, (part(two, True),))], made.grids, made.lists)
    with raises("labels.channels"):
        broken.sample(0, 0)


def test_wrong_transforms_have_lines(tmp_path):
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
    assert [(problem.line, problem.code) for problem in caught.value.problems] == [
        (13, "job.unknown_name"),
        (14, "option.missing"),
        (15, "transform.wrong_list"),
        (17, "option.range"),
    ]
    path.write_text(path.read_text().replace("RandomFlips", "RandomFlip").replace("        - name: StandardLabelToBoundary\n", ""))
    path.write_text(path.read_text().replace("{name: ElasticDeformation}", "{name: Identity, axis: 3}").replace("200", "20"))
    remarks = {remark.key: remark.code for remark in read_job(path).remarks}
    assert remarks["loaders.train.transformer"] == "transform.lists_differ"
    assert remarks["loaders.train.transformer.raw.1.axis"] == "job.ignored_key"


@pytest.mark.parametrize(("more", "codes"), [({}, []), ({"loaders.weight_internal_path": "weight"}, ["transform.lists_differ"])])
def test_transforms_of_weights_that_no_file_has(tmp_path, more, codes):
    turned = {"raw": [{"name": "RandomFlip"}], "label": [{"name": "RandomFlip"}], "weight": [{"name": "ToTensor"}]}
    job = changed(small_job(tmp_path), {"loaders.train.transformer": turned, **more})
    assert [remark.code for remark in read_job(written(tmp_path, job)).remarks] == codes


def test_validation_is_not_changed_at_random(tmp_path):
    crop = {"name": "CropToFixed", "size": [8, 10]}
    lists = {"raw": [{"name": "RandomFlip"}, crop, {"name": "AdditiveGaussianNoise", "execution_probability": 1.0}], "label": [crop]}
    document = changed(small_job(tmp_path), {"loaders.*.transformer": lists, "loaders.random_scale": 2})
    job = read_job(written(tmp_path, document))
    assert [(remark.code, remark.key) for remark in job.remarks if "random" in remark.code] == [
        ("transform.random_validation", "loaders.val.transformer.raw")
    ] * 2
    held, trained = (build_dataset(document["loaders"], phase) for phase in ("val", "train"))
    stored = np.asarray(held.volumes[0].raw[0])
    for index, place in enumerate([stored[:4, 4:12, 3:13], stored[4:, 4:12, 3:13]]):
        for epoch in range(3):
            np.testing.assert_array_equal(held.sample(epoch, index)["image"][0], place)
    assert len({trained.sample(epoch, 0)["image"].tobytes() for epoch in range(3)}) == 3


def test_rotated_region_stays_in_the_volume():
    made = patches([{"name": "RandomRotate90"}], patch=(8, 28, 12), shape=(8, 28, 28))
    for epoch in range(6):
        for index in range(len(made)):
            box, drawn = made._drawn(0, made.grids[0][index], epoch, index)
            assert box.intersect(Region.whole((8, 28, 28))) == box
            assert made.sample(epoch, index)["image"].shape == (1, 8, 28, 12)
            assert box.shape == ((8, 12, 28) if drawn.orientation.permutation != (0, 1, 2) else (8, 28, 12))
